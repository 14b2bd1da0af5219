//! One connection: handshake, the request loop, the close. Every wait in it has a deadline, which
//! the shard's sweep enforces by shutting the socket down; no operation is ever dropped.

use std::{
    io,
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    dispatch::Refusal,
    http::{
        CONTINUE, ConnectionDirective, Credential, HttpSession, Method, RequestHead, Status, Step,
        response,
    },
    incidents::IncidentKind,
    journal::Ticket,
    metrics::nanos,
    route::Wanted,
    runtime::{self, Shutdown},
    shard::{Newcomer, Phase, Registration, Shard, Way},
    tls::{fault, session},
    update::{BotId, ParseError, UpdateBody},
};

/// Size of a fresh receive buffer: an ordinary request with its head fits.
const BUFFER_BYTES: usize = 4096;
/// Time and bytes granted to a peer between our FIN and its own. Telegram sends up to 512 KiB before
/// it reads the answer, and an RST would take that answer with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub(crate) enum CloseReason {
    /// The peer closed or vanished in the middle of a request.
    Aborted,
    /// The client asked for it, by header or by HTTP/1.0.
    Asked,
    /// It had been idle longest when there was no room for a new one.
    Displaced,
    /// The server is stopping.
    Drained,
    /// The TLS handshake failed.
    HandshakeFailed,
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// Nothing came for longer than the idle timeout.
    IdleTimeout,
    /// Reading or writing failed.
    Io,
    /// The peer closed between two requests.
    Peer,
    /// A request after which nobody knows where the next begins.
    Protocol,
    /// A request, or the taking of its answer, took too long.
    RequestTimeout,
}

impl CloseReason {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 11] = [
        Self::Aborted,
        Self::Asked,
        Self::Displaced,
        Self::Drained,
        Self::HandshakeFailed,
        Self::HandshakeTimeout,
        Self::IdleTimeout,
        Self::Io,
        Self::Peer,
        Self::Protocol,
        Self::RequestTimeout,
    ];

    /// The name in reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Asked => "asked",
            Self::Displaced => "displaced",
            Self::Drained => "drained",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Io => "io",
            Self::Peer => "peer",
            Self::Protocol => "protocol",
            Self::RequestTimeout => "request_timeout",
        }
    }
}

/// Serves a connection from its handshake to its end.
pub(crate) async fn serve(shard: Rc<Shard>, newcomer: Newcomer) {
    let Newcomer { accepted_at, peer, seat, socket } = newcomer;
    let reason = match runtime::adopt(socket, shard.driver) {
        Ok(socket) => secure(&shard, socket, peer, accepted_at).await,
        Err(_) => CloseReason::Io,
    };
    drop(seat);
    shard.metrics.closed(reason);
    shard.connection_ended();
}

async fn secure(
    shard: &Shard,
    socket: runtime::Socket,
    peer: Option<IpAddr>,
    accepted_at: Instant,
) -> CloseReason {
    let registration = shard.register(runtime::descriptor(&socket));
    registration.enter(Phase::Handshake, shard.handshake_deadline(accepted_at));
    match session::accept(socket, shard.tls()).await {
        Ok((stream, kind)) => {
            let now = Instant::now();
            let resumed = kind == rustls::HandshakeKind::Resumed;
            let metrics = &shard.metrics;
            if resumed { &metrics.handshakes_resumed } else { &metrics.handshakes_full }
                .increment();
            metrics.handshake.record(nanos(now - accepted_at));
            Connection::new(shard, &registration, stream, peer, now).run().await
        }
        Err((mut socket, error)) => {
            shard.metrics.handshakes_failed.increment();
            if registration.has_expired() {
                shard.note(IncidentKind::HandshakeTimeout, peer, None, "handshake_timeout");
                return CloseReason::HandshakeTimeout;
            }
            shard.note(IncidentKind::HandshakeFailed, peer, None, fault::words(&error));
            registration.enter(Phase::Close, Instant::now() + LINGER);
            // The alert must not be lost to an RST.
            if runtime::finish(&mut socket).await.is_ok() {
                runtime::discard(&mut socket, LINGER_BYTES).await;
            }
            CloseReason::HandshakeFailed
        }
    }
}

