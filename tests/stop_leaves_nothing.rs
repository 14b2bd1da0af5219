//! After a stop nothing of a server is left in its process: no thread, no descriptor, no memory.
//!
//! By itself, so that it has a process of its own: what is counted is the process's.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "support/allocator.rs"]
mod allocator;
mod support;

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::RawFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use allocator::bytes_in_use;
use ringhook::{
    Ack, Bot, Config, DriverChoice, Journal, ListenAddress, Listener, NdjsonSink, Outcome, Output,
    OutputRouter, OutputSet, Server, TlsConfig, Update,
};
use support::{PATH, PATIENCE, SECRET, client::Client, pki::Pki, update, wait_until};

const CYCLES: usize = 50;
/// Cycles before the first count: allocators and lazily made tables have what they need by then.
const WARM_UP: usize = 10;
/// The most memory that a cycle may leave behind on average. monoio leaks 24 bytes for each of its
/// loops, and keeps the way to each thread in every one that has woken it.
const MEMORY_EACH: isize = 4 * 1024;
const DRAIN: Duration = Duration::from_secs(20);

fn count(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

fn descriptors() -> Vec<String> {
    let name = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        format!("{} -> {}", entry.file_name().display(), target.display())
    };
    fs::read_dir("/proc/self/fd").unwrap().map(|entry| name(entry.unwrap())).collect()
}

/// A server with all that has a thread, a descriptor or a timer.
fn start(driver: DriverChoice, pki: &Pki) -> Server {
    let mut config = Config::default();
    config.driver = driver;
    config.shards = Some(2);
    config.workers = Some(2);
    config.drain_timeout = DRAIN;
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let mut plain = Listener::new(ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()));
    plain.tls = false;
    config.listeners = vec![plain];
    config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
    config.journal = Journal::at(pki.dir().join("journal"), Ack::Written);
    config.journal.segment_bytes = 1024 * 1024;
    config.bots = vec![Bot::new("test", PATH, SECRET).unwrap()];
    Server::builder()
        .config(config)
        .tls(TlsConfig::from_pem_files(&pki.cert_file(), &pki.key_file()).unwrap())
        .watch_certificates(true)
        .handler(|_: &Update| Outcome::Done)
        .start()
        .unwrap()
}

fn readyz(addr: SocketAddr) -> String {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = [0; 64];
    let length = socket.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// One server's life; the time that its stop takes.
fn live(driver: DriverChoice, pki: &Pki, id: i64) -> Duration {
    let server = start(driver, pki);
    let [tls, plain] = server.local_addrs() else { panic!("two listeners") };
    let mut client = Client::connect(*tls, pki);
    assert_eq!(client.post(&update(id)).status, 200);
    let mut bare = TcpStream::connect(plain).unwrap();
    bare.write_all(b"POST / HTTP/1.1\r\n").unwrap();
    assert!(readyz(server.admin_addr().unwrap()).starts_with("HTTP/1.1 200"));
    drop((client, bare));
    let began_at = Instant::now();
    let report = server.stop();
    assert_eq!((report.updates_handled, report.updates_abandoned), (1, 0));
    began_at.elapsed()
}

#[test]
fn fifty_lives_leave_no_thread_no_descriptor_and_no_memory() {
    for driver in support::drivers() {
        let pki = Pki::ecdsa();
        let mut before = None;
        for cycle in 0..WARM_UP + CYCLES {
            if cycle == WARM_UP {
                before = Some((descriptors(), count("/proc/self/task"), bytes_in_use()));
            }
            let took = live(driver, &pki, cycle as i64);
            assert!(took < DRAIN, "{driver}: stop {cycle} took {took:?}");
        }
        let (files, threads, memory) = before.unwrap();
        let left = descriptors();
        assert_eq!(left.len(), files.len(), "{driver}: {files:#?} became {left:#?}");
        assert_eq!(count("/proc/self/task"), threads, "{driver}");
        let grown = bytes_in_use() - memory;
        eprintln!("{driver}: {grown} bytes more after {CYCLES} lives");
        assert!(grown < CYCLES as isize * MEMORY_EACH, "{driver}: {grown} bytes");
    }
    a_child_that_holds_all_descriptors_does_not_hold_up_a_stop();
    outputs_that_are_taken_out_leave_no_thread_and_no_descriptor();
}

/// Leads everything to one output.
struct ToFirst;

impl OutputRouter for ToFirst {
    fn outputs(&self, _: &Update) -> OutputSet {
        OutputSet::only(0)
    }
}

fn outputs_that_are_taken_out_leave_no_thread_and_no_descriptor() {
    let pki = Pki::ecdsa();
    let mut config = Config::default();
    config.journal = Journal::at(pki.dir().join("journal"), Ack::Written);
    let server = Server::builder()
        .config(config)
        .without_listeners()
        .bot(Bot::new("test", PATH, SECRET).unwrap())
        .router(Arc::new(ToFirst))
        .output(Output::handler("first", |_: &Update| Outcome::Done))
        .start()
        .unwrap();
    assert_eq!(server.deliver("test", &[update(1)]), Ok(1));
    wait_until("it is handled", || server.report().updates_handled == 1);
    let before = (descriptors().len(), count("/proc/self/task"));
    for cycle in 0..3 {
        let (stream, updates) = Output::stream("stream", 8);
        let file = NdjsonSink::file(&pki.dir().join("lines")).unwrap();
        let added = vec![
            stream.workers(1),
            Output::sink("lines", file).workers(2),
            Output::handler("handler", |_: &Update| Outcome::Done).workers(3),
        ];
        server.prepare_outputs(added).unwrap().apply();
        let with = (descriptors().len(), count("/proc/self/task"));
        assert!(with.0 > before.0 && with.1 == before.1 + 6, "{before:?}, then {with:?}");
        for name in ["stream", "lines", "handler"] {
            assert!(server.retire_output(name));
        }
        wait_until("they have ended", || server.outputs().count() == 1);
        wait_until(&format!("nothing is left of them, {cycle}"), || {
            (descriptors().len(), count("/proc/self/task")) == before
        });
        drop(updates);
    }
    assert!(server.is_healthy());
    server.stop();
}

/// A child between fork and exec has copies of all descriptors, whatever their flags.
fn a_child_that_holds_all_descriptors_does_not_hold_up_a_stop() {
    for driver in support::drivers() {
        let pki = Pki::ecdsa();
        let server = start(driver, &pki);
        // SAFETY: the child calls nothing but pause(2), which is safe after a fork.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            loop {
                // SAFETY: it takes no argument, and returns when a signal has come.
                unsafe { libc::pause() };
            }
        }
        let child = Child(child);
        let addrs = server.local_addrs().to_vec();
        let began_at = Instant::now();
        let stopped = thread::spawn(move || server.stop());
        wait_until("the stop returns although the child lives", || stopped.is_finished());
        assert!(began_at.elapsed() < DRAIN.min(PATIENCE), "{driver}: {:?}", began_at.elapsed());
        stopped.join().unwrap();
        for addr in addrs {
            let error = TcpStream::connect(addr).expect_err("the child does not listen");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            TcpListener::bind(addr).expect("the port can be had again");
        }
        drop(child);
    }
}

/// A child process, killed when the test lets go of it.
struct Child(RawFd);

impl Drop for Child {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.0).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
}
