//! Memory of updates that are done with, kept for the next ones.

use std::{sync::Arc, time::Instant};

use super::{ParserLimits, UpdateBody, document::Document};

/// Empty bodies and documents, the one used last on top because it is the likeliest to be in cache.
pub(super) struct Spares {
    bodies: Vec<UpdateBody>,
    /// Without a body, with memory for a tape where one has been asked for. No other owner has one.
    documents: Vec<Arc<Document>>,
    limits: ParserLimits,
}

impl Spares {
    pub(super) fn new(limits: ParserLimits) -> Self {
        Self {
            bodies: Vec::with_capacity(limits.spares_max),
            documents: Vec::with_capacity(limits.spares_max),
            limits,
        }
    }

    pub(super) fn take_body(&mut self) -> UpdateBody {
        self.bodies.pop().unwrap_or_default()
    }

    /// An empty document; `now` is a placeholder until a body is read into it.
    pub(super) fn take_document(&mut self, now: Instant) -> Arc<Document> {
        self.documents.pop().unwrap_or_else(|| Arc::new(Document::new(now)))
    }

    /// Keeps `body` if there is room for it and its memory is of ordinary size.
    pub(super) fn keep_body(&mut self, mut body: UpdateBody) {
        let useful = (1..=self.limits.body_kept_max_bytes).contains(&body.capacity());
        if useful && self.bodies.len() < self.limits.spares_max {
            body.clear();
            self.bodies.push(body);
        }
    }

    /// Keeps the memory of `document`, body and document each by itself, unless it has another
    /// owner.
    pub(super) fn keep(&mut self, mut document: Arc<Document>) {
        let Some(sole) = Arc::get_mut(&mut document) else { return };
        let body = sole.take_body();
        sole.shrink(self.limits.body_kept_max_bytes, self.limits.tape_kept_max_nodes);
        self.keep_body(body);
        if self.documents.len() < self.limits.spares_max {
            self.documents.push(document);
        }
    }

    /// How many bodies and how many documents are kept.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.bodies.len(), self.documents.len())
    }
}
