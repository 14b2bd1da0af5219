//! The clockwork of a run: hands out requests when they are due, watches deadlines, reports.

use std::{rc::Rc, sync::atomic::Ordering, time::Duration};

use crate::{
    Options,
    clock::{Nanos, nanos},
    load::Load,
    progress::Progress,
    series::Series,
};

/// How often deadlines are looked at: they are late by so much at most.
const TICK: Nanos = 10_000_000;
/// How long connecting may hold up the start. Requests of the slower connections simply wait.
const WARM_UP: Nanos = nanos_of_seconds(10);
const SECOND: Nanos = nanos_of_seconds(1);

/// When the run began and ended.
pub(crate) struct Span {
    pub(crate) start: Nanos,
    pub(crate) end: Nanos,
    /// Of the thread's CPU time, what had gone by at the start.
    pub(crate) cpu: crate::cpu::CpuTime,
}

/// Paces a run until every connection has ended. `progress` is called once per second.
pub(crate) async fn run(
    load: Rc<Load>,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
) -> Span {
    warm_up(&load).await;
    let start = load.clock.now();
    let cpu = crate::cpu::CpuTime::for_this_thread();
    load.pool.feed.borrow_mut().start(start);
    load.record.borrow_mut().timed_from = start.saturating_add(nanos(options.warmup));
    let (mut tick, mut second) = (start, start + SECOND);
    let mut ended = false;
    while load.pool.active() > 0 {
        let mut now = load.clock.now();
        if now >= tick {
            tick = now + TICK;
            load.pool.tick(now);
            if !ended && is_time_up(&load, options, now) {
                ended = true;
                let unsent = load.pool.feed.borrow_mut().end(now);
                // A caller that ends it early has not asked for what was just due.
                if options.cancel.load(Ordering::Relaxed) {
                    load.pool.feed.borrow_mut().forgo(unsent);
                } else {
                    load.record.borrow_mut().failures.unsent += unsent;
                }
            }
            if now >= second {
                second += SECOND;
                end_second(&load, start, now);
                progress(&Progress::new(&load.record.borrow(), now - start));
            }
            now = load.clock.now();
        }
        let due = load.pool.hand_out(now).unwrap_or(Nanos::MAX);
        load.pool.timer().set(due.min(tick));
        load.pool.timer().fired().await;
    }
    let end = load.clock.now();
    // What is left of a second, unless it is nothing.
    if end + SECOND > second {
        end_second(&load, start, end);
    }
    Span { start, end, cpu }
}

fn end_second(load: &Load, start: Nanos, now: Nanos) {
    let feed = load.pool.feed.borrow();
    let (due, in_flight) = (feed.due_by(now), feed.in_flight());
    Series::end_second(&mut load.record.borrow_mut(), due, in_flight, now - start);
}

/// Whether what no connection had time for is not waited for any more.
fn is_time_up(load: &Load, options: &Options, now: Nanos) -> bool {
    let last_due = load.pool.feed.borrow().last_due();
    let wait = nanos(options.timeout);
    options.cancel.load(Ordering::Relaxed)
        || last_due.is_some_and(|due| due.saturating_add(wait) <= now)
}

async fn warm_up(load: &Load) {
    let begin = load.clock.now();
    let mut now = begin;
    while !load.pool.all_idle() && now - begin < WARM_UP {
        load.pool.timer().set(now + TICK / 10);
        load.pool.timer().fired().await;
        now = load.clock.now();
        load.pool.tick(now);
    }
}

const fn nanos_of_seconds(seconds: u64) -> Nanos {
    Duration::from_secs(seconds).as_nanos() as Nanos
}
