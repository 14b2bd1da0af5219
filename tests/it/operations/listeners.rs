//! Several listeners beside each other, each on its own terms: TLS, plain HTTP, Unix sockets, and
//! who may use which.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ringhook::{
    AllowList, Bot, Limits, ListenAddress, Listener, Outcome, Server, Update,
    report::{CloseReason, Forbidden, TurnedAway},
};

use crate::support::{
    self, PATIENCE, SECRET, TestServer, client, external,
    raw::{self, Raw, tcp, unix},
    request, request_to, timeouts, update,
};

/// A listener without TLS.
fn plain(address: &str) -> Listener {
    let mut listener = Listener::new(address.parse().unwrap());
    listener.tls = false;
    listener
}

/// A server whose only listener is a plain one, for each driver.
fn on_each_plain_server(limits: Limits, test: impl Fn(TestServer, SocketAddr)) {
    for driver in support::drivers() {
        eprintln!("driver {driver}");
        let server = TestServer::with(|server| {
            server.driver(driver).limits(limits).listener(plain("127.0.0.1:0"))
        });
        let addr = server.handle.local_addrs()[1];
        test(server, addr);
    }
}

fn closed(report: &ringhook::Report, reason: CloseReason) -> u64 {
    report.connections_closed.get(&reason).copied().unwrap_or_default()
}

#[test]
fn each_kind_of_listener_takes_updates() {
    for driver in support::drivers() {
        let dir = tempfile::tempdir().unwrap();
        let [bare, secure] = ["bare", "secure"].map(|name| dir.path().join(name));
        let address = |path: &PathBuf| ListenAddress::Unix(path.clone());
        let server = TestServer::with(|server| {
            let mut listener = Listener::new(address(&bare));
            listener.tls = false;
            server
                .driver(driver)
                .listener(plain("127.0.0.1:0"))
                .listener(listener)
                .listener(Listener::new(address(&secure)))
        });
        let addrs = server.handle.local_addrs().to_vec();
        assert_eq!((addrs.len(), addrs[0]), (2, server.handle.local_addr().unwrap()));
        assert!(addrs.iter().all(|addr| addr.port() != 0) && addrs[0] != addrs[1]);
        let listeners: Vec<_> = server.handle.listeners().iter().map(|it| &it.address).collect();
        let tcp_address = |addr: SocketAddr| ListenAddress::Tcp(addr);
        let expected =
            [tcp_address(addrs[0]), tcp_address(addrs[1]), address(&bare), address(&secure)];
        assert_eq!(listeners, expected.iter().collect::<Vec<_>>());

        assert_eq!(server.connect().post(&update(1)).status, 200);
        let config = client::config(&server.pki, rustls::ALL_VERSIONS);
        // Several on a connection, and several connections.
        for ids in [2..5, 5..8] {
            let mut clients: (_, _, _) =
                (tcp(addrs[1]), Raw::new(unix(&bare)), raw::tls(unix(&secure), config.clone()));
            for id in ids {
                assert_eq!(clients.0.post(&update(10 * id)).status, 200);
                assert_eq!(clients.1.post(&update(10 * id + 1)).status, 200);
                assert_eq!(clients.2.post(&update(10 * id + 2)).status, 200);
            }
        }
        // Neither speaks the other's language.
        let mut mistaken = tcp(addrs[0]);
        mistaken.send(&request(&update(99)));
        let mut alert = [0; 7];
        mistaken.stream.read_exact(&mut alert).unwrap();
        assert_eq!(alert[0], 21, "a TLS alert");
        let mut mistaken = tcp(addrs[1]);
        mistaken.send(&raw::flight(&mut raw::session(config)));
        assert_eq!(mistaken.response().status, 400);
        let (report, handled) = server.stop();
        assert_eq!(handled.len(), 19, "{report}");
        assert_eq!((report.handshakes_full, report.handshakes_resumed), (2, 1), "{report}");
        assert_eq!(report.connections_accepted, 9);
    }
}

