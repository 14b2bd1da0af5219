//! The admin listener's thread: what it waits for, and how long.

use std::{
    io,
    net::TcpListener,
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    pages::Pages,
    program::{AdminPages, Answering, ProgramPages},
    visitor::Visitor,
};
use crate::{
    control::operation::{Operation, Step},
    server::view::ServerView,
};

/// Connections at a time. The descriptors they take are of those that the shards leave to the
/// journal.
const VISITORS: usize = 8;
/// Connections accepted between two looks at those that are there.
const ROUND: usize = 64;
/// Pause after an accept that would fail again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread's state.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    operation: Arc<Operation>,
    pages: Pages,
    /// Until when nothing is accepted.
    paused_until: Option<Instant>,
    /// The other end is shut down to stop the thread.
    stop: UnixStream,
    /// The oldest first.
    visitors: Vec<Visitor>,
}

impl Listener {
    pub(super) fn new(listener: TcpListener, stop: UnixStream, pages: Pages) -> Self {
        let operation = Arc::default();
        pages.health.watch(&operation);
        Self { listener, operation, pages, paused_until: None, stop, visitors: Vec::new() }
    }

    /// Asks `program` for pages that are not the server's own.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn add(
        &mut self,
        program: Box<dyn AdminPages>,
        server: Arc<OnceLock<ServerView>>,
    ) -> io::Result<Answering> {
        let operation = Arc::default();
        self.pages.health.watch(&operation);
        let (pages, answering) = ProgramPages::new(program, server, operation)?;
        self.pages.program = Some(pages);
        Ok(answering)
    }

    /// Answers until stopped.
    pub(super) fn run(mut self) {
        while self.wait() {
            let now = Instant::now();
            self.operation.begin(Step::Admin, now);
            self.pages.program.iter().for_each(ProgramPages::note_answers);
            self.visitors.retain_mut(|visitor| visitor.advance(&self.pages, now));
            if self.paused_until.is_none_or(|until| now >= until) {
                self.paused_until = self.accept_all(now).is_err().then(|| now + PAUSE);
            }
            self.operation.end();
        }
    }

    /// Waits until there is something to do; false where that is to end.
    fn wait(&self) -> bool {
        let listens = if self.paused_until.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), listens),
        ];
        let program = self.pages.program.as_ref();
        fds.extend(program.map(|it| PollFd::from_borrowed_fd(it.answered(), PollFlags::IN)));
        let interests = self.visitors.iter().filter_map(Visitor::interest);
        fds.extend(interests.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        let deadlines = self.visitors.iter().map(Visitor::deadline).chain(self.paused_until);
        let timeout = deadlines.min().map(|deadline| {
            // A moment later, so that it has passed.
            let wait =
                deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            }
        });
        // Interrupted, or out of memory for a moment: look again.
        let outcome = poll(&mut fds, timeout.as_ref());
        outcome.is_err() || fds.first().is_some_and(|stop| stop.revents().is_empty())
    }

    /// Accepts all that wait, up to [`ROUND`]; beyond the limit the oldest connection is dropped.
    ///
    /// # Errors
    /// Accepting again makes no sense for a while: no descriptor is left.
    fn accept_all(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..ROUND {
            // The standard library passes SOCK_CLOEXEC.
            match self.listener.accept() {
                Ok((socket, _)) => {
                    if self.visitors.len() >= VISITORS {
                        self.visitors.remove(0);
                    }
                    // One that is gone already needs no answer.
                    let Ok(mut visitor) = Visitor::new(socket, now) else { continue };
                    if visitor.advance(&self.pages, now) {
                        self.visitors.push(visitor);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}
