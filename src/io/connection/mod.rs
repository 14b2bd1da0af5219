//! One connection: handshake, the request loop, the close. Every wait in it has a deadline, which
//! the context's sweep enforces by shutting the socket down; no operation is ever dropped.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the request loop, the answers and the close |
//! | `handshake` | until it is established: the client behind a balancer, the TLS handshake |
//! | `hand_off` | from a complete request to an update on its way |
//! | `trace` | what is kept of a request: its stages, and what is wrong with it |
//! | `context` | what a connection uses of its shard |

#[cfg(test)]
mod tests;

mod context;
mod hand_off;
mod handshake;
mod trace;

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

pub(crate) use self::{
    context::{ConnectionContext, IngestPath},
    handshake::serve,
};
use self::{
    hand_off::Taken,
    trace::{Fault, Trace, note_refused},
};
use crate::{
    bots::BotId,
    duration::nanos,
    io::{
        connection_table::{End, Phase, Registration},
        tls as session,
    },
    observe::incidents::IncidentKind,
    outcome::CloseReason,
    proto::{
        answers::Answer,
        http::{CONTINUE, ConnectionDirective, HttpSession, Method, Status, Step, response},
        route::{RouteError, RouteRequest},
    },
    tls::recv_buffer::{Filled, RecvBuffer, Wait},
};

/// Time and bytes granted to a peer between our FIN and its own. Telegram sends up to 512 KiB
/// before it reads the answer, and an RST would take that answer with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// A wait for the next request that is as short as this costs a buffer rather than a poll, where
/// that many before it were as short.
const SOON: Duration = Duration::from_secs(1);
const BUSY: u8 = 2;

/// An established connection.
struct Connection<'a> {
    context: &'a ConnectionContext,
    registration: &'a Registration<'a>,
    stream: session::Stream,
    http: HttpSession,
    /// Where the requests come from; `None` where that is a Unix socket.
    peer: Option<IpAddr>,
    received: RecvBuffer,
    /// What routing said of the current request.
    routed: Result<BotId, Status>,
    /// Requests answered.
    answered: u64,
    /// When the last of them was.
    answered_at: Instant,
    /// When the current request's first bytes were read.
    began_at: Instant,
    /// When the current request's head was complete, and the bytes of its body that were read
    /// since.
    head_at: Instant,
    body_bytes: usize,
    /// Whether a part of a record has come with which the next request may begin.
    has_part: bool,
    /// When bytes were last read, and so when the current request was complete.
    read_at: Instant,
    /// How many of its last waits for a request have been short.
    short_waits: u8,
    trace: Trace,
    /// What is wrong with the current request, once that is known.
    fault: Option<Fault>,
}

/// Serves `connection` until there is a reason to close it. It stays in its box: a future holds
/// what is moved into it twice.
async fn run(mut connection: Box<Connection<'_>>) -> CloseReason {
    let reason = connection.requests().await;
    if let Some(body) = connection.http.take_body() {
        connection.context.memory.keep_body(body);
    }
    if matches!(reason, CloseReason::Aborted | CloseReason::Io) {
        return reason;
    }
    connection.registration.linger(LINGER);
    Box::pin(session::close(connection.stream, LINGER_BYTES)).await;
    reason
}

impl<'a> Connection<'a> {
    fn new(
        context: &'a ConnectionContext,
        registration: &'a Registration<'a>,
        stream: session::Stream,
        peer: Option<IpAddr>,
        received: RecvBuffer,
    ) -> Box<Self> {
        if !received.is_empty() {
            registration.has_begun();
        }
        let now = Instant::now();
        Box::new(Self {
            context,
            registration,
            stream,
            http: HttpSession::new(context.snapshot().http_limits),
            peer,
            received,
            routed: Err(Status::NotFound),
            answered: 0,
            answered_at: now,
            began_at: now,
            head_at: now,
            body_bytes: 0,
            has_part: false,
            read_at: now,
            short_waits: 0,
            trace: Trace::default(),
            fault: None,
        })
    }

    /// Reads, routes and answers requests until there is a reason to close.
    async fn requests(&mut self) -> CloseReason {
        loop {
            let outcome = match self.advance() {
                Action::Again => Ok(()),
                Action::Answer => {
                    let status = match self.take_update() {
                        Taken::Answered(status) => status,
                        Taken::Submitted(ticket, at) => self.committed(ticket, at).await,
                    };
                    self.answer(status).await
                }
                Action::Continue => self.write(Answer::Bare(CONTINUE)).await,
                Action::Close(reason) => Err(reason),
                Action::Read => self.read().await,
                Action::Refuse(status) => {
                    let answer = self.dated(status, ConnectionDirective::Close, self.known_time());
                    self.keep_unrouted(status, status.as_str());
                    Err(self.write(answer).await.err().unwrap_or(CloseReason::Protocol))
                }
            };
            if let Err(reason) = outcome {
                return reason;
            }
        }
    }

