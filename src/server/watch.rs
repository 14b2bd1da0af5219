//! A thread that checks a few times a second for outside changes, such as those of files.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    control::operation::{Operation, Step},
    error::Error,
};

/// Time between two looks. What has changed is noticed at the second look after it.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// Looks at one thing; called again and again, never by two threads at once.
pub(super) type Watched = Box<dyn FnMut(Instant) + Send>;

/// The thread, for as long as it is to run.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

/// Ends the pause between two looks.
#[derive(Debug, Default)]
struct Stop {
    is_stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for the next look; false where there is none.
    fn pause(&self, pause: Duration) -> bool {
        let is_stopped = self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_stopped, pause, |is_stopped| !*is_stopped);
        let (is_stopped, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*is_stopped
    }
}

impl Watcher {
    /// Has `spawn` start a thread that looks at all of `watched` after each `pause`; `None` where
    /// there is nothing to look at. `operation` records how long a look has taken.
    pub(super) fn start(
        pause: Duration,
        mut watched: Vec<Watched>,
        operation: Arc<Operation>,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> Result<JoinHandle<()>, Error>,
    ) -> Result<Option<Self>, Error> {
        if watched.is_empty() {
            return Ok(None);
        }
        let stop = Arc::new(Stop::default());
        let pause_end = Arc::clone(&stop);
        let run = move || {
            while pause_end.pause(pause) {
                for look in &mut watched {
                    let now = Instant::now();
                    let _looking = operation.during(Step::Watch, now);
                    look(now);
                }
            }
        };
        Ok(Some(Self { stop, thread: spawn(Box::new(run))? }))
    }

    /// Makes the thread end, and returns it to be joined.
    pub(super) fn stop(self) -> JoinHandle<()> {
        *self.stop.is_stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        self.thread
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn it_looks_at_everything_until_it_is_stopped() {
        let (looked, looks) = mpsc::channel();
        let watched = ["a", "b"].map(|name| {
            let looked = looked.clone();
            Box::new(move |_| looked.send(name).unwrap()) as Watched
        });
        let spawn = |run| Ok(thread::spawn(run));
        let watcher = Watcher::start(PAUSE, watched.into(), Arc::default(), spawn).unwrap();
        let first: Vec<_> = looks.iter().take(4).collect();
        assert_eq!(first, ["a", "b", "a", "b"]);
        watcher.unwrap().stop().join().unwrap();
        drop(looked);
        assert!(looks.iter().count() < 1000, "the channel ends with the thread");
    }

    #[test]
    fn it_does_not_run_for_nothing() {
        let spawn = |_| unreachable!("no thread is wanted");
        let none = Watcher::start(PAUSE, Vec::new(), Arc::default(), spawn);
        assert!(none.unwrap().is_none());
    }
}
