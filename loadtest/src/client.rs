//! One connection: takes a request, sends it, waits for its answer, and again.

use std::rc::Rc;

use crate::{
    clock::{Nanos, nanos},
    feed::Job,
    load::Load,
    pool::Assignment,
    record::{Failure, Times},
    response::{Parsed, parse},
    socket::Socket,
    tls::Session,
};

/// How long a connection rests after it could not be made, so that a server that is down is not
/// asked a million times a second.
const PAUSE_AFTER_CONNECT: std::time::Duration = std::time::Duration::from_millis(100);

/// The most bytes taken off the wire at once. Answers to webhooks are far shorter.
const RECEIVE_BYTES: usize = 4096;

/// Runs one connection until the plan is at its end.
pub(crate) async fn run(load: Rc<Load>, slot: usize) {
    let mut client = Client { load, slot, link: None, buffers: Buffers::default() };
    client.warm_up().await;
    client.work().await;
    client.disconnect();
    client.load.pool.leave();
}

struct Client {
    load: Rc<Load>,
    slot: usize,
    link: Option<Link>,
    buffers: Buffers,
}

/// A connection that may carry requests.
struct Link {
    socket: Socket,
    session: Session,
    /// Answers, and what follows them.
    plain: Vec<u8>,
}

/// Memory that outlives requests and connections.
#[derive(Default)]
struct Buffers {
    body: Vec<u8>,
    request: Vec<u8>,
    /// What leaves.
    outgoing: Vec<u8>,
    /// What has arrived.
    incoming: Vec<u8>,
}

impl Client {
    /// Connects before the clock starts, so that a run on lasting connections does not begin with
    /// hundreds of handshakes.
    async fn warm_up(&mut self) {
        self.buffers.incoming.reserve(RECEIVE_BYTES);
        if self.load.churn {
            return;
        }
        let deadline = self.load.clock.now() + self.load.timeout;
        // If it fails, the first request tries again, and then it counts.
        if self.connect(deadline).await.is_ok() {
            let _ = self.flush().await;
            self.load.pool.unwatch(self.slot);
        } else {
            self.disconnect();
        }
    }

    async fn work(&mut self) {
        let mut free = self.load.clock.now();
        while let Some(assignment) = self.load.next(self.slot, free).await {
            if assignment.waited {
                self.notice_close();
            }
            let result = self.exchange(&assignment).await;
            let late = self.load.pool.unwatch(self.slot);
            free = match result {
                Ok((answered, acknowledged)) => {
                    self.load.pool.settle(self.slot, &assignment.job, acknowledged, answered);
                    answered
                }
                Err(_) if late => self.fail(&assignment.job, Failure::Timeout).await,
                Err(failure) => self.fail(&assignment.job, failure).await,
            };
            // An answer just in time still finds its connection shut down.
            if self.load.churn || late {
                self.disconnect();
            }
        }
    }

    /// Counts a request that got no answer. When the connection can go on.
    async fn fail(&mut self, job: &Job, failure: Failure) -> Nanos {
        self.load.record.borrow_mut().failed(job, failure);
        self.disconnect();
        self.load.pool.settle(self.slot, job, false, self.load.clock.now());
        if matches!(failure, Failure::Connect | Failure::Tls) {
            let until = self.load.clock.now() + nanos(PAUSE_AFTER_CONNECT);
            self.load.pool.pause(self.slot, until).await;
        }
        self.load.clock.now()
    }

    /// Sends one request and waits for its answer. When it came and whether it was
    /// 2xx.
    async fn exchange(&mut self, assignment: &Assignment) -> Result<(Nanos, bool), Failure> {
        let load = Rc::clone(&self.load);
        let job = &assignment.job;
        load.record.borrow_mut().trying(job);
        let mut begun = None;
        match &self.link {
            None => {
                let now = load.clock.now();
                begun = Some(now);
                self.connect(now + load.timeout).await?;
            }
            Some(link) => {
                // The deadline may be a little short where the connection was free long before.
                load.pool.watch(
                    self.slot,
                    link.socket.descriptor(),
                    assignment.free + load.timeout,
                );
            }
        }
        // What is here already cannot be the answer, but Telegram takes it for one as well.
        let unsolicited = self.link.as_ref().is_some_and(|link| !link.plain.is_empty());
        load.record.borrow_mut().unsolicited += u64::from(unsolicited);
        self.write_request(job.update_id);
        let sent = load.clock.now();
        let late = begun.unwrap_or(sent).saturating_sub(assignment.free);
        load.record.borrow_mut().sending(job, late);
        self.send().await?;
        let answer = self.answer().await?;
        let times = Times { due: job.due, sent, answered: load.clock.now() };
        load.record.borrow_mut().answered(job, answer.status, &times);
        if answer.close {
            load.pool.unwatch(self.slot);
            self.disconnect();
        }
        Ok((times.answered, (200..300).contains(&answer.status)))
    }

