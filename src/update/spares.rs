//! Memory of updates that are done with, kept for the next ones.

use simd_json::Tape;

use super::{ParserLimits, UpdateBody};

/// Empty bodies and tapes, the one used last on top because it is the likeliest to be in cache.
pub(super) struct Spares {
    bodies: Vec<UpdateBody>,
    tapes: Vec<Tape<'static>>,
    limits: ParserLimits,
}

impl Spares {
    pub(super) fn new(limits: ParserLimits) -> Self {
        Self {
            bodies: Vec::with_capacity(limits.spares_max),
            tapes: Vec::with_capacity(limits.spares_max),
            limits,
        }
    }

    pub(super) fn take_body(&mut self) -> UpdateBody {
        self.bodies.pop().unwrap_or_default()
    }

    pub(super) fn take_tape(&mut self) -> Tape<'static> {
        self.tapes.pop().unwrap_or(Tape(Vec::new()))
    }

    /// Keeps `body` if there is room for it and its memory is of ordinary size.
    pub(super) fn keep_body(&mut self, mut body: UpdateBody) {
        let useful = (1..=self.limits.body_kept_max_bytes).contains(&body.capacity());
        if useful && self.bodies.len() < self.limits.spares_max {
            body.clear();
            self.bodies.push(body);
        }
    }

    /// Keeps `tape` if there is room for it and its memory is of ordinary size.
    pub(super) fn keep_tape(&mut self, tape: Tape<'static>) {
        let useful = (1..=self.limits.tape_kept_max_nodes).contains(&tape.0.capacity());
        if useful && self.tapes.len() < self.limits.spares_max {
            self.tapes.push(tape.reset());
        }
    }

    /// How many bodies and how many tapes are kept.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.bodies.len(), self.tapes.len())
    }
}
