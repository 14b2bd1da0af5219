//! How handshakes under way share a shard with the established connections.
//!
//! A step of a handshake costs as much time as ten updates, or a hundred with an RSA key, and with
//! a flood of them many are ready at once. Established connections would wait behind all of them.
//! So steps take time slices: [`ROUND`] of them run one after the other, then all that has come
//! from the network meanwhile is served, then the next ones run. A request waits for one round of
//! handshakes at the most. Handshakes in the middle run before those that begin: in TLS 1.3 such a
//! client has done its own part and takes its connection for established, so its first request is
//! on the way.
//!
//! While established connections are at work, handshakes get a sixth of the shard's time, and pause
//! where they have had it: a thread that is never idle would also delay what shares its CPU, such
//! as workers and the acceptor. That is more than a thousand full handshakes a second. A quarter
//! was measured too, and comes near to doubling the p99 of the others. Where no connection is at
//! work, handshakes get all of the time.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::io::{
    background::Background,
    runtime::{self, Rounds},
    tls::HandshakeStep,
};

/// Time for handshakes between two looks at the network; at least one step.
const ROUND: Duration = Duration::from_micros(50);
/// How much more time everything else gets than handshakes.
const OTHERS: u32 = 5;
/// What handshakes may owe to the others before they pause for as long: a time that a timer can
/// measure.
const DEBT: Duration = Duration::from_millis(1);
/// How long ago an update may have been answered for its connection to be at work.
const AT_WORK: Duration = Duration::from_millis(500);

/// Which handshake has the slice, and which wait for one.
#[derive(Debug, Default)]
pub(crate) struct HandshakeScheduler {
    /// Updates acknowledged on connections that had had an answer before.
    answered_again: Cell<u64>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Time that the others have to get until handshakes have had no more than their share.
    debt: Duration,
    /// A handshake has the slice.
    is_taken: bool,
    /// A round is under way, which [`HandshakeScheduler::end_round`] will end.
    is_begun: bool,
    /// Wakes the task that ends rounds.
    pacer: Option<Waker>,
    /// Time that handshakes took in this round.
    spent: Duration,
    waiting: RunQueue,
}

/// The handshakes that wait for a slice.
#[derive(Debug, Default)]
struct RunQueue {
    beginners: VecDeque<Rc<WaitingHandshake>>,
    others: VecDeque<Rc<WaitingHandshake>>,
}

impl RunQueue {
    fn is_empty(&self) -> bool {
        self.beginners.is_empty() && self.others.is_empty()
    }

    fn add(&mut self, step: HandshakeStep, waiting: Rc<WaitingHandshake>) {
        match step {
            HandshakeStep::Begin => self.beginners.push_back(waiting),
            HandshakeStep::GoOn => self.others.push_back(waiting),
        }
    }

    fn next(&mut self) -> Option<Rc<WaitingHandshake>> {
        self.others.pop_front().or_else(|| self.beginners.pop_front())
    }
}

#[derive(Debug, Default)]
struct WaitingHandshake {
    has_slice: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A slice; it is passed on when this is dropped. To be held without an await.
#[derive(Debug)]
#[must_use]
pub(crate) struct TimeSlice<'a> {
    began_at: Instant,
    scheduler: &'a HandshakeScheduler,
}

impl HandshakeScheduler {
    /// Notes that an established connection has had another update acknowledged.
    #[inline]
    pub(crate) fn note_answered_again(&self) {
        self.answered_again.set(self.answered_again.get().wrapping_add(1));
    }

