//! Tests of `worker`.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    bots::BotId,
    config::{Dispatch, Limits},
    control::Control,
    dispatch::{Budget, Dispatcher, FullChats, SettledBatch},
    proto::update::UpdateParser,
};

/// A context and the lanes, with all of `updates` taken by a worker, lane by lane.
fn taken(updates: &[String], now: Instant) -> (WorkerContext, Scheduler, Vec<Task>) {
    let limits = Limits::default();
    let budget = Arc::new(Budget::new(1000, 1_000_000));
    let full = Arc::new(FullChats::new());
    let (scheduler, inboxes) = Scheduler::new(1, 1, &limits, Dispatch::default(), &full, now);
    let scheduler = Arc::new(scheduler);
    let dispatcher = Dispatcher::new(&scheduler, inboxes, &full, &budget, 0);
    let mut parser = UpdateParser::default();
    for update in updates {
        let mut body = parser.take_body(update.len());
        body.extend(update.as_bytes());
        let update = parser.parse(body, BotId::new(0), now).ok().unwrap();
        dispatcher.dispatch(update, now).ok().unwrap();
    }
    drop(dispatcher);
    let context = WorkerContext {
        control: Arc::new(Control::new(None)),
        copies: Vec::new(),
        dead_letters: None,
        duplicates: Vec::new(),
        journal: None,
        metrics: Arc::default(),
        operation: Arc::default(),
        orders: Arc::default(),
        output: 0,
        output_state: None,
        parts: Vec::new(),
        lanes: Vec::new(),
        returns: Vec::new(),
        settled_at: None,
        settled: Vec::new(),
        settled_batch: SettledBatch::new(budget),
    };
    let mut batch = Vec::new();
    assert_eq!(scheduler.next(0, 1, now, updates.len(), &mut batch, |_| {}), None);
    assert_eq!(batch.len(), updates.len());
    (context, Arc::into_inner(scheduler).unwrap(), batch)
}

fn ids(batch: &[Task]) -> Vec<i64> {
    batch.iter().map(|task| task.delivery.update.id().get()).collect()
}

#[test]
fn what_telegram_takes_no_answer_to_is_skipped_and_counted_by_kind() {
    let now = Instant::now();
    let update = |(id, kind, user): (i64, &str, i64)| {
        format!(r#"{{"update_id":{id},"{kind}":{{"from":{{"id":{user}}}}}}}"#)
    };
    // One chat has nothing else, one has something before it, one something behind it.
    let updates: Vec<String> = [
        (1, "inline_query", 1),
        (2, "message", 2),
        (3, "callback_query", 3),
        (4, "inline_query", 3),
        (5, "inline_query", 4),
        (6, "shipping_query", 4),
        (7, "pre_checkout_query", 5),
        (8, "chosen_inline_result", 6),
    ]
    .map(update)
    .into();
    let at = |seconds| now + Duration::from_secs(seconds);
    let (mut context, scheduler, mut batch) = taken(&updates, now);
    let all = ids(&batch);

    context.drop_expired(&scheduler, &mut batch, at(30));
    assert_eq!(ids(&batch), all, "nothing has expired within its life");

    context.drop_expired(&scheduler, &mut batch, at(31));
    assert_eq!(ids(&batch), [2, 3, 6, 7, 8]);
    context.drop_expired(&scheduler, &mut batch, at(150));
    assert_eq!(ids(&batch), [2, 3, 6, 7, 8]);
    context.drop_expired(&scheduler, &mut batch, at(151));
    assert_eq!(ids(&batch), [2, 8]);
    context.drop_expired(&scheduler, &mut batch, at(24 * 3600));
    assert_eq!(ids(&batch), [2, 8], "what has a day or more is never skipped");
    let expired: Vec<u64> = context.metrics.expired.iter().map(|count| count.get()).collect();
    // Of callback, inline, pre-checkout and shipping queries.
    assert_eq!(expired, [1, 3, 1, 1]);

    // All lanes but those of the two that are left have been let go.
    scheduler.close();
    context.settle_all(&scheduler, &mut batch, 0, |_| now);
    let idle = scheduler.next(0, 1, now, 1, &mut batch, |_| {});
    assert_eq!(idle, Some(Idle::Finished));
}
