//! Programs of the system that are asked something, and calls that may hang: neither for long.

use std::{
    env,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Most bytes that are read of its output; rulesets with long sets of addresses are some megabytes.
const OUTPUT_BYTES: u64 = 16 << 20;

/// What came of running a program.
#[derive(Debug)]
pub(super) enum Output {
    Ok(String),
    /// Why, in a line.
    Failed(String),
    Missing,
}

/// Runs `name` of the path, or of the directories for programs of root, for `timeout` at the most.
pub(super) fn run(name: &str, args: &[&str], timeout: Duration) -> Output {
    let Some(path) = find(name) else { return Output::Missing };
    let child = Command::new(path)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return Output::Missing,
        Err(error) => return Output::Failed(error.to_string()),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = move || {
        let mut said = Vec::new();
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            stderr.map(|pipe| pipe.take(OUTPUT_BYTES).read_to_end(&mut text));
            text
        });
        stdout.map(|pipe| pipe.take(OUTPUT_BYTES).read_to_end(&mut said));
        (said, errors.join().unwrap_or_default())
    };
    let Some((said, errors)) = within(timeout, read) else {
        let _ = child.kill();
        let _ = child.wait();
        return Output::Failed("no answer in time".to_owned());
    };
    let errors = String::from_utf8_lossy(&errors);
    match child.wait() {
        Ok(status) if status.success() => Output::Ok(String::from_utf8_lossy(&said).into_owned()),
        _ => {
            let line = errors.lines().find(|line| !line.trim().is_empty());
            Output::Failed(line.unwrap_or("it failed").trim().to_owned())
        }
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let of_root = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let candidates = env::split_paths(&path).chain(of_root).map(|dir| dir.join(name));
    candidates.into_iter().find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// What `call` gives; `None` where it has not come back in time. It is left alone then, and ends
/// with the process at the latest.
pub(super) fn within<T: Send + 'static>(
    timeout: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("ringhook-doctor".into());
    thread.spawn(move || sender.send(call())).ok()?;
    receiver.recv_timeout(timeout).ok()
}
