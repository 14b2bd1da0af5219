//! Who the server is: root only as long as it has to be, and with no way back.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    binary::process::{self, Process},
    support::{
        self,
        client::{self, Client},
        external::program,
        request_to, update,
    },
};

/// A user and a group that no machine has a name for.
const UID: u32 = 4_000_000_001;
const GID: u32 = 4_000_000_002;

/// True where this test may become another user. Where `RINGHOOK_TEST_ROOT` is set it must be so.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root || std::env::var_os("RINGHOOK_TEST_ROOT").is_none(), "root is required");
    if !is_root {
        eprintln!("skipped: only root may become another user");
    }
    is_root
}

/// A directory that others may enter, as a service's is.
fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// What the kernel tells of each thread of `process` under these names.
fn threads(process: &Process, names: &[&str]) -> Vec<Vec<String>> {
    let dir = format!("/proc/{}/task", process.child.id());
    let tasks = fs::read_dir(dir).unwrap().map(|task| task.unwrap().path().join("status"));
    let field = |status: &str, name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.expect("a field").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    tasks
        .map(|task| {
            let status = fs::read_to_string(task).unwrap();
            names.iter().map(|name| field(&status, name)).collect()
        })
        .collect()
}

/// All files below `dir` with their owners.
fn owners(dir: &Path) -> Vec<(PathBuf, u32, u32)> {
    let metadata = fs::metadata(dir).unwrap();
    let mut owners = vec![(dir.to_owned(), metadata.uid(), metadata.gid())];
    if metadata.is_dir() {
        for entry in fs::read_dir(dir).unwrap() {
            owners.extend(self::owners(&entry.unwrap().path()));
        }
    }
    owners
}

fn connect(process: &Process, dir: &Path) -> Client {
    let cert = fs::read_to_string(dir.join("state/data/cert.pem")).unwrap();
    Client::connect_with(process.addr, client::trusting(&cert, rustls::ALL_VERSIONS))
}

fn secret(dir: &Path) -> String {
    fs::read_to_string(dir.join("state/data/secret-token")).unwrap().trim().to_owned()
}

