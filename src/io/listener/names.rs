//! Whether the names of Unix sockets still lead to them. A file that is gone is made again where
//! that is allowed. One that is another's by now is left alone, since a process that takes over a
//! socket does so by a file of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{ListeningSocket, unix};
use crate::{
    control::Control,
    io::listener::AcceptorConfig,
    observe::incidents::{IncidentKind, IncidentWriter},
};

/// How long a file has to be gone until it is made again: another server that removes it and makes
/// its own is quicker.
const GONE: Duration = Duration::from_secs(2);
/// Time until that is tried again where it was not allowed.
const AGAIN: Duration = Duration::from_secs(10);

/// Identifies a file, also against files that get its inode later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    /// `None` where the file system does not keep it.
    made_at: Option<std::time::SystemTime>,
}

impl FileId {
    /// That of the file at `path`, a link itself rather than what it leads to.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let file = fs::symlink_metadata(path)?;
        let made_at = file.created().ok();
        Ok(Self { device: file.dev(), inode: file.ino(), made_at })
    }
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum NameState {
    /// To the socket that is listened on.
    Here,
    /// To nothing.
    Gone,
    /// To another file.
    Anothers,
}

/// A name, as health sees it.
#[derive(Debug)]
pub(crate) struct Name {
    path: PathBuf,
    state: AtomicU8,
}

impl Name {
    fn state(&self) -> NameState {
        match self.state.load(Relaxed) {
            0 => NameState::Here,
            1 => NameState::Gone,
            _ => NameState::Anothers,
        }
    }

    /// Why no client can connect by this name, in one line; `None` where they can.
    pub(crate) fn trouble(&self) -> Option<String> {
        let what = match self.state() {
            NameState::Here => return None,
            NameState::Gone => "is gone: no client can connect",
            NameState::Anothers => "belongs to another process: clients reach that one",
        };
        Some(format!("listener: the file of unix:{} {what}", self.path.display()))
    }
}

/// Looks at the names of all sockets that have one.
pub(crate) struct Names {
    control: Arc<Control>,
    incidents: IncidentWriter,
    acceptor_config: Arc<AcceptorConfig>,
    names: Vec<WatchedName>,
}

struct WatchedName {
    name: Arc<Name>,
    file: FileId,
    /// When it was first found gone, and when it is made again.
    gone_at: Option<Instant>,
    due: Option<Instant>,
    /// Its permissions; `None` for one that was inherited, which is its owner's to make.
    mode: Option<u32>,
    /// Its place among the acceptor's.
    socket: usize,
    /// What was found at the last look, and whether a failure to make it has been logged.
    seen: NameState,
    is_refusal_logged: bool,
}

impl Names {
    /// Of those among `sockets`; `None` where none has a name. New sockets go to the acceptor by
    /// `acceptor_config`.
    pub(crate) fn new(
        sockets: &[ListeningSocket],
        acceptor_config: &Arc<AcceptorConfig>,
        control: &Arc<Control>,
        incidents: IncidentWriter,
    ) -> Option<Self> {
        let watched = |(socket, it): (usize, &ListeningSocket)| {
            let (path, mode) = it.name()?;
            // Since ours was made, the journal was waited for and read. One that was inherited and
            // is not there now has never led here as far as is known.
            let file = it.file_id().or_else(|| FileId::at(&path).ok())?;
            let name = Arc::new(Name { path, state: AtomicU8::new(NameState::Here as u8) });
            let (gone_at, due, seen) = (None, None, NameState::Here);
            Some(WatchedName {
                name,
                file,
                gone_at,
                due,
                mode,
                socket,
                seen,
                is_refusal_logged: false,
            })
        };
        let names: Vec<_> = sockets.iter().enumerate().filter_map(watched).collect();
        let (control, acceptor_config) = (Arc::clone(control), Arc::clone(acceptor_config));
        (!names.is_empty()).then_some(Self { control, incidents, acceptor_config, names })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Name>> {
        self.names.iter().map(|watched| &watched.name)
    }

    /// To be called a few times a second.
    pub(crate) fn look(&mut self, now: Instant) {
        for watched in &mut self.names {
            if self.control.is_stopping() {
                return;
            }
            watched.look(&self.incidents);
            watched.make_again(now, &self.control, &self.acceptor_config);
        }
    }
}

impl WatchedName {
    fn look(&mut self, incidents: &IncidentWriter) {
        let found = match FileId::at(&self.name.path) {
            Ok(file) if file == self.file => NameState::Here,
            Ok(_) => NameState::Anothers,
            Err(error) if error.kind() == io::ErrorKind::NotFound => NameState::Gone,
            // Whether it is there is not known.
            Err(_) => return,
        };
        // At the second look that finds the same.
        if std::mem::replace(&mut self.seen, found) != found || self.name.state() == found {
            return;
        }
        self.name.state.store(found as u8, Relaxed);
        match self.name.trouble() {
            None => {
                let path = self.name.path.display();
                tracing::info!("the file of unix:{path} is there again");
            }
            Some(trouble) => {
                let detail = if found == NameState::Gone { "gone" } else { "replaced" };
                incidents.note_text(IncidentKind::SocketFile, None, detail, &trouble);
            }
        }
    }

