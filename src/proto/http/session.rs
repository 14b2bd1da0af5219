//! One connection's requests, one after the other.

use crate::proto::update::UpdateBody;

use super::{
    ConnectionDirective, HttpLimits, RequestHead, Status,
    body::{BodyReader, Progress},
    fields,
    request_line::RequestLine,
    scan::HeadScan,
    syntax::is_token_byte,
};

/// Empty lines that may come before a request line (RFC 9112 section 2.2 asks for one).
const BLANK_LINES_MAX: u8 = 4;

/// Bytes reserved for content on the strength of a header field alone. Beyond them, memory grows
/// with the bytes that really come, so that promises cannot use it up.
const RESERVED_BYTES_MAX: usize = 64 * 1024;

/// Reads the requests of one connection from the bytes that arrive on it.
///
/// It holds no bytes but those of an accepted body, and allocates nothing as long as that body is
/// large enough and paths come in their normal form.
#[derive(Debug)]
pub struct HttpSession {
    limits: HttpLimits,
    state: SessionState,
    /// Where the content goes; it is thrown away where there is none.
    body: Option<UpdateBody>,
    /// What the answer to the current request says about the connection.
    directive: ConnectionDirective,
    /// True until the client has been invited to send content, or sends it unasked.
    expects_continue: bool,
    /// Empty lines skipped before the current request.
    blank_lines: u8,
}

/// What [`HttpSession::advance`] came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step<'a> {
    /// The session has ended and looks at nothing any more: answer what is not answered, close.
    Closed,
    /// The request has been read to its end: take the body, and answer with the session's
    /// [`directive`](HttpSession::directive). The next request may follow.
    Complete,
    /// A head is complete: [accept](HttpSession::accept_body) its body or
    /// [discard](HttpSession::discard_body) it, then advance again, even with no unread bytes.
    Head(RequestHead<'a>),
    /// Nothing can be said before more bytes come.
    NeedMore,
    /// What came is no request for us. The caller gives this answer with
    /// [`ConnectionDirective::Close`]: where the next request would begin is not known, or not
    /// worth the risk of finding out.
    Reject(Status),
}

#[derive(Debug)]
enum SessionState {
    /// Before or within a head.
    Head(HeadScan),
    /// After a head.
    Body(BodyReader),
    /// After the last request.
    Closed,
}

impl HttpSession {
    /// A session that waits for its first request.
    #[must_use]
    pub fn new(limits: HttpLimits) -> Self {
        Self {
            limits,
            state: SessionState::Head(HeadScan::default()),
            body: None,
            directive: ConnectionDirective::Persist,
            expects_continue: false,
            blank_lines: 0,
        }
    }

