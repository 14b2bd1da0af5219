//! Whether an output takes what it is given.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

/// Marks of an output that was not taken out, and of one that was and has nothing left.
const IN_FORCE: u64 = u64::MAX;
const OVER: u64 = u64::MAX - 1;

/// The state of one output, which those say who bring updates to it. Any thread may ask for it.
#[derive(Debug)]
pub struct OutputState {
    down: Mutex<Option<OutputDown>>,
    /// So that an output that is up costs no lock.
    is_down: AtomicBool,
    is_left: AtomicBool,
    /// Whether the server has no other output.
    is_sole: AtomicBool,
    /// One of the marks, or how many updates are left of an output that was taken out.
    removed: AtomicU64,
    name: String,
}

/// An output that takes nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct OutputDown {
    /// What keeps it from taking anything, in a few words; never a part of an update.
    pub reason: String,
    /// Since when.
    pub since: SystemTime,
}

impl OutputState {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            down: Mutex::new(None),
            is_down: AtomicBool::new(false),
            is_left: AtomicBool::new(false),
            is_sole: AtomicBool::new(false),
            removed: AtomicU64::new(IN_FORCE),
            name: name.to_owned(),
        }
    }

    /// The output's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It takes nothing from now on, or still does not, for this reason.
    pub fn set_down(&self, reason: &str) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let since = down.as_ref().map_or_else(SystemTime::now, |down| down.since);
        *down = Some(OutputDown { reason: reason.to_owned(), since });
        self.is_down.store(true, Relaxed);
    }

    /// It takes updates again.
    pub fn set_up(&self) {
        if self.is_down.load(Relaxed) {
            let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
            self.is_down.store(false, Relaxed);
            *down = None;
        }
    }

    /// A stop of the server does not wait for it any more: what it has not taken stays in the
    /// journal for the next start, or is abandoned and counted where there is none. For one that
    /// is down, to be called once the stop has begun.
    pub fn leave(&self) {
        self.is_left.store(true, Relaxed);
    }

    /// True once [`leave`](Self::leave) has been called.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.is_left.load(Relaxed)
    }

    /// How many updates are left of an output that was [taken out](crate::Server::retire_output)
    /// of the running server; `None` where it was not.
    #[must_use]
    pub fn removed(&self) -> Option<u64> {
        match self.removed.load(Relaxed) {
            IN_FORCE => None,
            OVER => Some(0),
            left => Some(left),
        }
    }

    /// It is in force, or again.
    pub(crate) fn restore(&self) {
        self.removed.store(IN_FORCE, Relaxed);
        self.set_up();
    }

    /// It was taken out, and so many updates are left.
    pub(crate) fn set_removed(&self, left: u64) {
        self.removed.store(left.min(OVER - 1), Relaxed);
    }

    /// It was taken out, and nothing of it is left.
    pub(crate) fn set_over(&self) {
        self.removed.store(OVER, Relaxed);
        self.set_up();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.removed.load(Relaxed) == OVER
    }

    pub(crate) fn set_sole(&self, is_sole: bool) {
        self.is_sole.store(is_sole, Relaxed);
    }

    pub(crate) fn is_sole(&self) -> bool {
        self.is_sole.load(Relaxed)
    }

    /// What keeps it from taking anything; `None` where it takes what comes.
    #[must_use]
    pub fn down(&self) -> Option<OutputDown> {
        let is_down = self.is_down.load(Relaxed);
        is_down.then(|| self.down.lock().unwrap_or_else(PoisonError::into_inner).clone())?
    }
}

/// As a line of `/readyz` names it.
impl fmt::Display for OutputState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "output {}: ", self.name)?;
        let removed = self.removed();
        if let Some(left) = removed {
            write!(f, "removed, {left} update(s) left")?;
        }
        match self.down() {
            None if removed.is_some() => Ok(()),
            None => f.write_str("up"),
            Some(OutputDown { reason, since }) => {
                let separator = if removed.is_some() { "; " } else { "" };
                let since = humantime::format_rfc3339_seconds(since);
                write!(f, "{separator}down since {since}: {reason}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_down_since_that_was_said_first() {
        let state = OutputState::new("audit");
        assert_eq!((state.down(), state.to_string()), (None, "output audit: up".to_owned()));
        state.set_down("gone");
        let first = state.down().unwrap();
        state.set_down("full");
        assert_eq!(state.down(), Some(OutputDown { reason: "full".to_owned(), ..first }));
        assert!(state.to_string().starts_with("output audit: down since 2"), "{state}");
        assert!(state.to_string().ends_with("Z: full"), "{state}");
        state.set_removed(3);
        assert!(state.to_string().starts_with("output audit: removed, 3 update(s) left; down "));
        state.set_up();
        assert_eq!((state.down(), state.removed()), (None, Some(3)));
        assert_eq!(state.to_string(), "output audit: removed, 3 update(s) left");
        state.set_over();
        assert_eq!((state.is_over(), state.removed()), (true, Some(0)));
        state.restore();
        assert_eq!((state.is_over(), state.removed()), (false, None));
    }
}
