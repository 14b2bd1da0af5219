//! Pages of the admin listener, for operators and their monitoring systems.
//!
//! They are made of what the library shows of a running server ([`ringhook::ServerView`]) and of
//! what the program around it knows ([`Program`]).

use std::time::Duration;

use ringhook::{AdminPage, AdminPages, AdminRequest, ServerView};
use ringhook_outputs::forward::ForwardStatus;

/// What the program knows that the library does not. It is asked for each page, and must not wait.
pub trait Program: Send {
    /// Lines for stderr that were dropped because stderr did not take them.
    fn stderr_lines_dropped(&self) -> u64;

    /// The outputs behind HTTP, by name.
    fn forwards(&self) -> Vec<(String, ForwardStatus)>;
}

/// All pages of this crate.
pub struct Status {
    program: Box<dyn Program>,
}

impl Status {
    /// The pages of a server that `program` runs.
    pub fn new(program: impl Program + 'static) -> Self {
        Self { program: Box::new(program) }
    }
}

impl AdminPages for Status {
    fn answer(&mut self, request: &AdminRequest<'_>, server: &ServerView) -> Option<AdminPage> {
        let _ = (&self.program, request, server);
        None
    }

    fn tick(&mut self, _: &ServerView) -> Option<Duration> {
        None
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}
