//! Behind a TCP balancer: the PROXY protocol names the client behind it, and only the balancer is
//! believed.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use ringhook::{
    AllowList, Bot, Limits, Listener, Report,
    report::{Forbidden, TurnedAway},
};

use crate::support::{
    self, PATIENCE, SECRET, TestServer, client,
    client::Client,
    external,
    raw::{self, Raw},
    request, request_to, update, wait_until,
};

/// Two addresses of Telegram's, and one of another client.
const TELEGRAM: &str = "149.154.160.7";
const TELEGRAM_TOO: &str = "91.108.4.9";
const OTHER: &str = "192.0.2.1";

/// A header of version 1 for a client at `source`.
fn v1(source: &str) -> Vec<u8> {
    let source: IpAddr = source.parse().unwrap();
    let (family, to) = if source.is_ipv4() { ("TCP4", "192.0.2.9") } else { ("TCP6", "::9") };
    format!("PROXY {family} {source} {to} 5000 443\r\n").into_bytes()
}

/// A header of version 2 for a client at `source`, with an addition as balancers make.
fn v2(source: &str) -> Vec<u8> {
    let (family, addresses) = match source.parse().unwrap() {
        IpAddr::V4(ip) => (0x11, [ip.octets(), [192, 0, 2, 9]].concat()),
        IpAddr::V6(ip) => (0x21, [ip.octets(), [0; 16]].concat()),
    };
    let rest = [&addresses[..], &[0x13, 0x88, 1, 0xbb], &[0x04, 0, 2, 0, 0]].concat();
    v2_of(0x21, family, &rest)
}

fn v2_of(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

/// A listener for balancers on `balancers`, for the clients on `allow`.
fn balanced(balancers: &[&str], allow: Option<&[&str]>) -> Listener {
    let mut listener = Listener::new("127.0.0.1:0".parse().unwrap());
    listener.proxy_protocol = Some(AllowList::new(balancers).unwrap());
    listener.allow = allow.map(|list| AllowList::new(list).unwrap());
    listener
}

/// A server for each driver with one such listener beside the main one.
fn on_each_server(listener: &Listener, limits: Limits, test: impl Fn(TestServer, SocketAddr)) {
    for driver in support::drivers() {
        eprintln!("driver {driver}");
        let server = TestServer::with(|server| {
            server.driver(driver).limits(limits).listener(listener.clone())
        });
        let addr = server.handle.local_addrs()[1];
        test(server, addr);
    }
}

/// A connection on which `bytes` were sent.
fn connect(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    socket
}

/// A TLS connection behind a header.
fn secure(server: &TestServer, addr: SocketAddr, header: &[u8]) -> Client {
    let session = raw::session(client::config(&server.pki, rustls::ALL_VERSIONS));
    Client::over(session, connect(addr, header))
}

/// Asserts that the server closes without a byte, in whichever way.
#[track_caller]
fn assert_closed(mut socket: TcpStream) {
    match socket.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("no end: {other:?}"),
    }
}

/// Every connection that was accepted was turned away or has ended for a reason.
#[track_caller]
fn assert_all_counted(report: &Report) {
    let ended: u64 = report.connections_closed.values().sum();
    assert_eq!(report.connections_accepted, report.connections_refused + ended, "{report}");
}

#[test]
fn headers_of_both_versions_are_read_and_tls_begins_behind_them() {
    let listener = balanced(&["127.0.0.1"], Some(&["telegram", "2001:67c:4e8::/48"]));
    on_each_server(&listener, Limits::default(), |server, addr| {
        let sources = [TELEGRAM, TELEGRAM_TOO, "2001:67c:4e8::1", "::ffff:149.154.160.7"];
        let headers: Vec<_> = sources.iter().flat_map(|it| [v1(it), v2(it)]).collect();
        let mut id = 0;
        for header in &headers {
            let mut client = secure(&server, addr, header);
            for _ in 0..2 {
                id += 1;
                assert_eq!(client.post(&update(id)).status, 200);
            }
            // With the ClientHello in one segment, and cut in two at each byte of the header.
            let config = client::config(&server.pki, rustls::ALL_VERSIONS);
            let mut session = raw::session(config.clone());
            let together = [&header[..], &raw::flight(&mut session)].concat();
            id += 1;
            let mut client = Client::over(session, connect(addr, &together));
            assert_eq!(client.post(&update(id)).status, 200);
            let mut session = raw::session(config);
            let mut socket = connect(addr, b"");
            for byte in [&header[..], &raw::flight(&mut session)].concat() {
                socket.write_all(&[byte]).unwrap();
            }
            id += 1;
            assert_eq!(Client::over(session, socket).post(&update(id)).status, 200);
        }
        // The main listener is as it was.
        assert_eq!(server.connect().post(&update(1000)).status, 200);
        let (report, handled) = server.stop();
        assert_eq!((handled.len(), report.connections_refused), (4 * 8 + 1, 0), "{report}");
        assert_eq!(report.handshakes_failed, 0);
    });
}

