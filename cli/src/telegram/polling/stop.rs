//! How a thread learns that it is to end.

use std::{convert::Infallible, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

/// Dropping it notifies all threads that have the [`Stop`].
#[derive(Debug)]
pub(crate) struct Stopper {
    _tells: Sender<Infallible>,
}

/// Tells when to end. Clones tell the same.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Receiver<Infallible>);

impl Stop {
    pub(crate) fn new() -> (Stopper, Self) {
        let (sender, receiver) = bounded(0);
        (Stopper { _tells: sender }, Self(receiver))
    }

    pub(crate) fn is_told(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Waits for so long; false where it is told to end meanwhile, or was before.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        matches!(self.0.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Ready when it is told.
    pub(super) fn channel(&self) -> &Receiver<Infallible> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Instant};

    use super::*;

    #[test]
    fn a_pause_ends_with_the_stop() {
        let (stopper, stop) = Stop::new();
        assert!(stop.pause(Duration::from_millis(1)) && !stop.is_told());
        let other = stop.clone();
        let waiting = thread::spawn(move || (other.pause(Duration::from_secs(60)), Instant::now()));
        let told_at = Instant::now();
        drop(stopper);
        let Ok((goes_on, woken_at)) = waiting.join() else { unreachable!() };
        assert!(!goes_on && woken_at - told_at < Duration::from_secs(30));
        assert!(stop.is_told() && !stop.pause(Duration::from_secs(60)));
    }
}
