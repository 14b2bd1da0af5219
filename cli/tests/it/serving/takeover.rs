//! One server after another on the same port: sockets that the process is started with, and
//! SO_REUSEPORT.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::ClientConfig;

use crate::{
    binary::process::{self, Process},
    support::{
        PATH, PATIENCE, SECRET, client,
        client::Client,
        external,
        pki::Pki,
        port::Port,
        raw::{self, Raw},
        request, update, wait_until,
    },
};

/// Writes a config and gives what `ringhook` is to be called with for a server of that name.
fn arguments(pki: &Pki, name: &str, listen: &str, config: &str) -> Vec<String> {
    let bot = format!("[[bot]]\nname='test'\npath='{PATH}'\nsecret_token='{SECRET}'\n");
    fs::write(pki.dir().join(format!("{name}.toml")), format!("{config}\n{bot}")).unwrap();
    let mut args: Vec<_> = format!(
        "serve --listen {listen} --config {name}.toml --cert cert.pem --key key.pem \
         --data-dir {name} --output ndjson:{name}.updates --report {name}.report"
    )
    .split_whitespace()
    .map(str::to_owned)
    .collect();
    if let Ok(driver) = std::env::var("RINGHOOK_TEST_DRIVER") {
        args.extend(["--driver".to_owned(), driver]);
    }
    args
}

/// Each update that the server of that name has put out, and how often.
fn written(pki: &Pki, name: &str) -> BTreeMap<i64, usize> {
    let text = fs::read_to_string(pki.dir().join(format!("{name}.updates"))).unwrap_or_default();
    let mut ids = BTreeMap::new();
    // The last one may be on its way.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let update: serde_json::Value = serde_json::from_str(line).unwrap();
        *ids.entry(update["update_id"].as_i64().unwrap()).or_default() += 1;
    }
    ids
}

// Sockets that are passed

