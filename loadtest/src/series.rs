//! A run second by second.

use serde::Serialize;

use crate::{Progress, clock::Nanos, record::Record};

/// What happened in one second; the last one of a run may be shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// When it ended, in seconds since the first request was due.
    pub at_s: f64,
    /// Requests that fell due.
    pub due: u64,
    /// Requests that were begun to be sent, those included that had failed before.
    pub sent: u64,
    /// Answers of 2xx.
    pub acknowledged: u64,
    /// Answers other than 2xx.
    pub refused: u64,
    /// Requests that got no answer.
    pub failed: u64,
    /// Requests on their way when it ended.
    pub in_flight: u64,
    /// Latency from due time of half of its answers, in microseconds; 0 if there were none.
    pub p50: f64,
    /// The same of 99 %.
    pub p99: f64,
    /// The same of 99.9 %.
    #[serde(rename = "p99.9")]
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// As `p99`, from when the requests were sent.
    pub send_to_answer_p99: f64,
}

/// Counts at the end of the last second.
#[derive(Default)]
pub(crate) struct Series {
    pub(crate) seconds: Vec<Second>,
    /// How long the answers of the last second took; see [`Progress::heat`].
    pub(crate) heat: [u64; Progress::HEAT.len() + 1],
    due: u64,
    sent: u64,
    acknowledged: u64,
    refused: u64,
    failed: u64,
}

impl Series {
    /// Ends a second, `elapsed` after the start, when so many requests were due and in flight.
    pub(crate) fn end_second(record: &mut Record, due: u64, in_flight: usize, elapsed: Nanos) {
        let answered: u64 = record.statuses.values().sum();
        let (refused, failed) = (answered - record.acknowledged, record.failures.total());
        let (latency, service) = (&mut record.recent, &mut record.recent_service);
        let micros = |quantile| latency.quantile(quantile).as_nanos() as f64 / 1e3;
        let last = &mut record.series;
        let mut longer = latency.count();
        for (place, bound) in last.heat.iter_mut().zip(Progress::HEAT) {
            let above = latency.count_above(bound);
            *place = longer.saturating_sub(above);
            longer = above;
        }
        if let Some(place) = last.heat.last_mut() {
            *place = longer;
        }
        last.seconds.push(Second {
            at_s: elapsed as f64 / 1e9,
            due: due.saturating_sub(last.due),
            sent: record.sent - last.sent,
            acknowledged: record.acknowledged - last.acknowledged,
            refused: refused - last.refused,
            failed: failed - last.failed,
            in_flight: in_flight as u64,
            p50: micros(0.5),
            p99: micros(0.99),
            p999: micros(0.999),
            max: micros(1.0),
            send_to_answer_p99: service.quantile(0.99).as_nanos() as f64 / 1e3,
        });
        (last.due, last.sent, last.failed) = (due, record.sent, failed);
        (last.acknowledged, last.refused) = (record.acknowledged, refused);
        latency.clear();
        service.clear();
        record.end_interval(elapsed);
    }
}
