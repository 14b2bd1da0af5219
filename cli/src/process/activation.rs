//! Socket activation: the listening sockets with which systemd starts the process, by
//! `sd_listen_fds(3)`.

use std::{env, io, os::fd::OwnedFd};

use listenfd::ListenFd;

use ringhook::{Error, ErrorKind};

/// The variable with the names of the sockets, colons in between.
const NAMES: &str = "LISTEN_FDNAMES";

/// The sockets that were passed, with their names; none where LISTEN_PID is another process.
///
/// LISTEN_FDS and LISTEN_PID are taken out of the environment, so no other thread may run yet.
pub(crate) fn sockets() -> Result<Vec<(String, OwnedFd)>, Error> {
    let names = env::var(NAMES).unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        // As `sd_listen_fds_with_names` calls those without a name.
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        let socket = take(&mut passed, index).map_err(|source| {
            let message = format!("LISTEN_FDS: socket {index} ({name:?})");
            Error::with_source(ErrorKind::Bind, message, source)
        })?;
        sockets.extend(socket.map(|socket| (name.to_owned(), socket)));
    }
    Ok(sockets)
}

/// Takes a stream socket of any family that we can serve.
fn take(passed: &mut ListenFd, index: usize) -> io::Result<Option<OwnedFd>> {
    match passed.take_tcp_listener(index) {
        Ok(socket) => Ok(socket.map(OwnedFd::from)),
        Err(_) => Ok(passed.take_unix_listener(index)?.map(OwnedFd::from)),
    }
}
