//! What a target gets.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use ringhook::update::BotId;
use ringhook_outputs::forward::{BotTerms, ForwardSettings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use crate::support::{
    bench::{Bench, quick},
    http::{Act, FakeServer, answer, ok},
    update, wait_until,
};

#[test]
fn a_request_is_as_telegram_makes_it() {
    let target = FakeServer::start(|_| async { ok() });
    let bots = vec![BotTerms::new("shop", BotId::new(0)).secret("s3cret_-")];
    let bench = Bench::start(quick(&target.url("/hook?a=b")).bots(bots));
    let body = update(7, 1);
    bench.deliver(std::slice::from_ref(&body));
    bench.deliver_to("other", &[update(7, 1)]);
    bench.wait_handled(2);
    let seen = target.seen();
    let request = |secret: &str| {
        format!(
            "POST /hook?a=b HTTP/1.1\r\nHost: {}\r\n{secret}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            target.address.unwrap(),
            body.len()
        )
    };
    let heads: Vec<_> = seen.iter().map(|seen| seen.head.clone()).collect();
    assert!(heads.contains(&request("X-Telegram-Bot-Api-Secret-Token: s3cret_-\r\n")), "{heads:?}");
    assert!(heads.contains(&request("")), "{heads:?}");
    assert!(seen.iter().all(|seen| seen.body == body.as_bytes()));
    assert_eq!(bench.stop().updates_handled, 2);
}

#[test]
fn new_secrets_are_in_the_requests_that_follow() {
    let target = FakeServer::start(|_| async { ok() });
    let terms = |secret: &str| vec![BotTerms::new("shop", BotId::new(0)).secret(secret)];
    let bench = Bench::start(quick(&target.url("/")).bots(terms("one")));
    bench.send(1, 1);
    bench.wait_handled(1);
    bench.forward.set_bots(terms("two")).unwrap();
    bench.send(1, 2);
    bench.wait_handled(2);
    assert!(bench.forward.set_bots(terms("not a secret")).is_err());
    bench.send(1, 3);
    bench.wait_handled(3);
    let seen = target.seen();
    let secrets = seen.iter().map(|seen| seen.header("x-telegram-bot-api-secret-token").unwrap());
    assert_eq!(secrets.collect::<Vec<_>>(), ["one", "two", "two"]);
    bench.stop();
}

#[test]
fn further_headers_are_added_and_replace_nothing() {
    let target = FakeServer::start(|_| async { ok() });
    let settings = quick(&target.url("/")).headers(|update, headers| {
        assert!(update.id().get() != 2, "on purpose");
        headers.insert("x-update-id", update.id().get().into());
        headers.append("x-list", "a".parse().unwrap());
        headers.append("x-list", "b".parse().unwrap());
        headers.insert("content-type", "text/plain".parse().unwrap());
        headers.insert("content-length", "1".parse().unwrap());
        headers.insert("x-telegram-bot-api-secret-token", "forged".parse().unwrap());
    });
    let bench = Bench::start(settings);
    (1..=2).for_each(|id| bench.send(1, id));
    bench.wait_handled(2);
    let seen = target.seen();
    assert_eq!(seen[0].header("x-update-id"), Some("1"));
    assert!(seen[0].head.contains("\r\nX-List: a\r\nX-List: b\r\n"), "{}", seen[0].head);
    assert_eq!(seen[0].head.matches("Content-Type: application/json\r\n").count(), 1);
    assert!(!seen[0].head.contains("text/plain") && !seen[0].head.contains("forged"));
    assert_eq!(seen[1].header("x-update-id"), None, "a mapping that panics adds nothing");
    bench.stop();
}

#[test]
fn a_unix_socket_is_a_target() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bot.sock");
    let target = FakeServer::start_unix(&path, |_| async { ok() });
    let bench = Bench::start(quick(&format!("http+unix:{}:/hook", path.display())));
    (1..=300).for_each(|id| bench.send(id, id));
    bench.wait_handled(300);
    assert_eq!(target.seen()[0].line(), "POST /hook");
    assert_eq!(target.seen()[0].header("host"), Some("localhost"));
    let status = bench.status();
    assert_eq!((status.delivered, status.failed.connect), (300, 0));
    bench.stop();
}

#[test]
fn https_is_spoken_with_the_authorities_that_are_given() {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned()];
    let cert = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(ringhook::internals::tls::provider());
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], private)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let target = FakeServer::start_tls(Arc::new(server).into(), |_| async { ok() });
    let url = target.url("/hook").replace("http:", "https:");
    let bench = Bench::start(quick(&url).tls(Arc::new(client)));
    bench.send(1, 1);
    bench.wait_handled(1);
    assert_eq!(target.seen()[0].line(), "POST /hook");
    bench.stop();
    // With the usual authorities it is not trusted, so nothing is sent.
    let bench = Bench::start(quick(&url));
    bench.send(1, 1);
    bench.wait("the target is down", |status| status.held == 1);
    assert_eq!(target.count(), 1);
    bench.stop();
}