    /// Goes on with `input`, which is all unread bytes, and returns how many of them are read now.
    ///
    /// The next call gets the others, followed by those that came since. A head stays unread until
    /// it is complete, so unread bytes have to fit [`HttpLimits::head_bytes`]; what is looked at
    /// twice is at most its request line. Call until the step is [`Step::NeedMore`] or
    /// [`Step::Closed`].
    #[inline]
    pub fn advance<'a>(&mut self, input: &'a [u8]) -> (usize, Step<'a>) {
        match &mut self.state {
            SessionState::Head(_) => self.advance_head(input),
            SessionState::Body(reader) => {
                let (consumed, progress) = reader.read(input, self.body.as_mut());
                self.expects_continue &= consumed == 0;
                let step = match progress {
                    Progress::Complete => self.complete(),
                    Progress::NeedMore => Step::NeedMore,
                    Progress::Reject(status) => self.reject(status),
                };
                (consumed, step)
            }
            SessionState::Closed => (input.len(), Step::Closed),
        }
    }

    /// Reads the body of the request whose head was given last into `body`, which loses what it
    /// has. To be called right after [`Step::Head`].
    pub fn accept_body(&mut self, mut body: UpdateBody) {
        body.clear();
        if let SessionState::Body(BodyReader::Length(length)) = self.state {
            body.reserve(length.min(RESERVED_BYTES_MAX));
        }
        self.body = Some(body);
    }

    /// Throws the body of the request whose head was given last away as it comes, so that the
    /// connection can be kept. To be called right after [`Step::Head`].
    ///
    /// A client that waits for `100 Continue` may or may not send its body after a refusal (RFC
    /// 9110 section 10.1.1). The two cannot be distinguished, so that such a request is complete at
    /// once and the last one of its connection.
    pub fn discard_body(&mut self) {
        self.body = None;
        if self.expects_continue {
            self.directive = ConnectionDirective::Close;
            self.state = SessionState::Body(BodyReader::Length(0));
        }
    }

    /// The accepted body, to be called at [`Step::Complete`]. `None` where it was discarded.
    ///
    /// Earlier, it gives the buffer back where the request will not be finished; what still comes
    /// of its content is thrown away.
    pub fn take_body(&mut self) -> Option<UpdateBody> {
        self.body.take()
    }

    /// What the answer to the current request has to say about the connection. Valid from
    /// [`Step::Head`] until the next request is looked at.
    #[must_use]
    pub fn directive(&self) -> ConnectionDirective {
        self.directive
    }

    /// True where [`CONTINUE`](super::CONTINUE) has to be sent now: the client waits for it, the
    /// body has been accepted, and no byte of it has come, neither read nor among `unread`. To be
    /// asked once, after [`accept_body`](Self::accept_body).
    #[must_use]
    pub fn continue_due(&self, unread: &[u8]) -> bool {
        self.expects_continue && self.body.is_some() && unread.is_empty()
    }

    /// True where the session waits for the first byte of a request: such a connection is closed
    /// without an answer, whereas a request that began is answered with 408 when it takes too long.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(&self.state, SessionState::Head(scan) if scan.is_fresh())
    }

    /// Gives the requests from the next one on other limits.
    pub fn set_limits(&mut self, limits: HttpLimits) {
        self.limits = limits;
    }

    /// True where a head has been read and its body has not come to its end.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, SessionState::Body(_))
    }

    fn advance_head<'a>(&mut self, input: &'a [u8]) -> (usize, Step<'a>) {
        let skipped = match self.skip_blank_lines(input) {
            Ok(skipped) => skipped,
            Err(status) => return (0, self.reject(status)),
        };
        let input = input.get(skipped..).unwrap_or_default();
        let (consumed, step) = match self.read_head(input) {
            Ok(Some((length, head))) => (length, Step::Head(head)),
            Ok(None) => (0, Step::NeedMore),
            Err(status) => (0, self.reject(status)),
        };
        (skipped.saturating_add(consumed), step)
    }

    /// Bytes of empty lines before a request line. Also refuses what cannot begin one: a TLS
    /// handshake on a plain port should not have to wait for a deadline.
    #[inline]
    fn skip_blank_lines(&mut self, input: &[u8]) -> Result<usize, Status> {
        if !self.is_idle() {
            return Ok(0);
        }
        let mut rest = input;
        loop {
            match rest {
                [first, ..] if is_token_byte(*first) => break,
                [] | [b'\r'] => break,
                [b'\r', b'\n', after @ ..] if self.blank_lines < BLANK_LINES_MAX => {
                    self.blank_lines = self.blank_lines.saturating_add(1);
                    rest = after;
                }
                _ => return Err(Status::BadRequest),
            }
        }
        Ok(input.len().saturating_sub(rest.len()))
    }

    /// The head at the beginning of `input`, if it is complete, and its length.
    ///
    /// A request line is judged when it is complete, whatever follows it; a line end when it comes;
    /// the fields when all are there.
    fn read_head<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(usize, RequestHead<'a>)>, Status> {
        let SessionState::Head(scan) = &mut self.state else { return Ok(None) };
        // A CR may still become an empty line; it does not begin a request.
        if matches!(input, [] | [b'\r']) {
            return Ok(None);
        }
        let window = input.get(..self.limits.head_bytes).unwrap_or(input);
        let mut request_line = None;
        while let Some(line) = scan.next_line(window)? {
            if line.is_empty() {
                // In pieces, the request line was read in an earlier call and is read again now.
                let line = match request_line {
                    Some(line) => line,
                    None => RequestLine::parse(scan.first_line(window), &self.limits)?,
                };
                let mut head = RequestHead::new(line);
                let section = scan.after_first_line(window);
                self.directive = fields::read(section, scan.fields(), &self.limits, &mut head)?;
                let length = scan.position();
                self.begin_body(&head);
                return Ok(Some((length, head)));
            }
            if scan.fields() == 0 {
                request_line = Some(RequestLine::parse(line, &self.limits)?);
            } else if scan.fields() > self.limits.headers {
                return Err(Status::HeaderTooLarge);
            }
        }
        if input.len() < self.limits.head_bytes {
            Ok(None)
        } else if scan.is_in_first_line() {
            Err(Status::UriTooLong)
        } else {
            Err(Status::HeaderTooLarge)
        }
    }

    /// Goes from the head to the content, which is discarded if nothing else is said.
    fn begin_body(&mut self, head: &RequestHead<'_>) {
        self.state = SessionState::Body(BodyReader::new(head.framing, &self.limits));
        self.body = None;
        self.blank_lines = 0;
        self.expects_continue = head.expects_continue;
    }

    /// The end of a request.
    fn complete(&mut self) -> Step<'static> {
        self.state = match self.directive {
            ConnectionDirective::Close => SessionState::Closed,
            ConnectionDirective::KeepAlive | ConnectionDirective::Persist => {
                SessionState::Head(HeadScan::default())
            }
        };
        Step::Complete
    }

    /// The end of the connection.
    #[cold]
    fn reject(&mut self, status: Status) -> Step<'static> {
        self.state = SessionState::Closed;
        self.directive = ConnectionDirective::Close;
        Step::Reject(status)
    }
}
