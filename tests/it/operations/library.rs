//! The server as a library: its shortest use, several in one process, and errors by kind.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
};

use ringhook::{Bot, Config, ErrorKind, Limits, Outcome, Server, ServerBuilder, TlsConfig, Update};

use crate::support::{
    self, Handled, SECRET, TestServer,
    client::{self, Client},
    pki::Pki,
    update,
};

/// The built example; cargo puts examples beside the directory of the test executables.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

/// An update's request to `path` with `token`.
fn request(path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nX-Telegram-Bot-Api-Secret-Token: {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn ten_lines_receive_an_update() {
    receives_an_update("ten_lines");
}

#[test]
fn a_bot_in_tokio_receives_an_update() {
    receives_an_update("tokio_bot");
}

/// Runs an example that prints its URL, what it gets and, after a line of input, a report.
#[track_caller]
fn receives_an_update(name: &str) {
    let program = example(name);
    assert!(program.exists(), "{}: `cargo build --examples` makes it", program.display());
    let pki = Pki::ecdsa();
    let mut child = Command::new(program)
        .args([pki.cert_file(), pki.key_file()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line
    };
    let url = line();
    let addr = url.trim().strip_prefix("listening on https://").unwrap();
    let addr = addr.strip_suffix("/webhook").unwrap().parse().unwrap();
    let mut client = Client::connect(addr, &pki);
    client.send(&request("/webhook", "wrong", &update(6)));
    assert_eq!(client.response().status, 403);
    client.send(&request("/webhook", "secret", &update(7)));
    assert_eq!(client.response().status, 200);
    assert_eq!(line(), "update 7 is a message\n");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut report = String::new();
    stdout.read_to_string(&mut report).unwrap();
    assert!(report.contains("1 received, 1 acknowledged, 1 handled"), "{report}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn two_servers_in_one_process_do_not_mix() {
    for driver in support::drivers() {
        let servers = ["one", "two"].map(|name| {
            let (pki, handled) = (Pki::ecdsa(), Handled::default());
            let keep = handled.clone();
            let handle = Server::builder()
                .listen("127.0.0.1:0".parse().unwrap())
                .driver(driver)
                .tls(TlsConfig::from_pem(pki.cert.as_bytes(), pki.key.as_bytes()).unwrap())
                .bot(Bot::new(name, &format!("/{name}"), &format!("token-{name}")).unwrap())
                .handler(move |update: &Update| {
                    keep.push(update);
                    Outcome::Done
                })
                .start()
                .unwrap();
            TestServer { handle, pki, handled }
        });
        let mut clients = servers.each_ref().map(TestServer::connect);
        for (index, path, token, status) in [
            (0, "/one", "token-one", 200),
            (0, "/one", "token-two", 403),
            (0, "/two", "token-two", 404),
            (1, "/two", "token-two", 200),
            (1, "/two", "token-one", 403),
            (1, "/one", "token-one", 404),
        ] {
            let client: &mut Client = &mut clients[index];
            client.send(&request(path, token, &update(if path == "/one" { 1 } else { 2 })));
            assert_eq!(client.response().status, status, "{path} {token}");
        }
        let trusts_one = client::config(&servers[0].pki, rustls::ALL_VERSIONS);
        let addr = servers[1].handle.local_addr().unwrap();
        assert!(Client::try_connect(addr, trusts_one).is_err(), "each shows its own certificate");
        let [first, second] = servers;
        let (report, handled) = first.stop();
        assert_eq!((report.updates_handled, handled.ids()), (1, vec![1]));
        // The other one goes on.
        clients[1].send(&request("/two", "token-two", &update(3)));
        assert_eq!(clients[1].response().status, 200);
        let (report, handled) = second.stop();
        assert_eq!(report.updates_handled, 2);
        let mut ids = handled.ids();
        ids.sort_unstable();
        assert_eq!(ids, [2, 3]);
    }
}

#[test]
fn bots_of_one_server_are_told_apart() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = std::sync::Arc::clone(&seen);
    let server = TestServer::with(|server| {
        server.workers(1).bot(Bot::new("second", "/second", "other-token").unwrap()).handler(
            move |update: &Update| {
                keep.lock().unwrap().push((update.bot().index(), update.id().get()));
                Outcome::Done
            },
        )
    });
    let mut client = server.connect();
    for (path, token, id, status) in [
        (support::PATH, SECRET, 1, 200),
        ("/second", "other-token", 2, 200),
        ("/second", SECRET, 3, 403),
        (support::PATH, "other-token", 4, 403),
    ] {
        client.send(&request(path, token, &update(id)));
        assert_eq!(client.response().status, status);
    }
    server.handle.stop();
    assert_eq!(*seen.lock().unwrap(), [(0, 1), (1, 2)]);
}

/// The kind and the text of the error with which a server, otherwise sound, does not start.
#[track_caller]
fn refusal(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (ErrorKind, String) {
    let error = TestServer::try_with(change).err().expect("it must not start");
    let text = error.to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    (error.kind(), text)
}

#[test]
fn errors_of_a_start_have_kinds_and_name_what_is_wrong() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let (kind, text) = refusal(|server| server.listen(addr));
    assert_eq!(kind, ErrorKind::Bind);
    assert!(text.contains(&addr.to_string()) && text.contains("another program"), "{text}");

    let (kind, text) = refusal(|server| server.listen("192.0.2.1:443".parse().unwrap()));
    assert_eq!(kind, ErrorKind::Bind);
    assert!(text.contains("192.0.2.1:443") && text.contains("no interface"), "{text}");

    let mut limits = Limits::default();
    limits.head_bytes = 1;
    let (kind, text) = refusal(|server| server.limits(limits));
    assert_eq!((kind, text.starts_with("limits.head_bytes = 1: ")), (ErrorKind::Config, true));
    let (kind, text) = refusal(|server| server.shards(0));
    assert_eq!((kind, text.starts_with("server.shards = 0: ")), (ErrorKind::Config, true));
    let (kind, text) = refusal(|server| server.bot(Bot::new("b", support::PATH, "t").unwrap()));
    assert_eq!((kind, text.starts_with("bot.path = /webhook: ")), (ErrorKind::Config, true));
    let (kind, text) = refusal(|server| server.config(Config::default()));
    assert_eq!((kind, text.starts_with("bot = (none): ")), (ErrorKind::Config, true));

    let pki = Pki::ecdsa();
    let builder = || {
        let bot = Bot::new("test", "/webhook", SECRET).unwrap();
        Server::builder().listen("127.0.0.1:0".parse().unwrap()).bot(bot)
    };
    let tls = || TlsConfig::from_pem(pki.cert.as_bytes(), pki.key.as_bytes()).unwrap();
    for (server, missing) in [
        (builder().tls(tls()), "handler = (none): expected a handler or a sink"),
        (builder().handler(|_: &Update| Outcome::Done), "tls = (none): expected a certificate"),
    ] {
        let error = server.start().expect_err("something is missing");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with(missing), "{error}");
    }
    let error = TlsConfig::from_pem(b"", b"").expect_err("nothing in it");
    assert_eq!(error.kind(), ErrorKind::Certificate);
    let error = ringhook::NdjsonSink::file(pki.dir()).expect_err("a directory");
    assert_eq!(error.kind(), ErrorKind::Sink);
    for token in ["", "two words"] {
        let error = Bot::new("b", "/b", token).expect_err("no token that Telegram takes");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[test]
fn a_program_makes_errors_of_its_own() {
    struct Closed;
    impl ringhook::Sink for Closed {
        fn writer(&self) -> Result<Box<dyn ringhook::SinkWriter>, ringhook::Error> {
            Err(ringhook::Error::other("the queue is not there"))
        }
    }
    let refused =
        |change: fn(ServerBuilder) -> ServerBuilder| TestServer::try_with(change).err().unwrap();
    let error = refused(|server| server.sink(Closed));
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Other, "the queue is not there"));
    let error =
        refused(|server| server.on_bound(|| Ok(std::fs::read("/nowhere/at/all").map(drop)?)));
    assert_eq!((error.kind(), error.is_usage()), (ErrorKind::Other, false));
    assert_eq!(error.io().unwrap().kind(), std::io::ErrorKind::NotFound);
}

/// A server that takes its drain timeout to stop, since its handler never returns; in a runtime
/// whose one thread must not wait for that.
fn stopped_in_tokio<F: Future<Output = ()>>(stop: impl FnOnce(Server) -> F) {
    let entered = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = std::sync::Arc::clone(&entered);
    let server = TestServer::with(|server| {
        server.workers(1).drain_timeout(std::time::Duration::from_secs(5)).handler(
            move |_: &Update| {
                told.store(true, std::sync::atomic::Ordering::Relaxed);
                loop {
                    std::thread::park();
                }
            },
        )
    });
    let mut client = server.connect();
    assert_eq!(client.post(&update(1)).status, 200);
    support::wait_until("the handler hangs", || entered.load(std::sync::atomic::Ordering::Relaxed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let began_at = std::time::Instant::now();
        let (ticks, mut stop) = (std::cell::Cell::new(0), std::pin::pin!(stop(server.handle)));
        let ticking = async {
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                ticks.set(ticks.get() + 1);
            }
        };
        tokio::select! {
            () = &mut stop => {}
            () = ticking => {}
        }
        // It ends within that time only where nothing waits for it.
        let waits = began_at.elapsed() >= std::time::Duration::from_secs(5);
        assert!(!waits || ticks.get() > 50, "{} ticks", ticks.get());
    });
    client.assert_clean_end();
}

#[test]
fn a_stop_in_async_code_holds_up_no_other_task() {
    stopped_in_tokio(|handle| async {
        let report = handle.stop_async().await;
        assert_eq!((report.updates_acknowledged, report.updates_abandoned), (1, 1));
    });
}

#[test]
fn a_server_dropped_in_tokio_stops_and_holds_up_no_thread() {
    stopped_in_tokio(|handle| async { drop(handle) });
}

#[test]
fn a_stop_goes_on_where_no_task_awaits_it() {
    let server = TestServer::start();
    let addr = server.handle.local_addr().unwrap();
    drop(server.handle.stop_async());
    support::wait_until("nothing listens", || std::net::TcpStream::connect(addr).is_err());
}