#[test]
fn root_is_given_up_by_all_threads_for_good_and_updates_still_get_through() {
    if !is_root() {
        return;
    }
    let dir = open_dir();
    let (uid, gid) = (UID.to_string(), GID.to_string());
    let args = ["--user", &uid, "--group", &gid, "--data-dir", "state/data"];
    let args = [&args[..], &["--output", "ndjson:updates", "--report", "report.json"]].concat();
    // The first run makes everything, the next one finds it. A ring is made behind the change.
    let drivers = support::drivers().into_iter().cycle().take(2);
    for (run, driver) in (1_i64..).zip(drivers) {
        let driver = driver.to_string();
        let args = [&args[..], &["--driver", &driver]].concat();
        let process =
            Process::serve(dir.path(), &[&args[..], &["--admin", "127.0.0.1:0"]].concat());
        let found = threads(
            &process,
            &["Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "CapPrm", "CapAmb"],
        );
        // Main, signals, admin, acceptor, the journal's three, a shard and a worker at least.
        assert!(found.len() >= 9, "{found:?}");
        let (uids, gids) = ([&*uid; 4].join(" "), [&*gid; 4].join(" "));
        let none = "0".repeat(16);
        for thread in &found {
            assert_eq!(thread[..], [&*uids, &gids, &gid, "1", &none, &none, &none]);
        }
        let mut client = connect(&process, dir.path());
        client.send(&request_to("/webhook", &secret(dir.path()), &update(run)));
        assert_eq!(client.response().status, 200);
        drop(client);
        let ended = process.terminate();
        assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
        let lines = fs::read_to_string(dir.path().join("updates")).unwrap();
        assert_eq!(lines.lines().count() as i64, run);
    }
    let made: Vec<_> = ["state", "updates", "report.json"]
        .into_iter()
        .flat_map(|name| owners(&dir.path().join(name)))
        .collect();
    // State, data, journal and what is in it, certificate, key, secret; sink and report.
    assert!(made.len() >= 9, "{made:?}");
    assert!(made.iter().any(|(path, ..)| path.extension().is_some_and(|it| it == "journal")));
    for (path, owner, group) in made {
        assert_eq!((owner, group), (UID, GID), "{}", path.display());
    }
    let key = fs::metadata(dir.path().join("state/data/key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(dir.path()).unwrap().uid(), 0, "what was there stays as it was");
}

#[test]
fn files_that_only_root_reads_are_read_before_and_a_named_user_brings_its_groups() {
    if !is_root() {
        return;
    }
    let dir = open_dir();
    let pki = support::pki::Pki::ecdsa();
    for (name, text) in [("cert.pem", &*pki.cert), ("key.pem", &pki.key), ("token", "t0ken")] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let config = "[server]\nuser = 'nobody'\ndata_dir = 'data'\n[tls]\ncert = 'cert.pem'\n\
                  key = 'key.pem'\n[[listener]]\naddress = 'unix:hook.sock'\ntls = false\n[[bot]]\nname = 'shop'\npath = '/shop'\n\
                  secret_token_file = 'token'\n";
    fs::write(dir.path().join("ringhook.toml"), config).unwrap();
    let process = Process::serve(dir.path(), &["--config", "ringhook.toml", "--output", "null"]);
    let id = |flag| {
        let output = Command::new("id").args([flag, "nobody"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (uid, gid, groups) = (id("-u"), id("-g"), id("-G"));
    for thread in threads(&process, &["Uid", "Gid", "Groups"]) {
        assert_eq!(thread, [[&*uid; 4].join(" "), [&*gid; 4].join(" "), groups.clone()]);
    }
    let mut client = Client::connect(process.addr, &pki);
    client.send(&request_to("/shop", "t0ken", &update(1)));
    assert_eq!(client.response().status, 200);
    // What it has made is the user's, in a directory where only root makes anything.
    for name in ["data", "data/journal", "hook.sock"] {
        let owner = fs::symlink_metadata(dir.path().join(name)).unwrap();
        assert_eq!((owner.uid().to_string(), owner.gid().to_string()), (uid.clone(), gid.clone()));
    }
}

#[test]
fn no_new_privileges_are_ever_had_by_any_user() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::serve(dir.path(), &["--output", "null", "--ack", "memory"]);
    for thread in threads(&process, &["NoNewPrivs"]) {
        assert_eq!(thread, ["1"]);
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (&["--user", "no-such-user"][..], "server.user = no-such-user: expected the name or"),
        (&["--user", "root"], "server.user = root: expected another user than root"),
        (&["--group", "daemon"], "server.group = daemon: expected server.user beside it"),
        (&["--user", "4000000001"], "expected server.group (--group) beside the number"),
    ] {
        let (code, _, stderr) = process::run(dir.path(), &[&["serve"], args].concat());
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing has been made");
}

/// `setpriv` with these flags, running a copy of the binary that any user may run.
fn as_unprivileged(dir: &Path, flags: &[&str]) -> Option<Command> {
    let mut command = program("setpriv")?;
    let binary = dir.join("ringhook");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_ringhook"), &binary).unwrap();
    }
    let (uid, gid) = (UID.to_string(), GID.to_string());
    command.args(["--reuid", &uid, "--regid", &gid, "--clear-groups"]).args(flags).arg(binary);
    command.current_dir(dir);
    Some(command)
}

#[test]
fn a_process_that_is_not_root_becomes_no_other_user() {
    if !is_root() {
        return;
    }
    let dir = open_dir();
    let Some(mut command) = as_unprivileged(dir.path(), &[]) else { return };
    let output = command.args(["serve", "--user", "nobody"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("server.user = nobody: expected a start as root"), "{stderr}");
}

#[test]
fn a_privileged_port_needs_one_capability_and_no_root() {
    if !is_root() {
        return;
    }
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if start.trim().parse::<u16>().unwrap() < 1024 {
        return eprintln!("skipped: any user may bind any port here");
    }
    let dir = open_dir();
    let data = dir.path().join("state");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(UID), Some(GID)).unwrap();
    let port = (600..1024).rev().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let listen = format!("127.0.0.1:{}", port.expect("a free port"));
    let args = ["serve", "--listen", &listen, "--data-dir", "state/data", "--output", "null"];
    let Some(mut without) = as_unprivileged(dir.path(), &[]) else { return };
    let output = without.args(args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("CAP_NET_BIND_SERVICE"), "{stderr}");

    let capability =
        ["--inh-caps", "-all,+net_bind_service", "--ambient-caps", "-all,+net_bind_service"];
    let mut with = as_unprivileged(dir.path(), &capability).unwrap();
    with.args(args);
    let process = Process::start(with);
    assert_eq!(process.addr.to_string(), listen);
    for thread in threads(&process, &["Uid", "CapEff"]) {
        assert_eq!(thread, [[&*UID.to_string(); 4].join(" "), format!("{:016x}", 1 << 10)]);
    }
    let mut client = connect(&process, dir.path());
    client.send(&request_to("/webhook", &secret(dir.path()), &update(1)));
    assert_eq!(client.response().status, 200);
}
