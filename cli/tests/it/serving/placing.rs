//! Where the threads run: which CPU each is pinned to, what an operator may ask for, and how evenly
//! connections are spread.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use ringhook::CpuList;

use crate::{
    binary::process::{Process, run},
    support::{self, client::Client, update, wait_until},
};

/// The CPUs that this process may use.
fn allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    allowed_in(&status).parse::<CpuList>().unwrap().as_slice().to_vec()
}

fn allowed_in(status: &str) -> &str {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim()
}

/// The CPUs that each thread of `process` may use, by the thread's name.
fn affinities(process: u32) -> BTreeMap<String, String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks
        .filter_map(|task| {
            // One that has ended meanwhile does not count.
            let status = fs::read_to_string(task.unwrap().path().join("status")).ok()?;
            let name = status.lines().find_map(|line| line.strip_prefix("Name:"))?;
            Some((name.trim().to_owned(), allowed_in(&status).to_owned()))
        })
        .collect()
}

/// Waits until `thread` of `process` may use `cpus` and no others: at the time of the `ready` line
/// it may not have come to its own first lines.
#[track_caller]
fn assert_runs_on(process: u32, thread: &str, cpus: &str) {
    wait_until(&format!("{thread} runs on {cpus}"), || {
        affinities(process).get(thread).is_some_and(|on| on == cpus)
    });
}

fn refused(dir: &Path, args: &[&str]) -> String {
    let (code, stdout, stderr) = run(dir, &[&["serve", "--listen", "127.0.0.1:0"], args].concat());
    assert_eq!((code, &*stdout), (2, ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn threads_run_where_they_are_pinned() {
    let cpus = allowed();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let dir = tempfile::tempdir().unwrap();
    // Turned round: the defaults would put the shard on the first one.
    let pin = format!("shards={last},workers={first}");
    let args = ["--pin", &pin, "--output", "null", "--workers", "2", "--report", "report"];
    let server = Process::serve(dir.path(), &args);
    let stderr = server.stderr();
    let greets = |line: String| assert!(stderr.contains(&line), "no {line:?} in {stderr:#?}");
    greets(format!("  shards     1 (CPU {last})"));
    greets(format!("  workers    2 (CPU {first}, {first})"));
    let on = |name: &str, cpus: &str| assert_runs_on(server.child.id(), name, cpus);
    on("ringhook-s0", &last.to_string());
    on("ringhook-w0", &first.to_string());
    on("ringhook-w1", &first.to_string());
    // The others are where the process may be: they have little to do, at any time.
    let all = allowed_in(&fs::read_to_string("/proc/self/status").unwrap()).to_owned();
    on("ringhook-accept", &all);
    assert_eq!(server.terminate().status.code(), Some(0));
    let report = fs::read(dir.path().join("report")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["shard_cpus"], serde_json::json!([last]));
    assert_eq!(report["worker_cpus"], serde_json::json!([first, first]));
}

#[test]
fn a_list_alone_says_how_many_threads_there_are() {
    let cpus = allowed();
    let list = allowed_in(&fs::read_to_string("/proc/self/status").unwrap()).to_owned();
    let dir = tempfile::tempdir().unwrap();
    let config = format!("[server]\npin = {{ shards = '{list}', workers = '{}' }}\n", cpus[0]);
    fs::write(dir.path().join("ringhook.toml"), config).unwrap();
    // A part that the flag does not name stays the file's.
    let flag = format!("workers={list}");
    let args = ["--config", "ringhook.toml", "--output", "null", "--pin", &flag];
    let server = Process::serve(dir.path(), &args);
    for (index, cpu) in cpus.iter().enumerate() {
        assert_runs_on(server.child.id(), &format!("ringhook-s{index}"), &cpu.to_string());
        assert_runs_on(server.child.id(), &format!("ringhook-w{index}"), &cpu.to_string());
    }
    let threads = affinities(server.child.id());
    assert!(!threads.contains_key(&format!("ringhook-s{}", cpus.len())));
    assert!(!threads.contains_key(&format!("ringhook-w{}", cpus.len())));
}

#[test]
fn what_cannot_be_is_refused_by_its_key_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let missing = allowed().last().unwrap() + 1;
    let said = refused(dir.path(), &["--pin", &format!("shards={missing}")]);
    assert!(said.contains(&format!("server.pin.shards = {missing}: expected CPUs of ")), "{said}");
    assert!(said.contains(&format!("CPU {missing} is none of them")), "{said}");
    let said = refused(dir.path(), &["--pin", &format!("workers={missing}")]);
    assert!(said.contains("server.pin.workers = "), "{said}");
    let said = refused(dir.path(), &["--pin", "shards=0-3", "--shards", "2"]);
    let expected = "server.shards = 2: expected 4, one for each CPU of server.pin.shards";
    assert!(said.contains(expected), "{said}");
    let said = refused(dir.path(), &["--pin", "workers=0-3", "--workers", "2"]);
    assert!(said.contains("server.workers = 2: expected 4 or more"), "{said}");
    for (pin, expected) in [
        ("pin = { shards = '3-1' }", "line 2: server.pin.shards: \"3-1\" is no list of CPUs"),
        ("pin = { shards = '0,0' }", "server.pin.shards: \"0,0\" is no list of CPUs"),
        ("pin = { acceptor = '0' }", "unknown field `acceptor`, expected `shards` or `workers`"),
        ("busy_poll = '2ms'", "server.busy_poll = 2ms: expected 1us to 1ms"),
        ("busy_poll = 'often'", "server.busy_poll: \"often\" is no duration"),
    ] {
        fs::write(dir.path().join("ringhook.toml"), format!("[server]\n{pin}\n")).unwrap();
        let said = refused(dir.path(), &["--config", "ringhook.toml"]);
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    // Clap tells these, over several lines.
    for flag in ["0-3", "shards=", "cores=1", "shards=0,shards=1"] {
        let (code, _, stderr) = run(dir.path(), &["serve", "--pin", flag]);
        assert_eq!(code, 2, "{flag}: {stderr}");
        assert!(stderr.contains("--pin") && stderr.contains("shards=0-7,workers=8-15"), "{stderr}");
    }
}

/// `taskset`, a cpuset and a container are the same to the process: CPUs that it may not use.
#[test]
fn a_cpu_outside_of_the_affinity_mask_is_refused() {
    let cpus = allowed();
    let [first, .., last] = cpus[..] else {
        eprintln!("skipped: there is one CPU only");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("taskset")
        .args(["--cpu-list", &first.to_string(), env!("CARGO_BIN_EXE_ringhook"), "serve"])
        .args(["--listen", "127.0.0.1:0", "--pin", &format!("shards={last}")])
        .current_dir(dir.path())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no taskset");
        return;
    };
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let expected = format!("server.pin.shards = {last}: expected CPUs of {first}, ");
    assert!(stderr.contains(&expected) && stderr.lines().count() == 1, "{stderr}");
}

/// A duplicate of the descriptor `fd` of `process`; `None` where it is gone, or that is forbidden.
fn duplicate(process: u32, fd: i32) -> Option<OwnedFd> {
    let checked = |result: libc::c_long| {
        let fd = i32::try_from(result).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the kernel has just made this descriptor for us, and nothing else has it.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: the call takes two integers.
    let pid = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: the call takes three integers.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pid.as_raw_fd(), fd, 0) })
}

/// SO_BUSY_POLL of `socket` in microseconds.
fn busy_poll(socket: &TcpStream) -> i32 {
    let (mut micros, mut length) = (-1, size_of::<i32>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes to `micros`, which has as many.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BUSY_POLL,
            (&raw mut micros).cast(),
            &raw mut length,
        )
    };
    assert_eq!(outcome, 0);
    micros
}

