//! The acceptor: takes connections from the listening sockets and gives each to the shard with the
//! fewest.
//!
//! A thread of its own with plain system calls: accepting is rare beside updates, and a kernel hash
//! over several listeners (SO_REUSEPORT) leaves the busiest shard with more than twice the mean.

#[cfg(test)]
mod tests;

use std::{
    io,
    io::Read as _,
    net::IpAddr,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_channel::mpsc;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt,
};

use super::listener::{AcceptorConfig, AcceptorSettings};
use crate::{
    config::{Config, allow::admits},
    control::operation::{Operation, Step},
    io::{
        accepted::AcceptedConnection,
        connection_table::IDLE_ENOUGH,
        listener::{BACKLOG, ListeningSocket, Terms},
        longest_idle::LongestIdle,
        peer_limit::{ConnectionPermit, PeerConnectionLimit},
        shard::Message,
    },
    observe::{incidents::IncidentWriter, metrics::AcceptorMetrics},
    outcome::TurnedAway,
};

/// Connections taken in a row before a check for a stop: those that are refused cost the acceptor
/// alone, and a flood of them has no end.
const ROUND: usize = 1024;
/// How long a connection waits for shards that have as many new ones as they can remember, and the
/// time between two looks.
const FULL_WAIT: Duration = Duration::from_secs(1);
const FULL_STEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
/// Pause after a failed accept that would fail again at once.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Time between two looks for a new socket in place of one whose file was gone, where there is a
/// file.
const RENEWAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Descriptors that connections leave to the journal, so that it can begin a segment however many
/// peers connect: at the most, and as a part of all.
const RESERVED: (u64, u64) = (16, 8);

/// A shard as the acceptor sees it.
#[derive(Debug)]
pub(crate) struct ShardLink {
    pub(crate) idle: Arc<LongestIdle>,
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) open: Arc<AtomicUsize>,
}

/// The limits on connections.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    /// Connections at a time.
    connections: usize,
    /// Connections of each address.
    permits: Arc<PeerConnectionLimit>,
}

impl ConnectionLimits {
    pub(crate) fn new(config: &Config, permits: Arc<PeerConnectionLimit>) -> Self {
        Self { connections: config.limits.connections, permits }
    }
}

/// The acceptor thread's state.
#[derive(Debug)]
pub(crate) struct Acceptor {
    limits: ConnectionLimits,
    incidents: IncidentWriter,
    /// Whether the last connection got one of the last descriptors that are for connections.
    is_near_end: bool,
    listeners: Vec<ListeningSocket>,
    metrics: Arc<AcceptorMetrics>,
    operation: Arc<Operation>,
    acceptor_config: Arc<AcceptorConfig>,
    shards: Vec<ShardLink>,
    /// The other end is shut down to stop the acceptor. A byte says that its configuration has
    /// changed.
    stop: UnixStream,
}

impl Acceptor {
    pub(crate) fn new(
        limits: ConnectionLimits,
        incidents: IncidentWriter,
        listeners: Vec<ListeningSocket>,
        metrics: Arc<AcceptorMetrics>,
        acceptor_config: Arc<AcceptorConfig>,
        shards: Vec<ShardLink>,
        stop: UnixStream,
    ) -> Self {
        let (is_near_end, operation) = (false, Arc::default());
        Self {
            limits,
            incidents,
            is_near_end,
            listeners,
            metrics,
            operation,
            acceptor_config,
            shards,
            stop,
        }
    }

    /// What it is in the middle of.
    pub(crate) fn operation(&self) -> &Arc<Operation> {
        &self.operation
    }

    /// Accepts until stopped; then the listening sockets close at once.
    pub(crate) fn run(mut self) {
        let mut paused = false;
        loop {
            self.operation.end();
            let ready = self.wait(paused);
            self.operation.begin(Step::Accept, Instant::now());
            self.renew();
            match ready {
                Ready::Woken if self.apply() => {}
                Ready::Woken => {
                    self.accept_last();
                    return self.operation.end();
                }
                Ready::Accept(ready) => {
                    paused = ready.into_iter().any(|index| self.accept_all(index).is_err());
                }
                Ready::PauseOver => paused = false,
            }
        }
    }

