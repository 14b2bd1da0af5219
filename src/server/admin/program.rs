//! Pages that the program adds to the admin listener. They are answered on a thread of their own:
//! one that takes its time, or panics, keeps no probe from its answer.

use std::{
    fmt,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};

use super::answer::AdminResponse;
use crate::{
    control::{
        operation::{Operation, Step},
        panics,
    },
    proto::http::Status,
    server::view::ServerView,
};

/// Requests that wait for the thread; one more is told to come again.
const WAITING: usize = 4;

/// Pages that a program adds to the admin listener, such as metrics: see
/// [`ServerBuilder::admin_pages`](crate::ServerBuilder::admin_pages).
///
/// All calls come from one thread, which does nothing else. A panic is caught, answered with 500,
/// and the next request is answered all the same.
pub trait AdminPages: Send {
    /// The page for `request`; `None` where there is none at its path, which is answered with 404.
    ///
    /// It has a few seconds; then the client gets 503.
    fn answer(&mut self, request: &AdminRequest<'_>, server: &ServerView) -> Option<AdminPage>;

    /// Called once the server has started, and again after the time that it returns: the place to
    /// keep a history. `None` ends it.
    fn tick(&mut self, server: &ServerView) -> Option<Duration> {
        let _ = server;
        None
    }
}

/// A GET or HEAD that came in on the admin listener.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AdminRequest<'a> {
    /// The path, which begins with `/`; never one of the server's own pages.
    pub path: &'a str,
    /// What stands behind `?`; empty where nothing does.
    pub query: &'a str,
    /// The media types that are asked for, all `Accept` fields joined by commas; empty where there
    /// is none.
    pub accept: &'a str,
}

/// The answer to an [`AdminRequest`].
///
/// It goes out with `Cache-Control: no-store`, and is the last one of its connection.
#[derive(Clone, Debug)]
pub struct AdminPage(pub(super) AdminResponse);

impl AdminPage {
    /// A page whose `Content-Type` is `content_type`. A line break in that ends it.
    #[must_use]
    pub fn new(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self(AdminResponse::page(one_line(content_type), body.into()))
    }

    /// 400 with a line of text that says what is wrong with the query.
    #[must_use]
    pub fn bad_request(text: &str) -> Self {
        Self(AdminResponse::text(Status::BadRequest, text))
    }

    /// The same with one more header field, such as `Content-Security-Policy`. A line break in its
    /// name or value ends that.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.0.add_field(one_line(name), one_line(value));
        self
    }
}

fn one_line(text: &str) -> &str {
    text.split(['\r', '\n']).next().unwrap_or_default()
}

/// A request on its way to the thread of the program's pages.
struct Question {
    path: String,
    query: String,
    accept: String,
    answer: Sender<Option<AdminResponse>>,
}

/// Where the admin listener's thread asks for the program's pages.
pub(super) struct ProgramPages {
    questions: Sender<Question>,
    server: Arc<OnceLock<ServerView>>,
    /// Becomes readable when an answer is there.
    answered: UnixStream,
}

/// The thread's part.
pub(super) struct Answering {
    pages: Box<dyn AdminPages>,
    questions: Receiver<Question>,
    server: Arc<OnceLock<ServerView>>,
    operation: Arc<Operation>,
    wake: UnixStream,
}

/// An answer to come.
#[derive(Debug)]
pub(super) struct Awaited(Receiver<Option<AdminResponse>>);

impl Awaited {
    /// The answer, once it is there.
    pub(super) fn take(&self) -> Option<AdminResponse> {
        match self.0.try_recv() {
            Ok(Some(answer)) => Some(answer),
            Ok(None) => Some(AdminResponse::new(Status::NotFound)),
            Err(TryRecvError::Empty) => None,
            // The page has panicked.
            Err(TryRecvError::Disconnected) => Some(AdminResponse::failed()),
        }
    }
}

impl ProgramPages {
    /// The two ends; `server` is filled in when it has started.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(
        pages: Box<dyn AdminPages>,
        server: Arc<OnceLock<ServerView>>,
        operation: Arc<Operation>,
    ) -> std::io::Result<(Self, Answering)> {
        let (answered, wake) = UnixStream::pair()?;
        answered.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (ask, questions) = bounded(WAITING);
        let answering =
            Answering { pages, questions, server: Arc::clone(&server), operation, wake };
        Ok((Self { questions: ask, server, answered }, answering))
    }

    /// What becomes readable when an answer is there.
    pub(super) fn answered(&self) -> BorrowedFd<'_> {
        self.answered.as_fd()
    }

    /// Takes notice of answers.
    pub(super) fn note_answers(&self) {
        while matches!((&self.answered).read(&mut [0; 64]), Ok(read) if read > 0) {}
    }

    /// Asks for a page.
    ///
    /// # Errors
    /// The answer, where it cannot be asked for.
    pub(super) fn ask(&self, request: &AdminRequest<'_>) -> Result<Awaited, AdminResponse> {
        let busy = |text| AdminResponse::text(Status::ServiceUnavailable, text);
        if self.server.get().is_none() {
            return Err(busy("starting"));
        }
        let (answer, awaited) = bounded(1);
        let question = Question {
            path: request.path.to_owned(),
            query: request.query.to_owned(),
            accept: request.accept.to_owned(),
            answer,
        };
        match self.questions.try_send(question) {
            Ok(()) => Ok(Awaited(awaited)),
            Err(TrySendError::Full(_)) => Err(busy("busy with other requests: come again")),
            Err(TrySendError::Disconnected(_)) => Err(AdminResponse::failed()),
        }
    }
}

impl Answering {
    /// Answers until the listener is gone.
    pub(super) fn run(mut self) {
        let mut tick_at = Some(Instant::now());
        loop {
            let question = match tick_at {
                Some(at) => self.questions.recv_deadline(at),
                None => self.questions.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match question {
                Ok(question) => self.answer(&question),
                Err(RecvTimeoutError::Timeout) => tick_at = self.tick(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, question: &Question) {
        let Self { pages, server, operation, .. } = self;
        let Some(server) = server.get() else { return };
        let Question { path, query, accept, answer } = question;
        let _answering = operation.during(Step::Page, Instant::now());
        let request = AdminRequest { path, query, accept };
        let page = panics::caught(|| pages.answer(&request, server));
        let page = page.map_or_else(
            |_| Some(AdminResponse::failed()),
            |page| page.map(|AdminPage(response)| response),
        );
        // The client may be gone, and a wake that finds no room is one of many.
        let _ = answer.try_send(page);
        let _ = self.wake.write(&[0]);
    }

    /// Calls the program's tick; when the next one is due.
    fn tick(&mut self) -> Option<Instant> {
        /// Between two looks at whether the server has started.
        const START: Duration = Duration::from_millis(100);
        let Self { pages, server, operation, .. } = self;
        let Some(server) = server.get() else { return Instant::now().checked_add(START) };
        let _ticking = operation.during(Step::Page, Instant::now());
        let pause = panics::caught(|| pages.tick(server)).unwrap_or(None)?;
        Instant::now().checked_add(pause)
    }
}

impl fmt::Debug for ProgramPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramPages").finish_non_exhaustive()
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}
