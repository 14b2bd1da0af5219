//! Unix sockets: their files appear with the right permissions, and go with the server.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, RenameFlags, fstat, open, renameat_with},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, listen,
        socket_with,
    },
};

use super::{BACKLOG, names::FileId};
use crate::error::{Error, ErrorKind};

/// A socket's file, removed when dropped, unless it is somebody else's by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    id: FileId,
    mode: u32,
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
            if let Err(error) = fs::remove_file(&self.path) {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the socket's file cannot be removed");
            }
        }
    }
}

/// A listening socket at `path`, whose file has the permissions `mode`. A file that a dead server
/// has left is replaced; with `take_over` also one on which somebody listens.
pub(super) fn bind(
    path: &Path,
    mode: u32,
    take_over: bool,
) -> Result<(OwnedFd, SocketFile), Error> {
    let error = |advice: &str, source: io::Error| {
        let message = format!("cannot listen on unix:{}{advice}", path.display());
        Error::with_source(ErrorKind::Bind, message, source)
    };
    if let Err((advice, source)) = check_free(path, take_over) {
        return Err(error(advice, source));
    }
    make(path, mode, ".new", RenameFlags::empty()).map_err(|source| {
        let advice = match source.kind() {
            io::ErrorKind::NotFound => " (its directory is not there)",
            io::ErrorKind::PermissionDenied => " (its directory cannot be written)",
            _ => "",
        };
        error(advice, source)
    })
}

/// A listening socket at `path`, where the file of one is gone.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) where something has the name by now; else why it
/// cannot be made.
pub(super) fn make_again(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    make(path, mode, ".again", RenameFlags::NOREPLACE)
}

fn make(
    path: &Path,
    mode: u32,
    suffix: &str,
    flags: RenameFlags,
) -> io::Result<(OwnedFd, SocketFile)> {
    let socket_flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, socket_flags, None)?;
    // It gets its name when it is all that it should be, so nobody meets it half made.
    let mut half = path.as_os_str().to_owned();
    half.push(suffix);
    let half = PathBuf::from(half);
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    bind_to(&socket, &SocketAddrUnix::new(&half)?)?;
    let finish = || -> io::Result<SocketFile> {
        permit(&half, mode)?;
        listen(&socket, BACKLOG)?;
        let id = FileId::at(&half)?;
        if flags.is_empty() {
            fs::rename(&half, path)?;
        } else {
            renameat_with(CWD, &half, CWD, path, flags)?;
        }
        Ok(SocketFile { id, mode, path: path.to_owned() })
    };
    match finish() {
        Ok(file) => Ok((socket, file)),
        Err(error) => {
            let _ = fs::remove_file(&half);
            Err(error)
        }
    }
}

/// Gives the socket's file at `path` the permissions `mode`, and nothing that has been put in its
/// place meanwhile: chmod(2) would follow a link.
fn permit(path: &Path, mode: u32) -> io::Result<()> {
    let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(by_descriptor, fs::Permissions::from_mode(mode))
}

/// Whether the name can be taken; else why not.
fn check_free(path: &Path, take_over: bool) -> Result<(), (&'static str, io::Error)> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(("", error)),
    };
    if !there.file_type().is_socket() {
        return Err((
            " (a file that is no socket has the name)",
            io::ErrorKind::AlreadyExists.into(),
        ));
    }
    match UnixStream::connect(path) {
        Ok(_) if take_over => Ok(()),
        Ok(_) => Err((
            " (another program listens there: is ringhook running twice?)",
            io::ErrorKind::AddrInUse.into(),
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err((" (whether somebody listens there cannot be told)", error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixListener;

    use super::*;

    fn said(path: &Path, take_over: bool) -> String {
        bind(path, 0o660, take_over).unwrap_err().to_string()
    }

    #[test]
    fn a_dead_servers_file_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (socket, file) = bind(&path, 0o640, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        UnixStream::connect(&path).unwrap();
        assert!(said(&path, false).contains("another program listens there"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no half-made socket is left");
        // Who takes it over keeps it when the first one goes.
        let (_second, second_file) = bind(&path, 0o600, true).unwrap();
        drop((socket, file));
        UnixStream::connect(&path).unwrap();
        drop(second_file);
        assert!(!path.exists());
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