    /// Waits for a connection; while `paused`, only for the pause to end.
    fn wait(&self, paused: bool) -> Ready {
        let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let listeners = if paused { &[] } else { &self.listeners[..] };
        let mut fds: Vec<_> = listeners.iter().map(|listener| watch(listener.as_fd())).collect();
        fds.push(watch(self.stop.as_fd()));
        let is_renewable = || self.listeners.iter().any(ListeningSocket::may_be_renewed);
        let renewal = || is_renewable().then_some(&RENEWAL);
        let timeout = paused.then_some(&PAUSE).or_else(renewal);
        if poll(&mut fds, timeout).is_err() {
            // Interrupted, or out of memory for a moment: look again.
            return Ready::PauseOver;
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        if fds.pop().is_some_and(|stop| is_ready(&stop)) {
            return Ready::Woken;
        }
        let ready = fds.iter().enumerate().filter(|(_, fd)| is_ready(fd));
        let ready: Vec<_> = ready.map(|(index, _)| index).collect();
        if ready.is_empty() { Ready::PauseOver } else { Ready::Accept(ready) }
    }

    /// Accepts at new sockets in place of those whose files were gone. Peers that wait at the old
    /// ones connected before that.
    fn renew(&mut self) {
        if !self.listeners.iter().any(ListeningSocket::may_be_renewed) {
            return;
        }
        for (index, socket, file) in self.acceptor_config.renewed() {
            // What fails would fail there as well.
            let _ = self.accept_all(index);
            if let Some(listener) = self.listeners.get_mut(index) {
                listener.renew(socket, file);
            }
        }
    }

    /// Applies what other threads have left; false where that is to stop.
    fn apply(&mut self) -> bool {
        if (&self.stop).read(&mut [0; 64]).is_ok_and(|n| n == 0) {
            return false;
        }
        if let Some(AcceptorSettings { connections, terms }) = self.acceptor_config.take() {
            self.limits.connections = connections;
            self.listeners.iter_mut().for_each(|listener| listener.set_terms(&terms));
        }
        true
    }

    /// Takes the connections that came before the stop: closing a socket over them would reset
    /// them. Peers that wait at an inherited socket are left to the next process that listens
    /// there.
    fn accept_last(&mut self) {
        // Their files go with them.
        drop(self.acceptor_config.renewed());
        for index in (0..self.listeners.len()).rev() {
            let Some(listener) = self.listeners.get_mut(index) else { return };
            // New ones could come without end, so there is a bound.
            let rounds = BACKLOG.unsigned_abs() as usize / ROUND;
            let rounds = if listener.is_inherited() { 0 } else { rounds };
            listener.remove_file();
            for _ in 0..rounds {
                let before = self.metrics.accepted.get();
                let outcome = self.accept_all(index);
                if outcome.is_err() || self.metrics.accepted.get() - before < ROUND as u64 {
                    break;
                }
            }
            // Closed at once: a peer that connects between the last look and this is reset.
            if let Some(listener) = self.listeners.get(index) {
                listener.end();
            }
            self.listeners.truncate(index);
        }
    }

    /// Accepts all that wait at a listener, up to [`ROUND`]. An error means that accepting again
    /// makes no sense for a while, mostly because the process has no descriptor left (EMFILE);
    /// waiting connections stay in the kernel's queue meanwhile.
    fn accept_all(&mut self, listener: usize) -> Result<(), ()> {
        for _ in 0..ROUND {
            let is_room = self.check_room();
            let Some(listener) = self.listeners.get(listener) else { return Ok(()) };
            let accepted = is_room.and_then(|()| listener.accept());
            match accepted {
                Ok((socket, peer)) => {
                    self.metrics.accepted.increment();
                    self.is_near_end = is_reserved(socket.as_raw_fd());
                    let terms = Arc::clone(&listener.terms);
                    self.admit(socket, peer, terms);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.metrics.paused.increment();
                        if self.metrics.paused.get().is_power_of_two() {
                            tracing::warn!(
                                %error,
                                times = self.metrics.paused.get(),
                                "accepting pauses; for want of descriptors raise LimitNOFILE"
                            );
                        }
                        return Err(());
                    }
                },
            }
        }
        Ok(())
    }

    /// Checks that a descriptor is left for a connection. The kernel gives the lowest free
    /// descriptor, so a high one means that few are left.
    ///
    /// # Errors
    /// `EMFILE` where only those are left that are not for connections.
    fn check_room(&mut self) -> io::Result<()> {
        if self.is_near_end {
            let lowest = rustix::io::fcntl_dupfd_cloexec(&self.stop, 0)?;
            self.is_near_end = is_reserved(lowest.as_raw_fd());
            if self.is_near_end {
                return Err(rustix::io::Errno::MFILE.into());
            }
        }
        Ok(())
    }

