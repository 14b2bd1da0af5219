//! What the journal keeps.

mod journal;
mod journal_threads;