#[test]
fn only_the_others_are_listened_on_where_there_is_no_main_one() {
    let server = || {
        let bot = Bot::new("test", support::PATH, SECRET).unwrap();
        Server::builder().bot(bot).handler(|_: &Update| Outcome::Done)
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hook.sock");
    let mut listener = Listener::new(ListenAddress::Unix(path.clone()));
    let error = server().listener(listener.clone()).start().unwrap_err();
    assert!(error.is_usage() && error.to_string().starts_with("tls = (none)"), "{error}");
    listener.tls = false;
    // Without TLS there need not be a certificate.
    let handle = server().listener(listener).start().unwrap();
    assert_eq!((handle.local_addrs(), handle.listeners().len()), (&[][..], 1));
    assert_eq!(handle.local_addr(), None);
    assert_eq!(Raw::new(unix(&path)).post(&update(1)).status, 200);
    assert_eq!(handle.stop().updates_handled, 1);
}

// Plain HTTP

#[test]
fn a_plain_connection_is_closed_in_full_and_no_answer_is_lost() {
    on_each_plain_server(Limits::default(), |server, addr| {
        let mut asked = tcp(addr);
        let bytes = request(&update(1));
        let close = String::from_utf8(bytes).unwrap().replace("keep-alive", "close");
        asked.send(close.as_bytes());
        assert_eq!(asked.response().status, 200);
        asked.assert_end();
        // What is still being sent when the answer comes must not make an RST of the end.
        let mut large = tcp(addr);
        let head = "POST /webhook HTTP/1.1\r\nHost: h\r\nContent-Length: 900000000\r\n\r\n";
        large.send(head.as_bytes());
        for _ in 0..100 {
            large.send(&[b'x'; 5000]);
        }
        assert_eq!(large.response().status, 413);
        large.assert_end();
        assert!(large.stream.take_error().unwrap().is_none());
        let mut pipelined = tcp(addr);
        let batch: Vec<u8> = (10..30).flat_map(|id| request(&update(id))).collect();
        pipelined.send(&batch);
        for _ in 10..30 {
            assert_eq!(pipelined.response().status, 200);
        }
        // Byte by byte.
        let mut slow = tcp(addr);
        slow.stream.set_nodelay(true).unwrap();
        for byte in request(&update(31)) {
            slow.send(&[byte]);
        }
        assert_eq!(slow.response().status, 200);
        drop((pipelined, slow));
        let (report, handled) = server.stop();
        assert_eq!((handled.len(), closed(&report, CloseReason::Asked)), (22, 1), "{report}");
        assert_eq!(closed(&report, CloseReason::Protocol), 1, "{report:?}");
        assert_eq!(report.handshakes_failed, 0);
    });
}

#[test]
fn a_plain_connection_has_the_same_deadlines() {
    let mut limits = timeouts(Duration::from_millis(600));
    limits.handshake_timeout = Duration::from_secs(10);
    on_each_plain_server(limits, |server, addr| {
        let mut silent = tcp(addr);
        let mut half = tcp(addr);
        half.send(&request(&update(1))[..50]);
        let mut used = tcp(addr);
        assert_eq!(used.post(&update(2)).status, 200);
        silent.assert_end();
        assert_eq!(half.response().status, 408);
        half.assert_end();
        used.assert_end();
        drop((silent, half, used));
        support::wait_until("all are closed", || {
            server.handle.report().connections_closed.values().sum::<u64>() == 3
        });
        let (report, _) = server.stop();
        assert_eq!(
            (closed(&report, CloseReason::IdleTimeout), closed(&report, CloseReason::HeadTimeout)),
            (2, 1)
        );
    });
}

#[test]
fn a_stop_answers_what_has_begun_on_a_plain_connection() {
    on_each_plain_server(Limits::default(), |server, addr| {
        let mut used = tcp(addr);
        assert_eq!(used.post(&update(1)).status, 200);
        let mut half = tcp(addr);
        let bytes = request(&update(2));
        half.send(&[&request(&update(3))[..], &bytes[..60]].concat());
        assert_eq!(half.response().status, 200);
        let stop = thread::spawn(move || server.stop());
        used.assert_end();
        half.send(&bytes[60..]);
        let response = half.response();
        assert_eq!((response.status, &*response.headers["connection"]), (200, "close"));
        half.assert_end();
        drop((used, half));
        let (report, handled) = stop.join().unwrap();
        assert_eq!((handled.len(), closed(&report, CloseReason::Drained)), (3, 2));
    });
}

#[test]
fn who_has_just_connected_when_a_stop_begins_is_answered() {
    // A machine that stands still for the second that there is decides nothing: then it is tried
    // again.
    let is_undecided = AtomicBool::new(true);
    for _ in 0..10 {
        is_undecided.store(false, Ordering::Relaxed);
        on_each_plain_server(Limits::default(), |server, addr| {
            let mut fresh = tcp(addr);
            support::wait_until("it is accepted", || {
                server.handle.report().connections_accepted == 1
            });
            let began_at = Instant::now();
            let stop = thread::spawn(move || server.stop());
            // The port closes first, so the stop has begun; and then there is a second.
            support::wait_until("the port is closed", || TcpStream::connect(addr).is_err());
            let outcome = fresh.try_post(&update(1));
            if !matches!(outcome, Ok(Some(_))) && began_at.elapsed() > Duration::from_millis(800) {
                is_undecided.store(true, Ordering::Relaxed);
                return;
            }
            let response = outcome.unwrap().expect("an answer");
            assert_eq!(response.status, 200);
            // The shard hears of the stop a moment after the acceptor, and what it answers before
            // does not say that it closes.
            let said = response.headers.get("connection");
            assert!(said.is_none_or(|said| said == "close"), "{said:?}");
            fresh.assert_end();
            drop(fresh);
            assert_eq!(stop.join().unwrap().1.len(), 1);
        });
        if !is_undecided.load(Ordering::Relaxed) {
            return;
        }
    }
    panic!("this machine stood still ten times");
}

// Unix sockets

#[test]
fn a_unix_sockets_file_comes_and_goes_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hook.sock");
    let listener = || {
        let mut listener = Listener::new(ListenAddress::Unix(path.clone()));
        listener.mode = 0o600;
        listener.tls = false;
        listener
    };
    // Left by a server that died.
    drop(UnixListener::bind(&path).unwrap());
    let server = TestServer::with(|server| server.listener(listener()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let started = TestServer::try_with(|server| server.listener(listener()));
    let error = started.err().expect("an error").to_string();
    assert!(error.contains("another program listens there"), "{error}");
    // The failed start took nothing with it.
    let mut client = Raw::new(unix(&path));
    assert_eq!(client.post(&update(1)).status, 200);
    let (report, _) = server.stop();
    assert_eq!(report.updates_handled, 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn curl_posts_over_a_unix_socket() {
    if external::program("curl").is_none() {
        return;
    }
    for driver in support::drivers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        let mut listener = Listener::new(ListenAddress::Unix(path.clone()));
        listener.tls = false;
        let server = TestServer::with(|server| server.driver(driver).listener(listener));
        let mut curl = external::program("curl").unwrap();
        curl.args(["-q", "-sS", "--max-time", "30", "--noproxy", "*", "-w", "%{http_code}"]);
        curl.arg("--unix-socket").arg(&path);
        curl.args(["-H", &format!("X-Telegram-Bot-Api-Secret-Token: {SECRET}")]);
        curl.args(["--data-binary", &update(1), "http://localhost/webhook"]);
        assert_eq!(external::succeed(&mut curl).stdout, "200");
        assert_eq!(server.stop().1.ids(), [1]);
    }
}

// Who may use which

fn list(entries: &[&str]) -> AllowList {
    AllowList::new(entries).unwrap()
}

/// Asserts that the server closes a new connection at once, with an RST.
#[track_caller]
fn assert_turned_away(addr: SocketAddr) {
    let mut peer = TcpStream::connect(addr).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(peer.read(&mut [0; 1]).expect_err("an RST").kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_listeners_list_stands_in_for_the_servers() {
    for driver in support::drivers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        let server = TestServer::with(|server| {
            let mut open = plain("127.0.0.1:0");
            open.allow = Some(list(&["127.0.0.0/8"]));
            let mut unix = Listener::new(ListenAddress::Unix(path.clone()));
            unix.tls = false;
            server.driver(driver).allow(list(&["telegram"])).listener(open).listener(unix)
        });
        let addrs = server.handle.local_addrs().to_vec();
        assert_turned_away(addrs[0]);
        assert_eq!(tcp(addrs[1]).post(&update(1)).status, 200);
        // It has no address, and its file's permissions have let it in.
        assert_eq!(Raw::new(unix(&path)).post(&update(2)).status, 200);
        let (report, _) = server.stop();
        assert_eq!(report.connections_refused_by, BTreeMap::from([(TurnedAway::Address, 1)]));
        assert_eq!(report.updates_handled, 2);
    }
}

#[test]
fn a_bots_list_forbids_requests_from_elsewhere_and_nothing_else() {
    for driver in support::drivers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        let server = TestServer::with(|server| {
            let mut guarded = Bot::new("guarded", "/guarded", SECRET).unwrap();
            guarded.allow = Some(list(&["telegram"]));
            let mut near = Bot::new("near", "/near", SECRET).unwrap();
            near.allow = Some(list(&["127.0.0.1"]));
            let mut unix = Listener::new(ListenAddress::Unix(path.clone()));
            unix.tls = false;
            server.driver(driver).bot(guarded).bot(near).listener(unix)
        });
        let mut client = server.connect();
        for (bot, status) in [("/guarded", 403), ("/near", 200), ("/webhook", 200)] {
            let request = request_to(bot, SECRET, &update(1));
            // Any client can write what a proxy would write there.
            let request = String::from_utf8(request).unwrap().replacen(
                "\r\n",
                "\r\nX-Forwarded-For: 149.154.160.1\r\nForwarded: for=149.154.160.1\r\n",
                1,
            );
            client.send(request.as_bytes());
            assert_eq!(client.response().status, status, "{bot}");
        }
        client.send(&request_to("/near", "wrong", &update(2)));
        assert_eq!(client.response().status, 403);
        let mut local = Raw::new(unix(&path));
        local.send(&request_to("/guarded", SECRET, &update(3)));
        assert_eq!(local.response().status, 200);
        let (report, _) = server.stop();
        let expected = BTreeMap::from([(Forbidden::Address, 1), (Forbidden::Credentials, 1)]);
        assert_eq!(report.requests_forbidden_by, expected);
        assert_eq!(report.requests_rejected, BTreeMap::from([(403, 2)]));
        assert_eq!((report.updates_handled, report.connections_refused), (3, 0));
    }
}

#[test]
fn who_may_send_to_no_bot_is_turned_away_before_tls() {
    for driver in support::drivers() {
        let started = |last: Option<&[&str]>| {
            TestServer::with(|server| {
                let mut config = ringhook::Config::default();
                config.listen = Some("127.0.0.1:0".parse().unwrap());
                config.driver = driver;
                let lists = [Some(&["telegram"][..]), last];
                for (index, entries) in lists.into_iter().enumerate() {
                    let name = format!("bot{index}");
                    let mut bot = Bot::new(&name, &format!("/{name}"), SECRET).unwrap();
                    bot.allow = entries.map(list);
                    config.bots.push(bot);
                }
                server.config(config)
            })
        };
        let server = started(Some(&["10.0.0.0/8"]));
        assert_turned_away(server.handle.local_addr().unwrap());
        let (report, _) = server.stop();
        assert_eq!(report.connections_refused_by, BTreeMap::from([(TurnedAway::Address, 1)]));
        // One of them is installed for this user, or for all.
        for last in [Some(&["127.0.0.1"][..]), None] {
            let server = started(last);
            let mut client = server.connect();
            for (bot, status) in [("/bot0", 403), ("/bot1", 200)] {
                client.send(&request_to(bot, SECRET, &update(1)));
                assert_eq!(client.response().status, status);
            }
        }
    }
}

/// What `/readyz` says.
fn ready(addr: SocketAddr) -> String {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut socket, b"GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn a_unix_socket_whose_file_is_removed_gets_it_again_and_leaves_the_name_to_a_successor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hook.sock");
    let mut listener = Listener::new(ListenAddress::Unix(path.clone()));
    listener.tls = false;
    let start = || {
        let listener = listener.clone();
        TestServer::with(|server| {
            let admin = "127.0.0.1:0".parse().unwrap();
            server.listener(listener).reuse_port(true).admin(admin)
        })
    };
    let server = start();
    let admin = server.handle.admin_addr().unwrap();
    let mut before = Raw::new(unix(&path));
    assert_eq!(before.post(&update(1)).status, 200);
    fs::remove_file(&path).unwrap();
    support::wait_until("it is named", || ready(admin).contains("hook.sock is gone"));
    support::wait_until("it is there again", || path.exists() && ready(admin) == "ok\n");
    assert_eq!(Raw::new(unix(&path)).post(&update(2)).status, 200);
    assert_eq!(before.post(&update(3)).status, 200, "who is connected notices nothing");

    let successor = start();
    support::wait_until("that is named", || {
        ready(admin).contains("hook.sock belongs to another process")
    });
    assert_eq!(ready(successor.handle.admin_addr().unwrap()), "ok\n");
    assert_eq!(Raw::new(unix(&path)).post(&update(4)).status, 200);
    assert_eq!(server.stop().1.ids(), [1, 2, 3]);
    assert_eq!(Raw::new(unix(&path)).post(&update(5)).status, 200, "its file has stayed");
    assert_eq!(successor.stop().1.ids(), [4, 5]);
    assert!(!path.exists());
}
