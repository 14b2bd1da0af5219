//! The acceptor: takes connections from the listening socket and gives each to the shard with the
//! fewest.
//!
//! A thread of its own with plain system calls: accepting is rare beside updates, and a kernel hash
//! over several listeners (SO_REUSEPORT) leaves the busiest shard with more than twice the mean.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd as _, RawFd},
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
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
};

use crate::{
    allow::AllowList,
    config::Config,
    error::{Error, ErrorKind},
    incidents::{IncidentKind, IncidentWriter},
    metrics::{AcceptorMetrics, TurnedAway},
    seats::Seats,
    shard::{IDLE_ENOUGH, LongestIdle, Message, Newcomer},
};

/// Connections that may wait in the kernel until they are accepted; `net.core.somaxconn` (4,096 by
/// default) bounds it as well. A sender with `max_connections` of 100 opens ten at once.
const BACKLOG: i32 = 4096;
/// Connections taken in a row before a look whether to stop: those that are turned away keep nobody
/// busy but the acceptor, and a flood of them has no end.
const ROUND: usize = 1024;
/// Pause after a failed accept that would fail again at once.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Descriptors that connections leave to the journal, so that it can begin a segment however many
/// peers connect: at the most, and as a part of all.
const RESERVED: (u64, u64) = (16, 8);

/// A listening socket on `address`.
///
/// # Errors
/// A [`Bind`](ErrorKind::Bind) error with what to do about it.
pub(crate) fn listen_on(address: SocketAddr) -> Result<TcpListener, Error> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let bound = || -> io::Result<TcpListener> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bound().map_err(|source| {
        let advice = match source.kind() {
            io::ErrorKind::AddrInUse => {
                " (another program has the port: is ringhook running twice?)"
            }
            io::ErrorKind::PermissionDenied => {
                " (ports below 1024 need CAP_NET_BIND_SERVICE or root)"
            }
            io::ErrorKind::AddrNotAvailable => " (no interface of this machine has the address)",
            _ => "",
        };
        Error::with_source(ErrorKind::Bind, format!("cannot listen on {address}{advice}"), source)
    })
}

/// A shard as the acceptor sees it.
#[derive(Debug)]
pub(crate) struct ShardLink {
    pub(crate) idle: Arc<LongestIdle>,
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) open: Arc<AtomicUsize>,
}

/// Who gets in.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Who may connect; `None` is everybody.
    allow: Option<AllowList>,
    /// Connections at a time.
    connections: usize,
    /// Connections of each address.
    seats: Seats,
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        let limits = &config.limits;
        Self {
            allow: config.allow.clone(),
            connections: limits.connections,
            seats: Seats::new(limits.connections_per_address),
        }
    }
}

/// The acceptor thread's state.
#[derive(Debug)]
pub(crate) struct Acceptor {
    admission: Admission,
    incidents: IncidentWriter,
    /// Whether the last connection got one of the last descriptors that are for connections.
    is_near_end: bool,
    listener: TcpListener,
    metrics: Arc<AcceptorMetrics>,
    shards: Vec<ShardLink>,
    /// The other end is dropped to stop the acceptor.
    stop: UnixStream,
}

impl Acceptor {
    pub(crate) fn new(
        admission: Admission,
        incidents: IncidentWriter,
        listener: TcpListener,
        metrics: Arc<AcceptorMetrics>,
        shards: Vec<ShardLink>,
        stop: UnixStream,
    ) -> Self {
        Self { admission, incidents, is_near_end: false, listener, metrics, shards, stop }
    }

    /// Accepts until stopped; then the listening socket closes at once.
    pub(crate) fn run(mut self) {
        let mut paused = false;
        loop {
            match self.wait(paused) {
                Ready::Stop => return,
                Ready::Accept => paused = self.accept_all().is_err(),
                Ready::PauseOver => paused = false,
            }
        }
    }

