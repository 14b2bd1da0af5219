//! The committer's side of the hand-over of batches; the shards' side is the intake.
//!
//! A batch goes to the committer through a channel and is followed by a wake of the thread. It
//! comes back through the channel of its home and is followed by a wake of the home's task. Either
//! side looks into its channel after it has become one that can be woken and before it sleeps.

use std::sync::Arc;

use super::Batch;
use crate::{
    proto::update::Recycled,
    sync::{AtomicWaker, OnceLock, Receiver, Sender, Thread, TryRecvError, current, park},
};

/// Batches and bytes that are written together at the most: what has gathered waits for one write.
const BATCHES_MAX: usize = 256;
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where a batch goes back to.
#[derive(Debug)]
pub(crate) struct BatchReturn {
    pub(crate) batches: Sender<Batch>,
    /// Where the memory of updates goes that stay in the journal for now.
    pub(crate) recycled: Option<Sender<Recycled>>,
    /// Wakes the task that waits for the batches.
    pub(crate) waker: Arc<AtomicWaker>,
}

impl BatchReturn {
    pub(super) fn give_back(&self, batch: Batch) {
        // A shard stays until its batches are back.
        let _ = self.batches.send(batch);
        self.waker.wake();
    }

    /// Tells the home that no batch comes back any more.
    pub(super) fn end(self) {
        // First: the woken task looks whether anything can come.
        drop(self.batches);
        self.waker.wake();
    }
}

/// The committer's thread, once it runs.
#[derive(Debug, Default)]
pub(crate) struct CommitterThread(OnceLock<Thread>);

impl CommitterThread {
    /// To be called by that thread before it looks for the first batch.
    pub(super) fn attach(&self) {
        let _ = self.0.set(current());
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// Gives what has gathered to `commit`, which takes all of it, until no batch can come any more.
/// `commit` gets none before the thread sleeps.
pub(super) fn receive(batches: &Receiver<Batch>, mut commit: impl FnMut(&mut Vec<Batch>)) {
    let mut gathered = Vec::new();
    loop {
        let is_over = gather(batches, &mut gathered);
        if gathered.is_empty() && is_over {
            return;
        }
        let sleeps = gathered.is_empty();
        commit(&mut gathered);
        debug_assert!(gathered.is_empty(), "a batch that does not go back");
        if sleeps {
            // Not the channel's own wait: it yields before it sleeps, and on a machine whose CPUs
            // are all busy a thread that yields is not run again for a tick of the kernel, which
            // is milliseconds.
            park();
        }
    }
}

/// Takes what is there, up to the bounds of one write; true where nothing can come any more.
fn gather(batches: &Receiver<Batch>, gathered: &mut Vec<Batch>) -> bool {
    let mut bytes = 0;
    loop {
        match batches.try_recv() {
            Ok(batch) => {
                bytes += batch.len();
                gathered.push(batch);
                if bytes >= BYTES_MAX || gathered.len() >= BATCHES_MAX {
                    return false;
                }
            }
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => return true,
        }
    }
}