    /// Goes on with the current request as far as its bytes have come. A function by itself: what
    /// it looks at would be kept over each wait otherwise.
    fn advance(&mut self) -> Action {
        let (consumed, step) = self.http.advance(self.received.bytes());
        match step {
            Step::Head(head) => {
                let request = RouteRequest {
                    authorization: head.authorization.value(),
                    host: head.host,
                    is_post: head.method == Method::Post,
                    path: head.path.as_bytes(),
                    peer: self.peer,
                    secret_token: head.secret_token.value(),
                };
                let routed = self.context.snapshot().router.route(request);
                if let Err(why) = routed {
                    self.fault = Some(note_refused(self.context, self.peer, why, &head, request));
                }
                self.routed = routed.map_err(RouteError::status);
                self.received.consume(consumed);
                self.head_at = self.read_at;
                self.body_bytes = self.received.bytes().len();
                if self.routed.is_ok() {
                    self.http.accept_body(self.context.memory.take_body());
                } else {
                    self.http.discard_body();
                }
                let is_due = self.http.continue_due(self.received.bytes());
                if is_due { Action::Continue } else { Action::Again }
            }
            Step::NeedMore => {
                self.received.consume(consumed);
                Action::Read
            }
            Step::Complete => {
                self.received.consume(consumed);
                Action::Answer
            }
            Step::Reject(status) => {
                self.context.metrics.rejected(status);
                let kind = IncidentKind::MalformedRequest;
                self.context.note(kind, self.peer, None, status.as_str());
                Action::Refuse(status)
            }
            Step::Closed => Action::Close(CloseReason::Asked),
        }
    }

    /// Waits for bytes and reads them behind the received ones.
    async fn read(&mut self) -> Result<(), CloseReason> {
        let phase = if self.http.is_in_body() {
            self.registration.note_body_bytes(self.body_bytes);
            let timeout = self.context.limits().body_timeout;
            self.registration.enter(Phase::Body, self.head_at, self.head_at + timeout);
            Phase::Body
        } else if self.http.is_idle() && self.received.is_empty() && !self.has_part {
            let deadline = self.read_at + self.context.limits().idle_timeout;
            let deadline = match self.registration.is_fresh() {
                true => self.context.hastened(deadline),
                // The stop came while the last answer was written, which did not say so.
                false if self.context.is_draining.get() => {
                    deadline.min(ConnectionContext::last_word_deadline(self.answered_at))
                }
                false => deadline,
            };
            self.registration.enter(Phase::Idle, self.read_at.max(self.answered_at), deadline);
            Phase::Idle
        } else {
            // It may have come while the one before it was answered, which is not its fault.
            let since = self.began_at.max(self.answered_at);
            let timeout = self.context.limits().head_timeout;
            self.registration.enter(Phase::Head, since, since + timeout);
            Phase::Head
        };
        let wait = self.wait(phase);
        let pool = &self.context.memory.buffers;
        match self.stream.fill(&mut self.received, wait, pool).await {
            Ok(Filled::End) => {
                // What had begun was the goodbye.
                let is_goodbye = self.has_part && self.registration.end().is_none();
                Err(self.ended(if is_goodbye { Phase::Idle } else { phase }).await)
            }
            Ok(Filled::Begun) => {
                self.has_part = true;
                self.began_at = Instant::now();
                Ok(())
            }
            Ok(Filled::Nothing) => {
                self.has_part = false;
                Ok(())
            }
            Ok(Filled::Data(n)) => {
                let waited_since = std::mem::replace(&mut self.read_at, Instant::now());
                self.body_bytes = self.body_bytes.saturating_add(n);
                let had_part = std::mem::take(&mut self.has_part);
                if phase == Phase::Idle || had_part {
                    if !had_part {
                        self.began_at = self.read_at;
                    }
                    let is_short = self.began_at.duration_since(waited_since) < SOON;
                    self.short_waits =
                        if is_short { self.short_waits.saturating_add(1) } else { 0 };
                    self.http.set_limits(self.context.snapshot().http_limits);
                    self.registration.has_begun();
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.ended(phase).await)
            }
            // The peer has broken a rule of TLS. The alert that says so must not be lost to an RST.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(CloseReason::Protocol),
            Err(_) => Err(CloseReason::Io),
        }
    }

    /// What is to be expected of a wait.
    fn wait(&self, phase: Phase) -> Wait {
        match phase {
            Phase::Idle if self.short_waits < BUSY => Wait::Long,
            Phase::Idle => Wait::Short,
            _ if self.has_part => Wait::Record,
            _ => Wait::Request,
        }
    }

