//! Programs of other projects, run as clients.

use std::{
    io::{Read, Write as _},
    process::{Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use super::wait_until;

/// `name`, or `None` with the reason printed where this machine lacks it. Where
/// `RINGHOOK_TEST_CLIENTS` lists it, it must be there: so CI cannot pass by skipping.
#[track_caller]
pub(crate) fn program(name: &str) -> Option<Command> {
    let version = match name {
        "haproxy" => "-v",
        "go" | "openssl" => "version",
        "slowhttptest" => "-h",
        _ => "--version",
    };
    let probe = Command::new(name).arg(version).stdin(Stdio::null()).output();
    // slowhttptest fails when it is asked for help, and has no version.
    let runs = |output: Output| output.status.success() || name == "slowhttptest";
    if probe.is_ok_and(runs) {
        return Some(Command::new(name));
    }
    skip(name, "not installed");
    None
}

/// Prints why the tests with `name` are skipped, or fails where `RINGHOOK_TEST_CLIENTS` lists it.
#[track_caller]
pub(crate) fn skip(name: &str, why: &str) {
    let required = std::env::var("RINGHOOK_TEST_CLIENTS").unwrap_or_default();
    assert!(!required.split_whitespace().any(|it| it == name), "{name} is required, and is {why}");
    eprintln!("skipped: {name} is {why}");
}

/// A running client, killed when the test lets go of it.
pub(crate) struct Running {
    child: std::process::Child,
    stdout: Stream,
    stderr: Stream,
}

/// What an ended client said.
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// One of a client's outputs, gathered as it comes.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn new(mut source: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let gathered = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = source.read(&mut chunk) {
                gathered.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        });
        Self { text, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the client runs");
        let stdout = Stream::new(child.stdout.take().unwrap());
        let stderr = Stream::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Writes to its standard input. One that has left already shows in what it said.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("the input is open");
        let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
    }

    /// Both outputs so far.
    pub(crate) fn so_far(&self) -> String {
        self.stdout.so_far() + &self.stderr.so_far()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// True where it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        wait_until(&format!("the client says {text:?}"), || self.so_far().contains(text));
    }

    /// Closes its standard input and waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Said {
        drop(self.child.stdin.take());
        let mut status = None;
        wait_until("the client ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        wait_until("its output ends", || {
            self.stdout.reader.is_finished() && self.stderr.reader.is_finished()
        });
        Said { status: status.unwrap(), stdout: self.stdout.so_far(), stderr: self.stderr.so_far() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end with `input` on its standard input.
#[track_caller]
pub(crate) fn talk(command: &mut Command, input: &[u8]) -> Said {
    let mut running = Running::start(command);
    running.write(input);
    running.finish()
}

/// As [`talk`] without input; panics with all it said where it fails.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> Said {
    let said = talk(command, b"");
    assert!(said.status.success(), "{}: {}\n{}", said.status, said.stdout, said.stderr);
    said
}