/// An established connection.
struct Connection<'a> {
    shard: &'a Shard,
    registration: &'a Registration<'a>,
    stream: session::Stream,
    http: HttpSession,
    /// Where it comes from, where there are addresses.
    peer: Option<IpAddr>,
    unread: Unread,
    /// What routing said of the current request.
    routed: Result<BotId, Status>,
    /// When the current request's first bytes were read.
    began_at: Instant,
    /// When bytes were last read, and so when the current request was complete.
    read_at: Instant,
}

impl<'a> Connection<'a> {
    fn new(
        shard: &'a Shard,
        registration: &'a Registration<'a>,
        stream: session::Stream,
        peer: Option<IpAddr>,
        now: Instant,
    ) -> Self {
        Self {
            shard,
            registration,
            stream,
            http: HttpSession::new(shard.http_limits),
            peer,
            unread: Unread::new(),
            routed: Err(Status::NotFound),
            began_at: now,
            read_at: now,
        }
    }

    async fn run(mut self) -> CloseReason {
        let reason = self.requests().await;
        if let Some(body) = self.http.take_body() {
            self.shard.parser.borrow_mut().keep_body(body);
        }
        if matches!(reason, CloseReason::Aborted | CloseReason::Io) {
            return reason;
        }
        self.registration.enter(Phase::Close, Instant::now() + LINGER);
        session::close(self.stream, LINGER_BYTES).await;
        reason
    }

    /// Reads, routes and answers requests until there is a reason to close.
    async fn requests(&mut self) -> CloseReason {
        loop {
            let (consumed, step) = self.http.advance(self.unread.bytes());
            match step {
                Step::Head(head) => {
                    let wanted = Wanted {
                        authorization: head.authorization.value(),
                        host: head.host,
                        is_post: head.method == Method::Post,
                        path: head.path.as_bytes(),
                        secret_token: head.secret_token.value(),
                    };
                    self.routed = self.shard.router.route(wanted);
                    if let Err(status) = self.routed {
                        note_refused(self.shard, self.peer, status, &head, wanted);
                    }
                    self.unread.consume(consumed);
                    if self.routed.is_ok() {
                        self.http.accept_body(self.shard.spare_body());
                    } else {
                        self.http.discard_body();
                    }
                    if self.http.continue_due(self.unread.bytes())
                        && let Err(reason) = self.write(CONTINUE).await
                    {
                        return reason;
                    }
                }
                Step::NeedMore => {
                    self.unread.consume(consumed);
                    if let Err(reason) = self.read().await {
                        return reason;
                    }
                }
                Step::Complete => {
                    self.unread.consume(consumed);
                    let status = match self.take_update() {
                        Taken::Answered(status) => status,
                        Taken::Submitted(ticket, at) => self.committed(ticket, at).await,
                    };
                    if let Err(reason) = self.answer(status).await {
                        return reason;
                    }
                }
                Step::Reject(status) => {
                    self.shard.metrics.rejected(status);
                    let kind = IncidentKind::MalformedRequest;
                    self.shard.note(kind, self.peer, None, status.as_str());
                    let answer = response(status, ConnectionDirective::Close);
                    return self.write(answer).await.err().unwrap_or(CloseReason::Protocol);
                }
                Step::Closed => return CloseReason::Asked,
            }
        }
    }

    /// Waits for bytes and reads them behind the unread ones.
    async fn read(&mut self) -> Result<(), CloseReason> {
        let was_idle = self.http.is_idle() && self.unread.is_empty();
        let limits = &self.shard.limits;
        if was_idle {
            self.registration.enter(Phase::Idle, self.read_at + limits.idle_timeout);
            if self.shard.is_draining() {
                // What has come already is still read and answered; then the read ends.
                self.registration.shutdown(Shutdown::Read);
            }
        } else {
            self.registration.enter(Phase::Request, self.began_at + limits.request_timeout);
        }
        match self.unread.fill(&mut self.stream).await {
            Ok(0) => Err(self.ended(was_idle).await),
            Ok(_) => {
                self.read_at = Instant::now();
                if was_idle {
                    self.began_at = self.read_at;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.ended(was_idle).await)
            }
            Err(_) => Err(CloseReason::Io),
        }
    }