    fn make_again(&mut self, now: Instant, control: &Control, acceptor_config: &AcceptorConfig) {
        let Some(mode) = self.mode.filter(|_| self.name.state() == NameState::Gone) else {
            (self.gone_at, self.due) = (None, None);
            return;
        };
        self.gone_at.get_or_insert(now);
        if now < *self.due.get_or_insert(now + GONE) {
            return;
        }
        self.due = Some(now + AGAIN);
        match unix::make_again(&self.name.path, mode) {
            Ok((socket, file)) if !control.is_stopping() => {
                self.file = file.id();
                acceptor_config.renew(self.socket, socket, file);
                self.is_refusal_logged = false;
                self.log_made(now);
            }
            // Its file goes with it.
            Ok(_) => {}
            Err(error) => {
                let path = self.name.path.display();
                if !std::mem::replace(&mut self.is_refusal_logged, true) {
                    tracing::warn!(%error, "the file of unix:{path} cannot be made again");
                }
            }
        }
    }

    fn log_made(&mut self, now: Instant) {
        let path = self.name.path.display();
        let gone_at = self.gone_at.take().unwrap_or(now);
        let seconds = now.saturating_duration_since(gone_at).as_secs();
        tracing::warn!("the file of unix:{path} was gone for {seconds} s and has been made again");
        self.seen = NameState::Here;
        self.name.state.store(NameState::Here as u8, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    };

    use super::*;
    use crate::{
        config::{Config, ListenAddress, Listener},
        io::listener::Listening,
        observe::incidents::Incidents,
    };

    struct Scene {
        dir: tempfile::TempDir,
        control: Arc<Control>,
        incidents: Incidents,
        names: Names,
        now: Instant,
        acceptor_config: Arc<AcceptorConfig>,
        path: PathBuf,
        sockets: Vec<ListeningSocket>,
    }

    impl Scene {
        fn new() -> Self {
            Self::with(|_| {})
        }

        /// One where something is done to the path before it is watched.
        fn with(meanwhile: impl FnOnce(&Path)) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("hook.sock");
            let mut listener = Listener::new(ListenAddress::Unix(path.clone()));
            listener.mode = 0o640;
            let config = Config { listeners: vec![listener], ..Config::default() };
            let sockets = Listening::open(&config, Vec::new(), None).unwrap().sockets;
            meanwhile(&path);
            let control = Arc::new(Control::new(None));
            let (acceptor_config, incidents) =
                (Arc::<AcceptorConfig>::default(), Incidents::new(10));
            let names =
                Names::new(&sockets, &acceptor_config, &control, incidents.writer()).unwrap();
            Self {
                dir,
                control,
                incidents,
                names,
                now: Instant::now(),
                acceptor_config,
                path,
                sockets,
            }
        }

        /// Looks until so much time has passed.
        fn look_for(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += Duration::from_millis(250);
                self.names.look(self.now);
            }
        }

        fn trouble(&self) -> Option<String> {
            let all: Vec<_> = self.names.all().map(|name| name.trouble()).collect();
            all.into_iter().flatten().next()
        }

        fn renew(&mut self) {
            for (index, socket, file) in self.acceptor_config.renewed() {
                self.sockets.get_mut(index).unwrap().renew(socket, file);
            }
        }
    }