    /// Waits for a slice. The future must be polled to its end, as all that connections wait for.
    pub(crate) async fn slice(&self, step: HandshakeStep) -> TimeSlice<'_> {
        if let Some(waiting) = self.take_or_wait(step) {
            poll_fn(|context| {
                if waiting.has_slice.get() {
                    return Poll::Ready(());
                }
                *waiting.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
        }
        TimeSlice { began_at: Instant::now(), scheduler: self }
    }

    /// `None` where the slice is the caller's at once.
    fn take_or_wait(&self, step: HandshakeStep) -> Option<Rc<WaitingHandshake>> {
        let mut state = self.state.borrow_mut();
        if !state.is_taken && state.spent < ROUND && state.waiting.is_empty() {
            state.is_taken = true;
            return None;
        }
        let waiting = Rc::new(WaitingHandshake::default());
        state.waiting.add(step, Rc::clone(&waiting));
        Some(waiting)
    }

    /// Ready when a round has begun; then the caller looks at the network and ends it.
    pub(crate) fn poll_begun(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        if state.is_begun {
            return Poll::Ready(());
        }
        state.pacer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Everything else took `others` since the round began: how long handshakes have to pause,
    /// where that is necessary. `is_shared` says whether established connections are at work.
    pub(crate) fn settle(&self, others: Duration, is_shared: bool) -> Option<Duration> {
        let mut state = self.state.borrow_mut();
        let debt = if is_shared { state.debt + OTHERS * state.spent } else { Duration::ZERO };
        let debt = debt.saturating_sub(others);
        let is_due = debt >= DEBT;
        state.debt = if is_due { Duration::ZERO } else { debt };
        is_due.then_some(debt)
    }

    /// Time that handshakes have taken in this round.
    pub(crate) fn spent(&self) -> Duration {
        self.state.borrow().spent
    }

    /// The network has been looked at since the round began: the next ones may go on.
    pub(crate) fn end_round(&self) {
        let mut state = self.state.borrow_mut();
        state.spent = Duration::ZERO;
        // The next handshake that waits begins the next round.
        state.is_begun = state.is_taken;
        state.pass_on();
    }
}

impl State {
    /// Gives the slice to the first that waits, if the round has time left.
    fn pass_on(&mut self) {
        if self.is_taken || self.spent >= ROUND {
            return;
        }
        let Some(next) = self.waiting.next() else { return };
        self.is_taken = true;
        next.has_slice.set(true);
        if let Some(waker) = next.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for TimeSlice<'_> {
    fn drop(&mut self) {
        let mut state = self.scheduler.state.borrow_mut();
        state.spent += self.began_at.elapsed();
        state.is_taken = false;
        if !state.is_begun {
            state.is_begun = true;
            if let Some(pacer) = state.pacer.take() {
                pacer.wake();
            }
        }
        state.pass_on();
    }
}

/// Lets the handshakes go on, round by round, whenever the network has been looked at. It holds
/// `scheduler` weakly, and over no wait.
pub(crate) async fn pace(
    scheduler: Weak<HandshakeScheduler>,
    background: Rc<Background>,
    mut rounds: Option<Rounds>,
) {
    // Updates answered on connections that have had others before, and when there were last more of
    // them: where each connection makes one request, handshakes are what there is to do.
    let (mut answered, mut at_work_at) = (0, None::<Instant>);
    loop {
        poll_fn(|context| match scheduler.upgrade() {
            Some(scheduler) if !background.is_over() => scheduler.poll_begun(context),
            _ => Poll::Ready(()),
        })
        .await;
        let began_at = Instant::now();
        runtime::give_way(&mut rounds).await;
        let settle = |scheduler: &HandshakeScheduler| {
            let now = Instant::now();
            let count = scheduler.answered_again.get();
            if count != answered {
                (answered, at_work_at) = (count, Some(now));
            }
            let is_shared =
                at_work_at.is_some_and(|at| now.saturating_duration_since(at) < AT_WORK);
            let others = now.saturating_duration_since(began_at).saturating_sub(scheduler.spent());
            scheduler.settle(others, is_shared)
        };
        let Some(pause) = scheduler.upgrade().as_deref().map(settle) else { return };
        if let Some(pause) = pause {
            background.pause(pause, || false).await;
        }
        let Some(scheduler) = scheduler.upgrade() else { return };
        scheduler.end_round();
        if background.is_over() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, thread};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_begun(scheduler: &HandshakeScheduler) -> bool {
        scheduler.poll_begun(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn short_steps_share_a_round_and_a_long_one_ends_it() {
        let scheduler = HandshakeScheduler::default();
        assert!(!is_begun(&scheduler));
        let Poll::Ready(first) = poll(pin!(scheduler.slice(HandshakeStep::Begin))) else {
            unreachable!("it is free")
        };
        let (mut second, mut third) = (
            pin!(scheduler.slice(HandshakeStep::Begin)),
            pin!(scheduler.slice(HandshakeStep::Begin)),
        );
        assert!(poll(second.as_mut()).is_pending(), "one at a time");
        assert!(poll(third.as_mut()).is_pending());
        drop(first);
        assert!(is_begun(&scheduler));
        let Poll::Ready(second) = poll(second) else { unreachable!("the first was short") };
        assert!(poll(third.as_mut()).is_pending(), "in the order in which they came");
        thread::sleep(ROUND);
        drop(second);
        assert!(poll(third.as_mut()).is_pending(), "the round's time is over");
        let mut late = pin!(scheduler.slice(HandshakeStep::Begin));
        assert!(poll(late.as_mut()).is_pending(), "for all of them");
        scheduler.end_round();
        assert!(poll(late.as_mut()).is_pending(), "none overtakes");
        let Poll::Ready(third) = poll(third) else { unreachable!("a new round") };
        drop(third);
        assert!(matches!(poll(late), Poll::Ready(_)));
    }

    #[test]
    fn handshakes_in_the_middle_go_first() {
        let scheduler = HandshakeScheduler::default();
        let Poll::Ready(first) = poll(pin!(scheduler.slice(HandshakeStep::Begin))) else {
            unreachable!("free")
        };
        let (mut begin, mut go_on) = (
            pin!(scheduler.slice(HandshakeStep::Begin)),
            pin!(scheduler.slice(HandshakeStep::GoOn)),
        );
        assert!(poll(begin.as_mut()).is_pending());
        assert!(poll(go_on.as_mut()).is_pending());
        drop(first);
        assert!(poll(begin.as_mut()).is_pending());
        let Poll::Ready(second) = poll(go_on) else { unreachable!("it has got further") };
        drop(second);
        assert!(poll(begin).is_ready());
    }

    #[test]
    fn handshakes_pause_for_what_they_took_beyond_their_share() {
        let scheduler = HandshakeScheduler::default();
        let took = |spent: u64, others: u64, is_shared| {
            scheduler.state.borrow_mut().spent = Duration::from_micros(spent);
            scheduler.settle(Duration::from_micros(others), is_shared)
        };
        assert_eq!(took(120, 100, true), None, "half a millisecond is no time");
        assert_eq!(took(120, 100, true), Some(Duration::from_millis(1)));
        assert_eq!(took(190, 0, true), None, "it is paid");
        assert_eq!(took(50, 5000, true), None);
        assert_eq!(
            took(199, 0, true),
            None,
            "what others took is paid back, and no more than that"
        );
        assert_eq!(took(5000, 0, false), None, "no other connection is there");
        assert_eq!(took(199, 0, true), None);
        assert_eq!(took(1, 0, true), Some(Duration::from_millis(1)));
    }

    #[test]
    fn the_pacer_sleeps_without_handshakes() {
        let scheduler = HandshakeScheduler::default();
        drop(poll(pin!(scheduler.slice(HandshakeStep::Begin))));
        assert!(is_begun(&scheduler));
        scheduler.end_round();
        assert!(!is_begun(&scheduler));
        assert!(
            poll(pin!(scheduler.slice(HandshakeStep::Begin))).is_ready(),
            "its time begins anew"
        );
    }
}