    /// Waits for a connection; while `paused`, only for the pause to end.
    fn wait(&self, paused: bool) -> Ready {
        let mut fds = [
            PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        let watched = if paused { 1 } else { 2 };
        let timeout = paused.then_some(&PAUSE);
        let outcome = fds.get_mut(..watched).map(|fds| poll(fds, timeout));
        let [stop, listener] = &fds;
        match outcome {
            // Interrupted, or out of memory for a moment: look again.
            Some(Err(_)) => Ready::PauseOver,
            _ if !stop.revents().is_empty() => Ready::Stop,
            _ if watched == 2 && !listener.revents().is_empty() => Ready::Accept,
            _ => Ready::PauseOver,
        }
    }

    /// Accepts all that wait, up to [`ROUND`]. An error means that accepting again makes no sense for a while,
    /// mostly because the process has no descriptor left (EMFILE); waiting connections stay in the
    /// kernel's queue meanwhile.
    fn accept_all(&mut self) -> Result<(), ()> {
        for _ in 0..ROUND {
            // The standard library passes SOCK_CLOEXEC.
            let accepted = self.check_room().and_then(|()| self.listener.accept());
            match accepted {
                Ok((socket, peer)) => {
                    self.metrics.accepted.increment();
                    self.is_near_end = is_reserved(socket.as_raw_fd());
                    self.admit(socket, peer.ip().to_canonical());
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

    /// The kernel gives the lowest free descriptor, so a high one tells that few are left.
    ///
    /// # Errors
    /// `EMFILE` where only those are left that are not for connections.
    fn check_room(&mut self) -> io::Result<()> {
        if self.is_near_end {
            let lowest = rustix::io::fcntl_dupfd_cloexec(&self.listener, 0)?;
            self.is_near_end = is_reserved(lowest.as_raw_fd());
            if self.is_near_end {
                return Err(rustix::io::Errno::MFILE.into());
            }
        }
        Ok(())
    }

    /// Takes the connection from `peer`, or turns it away.
    fn admit(&mut self, socket: TcpStream, peer: IpAddr) {
        if self.admission.allow.as_ref().is_some_and(|list| !list.contains(peer)) {
            return self.turn_away(&socket, peer, TurnedAway::Address);
        }
        let Some(seat) = self.admission.seats.take(peer) else {
            return self.turn_away(&socket, peer, TurnedAway::PerAddress);
        };
        // An answer that waits for the sender's delayed ACK costs it 40 ms. A socket that refuses
        // the option is broken, and its first read will tell.
        let _ = socket.set_nodelay(true);
        let newcomer = Newcomer { accepted_at: Instant::now(), peer: Some(peer), seat, socket };
        let open: usize = self.shards.iter().map(|link| link.open.load(Ordering::Relaxed)).sum();
        if open < self.admission.connections {
            self.hand_over(newcomer);
        } else {
            self.squeeze_in(newcomer, peer);
        }
    }

    /// Gives `newcomer` to the shard with the connection that has been idle longest, to be served
    /// in its place. Who closes takes its time, so a few more are open for a moment.
    fn squeeze_in(&mut self, newcomer: Newcomer, peer: IpAddr) {
        let idle = |link: &ShardLink| link.idle.since();
        let longest = self.shards.iter_mut().filter(|link| idle(link).is_some());
        let longest = longest.min_by_key(|link| idle(link)).filter(|link| {
            idle(link).is_some_and(|since| {
                newcomer.accepted_at.saturating_duration_since(since) >= IDLE_ENOUGH
            })
        });
        match longest {
            None => self.turn_away(&newcomer.socket, peer, TurnedAway::Connections),
            Some(link) => {
                if link.give(Message::Instead(newcomer)).is_some() {
                    self.metrics.refused(TurnedAway::Shards);
                }
            }
        }
    }

    /// Closes `socket` with an RST: whoever comes again and again leaves nothing in the kernel.
    fn turn_away(&self, socket: &TcpStream, peer: IpAddr, why: TurnedAway) {
        // Where the option is refused, a FIN does as well.
        let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        self.metrics.refused(why);
        let (kind, detail) = match why {
            TurnedAway::Address => (IncidentKind::AddressRefused, "server.allow"),
            TurnedAway::Connections => (IncidentKind::ConnectionLimit, "limits.connections"),
            TurnedAway::PerAddress => {
                (IncidentKind::AddressLimit, "limits.connections_per_address")
            }
            TurnedAway::Shards => (IncidentKind::ConnectionLimit, "no shard takes it"),
        };
        self.incidents.note(kind, Some(peer), None, detail);
    }

    /// Gives `newcomer` to the shard with the fewest connections, or to any that takes it.
    fn hand_over(&mut self, newcomer: Newcomer) {
        let message = Message::Connection(newcomer);
        let least = self.shards.iter_mut().min_by_key(|link| link.open.load(Ordering::Relaxed));
        let Some(mut refused) = least.and_then(|link| link.give(message)) else { return };
        for link in &mut self.shards {
            match link.give(refused) {
                Some(again) => refused = again,
                None => return,
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

/// What the acceptor's wait ended with.
enum Ready {
    Accept,
    PauseOver,
    Stop,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{io::Read as _, net::TcpStream as Peer};

    use super::*;
    use crate::incidents::Incidents;

    /// An acceptor with `shards` mailboxes of the least capacity, which is one message, unless
    /// `capacity` adds to it.
    fn acceptor(shards: usize, capacity: usize) -> (Acceptor, Vec<mpsc::Receiver<Message>>) {
        let (links, mailboxes) = (0..shards)
            .map(|_| {
                let (mailbox, messages) = mpsc::channel(capacity);
                (ShardLink { idle: Arc::default(), mailbox, open: Arc::default() }, messages)
            })
            .unzip();
        let listener = listen_on("127.0.0.1:0".parse().unwrap()).unwrap();
        let stop = UnixStream::pair().unwrap().0;
        let acceptor = Acceptor::new(
            Admission::new(&Config::default()),
            Incidents::new(10).writer(),
            listener,
            Arc::default(),
            links,
            stop,
        );
        (acceptor, mailboxes)
    }

    /// Connects once and lets the acceptor take it.
    fn connect(acceptor: &mut Acceptor) -> Peer {
        let peer = Peer::connect(acceptor.listener.local_addr().unwrap()).unwrap();
        let before = acceptor.metrics.accepted.get();
        while acceptor.metrics.accepted.get() == before {
            acceptor.accept_all().unwrap();
        }
        peer
    }

    fn loads(acceptor: &Acceptor) -> Vec<usize> {
        acceptor.shards.iter().map(|link| link.open.load(Ordering::Relaxed)).collect()
    }

    fn turned_away(acceptor: &Acceptor, why: TurnedAway) -> u64 {
        acceptor.metrics.refused.get(why as usize).unwrap().get()
    }

    #[test]
    fn who_is_not_on_the_list_is_turned_away_and_never_reaches_a_shard() {
        let (mut acceptor, _mailboxes) = acceptor(2, 100);
        acceptor.admission.allow = Some(AllowList::new(["telegram", "127.0.0.2"]).unwrap());
        let mut peer = connect(&mut acceptor);
        assert_eq!(peer.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(
            (loads(&acceptor), turned_away(&acceptor, TurnedAway::Address)),
            (vec![0, 0], 1)
        );
        acceptor.admission.allow = Some(AllowList::new(["127.0.0.0/8"]).unwrap());
        let _peer = connect(&mut acceptor);
        assert_eq!(
            (loads(&acceptor), turned_away(&acceptor, TurnedAway::Address)),
            (vec![1, 0], 1)
        );
    }

    #[test]
    fn an_address_gets_its_seats_back_when_its_connections_are_gone() {
        let (mut acceptor, mut mailboxes) = acceptor(1, 100);
        acceptor.admission.seats = Seats::new(2);
        let _peers: Vec<_> = (0..3).map(|_| connect(&mut acceptor)).collect();
        assert_eq!(
            (loads(&acceptor), turned_away(&acceptor, TurnedAway::PerAddress)),
            (vec![2], 1)
        );
        drop(mailboxes.first_mut().unwrap().try_recv().unwrap());
        let _peer = connect(&mut acceptor);
        assert_eq!(
            (loads(&acceptor), turned_away(&acceptor, TurnedAway::PerAddress)),
            (vec![3], 1)
        );
    }

    #[test]
    fn where_there_is_no_room_the_shard_with_the_longest_idle_one_gets_the_new_one() {
        let (mut acceptor, mut mailboxes) = acceptor(3, 100);
        acceptor.admission.connections = 3;
        let _peers: Vec<_> = (0..3).map(|_| connect(&mut acceptor)).collect();
        let _peer = connect(&mut acceptor);
        assert_eq!(turned_away(&acceptor, TurnedAway::Connections), 1, "none is idle");
        // Behind what it is told now there are ten seconds.
        let epoch = Instant::now() - Duration::from_secs(10);
        for (link, seconds) in acceptor.shards.iter_mut().zip([4, 2, 3]) {
            let idle = LongestIdle::from_epoch(epoch);
            idle.tell(Some(epoch + Duration::from_secs(seconds)));
            link.idle = Arc::new(idle);
        }
        let _peer = connect(&mut acceptor);
        assert_eq!(loads(&acceptor), [1, 2, 1]);
        let mailbox = mailboxes.get_mut(1).unwrap();
        assert!(matches!(mailbox.try_recv(), Ok(Message::Connection(_))));
        assert!(matches!(mailbox.try_recv(), Ok(Message::Instead(_))));
        for link in &acceptor.shards {
            link.idle.tell(Some(Instant::now()));
        }
        let _peer = connect(&mut acceptor);
        assert_eq!(turned_away(&acceptor, TurnedAway::Connections), 2, "none for long enough");
    }

    #[test]
    fn forty_connections_are_spread_over_sixteen_shards_within_one() {
        let (mut acceptor, _mailboxes) = acceptor(16, 100);
        let _peers: Vec<_> = (0..40).map(|_| connect(&mut acceptor)).collect();
        assert!(loads(&acceptor).iter().all(|load| matches!(load, 2 | 3)));
        assert_eq!(loads(&acceptor).iter().sum::<usize>(), 40);
        // Those of one shard end; it gets the next ones.
        acceptor.shards.get(5).unwrap().open.store(0, Ordering::Relaxed);
        let _peers: Vec<_> = (0..2).map(|_| connect(&mut acceptor)).collect();
        assert_eq!(loads(&acceptor).get(5), Some(&2));
    }

    #[test]
    fn a_full_or_dead_shard_is_passed_over_and_refusal_is_the_last_resort() {
        let (mut acceptor, mut mailboxes) = acceptor(3, 0);
        // The least loaded one is gone, the next one has room for one connection.
        mailboxes.remove(0);
        let [_a, _b] = [connect(&mut acceptor), connect(&mut acceptor)];
        assert_eq!(
            (loads(&acceptor), turned_away(&acceptor, TurnedAway::Shards)),
            (vec![0, 1, 1], 0)
        );
        let mut refused = connect(&mut acceptor);
        assert_eq!(
            (loads(&acceptor), turned_away(&acceptor, TurnedAway::Shards)),
            (vec![0, 1, 1], 1)
        );
        assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0);
    }
}
