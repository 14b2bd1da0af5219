//! The sweep: one timer that ends what has taken too long, for all connections of a shard.

use std::{
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use super::{End, Shard, handshakes::QUICK_ENOUGH};
use crate::io::runtime::{self, Rounds};

/// The sweep looks at every deadline this often at the most and at the least.
const SWEEP: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// The same during a stop, which waits for the last of them.
const DRAIN_SWEEP: Duration = Duration::from_millis(20);
/// Connections that a sweep ends, and looks at, before all others have their slice. An end is a last
/// word, encrypted and sent, and a look mostly a miss of the cache.
const SWEEP_ENDS: usize = 2;
const SWEEP_LOOKS: usize = 256;

/// Ends the waits whose deadline has passed, and tells who has been idle longest: one timer for all
/// connections of the shard.
pub(super) async fn sweep(shard: Weak<Shard>, mut rounds: Option<Rounds>) {
    loop {
        let plan = |shard: Rc<Shard>| {
            (shard.sweep_pause(), shard.draining.get(), Rc::clone(&shard.background))
        };
        let Some((pause, was_draining, background)) = shard.upgrade().map(plan) else { return };
        // A stop has sooner deadlines.
        let is_draining = || shard.upgrade().is_none_or(|shard| shard.draining.get());
        background.pause(pause, || !was_draining && is_draining()).await;
        let mut sweep = Sweep::default();
        loop {
            let Some(shard) = shard.upgrade().filter(|shard| !shard.background.is_over()) else {
                return;
            };
            if shard.sweep_on(&mut sweep) {
                break;
            }
            drop(shard);
            runtime::give_way(&mut rounds).await;
        }
    }
}

/// How far a sweep has come.
#[derive(Default)]
struct Sweep {
    longest_idle: Option<Instant>,
    /// The place among the connections that is looked at next.
    next: usize,
}

impl Shard {
    /// Goes on with `sweep` until it is over, which is true, or the others should have their slice:
    /// thousands of deadlines may pass at once, and each of them means a last word and a close.
    fn sweep_on(&self, sweep: &mut Sweep) -> bool {
        let (now, limits) = (Instant::now(), self.limits());
        self.heartbeat.beat(now);
        let are_awaited = self.handshakes.are_awaited();
        let connections = self.connections.borrow();
        let (mut ended, mut looks) = (0, 0);
        // Places are few more than there have been connections at a time.
        while sweep.next < connections.capacity() {
            if ended == SWEEP_ENDS || looks == SWEEP_LOOKS {
                return false;
            }
            let watch = connections.get(sweep.next);
            sweep.next += 1;
            looks += 1;
            let Some(watch) = watch else { continue };
            let end = if watch.deadline.get() <= now {
                Some(End::Deadline)
            } else if watch.is_too_slow(&limits, now) {
                Some(End::TooSlow)
            } else if are_awaited && watch.shakes_hands_for(QUICK_ENOUGH, now) {
                Some(End::Displaced)
            } else {
                None
            };
            if let Some(end) = end {
                watch.end(end, now);
                ended += 1;
            } else if let Some(since) = watch.idle_since() {
                let longest = sweep.longest_idle.get_or_insert(since);
                *longest = since.min(*longest);
            }
        }
        if self.dismiss_late(now, SWEEP_ENDS) == SWEEP_ENDS {
            return false;
        }
        self.idle.tell(sweep.longest_idle);
        self.incidents.tell_suppressed(now);
        true
    }

    /// An eighth of the shortest timeout, so that none is overstepped by more than that.
    fn sweep_pause(&self) -> Duration {
        if self.draining.get() {
            return DRAIN_SWEEP;
        }
        let shortest = self.limits().shortest_timeout();
        (shortest / 8).clamp(SWEEP.0, SWEEP.1)
    }
}
