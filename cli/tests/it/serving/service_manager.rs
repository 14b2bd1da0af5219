//! What the service manager is told, and that the files in `contrib/` are what it takes.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    process::Command,
};

use crate::{
    binary::process::{self, Process},
    support::{
        self, PATH, PATIENCE, SECRET,
        external::{program, talk},
        pki::Pki,
        request, update,
    },
};

/// A service manager's ear.
struct Manager(UnixDatagram);

impl Manager {
    fn at(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next message.
    fn mark_active(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// True where nothing has come that was not heard.
    fn is_silent(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let outcome = self.0.recv(&mut [0; 4096]);
        self.0.set_nonblocking(false).unwrap();
        outcome.is_err()
    }
}

fn serve(pki: &Pki, args: &[&str]) -> Command {
    let config = format!("[[bot]]\nname = 'test'\npath = '{PATH}'\nsecret_token = '{SECRET}'\n");
    fs::write(pki.dir().join("ringhook.toml"), config).unwrap();
    let mut command = process::ringhook(pki.dir());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"])
        .args(["--cert", "cert.pem", "--key", "key.pem", "--output", "null"])
        .args(args);
    command
}

#[test]
fn it_is_told_of_the_end_of_the_start_and_of_the_beginning_of_the_stop() {
    let pki = Pki::ecdsa();
    let path = pki.dir().join("notify");
    let name = format!("ringhook-test-{}", std::process::id());
    let by_path = UnixDatagram::bind(&path).unwrap();
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    for (socket, name) in [(by_path, path), (by_name, format!("@{name}"))] {
        let manager = Manager::at(socket);
        let mut command = serve(&pki, &[]);
        let process = Process::start({
            command.env("NOTIFY_SOCKET", name).env_remove("WATCHDOG_USEC");
            command
        });
        let expected = format!("READY=1\nSTATUS=receiving on {}", process.addr);
        assert_eq!(manager.mark_active(), expected);
        assert!(manager.is_silent(), "a watchdog was not asked for");
        process.signal("TERM");
        assert!(manager.mark_active().starts_with("STOPPING=1\n"));
        assert_eq!(process.wait().status.code(), Some(0));
        assert!(manager.is_silent());
    }
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let pki = Pki::ecdsa();
    let path = pki.dir().join("notify");
    let manager = Manager::at(UnixDatagram::bind(&path).unwrap());
    let mut command = serve(&pki, &["--data-dir", "/dev/null/data"]);
    let output = command.env("NOTIFY_SOCKET", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(manager.is_silent());
}

#[test]
fn a_watchdog_hears_that_all_is_well() {
    let pki = Pki::ecdsa();
    let path = pki.dir().join("notify");
    let manager = Manager::at(UnixDatagram::bind(&path).unwrap());
    let mut command = serve(&pki, &[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let process = Process::start(command);
    assert!(manager.mark_active().starts_with("READY=1\n"));
    for _ in 0..5 {
        assert_eq!(manager.mark_active(), "WATCHDOG=1");
    }
    let mut client = support::client::Client::connect(process.addr, &pki);
    client.send(&request(&update(1)));
    assert_eq!(client.response().status, 200);
    drop(client);
    assert_eq!(process.terminate().status.code(), Some(0));

    // One of another process is not ours to feed.
    let mut command = serve(&pki, &[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    while !manager.is_silent() {}
    let process = Process::start(command);
    assert!(manager.mark_active().starts_with("READY=1\n"));
    process.signal("TERM");
    assert!(manager.mark_active().starts_with("STOPPING=1\n"));
    process.wait();
}

#[test]
fn the_units_are_such_as_systemd_takes() {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib");
    let dir = tempfile::tempdir().unwrap();
    for name in ["ringhook.service", "ringhook.socket"] {
        let unit = fs::read_to_string(contrib.join(name)).unwrap();
        // The binary is looked for.
        let unit = unit.replace("/usr/local/bin/ringhook", env!("CARGO_BIN_EXE_ringhook"));
        fs::write(dir.path().join(name), unit).unwrap();
    }
    let Some(mut analyze) = program("systemd-analyze") else { return };
    let units = ["ringhook.service", "ringhook.socket"].map(|name| dir.path().join(name));
    let said = talk(analyze.args(["verify", "--man=no"]).args(&units), b"");
    assert!(said.status.success() && said.stderr.is_empty(), "{}", said.stderr);
    // Its own figure for what is left open, in tenths.
    let mut analyze = program("systemd-analyze").unwrap();
    analyze.args(["security", "--offline=true", "--threshold=20"]);
    let said = talk(analyze.arg(&units[0]), b"");
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
}