#[test]
fn a_plain_listener_reads_the_request_that_comes_with_the_header() {
    let mut listener = balanced(&["127.0.0.0/8"], None);
    listener.tls = false;
    on_each_server(&listener, Limits::default(), |server, addr| {
        let bytes = [v2(TELEGRAM), request(&update(1)), request(&update(2))].concat();
        let mut client = Raw::new(connect(addr, &bytes));
        assert_eq!([client.response().status, client.response().status], [200, 200]);
        let mut client = Raw::new(connect(addr, &[&v1(OTHER)[..], b"POST /web"].concat()));
        client.send(&request(&update(3))[9..]);
        assert_eq!(client.response().status, 200);
        assert_eq!(server.stop().1.len(), 3);
    });
}

#[test]
fn a_header_is_read_at_every_cut() {
    let mut listener = balanced(&["127.0.0.1"], Some(&["telegram"]));
    listener.tls = false;
    on_each_server(&listener, Limits::default(), |server, addr| {
        let mut expected = 0;
        for header in [v1(TELEGRAM), v2(TELEGRAM)] {
            // All at once, so that the pauses between the parts are one pause.
            let mut sockets: Vec<_> =
                (1..header.len()).map(|cut| connect(addr, &header[..cut])).collect();
            thread::sleep(Duration::from_millis(50));
            for (cut, socket) in (1..).zip(&mut sockets) {
                let rest = [&header[cut..], &request(&update(expected))].concat();
                socket.write_all(&rest).unwrap();
                expected += 1;
            }
            for socket in sockets {
                assert_eq!(Raw::new(socket).response().status, 200);
            }
        }
        assert_eq!(server.stop().1.len(), usize::try_from(expected).unwrap());
    });
}

#[test]
fn the_lists_apply_to_who_is_behind_the_balancer() {
    let listener = balanced(&["127.0.0.1"], Some(&["telegram"]));
    on_each_server(&listener, Limits::default(), |server, addr| {
        assert_eq!(secure(&server, addr, &v2(TELEGRAM)).post(&update(1)).status, 200);
        for header in [v1(OTHER), v2(OTHER), v1("127.0.0.1"), v2("::1")] {
            assert_closed(connect(addr, &header));
        }
        // A health check is the balancer itself, which is not on the list either.
        let local = v2_of(0x20, 0, b"");
        for header in [&local[..], b"PROXY UNKNOWN\r\n", &v2_of(0x21, 0, b"")] {
            assert_closed(connect(addr, header));
        }
        let (report, _) = server.stop();
        assert_eq!(report.connections_refused_by, BTreeMap::from([(TurnedAway::Address, 7)]));
        assert_all_counted(&report);
    });
}

#[test]
fn a_bots_list_applies_to_who_is_behind_the_balancer() {
    for driver in support::drivers() {
        let server = TestServer::with(|server| {
            let mut bot = Bot::new("guarded", "/guarded", SECRET).unwrap();
            bot.allow = Some(AllowList::new(["telegram"]).unwrap());
            server.driver(driver).bot(bot).listener(balanced(&["127.0.0.1"], None))
        });
        let addr = server.handle.local_addrs()[1];
        for (source, status) in [(TELEGRAM, 200), (OTHER, 403)] {
            let mut client = secure(&server, addr, &v2(source));
            let request = request_to("/guarded", SECRET, &update(1));
            let request = String::from_utf8(request).unwrap();
            let forged = format!("\r\nX-Forwarded-For: {TELEGRAM}\r\n");
            client.send(request.replacen("\r\n", &forged, 1).as_bytes());
            assert_eq!(client.response().status, status);
            assert_eq!(client.post(&update(2)).status, 200, "the other bot has no list");
        }
        let (report, _) = server.stop();
        assert_eq!(report.requests_forbidden_by, BTreeMap::from([(Forbidden::Address, 1)]));
    }
}

#[test]
fn seats_are_those_of_who_is_behind_the_balancer() {
    let listener = balanced(&["127.0.0.1"], None);
    let mut limits = Limits::default();
    limits.connections_per_address = 2;
    on_each_server(&listener, limits, |server, addr| {
        let mut held: Vec<_> = [v1(TELEGRAM), v2(TELEGRAM), v2(TELEGRAM_TOO)]
            .iter()
            .map(|header| secure(&server, addr, header))
            .collect();
        for (id, client) in (0..).zip(&mut held) {
            assert_eq!(client.post(&update(id)).status, 200);
        }
        assert_closed(connect(addr, &v2(TELEGRAM)));
        // The balancer itself needs none.
        let local = v2_of(0x20, 0, b"");
        let mut checks: Vec<_> = (0..5).map(|_| secure(&server, addr, &local)).collect();
        for (id, client) in (10..).zip(&mut checks) {
            assert_eq!(client.post(&update(id)).status, 200);
        }
        let report = server.handle.report();
        assert_eq!(report.connections_refused_by, BTreeMap::from([(TurnedAway::PerAddress, 1)]));
        // A permit is released with its connection's end.
        held.remove(0);
        let mut again = None;
        wait_until("there is a permit", || {
            let config = client::config(&server.pki, rustls::ALL_VERSIONS);
            let mut session = raw::session(config);
            let mut socket = connect(addr, &v2(TELEGRAM));
            let is_there = session.complete_io(&mut socket).is_ok();
            again = is_there.then(|| Client::over(session, socket));
            is_there
        });
        assert_eq!(again.unwrap().post(&update(20)).status, 200);
        drop((held, checks));
        assert_all_counted(&server.stop().0);
    });
}

