//! One life of `ringhook serve`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Lines of the log that are kept.
const KEPT: usize = 400;

/// A running server.
pub(crate) struct Server {
    child: Child,
    admin: SocketAddr,
    tap: Arc<Tap>,
    reader: Option<JoinHandle<()>>,
}

/// The reading end of its stderr, which can be left unread.
#[derive(Default)]
struct Tap {
    is_shut: AtomicBool,
    lines: Mutex<Vec<String>>,
    /// Lines that must not be there.
    bad: Mutex<Vec<String>>,
}

impl Server {
    /// Starts one whose log must not have any of `secrets` in it.
    pub(crate) fn start(mut command: Command, admin: SocketAddr, secrets: &[String]) -> Self {
        let mut child = command
            .args(["--admin", &admin.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = child.stderr.take().unwrap();
        let tap = Arc::new(Tap::default());
        let (shared, secrets) = (Arc::clone(&tap), secrets.to_vec());
        let reader = thread::spawn(move || shared.read(stderr, &secrets));
        Self { child, admin, tap, reader: Some(reader) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        let _ = kill_process(pid, signal);
    }

    /// Its exit code, or the signal that ended it, where it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end; `None` where it does not come in time.
    pub(crate) fn wait(&mut self, time: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if start.elapsed() > time {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether its stderr is left unread.
    pub(crate) fn shut_stderr(&self, is_shut: bool) {
        self.tap.is_shut.store(is_shut, Relaxed);
    }

    /// Lines of its log that must not be there.
    pub(crate) fn bad_lines(&self) -> Vec<String> {
        self.tap.bad.lock().unwrap().clone()
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> Vec<String> {
        self.tap.lines.lock().unwrap().clone()
    }

    /// What `/readyz` says: status, and text.
    pub(crate) fn readyz(&self) -> Result<(u16, String), String> {
        let ask = || {
            let mut socket = TcpStream::connect_timeout(&self.admin, Duration::from_secs(2))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            socket.read_to_string(&mut text).map(|_| text)
        };
        let text = ask().map_err(|error| error.to_string())?;
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        status.map(|status| (status, body.trim().to_owned())).ok_or(text)
    }

    /// Threads and descriptors by sort, and processes that it has started. The journal's segments
    /// are left out, of which there may be more or fewer; but not those that are removed.
    pub(crate) fn census(&self) -> BTreeMap<String, usize> {
        let mut census = BTreeMap::new();
        let mut count = |what: String| *census.entry(what).or_default() += 1;
        let proc = format!("/proc/{}", self.pid());
        for task in fs::read_dir(format!("{proc}/task")).into_iter().flatten().flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            // The kernel's own, which work for a ring and go by themselves.
            if !name.starts_with("iou-") && !name.is_empty() {
                count(format!("thread {}", name.trim()));
            }
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.split_whitespace().for_each(|_| count("child".to_owned()));
        }
        for fd in fs::read_dir(format!("{proc}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(fd.path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            let is_removed = target.ends_with(" (deleted)");
            let is_segment = [".journal", ".settled", ".ids"].iter().any(|it| target.ends_with(it));
            match target.split_once(":[") {
                // What fakes the clock is not the server's.
                _ if target.contains("faketime") => {}
                // Where no letter is written, nothing looks whether the file still has its name.
                _ if target.contains("/dead.") => count("dead letters".to_owned()),
                _ if is_removed => count("removed file".to_owned()),
                _ if is_segment => {}
                Some((sort, _)) => count(sort.to_owned()),
                None => count(target),
            }
        }
        census
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0_usize) / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.tap.is_shut.store(false, Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        // What libfaketime leaves behind of a process that is killed.
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = fs::remove_file(format!("/dev/shm/{name}{}", self.pid()));
        }
    }
}

impl Tap {
    fn read(&self, stderr: ChildStderr, secrets: &[String]) {
        let stderr = OwnedFd::from(stderr);
        // So that few lines fill it.
        let _ = rustix::pipe::fcntl_setpipe_size(&stderr, 4096);
        let mut lines = BufReader::with_capacity(512, fs::File::from(stderr)).split(b'\n');
        loop {
            while self.is_shut.load(Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
            let Some(Ok(line)) = lines.next() else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains("panicked") || secrets.iter().any(|secret| line.contains(secret)) {
                self.bad.lock().unwrap().push(line.clone());
            }
            let mut lines = self.lines.lock().unwrap();
            if lines.len() >= KEPT {
                lines.drain(..KEPT / 2);
            }
            lines.push(line);
        }
    }
}