    /// Why nothing more can be read.
    async fn ended(&mut self, phase: Phase) -> CloseReason {
        let reason = match (phase, self.registration.end()) {
            (Phase::Idle, Some(End::Displaced)) => return CloseReason::Displaced,
            (Phase::Idle, _) if self.context.is_draining.get() => return CloseReason::Drained,
            (Phase::Idle, Some(_)) => return CloseReason::IdleTimeout,
            (Phase::Idle, None) => return CloseReason::Peer,
            (_, None) => return CloseReason::Aborted,
            (Phase::Body, Some(End::TooSlow)) => CloseReason::BodyRate,
            (Phase::Body, Some(_)) => CloseReason::BodyTimeout,
            (_, Some(_)) => CloseReason::HeadTimeout,
        };
        self.note_timeout(reason.as_str());
        self.context.metrics.rejected(Status::RequestTimeout);
        self.keep_unrouted(Status::RequestTimeout, reason.as_str());
        let (status, directive) = (Status::RequestTimeout, ConnectionDirective::Close);
        let answer = self.dated(status, directive, Instant::now());
        self.write(answer).await.err().unwrap_or(reason)
    }

    fn note_timeout(&self, what: &'static str) {
        self.context.note(IncidentKind::RequestTimeout, self.peer, None, what);
    }

    fn awaits_answer(&self) {
        let since = self.read_at;
        self.registration.enter(Phase::Answer, since, since + self.context.limits().answer_timeout);
    }

    async fn answer(&mut self, status: Status) -> Result<(), CloseReason> {
        let draining = self.context.is_draining.get();
        self.answered = self.answered.saturating_add(1);
        let limit = self.context.limits().requests_per_connection;
        let is_last = limit > 0 && self.answered >= limit;
        let directive = match self.http.directive() {
            _ if draining || is_last => ConnectionDirective::Close,
            directive => directive,
        };
        if status != Status::Ok {
            self.context.metrics.rejected(status);
        }
        let answer = self.dated(status, directive, self.known_time());
        self.write(answer).await?;
        self.answered_at = Instant::now();
        self.http.set_limits(self.context.snapshot().http_limits);
        if status == Status::Ok {
            let answer = nanos(self.answered_at - self.read_at);
            let metrics = &self.context.metrics;
            metrics.acknowledged.increment();
            if self.answered > 1 {
                self.context.handshakes.note_answered_again();
            }
            metrics.answer.record(answer);
            if metrics.slow.is_slow(answer.max(self.trace.read)) {
                self.note_slow(answer);
            }
            if self.context.recent.is_due(self.answered_at) {
                self.keep_accepted(answer);
            }
        } else {
            self.keep_refused(status);
        }
        match directive {
            ConnectionDirective::Close if draining => Err(CloseReason::Drained),
            ConnectionDirective::Close if is_last => Err(CloseReason::RequestLimit),
            ConnectionDirective::Close => Err(CloseReason::Asked),
            ConnectionDirective::KeepAlive | ConnectionDirective::Persist => Ok(()),
        }
    }

    /// The answer, with its date where it has one; `at` is as [`Answers::dated`] wants it.
    ///
    /// [`Answers::dated`]: crate::proto::answers::Answers::dated
    fn dated(&self, status: Status, directive: ConnectionDirective, at: Instant) -> Answer {
        if self.context.snapshot().date {
            self.context.answers.dated(status, directive, at)
        } else {
            Answer::Bare(response(status, directive))
        }
    }

    /// The latest time that is known without a look at the clock: a request may have waited for the
    /// answer to the one before it, or for its record.
    fn known_time(&self) -> Instant {
        let known = self.read_at.max(self.answered_at);
        match &self.context.ingest_path {
            IngestPath::Journal(intake) => known.max(intake.returned_at()),
            IngestPath::Memory(_) => known,
        }
    }

    async fn write(&mut self, answer: Answer) -> Result<(), CloseReason> {
        self.awaits_answer();
        match self.stream.write_all(answer).await {
            Ok(()) => Ok(()),
            Err(_) if self.registration.end().is_some() => {
                self.note_timeout(CloseReason::AnswerTimeout.as_str());
                Err(CloseReason::AnswerTimeout)
            }
            Err(_) => Err(CloseReason::Io),
        }
    }
}

/// What a connection does next.
enum Action {
    /// It goes on with the bytes that are there.
    Again,
    /// It answers the request, which is complete.
    Answer,
    Close(CloseReason),
    /// It tells the client that the body may come.
    Continue,
    Read,
    /// It answers what is no request, and closes.
    Refuse(Status),
}
