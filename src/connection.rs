//! One connection: handshake, the request loop, the close. Every wait in it has a deadline, which
//! the shard's sweep enforces by shutting the socket down; no operation is ever dropped.

use std::{
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    dispatch::Refusal,
    http::{CONTINUE, ConnectionDirective, HttpSession, Method, Status, Step, response},
    journal::Ticket,
    metrics::{SlowRecord, Stage, nanos},
    route::Wanted,
    runtime::{self, Shutdown},
    shard::{Newcomer, Phase, Registration, Shard, Way},
    tls::session,
    update::{BotId, Update, UpdateBody},
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
    let Newcomer { accepted_at, seat, socket } = newcomer;
    let reason = match runtime::adopt(socket, shard.driver) {
        Ok(socket) => secure(&shard, socket, accepted_at).await,
        Err(_) => CloseReason::Io,
    };
    drop(seat);
    shard.metrics.closed(reason);
    shard.connection_ended();
}

async fn secure(shard: &Shard, socket: runtime::Socket, accepted_at: Instant) -> CloseReason {
    let registration = shard.register(runtime::descriptor(&socket));
    let begun_at = registration.entered_at();
    shard.metrics.accept_wait.record(nanos(begun_at.saturating_duration_since(accepted_at)));
    registration.enter(Phase::Handshake, shard.handshake_deadline(accepted_at));
    match session::accept(socket, shard.tls()).await {
        Ok((stream, kind)) => {
            let now = Instant::now();
            let resumed = kind == rustls::HandshakeKind::Resumed;
            let metrics = &shard.metrics;
            let (count, stage) = match resumed {
                true => (&metrics.handshakes_resumed, &metrics.handshake_resumed),
                false => (&metrics.handshakes_full, &metrics.handshake_full),
            };
            count.increment();
            stage.record(nanos(now - begun_at));
            Connection::new(shard, &registration, stream, now).run().await
        }
        Err((mut socket, _)) => {
            shard.metrics.handshakes_failed.increment();
            if registration.has_expired() {
                return CloseReason::HandshakeTimeout;
            }
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
    unread: Unread,
    /// What routing said of the current request.
    routed: Result<BotId, Status>,
    /// When the current request's first bytes were read.
    began_at: Instant,
    /// When bytes were last read, and so when the current request was complete.
    read_at: Instant,
    trace: Trace,
}

/// The current request's stages so far, in nanoseconds, for when it turns out to be slow.
#[derive(Clone, Copy, Default)]
struct Trace {
    commit: u64,
    parse: u64,
    read: u64,
    /// Its update, once it is known.
    update: Option<(BotId, i64)>,
}

impl<'a> Connection<'a> {
    fn new(
        shard: &'a Shard,
        registration: &'a Registration<'a>,
        stream: session::Stream,
        now: Instant,
    ) -> Self {
        Self {
            shard,
            registration,
            stream,
            http: HttpSession::new(shard.live().http_limits),
            unread: Unread::new(),
            routed: Err(Status::NotFound),
            began_at: now,
            read_at: now,
            trace: Trace::default(),
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
                    self.routed = self.shard.live().router.route(Wanted {
                        authorization: head.authorization.value(),
                        host: head.host,
                        is_post: head.method == Method::Post,
                        path: head.path.as_bytes(),
                        secret_token: head.secret_token.value(),
                    });
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
        if was_idle {
            let timeout = self.shard.limits().idle_timeout;
            self.registration.enter_idle(self.read_at, timeout);
            if self.shard.is_draining() {
                // What has come already is still read and answered; then the read ends.
                self.registration.shutdown(Shutdown::Read);
            }
        } else {
            let timeout = self.shard.limits().request_timeout;
            self.registration.enter(Phase::Request, self.began_at + timeout);
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
        let shard = self.shard;
        let read = nanos(self.read_at - began_at);
        shard.metrics.read.record(read);
        self.trace = Trace { read, ..Trace::default() };
        match &shard.way {
            Way::Memory(dispatcher) => {
                let Ok(update) = self.shard.parse(body.unwrap_or_default(), bot, self.read_at)
                else {
                    return Taken::Answered(Status::BadRequest);
                };
                let parsed_at = self.parsed(&update);
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
                        let parsed_at = self.parsed(&update);
                        Taken::Submitted(intake.submit(&staged, update), parsed_at)
                    }
                    (Err(refusal), Ok(update)) => {
                        self.parsed(&update);
                        self.shard.parser.borrow_mut().keep(update.recycle());
                        self.refused(refusal)
                    }
                    (staged, Err(_)) => {
                        staged.iter().for_each(|staged| intake.discard(staged));
                        Taken::Answered(Status::BadRequest)
                    }
                }
            }
        }
    }

    /// Counts and times an update that was parsed just now.
    fn parsed(&mut self, update: &Update) -> Instant {
        let now = Instant::now();
        self.trace.parse = nanos(now - self.read_at);
        self.trace.update = Some((update.bot(), update.id().get()));
        self.shard.metrics.parse.record(self.trace.parse);
        self.shard.metrics.received.increment();
        now
    }

    fn refused(&self, refusal: Refusal) -> Taken {
        self.shard.metrics.refused(refusal);
        Taken::Answered(Status::ServiceUnavailable)
    }

    /// Waits until the record of an update that was parsed at `parsed_at` is in the journal; the
    /// other connections go on meanwhile.
    async fn committed(&mut self, ticket: Ticket, parsed_at: Instant) -> Status {
        let Way::Journal(intake) = &self.shard.way else { return Status::ServiceUnavailable };
        let timeout = self.shard.limits().request_timeout;
        self.registration.enter(Phase::Answer, self.read_at + timeout);
        if intake.committed(ticket).await {
            self.trace.commit = nanos(intake.returned_at().saturating_duration_since(parsed_at));
            self.shard.metrics.commit.record(self.trace.commit);
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
            let answer = nanos(self.read_at.elapsed());
            let metrics = &self.shard.metrics;
            metrics.acknowledged.increment();
            metrics.answer.record(answer);
            if metrics.slow.is_slow(answer.max(self.trace.read)) {
                self.note_slow(answer);
            }
        }
        match directive {
            ConnectionDirective::Close if draining => Err(CloseReason::Drained),
            ConnectionDirective::Close => Err(CloseReason::Asked),
            ConnectionDirective::KeepAlive | ConnectionDirective::Persist => Ok(()),
        }
    }

    /// Keeps the times of the request that was just answered.
    #[cold]
    fn note_slow(&self, answer: u64) {
        let Trace { commit, parse, read, update } = self.trace;
        let Some((bot, update_id)) = update else { return };
        let times = [
            (Stage::Read, read),
            (Stage::Parse, parse),
            (Stage::Commit, commit),
            (Stage::Answer, answer),
        ];
        self.shard.metrics.slow.note(SlowRecord {
            bot,
            received_at: self.read_at,
            // Its log is the shard's own.
            shard: usize::MAX,
            // Without a journal there is no commit.
            stages: times
                .into_iter()
                .filter(|(stage, ns)| *stage != Stage::Commit || *ns > 0)
                .collect(),
            update_id,
        });
    }

    async fn write(&mut self, bytes: &'static [u8]) -> Result<(), CloseReason> {
        let timeout = self.shard.limits().request_timeout;
        self.registration.enter(Phase::Answer, self.read_at + timeout);
        let (outcome, _) = runtime::write_all(&mut self.stream, bytes).await;
        match outcome {
            Ok(()) => Ok(()),
            Err(_) if self.registration.has_expired() => Err(CloseReason::RequestTimeout),
            Err(_) => Err(CloseReason::Io),
        }
    }
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
