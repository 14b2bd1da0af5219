//! A connection that sends a request drop by drop and never ends it.

use std::{rc::Rc, time::Duration};

use crate::{
    clock::{Nanos, nanos},
    load::Load,
    socket::Socket,
    tls::Session,
};

/// How long to wait after the server closed the connection, or none could be made.
const PAUSE: Duration = Duration::from_secs(1);

/// A body that is announced and never comes to its end.
const BODY_BYTES: usize = 100_000;

/// Runs one slow peer until the pool has nothing else to do. `every` lies between two bytes.
pub(crate) async fn run(load: Rc<Load>, slot: usize, every: Duration) {
    let mut peer = SlowPeer { load, slot, wire: Vec::new(), plain: Vec::new() };
    peer.wire.reserve(4096);
    while !peer.is_over() {
        if peer.drip(every).await.is_none() {
            peer.load.record.borrow_mut().slow_peers.failed += 1;
        }
        let until = peer.load.clock.now() + nanos(PAUSE);
        peer.pause(until).await;
    }
}

struct SlowPeer {
    load: Rc<Load>,
    slot: usize,
    wire: Vec<u8>,
    plain: Vec<u8>,
}

impl SlowPeer {
    fn is_over(&self) -> bool {
        self.load.pool.active() == 0
    }

    async fn pause(&self, until: Nanos) {
        if !self.is_over() {
            self.load.pool.pause(self.slot, until).await;
        }
    }

    /// Makes one connection and sends until it is closed; none if it could not be made.
    async fn drip(&mut self, every: Duration) -> Option<()> {
        let load = Rc::clone(&self.load);
        let mut socket = Socket::connect(load.address).ok()?;
        load.pool.watch(self.slot, socket.descriptor(), load.clock.now() + load.timeout);
        let shaken = self.shake_hands(&mut socket).await;
        // Nothing waits on the socket from here on, so it needs no shutdown.
        load.pool.unwatch(self.slot);
        let mut session = shaken?;
        load.record.borrow_mut().slow_peers.connections += 1;
        let mut request = Vec::new();
        load.head.write(&mut request, BODY_BYTES);
        request.resize(request.len() + BODY_BYTES - 1, b' ');
        for byte in request {
            self.wire.clear();
            session.send(&[byte], &mut self.wire);
            if !self.send(&mut socket).await || self.is_closed(&mut socket) {
                load.record.borrow_mut().slow_peers.closed += 1;
                return Some(());
            }
            load.record.borrow_mut().slow_peers.bytes += 1;
            let until = load.clock.now() + nanos(every);
            self.pause(until).await;
            if self.is_over() {
                return Some(());
            }
        }
        Some(())
    }

    async fn shake_hands(&mut self, socket: &mut Socket) -> Option<Session> {
        socket.connected().await.ok()?;
        let Some(tls) = &self.load.tls else { return Some(Session::plain()) };
        let mut session = tls.connect().ok()?;
        while session.is_handshaking() {
            self.wire.clear();
            session.flush(&mut self.wire);
            if !self.wire.is_empty() && !self.send(socket).await {
                return None;
            }
            let (result, wire) = socket.receive(std::mem::take(&mut self.wire)).await;
            self.wire = wire;
            if result.ok()? == 0 || session.receive(&self.wire, &mut self.plain).ok()? {
                return None;
            }
        }
        Some(session)
    }

    /// Whether all of `wire` was sent.
    async fn send(&mut self, socket: &mut Socket) -> bool {
        let (result, wire) = socket.send(std::mem::take(&mut self.wire)).await;
        self.wire = wire;
        result.is_ok()
    }

    /// Whether the server has answered what is no request yet, or closed the connection. Tickets of
    /// TLS look like an answer here, so only an end counts.
    fn is_closed(&mut self, socket: &mut Socket) -> bool {
        loop {
            match socket.receive_now(&mut self.wire) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }
}
