//! What the pages of the admin listener show beside the server: what this program knows.

use ringhook_outputs::forward::ForwardStatus;
use ringhook_status::Program;

use super::forwards::Forwards;
use crate::process::stderr;

/// What is around a server.
pub(crate) struct Surroundings<F> {
    forwards: F,
}

/// What is around a server with these outputs behind HTTP.
pub(crate) fn of(forwards: &Forwards) -> impl Program + use<> {
    Surroundings { forwards: forwards.all_statuses() }
}

impl<F: Fn() -> Vec<(String, ForwardStatus)> + Send> Program for Surroundings<F> {
    fn stderr_lines_dropped(&self) -> u64 {
        stderr::dropped()
    }

    fn forwards(&self) -> Vec<(String, ForwardStatus)> {
        (self.forwards)()
    }
}
