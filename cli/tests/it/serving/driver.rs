//! Which driver the binary gets where io_uring is forbidden, and what it tells the operator.

use std::{io, os::unix::process::CommandExt as _, path::Path, process::Command};

use crate::{
    binary::process::{self, Process},
    support::{self, client::Client, pki::Pki, update},
};

/// Makes `call` fail with `errno` in `command` and all its children, as the seccomp profile of a
/// container does.
fn forbid(command: &mut Command, call: libc::c_long, errno: i32) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        // The number of the system call is the first word that the filter is given.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program =
            libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: both calls only read their arguments, and `program` points at `filter`, which
        // outlives them. They are plain system calls, as allowed between fork and exec.
        let outcome = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
        };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: `install` allocates nothing and takes no lock.
    unsafe { command.pre_exec(install) };
}

fn serve(dir: &Path, driver: &str) -> Command {
    let mut command = process::ringhook(dir);
    let args =
        ["serve", "--listen", "127.0.0.1:0", "--output", "ndjson:updates", "--report", "report"];
    command.args(args).args(["--cert", "cert.pem", "--key", "key.pem", "--driver", driver]);
    command.args(["--config", "ringhook.toml"]);
    let config = format!(
        "[[bot]]\nname = 'test'\npath = '{}'\nsecret_token = '{}'\n",
        support::PATH,
        support::SECRET
    );
    std::fs::write(dir.join("ringhook.toml"), config).unwrap();
    command
}

/// Sends an update through the server, stops it, and gives the `driver` of its report.
fn driver_of(process: Process, pki: &Pki) -> String {
    let mut client = Client::connect(process.addr, pki);
    assert_eq!(client.post(&update(1)).status, 200);
    let ended = process.terminate();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
    let text = std::fs::read(pki.dir().join("report")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(report["updates_handled"], 1);
    report["driver"].as_str().unwrap().to_owned()
}

/// Ways in which a filter forbids rings: as a whole, or one call of the three.
const FORBIDDEN: [(libc::c_long, i32); 4] = [
    (libc::SYS_io_uring_setup, libc::EPERM),
    (libc::SYS_io_uring_setup, libc::ENOSYS),
    (libc::SYS_io_uring_enter, libc::EPERM),
    (libc::SYS_io_uring_enter, libc::ENOSYS),
];

#[test]
fn auto_takes_epoll_where_rings_are_forbidden_and_says_why() {
    for (call, errno) in FORBIDDEN {
        let pki = Pki::ecdsa();
        let mut command = serve(pki.dir(), "auto");
        forbid(&mut command, call, errno);
        let process = Process::start(command);
        let stderr = process.stderr();
        let line = |start: &str| {
            let found = stderr.iter().find(|line| line.trim_start().starts_with(start));
            found.unwrap_or_else(|| panic!("no line {start:?} in {stderr:#?}")).clone()
        };
        assert!(line("driver").contains("epoll"));
        let notice = line("notice");
        for part in ["epoll", "io_uring", "seccomp", "io_uring_setup", "SystemCallFilter"] {
            assert!(notice.contains(part), "{part:?} is not in: {notice}");
        }
        assert_eq!(driver_of(process, &pki), "epoll");
    }
}

#[test]
fn io_uring_or_nothing_means_nothing_where_it_is_forbidden() {
    for (call, errno) in FORBIDDEN {
        let pki = Pki::ecdsa();
        let mut command = serve(pki.dir(), "io-uring");
        forbid(&mut command, call, errno);
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for part in ["ringhook: ", "io_uring", "seccomp", "allow io_uring_setup"] {
            assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
        }
    }
}

#[test]
fn the_driver_that_is_asked_for_is_the_one_that_runs() {
    let pki = Pki::ecdsa();
    let process = Process::start(serve(pki.dir(), "epoll"));
    assert!(process.stderr().iter().all(|line| !line.contains("notice")), "nothing to notice");
    assert_eq!(driver_of(process, &pki), "epoll");
    if !support::drivers().contains(&ringhook::DriverChoice::IoUring) {
        return;
    }
    for choice in ["auto", "io-uring"] {
        // Another directory: the journal of the first would know the update.
        let pki = Pki::ecdsa();
        let process = Process::start(serve(pki.dir(), choice));
        assert_eq!(driver_of(process, &pki), "io_uring");
    }
}

/// Locked memory is counted for unprivileged users on kernels before 5.12, and for the rings'
/// buffers not at all since.
#[test]
fn a_low_limit_on_locked_memory_leaves_a_server_that_runs() {
    let pki = Pki::ecdsa();
    let mut command = serve(pki.dir(), "auto");
    let install = || {
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: setrlimit only reads `limit`; it is a plain system call.
        match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: `install` allocates nothing and takes no lock.
    unsafe { command.pre_exec(install) };
    let process = Process::start(command);
    let notices = process.stderr().iter().filter(|line| line.contains("notice")).count();
    let driver = driver_of(process, &pki);
    // Whichever it got: a fall-back is never silent.
    assert_eq!(notices, usize::from(driver == "epoll"), "{driver}");
}