#[test]
fn who_sends_no_header_is_closed_and_counted() {
    let listener = balanced(&["127.0.0.1"], None);
    let mut limits = Limits::default();
    limits.handshake_timeout = Duration::from_millis(800);
    on_each_server(&listener, limits, |server, addr| {
        let mut session = raw::session(client::config(&server.pki, rustls::ALL_VERSIONS));
        let hello = raw::flight(&mut session);
        let bad_version = v2_of(0x31, 0x11, &[0; 12]);
        let too_long = v2_of(0x21, 0x11, &[0; 5000]);
        let endless = [b'a'; 200];
        let endless = [&b"PROXY UNKNOWN "[..], &endless].concat();
        for bytes in [&hello[..], b"GET / HTTP/1.1\r\n\r\n", &bad_version, &too_long, &endless] {
            assert_closed(connect(addr, bytes));
        }
        assert_eq!(
            server.handle.report().connections_refused_by,
            BTreeMap::from([(TurnedAway::ProxyMalformed, 5)])
        );
        // Silent, slow, and gone in the middle.
        let silent = connect(addr, b"");
        let slow = connect(addr, b"PROXY TCP4 ");
        let gone = connect(addr, &v2(TELEGRAM)[..20]);
        gone.shutdown(Shutdown::Write).unwrap();
        for socket in [silent, slow, gone] {
            assert_closed(socket);
        }
        let (report, _) = server.stop();
        let expected =
            BTreeMap::from([(TurnedAway::ProxyMalformed, 5), (TurnedAway::ProxyMissing, 3)]);
        assert_eq!(report.connections_refused_by, expected);
        assert_all_counted(&report);
    });
}

#[test]
fn who_is_no_balancer_is_turned_away_before_a_byte() {
    let listener = balanced(&["10.0.0.0/8"], None);
    on_each_server(&listener, Limits::default(), |server, addr| {
        let mut peer = connect(addr, b"");
        assert_eq!(peer.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let (report, _) = server.stop();
        assert_eq!(report.connections_refused_by, BTreeMap::from([(TurnedAway::Address, 1)]));
    });
}

#[test]
fn elsewhere_a_header_is_no_tls() {
    on_each_server(&balanced(&["127.0.0.1"], None), Limits::default(), |server, _| {
        let mut peer = connect(server.handle.local_addr().unwrap(), &v2(TELEGRAM));
        let mut alert = [0; 1];
        peer.read_exact(&mut alert).unwrap();
        assert_eq!(alert[0], 21, "a TLS alert");
        assert_eq!(server.stop().0.handshakes_failed, 1);
    });
}

#[test]
fn haproxy_in_front_passes_on_who_the_client_is() {
    for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,ssl"] {
        let Some(mut haproxy) = external::program("haproxy") else { return };
        let listener = balanced(&["127.0.0.1"], Some(&["127.0.0.3"]));
        let server = TestServer::with(|server| server.listener(listener));
        let front = support::port::Port::reserve();
        let port = front.addr.port();
        // haproxy binds it itself.
        drop(front);
        let config = format!(
            "defaults\n mode tcp\n timeout connect 20s\n timeout client 60s\n timeout server 60s\n\
             frontend f\n bind 127.0.0.1:{port}\n default_backend b\n\
             backend b\n server s {} {send}\n",
            server.handle.local_addrs()[1]
        );
        let file = server.pki.dir().join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let _haproxy = external::Running::start(haproxy.arg("-db").arg("-f").arg(&file));
        let front = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until("haproxy listens", || TcpStream::connect(front).is_ok());
        let connect_from = |from: [u8; 4]| {
            let socket = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            )
            .unwrap();
            rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
            rustix::net::connect(&socket, &front).unwrap();
            let socket = TcpStream::from(socket);
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let config = client::config(&server.pki, rustls::ALL_VERSIONS);
        let mut client = Client::over(raw::session(config.clone()), connect_from([127, 0, 0, 3]));
        assert_eq!(client.post(&update(1)).status, 200, "{send}");
        assert_eq!(client.post(&update(2)).status, 200, "{send}");
        let mut other = connect_from([127, 0, 0, 4]);
        let outcome = raw::session(config).complete_io(&mut other);
        assert!(outcome.is_err(), "{send}: another client was let in");
        drop(client);
        let (report, handled) = server.stop();
        assert_eq!(handled.ids(), [1, 2], "{send}");
        // The checks whether haproxy listens came from other addresses, too.
        assert!(report.connections_refused_by[&TurnedAway::Address] >= 1, "{report}");
        assert_eq!(report.connections_refused_by.len(), 1, "{report}");
    }
}
