//! The only file that names monoio: ring flags, sockets, timer, spawn.
//!
//! No operation is ever dropped while it is under way, because monoio 0.2.4 loses bytes and leaks
//! descriptors then. A caller that wants to end one shuts the socket down, and the operation
//! completes.

#[cfg(test)]
mod tests;

use std::{
    future::{Future, poll_fn},
    io::{self, Write as _},
    net,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix,
    },
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use monoio::{
    BufResult, IoUringDriver, LegacyDriver, RuntimeBuilder,
    buf::{IoBuf, IoBufMut, IoVecBuf, IoVecBufMut},
    io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt as _},
    net::{TcpStream, UnixStream},
    time::TimeDriver,
};

use crate::config::DriverKind;

/// Submission entries of a ring. Connections share it; where it is full, monoio submits early.
const RING_ENTRIES: u32 = 1024;
/// Completion entries: a burst of this many is reaped without the kernel's overflow list.
const COMPLETION_ENTRIES: u32 = 8192;

/// One thread's event loop.
pub enum Runtime {
    /// On epoll.
    Epoll(monoio::Runtime<TimeDriver<LegacyDriver>>),
    /// On io_uring.
    IoUring(monoio::Runtime<TimeDriver<IoUringDriver>>),
}

impl Runtime {
    /// Builds the loop on the thread that will run it: a single-issuer ring belongs to the thread
    /// that made it.
    pub fn new(kind: DriverKind) -> io::Result<Self> {
        match kind {
            DriverKind::Epoll => {
                RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().map(Self::Epoll)
            }
            DriverKind::IoUring => build_ring(|builder| {
                try_ring(&builder)?;
                RuntimeBuilder::<IoUringDriver>::new()
                    .with_entries(RING_ENTRIES)
                    .uring_builder(builder)
                    .enable_timer()
                    .build()
                    .map(Self::IoUring)
            }),
        }
    }

    pub(crate) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::Epoll(runtime) => runtime.block_on(future),
            Self::IoUring(runtime) => runtime.block_on(future),
        }
    }
}

/// Tries the ring flags from the best to the plainest, since a kernel refuses those it does not
/// know with EINVAL: SINGLE_ISSUER came with Linux 6.0, COOP_TASKRUN with 5.19.
///
/// Not DEFER_TASKRUN: with it the kernel completes what has waited for the network only in a call
/// that waits (`IORING_ENTER_GETEVENTS`), and monoio makes none while tasks are ready or another
/// thread has woken one. In a flood of new connections the established ones were not served for
/// milliseconds.
fn build_ring<T>(build: impl Fn(io_uring::Builder) -> io::Result<T>) -> io::Result<T> {
    let with = |flags: fn(&mut io_uring::Builder)| {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_cqsize(COMPLETION_ENTRIES);
        flags(&mut builder);
        build(builder)
    };
    let attempts: [fn(&mut io_uring::Builder); 3] = [
        |builder| {
            builder.setup_single_issuer().setup_coop_taskrun();
        },
        |builder| {
            builder.setup_coop_taskrun();
        },
        |_| {},
    ];
    let mut outcome = Err(io::Error::from_raw_os_error(libc::EINVAL));
    for flags in attempts {
        outcome = with(flags);
        match &outcome {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            _ => break,
        }
    }
    outcome
}

/// How long an operation that does nothing may take.
const TRIAL: Duration = Duration::from_secs(1);

/// Has a small ring of this kind do nothing, twice. A filter of system calls may let a ring be set
/// up and not be used, and monoio ignores errors of its waits: the result is a server that spins
/// and serves no peer.
///
/// Waits as monoio does, but with a bound.
fn try_ring(builder: &io_uring::Builder) -> io::Result<()> {
    let mut ring = builder.build(4)?;
    let push = |ring: &mut io_uring::IoUring| {
        let nothing = io_uring::opcode::Nop::new().build();
        // SAFETY: the operation refers to no memory.
        unsafe { ring.submission().push(&nothing) }.map_err(io::Error::other)
    };
    let until = Instant::now() + TRIAL;
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    // Without a wait, since a kernel before 5.11 knows no bound for it.
    push(&mut ring)?;
    loop {
        match ring.submit() {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ if ring.completion().next().is_some() => break,
            _ if Instant::now() >= until => return Err(late()),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    push(&mut ring)?;
    if !ring.params().is_feature_ext_arg() {
        // It was done at once before.
        return loop {
            match ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome.map(drop),
            }
        };
    }
    let step = io_uring::types::Timespec::new().sec(TRIAL.as_secs());
    loop {
        let wait = io_uring::types::SubmitArgs::new().timespec(&step);
        match ring.submitter().submit_with_args(1, &wait) {
            Ok(_) if ring.completion().next().is_some() => return Ok(()),
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::ETIME) => {}
                _ => return Err(error),
            },
        }
        if Instant::now() >= until {
            return Err(late());
        }
    }
}

