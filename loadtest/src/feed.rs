//! What is to be sent next: the schedule's requests, failed ones again, and copies.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    rc::Rc,
};

use crate::{
    Options,
    backoff::Backoff,
    chats::Chats,
    clock::{Nanos, nanos},
    copies::{Copies, When},
    rng::Rng,
    schedule::{Next, Schedule},
    source::Source,
};

/// In a closed loop, as many updates per connection may wait behind others of their chats; then no
/// more fall due. Otherwise one chat that is refused would let everything fall due at once.
const CLOSED_WAITING_PER_CONNECTION: usize = 16;

/// Hands out requests to connections and takes note of what became of them.
///
/// Without retries and copies that is the schedule and nothing else: no memory, no bookkeeping.
pub(crate) struct Feed {
    schedule: Schedule,
    first_update_id: u64,
    seed: u64,
    source: Rc<Source>,
    copies: Option<Copies>,
    retrying: Option<Retrying>,
    /// What may leave now, apart from the schedule.
    ready: VecDeque<Job>,
    in_flight: usize,
    /// Updates that fell due.
    planned: u64,
    copies_planned: u64,
    /// Whether only what is in flight is waited for.
    ended: bool,
}

/// What it takes to send failed requests again.
struct Retrying {
    chats: Chats,
    /// Failed requests, the next to be tried on top.
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// What delays are divided by.
    scale: f64,
    /// How many updates may wait in a closed loop.
    closed_waiting_max: usize,
    /// When the last request was taken from the schedule.
    last_taken: Nanos,
}

/// A request to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) update_id: u64,
    /// When it was due the first time.
    pub(crate) due: Nanos,
    /// From when on it could be sent, had a connection been free.
    pub(crate) ready: Nanos,
    /// Whether it is sent on top of the schedule.
    pub(crate) copy: bool,
    backoff: Backoff,
    /// The connection that must not carry it.
    avoid: Option<usize>,
}

impl Job {
    /// One that was due at `due` and has failed as `backoff` tells.
    pub(crate) fn again(update_id: u64, due: Nanos, backoff: Backoff) -> Self {
        Self { update_id, due, ready: due, copy: false, backoff, avoid: None }
    }

    /// How many times it was tried before.
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }
}

/// What a connection gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Offer {
    /// Nothing more, ever.
    End,
    /// This request.
    Job(Job),
    /// Nothing before this time, if not because of what other connections do.
    Wait(Nanos),
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered with 2xx.
    Acknowledged,
    /// It was answered otherwise, or not at all.
    Failed {
        /// The delay that the answer asked for, in seconds; 0 if it did not.
        retry_after_s: u32,
    },
}

/// A failed request, ordered by the time of its next try.
struct Delayed(Job);

impl Feed {
    pub(crate) fn new(options: &Options, source: Rc<Source>) -> Self {
        let retrying = options.retry.as_ref().map(|retry| Retrying {
            chats: Chats::default(),
            delayed: BinaryHeap::new(),
            scale: retry.scale,
            closed_waiting_max: options.connections * CLOSED_WAITING_PER_CONNECTION,
            last_taken: 0,
        });
        let share = options.duplicates;
        Self {
            schedule: Schedule::new(options, source.len()),
            first_update_id: options.first_update_id,
            seed: options.payload.seed,
            source,
            copies: (share > 0.0).then(|| Copies::new(options.payload.seed, share)),
            retrying,
            ready: VecDeque::new(),
            in_flight: 0,
            planned: 0,
            copies_planned: 0,
            ended: false,
        }
    }

    /// Makes the first request due at `now`.
    pub(crate) fn start(&mut self, now: Nanos) {
        self.schedule.start(now);
        if let Some(retrying) = &mut self.retrying {
            retrying.last_taken = now;
        }
    }

    /// Takes what is to be sent at `now` on the connection `slot`.
    pub(crate) fn take(&mut self, slot: usize, now: Nanos) -> Offer {
        self.wake(now);
        let position = self.ready.iter().position(|job| job.avoid != Some(slot));
        if let Some(job) = position.and_then(|position| self.ready.remove(position)) {
            return self.begin(job, slot, now);
        }
        while !self.is_full() {
            match self.schedule.take(now) {
                Next::End if self.is_over() => return Offer::End,
                Next::End => break,
                Next::Wait(due) => return Offer::Wait(due.min(self.next_retry())),
                Next::Request(request) => {
                    let update_id = self.first_update_id + request.index;
                    let job = Job {
                        update_id,
                        due: request.due,
                        ready: request.due,
                        copy: false,
                        backoff: Backoff::default(),
                        avoid: None,
                    };
                    self.planned += 1;
                    if self.admit(job, now) {
                        return self.begin(job, slot, now);
                    }
                }
            }
        }
        Offer::Wait(self.next_retry())
    }