    #[test]
    fn a_file_that_is_gone_is_named_and_made_again() {
        let mut scene = Scene::new();
        scene.look_for(Duration::from_secs(5));
        assert_eq!(scene.trouble(), None);
        fs::remove_file(&scene.path).unwrap();
        scene.look_for(Duration::from_secs(1));
        assert!(scene.trouble().unwrap().ends_with("hook.sock is gone: no client can connect"));
        assert!(!scene.path.exists());
        scene.look_for(GONE);
        assert_eq!(scene.trouble(), None);
        assert_eq!(fs::metadata(&scene.path).unwrap().permissions().mode() & 0o7777, 0o640);
        scene.renew();
        let waiting = UnixStream::connect(&scene.path).unwrap();
        scene.sockets.first().unwrap().accept().unwrap();
        drop(waiting);
        assert_eq!(fs::read_dir(scene.dir.path()).unwrap().count(), 1);
        // The new file goes with the socket.
        scene.look_for(Duration::from_secs(5));
        scene.sockets.first_mut().unwrap().remove_file();
        assert!(!scene.path.exists());
        let latest = scene.incidents.latest(10).0;
        assert_eq!(
            latest.iter().map(|it| (it.detail, it.count)).collect::<Vec<_>>(),
            [("gone", 1)]
        );
    }

    #[test]
    fn a_name_that_another_has_taken_over_is_left_to_it() {
        let mut scene = Scene::new();
        let (successor, file) = unix::bind(&scene.path, 0o600, true, None).unwrap();
        scene.look_for(Duration::from_secs(20));
        assert!(scene.trouble().unwrap().contains("belongs to another process"));
        assert_eq!(FileId::at(&scene.path).unwrap(), file.id());
        // It is dropped, and leaves the name to the server that was there before.
        drop((successor, file));
        scene.look_for(Duration::from_secs(5));
        assert_eq!(scene.trouble(), None);
        scene.renew();
        UnixStream::connect(&scene.path).unwrap();
    }

    /// While the journal is waited for.
    #[test]
    fn what_happens_to_a_file_before_it_is_watched_is_told_of() {
        let mut successor = None;
        let mut scene =
            Scene::with(|path| successor = Some(unix::bind(path, 0o600, true, None).unwrap()));
        scene.look_for(Duration::from_secs(1));
        assert!(scene.trouble().unwrap().contains("belongs to another process"));
        let mut scene = Scene::with(|path| fs::remove_file(path).unwrap());
        scene.look_for(Duration::from_secs(1));
        assert!(scene.trouble().unwrap().contains("is gone"));
        scene.look_for(GONE);
        assert_eq!(scene.trouble(), None, "made again");
    }

    #[test]
    fn what_has_come_to_the_place_of_a_file_meanwhile_stays() {
        let mut scene = Scene::new();
        fs::remove_file(&scene.path).unwrap();
        scene.look_for(Duration::from_secs(1));
        let _other = UnixListener::bind(&scene.path).unwrap();
        let other = FileId::at(&scene.path).unwrap();
        let refused = unix::make_again(&scene.path, 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        scene.look_for(Duration::from_secs(20));
        assert_eq!(FileId::at(&scene.path).unwrap(), other);
        fs::remove_file(&scene.path).unwrap();
        // A link of another user must not lead to a file that is written to.
        let precious = scene.dir.path().join("precious");
        fs::write(&precious, "data").unwrap();
        let precious_mode = || fs::metadata(&precious).unwrap().permissions().mode();
        let mode = precious_mode();
        std::os::unix::fs::symlink(&precious, &scene.path).unwrap();
        scene.look_for(Duration::from_secs(20));
        assert!(scene.trouble().unwrap().contains("belongs to another process"));
        assert_eq!(
            (fs::read_to_string(&precious).unwrap(), precious_mode()),
            ("data".into(), mode)
        );
        assert_eq!(scene.acceptor_config.renewed().len(), 0);
        assert_eq!(fs::read_dir(scene.dir.path()).unwrap().count(), 2, "no half-made socket");
    }

    #[test]
    fn a_server_that_stops_makes_nothing_again() {
        let mut scene = Scene::new();
        fs::remove_file(&scene.path).unwrap();
        scene.look_for(Duration::from_secs(1));
        scene.control.stop();
        scene.look_for(Duration::from_secs(20));
        assert!(!scene.path.exists());
    }
}
