//! The sweep: one timer that ends what has taken too long, for all connections of a shard.

use std::{
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use super::Shard;
use crate::io::{
    connection_table::{SWEEP_ENDS, Sweep},
    runtime::{self, Rounds},
};

/// The sweep looks at every deadline this often at the most and at the least.
const SWEEP: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// The same during a stop, which waits for the last of them.
const DRAIN_SWEEP: Duration = Duration::from_millis(20);
/// Ends the waits whose deadline has passed, and tells who has been idle longest: one timer for all
/// connections of the shard.
pub(super) async fn sweep(shard: Weak<Shard>, mut rounds: Option<Rounds>) {
    loop {
        let plan = |shard: Rc<Shard>| {
            (shard.sweep_pause(), shard.context.is_draining.get(), Rc::clone(&shard.background))
        };
        let Some((pause, was_draining, background)) = shard.upgrade().map(plan) else { return };
        // A stop has sooner deadlines.
        let is_draining = || shard.upgrade().is_none_or(|shard| shard.context.is_draining.get());
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

impl Shard {
    /// Goes on with `sweep` until it is over, which is true, or other tasks should run first.
    fn sweep_on(&self, sweep: &mut Sweep) -> bool {
        let now = Instant::now();
        self.heartbeat.beat(now);
        let context = &self.context;
        if !context.table.sweep(sweep, now, &context.limits(), self.admission.are_awaited())
            || self.dismiss_late(now, SWEEP_ENDS) == SWEEP_ENDS
        {
            return false;
        }
        self.longest_idle.set(sweep.longest_idle);
        context.incidents.tell_suppressed(now);
        true
    }

    /// An eighth of the shortest timeout, so that none is overstepped by more than that.
    fn sweep_pause(&self) -> Duration {
        if self.context.is_draining.get() {
            return DRAIN_SWEEP;
        }
        let shortest = self.context.limits().shortest_timeout();
        (shortest / 8).clamp(SWEEP.0, SWEEP.1)
    }
}
