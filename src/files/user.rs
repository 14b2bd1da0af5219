//! Acting with the rights of another user.

use std::{io, process};

use rustix::{
    fs::Stat,
    process::{Gid, Uid, getegid, getgroups},
    thread::{capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// A user whose rights root can take on for a while.
#[derive(Clone, Debug)]
pub struct User {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    groups: Vec<Gid>,
}

impl User {
    /// With `gid` as the group of what is made.
    pub fn new(uid: Uid, gid: Gid, groups: Vec<Gid>) -> Self {
        Self { uid, gid, groups }
    }

    /// The owner of `found`; `None` where that is root ([`is_ours`]).
    pub(super) fn owner(found: &Stat) -> Option<Self> {
        if is_ours(found) {
            return None;
        }
        let uid = Uid::from_raw(found.st_uid);
        let group = Gid::from_raw(found.st_gid);
        Some(match known(uid) {
            // A group that the owner is not in may have more rights.
            Some((_, groups)) if groups.contains(&group) && !group.is_root() => {
                Self::new(uid, group, groups)
            }
            Some((gid, groups)) => Self::new(uid, gid, groups),
            None if group.is_root() => Self::new(uid, Gid::from_raw(found.st_uid), Vec::new()),
            None => Self::new(uid, group, vec![group]),
        })
    }

    /// Does `work` with this user's rights and no others, in this thread alone.
    ///
    /// # Errors
    /// The rights cannot be taken on, as by a process that is not root.
    pub(crate) fn act<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let back = self.become_now()?;
        let outcome = work();
        drop(back);
        Ok(outcome)
    }

    fn become_now(&self) -> io::Result<Back> {
        let cannot = |error: io::Error| {
            let message = format!("cannot act as user {}: {error}", self.uid.as_raw());
            io::Error::new(error.kind(), message)
        };
        let (gid, groups) = (getegid(), getgroups()?);
        // A process that may not do this could not undo it.
        set_thread_groups(&self.groups).map_err(|error| cannot(error.into()))?;
        let back = Back { gid, groups };
        set_thread_res_gid(None, self.gid, None).map_err(|error| cannot(error.into()))?;
        set_thread_res_uid(None, self.uid, None).map_err(|error| cannot(error.into()))?;
        // The capabilities go with root's id, unless the process keeps them.
        if !capabilities(None)?.effective.is_empty() {
            return Err(cannot(io::Error::other("root's capabilities stay (securebits)")));
        }
        Ok(back)
    }
}

/// True for a file of root, or of a user that the process's user namespace does not have. Such a
/// user is outside of the namespace, as with `/` for the root of `unshare -r`.
pub(super) fn is_ours(found: &Stat) -> bool {
    found.st_uid == 0 || !is_mapped(found.st_uid)
}

fn is_mapped(uid: u32) -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else { return true };
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (first, count) = (numbers.next(), numbers.nth(1));
        match (first, count) {
            (Some(Ok(first)), Some(Ok(count))) => {
                (first..first.saturating_add(count)).contains(&u64::from(uid))
            }
            _ => true,
        }
    })
}

/// Root's own rights again when dropped.
struct Back {
    gid: Gid,
    groups: Vec<Gid>,
}

impl Drop for Back {
    fn drop(&mut self) {
        let own = || -> rustix::io::Result<()> {
            set_thread_res_uid(None, Uid::ROOT, None)?;
            set_thread_res_gid(None, self.gid, None)?;
            set_thread_groups(&self.groups)
        };
        if own().is_err() {
            // Root's id, which is kept meanwhile, allows all of it. A process that is half another
            // user cannot go on safely.
            process::abort();
        }
    }
}

/// The user's own group and all of its groups, where the list of users has it.
fn known(uid: Uid) -> Option<(Gid, Vec<Gid>)> {
    use nix::unistd::{self, getgrouplist};
    let entry = unistd::User::from_uid(unistd::Uid::from_raw(uid.as_raw())).ok().flatten()?;
    let name = std::ffi::CString::new(entry.name).ok()?;
    let groups = getgrouplist(&name, entry.gid).ok()?;
    let gid = Gid::from_raw(entry.gid.as_raw());
    Some((gid, groups.into_iter().map(|gid| Gid::from_raw(gid.as_raw())).collect()))
}