/// `ringhook` with `args`, started as systemd does: with `sockets` from descriptor 3 on, by
/// `names`.
fn activated(pki: &Pki, sockets: &[&TcpListener], names: &str, args: &[String]) -> Command {
    // LISTEN_PID is known in the new process only.
    let mut command = Command::new("sh");
    command.current_dir(pki.dir()).stdin(Stdio::null());
    command.args(["-c", r#"LISTEN_PID=$$ exec "$0" "$@""#, env!("CARGO_BIN_EXE_ringhook")]);
    command.args(args);
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    let fds: Vec<_> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
    let pass = move || {
        // First out of the way of each other, then to their places.
        let mut moved = [0; 8];
        for (to, fd) in moved.iter_mut().zip(&fds) {
            // SAFETY: fcntl with two integers.
            *to = unsafe { libc::fcntl(*fd, libc::F_DUPFD, 100) };
        }
        for (to, from) in (3..).zip(&moved[..fds.len()]) {
            // SAFETY: dup2 and close take integers; the descriptors belong to this new process.
            let outcome = unsafe { libc::dup2(*from, to) };
            if outcome < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: as above.
            unsafe { libc::close(*from) };
        }
        Ok(())
    };
    // SAFETY: `pass` allocates nothing and takes no lock.
    unsafe { command.pre_exec(pass) };
    command
}

#[test]
fn a_passed_socket_is_used_by_name_by_number_and_by_address() {
    let pki = Pki::ecdsa();
    let config = client::config(&pki, rustls::ALL_VERSIONS);
    let [first, second, third] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = |socket: &TcpListener| socket.local_addr().unwrap();
    let extra =
        format!("[[listener]]\naddress='{}'\n[[listener]]\naddress='fd:2'\n", addr(&second));
    let args = arguments(&pki, "a", "fd:https", &extra);
    let command = activated(&pki, &[&first, &second, &third], "https:x:", &args);
    let process = Process::start(command);
    assert_eq!(process.addr, addr(&first));
    for (id, socket) in (1..).zip([&first, &second, &third]) {
        let mut client = Client::connect_with(addr(socket), config.clone());
        assert_eq!(client.post(&update(id)).status, 200);
    }
    // Nothing of it is for children of ours.
    let environment = fs::read(format!("/proc/{}/environ", process.child.id())).unwrap();
    assert!(!environment.is_empty());
    for fd in 3..6 {
        let info = format!("/proc/{}/fdinfo/{fd}", process.child.id());
        let info = fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        assert!(flags & libc::O_CLOEXEC != 0, "descriptor {fd} survives exec");
    }
    let ended = process.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
    assert_eq!(written(&pki, "a").len(), 3);
}

#[test]
fn who_connects_to_a_passed_socket_between_two_servers_is_served_by_the_next() {
    let pki = Pki::ecdsa();
    let config = client::config(&pki, rustls::ALL_VERSIONS);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let args = arguments(&pki, "a", "fd:0", "");
    let first = Process::start(activated(&pki, &[&socket], "", &args));
    assert_eq!(Client::connect_with(addr, config.clone()).post(&update(1)).status, 200);
    let ended = first.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
    let waiting: Vec<_> = (2..12)
        .map(|id| {
            let config = config.clone();
            let socket = TcpStream::connect(addr).expect("the socket still listens");
            thread::spawn(move || {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                raw::tls(socket, config).post(&update(id)).status
            })
        })
        .collect();
    let second = Process::start(activated(&pki, &[&socket], "", &args));
    for thread in waiting {
        assert_eq!(thread.join().unwrap(), 200);
    }
    assert_eq!(second.terminate().status.code(), Some(0));
    assert_eq!(written(&pki, "a").len(), 11);
}

#[test]
fn a_socket_that_was_not_passed_is_told_and_one_that_is_not_used_too() {
    let pki = Pki::ecdsa();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let args = arguments(&pki, "a", "fd:http", "");
    let output = activated(&pki, &[&socket], "https", &args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on fd:http: no such socket was passed"), "{said}");
    assert!(said.contains("fd:0 (\"https\", 127.0.0.1:"), "{said}");
    // Variables that are meant for another process.
    let mut command = process::ringhook(pki.dir());
    command.args(arguments(&pki, "a", "fd:0", ""));
    let output = command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("(LISTEN_FDS; there: none)"), "{said}");

    let args = arguments(&pki, "a", "127.0.0.1:0", "");
    let process = Process::start(activated(&pki, &[&socket], "https", &args));
    let notice = |line: &String| line.contains("no listener uses: fd:0 (\"https\"");
    assert!(process.stderr().iter().any(notice), "{:?}", process.stderr());
}

#[test]
fn systemd_passes_a_socket() {
    let name = "systemd-socket-activate";
    let Some(mut command) = external::program(name) else { return };
    let pki = Pki::ecdsa();
    let port = Port::reserve();
    let addr = port.addr;
    drop(port);
    command.current_dir(pki.dir()).stdin(Stdio::null());
    command.args(["--listen", &addr.to_string(), "--fdname", "https"]);
    command.arg(env!("CARGO_BIN_EXE_ringhook")).args(arguments(&pki, "a", "fd:https", ""));
    let running = external::Running::start(&mut command);
    // It starts the server for the first connection, which then is the server's.
    let mut socket = None;
    wait_until("it listens", || {
        socket = TcpStream::connect(addr).ok();
        socket.is_some()
    });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = client::config(&pki, rustls::ALL_VERSIONS);
    assert_eq!(raw::tls(socket, config).post(&update(1)).status, 200, "{}", running.so_far());
    running.wait_for("ready https://");
}

// The same port at the same time

/// What clients have met.
#[derive(Default)]
struct Met {
    /// Updates that were answered 200.
    acknowledged: Vec<i64>,
    /// Connections that were reset or refused before a byte of TLS came.
    unlucky: usize,
    /// Requests on which a connection ended without an answer. Telegram sends these again.
    unanswered: usize,
    /// Connections that were used.
    connections: usize,
}

/// Posts updates until `stop`, each over a new connection or over one for as long as it lasts. The
/// first request goes with the end of the handshake, as Telegram's does.
fn load(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
    keep_alive: bool,
    ids: &AtomicI64,
    stop: &AtomicBool,
) -> Met {
    let mut met = Met::default();
    while !stop.load(Ordering::Relaxed) {
        let Ok(socket) = TcpStream::connect(addr) else {
            met.unlucky += 1;
            // A sender that comes again.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = raw::tls(socket, config.clone());
        let mut is_first = true;
        loop {
            let id = ids.fetch_add(1, Ordering::Relaxed);
            let is_new = is_first;
            match exchange(&mut client, &mut is_first, id) {
                Some(directive) => {
                    met.acknowledged.push(id);
                    if directive == "close" || !keep_alive || stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                None if is_first => {
                    met.unlucky += 1;
                    break;
                }
                // An idle connection may be closed at any time.
                None if !is_new => break,
                None => {
                    met.unanswered += 1;
                    break;
                }
            }
        }
        met.connections += 1;
    }
    met
}

/// Posts one update: what the answer says of the connection. `is_first` is taken back as soon as
/// the server has said anything.
fn exchange(
    client: &mut Raw<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>,
    is_first: &mut bool,
    id: i64,
) -> Option<String> {
    use io::Write as _;
    let sent = client.stream.write_all(&request(&update(id)));
    *is_first &= client.stream.conn.is_handshaking();
    sent.and_then(|()| client.stream.flush()).ok()?;
    *is_first = false;
    let response = client.try_response().ok()??;
    assert_eq!(response.status, 200);
    Some(response.headers.get("connection").cloned().unwrap_or_default())
}

#[test]
fn a_second_server_takes_the_port_over_while_the_first_drains() {
    let pki = Pki::ecdsa();
    let port = Port::reserve();
    let addr = port.addr;
    let start = |name: &str| {
        let mut command = process::ringhook(pki.dir());
        command.args(arguments(&pki, name, &addr.to_string(), "")).arg("--reuse-port");
        Process::start(command)
    };
    let first = start("a");
    let config = client::config(&pki, rustls::ALL_VERSIONS);
    let (ids, stop) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..8)
        .map(|index| {
            let (config, ids, stop) = (config.clone(), Arc::clone(&ids), Arc::clone(&stop));
            thread::spawn(move || load(addr, &config, index % 2 == 0, &ids, &stop))
        })
        .collect();
    wait_until("the first one has taken some", || written(&pki, "a").len() > 100);
    // In flight when the first one is told to stop: half of it has been read for certain.
    let mut half = Client::connect_with(addr, config.clone());
    let (whole, second_half) = (request(&update(-1)), request(&update(-2)));
    let cut = second_half.len() / 2;
    half.send(&[&whole[..], &second_half[..cut]].concat());
    assert_eq!(half.response().status, 200);
    let second = start("b");
    wait_until("the second one has taken some", || written(&pki, "b").len() > 20);
    first.signal("TERM");
    wait_until("the first one stops", || {
        first.stderr().iter().any(|line| line.starts_with("SIGTERM: stopping"))
    });
    half.send(&second_half[cut..]);
    assert_eq!(half.response().status, 200);
    half.assert_clean_end();
    drop(half);
    let ended = first.wait();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
    let by_then = written(&pki, "b").len();
    wait_until("the second one has taken more", || written(&pki, "b").len() > by_then + 100);
    stop.store(true, Ordering::Relaxed);
    let met: Vec<Met> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let ended = second.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
    let sum = |pick: fn(&Met) -> usize| met.iter().map(pick).sum::<usize>();
    eprintln!(
        "{} connections, {} unlucky, {} unanswered",
        sum(|met| met.connections),
        sum(|met| met.unlucky),
        sum(|met| met.unanswered)
    );
    assert_eq!(sum(|met| met.unanswered), 0);
    // Those whose handshake of TCP ends in the moment of the close are reset by the kernel.
    assert!(sum(|met| met.unlucky) <= 2, "{} were reset", sum(|met| met.unlucky));
    let (a, b) = (written(&pki, "a"), written(&pki, "b"));
    assert_eq!((a.get(&-1), a.get(&-2)), (Some(&1), Some(&1)));
    for id in met.iter().flat_map(|met| &met.acknowledged) {
        let times = a.get(id).unwrap_or(&0) + b.get(id).unwrap_or(&0);
        assert_eq!(times, 1, "update {id}");
    }
}

/// How many sockets listen at `addr`.
fn listening_at(addr: SocketAddr) -> usize {
    let port = format!(":{:04X}", addr.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[1].ends_with(&port) && row[3] == "0A").count()
}

#[test]
fn a_second_server_waits_for_the_journal_of_the_first() {
    let pki = Pki::ecdsa();
    let port = Port::reserve();
    let addr = port.addr;
    let command = || {
        let mut command = process::ringhook(pki.dir());
        command.args(arguments(&pki, "a", &addr.to_string(), "")).arg("--reuse-port");
        command
    };
    let first = Process::start(command());
    let output = command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to another process"), "{said}");
    let config = client::config(&pki, rustls::ALL_VERSIONS);
    let (ids, stop) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..8)
        .map(|index| {
            let (config, ids, stop) = (config.clone(), Arc::clone(&ids), Arc::clone(&stop));
            thread::spawn(move || load(addr, &config, index % 2 == 0, &ids, &stop))
        })
        .collect();
    wait_until("the first one has taken some", || written(&pki, "a").len() > 100);
    let mut waiting = command();
    waiting.args(["--wait-for-lock", "60s"]);
    let second = thread::spawn(move || Process::start(waiting));
    wait_until("the second one listens", || listening_at(addr) == 2);
    assert!(!second.is_finished());
    let ended = first.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
    let second = second.join().unwrap();
    assert!(second.stderr().iter().any(|line| line.contains("waiting")), "{:?}", second.stderr());
    let by_then = written(&pki, "a").len();
    wait_until("the second one takes some", || written(&pki, "a").len() > by_then + 100);
    stop.store(true, Ordering::Relaxed);
    let met: Vec<Met> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(second.terminate().status.code(), Some(0));
    let sum = |pick: fn(&Met) -> usize| met.iter().map(pick).sum::<usize>();
    eprintln!("{} connections, {} unlucky", sum(|met| met.connections), sum(|met| met.unlucky));
    assert_eq!(sum(|met| met.unanswered), 0);
    assert!(sum(|met| met.unlucky) <= 2, "{} were reset", sum(|met| met.unlucky));
    let written = written(&pki, "a");
    for id in met.iter().flat_map(|met| &met.acknowledged) {
        assert_eq!(written.get(id), Some(&1), "update {id}");
    }
}

#[test]
fn a_port_is_shared_only_where_both_allow_it() {
    let pki = Pki::ecdsa();
    let mut command = process::ringhook(pki.dir());
    command.args(arguments(&pki, "a", "127.0.0.1:0", ""));
    let first = Process::start(command);
    let mut command = process::ringhook(pki.dir());
    command.args(arguments(&pki, "b", &first.addr.to_string(), "")).arg("--reuse-port");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("without reuse_port"), "{said}");
}

#[test]
fn a_unix_socket_is_taken_over() {
    let pki = Pki::ecdsa();
    let extra = "[[listener]]\naddress = 'unix:hook.sock'\ntls = false\n";
    let start = |name: &str| {
        let mut command = process::ringhook(pki.dir());
        command.args(arguments(&pki, name, "127.0.0.1:0", extra)).arg("--reuse-port");
        Process::start(command)
    };
    let path = pki.dir().join("hook.sock");
    let post = |path: &Path, id| {
        let socket = std::os::unix::net::UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw::new(socket).post(&update(id)).status
    };
    let first = start("a");
    assert_eq!(post(&path, 1), 200);
    let second = start("b");
    assert_eq!(post(&path, 2), 200);
    assert_eq!(first.terminate().status.code(), Some(0));
    assert_eq!(post(&path, 3), 200);
    assert_eq!(second.terminate().status.code(), Some(0));
    assert!(!path.exists());
    let ids = |name: &str| written(&pki, name).into_keys().collect::<Vec<_>>();
    assert_eq!((ids("a"), ids("b")), (vec![1], vec![2, 3]));
}
