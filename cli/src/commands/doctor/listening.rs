//! Whether a server listens where the config says, and whether it is ours.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use super::{program::within, step::Finding};
use crate::server::greeting::reachable;
use ringhook::{ListenAddress, Listener};

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// Bytes of an answer that are looked at.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Who has a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Owner {
    pub(super) pid: u32,
    name: String,
}

impl Owner {
    /// The process that listens at `address`; `None` where that is not to be seen, for want of
    /// rights or because it is another container's.
    pub(super) fn find(address: SocketAddr) -> Option<Self> {
        let mut inodes = Vec::new();
        for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
            inodes.extend(inodes_of(&fs::read_to_string(path).unwrap_or_default(), address));
        }
        let mut owners = Vec::new();
        for process in fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            let holds = |file: fs::DirEntry| {
                let link = fs::read_link(file.path()).unwrap_or_default();
                inodes.iter().any(|inode| link.as_os_str() == format!("socket:[{inode}]").as_str())
            };
            if files.into_iter().any(holds) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                owners.push(Self { pid, name: name.trim().to_owned() });
            }
        }
        // systemd holds the sockets that it passes on.
        let ours = owners.iter().position(Self::is_ours).unwrap_or(0);
        owners.get(ours).cloned()
    }

    pub(super) fn is_ours(&self) -> bool {
        self.name == "ringhook"
    }
}

/// The sockets of `table`, one of `/proc/net`, that listen at `address` or at its port of all
/// addresses.
fn inodes_of(table: &str, address: SocketAddr) -> Vec<String> {
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (Some(local), Some(state), Some(inode)) = (words.get(1), words.get(3), words.get(9))
        else {
            continue;
        };
        let Some((ip, port)) = local.split_once(':') else { continue };
        let is_port = u16::from_str_radix(port, 16) == Ok(address.port());
        let ip = parse_ip(ip).map(|ip| ip.to_canonical());
        let is_address =
            ip.is_some_and(|ip| ip.is_unspecified() || ip == address.ip().to_canonical());
        if *state == LISTEN && is_port && is_address {
            inodes.push((*inode).to_owned());
        }
    }
    inodes
}

/// An address as `/proc/net` has it: words of 32 bits, each in the machine's own order.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = str::from_utf8(word).ok()?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Some(Ipv4Addr::from(bytes).into()),
        Err(_) => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
    }
}

/// Whether connections are taken at `listener`.
pub(super) fn look(listener: &Listener, timeout: Duration) -> Finding {
    let shown = &listener.address;
    let connected = match shown {
        ListenAddress::Inherited(name) => {
            return Finding::skip(format!(
                "fd:{name} is passed by a service manager: systemctl list-sockets shows where it is"
            ));
        }
        ListenAddress::Tcp(address) if address.port() == 0 => {
            return Finding::skip(format!(
                "{shown} takes any free port, which the config does not tell"
            ));
        }
        ListenAddress::Tcp(address) => {
            TcpStream::connect_timeout(&reachable(*address), timeout).map(drop)
        }
        ListenAddress::Unix(path) => {
            // It has no timeout of its own, and waits where the connection is not accepted.
            let path = path.clone();
            within(timeout, move || UnixStream::connect(path).map(drop))
                .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
        }
        other => return Finding::skip(format!("{other} is not looked at from here")),
    };
    if let Err(error) = connected {
        return refused(shown, &error);
    }
    let owner = match shown {
        ListenAddress::Tcp(address) => Owner::find(*address),
        _ => None,
    };
    match owner {
        Some(owner) if !owner.is_ours() => Finding::warn(
            format!("{} (process {}) listens on {shown}", owner.name, owner.pid),
            "stop it, or let ringhook listen elsewhere; it is well if that program has ringhook in it",
        ),
        Some(owner) => Finding::ok(format!("ringhook (process {}) listens on {shown}", owner.pid)),
        None => Finding::ok(format!("connections are taken on {shown}")),
    }
}

fn refused(address: &ListenAddress, error: &io::Error) -> Finding {
    let fix = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "start the server: ringhook serve, with the same --config and --data-dir"
        }
        io::ErrorKind::PermissionDenied => {
            "the socket's file lets this user not in: run doctor as its user or group"
        }
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkUnreachable => {
            "this machine has no such address: ip address shows those that it has"
        }
        _ => "look at the server's log, and whether a firewall drops connections of this machine",
    };
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            Finding::fail(format!("nothing listens on {address}"), fix)
        }
        _ => Finding::fail(format!("no connection to {address}: {error}"), fix),
    }
}

/// What `/readyz` of the server says.
pub(super) fn ready(admin: SocketAddr, timeout: Duration) -> Finding {
    let fix = "the server does not take updates as it should: look at its log";
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&reachable(admin), timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.take(ANSWER_BYTES).read_to_string(&mut text)?;
        io::Result::Ok(text)
    };
    let answer = match ask() {
        Ok(answer) => answer,
        Err(error) => {
            let what = format!("no answer from http://{admin}/readyz: {error}");
            return Finding::fail(what, "is it this config with which the server runs?");
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Finding::ok("the server says that it takes updates"),
        Some("503") => {
            let obstacles: Vec<_> = body.lines().collect();
            Finding::fail(format!("not ready: {}", obstacles.join("; ")), fix)
        }
        _ => Finding::warn(
            format!("http://{admin}/readyz answers otherwise than ringhook does"),
            "another program has the port of admin.listen",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;
    use crate::commands::doctor::step::Verdict;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn finds_who_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It may be forbidden to look.
        if let Some(owner) = Owner::find(address) {
            assert_eq!(owner.pid, std::process::id());
            let finding = look(&Listener::new(address.into()), TIMEOUT);
            assert_eq!(finding.verdict, Verdict::Warn, "{finding:?}");
        }
        drop(listener);
        let finding = look(&Listener::new(address.into()), TIMEOUT);
        assert_eq!(finding.what, format!("nothing listens on {address}"));
    }

    #[test]
    fn reads_the_kernels_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                     uid  timeout inode\n\
                     0: 0100007F:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 7 1\n\
                     1: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 8 1\n\
                     2: 00000000000000000000000000000000:01BC 0:0 0A 0:0 0:0 0 0 0 9 1\n\
                     3: 0100007F:01BB 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 6 1\n";
        let of = |address: &str| inodes_of(table, address.parse().unwrap());
        assert_eq!(of("127.0.0.1:8443"), ["7"]);
        assert_eq!(of("192.0.2.1:443"), ["8"]);
        assert_eq!(of("192.0.2.1:444"), ["9"]);
        assert!(of("192.0.2.1:8443").is_empty());
    }

    #[test]
    fn what_cannot_be_known_is_skipped() {
        for address in ["fd:https", "127.0.0.1:0"] {
            let listener = Listener::new(address.parse().unwrap());
            assert_eq!(look(&listener, TIMEOUT).verdict, Verdict::Skip);
        }
        let listener = Listener::new("unix:/nowhere/x.sock".parse().unwrap());
        assert_eq!(look(&listener, TIMEOUT).verdict, Verdict::Fail);
    }
}