    /// Why nothing more can be read.
    async fn ended(&mut self, was_idle: bool) -> CloseReason {
        match (was_idle, self.registration.has_expired()) {
            (true, true) => CloseReason::IdleTimeout,
            (true, false) if self.registration.is_displaced() => CloseReason::Displaced,
            (true, false) if self.shard.is_draining() => CloseReason::Drained,
            (true, false) => CloseReason::Peer,
            (false, true) => {
                self.note_timeout("request");
                self.shard.metrics.rejected(Status::RequestTimeout);
                let answer = response(Status::RequestTimeout, ConnectionDirective::Close);
                self.write(answer).await.err().unwrap_or(CloseReason::RequestTimeout)
            }
            (false, false) => CloseReason::Aborted,
        }
    }

    /// Parses the complete request's body and hands the update off.
    fn take_update(&mut self) -> Taken {
        let body = self.http.take_body();
        // Bytes of the next request may have come with this one's last, refused or not.
        let began_at = std::mem::replace(&mut self.began_at, self.read_at);
        let bot = match self.routed {
            Ok(bot) => bot,
            Err(status) => return Taken::Answered(status),
        };
        let metrics = &self.shard.metrics;
        metrics.read.record(nanos(self.read_at - began_at));
        match &self.shard.way {
            Way::Memory(dispatcher) => {
                let parsed = self.shard.parse(body.unwrap_or_default(), bot, self.read_at);
                let update = match parsed {
                    Ok(update) => update,
                    Err(error) => return self.no_update(bot, error),
                };
                let parsed_at = self.parsed();
                match dispatcher.dispatch(update, parsed_at) {
                    Ok(()) => Taken::Answered(Status::Ok),
                    Err((refusal, update)) => {
                        self.shard.parser.borrow_mut().keep(update.recycle());
                        self.refused(refusal)
                    }
                }
            }
            Way::Journal(intake) => {
                let body = body.unwrap_or_default();
                // The parser rewrites the body, and the journal keeps it as it came.
                let staged = intake.stage(body.as_slice());
                let parsed = self.shard.parse(body, bot, self.read_at);
                match (staged, parsed) {
                    (Ok(staged), Ok(update)) => {
                        let parsed_at = self.parsed();
                        Taken::Submitted(intake.submit(&staged, update), parsed_at)
                    }
                    (Err(refusal), Ok(update)) => {
                        self.parsed();
                        self.shard.parser.borrow_mut().keep(update.recycle());
                        self.refused(refusal)
                    }
                    (staged, Err(error)) => {
                        staged.iter().for_each(|staged| intake.discard(staged));
                        self.no_update(bot, error)
                    }
                }
            }
        }
    }

    /// Counts and times an update that was parsed just now.
    fn parsed(&self) -> Instant {
        let now = Instant::now();
        self.shard.metrics.parse.record(nanos(now - self.read_at));
        self.shard.metrics.received.increment();
        now
    }

    /// The body of a request that was let in is no update of `bot`.
    #[cold]
    fn no_update(&self, bot: BotId, error: ParseError) -> Taken {
        let bot = self.shard.router.name(bot);
        self.shard.note(IncidentKind::MalformedUpdate, self.peer, bot, error.as_str());
        Taken::Answered(Status::BadRequest)
    }

    fn note_timeout(&self, what: &'static str) {
        self.shard.note(IncidentKind::RequestTimeout, self.peer, None, what);
    }

    fn refused(&self, refusal: Refusal) -> Taken {
        self.shard.metrics.refused(refusal);
        Taken::Answered(Status::ServiceUnavailable)
    }

