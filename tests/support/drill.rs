//! Load that goes on while servers come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    chance::Chance,
    load::{Load, Sent},
    wait_going_on,
};

/// Ends a run where the test fails, so that no other process waits for it.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends `load` while `servers` has its way with the servers, and until everything is
/// acknowledged by the one that it leaves running; what was sent, and what `servers` gives.
pub(crate) fn under_load<T>(load: &Load, servers: impl FnOnce() -> T) -> (Sent, T) {
    thread::scope(|scope| {
        let cancel = Cancel(Arc::clone(&load.cancel));
        let sending = scope.spawn(|| load.send());
        let last = servers();
        wait_going_on("the run is over", || {
            (sending.is_finished(), load.acknowledged.load(Ordering::Relaxed))
        });
        let sent = sending.join().unwrap();
        drop(cancel);
        (sent, last)
    })
}

/// How many of the lines that are still to come the next life may write before its kill.
pub(crate) fn lines_of_a_life(chance: &mut Chance, left: u64, kills_left: usize) -> usize {
    chance.between(1, (left / (kills_left as u64 + 1)).max(1)) as usize
}