#[test]
fn connections_are_polled_busily_where_that_is_asked_for() {
    for driver in support::drivers() {
        for (config, expected) in [("", 0), ("[server]\nbusy_poll = '70us'\n", 70)] {
            let pki = support::pki::Pki::ecdsa();
            let config = format!(
                "{config}[[bot]]\nname = 'test'\npath = '{}'\nsecret_token = '{}'\n",
                support::PATH,
                support::SECRET
            );
            fs::write(pki.dir().join("ringhook.toml"), config).unwrap();
            let driver = driver.to_string();
            let args = ["--config", "ringhook.toml", "--cert", "cert.pem", "--key", "key.pem"];
            let args = [&args[..], &["--output", "null", "--driver", &driver]].concat();
            let server = Process::serve(pki.dir(), &args);
            let mut client = Client::connect(server.addr, &pki);
            assert_eq!(client.post(&update(1)).status, 200, "{driver}");
            if server.stderr().iter().any(|line| line.contains("no busy polling")) {
                eprintln!("skipped: the kernel refuses");
                continue;
            }
            let us = client.stream.sock.local_addr().unwrap();
            let is_ours = |socket: &TcpStream| socket.peer_addr().ok() == Some(us);
            let fds = fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
            let sockets = fds.filter_map(|fd| {
                let fd = fd.unwrap();
                let is_socket = fs::read_link(fd.path()).ok()?.to_str()?.starts_with("socket:");
                let number = fd.file_name().to_str()?.parse().ok()?;
                is_socket.then(|| duplicate(server.child.id(), number).map(TcpStream::from))?
            });
            let mut sockets: Vec<_> = sockets.collect();
            if sockets.is_empty() {
                eprintln!("skipped: no pidfd_getfd here");
                continue;
            }
            sockets.retain(is_ours);
            assert_eq!(sockets.iter().map(busy_poll).collect::<Vec<_>>(), [expected], "{driver}");
        }
    }
}
