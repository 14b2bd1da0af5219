//! A stderr that takes nothing: a full pipe that is not read, or a terminal that is stopped.
//! Requests are answered, stops are obeyed, and what was dropped is counted and told.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, PipeReader, Read as _, Write as _, pipe},
    net::SocketAddr,
    os::fd::AsRawFd as _,
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
};

use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use crate::{
    binary::process::{ringhook, with_test_driver},
    support::{
        PATH, SECRET,
        bot_api::{FakeBotApi, TOKEN},
        client::{self, Client},
        pki::Pki,
        request, request_to,
        terminal::Terminal,
        update, wait_until,
    },
};

/// A process whose stderr is a pipe that is full and is not read any more.
pub(super) struct Blocked {
    child: Child,
    /// What it said until it was ready.
    said: String,
    pipe: PipeReader,
}

impl Blocked {
    pub(super) fn start(mut command: Command) -> Self {
        with_test_driver(&mut command);
        let (mut pipe, writer) = pipe().unwrap();
        let child = command.stderr(writer.try_clone().unwrap()).spawn().unwrap();
        drop(command);
        let mut said = Vec::new();
        let is_ready = |said: &[u8]| {
            let text = String::from_utf8_lossy(said);
            text.contains("\nready ") && text.ends_with('\n')
        };
        while !is_ready(&said) {
            let mut chunk = [0; 4096];
            let n = pipe.read(&mut chunk).unwrap();
            said.extend_from_slice(&chunk[..n]);
            // It has our copy of the writing end, so only its last word tells that it has ended.
            assert!(!said.starts_with(b"ringhook: "), "{}", String::from_utf8_lossy(&said));
        }
        // Of its own, since this flag belongs to an opening and not to a descriptor.
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let full = open(path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let mut full = File::from(full);
        let mut filling = b"\n".repeat(4096);
        while !filling.is_empty() {
            match full.write(&filling) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    filling.truncate(filling.len() / 2);
                }
                Err(error) => panic!("{error}"),
            }
        }
        Self { child, said: String::from_utf8(said).unwrap(), pipe }
    }

    fn addr(&self) -> SocketAddr {
        let line = self.said.lines().find_map(|line| line.strip_prefix("ready https://"));
        line.unwrap().split('/').next().unwrap().parse().unwrap()
    }

    /// Makes it readable again, until its end.
    pub(super) fn read_on(&self) {
        let mut pipe = self.pipe.try_clone().unwrap();
        thread::spawn(move || io::copy(&mut pipe, &mut io::sink()));
    }

    /// Makes it readable again.
    fn read_all(&mut self) -> String {
        let mut text = String::new();
        self.pipe.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends SIGTERM; how it ended, which takes bounded time.
    pub(super) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut status = None;
        wait_until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ringhook serve` with one shard, a report, and `args`.
fn serve(pki: &Pki, args: &[&str]) -> Command {
    let config = format!("[[bot]]\nname = 'test'\npath = '{PATH}'\nsecret_token = '{SECRET}'\n");
    fs::write(pki.dir().join("ringhook.toml"), config).unwrap();
    let mut command = ringhook(pki.dir());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml", "--shards", "1"])
        .args(["--cert", "cert.pem", "--key", "key.pem", "--output", "null", "--report", "report"])
        .args(args);
    command
}

fn report(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("report")).unwrap()).unwrap()
}

fn status(addr: SocketAddr, pki: &Pki, request: &[u8]) -> u16 {
    let mut client = Client::connect(addr, pki);
    client.send(request);
    client.response().status
}

#[test]
fn a_server_answers_and_stops_while_stderr_is_full() {
    let pki = Pki::ecdsa();
    let mut server = Blocked::start(serve(&pki, &["--log-level", "debug"]));
    let addr = server.addr();
    for round in 0..3 {
        assert_eq!(status(addr, &pki, &request_to(PATH, "wrong", &update(1))), 403);
        assert_eq!(status(addr, &pki, &request_to("/nowhere", SECRET, &update(1))), 404);
        assert_eq!(status(addr, &pki, b"nonsense\r\n\r\n"), 400);
        // Tables and reloads are told by the main thread, which must still see signals then.
        server.signal(Signal::USR1);
        server.signal(Signal::HUP);
        assert_eq!(status(addr, &pki, &request(&update(round))), 200);
    }
    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(report(pki.dir())["updates_handled"], 3);
}

#[test]
fn a_second_signal_is_obeyed_while_stderr_is_full() {
    let pki = Pki::ecdsa();
    let mut server = Blocked::start(serve(&pki, &["--drain-timeout", "1h"]));
    // A request that never ends keeps the drain going.
    let mut client = Client::connect(server.addr(), &pki);
    let whole = request(&update(1));
    client.send(&whole[..whole.len() - 1]);
    server.signal(Signal::TERM);
    let is_stopping = || Client::try_connect(server.addr(), trusting(&pki)).is_err();
    wait_until("it accepts no more", is_stopping);
    assert_eq!(server.terminate().code(), Some(1));
}

fn trusting(pki: &Pki) -> std::sync::Arc<rustls::ClientConfig> {
    client::trusting(&pki.cert, rustls::ALL_VERSIONS)
}

#[test]
fn a_poller_fetches_and_stops_while_stderr_is_full() {
    let api = FakeBotApi::start();
    let dir = tempfile::tempdir().unwrap();
    let mut command = ringhook(dir.path());
    command.args([
        "poll",
        "--api-root",
        &api.url(),
        "--output",
        "ndjson:out",
        "--report",
        "report",
    ]);
    command.args(["--log-level", "trace"]).env("TELEGRAM_BOT_TOKEN", TOKEN);
    let mut poller = Blocked::start(command);
    let lines = || fs::read_to_string(dir.path().join("out")).unwrap_or_default().lines().count();
    for count in 1..=3 {
        api.push_many(1);
        poller.signal(Signal::USR1);
        wait_until("it is there", || lines() as i64 >= count);
    }
    assert_eq!(poller.terminate().code(), Some(0));
    assert_eq!(report(dir.path())["updates_handled"], 3);
}

/// Copies are told at the debug level, one line each: more than the queue holds.
#[test]
fn what_is_dropped_is_counted_and_told_once_stderr_takes_lines_again() {
    const COPIES: u64 = 3000;
    let pki = Pki::ecdsa();
    let mut server = Blocked::start(serve(&pki, &["--log-level", "debug"]));
    let mut client = Client::connect(server.addr(), &pki);
    for _ in 0..COPIES / 50 {
        client.send(&request(&update(1)).repeat(50));
        (0..50).for_each(|_| assert_eq!(client.response().status, 200));
    }
    drop(client);
    server.signal(Signal::TERM);
    let text = server.read_all();
    let is_told = |line: &&str| line.contains("dropped a copy") && line.contains("update_id=1");
    let told = text.lines().filter(is_told).count() as u64;
    let dropped: u64 = text
        .lines()
        .filter_map(|line| {
            let (before, _) =
                line.split_once(" lines dropped: stderr did not take them in time")?;
            before.rsplit(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    assert!(told > 100 && dropped > 100, "{told} {dropped}");
    assert!(told + dropped >= COPIES - 1, "{told} {dropped}");
    assert!(text.contains(&format!("stderr       {dropped} lines dropped")), "{dropped}: {text}");
    assert_eq!(report(pki.dir())["stderr_lines_dropped"], dropped);
}

#[test]
fn a_stopped_terminal_stops_neither_requests_nor_the_end() {
    let pki = Pki::ecdsa();
    let mut command = serve(&pki, &["--log-level", "debug"]);
    with_test_driver(&mut command);
    let mut terminal = Terminal::start(command);
    terminal.wait_for("\nready https://");
    let shown = terminal.screen();
    let ready = shown.lines().find_map(|line| line.strip_prefix("ready https://")).unwrap();
    let addr: SocketAddr = ready.split('/').next().unwrap().parse().unwrap();
    // Ctrl-S
    terminal.type_in("\x13");
    for round in 0..3 {
        assert_eq!(status(addr, &pki, &request_to(PATH, "wrong", &update(1))), 403);
        assert_eq!(status(addr, &pki, &request(&update(round))), 200);
    }
    terminal.interrupt();
    let (code, _) = terminal.finish();
    assert_eq!(code, 0);
    assert_eq!(report(pki.dir())["updates_handled"], 3);
}
