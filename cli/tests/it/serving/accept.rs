//! Accepting: what the server does with its file descriptors, and what it does without.
//!
//! The server is a process of its own here, since descriptors and their limit belong to a process.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    net::TcpStream,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    binary::process::{self, Process},
    support::{
        self,
        client::{self, Client},
        pki::Pki,
        request, update, wait_until,
    },
};

/// `serve` with the certificate of `pki` on `driver`. Handshakes have a minute, so that silent
/// connections stay for as long as a test needs them.
fn serve(pki: &Pki, driver: &str) -> Command {
    let config = format!(
        "[limits]\nhandshake_timeout = '60s'\n[[bot]]\nname = 'test'\npath = '{}'\n\
         secret_token = '{}'\n",
        support::PATH,
        support::SECRET
    );
    fs::write(pki.dir().join("ringhook.toml"), config).unwrap();
    let mut command = process::ringhook(pki.dir());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"])
        .args(["--cert", "cert.pem", "--key", "key.pem", "--report", "report"])
        .args(["--output", "null", "--driver", driver]);
    command
}

/// The open descriptors of `process` and what they are.
fn descriptors(process: &Process) -> BTreeMap<i32, String> {
    let dir = format!("/proc/{}/fd", process.child.id());
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .filter_map(|entry| {
            // One that was closed meanwhile does not count.
            let target = fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, target.to_str()?.to_owned()))
        })
        .collect()
}

fn report(pki: &Pki) -> serde_json::Value {
    serde_json::from_slice(&fs::read(pki.dir().join("report")).unwrap()).unwrap()
}

#[test]
fn no_descriptor_is_left_behind() {
    for driver in support::drivers() {
        let pki = Pki::ecdsa();
        let process = Process::start(serve(&pki, &driver.to_string()));
        let config = client::config(&pki, rustls::ALL_VERSIONS);
        let connect = || Client::connect_with(process.addr, config.clone());
        // While the first connection is open, the shards have everything else that they need.
        let mut first = connect();
        assert_eq!(first.post(&update(1000)).status, 200);
        let before = descriptors(&process).len() - 1;
        drop(first);
        for id in 0..500 {
            let mut client = connect();
            assert_eq!(client.post(&update(id)).status, 200);
            match id % 5 {
                0 => client.finish(),
                1 => client.send(&request(&update(id))[..40]),
                2 => client.send(b"nonsense\r\n"),
                // Over the unread answer: an RST.
                3 => client.send(&request(&update(id))),
                _ => {}
            }
        }
        for _ in 0..50 {
            let mut socket = TcpStream::connect(process.addr).unwrap();
            let _ = socket.write_all(b"no TLS");
            drop(TcpStream::connect(process.addr).unwrap());
        }
        // Several at once, too.
        let together: Vec<_> = (0..50).map(|_| connect()).collect();
        assert!(descriptors(&process).len() >= before + 50);
        drop(together);
        wait_until("all descriptors are closed", || descriptors(&process).len() == before);
        let ended = process.terminate();
        assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
        let report = report(&pki);
        assert_eq!(report["connections_accepted"], 651);
        let closed = report["connections_closed"].as_object().unwrap();
        assert_eq!(closed.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), 651);
    }
}

/// A duplicate of the descriptor `fd` of `process`.
fn duplicate(process: &Process, fd: i32) -> io::Result<OwnedFd> {
    let checked = |result: libc::c_long| {
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, and nothing else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(result).unwrap()) })
    };
    // SAFETY: the call takes two integers.
    let pid = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, process.child.id(), 0) })?;
    // SAFETY: the call takes three integers.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pid.as_raw_fd(), fd, 0) })
}

#[test]
fn descriptors_stay_in_the_process_and_answers_are_not_held_back() {
    for driver in support::drivers() {
        let pki = Pki::ecdsa();
        let process = Process::start(serve(&pki, &driver.to_string()));
        let mut client = Client::connect(process.addr, &pki);
        assert_eq!(client.post(&update(1)).status, 200);
        let mut connections = 0;
        for (fd, target) in descriptors(&process) {
            // Others may be inherited from the process that runs this test.
            if !target.starts_with("socket:") && !target.starts_with("anon_inode:") {
                continue;
            }
            let path = format!("/proc/{}/fdinfo/{fd}", process.child.id());
            let info = fs::read_to_string(path).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert!(flags & libc::O_CLOEXEC != 0, "{driver}: {target} survives exec");
            if !target.starts_with("socket:") {
                continue;
            }
            let socket = match duplicate(&process, fd) {
                Ok(socket) => TcpStream::from(socket),
                Err(error) => {
                    eprintln!("skipped TCP_NODELAY: no pidfd_getfd here: {error}");
                    connections = 1;
                    continue;
                }
            };
            if socket.peer_addr().ok() == client.stream.sock.local_addr().ok() {
                connections += 1;
                // Otherwise answers wait for the sender's delayed ACK: 40 ms each.
                assert!(socket.nodelay().unwrap(), "{driver}: Nagle's algorithm is on");
            }
        }
        assert_eq!(connections, 1, "{driver}: the connection was not among the descriptors");
    }
}

/// CPU time of `process` so far, in user mode and in the kernel.
fn cpu_time(process: &Process) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.child.id())).unwrap();
    // Behind the name, which may have anything in it, `utime` is the 12th field, `stime` the 13th.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    // SAFETY: sysconf takes an integer.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 1000 / per_second)
}

#[test]
fn out_of_descriptors_the_server_serves_who_is_there_and_then_who_waits() {
    for driver in support::drivers() {
        let pki = Pki::ecdsa();
        let mut command = serve(&pki, &driver.to_string());
        let install = || {
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            // SAFETY: setrlimit only reads `limit`; it is a plain system call.
            match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: `install` allocates nothing and takes no lock.
        unsafe { command.pre_exec(install) };
        let process = Process::start(command);
        let mut there: Vec<_> = (0..5).map(|_| Client::connect(process.addr, &pki)).collect();
        // The kernel connects them, the server cannot accept them all.
        let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(process.addr).unwrap()).collect();
        wait_until("the log says that no descriptor is left", || {
            process.stderr().iter().any(|line| line.contains("LimitNOFILE"))
        });
        let (addr, config) = (process.addr, client::config(&pki, rustls::ALL_VERSIONS));
        let waiting = thread::spawn(move || Client::connect_with(addr, config).post(&update(7)));
        let before = cpu_time(&process);
        // What is measured is a second of waiting.
        thread::sleep(Duration::from_secs(1));
        let spent = cpu_time(&process) - before;
        assert!(spent < Duration::from_millis(200), "{driver}: spins: {spent:?} in a second");
        for (id, client) in (0..).zip(&mut there) {
            assert_eq!(client.post(&update(id)).status, 200);
        }
        assert!(!waiting.is_finished(), "{driver}: the limit was not reached");
        drop(silent);
        assert_eq!(waiting.join().unwrap().status, 200);
        for (id, client) in (8..).zip(&mut there) {
            assert_eq!(client.post(&update(id)).status, 200);
        }
        drop(there);
        let ended = process.terminate();
        assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
        let report = report(&pki);
        assert!(report["accept_paused"].as_u64().unwrap() > 0);
        assert_eq!(report["connections_accepted"], 106);
        assert_eq!(report["updates_handled"], 11);
    }
}