    /// When there may be something to [`Feed::take`] for some connection; none if never again.
    pub(crate) fn next(&self, now: Nanos) -> Option<Nanos> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        let planned = match self.schedule.next(now) {
            Next::End if self.is_over() => return None,
            Next::Request(request) if !self.is_full() => request.due,
            Next::Wait(due) => due,
            Next::End | Next::Request(_) => Nanos::MAX,
        };
        Some(planned.min(self.next_retry()))
    }

    /// Takes note of what became of a request that `slot` had. Whether connections that wait should
    /// ask again.
    pub(crate) fn settle(&mut self, slot: usize, job: &Job, outcome: Outcome, now: Nanos) -> bool {
        self.in_flight -= 1;
        let again = self.follow(slot, job, outcome, now);
        if outcome == Outcome::Acknowledged || self.retrying.is_none() {
            self.source.done(job.update_id);
        }
        again
    }

    /// What follows from an outcome. Whether connections that wait should ask again.
    fn follow(&mut self, slot: usize, job: &Job, outcome: Outcome, now: Nanos) -> bool {
        if self.ended || (self.copies.is_none() && self.retrying.is_none()) {
            return false;
        }
        match outcome {
            Outcome::Acknowledged => {
                if !job.copy && self.copy(job) == Some(When::After) {
                    self.add_copy(job, slot, now);
                }
                if let Some(retrying) = &mut self.retrying {
                    let chat = self.source.chat_of(job.update_id);
                    let next = retrying.chats.release(chat);
                    self.ready.extend(next.map(|job| Job { ready: now, ..job }));
                }
            }
            Outcome::Failed { retry_after_s } => self.delay(*job, retry_after_s, now),
        }
        // What is ready may be another's to take; a new delay may be the shortest; and it may have
        // been the last.
        true
    }

    /// When the last request is due, as far as that is known.
    ///
    /// Where requests fall due as others are answered, that is when the last one did: should every
    /// chat be refused for good, none does any more.
    pub(crate) fn last_due(&self) -> Option<Nanos> {
        let closed = |retrying: &Retrying| self.schedule.closes().unwrap_or(retrying.last_taken);
        self.schedule.last_due().or_else(|| self.retrying.as_ref().map(closed))
    }

    /// Ends it at `now`: nothing more is handed out. How many requests were due by then that no
    /// connection had time for.
    pub(crate) fn end(&mut self, now: Nanos) -> u64 {
        let missed = self.schedule.end(now);
        self.planned += missed;
        self.ended = true;
        self.ready.clear();
        if let Some(retrying) = &mut self.retrying {
            retrying.delayed.clear();
            retrying.chats = Chats::default();
        }
        missed
    }

    /// Takes off the plan what [`end`](Self::end) has counted as missed.
    pub(crate) fn forgo(&mut self, missed: u64) {
        self.planned = self.planned.saturating_sub(missed);
    }

    /// How many updates were due by `now`.
    pub(crate) fn due_by(&self, now: Nanos) -> u64 {
        if self.ended { self.planned } else { self.schedule.due_by(now) }
    }

    /// How many requests are on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether something is ready, for some connection at least.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many updates fell due.
    pub(crate) fn planned(&self) -> u64 {
        self.planned
    }

    /// How many updates were to be sent twice.
    pub(crate) fn copies_planned(&self) -> u64 {
        self.copies_planned
    }

    /// Makes ready what has waited long enough.
    fn wake(&mut self, now: Nanos) {
        let Some(retrying) = &mut self.retrying else { return };
        while let Some(Reverse(Delayed(job))) = retrying.delayed.peek()
            && job.ready <= now
        {
            self.ready.push_back(*job);
            retrying.delayed.pop();
        }
    }

    fn begin(&mut self, job: Job, slot: usize, now: Nanos) -> Offer {
        self.in_flight += 1;
        if !job.copy && job.failures() == 0 && self.copy(&job) == Some(When::Along) {
            self.add_copy(&job, slot, now);
        }
        Offer::Job(job)
    }

    /// Whether the schedule's next request may leave before others of its chat; otherwise it waits.
    fn admit(&mut self, job: Job, now: Nanos) -> bool {
        let Some(retrying) = &mut self.retrying else { return true };
        retrying.last_taken = now;
        retrying.chats.admit(self.source.chat_of(job.update_id), job)
    }

    fn copy(&self, job: &Job) -> Option<When> {
        self.copies.as_ref()?.of(job.update_id)
    }

    /// Makes ready a copy of what `slot` carries or has carried. Its chat waits for it, too: to the
    /// sender it is one update whose answer has not come.
    fn add_copy(&mut self, original: &Job, slot: usize, now: Nanos) {
        self.copies_planned += 1;
        self.ready.push_back(Job {
            due: now,
            ready: now,
            copy: true,
            backoff: Backoff::default(),
            avoid: Some(slot),
            ..*original
        });
        if let Some(retrying) = &mut self.retrying {
            retrying.chats.hold(self.source.chat_of(original.update_id));
        }
    }

    fn delay(&mut self, mut job: Job, retry_after_s: u32, now: Nanos) {
        let Some(retrying) = &mut self.retrying else { return };
        let mut rng = Rng::new(self.seed ^ job.update_id ^ u64::from(job.failures()) << 48);
        let (low, high) = Backoff::CUT_S;
        let seconds = job.backoff.fail(retry_after_s, rng.between(low, high) as u32);
        let delay = std::time::Duration::from_secs_f64(f64::from(seconds) / retrying.scale);
        job.ready = now.saturating_add(nanos(delay));
        retrying.delayed.push(Reverse(Delayed(job)));
    }

    /// When the next failed request is tried again.
    fn next_retry(&self) -> Nanos {
        let delayed = self.retrying.as_ref().and_then(|retrying| retrying.delayed.peek());
        delayed.map_or(Nanos::MAX, |Reverse(Delayed(job))| job.ready)
    }

    /// Whether so much waits that the schedule has to.
    fn is_full(&self) -> bool {
        self.retrying.as_ref().is_some_and(|retrying| {
            self.schedule.is_closed() && retrying.chats.waiting() >= retrying.closed_waiting_max
        })
    }

    /// Whether nothing comes after the schedule's end.
    fn is_over(&self) -> bool {
        // What is in flight may yet have to be sent again, or followed by a copy.
        let more = self.retrying.is_some() || self.copies.is_some();
        let nothing = self.ready.is_empty() && self.next_retry() == Nanos::MAX;
        self.ended || !more || (nothing && self.in_flight == 0)
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.ready, self.0.update_id).cmp(&(other.0.ready, other.0.update_id))
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Delayed {}
