//! What is to be sent next: the schedule's requests, and copies of some.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, rc::Rc};

use crate::{
    Options,
    clock::Nanos,
    copies::{Copies, When},
    schedule::{Next, Schedule},
    source::Source,
};

/// Hands out requests to connections and takes note of what became of them.
///
/// Without copies that is the schedule and nothing else: no memory, no bookkeeping.
pub(crate) struct Feed {
    schedule: Schedule,
    first_update_id: u64,
    source: Rc<Source>,
    copies: Option<Copies>,
    /// What may leave now, apart from the schedule.
    ready: VecDeque<Job>,
    in_flight: usize,
    /// Updates that fell due.
    planned: u64,
    copies_planned: u64,
    /// Whether only what is in flight is waited for.
    ended: bool,
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
    /// How many times it was tried before, by [`sender`](crate::sender) alone.
    pub(crate) failures: u32,
    /// The connection that must not carry it.
    avoid: Option<usize>,
}

impl Job {
    /// One of the schedule that was due at `due` and has failed so often.
    pub(crate) fn new(update_id: u64, due: Nanos, failures: u32) -> Self {
        Self { update_id, due, ready: due, copy: false, failures, avoid: None }
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

impl Feed {
    pub(crate) fn new(options: &Options, source: Rc<Source>) -> Self {
        let share = options.duplicates;
        Self {
            schedule: Schedule::new(options, source.len()),
            first_update_id: options.first_update_id,
            source,
            copies: (share > 0.0).then(|| Copies::new(options.payload.seed, share)),
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
    }

    /// Takes what is to be sent at `now` on the connection `slot`.
    pub(crate) fn take(&mut self, slot: usize, now: Nanos) -> Offer {
        let position = self.ready.iter().position(|job| job.avoid != Some(slot));
        if let Some(job) = position.and_then(|position| self.ready.remove(position)) {
            return self.begin(job, slot, now);
        }
        match self.schedule.take(now) {
            Next::End if self.is_over() => Offer::End,
            Next::End => Offer::Wait(Nanos::MAX),
            Next::Wait(due) => Offer::Wait(due),
            Next::Request(request) => {
                self.planned += 1;
                let id = self.first_update_id + request.index;
                self.begin(Job::new(id, request.due, 0), slot, now)
            }
        }
    }

    /// When there may be something to [`Feed::take`] for some connection; none if never again.
    pub(crate) fn next(&self, now: Nanos) -> Option<Nanos> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        match self.schedule.next(now) {
            Next::End if self.is_over() => None,
            Next::End => Some(Nanos::MAX),
            Next::Request(request) => Some(request.due),
            Next::Wait(due) => Some(due),
        }
    }

    /// Takes note of whether a request that `slot` had was acknowledged. Whether connections that
    /// wait should ask again.
    pub(crate) fn settle(
        &mut self,
        slot: usize,
        job: &Job,
        acknowledged: bool,
        now: Nanos,
    ) -> bool {
        self.in_flight -= 1;
        self.source.done(job.update_id);
        if self.ended || self.copies.is_none() {
            return false;
        }
        if acknowledged && !job.copy && self.copy(job) == Some(When::After) {
            self.add_copy(job, slot, now);
        }
        // What is ready may be another's to take; and it may have been the last.
        true
    }

    /// When the last request is due, as far as that is known.
    pub(crate) fn last_due(&self) -> Option<Nanos> {
        self.schedule.last_due()
    }

    /// Ends it at `now`: nothing more is handed out. How many requests were due by then that no
    /// connection had time for.
    pub(crate) fn end(&mut self, now: Nanos) -> u64 {
        let missed = self.schedule.end(now);
        self.planned += missed;
        self.ended = true;
        self.ready.clear();
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

    fn begin(&mut self, job: Job, slot: usize, now: Nanos) -> Offer {
        self.in_flight += 1;
        if !job.copy && self.copy(&job) == Some(When::Along) {
            self.add_copy(&job, slot, now);
        }
        Offer::Job(job)
    }

    fn copy(&self, job: &Job) -> Option<When> {
        self.copies.as_ref()?.of(job.update_id)
    }

    /// Makes ready a copy of what `slot` carries or has carried.
    fn add_copy(&mut self, original: &Job, slot: usize, now: Nanos) {
        self.copies_planned += 1;
        let copy = Job::new(original.update_id, now, 0);
        self.ready.push_back(Job { copy: true, avoid: Some(slot), ..copy });
    }

    /// Whether nothing comes after the schedule's end.
    fn is_over(&self) -> bool {
        // What is in flight may yet be followed by a copy.
        let more = self.copies.is_some() && (self.in_flight > 0 || !self.ready.is_empty());
        self.ended || !more
    }
}