/// Starts `future` on this thread's loop; it runs until it ends by itself.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    // Dropping the handle detaches the task.
    drop(monoio::spawn(future));
}

/// Waits at least `duration`, rounded up to the timer's millisecond.
pub(crate) async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// How long a socket on epoll may be read without a wait before the others have their slice.
const READ_SLICE: Duration = Duration::from_millis(5);

/// A connected stream socket that belongs to this thread's loop. Of whichever family: what monoio
/// does with a TCP stream here, it would do with a Unix one as well.
///
/// On epoll, an operation that need not wait is done at once, so a peer that always has more to
/// read, authorized or not, would never let another task run, nor a timer, nor a stop. Reads yield
/// after [`READ_SLICE`]. With io_uring every operation goes through the ring, and no peer can block
/// the others.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// `None` with io_uring.
    slice: Option<ReadSlice>,
}

/// The slice of a socket on epoll.
#[derive(Debug)]
struct ReadSlice {
    /// When a read last had to wait.
    began_at: Instant,
    /// Ends a slice. Rare, so most sockets have none; kept, as it may come again.
    timer: Option<Pin<Box<monoio::time::Sleep>>>,
}

impl ReadSlice {
    fn new() -> Self {
        Self { began_at: Instant::now(), timer: None }
    }
}

/// Ends a read that has `waited` or not. Where it did not and the slice is over, all other tasks
/// run first: by a sleep, since monoio fires timers only when no task is ready.
async fn end_slice(slice: &mut ReadSlice, waited: bool) {
    if !waited {
        if slice.began_at.elapsed() < READ_SLICE {
            return;
        }
        let due = monoio::time::Instant::now() + Duration::from_millis(1);
        let new = || Box::pin(monoio::time::sleep_until(due));
        let timer = slice.timer.get_or_insert_with(new);
        timer.as_mut().reset(due);
        timer.as_mut().await;
    }
    slice.began_at = Instant::now();
}

/// Runs what `$read` makes within its slice. A macro: a future that is passed on takes its memory
/// twice, and connections hold it while they wait.
macro_rules! in_slice {
    ($slice:expr, $read:expr) => {
        match $slice {
            None => $read.await,
            Some(slice) => {
                let mut waited = false;
                let outcome = {
                    let mut read = pin!($read);
                    poll_fn(|context| {
                        let poll = read.as_mut().poll(context);
                        waited |= poll.is_pending();
                        poll
                    })
                    .await
                };
                end_slice(slice, waited).await;
                outcome
            }
        }
    };
}

impl AsyncReadRent for Socket {
    async fn read<T: IoBufMut>(&mut self, buffer: T) -> BufResult<usize, T> {
        in_slice!(&mut self.slice, self.stream.read(buffer))
    }

    async fn readv<T: IoVecBufMut>(&mut self, buffers: T) -> BufResult<usize, T> {
        in_slice!(&mut self.slice, self.stream.readv(buffers))
    }
}

impl AsyncWriteRent for Socket {
    async fn write<T: IoBuf>(&mut self, bytes: T) -> BufResult<usize, T> {
        self.stream.write(bytes).await
    }

    async fn writev<T: IoVecBuf>(&mut self, bytes: T) -> BufResult<usize, T> {
        self.stream.writev(bytes).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

/// Takes over a socket that another thread has accepted.
pub(crate) fn adopt(socket: OwnedFd, driver: DriverKind) -> io::Result<Socket> {
    let socket = net::TcpStream::from(socket);
    // epoll needs the socket non-blocking; io_uring would answer EAGAIN instead of waiting then.
    socket.set_nonblocking(driver == DriverKind::Epoll)?;
    let slice = (driver == DriverKind::Epoll).then(ReadSlice::new);
    Ok(Socket { stream: TcpStream::from_std(socket)?, slice })
}

/// Holds back what is written next until the socket is [finished](finish), so that both leave in
/// one segment; a Unix socket knows no such thing.
pub(crate) fn cork(socket: &Socket) {
    // SAFETY: the descriptor is that of a socket which is borrowed, so it is open meanwhile.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(socket.stream.as_raw_fd()) };
    let _ = rustix::net::sockopt::set_tcp_cork(fd, true);
}

/// The socket's descriptor, for [`shutdown`].
pub(crate) fn descriptor(socket: &Socket) -> RawFd {
    socket.stream.as_raw_fd()
}

/// A wait until the loop has looked at the network once.
///
/// monoio runs all tasks that are ready before it looks, and counts one that yields as ready, so it
/// takes an operation.
#[derive(Debug)]
pub(crate) enum Rounds {
    /// A byte that goes from one end to the other.
    Epoll { far: unix::net::UnixStream, near: UnixStream },
    /// A submission ends in the call that submits it, which completes what has come from the
    /// network as well.
    Ring(Submitted),
}

impl Rounds {
    pub(crate) fn new(driver: DriverKind) -> io::Result<Self> {
        if driver == DriverKind::IoUring {
            return Submitted::new(driver).map(Self::Ring);
        }
        let (near, far) = unix::net::UnixStream::pair()?;
        near.set_nonblocking(true)?;
        Ok(Self::Epoll { far, near: UnixStream::from_std(near)? })
    }

    /// Waits until all tasks that were ready when this was called have had their slice, and what
    /// has come from the network by then is known.
    pub(crate) async fn next(&mut self) {
        let (mut far, near) = match self {
            Self::Epoll { far, near } => (&*far, near),
            Self::Ring(submitted) => return submitted.all().await,
        };
        let mut read = pin!(near.read(Vec::with_capacity(1)));
        let mut is_sent = false;
        let _ = poll_fn(|context| {
            // Before the byte is there, so that it cannot be read at once.
            let poll = read.as_mut().poll(context);
            if poll.is_pending() && !is_sent {
                is_sent = true;
                // It fits: the pair holds one byte at the most.
                let _ = far.write(&[0]);
            }
            poll
        })
        .await;
    }
}

/// A wait until the kernel knows all operations that were begun before: the ring takes them in
/// their order, and sends as it takes them.
///
/// On epoll whatever can be done has been done at once, and nothing is waited for.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// A socket with a byte that is never read, so that a poll of it ends at once, and its other
    /// end; `None` on epoll.
    pair: Option<(UnixStream, unix::net::UnixStream)>,
}

impl Submitted {
    pub(crate) fn new(driver: DriverKind) -> io::Result<Self> {
        if driver != DriverKind::IoUring {
            return Ok(Self { pair: None });
        }
        let (near, mut far) = unix::net::UnixStream::pair()?;
        far.write_all(&[0])?;
        Ok(Self { pair: Some((UnixStream::from_std(near)?, far)) })
    }

