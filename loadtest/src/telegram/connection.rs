//! One connection of Telegram's sender: connects, sends what it is told to, until it is closed.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::RawFd,
    rc::Rc,
    task::{Poll, Waker},
};

use super::bot::Bot;
use crate::{
    clock::Nanos,
    feed::Job,
    record::{Failure, Times},
    response::{Answer, Parsed, parse, reason},
    rng::Rng,
    sender::{ConnectionId, Trouble, Update},
    socket::Socket,
    tls::Session,
};

/// The most bytes taken off the wire at once.
const RECEIVE_BYTES: usize = 4096;

/// What is sent where no response was understood, before the connection is closed.
const NOT_IMPLEMENTED: &[u8] =
    b"HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Where a connection and its bot leave things for each other.
#[derive(Default)]
pub(super) struct Slot {
    /// What is to be sent, and since when.
    assignment: Cell<Option<(Update, Nanos)>>,
    waker: RefCell<Option<Waker>>,
    /// The socket, while there is one.
    descriptor: Cell<Option<RawFd>>,
    closing: Cell<bool>,
}

impl Slot {
    /// Has an update sent.
    pub(super) fn assign(&self, update: Update, now: Nanos) {
        self.assignment.set(Some((update, now)));
        self.wake();
    }

    /// Ends the connection. The socket that is to be shut down, if there is one.
    pub(super) fn close(&self) -> Option<RawFd> {
        self.closing.set(true);
        self.wake();
        self.descriptor.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next update; none if the connection is to be closed.
    async fn next(&self) -> Option<(Update, Nanos)> {
        std::future::poll_fn(|context| {
            if self.closing.get() {
                return Poll::Ready(None);
            }
            if let Some(assignment) = self.assignment.take() {
                return Poll::Ready(Some(assignment));
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

/// Runs one connection until it is closed from either side.
pub(super) async fn run(bot: Rc<Bot>, id: ConnectionId, slot: Rc<Slot>) {
    let mut connection = Connection { bot, slot, link: None, buffers: Buffers::default() };
    connection.buffers.incoming.reserve(RECEIVE_BYTES);
    match connection.connect().await {
        Ok(()) => {
            connection.bot.happened(|sender, now| sender.connected(id, now));
            connection.work(id).await;
        }
        Err(trouble) => {
            connection.count(&trouble);
            connection.disconnect();
            connection.bot.happened(|sender, now| sender.broken(id, &trouble, now));
        }
    }
    connection.disconnect();
    connection.bot.forget(id);
}

struct Connection {
    bot: Rc<Bot>,
    slot: Rc<Slot>,
    link: Option<Link>,
    buffers: Buffers,
}

struct Link {
    socket: Socket,
    session: Session,
    /// Answers, and what follows them.
    plain: Vec<u8>,
    /// Whether it has carried no request yet.
    fresh: bool,
}

#[derive(Default)]
struct Buffers {
    body: Vec<u8>,
    request: Vec<u8>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

impl Connection {
    async fn work(&mut self, id: ConnectionId) {
        while let Some((update, assigned)) = self.slot.next().await {
            if self.is_closed() {
                self.disconnect();
                self.bot.happened(|sender, now| sender.closed_before(id, now));
                return;
            }
            match self.exchange(id, &update, assigned).await {
                Ok((answer, reason)) => {
                    let Answer { status, retry_after_s, close, .. } = answer;
                    if close {
                        self.disconnect();
                    }
                    if (200..300).contains(&status) {
                        self.bot.source.done(update.id);
                    }
                    let stays = self.bot.happened(|sender, now| {
                        sender.answered(id, status, &reason, retry_after_s, !close, now)
                    });
                    if !stays {
                        return;
                    }
                }
                Err(trouble) => {
                    if trouble == Trouble::BadResponse {
                        self.refuse().await;
                    }
                    self.count(&trouble);
                    self.disconnect();
                    self.bot.happened(|sender, now| sender.broken(id, &trouble, now));
                    return;
                }
            }
        }
    }

    fn disconnect(&mut self) {
        // The descriptor's number may be given to another file as soon as it is closed.
        self.slot.descriptor.set(None);
        self.link = None;
    }

    /// Counts a request or a connection that came to nothing.
    fn count(&self, trouble: &Trouble) {
        if self.bot.shared.over.get() {
            return;
        }
        let failure = match trouble {
            // Its time was over.
            _ if self.slot.closing.get() => Failure::Timeout,
            Trouble::BadResponse => Failure::BadResponse,
            Trouble::Connect(_) => Failure::Connect,
            Trouble::Tls(_) => Failure::Tls,
            Trouble::ReadTimeout | Trouble::WriteTimeout => Failure::Timeout,
            Trouble::Closed | Trouble::Io(_) | Trouble::Status { .. } => Failure::Closed,
        };
        self.bot.shared.record.borrow_mut().failed_otherwise(failure);
    }

    /// Connects and shakes hands, up to the client's last message, which leaves with the first
    /// request.
    async fn connect(&mut self) -> Result<(), Trouble> {
        let refused = |error: io::Error| Trouble::Connect(Trouble::io(&error));
        let bot = Rc::clone(&self.bot);
        let start = bot.shared.clock.now();
        let mut socket = Socket::connect(bot.address).map_err(refused)?;
        self.slot.descriptor.set(Some(socket.descriptor()));
        let connected = socket.connected().await;
        let session = match &bot.tls {
            Some(tls) => tls.connect().map_err(|error| Trouble::tls(&error))?,
            None => Session::plain(),
        };
        self.link = Some(Link { socket, session, plain: Vec::new(), fresh: true });
        connected.map_err(refused)?;
        while self.link.as_ref().is_some_and(|link| link.session.is_handshaking()) {
            self.flush().await?;
            if self.receive().await? {
                return Err(Trouble::Closed);
            }
        }
        let mut record = bot.shared.record.borrow_mut();
        record.connections += 1;
        record.handshake.record(bot.shared.clock.now() - start);
        match self.link.as_ref().and_then(|link| link.session.is_resumed()) {
            Some(true) => record.handshakes_resumed += 1,
            Some(false) => record.handshakes_full += 1,
            None => {}
        }
        Ok(())
    }

    /// Whether the server closed the connection while nothing was asked of it.
    fn is_closed(&mut self) -> bool {
        let Some(link) = &mut self.link else { return true };
        match link.socket.receive_now(&mut self.buffers.incoming) {
            Ok(0) => true,
            // TLS may have something to say by itself; its notice of an end counts for nothing.
            Ok(_) => link.session.receive(&self.buffers.incoming, &mut link.plain).is_err(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    async fn exchange(
        &mut self,
        id: ConnectionId,
        update: &Update,
        assigned: Nanos,
    ) -> Result<(Answer, String), Trouble> {
        let shared = Rc::clone(&self.bot.shared);
        let due = shared.real_time(update.date);
        let job = Job::new(update.id, due, update.failures());
        let unsolicited = self.link.as_ref().is_some_and(|link| !link.plain.is_empty());
        self.write_request(update.id);
        let sent = shared.clock.now();
        {
            let mut record = shared.record.borrow_mut();
            record.unsolicited += u64::from(unsolicited);
            record.trying(&job);
            record.sending(&job, sent.saturating_sub(assigned));
        }
        self.send().await?;
        self.bot.sent(id);
        let (answer, reason) = self.answer().await?;
        if self.slot.closing.get() {
            // Its time was over just before: the update comes again, so this answer counts for
            // none.
            return Err(Trouble::ReadTimeout);
        }
        let times = Times { due, sent, answered: shared.clock.now() };
        shared.record.borrow_mut().answered(&job, answer.status, &times);
        Ok((answer, reason))
    }

    fn write_request(&mut self, update_id: u64) {
        let Buffers { body, request, outgoing, .. } = &mut self.buffers;
        body.clear();
        self.bot.source.write(body, update_id);
        request.clear();
        self.bot.head.write(request, body.len());
        request.extend_from_slice(body);
        outgoing.clear();
        let Some(link) = &mut self.link else { return };
        // The first request leaves whole, later ones in two records that are cut anywhere.
        let cut = match std::mem::replace(&mut link.fresh, false) {
            true => 0,
            false => Rng::new(update_id).below(request.len() as u64) as usize,
        };
        let (first, second) = request.split_at_checked(cut).unwrap_or((request, &[]));
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            link.session.send(part, outgoing);
        }
    }

    /// Answers what is no response, as Telegram's sender does.
    async fn refuse(&mut self) {
        self.buffers.outgoing.clear();
        if let Some(link) = &mut self.link {
            link.session.send(NOT_IMPLEMENTED, &mut self.buffers.outgoing);
        }
        let _ = self.send().await;
    }

    async fn flush(&mut self) -> Result<(), Trouble> {
        let Some(link) = &mut self.link else { return Err(Trouble::Closed) };
        self.buffers.outgoing.clear();
        link.session.flush(&mut self.buffers.outgoing);
        if self.buffers.outgoing.is_empty() { Ok(()) } else { self.send().await }
    }

    async fn send(&mut self) -> Result<(), Trouble> {
        let Some(link) = &mut self.link else { return Err(Trouble::Closed) };
        let outgoing = std::mem::take(&mut self.buffers.outgoing);
        let length = outgoing.len() as u64;
        let (result, outgoing) = link.socket.send(outgoing).await;
        self.buffers.outgoing = outgoing;
        result.map_err(|error| broken(&error))?;
        self.bot.shared.record.borrow_mut().bytes_sent += length;
        Ok(())
    }

    /// Waits for more from the server. Whether TCP has come to its end.
    async fn receive(&mut self) -> Result<bool, Trouble> {
        let Some(link) = &mut self.link else { return Err(Trouble::Closed) };
        let incoming = std::mem::take(&mut self.buffers.incoming);
        let (result, incoming) = link.socket.receive(incoming).await;
        self.buffers.incoming = incoming;
        let length = result.map_err(|error| broken(&error))?;
        self.bot.shared.record.borrow_mut().bytes_received += length as u64;
        if length == 0 {
            return Ok(true);
        }
        let received = link.session.receive(&self.buffers.incoming, &mut link.plain);
        // A notice of TLS that nothing more will come is ignored.
        received.map(|_| false).map_err(|error| Trouble::tls(&error))
    }

    /// Waits for a whole answer, and takes it with its reason out of the connection's bytes.
    async fn answer(&mut self) -> Result<(Answer, String), Trouble> {
        let mut ended = false;
        loop {
            let Some(link) = &mut self.link else { return Err(Trouble::Closed) };
            if !link.plain.is_empty() {
                match parse(&link.plain, ended) {
                    Parsed::Bad => return Err(Trouble::BadResponse),
                    Parsed::Complete(mut answer) => {
                        let text = match answer.status {
                            200..300 => String::new(),
                            _ => reason(&link.plain),
                        };
                        link.plain.drain(..answer.length);
                        answer.close |= ended;
                        return Ok((answer, text));
                    }
                    Parsed::Partial => {}
                }
            }
            if ended {
                return Err(Trouble::Closed);
            }
            ended = self.receive().await?;
            // An end that the own timeout has made is not the end of a body.
            if ended && self.slot.closing.get() {
                return Err(Trouble::ReadTimeout);
            }
        }
    }
}

/// An end without close_notify is an end, and the rest are errors.
fn broken(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Trouble::Closed,
        _ => Trouble::Io(Trouble::io(error)),
    }
}
