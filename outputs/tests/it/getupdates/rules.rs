//! The rules of getUpdates, one by one.
//!
//! `RINGHOOK_TEST_BOT_API` names a bot of a server of the Bot API, such as
//! `127.0.0.1:8081/bot123456:AA..`: one with no updates, no webhook, and no other client. Then the
//! rules that need no updates are checked there as well.

use std::net::SocketAddr;

use ringhook_outputs::getupdates::GetUpdatesSettings;

use crate::support::{
    poll::{Client, NONE, PollBench, Said, TOKEN},
    update, wait_until,
};

/// Where a rule is checked.
struct Place {
    /// The path up to the method.
    bot: String,
    address: SocketAddr,
    bench: Option<PollBench>,
}

impl Place {
    fn here() -> Self {
        let bench = PollBench::start(GetUpdatesSettings::new());
        Self { bot: format!("/bot{TOKEN}"), address: bench.address, bench: Some(bench) }
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    fn get(&self, client: &mut Client, method: &str, query: &str) -> Said {
        client.request("GET", &format!("{}/{method}?{query}", self.bot), "", b"")
    }

    fn post(&self, method: &str, content_type: &str, body: &str) -> Said {
        let headers = format!("Content-Type: {content_type}\r\n");
        let path = format!("{}/{method}", self.bot);
        self.client().request("POST", &path, &headers, body.as_bytes())
    }

    /// A server that has got these updates, each of a chat of its own.
    fn with(ids: &[i64]) -> (Self, Client) {
        let place = Self::here();
        let updates: Vec<_> = ids.iter().map(|id| update(*id, *id)).collect();
        place.bench().deliver(&updates);
        place.bench().wait_pending(ids.len() as u64);
        let client = place.client();
        (place, client)
    }

    fn bench(&self) -> &PollBench {
        self.bench.as_ref().unwrap()
    }
}

/// What a rule says, and what checks it.
type Rule<T> = (&'static str, T);

/// Rules that need no updates.
const EVERYWHERE: &[Rule<fn(&Place)>] = &[
    ("nothing is an empty list", |place| {
        assert_eq!(place.get(&mut place.client(), "getUpdates", "offset=1").ids(), NONE);
    }),
    ("names of methods have no case", |place| {
        assert_eq!(place.get(&mut place.client(), "GETUPDATES", "offset=2").ids(), NONE);
        assert_eq!(place.get(&mut place.client(), "getupdates", "offset=3").ids(), NONE);
    }),
    ("each encoding is taken", |place| {
        let multipart = "--b\r\nContent-Disposition: form-data; name=\"offset\"\r\n\r\n6\r\n--b--";
        for (kind, body) in [
            ("application/json", "{\"offset\":4,\"timeout\":0}"),
            ("application/x-www-form-urlencoded", "offset=5"),
            ("multipart/form-data; boundary=b", multipart),
        ] {
            assert_eq!(place.post("getUpdates", kind, body).ids(), NONE, "{kind}");
        }
    }),
    ("numbers out of their bounds are clamped", |place| {
        for query in ["offset=7&limit=0", "offset=8&limit=101", "offset=9&limit=-5&timeout=-1"] {
            assert_eq!(place.get(&mut place.client(), "getUpdates", query).ids(), NONE, "{query}");
        }
    }),
    ("a long poll ends the one before", |place| {
        let (mut first, mut second) = (place.client(), place.client());
        let path = format!("{}/getUpdates?offset=10&timeout=50", place.bot);
        first.send("GET", &path, "", b"");
        match &place.bench {
            Some(bench) => bench.wait("the first one waits", |status| status.polls == 1),
            // There is no other way to see it.
            None => std::thread::sleep(std::time::Duration::from_secs(1)),
        }
        second.send("GET", &path, "", b"");
        let conflict = "Conflict: terminated by other getUpdates request; make sure that only one \
                        bot instance is running";
        first.receive().assert_error(409, conflict);
        let mut third = place.client();
        third.send("GET", &path, "", b"");
        second.receive().assert_error(409, conflict);
    }),
    ("there is no webhook", |place| {
        let info = place.get(&mut place.client(), "getWebhookInfo", "").json();
        assert_eq!((&info["ok"], &info["result"]["url"]), (&true.into(), &"".into()));
        assert_eq!(info["result"]["pending_update_count"], 0);
        assert_eq!(info["result"]["has_custom_certificate"], false);
        let deleted = place.get(&mut place.client(), "deleteWebhook", "").json();
        assert_eq!((&deleted["ok"], &deleted["result"]), (&true.into(), &true.into()));
    }),
    ("a path of no method is not found", |place| {
        for path in ["/", "/bot", "/bot/getUpdates", "/file/"] {
            let said = place.client().request("GET", path, "", b"");
            assert!(said.status == 404 || said.status == 401, "{path}: {said:?}");
            assert_eq!(said.json()["ok"], false, "{path}");
        }
    }),
    ("a repeated offset waits for three seconds", |place| {
        let began = std::time::Instant::now();
        let mut client = place.client();
        assert_eq!(place.get(&mut client, "getUpdates", "offset=11").ids(), NONE);
        assert_eq!(place.get(&mut client, "getUpdates", "offset=11").ids(), NONE);
        assert!(began.elapsed().as_secs_f64() > 2.5);
    }),
];

/// Rules about updates, on a server of their own.
const HERE: &[Rule<fn()>] = &[
    ("updates come in the order of their ids", || {
        let (place, mut client) = Place::with(&[30, 10, 20]);
        assert_eq!(place.get(&mut client, "getUpdates", "").ids(), [10, 20, 30]);
    }),
    ("what is not confirmed comes again", || {
        let (place, mut client) = Place::with(&[1, 2, 3]);
        for query in ["limit=2", "limit=2&offset=0", "limit=2&offset=1"] {
            assert_eq!(place.get(&mut client, "getUpdates", query).ids(), [1, 2], "{query}");
        }
        assert_eq!(place.get(&mut client, "getUpdates", "offset=3").ids(), [3]);
        place.bench().wait_handled(2);
        assert_eq!(place.get(&mut client, "getUpdates", "offset=4").ids(), NONE);
        place.bench().wait_handled(3);
    }),
    ("what comes late is handed out below the offset", || {
        let (place, mut client) = Place::with(&[10]);
        assert_eq!(place.get(&mut client, "getUpdates", "").ids(), [10]);
        place.bench().send(9, 9);
        place.bench().wait_pending(2);
        assert_eq!(place.get(&mut client, "getUpdates", "offset=11").ids(), [9]);
        assert_eq!(place.get(&mut client, "getUpdates", "offset=10").ids(), NONE);
        place.bench().wait_handled(2);
    }),
    ("an answer has a hundred updates at most", || {
        let ids: Vec<i64> = (1..=150).collect();
        let (place, mut client) = Place::with(&ids);
        for query in ["", "limit=100", "limit=1000"] {
            assert_eq!(place.get(&mut client, "getUpdates", query).ids(), &ids[..100], "{query}");
        }
        for query in ["limit=0", "limit=-7", "limit=1"] {
            assert_eq!(place.get(&mut client, "getUpdates", query).ids(), [1], "{query}");
        }
    }),
    ("one answer has a run of a chat, in its order", || {
        let place = Place::here();
        let updates: Vec<_> = (1..=250).map(|id| update(7, id)).collect();
        place.bench().deliver(&updates);
        let mut client = place.client();
        place.bench().wait_pending(100);
        let mut next = 1;
        while next <= 250 {
            let query = format!("offset={next}&timeout=50");
            let ids = place.get(&mut client, "getUpdates", &query).ids();
            assert!(ids.iter().copied().eq(next..next + ids.len() as i64), "{ids:?}");
            next += ids.len() as i64;
        }
        assert_eq!(place.get(&mut client, "getUpdates", "offset=251").ids(), NONE);
        place.bench().wait_handled(250);
        let polls = place.bench().status().polls;
        assert!(polls < 50, "{polls} polls for three answers full");
    }),
    ("a long poll is answered when something comes", || {
        let place = Place::here();
        let mut client = place.client();
        client.send("GET", &format!("{}/getUpdates?timeout=50", place.bot), "", b"");
        place.bench().wait("it waits", |status| status.polls == 1);
        place.bench().send(1, 5);
        assert_eq!(client.receive().ids(), [5]);
    }),
    ("a negative offset leaves the last ones", || {
        let (place, mut client) = Place::with(&[1, 2, 3, 4]);
        assert_eq!(place.get(&mut client, "getUpdates", "offset=-2").ids(), [3, 4]);
        place.bench().wait_handled(2);
        assert_eq!(place.get(&mut client, "getUpdates", "offset=0").ids(), [3, 4]);
    }),
    ("deleteWebhook drops what is pending where it says so", || {
        let (place, mut client) = Place::with(&[1, 2, 3]);
        place.get(&mut client, "deleteWebhook", "drop_pending_updates=false");
        let info = place.get(&mut client, "getWebhookInfo", "").json();
        assert_eq!(info["result"]["pending_update_count"], 3);
        place.get(&mut client, "deleteWebhook", "drop_pending_updates=True");
        place.bench().wait_handled(3);
        assert_eq!(place.get(&mut client, "getUpdates", "").ids(), NONE);
    }),
    ("allowed_updates stays in force", || {
        let place = Place::here();
        let mut client = place.client();
        let query = "allowed_updates=%5B%22callback_query%22,%22poll%22%5D";
        assert_eq!(place.get(&mut client, "getUpdates", query).ids(), NONE);
        place.bench().send(1, 1);
        place.bench().wait("it is unwanted", |status| status.unwanted == 1);
        place.bench().wait_handled(1);
        // Neither an empty parameter nor a broken one changes it, an empty list does.
        place.get(&mut client, "getUpdates", "offset=1&allowed_updates=");
        place.get(&mut client, "getUpdates", "offset=2&allowed_updates=message");
        place.bench().send(1, 2);
        place.bench().wait("it is unwanted", |status| status.unwanted == 2);
        place.get(&mut client, "getUpdates", "offset=3&allowed_updates=%5B%5D");
        place.bench().send(1, 3);
        place.bench().wait_pending(1);
    }),
    ("another poll without a wait ends none", || {
        let place = Place::here();
        let (mut first, mut second) = (place.client(), place.client());
        first.send("GET", &format!("{}/getUpdates?timeout=50", place.bot), "", b"");
        place.bench().wait("it waits", |status| status.polls == 1);
        assert_eq!(place.get(&mut second, "getUpdates", "offset=9").ids(), NONE);
        place.bench().send(1, 1);
        assert_eq!(first.receive().ids(), [1]);
        assert_eq!(place.bench().status().conflicts, 0);
    }),
    ("a poll whose client goes takes nothing", || {
        let place = Place::here();
        let mut first = place.client();
        first.send("GET", &format!("{}/getUpdates?timeout=50", place.bot), "", b"");
        place.bench().wait("it waits", |status| status.polls == 1);
        drop(first);
        place.bench().wait("it is gone", |status| status.connections == 0);
        place.bench().send(1, 1);
        place.bench().wait_pending(1);
        assert_eq!(place.bench().status().handed_out, 0);
        assert_eq!(place.get(&mut place.client(), "getUpdates", "").ids(), [1]);
    }),
];

#[test]
fn each_rule_about_updates_holds() {
    for (rule, check) in HERE {
        eprintln!("{rule}");
        check();
    }
}

#[test]
fn each_other_rule_holds_here_and_at_the_bot_api() {
    for (rule, check) in EVERYWHERE {
        eprintln!("{rule}");
        check(&Place::here());
    }
    let Some(there) = std::env::var("RINGHOOK_TEST_BOT_API").ok() else { return };
    let (address, bot) = there.split_once('/').expect("HOST:PORT/botTOKEN");
    let place = Place { bot: format!("/{bot}"), address: address.parse().unwrap(), bench: None };
    for (rule, check) in EVERYWHERE {
        eprintln!("{rule}, there");
        check(&place);
    }
}

#[test]
fn several_consumers_share_a_bot_by_chats() {
    let bench = PollBench::start(GetUpdatesSettings::new().consumers(3));
    let updates: Vec<_> = (1..=90).map(|id| update(id % 30, id)).collect();
    bench.deliver(&updates);
    let mut chats = std::collections::BTreeMap::new();
    wait_until("all are there", || {
        bench.status().consumers.iter().map(|it| it.waiting).sum::<u64>() == 90
    });
    for consumer in 1..=3 {
        let mut client = bench.client();
        for (path, headers) in [
            (format!("/consumer/{consumer}/bot{TOKEN}/getUpdates"), String::new()),
            (format!("/bot{TOKEN}/getUpdates?consumer={consumer}"), String::new()),
            (format!("/bot{TOKEN}/getUpdates"), format!("X-Ringhook-Consumer: {consumer}\r\n")),
        ] {
            for id in client.request("GET", &path, &headers, b"").ids() {
                assert_eq!(*chats.entry(id % 30).or_insert(consumer), consumer, "of {id}");
            }
        }
    }
    assert_eq!(chats.len(), 30);
    let counts = [1, 2, 3].map(|consumer| chats.values().filter(|it| **it == consumer).count());
    assert!(counts.iter().all(|count| *count > 3), "{counts:?}");
    let hint = "Bad Request: 3 consumer(s) share this bot: add /consumer/1";
    for path in ["", "/consumer/0", "/consumer/4", "/consumer/x"] {
        let path = format!("{path}/bot{TOKEN}/getUpdates");
        bench.client().request("GET", &path, "", b"").assert_error(400, hint);
    }
    assert_eq!(bench.status().conflicts, 0);
}

#[test]
fn a_client_that_is_gone_gets_all_of_it_again() {
    let time = std::time::Duration::from_millis(50);
    let bench = PollBench::start(GetUpdatesSettings::new().client_timeout(time));
    (1..=3).for_each(|id| bench.send(id, id));
    bench.wait_pending(3);
    assert_eq!(bench.client().poll(""), [1, 2, 3]);
    bench.wait("they wait again", |status| status.consumers[0].waiting == 3);
    assert_eq!(bench.client().poll("offset=4"), [1, 2, 3]);
    assert_eq!(bench.server.report().updates_handled, 0);
}

#[test]
fn updates_get_numbers_that_only_grow() {
    let bench = PollBench::start(GetUpdatesSettings::new().renumber(true));
    for (id, offset, expected) in [(900, 0, 1), (800, 2, 2), (700, 3, 3)] {
        bench.send(id, id);
        bench.wait_pending(if offset == 0 { 1 } else { 2 });
        let said = bench.client().call("getUpdates", &format!("offset={offset}"));
        assert_eq!(said.ids(), [expected]);
        assert_eq!(said.json()["result"][0]["message"]["message_id"], id);
    }
}
