//! Outputs, their queues, and those behind HTTP.

use std::fmt;

use ringhook::OutputReport;
use ringhook_outputs::forward::{FailedRequests, ForwardStatus, Replies};

use super::{
    families::{Families, Label, head, label},
    snapshot::{OutputNow, Snapshot},
};

pub(super) fn write<'a>(of: &'a Snapshot, families: &mut Families<'_>) -> fmt::Result {
    families.gauges(
        head("output_up", "1 where the output takes what it is given, else 0"),
        of.outputs.iter().map(|it| (label("output", &*it.name), u64::from(it.is_up))),
    )?;
    let size = |pick: fn(&ringhook::QueueSize) -> u64| {
        let sized = move |it: &'a OutputNow| {
            let OutputNow { name, queue, .. } = it;
            Some((label("output", &**name), pick(queue.as_ref()?)))
        };
        of.outputs.iter().filter_map(sized)
    };
    families.gauges(
        head("queue_updates", "Updates under way to the output, with what threads hold in reserve"),
        size(|queue| queue.updates),
    )?;
    families.gauges(head("queue", "Bytes of these updates").bytes(), size(|queue| queue.bytes))?;
    families.gauge(
        head("queue_limit_updates", "Updates that may be under way to each output"),
        of.config.limits.queue_updates,
    )?;
    families.gauge(
        head("queue_limit", "Bytes that may be under way to each output").bytes(),
        of.config.limits.queue_bytes,
    )?;
    let counts = counts(of);
    let count = |pick: fn(&(String, u64, u64, u64)) -> u64| {
        counts.iter().map(move |it| (label("output", &*it.0), pick(it)))
    };
    families
        .counters(head("output_handled", "Updates that the output has taken"), count(|it| it.1))?;
    families.counters(
        head("output_failed", "Updates that it has finally not taken"),
        count(|it| it.2),
    )?;
    families.counters(
        head("output_retried", "Times that it took nothing, or asked for an update again"),
        count(|it| it.3),
    )?;
    forwards(of, families)
}

/// What each output has counted: handled, failed, retried. The report names them only where there
/// are several.
fn counts(of: &Snapshot) -> Vec<(String, u64, u64, u64)> {
    let report = &of.report;
    match (&*report.outputs, &*of.outputs) {
        ([], [only]) => vec![(
            only.name.clone(),
            report.updates_handled,
            report.updates_failed,
            report.handler_retries,
        )],
        (several, _) => several
            .iter()
            .map(|OutputReport { name, handled, failed, retried, .. }| {
                (name.clone(), *handled, *failed, *retried)
            })
            .collect(),
    }
}

/// The outputs behind HTTP.
fn forwards(of: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let each = |pick: fn(&ForwardStatus) -> u64| {
        of.forwards.iter().map(move |(name, it)| (label("output", &**name), pick(it)))
    };
    families.counters(
        head("forward_requests", "Requests to the targets of an output behind HTTP"),
        each(|it| it.sent),
    )?;
    families.counters(
        head("forward_delivered", "Updates that a target took"),
        each(|it| it.delivered),
    )?;
    families.counters(
        head("forward_retried", "Failures after which the update comes again or is given up"),
        each(|it| it.retried),
    )?;
    families.counters(
        head("forward_failures", "Requests that failed, by reason"),
        of.forwards.iter().flat_map(|(name, it)| {
            let FailedRequests {
                connect,
                reset,
                timeout,
                misconfigured,
                status_4xx,
                status_5xx,
                ..
            } = it.failed;
            two(
                name,
                "reason",
                [
                    ("connect", connect),
                    ("reset", reset),
                    ("timeout", timeout),
                    ("misconfigured", misconfigured),
                    ("status_4xx", status_4xx),
                    ("status_5xx", status_5xx),
                ],
            )
        }),
    )?;
    families.counters(
        head("forward_replies", "Webhook replies that were method calls, by what became of them"),
        of.forwards.iter().flat_map(|(name, it)| {
            let Replies { relayed, refused, ambiguous, failed, dropped, .. } = it.replies;
            two(
                name,
                "result",
                [
                    ("relayed", relayed),
                    ("refused", refused),
                    ("ambiguous", ambiguous),
                    ("failed", failed),
                    ("dropped", dropped),
                ],
            )
        }),
    )?;
    families.gauges(
        head("forward_in_flight_updates", "Updates whose request, or webhook reply, is under way"),
        each(|it| it.in_flight),
    )?;
    families.gauges(
        head("forward_waiting_updates", "Updates that wait for a target"),
        each(|it| it.targets.iter().map(|target| target.waiting).sum()),
    )?;
    families.gauges(
        head("forward_oldest", "Age of the oldest update that waits for a target").seconds(),
        of.forwards.iter().map(|(name, it)| {
            let oldest = it.targets.iter().filter_map(|target| target.oldest_waiting).max();
            (label("output", &**name), oldest.unwrap_or_default().as_secs_f64())
        }),
    )
}

fn two<'a, const N: usize>(
    output: &'a str,
    by: &'static str,
    counts: [(&'static str, u64); N],
) -> [([Label<'a>; 2], u64); N] {
    counts.map(|(what, count)| ([("output", output.into()), (by, what.into())], count))
}