    /// Waits until what was begun before this call has been submitted.
    pub(crate) async fn all(&self) {
        if let Some((near, _)) = &self.pair {
            // However it ends, it has been submitted.
            let _ = near.readable(true).await;
        }
    }
}

/// Lets all other tasks have their slice, and the loop look at the network.
pub(crate) async fn give_way(rounds: &mut Option<Rounds>) {
    match rounds {
        Some(rounds) => rounds.next().await,
        // There was no descriptor left for them.
        None => sleep(Duration::from_millis(1)).await,
    }
}

/// Waits, without a buffer, until something can be read or the end has come: a poll on the ring.
/// Errors of the socket are left to the read; a poll alone may fail where a signal comes.
pub(crate) async fn readable(socket: &mut Socket) {
    let _ = in_slice!(&mut socket.slice, socket.stream.readable(false));
}

/// Reads once, up to the free capacity of `buffer`, behind what it holds. A full buffer reads
/// nothing, which looks like the end.
pub(crate) async fn append<S: AsyncReadRent>(
    stream: &mut S,
    buffer: Vec<u8>,
) -> (io::Result<usize>, Vec<u8>) {
    let (start, end) = (buffer.len(), buffer.capacity());
    let slice = buffer.slice_mut(start..end);
    let (outcome, slice) = stream.read(slice).await;
    (outcome, slice.into_inner())
}

/// Writes all of `bytes`.
pub(crate) async fn write_all<S: AsyncWriteRent, B: IoBuf>(
    stream: &mut S,
    bytes: B,
) -> (io::Result<()>, B) {
    let (outcome, bytes) = stream.write_all(bytes).await;
    (outcome.map(|_| ()), bytes)
}

/// Ends the writing direction: close_notify on TLS, then FIN. What the peer still sends can be
/// read.
pub(crate) async fn finish<S: AsyncWriteRent>(stream: &mut S) -> io::Result<()> {
    stream.shutdown().await
}

/// Reads and throws away until the peer has closed its side or `limit` bytes have come, so that
/// closing the socket sends no RST which would take the last answer with it.
pub(crate) async fn discard(socket: &mut Socket, limit: usize) {
    let mut buffer: Vec<u8> = Vec::with_capacity(4096);
    let mut left = limit;
    while left > 0 {
        let (outcome, mut read) = socket.read(buffer).await;
        match outcome {
            Ok(n) if n > 0 => left = left.saturating_sub(n),
            _ => return,
        }
        read.clear();
        buffer = read;
    }
}

/// Which direction of a socket to end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shutdown {
    /// Both: a pending read and a pending write end.
    Both,
    /// Reading: a pending read ends with what has come so far, then with 0.
    Read,
}

/// Ends a socket's direction from outside the task that owns it.
///
/// `fd` must be a socket that its owner has not closed yet; on any other descriptor the kernel
/// answers an error, which means that the end has already come.
pub(crate) fn shutdown(fd: RawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Both => libc::SHUT_RDWR,
        Shutdown::Read => libc::SHUT_RD,
    };
    // SAFETY: shutdown(2) takes two integers and touches no memory of this process.
    unsafe { libc::shutdown(fd, how) };
}
