//! What the service manager is sent (sd_notify), and how often it wants to hear that the server is
//! healthy.
//!
//! Our own few lines: sd-notify 0.5 knows no abstract sockets, as containers use them, and waits
//! without a bound for a manager that does not read.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use ringhook::internals::redact::hide_tokens;

/// A manager that does not read must not hold us up for longer.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that a start may take until it tells again how far it is.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// The way to the service manager; where there is none, telling it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    pub(crate) fn from_env() -> Self {
        let to = env::var_os("NOTIFY_SOCKET").and_then(|name| reach(&name).ok());
        let text = |name| env::var(name).ok();
        let is_ours =
            text("WATCHDOG_PID").is_none_or(|pid| pid.parse::<u32>() == Ok(process::id()));
        let micros = text("WATCHDOG_USEC").filter(|_| is_ours).and_then(|usec| usec.parse().ok());
        let watchdog = micros.filter(|micros| *micros > 0).map(Duration::from_micros);
        Self { to, watchdog }
    }

    /// How often [`alive`](Self::alive) is to be called: twice in the time that the manager waits.
    pub(crate) fn alive_every(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.to.is_some()).map(|time| time / 2)
    }

    /// The server is healthy.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The start goes on, and has come so far.
    pub(crate) fn starting(&self, status: &str) {
        let micros = STEP_TIMEOUT.as_micros();
        self.send(&format!("EXTEND_TIMEOUT_USEC={micros}\nSTATUS={}", one_line(status)));
    }

    /// The start, or a reload, is over.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// A reload begins; [`ready`](Self::ready) ends it, however it went.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        let mut text = String::from("RELOADING=1\n");
        let _ = write!(text, "MONOTONIC_USEC={micros}\nSTATUS=reading the config again");
        self.send(&text);
    }

    /// A stop has begun.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping: requests and updates under way are finished");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            // Where the manager is not there, its messages are dropped.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

/// A socket, and the address of the one called `name`: a path, or behind `@` an abstract name.
fn reach(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

fn one_line(text: &str) -> String {
    hide_tokens(text).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_kind_of_socket_is_reached_and_a_status_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("ringhook-test-{}", process::id());
        let abstract_one =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, name) in
            [(by_path, path.into_os_string()), (abstract_one, format!("@{name}").into())]
        {
            let notifier = Notifier { to: Some(reach(&name).unwrap()), watchdog: None };
            let received = || {
                let mut buffer = [0; 500];
                let length = socket.recv(&mut buffer).unwrap();
                String::from_utf8(buffer.get(..length).unwrap().to_vec()).unwrap()
            };
            notifier.ready("all\nREADY=0");
            assert_eq!(received(), "READY=1\nSTATUS=all READY=0");
            notifier.starting("reading");
            assert_eq!(received(), "EXTEND_TIMEOUT_USEC=120000000\nSTATUS=reading");
            notifier.reloading();
            let text = received();
            let micros = text.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            assert!(text.starts_with("RELOADING=1\n") && micros.unwrap().parse::<u64>().is_ok());
        }
        assert!(
            reach(OsStr::new("")).is_ok_and(|(socket, to)| socket.send_to_addr(b"", &to).is_err())
        );
    }
}