    /// Takes the connection from `peer`, or refuses it.
    fn admit(&mut self, socket: OwnedFd, peer: Option<IpAddr>, terms: Arc<Terms>) {
        let is_balancer = terms.proxy_protocol.is_some();
        let is_admitted = match &terms.proxy_protocol {
            // The client behind it is known when the shard has read its header.
            Some(balancers) => admits(Some(balancers), peer),
            None => terms.admits(peer),
        };
        if !is_admitted {
            return self.turn_away(&socket, peer, TurnedAway::Address);
        }
        let permit = match peer {
            Some(peer) if !is_balancer => self.limits.permits.take(peer),
            _ => Some(ConnectionPermit::uncounted()),
        };
        let Some(permit) = permit else {
            return self.turn_away(&socket, peer, TurnedAway::PerAddress);
        };
        let accepted_at = Instant::now();
        // Where shards have no room, each of them waits, which is no hang.
        self.operation.begin(Step::Accept, accepted_at);
        let accepted = AcceptedConnection { accepted_at, peer, permit, socket, terms };
        let open: usize = self.shards.iter().map(|link| link.open.load(Ordering::Relaxed)).sum();
        if open < self.limits.connections {
            self.hand_over(accepted);
        } else {
            self.replace_idle(accepted, peer);
        }
    }

    /// Gives `accepted` to the shard with the connection that has been idle longest, to be served
    /// in its place. Closing takes its time, so a few more are open for a moment.
    fn replace_idle(&mut self, accepted: AcceptedConnection, peer: Option<IpAddr>) {
        let idle = |link: &ShardLink| link.idle.since();
        let longest = self.shards.iter_mut().filter(|link| idle(link).is_some());
        let longest = longest.min_by_key(|link| idle(link)).filter(|link| {
            idle(link).is_some_and(|since| {
                accepted.accepted_at.saturating_duration_since(since) >= IDLE_ENOUGH
            })
        });
        match longest {
            None => self.turn_away(&accepted.socket, peer, TurnedAway::Connections),
            Some(link) => {
                if link.give(Message::ReplaceIdle(accepted)).is_some() {
                    self.metrics.refused(TurnedAway::Shards);
                }
            }
        }
    }

    /// Closes `socket` with an RST: a peer that connects again and again leaves nothing in the
    /// kernel.
    fn turn_away(&self, socket: &OwnedFd, peer: Option<IpAddr>, why: TurnedAway) {
        // Where the option is refused, a FIN does as well.
        let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        self.metrics.refused(why);
        self.incidents.turned_away(peer, why);
    }

    /// Gives `accepted` to the shard with the fewest connections, or to any that takes it.
    fn hand_over(&mut self, accepted: AcceptedConnection) {
        let message = Message::Connection(accepted);
        let least = self.shards.iter_mut().min_by_key(|link| link.open.load(Ordering::Relaxed));
        let Some(mut refused) = least.and_then(|link| link.give(message)) else { return };
        let until = Instant::now() + FULL_WAIT;
        loop {
            for link in &mut self.shards {
                match link.give(refused) {
                    Some(again) => refused = again,
                    None => return,
                }
            }
            // All are at work on those that came before; later ones wait in the kernel meanwhile.
            let is_hopeless = self.shards.iter().all(|link| link.mailbox.is_closed());
            if is_hopeless || Instant::now() >= until {
                break;
            }
            let mut wake = [PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
            if poll(&mut wake, Some(&FULL_STEP)).is_ok_and(|ready| ready > 0) {
                // A stop does not wait, and a new configuration comes first.
                break;
            }
        }
        self.metrics.refused(TurnedAway::Shards);
    }
}

/// True where a descriptor is one of those that connections leave to the journal.
fn is_reserved(descriptor: RawFd) -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let (most, part) = RESERVED;
    limit.is_some_and(|limit| descriptor as u64 >= limit - most.min(limit / part))
}

impl ShardLink {
    /// Sends `message`, which comes back where the mailbox is full or the shard is gone.
    fn give(&mut self, message: Message) -> Option<Message> {
        self.open.fetch_add(1, Ordering::Relaxed);
        let refused = self.mailbox.try_send(message).err()?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        Some(refused.into_inner())
    }
}

/// How the acceptor's wait ended.
enum Ready {
    /// On these listeners, by their places.
    Accept(Vec<usize>),
    PauseOver,
    /// The configuration has changed, or it is to stop.
    Woken,
}
