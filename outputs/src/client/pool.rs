//! Connections that wait for a request.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// A connection that can be kept.
pub(crate) trait Kept {
    /// True where it can take a request at once, as far as is known.
    fn is_usable(&mut self) -> bool;
}

/// The idle connections to one server.
pub(crate) struct Pool<C> {
    idle: Mutex<Vec<(C, Instant)>>,
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self { idle: Mutex::default() }
    }
}

impl<C: Kept> Pool<C> {
    /// The connection that has been idle for the shortest time, which is the least likely to have
    /// been closed by the server.
    pub(crate) fn take(&self) -> Option<C> {
        let mut idle = self.idle();
        while let Some((mut connection, _)) = idle.pop() {
            if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn put(&self, connection: C) {
        self.idle().push((connection, Instant::now()));
    }

    /// Closes the connections that have been idle since `since`, and forgets those that the server
    /// has closed.
    pub(crate) fn sweep(&self, since: Instant) {
        self.idle().retain_mut(|(connection, idle_at)| *idle_at > since && connection.is_usable());
    }

    /// Closes all of them.
    pub(crate) fn clear(&self) {
        self.idle().clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.idle().is_empty()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(C, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
