//! The operator's listener: probes are answered at all times, whatever else waits.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use ringhook::{
    Ack, AllowList, Bot, Error, ErrorKind, Journal, Limits, Outcome, Refused, Server,
    ServerBuilder, Sink, SinkWriter, TlsConfig, Update, report::Step,
};
use serde_json::Value;

use crate::support::{
    self, PATIENCE, TestServer,
    client::Client,
    pki::Pki,
    port::Port,
    probe::{LOCAL, ask, ask_with, ok},
    request_to, update,
    valve::Valve,
    wait_until,
};

/// The incidents that are shown, and how many were dropped.
fn incidents(addr: SocketAddr, query: &str) -> (Vec<Value>, u64) {
    let (status, body) = ask(addr, &format!("/incidents{query}"));
    assert_eq!(status, 200, "{body}");
    let list: Value = serde_json::from_str(&body).unwrap();
    (list["incidents"].as_array().unwrap().clone(), list["dropped"].as_u64().unwrap())
}

fn with_admin(server: ServerBuilder) -> ServerBuilder {
    server.admin(LOCAL.parse().unwrap())
}

fn admin(server: &TestServer) -> SocketAddr {
    server.handle.admin_addr().expect("an address")
}

#[test]
fn each_page_has_its_answer_and_what_is_none_is_told_so() {
    let server = TestServer::with(with_admin);
    let addr = admin(&server);
    assert_eq!(ask(addr, "/healthz"), ok());
    assert_eq!(ask(addr, "/readyz"), ok());
    assert_eq!(ask(addr, "/readyz?verbose"), ok());
    assert_eq!(incidents(addr, ""), (Vec::new(), 0));
    assert_eq!(ask(addr, "/"), (404, "404 Not Found\n".to_owned()));
    assert_eq!(ask(addr, "/webhook").0, 404);
    assert_eq!(ask(addr, "/incidents?limit=x"), (400, "limit: expected a number\n".to_owned()));

    let (line, fields, body) =
        ask_with(addr, b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((&*line, &*body), ("HTTP/1.1 200 OK", ""));
    for field in ["Content-Length: 3", "Connection: close", "Cache-Control: no-store"] {
        assert!(fields.split("\r\n").any(|it| it == field), "{field} in {fields}");
    }
    let date = fields.split("\r\n").find_map(|field| field.strip_prefix("Date: "));
    support::client::assert_recent(date.unwrap());
    let post = b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let (line, fields, _) = ask_with(addr, post).unwrap();
    assert_eq!(line, "HTTP/1.1 405 Method Not Allowed");
    assert!(fields.contains("Allow: GET, HEAD"), "{fields}");
    for (request, status) in [
        (&b"GET /healthz HTTP/1.0\r\n\r\n"[..], "200 OK"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00", "400 Bad Request"),
        (b"FETCH /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "501 Not Implemented"),
    ] {
        let (line, ..) = ask_with(addr, request).unwrap();
        assert_eq!(line, format!("HTTP/1.1 {status}"));
    }
    let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(5000));
    let (line, ..) = ask_with(addr, long.as_bytes()).unwrap();
    assert_eq!(line, "HTTP/1.1 431 Request Header Fields Too Large");
    let (_, handled) = server.stop();
    assert_eq!(handled.len(), 0);
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_public_port_shows_none_of_it() {
    let server = TestServer::with(with_admin);
    let mut client = server.connect();
    for path in ["/healthz", "/readyz", "/incidents"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(request.as_bytes());
        let response = client.response();
        assert_eq!((response.status, response.body.len()), (404, 0), "{path}");
    }
    assert_eq!(TestServer::start().handle.admin_addr(), None, "nor is it there unasked");
}

#[test]
fn an_address_in_use_ends_the_start_and_one_that_others_reach_is_noticed() {
    let server = TestServer::with(|server| server.admin("0.0.0.0:0".parse().unwrap()));
    let notice = |notice: &&String| notice.contains("/incidents shows addresses");
    assert_eq!(server.handle.notices().iter().filter(notice).count(), 1);
    let addr = admin(&server);
    let error = TestServer::try_with(|server| server.admin(addr)).err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::Bind);
    assert!(error.to_string().contains("admin.listen"), "{error}");
    let quiet = TestServer::with(with_admin);
    assert_eq!(quiet.handle.notices().iter().filter(notice).count(), 0);
}

/// Every kind that a test brings about in a moment, with what is known about it.
#[test]
fn what_peers_do_wrong_is_shown_with_address_bot_and_count() {
    let limits = support::timeouts(Duration::from_secs(1));
    let start = SystemTime::now() - Duration::from_secs(1);
    let server = TestServer::with(|server| with_admin(server.limits(limits)));
    let addr = admin(&server);
    let find = |kind: &str| {
        let (all, _) = incidents(addr, "");
        let mut found = all.into_iter().filter(|it| it["kind"] == kind);
        (found.next(), found.count())
    };
    let expect = |kind: &str, bot: Value, detail: &str, count: u64| {
        wait_until(&format!("{kind} is shown"), || {
            find(kind).0.is_some_and(|it| it["count"].as_u64() >= Some(count))
        });
        let (found, others) = find(kind);
        let found = found.unwrap();
        assert_eq!(others, 0, "{kind} is one entry");
        assert_eq!(
            (&found["address"], &found["bot"], &found["detail"], &found["count"]),
            (&Value::from("127.0.0.1"), &bot, &Value::from(detail), &Value::from(count)),
            "{kind}"
        );
        for time in ["time", "since"] {
            let time = humantime::parse_rfc3339(found[time].as_str().unwrap()).unwrap();
            assert!(start < time && time <= SystemTime::now(), "{kind}");
        }
    };
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(&request_to(support::PATH, "wrong", &update(1)));
        assert_eq!(client.response().status, 403);
    }
    expect("auth_failed", "test".into(), "wrong", 3);
    client.send(b"POST /webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(client.response().status, 403);
    expect("auth_failed", "test".into(), "missing", 4);
    client.send(&request_to("/other", support::SECRET, "{}"));
    assert_eq!(client.response().status, 404);
    expect("unknown_path", Value::Null, "404 Not Found", 1);
    client.send(b"GET /webhook HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 405);
    expect("method_not_allowed", "test".into(), "405 Method Not Allowed", 1);
    assert_eq!(client.post("{\"update_id\":\"marked\"}").status, 400);
    expect("malformed_update", "test".into(), "no_update_id", 1);
    client.send(b"marked\x1b[31m\r\n\r\n");
    assert_eq!(client.response().status, 400);
    expect("malformed_request", Value::Null, "400 Bad Request", 1);
    let mut half = server.connect();
    half.send(b"POST /webhook HTTP/1.1\r\n");
    assert_eq!(half.response().status, 408);
    expect("request_timeout", Value::Null, "head_timeout", 1);
    let silent = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
    expect("handshake_timeout", Value::Null, "handshake_timeout", 1);
    drop(silent);
    let mut bare = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
    bare.write_all(b"GET /marked HTTP/1.1\r\n\r\n").unwrap();
    expect("handshake_failed", Value::Null, "no TLS", 1);

    let (all, dropped) = incidents(addr, "");
    assert_eq!((all.len(), dropped), (8, 0));
    let times: Vec<_> = all.iter().map(|it| it["time"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    assert_eq!(incidents(addr, "?limit=3").0, all[..3]);
    assert_eq!(incidents(addr, "?a=b&limit=0").0.len(), 0);
    assert!(!serde_json::to_string(&all).unwrap().contains("marked"), "a peer's bytes");
    // Nothing that is right is an incident.
    let mut good = server.connect();
    assert_eq!(good.post(&update(7)).status, 200);
    good.finish();
    good.assert_closed();
    assert_eq!(incidents(addr, "").0, all);
}

#[test]
fn who_is_turned_away_at_the_door_is_shown_too() {
    let mut limits = Limits::default();
    limits.connections_per_address = 1;
    let server = TestServer::with(|server| with_admin(server.limits(limits)));
    let addr = admin(&server);
    let _first = server.connect();
    let second = Client::try_connect(
        server.handle.local_addr().unwrap(),
        support::client::config(&server.pki, rustls::ALL_VERSIONS),
    );
    assert!(second.is_err());
    wait_until("it is shown", || !incidents(addr, "").0.is_empty());
    let found = &incidents(addr, "").0[0];
    assert_eq!((&found["kind"], &found["address"]), (&"address_limit".into(), &"127.0.0.1".into()));

    let list = AllowList::new(["192.0.2.1"]).unwrap();
    let server = TestServer::with(|server| with_admin(server.allow(list)));
    let addr = admin(&server);
    for _ in 0..5 {
        let mut socket = TcpStream::connect(server.handle.local_addr().unwrap()).unwrap();
        assert!(socket.read(&mut [0; 1]).is_err());
    }
    wait_until("all are shown", || {
        incidents(addr, "").0.first().is_some_and(|it| it["count"] == 5)
    });
    assert_eq!(incidents(addr, "").0[0]["kind"], "address_refused");
}

#[test]
fn probes_are_answered_while_the_journal_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = || Journal::at(dir.path().join("journal"), Ack::Written);
    let server = TestServer::with(|server| {
        let later = |_: &Update| Outcome::Retry(Duration::from_secs(3600));
        let at_once = Duration::from_millis(100);
        server.journal(journal()).handler(later).drain_timeout(at_once)
    });
    // More than is read before progress is told for the first time.
    let mut client = server.connect();
    for id in 0..20 {
        assert_eq!(client.post(&support::long(id, id, 600_000)).status, 200);
    }
    drop(client);
    server.stop();

    let port = Port::reserve();
    let addr = port.addr;
    let (valve, is_reading) = (Valve::default(), Arc::new(AtomicBool::new(false)));
    let pki = Pki::ecdsa();
    let handled = support::Handled::default();
    let start = {
        let (valve, is_reading, handled) =
            (valve.clone(), Arc::clone(&is_reading), handled.clone());
        let tls = TlsConfig::from_pem(pki.cert.as_bytes(), pki.key.as_bytes()).unwrap();
        let server = Server::builder()
            .listen(LOCAL.parse().unwrap())
            .tls(tls)
            .bot(Bot::new("test", support::PATH, support::SECRET).unwrap())
            .journal(journal())
            .admin(addr)
            .on_recovery(move |_| {
                is_reading.store(true, Ordering::Relaxed);
                valve.pass();
            })
            .handler(move |update: &Update| {
                handled.push(update);
                Outcome::Done
            });
        thread::spawn(move || server.start())
    };
    wait_until("the journal is read", || is_reading.load(Ordering::Relaxed));
    assert_eq!(ask(addr, "/healthz"), ok());
    let (status, why) = ask(addr, "/readyz");
    assert_eq!(status, 503);
    assert!(why.starts_with("starting: ") && why.contains("bytes of the journal read"), "{why}");
    assert_eq!(incidents(addr, "").0.len(), 0);
    valve.open();
    let server = start.join().unwrap().unwrap();
    assert_eq!(ask(addr, "/readyz"), ok());
    wait_until("all are handled", || handled.len() == 20);
    server.stop();
}

#[test]
fn a_start_that_fails_leaves_no_listener() {
    let dir = tempfile::tempdir().unwrap();
    let journal = || Journal::at(dir.path().join("journal"), Ack::Written);
    let _owner = TestServer::with(|server| server.journal(journal()));
    let port = Port::reserve();
    let outcome = TestServer::try_with(|server| server.journal(journal()).admin(port.addr));
    assert_eq!(outcome.err().expect("an error").kind(), ErrorKind::Journal);
    let refused = TcpStream::connect(port.addr).unwrap_err().kind();
    assert_eq!(refused, io::ErrorKind::ConnectionRefused);
}

#[test]
fn probes_are_answered_while_the_server_drains() {
    let valve = Valve::default();
    let server = TestServer::with(|server| {
        let valve = valve.clone();
        with_admin(server.drain_timeout(Duration::from_secs(3600))).handler(move |_: &Update| {
            valve.pass();
            Outcome::Done
        })
    });
    let addr = admin(&server);
    assert_eq!(server.connect().post(&update(1)).status, 200);
    assert_eq!(ask(addr, "/readyz"), ok());
    let stop = thread::spawn(move || server.stop());
    wait_until("it is not ready any more", || ask(addr, "/readyz").0 == 503);
    assert_eq!(ask(addr, "/readyz"), (503, "stopping\n".to_owned()));
    assert_eq!(ask(addr, "/healthz"), ok());
    assert!(!stop.is_finished());
    valve.open();
    let (report, _) = stop.join().unwrap();
    assert_eq!((report.updates_handled, report.updates_abandoned), (1, 0));
}

/// Takes nothing, for the reason it is told.
#[derive(Clone)]
struct Broken(Arc<Mutex<Option<io::ErrorKind>>>);

impl Sink for Broken {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl SinkWriter for Broken {
    fn write(&mut self, _: &Update) {}

    fn pending_bytes(&self) -> usize {
        0
    }

    fn commit(&mut self, _: &mut Refused) -> io::Result<()> {
        self.0.lock().unwrap().map_or(Ok(()), |kind| Err(kind.into()))
    }
}

#[test]
fn a_sink_that_takes_nothing_is_an_obstacle_and_one_that_is_gone_a_failure() {
    let sink = Broken(Arc::new(Mutex::new(Some(io::ErrorKind::StorageFull))));
    let change = sink.clone();
    let server = TestServer::with(|server| {
        with_admin(server.workers(1)).sink(sink).drain_timeout(Duration::from_millis(100))
    });
    let addr = admin(&server);
    assert_eq!(server.connect().post(&update(1)).status, 200);
    wait_until("it is not ready", || ask(addr, "/readyz").0 == 503);
    assert!(ask(addr, "/readyz").1.starts_with("output sink: down since "));
    assert_eq!(ask(addr, "/healthz"), ok(), "it may come back");
    *change.0.lock().unwrap() = None;
    wait_until("it is ready again", || ask(addr, "/readyz") == ok());
    *change.0.lock().unwrap() = Some(io::ErrorKind::BrokenPipe);
    assert_eq!(server.connect().post(&update(2)).status, 200);
    wait_until("it is broken", || ask(addr, "/healthz").0 == 503);
    let (_, why) = ask(addr, "/healthz");
    assert!(why.starts_with("failed: the sink's reader is gone"), "{why}");
    assert!(!server.handle.is_healthy());
}

#[test]
fn with_a_journal_a_sink_that_takes_nothing_keeps_no_update_out() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::at(dir.path().join("journal"), Ack::Written);
    let sink = Broken(Arc::new(Mutex::new(Some(io::ErrorKind::StorageFull))));
    let change = sink.clone();
    let server = TestServer::with(|server| with_admin(server.journal(journal)).sink(sink));
    let addr = admin(&server);
    assert_eq!(server.connect().post(&update(1)).status, 200);
    wait_until("it is degraded", || ask(addr, "/readyz") != ok());
    let (status, said) = ask(addr, "/readyz");
    let (line, why) =
        ("ok\ndegraded: output sink: down since ", "it takes nothing (no storage space)");
    assert!(status == 200 && said.starts_with(line) && said.contains(why), "{said}");
    assert_eq!(server.connect().post(&update(2)).status, 200);
    *change.0.lock().unwrap() = None;
    wait_until("it is not any more", || ask(addr, "/readyz") == ok());
}

#[test]
fn a_journal_that_is_full_is_an_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::at(dir.path().join("journal"), Ack::Written);
    journal.segment_bytes = 1 << 20;
    journal.max_bytes = 4 << 20;
    let valve = Valve::default();
    let server = TestServer::with(|server| {
        let valve = valve.clone();
        with_admin(server.journal(journal)).handler(move |_: &Update| {
            valve.pass();
            Outcome::Done
        })
    });
    let addr = admin(&server);
    let mut client = server.connect();
    let mut id = 0;
    loop {
        id += 1;
        match client.post(&support::long(id, id, 200_000)).status {
            200 => {}
            status => break assert_eq!(status, 503),
        }
    }
    assert_eq!(ask(addr, "/readyz"), (503, "journal: full (journal.max_bytes)\n".to_owned()));
    assert_eq!(ask(addr, "/healthz"), ok());
    valve.open();
    wait_until("there is room again", || ask(addr, "/readyz") == ok());
}

#[test]
fn idle_and_slow_connections_hold_up_no_client() {
    let server = TestServer::with(with_admin);
    let addr = admin(&server);
    let over = Arc::new(AtomicBool::new(false));
    let drips = [(); 4].map(|()| {
        let over = Arc::clone(&over);
        // One that is cut off begins anew, a byte at a time.
        thread::spawn(move || {
            let mut cut_off = 0;
            while !over.load(Ordering::Relaxed) {
                let Ok(mut socket) = TcpStream::connect(addr) else { continue };
                for byte in b"GET /healthz HTTP/1.1\r\nHost: slow\r\nX-Slow: ".iter().cycle() {
                    if over.load(Ordering::Relaxed) || socket.write_all(&[*byte]).is_err() {
                        break;
                    }
                    // The pace is the attack.
                    thread::sleep(Duration::from_millis(10));
                }
                cut_off += 1;
            }
            cut_off
        })
    });
    let idle: Vec<_> = (0..100).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for _ in 0..50 {
        assert_eq!(ask(addr, "/readyz"), ok());
    }
    // All but the last few made room, long before their time was over.
    let is_closed = |mut socket: &TcpStream| {
        socket.set_nonblocking(true).unwrap();
        !matches!(socket.read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    };
    wait_until("the idle ones have made room", || {
        idle.iter().filter(|socket| is_closed(socket)).count() >= 92
    });
    // And in their time all are gone.
    wait_until("the last one is closed", || idle.iter().all(is_closed));
    over.store(true, Ordering::Relaxed);
    for drip in drips {
        assert!(drip.join().unwrap() > 0);
    }
    assert_eq!(ask(addr, "/healthz"), ok());
}

#[test]
fn a_head_in_pieces_is_put_together() {
    let server = TestServer::with(with_admin);
    let mut socket = TcpStream::connect(admin(&server)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for byte in b"\r\nGET /incidents?limit=x HTTP/1.1\r\nHost: [::1]\r\n\r\n" {
        socket.write_all(&[*byte]).unwrap();
    }
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
    assert!(text.ends_with("limit: expected a number\n"), "{text}");
}

/// Does what it is told when updates are committed.
#[derive(Clone)]
struct Acting(Arc<dyn Fn() + Send + Sync>);

impl Sink for Acting {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl SinkWriter for Acting {
    fn write(&mut self, _: &Update) {}

    fn pending_bytes(&self) -> usize {
        0
    }

    fn commit(&mut self, _: &mut Refused) -> io::Result<()> {
        (self.0)();
        Ok(())
    }
}

#[test]
fn a_sink_that_does_not_return_is_named_until_it_does() {
    named_until_it_returns(None);
}

#[test]
fn it_is_named_where_a_journal_keeps_updates_meanwhile_too() {
    let dir = tempfile::tempdir().unwrap();
    named_until_it_returns(Some(Journal::at(dir.path(), Ack::Written)));
}

fn named_until_it_returns(journal: Option<Journal>) {
    let valve = Valve::default();
    let held = valve.clone();
    let sink = Acting(Arc::new(move || held.pass()));
    let server = TestServer::with(|server| {
        let server = with_admin(server.workers(2)).sink(sink);
        match journal {
            Some(journal) => server.journal(journal),
            None => server,
        }
    });
    let addr = admin(&server);
    assert_eq!(server.connect().post(&update(1)).status, 200);
    assert_eq!(ask(addr, "/readyz"), ok(), "it may take a moment");
    wait_until("it is named", || ask(addr, "/readyz").0 == 503);
    let (_, why) = ask(addr, "/readyz");
    assert!(why.starts_with("output: a write has not returned for "), "{why}");
    assert_eq!(ask(addr, "/healthz"), ok(), "it may come back");
    wait_until("it is an incident", || !incidents(addr, "").0.is_empty());
    let (told, _) = incidents(addr, "");
    assert_eq!((&told[0]["kind"], &told[0]["detail"]), (&"hang".into(), &"sink".into()));
    valve.open();
    wait_until("it is ready again", || ask(addr, "/readyz") == ok());
    let (report, _) = server.stop();
    assert_eq!(report.hangs.into_iter().collect::<Vec<_>>(), [(Step::Sink, 1)]);
    assert_eq!(report.updates_handled, 1);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose, in a drop");
    }
}

/// What the server says of its failure where its sink, or what is called for that, panics.
fn said_of_panic(act: impl Fn() + Send + Sync + 'static) -> String {
    let sink = Acting(Arc::new(act));
    let server = TestServer::with(|server| {
        with_admin(server.workers(1))
            .sink(sink)
            .drain_timeout(Duration::from_millis(100))
            .on_failure(|_| panic!("on purpose, in on_failure"))
    });
    let addr = admin(&server);
    assert_eq!(server.connect().post(&update(1)).status, 200);
    wait_until("it is broken", || ask(addr, "/healthz").0 == 503);
    assert!(!server.handle.is_healthy());
    let (_, why) = ask(addr, "/healthz");
    let (report, _) = server.stop();
    assert_eq!((report.updates_handled, report.updates_abandoned), (0, 1));
    why
}

#[test]
fn a_panic_of_the_programs_own_code_is_not_called_a_bug_of_ringhook() {
    let why = said_of_panic(|| panic!("on purpose, in the sink"));
    assert!(why.starts_with("failed: the sink panicked"), "{why}");
    // Nor is one of the drop of what it panicked with.
    let why = said_of_panic(|| std::panic::panic_any(Bomb));
    assert!(why.starts_with("failed: the sink panicked"), "{why}");
}

#[test]
fn a_handler_whose_drop_panics_is_named() {
    let bomb = Bomb;
    let (tell, told) = std::sync::mpsc::channel();
    let server = TestServer::with(|server| {
        server.on_failure(move |error| tell.send(error.to_string()).unwrap()).handler(
            move |_: &Update| {
                let _ = &bomb;
                Outcome::Done
            },
        )
    });
    server.stop();
    assert_eq!(told.recv().unwrap(), "the handler panicked as it was dropped");
}