    /// Waits until the record of an update that was parsed at `parsed_at` is in the journal; the
    /// other connections go on meanwhile.
    async fn committed(&self, ticket: Ticket, parsed_at: Instant) -> Status {
        let Way::Journal(intake) = &self.shard.way else { return Status::ServiceUnavailable };
        self.registration.enter(Phase::Answer, self.read_at + self.shard.limits.request_timeout);
        if intake.committed(ticket).await {
            let waited = intake.returned_at().saturating_duration_since(parsed_at);
            self.shard.metrics.commit.record(nanos(waited));
            return Status::Ok;
        }
        // The disk did not take it, and nothing was promised.
        self.shard.metrics.refused(Refusal::Journal);
        Status::ServiceUnavailable
    }

    async fn answer(&mut self, status: Status) -> Result<(), CloseReason> {
        let draining = self.shard.is_draining();
        let directive = if draining { ConnectionDirective::Close } else { self.http.directive() };
        if status != Status::Ok {
            self.shard.metrics.rejected(status);
        }
        self.write(response(status, directive)).await?;
        if status == Status::Ok {
            let now = Instant::now();
            self.shard.metrics.acknowledged.increment();
            self.shard.metrics.answer.record(nanos(now - self.read_at));
        }
        match directive {
            ConnectionDirective::Close if draining => Err(CloseReason::Drained),
            ConnectionDirective::Close => Err(CloseReason::Asked),
            ConnectionDirective::KeepAlive | ConnectionDirective::Persist => Ok(()),
        }
    }

    async fn write(&mut self, bytes: &'static [u8]) -> Result<(), CloseReason> {
        self.registration.enter(Phase::Answer, self.read_at + self.shard.limits.request_timeout);
        let (outcome, _) = runtime::write_all(&mut self.stream, bytes).await;
        match outcome {
            Ok(()) => Ok(()),
            Err(_) if self.registration.has_expired() => {
                self.note_timeout("answer");
                Err(CloseReason::RequestTimeout)
            }
            Err(_) => Err(CloseReason::Io),
        }
    }
}

/// Takes note of a request that goes to no bot.
#[cold]
fn note_refused(
    shard: &Shard,
    peer: Option<IpAddr>,
    status: Status,
    head: &RequestHead<'_>,
    wanted: Wanted<'_>,
) {
    let (kind, detail) = match status {
        Status::Forbidden => {
            let detail = match (head.secret_token, head.authorization) {
                (Credential::Absent, Credential::Absent) => "missing",
                (Credential::Repeated, _) | (_, Credential::Repeated) => "repeated",
                _ => "wrong",
            };
            (IncidentKind::AuthFailed, detail)
        }
        Status::MethodNotAllowed => (IncidentKind::MethodNotAllowed, status.as_str()),
        _ => (IncidentKind::UnknownPath, status.as_str()),
    };
    shard.note(kind, peer, shard.router.meant(wanted), detail);
}

/// What has become of a complete request.
enum Taken {
    /// It can be answered.
    Answered(Status),
    /// Its update, parsed at that time, is on its way into the journal.
    Submitted(Ticket, Instant),
}

/// Received bytes that no request has taken yet.
struct Unread {
    bytes: Vec<u8>,
    start: usize,
}

impl Unread {
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(BUFFER_BYTES), start: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.start >= self.bytes.len()
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Reads once behind the unread bytes; 0 is the end. What is kept unread is a part of a head,
    /// so the buffer grows to about the head's limit and no further.
    async fn fill(&mut self, stream: &mut session::Stream) -> io::Result<usize> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve(BUFFER_BYTES);
        }
        let bytes = std::mem::take(&mut self.bytes);
        let (outcome, bytes) = runtime::append(stream, bytes).await;
        self.bytes = bytes;
        outcome
    }
}

/// A body that the parser can use, from its spare ones or new.
impl Shard {
    fn spare_body(&self) -> UpdateBody {
        self.reclaim();
        self.parser.borrow_mut().take_body(0)
    }
}
