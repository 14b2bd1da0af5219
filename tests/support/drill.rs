//! Load that goes on while servers come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use loadtest::{Options, Progress};

use super::{chance::Chance, wait_going_on};

/// Ends a run where the test fails, so that no other process waits for it.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends `options` while `servers` has its way with the servers, and until everything is
/// acknowledged by the one that it leaves running; what was sent, and what `servers` gives.
pub(crate) fn under_load<T>(
    options: &Options,
    servers: impl FnOnce() -> T,
) -> (loadtest::Report, T) {
    under_watched_load(options, |_| servers())
}

/// As [`under_load`]; `servers` can ask how many updates are acknowledged so far.
pub(crate) fn under_watched_load<T>(
    options: &Options,
    servers: impl FnOnce(&dyn Fn() -> u64) -> T,
) -> (loadtest::Report, T) {
    let acknowledged = AtomicU64::new(0);
    thread::scope(|scope| {
        let cancel = Cancel(Arc::clone(&options.cancel));
        let load = scope.spawn(|| {
            let watch = |now: &Progress| acknowledged.store(now.acknowledged, Ordering::Relaxed);
            let sent = loadtest::run_watched(options, watch).unwrap();
            acknowledged.store(sent.acknowledged, Ordering::Relaxed);
            sent
        });
        let last = servers(&|| acknowledged.load(Ordering::Relaxed));
        wait_going_on("the run is over", || {
            (load.is_finished(), acknowledged.load(Ordering::Relaxed))
        });
        drop(cancel);
        let sent = load.join().unwrap();
        assert!(sent.is_ok(), "{sent}");
        (sent, last)
    })
}

/// How many of the lines that are still to come the next life may write before its kill.
pub(crate) fn lines_of_a_life(chance: &mut Chance, left: u64, kills_left: usize) -> usize {
    chance.between(1, (left / (kills_left as u64 + 1)).max(1)) as usize
}
