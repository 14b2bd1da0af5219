//! The `ringhook` binary as a child process.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use crate::support::wait_until;

/// A running `ringhook serve` or `ringhook poll`, killed when the test lets go of it.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// The address of the `ready` line; unspecified where that has none.
    pub(crate) addr: SocketAddr,
    stderr: Arc<Mutex<Vec<String>>>,
    stdout: Option<JoinHandle<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

/// What an ended process left behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: Vec<String>,
}

/// A command for the binary, run in `dir`.
pub(crate) fn ringhook(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringhook"));
    command.current_dir(dir).stdin(Stdio::null());
    // Those of the user who runs the tests are no part of them.
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command
}

/// Runs the binary in `dir` to its end: exit code, stdout, stderr.
pub(crate) fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = ringhook(dir).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Gives `command`, if it is a `ringhook serve`, the driver of `RINGHOOK_TEST_DRIVER` unless it
/// names one.
pub(crate) fn with_test_driver(command: &mut Command) -> &mut Command {
    let has = |word: &str| command.get_args().any(|arg| arg == word);
    let names_one = has("--driver") || !has("serve");
    match std::env::var("RINGHOOK_TEST_DRIVER") {
        Ok(driver) if !names_one => command.args(["--driver", &driver]),
        _ => command,
    }
}

impl Process {
    /// Starts `ringhook serve --listen 127.0.0.1:0` with `args` in `dir` and waits for `ready`.
    pub(crate) fn serve(dir: &Path, args: &[&str]) -> Self {
        let mut command = ringhook(dir);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        Self::start(command)
    }

    pub(crate) fn start(command: Command) -> Self {
        Self::start_with_stdout(command, Stdio::piped())
    }

    /// As [`start`](Self::start); what goes to another `stdout` than a new pipe is not gathered.
    pub(crate) fn start_with_stdout(mut command: Command, stdout: Stdio) -> Self {
        with_test_driver(&mut command);
        let mut child =
            command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("the binary runs");
        // It holds our copy of the other end of a pipe, which would never break then.
        drop(command);
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&stderr);
        let reader = BufReader::new(child.stderr.take().unwrap());
        let stderr_reader = thread::spawn(move || {
            for line in reader.lines() {
                lines.lock().unwrap().push(line.unwrap());
            }
        });
        let stdout = child.stdout.take();
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut stdout) = stdout {
                stdout.read_to_string(&mut text).unwrap();
            }
            text
        });
        let ready = || {
            let lines = stderr.lock().unwrap();
            lines.iter().find_map(|line| line.strip_prefix("ready ").map(str::to_owned))
        };
        wait_until("the server is ready", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("ended instead of serving: {status}: {:?}", stderr.lock().unwrap());
            }
            ready().is_some()
        });
        let ready = ready().unwrap();
        let addr = match ready.strip_prefix("https://") {
            Some(url) => url.split('/').next().unwrap().parse().unwrap(),
            None => SocketAddr::from(([0; 4], 0)),
        };
        Self { child, addr, stderr, stdout: Some(stdout), stderr_reader: Some(stderr_reader) }
    }

    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let stdout = self.stdout.take().unwrap().join().unwrap();
        self.stderr_reader.take().unwrap().join().unwrap();
        Ended { status: status.unwrap(), stdout, stderr: self.stderr() }
    }

    /// Sends SIGKILL, which nothing can prepare for, and waits for the end.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.wait()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(self) -> Ended {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server said: {:#?}", self.stderr());
        }
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