#[test]
fn a_thousand_slow_requests_run_at_once_and_each_chat_in_order() {
    let gate = Arc::new(Semaphore::new(0));
    let target = FakeServer::start({
        let gate = Arc::clone(&gate);
        move |_| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                ok()
            }
        }
    });
    allow_descriptors();
    let settings = quick(&target.url("/")).connections(1000);
    let bench = Bench::start(settings);
    let updates: Vec<_> = (0..3000).map(|id| update(id % 1000, 10_000 - id)).collect();
    bench.deliver(&updates);
    target.wait_count(1000);
    bench.wait("all are under way", |status| status.in_flight == 1000);
    assert_eq!(bench.status().targets[0].in_flight, 1000);
    gate.add_permits(3000);
    bench.wait_handled(3000);
    let mut chats = BTreeMap::<i64, Vec<i64>>::new();
    for seen in target.seen() {
        chats.entry(seen.chat()).or_default().push(seen.update_id());
    }
    assert_eq!(chats.len(), 1000);
    for (chat, ids) in chats {
        assert_eq!(ids, [0, 1, 2].map(|round| 10_000 - (round * 1000 + chat)));
    }
    assert_eq!(target.at_once_max(), 1000);
    let report = bench.stop();
    assert_eq!((report.updates_handled, report.handler_retries), (3000, 0));
}

#[test]
fn requests_beyond_the_connections_wait_in_order() {
    let gate = Arc::new(Semaphore::new(0));
    let target = FakeServer::start({
        let gate = Arc::clone(&gate);
        move |_| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                ok()
            }
        }
    });
    let bench = Bench::start(quick(&target.url("/")).connections(2));
    // One after the other, so that the order of their coming is certain.
    for id in 0..8 {
        bench.send(id, id);
        let expected = id as u64 + 1;
        bench.wait("it is here", |status| {
            status.targets[0].in_flight + status.targets[0].waiting == expected
        });
    }
    let status = bench.status();
    assert_eq!((status.targets[0].in_flight, status.targets[0].waiting, status.held), (2, 6, 0));
    assert!(status.targets[0].oldest_waiting.is_some());
    for served in 0..8 {
        gate.add_permits(1);
        bench.wait_handled(served + 1);
    }
    let mut ids = target.ids();
    ids[..2].sort_unstable();
    assert_eq!(ids, (0..8).collect::<Vec<_>>());
    assert_eq!((target.at_once_max(), target.connections().0), (2, 2));
    bench.stop();
}

#[test]
fn a_connection_that_was_closed_while_it_was_idle_costs_no_attempt() {
    // Keep-alive is promised and not kept: the connection ends with the second request.
    let target = FakeServer::start(|seen| async move {
        match seen.update_id() % 2 {
            1 => ok(),
            _ if seen.connection.is_multiple_of(2) => Act::Last(Vec::new()),
            _ => ok(),
        }
    });
    let bench = Bench::attempts(quick(&target.url("/")), 1);
    (1..=2).for_each(|id| bench.send(1, id));
    bench.wait_handled(2);
    let seen = target.seen();
    let order: Vec<_> = seen.iter().map(|seen| (seen.update_id(), seen.connection)).collect();
    assert_eq!(order, [(1, 0), (2, 0), (2, 1)]);
    let status = bench.status();
    assert_eq!((status.sent, status.delivered, status.retried, status.failed.reset), (2, 2, 0, 0));
    assert_eq!(bench.stop().updates_failed, 0);
}

#[test]
fn connections_are_kept_and_closed_after_a_while() {
    let target = FakeServer::start(|seen| async move {
        match seen.update_id() {
            3 => answer(200, "Connection: close\r\n", "ok"),
            _ => answer(200, "", "ok"),
        }
    });
    let settings = quick(&target.url("/")).idle_timeout(Duration::from_secs(3));
    let bench = Bench::start(settings);
    (1..=2).for_each(|id| bench.send(1, id));
    bench.wait_handled(2);
    assert_eq!(target.connections(), (1, 1));
    wait_until("the idle connection is closed", || target.connections() == (1, 0));
    (3..=4).for_each(|id| bench.send(1, id));
    bench.wait_handled(4);
    assert_eq!(target.connections().0, 3, "one said that it would be closed");
    bench.stop();
}

#[test]
fn an_album_goes_out_in_order_and_only_what_was_not_taken_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let target = FakeServer::start(move |seen| {
        let is_first_try = seen.update_id() == 2 && tries.fetch_add(1, SeqCst) == 0;
        async move { if is_first_try { answer(500, "", "") } else { ok() } }
    });
    let mut dispatch = ringhook::Dispatch::default();
    dispatch.media_groups = Some(Duration::from_millis(300));
    let bench = Bench::with(quick(&target.url("/")), |server| server.dispatch(dispatch));
    let photo = |id: i64| {
        let text = update(1, id);
        text.replace("\"text\"", "\"media_group_id\":\"9\",\"text\"")
    };
    bench.deliver(&[photo(1), photo(2), photo(3)]);
    bench.wait_handled(3);
    assert_eq!(target.ids(), [1, 2, 2, 3]);
    assert_eq!(bench.status().delivered, 3);
    bench.stop();
}

#[test]
fn wrong_settings_are_refused_in_one_line() {
    let (_server, updates) = ringhook::Server::builder().updates(1);
    let settings = ForwardSettings::new("http://127.0.0.1:1/".parse().unwrap()).connections(0);
    let error = ringhook_outputs::forward::Forward::start(updates, settings).unwrap_err();
    assert_eq!(error.to_string(), "forward: connections: expected 1 to 65536");
}

/// Lets the process have as many descriptors as it may: two for each connection.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}
