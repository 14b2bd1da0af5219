//! One connection of the admin listener: a request, an answer, the end.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use super::{
    answer::AdminResponse,
    host,
    pages::{Answer, Pages},
    program::{AdminRequest, Awaited},
};
use crate::proto::http::{HttpLimits, HttpSession, Method, Status, Step};

/// Time for a request to come and for its answer to be taken, whatever comes in between.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time and bytes for the peer to close its side after that, since an RST would take the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;
/// Bytes of a request's head.
const HEAD_BYTES: usize = 4096;
const READ_BYTES: usize = 1024;

/// A connection and what it waits for.
#[derive(Debug)]
pub(super) struct Visitor {
    deadline: Instant,
    socket: TcpStream,
    state: VisitState,
}

#[derive(Debug)]
enum VisitState {
    /// For the peer to close; so many more bytes are discarded.
    Closing(usize),
    /// For a request.
    Reading(HttpSession, Vec<u8>),
    /// For the program's page.
    Waiting(Method, Awaited),
    /// For the peer to take these bytes, of which so many are taken.
    Writing(Vec<u8>, usize),
}

impl Visitor {
    /// Serves a connection that was accepted at `now`.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(super) fn new(socket: TcpStream, now: Instant) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let limits = HttpLimits {
            body_bytes: HEAD_BYTES,
            head_bytes: HEAD_BYTES,
            target_bytes: HEAD_BYTES / 2,
            ..HttpLimits::default()
        };
        let state = VisitState::Reading(HttpSession::new(limits), Vec::new());
        Ok(Self { deadline: now + PATIENCE, socket, state })
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What has to happen at its socket for it to go on; `None` where nothing there matters.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let flags = match self.state {
            VisitState::Closing(_) | VisitState::Reading(..) => PollFlags::IN,
            VisitState::Waiting(..) => return None,
            VisitState::Writing(..) => PollFlags::OUT,
        };
        Some((self.socket.as_fd(), flags))
    }

    /// Goes on as far as that is possible without a wait; false where the connection is over.
    pub(super) fn advance(&mut self, pages: &Pages, now: Instant) -> bool {
        if now >= self.deadline {
            let VisitState::Waiting(method, _) = &self.state else { return false };
            let late = "the page is not there in time: come again";
            let late = AdminResponse::text(Status::ServiceUnavailable, late);
            self.state = VisitState::Writing(late.to_bytes(Some(*method)), 0);
            self.deadline = now + LINGER;
        }
        loop {
            match self.step(pages, now) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// One read or write; false where the connection is over.
    fn step(&mut self, pages: &Pages, now: Instant) -> io::Result<bool> {
        match &mut self.state {
            VisitState::Reading(session, bytes) => {
                let mut chunk = [0; READ_BYTES];
                let read = self.socket.read(&mut chunk)?;
                bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
                if read == 0 {
                    return Ok(false);
                }
                if let Some(next) = answer(session, bytes, pages) {
                    self.state = next;
                }
            }
            VisitState::Waiting(method, awaited) => {
                let Some(answer) = awaited.take() else {
                    return Err(ErrorKind::WouldBlock.into());
                };
                self.state = VisitState::Writing(answer.to_bytes(Some(*method)), 0);
                self.deadline = now + PATIENCE;
            }
            VisitState::Writing(bytes, taken) => {
                *taken += self.socket.write(bytes.get(*taken..).unwrap_or_default())?;
                if *taken >= bytes.len() {
                    self.socket.shutdown(Shutdown::Write)?;
                    self.deadline = self.deadline.min(now + LINGER);
                    self.state = VisitState::Closing(LINGER_BYTES);
                }
            }
            VisitState::Closing(left) => {
                let read = self.socket.read(&mut [0; READ_BYTES])?;
                *left = left.saturating_sub(read);
                return Ok(read > 0 && *left > 0);
            }
        }
        Ok(true)
    }
}

/// What comes after the request in `bytes`, once its head is whole. A body, which no page asks for,
/// is ignored.
fn answer(session: &mut HttpSession, bytes: &mut Vec<u8>, pages: &Pages) -> Option<VisitState> {
    let write =
        |answer: AdminResponse, method| Some(VisitState::Writing(answer.to_bytes(method), 0));
    let (consumed, step) = session.advance(bytes);
    match step {
        Step::Head(head) => {
            let method = head.method;
            let accept = accept(bytes);
            let request = AdminRequest { path: &head.path, query: query(bytes), accept: &accept };
            let Some(answer) = pages.answer_under(head.host, method, &request) else {
                return write(AdminResponse::text(Status::Forbidden, host::REFUSED), Some(method));
            };
            match answer {
                Answer::Now(answer) => write(answer, Some(method)),
                Answer::Later(awaited) => Some(VisitState::Waiting(method, awaited)),
            }
        }
        Step::NeedMore => {
            bytes.drain(..consumed);
            None
        }
        Step::Reject(status) => write(AdminResponse::new(status), None),
        // They come after a head.
        Step::Closed | Step::Complete => write(AdminResponse::new(Status::BadRequest), None),
    }
}

/// The values of all `Accept` fields of that request: the session has checked the head, and reads
/// only fields that matter on the public port.
fn accept(bytes: &[u8]) -> String {
    let mut fields = [httparse::EMPTY_HEADER; HttpLimits::HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let _ = request.parse(bytes);
    let values = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("accept"));
    let values = values.filter_map(|field| str::from_utf8(field.value).ok());
    values.collect::<Vec<_>>().join(", ")
}

/// The query of the request whose head is at the beginning of `bytes`: the session has checked the
/// target, and discarded its query.
fn query(bytes: &[u8]) -> &str {
    let target = bytes.trim_ascii_start().split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let query = target.iter().position(|byte| *byte == b'?').and_then(|at| target.get(at + 1..));
    query.and_then(|query| str::from_utf8(query).ok()).unwrap_or_default()
}
