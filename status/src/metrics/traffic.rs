//! Requests and updates.

use std::{collections::BTreeMap, fmt};

use ringhook::report::{Forbidden, Refusal};

use super::{
    families::{Families, counts, head, label},
    snapshot::Snapshot,
};

/// The answers of the public port.
const STATUSES: [u16; 14] = [200, 400, 403, 404, 405, 408, 413, 414, 415, 417, 431, 501, 503, 505];

pub(super) fn write(of: &Snapshot, bounds_us: &[u64], families: &mut Families<'_>) -> fmt::Result {
    let report = &of.report;
    let mut requests: BTreeMap<u16, u64> = STATUSES.map(|status| (status, 0)).into();
    requests.extend(&report.requests_rejected);
    requests.insert(200, report.updates_acknowledged);
    families.counters(
        head("requests", "Requests on the public port, by status of the answer"),
        requests.iter().map(|(status, count)| (label("status", status.to_string()), *count)),
    )?;
    families.counters(
        head("requests_forbidden", "Requests answered 403, by what was wrong"),
        counts("reason", Forbidden::ALL, &report.requests_forbidden_by, Forbidden::as_str),
    )?;
    families.counters(
        head(
            "updates_received",
            "Updates that came, by source: the wire, the program (getUpdates), or fed in again",
        ),
        [
            (label("source", "wire"), report.updates_received),
            (label("source", "program"), report.updates_delivered),
            (label("source", "fed"), report.updates_fed),
        ],
    )?;
    families.counter(
        head("updates_acknowledged", "Updates whose 200 was handed to the kernel"),
        report.updates_acknowledged,
    )?;
    families.counters(
        head("updates_refused", "Updates answered 503, by the limit that was reached"),
        counts("reason", Refusal::ALL, &report.updates_refused, Refusal::as_str),
    )?;
    families.counter(
        head(
            "updates_duplicate",
            "Updates that had been accepted before and were not handled again",
        ),
        report.updates_duplicate,
    )?;
    families.counters(
        head("updates_expired", "Updates skipped because Telegram takes no answer any more"),
        report.updates_expired.iter().map(|(kind, n)| (label("kind", kind.as_str()), *n)),
    )?;
    families.counter(
        head("updates_handled", "Updates that an output has taken"),
        report.updates_handled,
    )?;
    families.counter(
        head("updates_failed", "Updates that an output has finally not taken"),
        report.updates_failed,
    )?;
    families.counter(
        head("updates_dropped", "Updates that went to no output, because their route says so"),
        report.updates_dropped,
    )?;
    families.counter(
        head("updates_multiplied", "Deliveries to further outputs of updates that go to several"),
        report.updates_multiplied,
    )?;
    families.counters(
        head("deliveries", "Updates that need no further call, by kind, for each output"),
        of.kinds.iter().map(|(kind, n)| (label("kind", kind.as_str()), *n)),
    )?;
    families.gauge(
        head("unsettled_updates", "Updates accepted that are not handled, failed or dropped yet"),
        of.unsettled,
    )?;
    families.gauge(
        head("lag", "Age of the oldest update that is not settled, as far as counts tell")
            .seconds(),
        of.lag.as_secs_f64(),
    )?;
    families.counter(
        head("handler_retries", "Calls of a handler or output that asked for the update again"),
        report.handler_retries,
    )?;
    families
        .counter(head("handler_panics", "Panics caught in a handler"), report.handler_panics)?;
    let stages = of.stages.iter().map(|(stage, buckets)| {
        let mut before = 0;
        let mut counts: Vec<_> = bounds_us
            .iter()
            .zip(&buckets.within)
            .map(|(us, within)| {
                let count = within.saturating_sub(before);
                before = *within;
                (*us as f64 / 1e6, count)
            })
            .collect();
        counts.push((f64::INFINITY, buckets.count.saturating_sub(before)));
        (label("stage", stage.as_str()), buckets.sum.as_secs_f64(), buckets.count, counts)
    });
    families.histograms(
        head("stage_duration", "Time in each stage of an update's path").seconds(),
        stages,
    )
}
