//! Unix sockets: their files appear with the right permissions, and go with the server.

use std::{
    ffi::{OsStr, OsString},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::FileType,
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to,
        connect as connect_to, listen, socket_with,
    },
};

use super::{BACKLOG, names::FileId};
use crate::{
    error::{Error, ErrorKind},
    files::{Dir, Over, User},
};

/// Attempts at a name that is not taken.
const NAMES: usize = 8;

/// A socket's file, removed when dropped, unless it is another process's by then.
#[derive(Debug)]
pub struct SocketFile {
    dir: Dir,
    id: FileId,
    mode: u32,
    name: OsString,
    path: PathBuf,
}

impl SocketFile {
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if FileId::at(&self.path).is_ok_and(|there| there == self.id) {
            // Without it the next server replaces the file.
            if let Err(error) = self.dir.remove(&self.name) {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the socket's file cannot be removed");
            }
        }
    }
}

/// A listening socket at `path`, whose file has the permissions `mode`, and belongs to `heir` where
/// root makes it. A file that a dead server has left is replaced; with `take_over` also one on
/// which a process listens.
pub(super) fn bind(
    path: &Path,
    mode: u32,
    take_over: bool,
    heir: Option<&User>,
) -> Result<(OwnedFd, SocketFile), Error> {
    let error = |advice: &str, source: io::Error| {
        let message = format!("cannot listen on unix:{}{advice}", path.display());
        Error::with_source(ErrorKind::Bind, message, source)
    };
    let failed = |source: io::Error| {
        let advice = match source.kind() {
            io::ErrorKind::NotFound => " (its directory is not there)",
            io::ErrorKind::PermissionDenied => " (its directory cannot be written)",
            _ => "",
        };
        error(advice, source)
    };
    let (dir, name) = Dir::parent_of(path, heir).map_err(failed)?;
    if let Err((advice, source)) = check_free(&dir, &name, path, take_over) {
        return Err(error(advice, source));
    }
    make(dir, name, path, mode, Over::Replace).map_err(failed)
}

/// A listening socket at `path`, where the file of one is gone.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) where something has the name by now; else why it
/// cannot be made.
pub(super) fn make_again(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    let (dir, name) = Dir::parent_of(path, None)?;
    make(dir, name, path, mode, Over::Keep)
}

fn make(
    dir: Dir,
    name: OsString,
    path: &Path,
    mode: u32,
    over: Over,
) -> io::Result<(OwnedFd, SocketFile)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // It gets its name when it is complete, so no peer meets it half made.
    let half = bind_half(&socket, &dir, path, &name)?;
    let finish = || -> io::Result<FileId> {
        dir.set_mode(&half, mode)?;
        listen(&socket, BACKLOG)?;
        let id = FileId::at(&dir.path_of(path, &half))?;
        dir.rename(&half, &name, over)?;
        Ok(id)
    };
    match finish() {
        Ok(id) => Ok((socket, SocketFile { dir, id, mode, name, path: path.to_owned() })),
        Err(error) => {
            let _ = dir.remove(&half);
            Err(error)
        }
    }
}

/// Binds `socket` to a name beside `name` that nothing has yet; returns it.
fn bind_half(socket: &OwnedFd, dir: &Dir, path: &Path, name: &OsStr) -> io::Result<OsString> {
    let mut outcome = Err(Errno::ADDRINUSE.into());
    for _ in 0..NAMES {
        let mut half = name.to_owned();
        half.push(format!(".{:04x}", RandomState::new().build_hasher().finish() & 0xffff));
        let address = SocketAddrUnix::new(dir.path_of(path, &half))?;
        outcome = dir.run(|_| Ok(bind_to(socket, &address)?)).map(|()| half);
        if !outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
    }
    outcome
}

/// Whether the name can be taken; else why not.
fn check_free(
    dir: &Dir,
    name: &OsStr,
    path: &Path,
    take_over: bool,
) -> Result<(), (&'static str, io::Error)> {
    let there = match dir.look_at(name) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(("", error)),
    };
    if FileType::from_raw_mode(there.st_mode) != FileType::Socket {
        return Err((
            " (a file that is no socket has the name)",
            io::ErrorKind::AlreadyExists.into(),
        ));
    }
    let connect = || -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect_to(&socket, &SocketAddrUnix::new(path)?) {
            // A program listens there whose queue of connections is full.
            Err(Errno::AGAIN) => Ok(()),
            outcome => Ok(outcome?),
        }
    };
    let answer = match dir.run(|_| connect()) {
        // One that a server of root's has left, or listens on. To connect changes nothing.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => connect(),
        answer => answer,
    };
    match answer {
        Ok(_) if take_over => Ok(()),
        Ok(_) => Err((
            " (another program listens there: is ringhook running twice?)",
            io::ErrorKind::AddrInUse.into(),
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err((" (whether a process listens there is not known)", error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        fs,
        os::unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
        sync::mpsc,
        thread,
        time::Duration,
    };

    use super::*;

    fn said(path: &Path, take_over: bool) -> String {
        bind(path, 0o660, take_over, None).unwrap_err().to_string()
    }

    #[test]
    fn a_dead_servers_file_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (socket, file) = bind(&path, 0o640, false, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        UnixStream::connect(&path).unwrap();
        assert!(said(&path, false).contains("another program listens there"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no half-made socket is left");
        // The second server keeps it when the first one ends.
        let (_second, second_file) = bind(&path, 0o600, true, None).unwrap();
        drop((socket, file));
        UnixStream::connect(&path).unwrap();
        drop(second_file);
        assert!(!path.exists());
    }

    #[test]
    fn a_listener_whose_queue_is_full_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let (listener, address) = (socket(), SocketAddrUnix::new(&path).unwrap());
        bind_to(&listener, &address).unwrap();
        listen(&listener, 0).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            let peer = socket();
            if let Err(refused) = connect_to(&peer, &address) {
                break refused;
            }
            waiting.push(peer);
        };
        assert_eq!(refused, Errno::AGAIN);
        let (send, told) = mpsc::channel();
        thread::spawn(move || {
            let said = said(&path, false);
            send.send((said, bind(&path, 0o600, true, None).is_ok())).unwrap();
        });
        let (said, is_taken_over) = told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(said.contains("another program listens there"), "{said}");
        assert!(is_taken_over);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        for take_over in [false, true] {
            assert!(said(&path, take_over).contains("no socket has the name"));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
        assert!(said(&dir.path().join("no/x"), false).contains("its directory is not there"));
    }
}