    /// Connects and shakes hands, up to the client's last message, which stays with the session.
    async fn connect(&mut self, deadline: Nanos) -> Result<(), Failure> {
        let load = Rc::clone(&self.load);
        let start = load.clock.now();
        let mut socket = Socket::connect(load.address).map_err(|_| Failure::Connect)?;
        load.pool.watch(self.slot, socket.descriptor(), deadline);
        let connected = socket.connected().await;
        let session = match &load.tls {
            Some(tls) => tls.connect().map_err(|_| Failure::Tls)?,
            None => Session::plain(),
        };
        // From here on the socket is kept until the watch on it is over.
        self.link = Some(Link { socket, session, plain: Vec::new() });
        connected.map_err(|_| Failure::Connect)?;
        while self.link.as_ref().is_some_and(|link| link.session.is_handshaking()) {
            self.flush().await.map_err(|_| Failure::Tls)?;
            if self.receive().await.map_err(|_| Failure::Tls)? {
                return Err(Failure::Tls);
            }
        }
        let mut record = load.record.borrow_mut();
        record.connections += 1;
        record.handshake.record(load.clock.now() - start);
        match self.link.as_ref().and_then(|link| link.session.is_resumed()) {
            Some(true) => record.handshakes_resumed += 1,
            Some(false) => record.handshakes_full += 1,
            None => {}
        }
        Ok(())
    }

    fn disconnect(&mut self) {
        // The descriptor's number may be given to another file as soon as it is closed.
        self.load.pool.unwatch(self.slot);
        self.link = None;
    }

    /// Lets go of a connection that the server closed while nothing was asked of it. That is no
    /// failure: the next request gets a new one.
    fn notice_close(&mut self) {
        let Some(link) = &mut self.link else { return };
        let closed = match link.socket.receive_now(&mut self.buffers.incoming) {
            Ok(0) => true,
            Ok(_) => link.session.receive(&self.buffers.incoming, &mut link.plain).unwrap_or(true),
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        if closed {
            self.disconnect();
        }
    }

    fn write_request(&mut self, update_id: u64) {
        let Buffers { body, request, outgoing, .. } = &mut self.buffers;
        body.clear();
        self.load.source.write(body, update_id);
        request.clear();
        self.load.head.write(request, body.len());
        request.extend_from_slice(body);
        outgoing.clear();
        if let Some(link) = &mut self.link {
            link.session.send(request, outgoing);
        }
    }

    /// Sends what the session has to say by itself.
    async fn flush(&mut self) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Err(Failure::Closed) };
        self.buffers.outgoing.clear();
        link.session.flush(&mut self.buffers.outgoing);
        if self.buffers.outgoing.is_empty() { Ok(()) } else { self.send().await }
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Err(Failure::Closed) };
        let outgoing = std::mem::take(&mut self.buffers.outgoing);
        let length = outgoing.len() as u64;
        let (result, outgoing) = link.socket.send(outgoing).await;
        self.buffers.outgoing = outgoing;
        result.map_err(|_| Failure::Closed)?;
        self.load.record.borrow_mut().bytes_sent += length;
        Ok(())
    }

    /// Waits for more from the server. Whether it has come to its end.
    async fn receive(&mut self) -> Result<bool, Failure> {
        let Some(link) = &mut self.link else { return Err(Failure::Closed) };
        let incoming = std::mem::take(&mut self.buffers.incoming);
        let (result, incoming) = link.socket.receive(incoming).await;
        self.buffers.incoming = incoming;
        let length = result.map_err(|_| Failure::Closed)?;
        self.load.record.borrow_mut().bytes_received += length as u64;
        if length == 0 {
            return Ok(true);
        }
        link.session.receive(&self.buffers.incoming, &mut link.plain).map_err(|_| Failure::Tls)
    }

    /// Waits for a whole answer, and takes it out of the connection's bytes.
    async fn answer(&mut self) -> Result<crate::response::Answer, Failure> {
        let mut ended = false;
        loop {
            let Some(link) = &mut self.link else { return Err(Failure::Closed) };
            // Nothing to look at yet in the usual case, where the answer comes as one record.
            if !link.plain.is_empty() {
                match parse(&link.plain, ended) {
                    Parsed::Bad => return Err(Failure::BadResponse),
                    Parsed::Complete(mut answer) => {
                        link.plain.drain(..answer.length);
                        answer.close |= ended;
                        return Ok(answer);
                    }
                    Parsed::Partial => {}
                }
            }
            if ended {
                return Err(Failure::Closed);
            }
            ended = self.receive().await?;
            // An end that the own timeout has made is not the end of a body.
            if ended && self.load.pool.unwatch(self.slot) {
                return Err(Failure::Timeout);
            }
        }
    }
}
