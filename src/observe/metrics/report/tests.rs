//! Tests of `report`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::control::operation::Step;

#[test]
fn sums_all_threads_in_json_and_in_the_table() {
    let metrics = Metrics::new(2, 1);
    for shard in &metrics.shards {
        shard.received.add(3);
        shard.rejected(Status::Forbidden);
        shard.closed(CloseReason::IdleTimeout);
        shard.parse.record(1_500);
    }
    metrics.shards[0].refused(Refusal::Chat);
    metrics.shards[0].turned_away(TurnedAway::Connections);
    metrics.shards[1].forbidden(Forbidden::Address);
    metrics.acceptor.refused(TurnedAway::Connections);
    metrics.acceptor.refused(TurnedAway::Address);
    let worker = metrics.workers.iter().next().unwrap();
    worker.handled.add(2);
    worker.expired(UpdateKind::InlineQuery);
    worker.expired(UpdateKind::CallbackQuery);
    metrics.hangs.count(Step::Commit);
    let report = Report::new(&metrics, DriverKind::Epoll, Duration::from_secs(2), false);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["updates_received"], 6);
    assert_eq!(json["updates_handled"], 2);
    assert_eq!(json["updates_abandoned"], 0);
    assert_eq!(json["requests_rejected"]["403"], 2);
    assert_eq!(json["connections_closed"]["idle_timeout"], 2);
    assert_eq!(json["connections_refused"], 3);
    let by_cause = serde_json::json!({"address": 1, "connections": 2});
    assert_eq!(json["connections_refused_by"], by_cause);
    assert_eq!(json["requests_forbidden_by"], serde_json::json!({"address": 1}));
    assert_eq!(json["hangs"], serde_json::json!({"commit": 1}));
    let written = serde_json::to_string(&report).unwrap();
    // The order of the keys is alphabetical, which is not that of the kinds.
    let expired = r#""updates_expired":{"callback_query":1,"inline_query":1},"#;
    assert!(written.contains(expired), "{written}");
    assert!(written.contains(r#""updates_refused":{"chat":1},"#), "{written}");
    assert_eq!(json["driver"], "epoll");
    assert_eq!(json["latency_us"]["parse"]["count"], 2);
    assert!((json["latency_us"]["parse"]["p99.9"].as_f64().unwrap() - 1.5).abs() < 0.02);
    assert!(json["latency_us"].get("whole").is_none(), "nothing recorded, nothing shown");
    let stopped = Report::new(&metrics, DriverKind::Epoll, Duration::from_secs(2), true);
    assert_eq!(stopped.updates_abandoned, 1, "six received, one refused, two expired, two handled");
    let table = report.to_string();
    assert!(table.contains("6 received") && table.contains("403: 2"), "{table}");
    assert!(table.contains("hung         1 (commit)"), "{table}");
    assert!(table.contains("turned away  1 (address), 2 (connections)"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("parse") && line.contains("1.5 us")));
}
