//! Giving up what only the start needs: root, and the way back to it.
//!
//! The calls are the C library's, which changes all threads of the process; the system calls
//! themselves change one.

use std::{ffi::CString, fs};

use nix::unistd::{
    Gid, Group, ROOT, Uid, User, geteuid, getgrouplist, getresgid, getresuid, initgroups,
    setgroups, setresgid, setresuid, setuid,
};

use ringhook::{Error, ErrorKind, internals::files};

/// Whom the server becomes once its addresses are bound.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    gid: Gid,
    /// The user's name, whose further groups come along.
    name: Option<CString>,
    uid: Uid,
}

/// From now on no program that this process, or a thread of it, may start has more rights than it
/// has itself. To be called before any thread is started: the kernel keeps it for each.
pub(crate) fn never_more() -> Result<(), Error> {
    rustix::thread::set_no_new_privs(true).map_err(|source| {
        Error::with_source(ErrorKind::Privileges, "cannot set NO_NEW_PRIVS", source)
    })
}

impl Identity {
    /// The user and group of the config, by name or number; `None` where there is no user.
    ///
    /// # Errors
    /// There is no such user or group, it is root, a group without a user, or we are not root, who
    /// alone may become another.
    pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Self>, Error> {
        let Some(user) = user else {
            return match group {
                None => Ok(None),
                Some(group) => Err(Error::config("server.group", group, "server.user beside it")),
            };
        };
        let failed = |source| {
            Error::with_source(ErrorKind::Privileges, "cannot read the list of users", source)
        };
        let number = user.parse::<u32>().ok().map(Uid::from_raw);
        let entry = match User::from_name(user).map_err(failed)? {
            Some(entry) => Some(entry),
            None => number.map(User::from_uid).transpose().map_err(failed)?.flatten(),
        };
        let unknown = || Error::config("server.user", user, "the name or number of a user");
        let uid = entry.as_ref().map(|entry| entry.uid).or(number).ok_or_else(unknown)?;
        let gid = match group {
            Some(name) => {
                let number = name.parse::<u32>().ok().map(Gid::from_raw);
                let entry = Group::from_name(name).map_err(failed)?.map(|entry| entry.gid);
                let expected = "the name or number of a group";
                entry.or(number).ok_or_else(|| Error::config("server.group", name, expected))?
            }
            None => entry.as_ref().map(|entry| entry.gid).ok_or_else(|| {
                let expected = "server.group (--group) beside the number of a user without a name";
                Error::config("server.user", user, expected)
            })?,
        };
        if uid.is_root() {
            return Err(Error::config("server.user", user, "another user than root"));
        }
        if !geteuid().is_root() {
            let expected = "a start as root, who alone may become another user (leave it out, or \
                            let the service manager choose the user)";
            return Err(Error::config("server.user", user, expected));
        }
        let name = entry.and_then(|entry| CString::new(entry.name).ok());
        Ok(Some(Self { gid, name, uid }))
    }

    /// Becomes that user for good, in all threads.
    ///
    /// # Errors
    /// What could not be done, or could be undone; then the process has to end.
    pub(crate) fn assume(&self) -> Result<(), Error> {
        let step = |what: &str, outcome: nix::Result<()>| {
            let message = format!("cannot become user {}: {what}", self.uid);
            outcome.map_err(|source| Error::with_source(ErrorKind::Privileges, message, source))
        };
        match &self.name {
            Some(name) => step("initgroups", initgroups(name, self.gid))?,
            None => step("setgroups", setgroups(&[self.gid]))?,
        }
        step("setresgid", setresgid(self.gid, self.gid, self.gid))?;
        step("setresuid", setresuid(self.uid, self.uid, self.uid))?;
        match self.is_assumed() {
            true => Ok(()),
            false => {
                let message = format!("user {} could become root again", self.uid);
                Err(Error::new(ErrorKind::Privileges, message))
            }
        }
    }

    /// True where nothing of root is left, and it cannot be had again.
    fn is_assumed(&self) -> bool {
        let (uid, gid) = (self.uid.as_raw(), self.gid.as_raw());
        let uids = getresuid()
            .is_ok_and(|it| [it.real, it.effective, it.saved].iter().all(|it| it.as_raw() == uid));
        let gids = getresgid()
            .is_ok_and(|it| [it.real, it.effective, it.saved].iter().all(|it| it.as_raw() == gid));
        uids && gids && setuid(ROOT).is_err() && threads_are(uid, gid)
    }

    /// The same for files that are opened and made before that.
    pub(crate) fn user(&self) -> files::User {
        let group = |gid: Gid| rustix::process::Gid::from_raw(gid.as_raw());
        // As for the process itself later, and fewer where the list of groups cannot be read.
        let groups = self.name.as_ref().and_then(|name| getgrouplist(name, self.gid).ok());
        let groups = groups.unwrap_or_else(|| vec![self.gid]).into_iter().map(group).collect();
        let uid = rustix::process::Uid::from_raw(self.uid.as_raw());
        files::User::new(uid, group(self.gid), groups)
    }
}

/// True where each thread of the process has these ids and no capability, as the kernel tells.
fn threads_are(uid: u32, gid: u32) -> bool {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return false };
    threads.flatten().all(|thread| {
        // The thread may have ended meanwhile.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { return true };
        let all_are = |field: &str, id: u32| {
            let ids = status.lines().find_map(|line| line.strip_prefix(field));
            ids.is_some_and(|ids| ids.split_whitespace().all(|it| it.parse() == Ok(id)))
        };
        let none = |field: &str| {
            let set = status.lines().find_map(|line| line.strip_prefix(field));
            set.is_none_or(|set| set.trim().bytes().all(|digit| digit == b'0'))
        };
        all_are("Uid:", uid) && all_are("Gid:", gid) && none("CapPrm:") && none("CapEff:")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn error(user: Option<&str>, group: Option<&str>) -> String {
        Identity::find(user, group).unwrap_err().to_string()
    }

    #[test]
    fn who_is_not_there_is_named() {
        assert!(Identity::find(None, None).unwrap().is_none());
        assert_eq!(
            error(Some("no-such-user"), None),
            "server.user = no-such-user: expected the name or number of a user"
        );
        assert!(error(None, Some("root")).starts_with("server.group = root: expected server.user"));
        assert!(
            error(Some("1"), Some("no-such-group")).starts_with("server.group = no-such-group")
        );
        assert!(error(Some("root"), None).ends_with("another user than root"));
        assert!(error(Some("0"), None).ends_with("another user than root"));
        assert!(error(Some("4294000000"), None).contains("server.group (--group) beside"));
    }

    #[test]
    fn a_number_without_a_name_is_a_user_too() {
        match Identity::find(Some("4294000000"), Some("4294000001")) {
            Ok(identity) => {
                let identity = identity.unwrap();
                let ids = (identity.uid.as_raw(), identity.gid.as_raw());
                assert_eq!((ids, identity.name), ((4_294_000_000, 4_294_000_001), None));
            }
            Err(error) => {
                assert!(!geteuid().is_root());
                assert!(error.to_string().contains("a start as root"), "{error}");
            }
        }
    }
}
