//! The main job end to end: 200 TLS connections, 1,000 updates a second, nothing lost, doubled or
//! altered on the way to the handler.

use std::{collections::BTreeMap, time::Duration};

use loadtest::{Options, PayloadGenerator, Rate, Stop, Trust};

use crate::support::{self, SECRET, TestServer};

#[test]
fn two_hundred_connections_at_a_thousand_a_second() {
    for driver in support::drivers() {
        let server = TestServer::with(|server| server.driver(driver));
        let mut options = Options::new(server.url().parse().unwrap());
        options.connections = 200;
        options.rate = Rate::PerSecond(1000.0);
        options.stop = Stop::After(Duration::from_secs(3));
        options.secret_token = Some(SECRET.to_owned());
        options.trust = Trust::pem(server.pki.cert.as_bytes()).unwrap();
        options.keep_ids = true;
        options.first_update_id = 500_000;
        let sent = loadtest::run(&options).unwrap();
        assert!(sent.is_ok(), "{sent}");
        assert_eq!(sent.planned, 3000);

        let (report, handled) = server.stop();
        assert_eq!(report.updates_received, 3000);
        assert_eq!(report.updates_acknowledged, 3000);
        assert_eq!(report.updates_handled, 3000);
        assert_eq!(report.connections_accepted, 200);
        assert_eq!(report.handshakes_full, 200);
        assert!(report.requests_rejected.is_empty(), "{report}");
        assert_eq!(report.latency(ringhook::Stage::Whole).unwrap().count, 3000);

        let mut by_id: BTreeMap<u64, serde_json::Value> = BTreeMap::new();
        for update in handled.all() {
            let id = update["update_id"].as_u64().unwrap();
            assert_eq!(by_id.insert(id, update), None, "update {id} came twice");
        }
        let mut acknowledged = sent.ids.unwrap().acknowledged;
        acknowledged.sort_unstable();
        assert!(acknowledged.iter().eq(by_id.keys()), "every id once and no other");
        let generator = PayloadGenerator::new(&options.payload);
        let mut body = Vec::new();
        for (id, update) in by_id {
            body.clear();
            generator.write(&mut body, id);
            let expected: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(update, expected, "{driver}: update {id} is not what was sent");
        }
    }
}
