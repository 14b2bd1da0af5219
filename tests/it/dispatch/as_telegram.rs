//! The whole way from Telegram's sender, as its rules have it, to the handler.

use std::collections::BTreeMap;

use loadtest::{Options, Rate, Stop, Telegram, Trust, chat_of, kind_of};

use crate::support::{SECRET, TestServer};

/// A flood after a downtime: everything is handled once and in the order of its queue, and nothing
/// that the server did has left a word in getWebhookInfo.
#[test]
fn telegrams_sender_gets_everything_through() {
    let server = TestServer::with(|server| server);
    let mut options = Options::new(server.url().parse().unwrap());
    options.connections = 40;
    options.rate = Rate::Max;
    options.stop = Stop::Requests(4000);
    options.payload.chats = 300;
    options.secret_token = Some(SECRET.to_owned());
    options.trust = Trust::pem(server.pki.cert.as_bytes()).unwrap();
    options.telegram = Some(Telegram::default());
    let sent = loadtest::run(&options).unwrap();
    assert!(sent.is_ok(), "{sent}");
    let info = &sent.telegram.as_ref().unwrap()[0];
    assert_eq!((info.pending_update_count, info.delivered), (0, 4000), "{sent}");
    assert_eq!(info.last_error_message, None, "{sent}");
    assert!(info.connections_peak > 10, "{sent}");

    let (report, handled) = server.stop();
    assert_eq!(report.updates_handled, 4000);
    assert!(report.requests_rejected.is_empty(), "{report}");
    let mut last = BTreeMap::new();
    for update in handled.all() {
        let id = update["update_id"].as_u64().unwrap();
        let queue = (kind_of(&options.payload, id), chat_of(&options.payload, id));
        assert!(last.insert(queue, id) < Some(id), "{id} out of turn, or twice");
    }
}
