//! How the main thread reaches the one that watches.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::watched_bot::WatchedBot;

/// What the thread has been asked for and has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Signal {
    request: Mutex<Request>,
    change: Condvar,
}

#[derive(Debug, Default)]
struct Request {
    is_stopped: bool,
    bots: Option<Vec<WatchedBot>>,
}

/// Why a wait has ended.
#[derive(Debug)]
pub(super) enum Woken {
    /// Its time is over.
    Due,
    /// These are to be watched over from now on.
    Follow(Vec<WatchedBot>),
    Stop,
}

impl Signal {
    pub(super) fn follow(&self, bots: Vec<WatchedBot>) {
        self.lock().bots = Some(bots);
        self.change.notify_all();
    }

    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.change.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// True where a wait would end at once.
    pub(super) fn is_set(&self) -> bool {
        let request = self.lock();
        request.is_stopped || request.bots.is_some()
    }

    /// Waits for so long at the most.
    pub(super) fn wait(&self, time: Duration) -> Woken {
        let is_idle = |request: &mut Request| !request.is_stopped && request.bots.is_none();
        let waited = self.change.wait_timeout_while(self.lock(), time, is_idle);
        let (mut request, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match request.bots.take() {
            _ if request.is_stopped => Woken::Stop,
            Some(bots) => Woken::Follow(bots),
            None => Woken::Due,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Request> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
