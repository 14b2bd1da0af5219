//! TCP alone: a server that answers each request with as many bytes as ringhook does, and the CPU
//! time that it takes.
//!
//! The first four bytes of a request are its length, as in the header of a record.

mod epoll;
mod monoio;
mod ring;

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::unix::thread::JoinHandleExt as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use core_affinity::CoreId;

use self::ring::{Flavour, Ring};
use crate::requests::Requests;

/// As in the measurements of whole receivers.
const CONNECTIONS: usize = 200;
/// Answers for which the client waits before it sends the next requests. A server that is faster
/// than the client then does not pay for a wake-up per request: it has as many to serve at once as
/// a server that is always behind.
const CLIENT_BATCH: usize = CONNECTIONS / 4;
/// Bytes that say how long a request is.
const PREFIX: usize = 4;
/// Larger than any answer.
const ANSWER_MAX: usize = 256;
static ANSWER: [u8; ANSWER_MAX] = [b'a'; ANSWER_MAX];

/// How to serve: the sockets, the answer.
type Serve = fn(Vec<TcpStream>, &'static [u8]) -> io::Result<()>;

/// A method of talking to the kernel.
pub(crate) struct Echo {
    pub(crate) name: &'static str,
    serve: Serve,
}

pub(crate) const ECHOES: [Echo; 5] = [
    Echo { name: "epoll, recv and send", serve: epoll::serve },
    Echo { name: "io_uring by monoio, as ringhook", serve: monoio::serve },
    Echo {
        name: "io_uring, multishot, COOP_TASKRUN",
        serve: |sockets, answer| serve(sockets, answer, Flavour { defer: false, fixed: false }),
    },
    Echo {
        name: "io_uring, multishot, DEFER_TASKRUN",
        serve: |sockets, answer| serve(sockets, answer, Flavour { defer: true, fixed: false }),
    },
    Echo {
        name: "io_uring, multishot, DEFER_TASKRUN, fixed",
        serve: |sockets, answer| serve(sockets, answer, Flavour { defer: true, fixed: true }),
    },
];

/// One measurement.
pub(crate) struct Sample {
    /// CPU time of the server's thread for each exchange, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    /// CPU time by time; below 1, the server was waiting for its client meanwhile.
    pub(crate) busy: f64,
}

/// Finds the ends of the requests of one connection.
#[derive(Clone, Copy, Default)]
struct Framing {
    length: [u8; PREFIX],
    received: usize,
}

impl Framing {
    /// Takes the next bytes; true where they are the last ones of a request.
    fn is_end(&mut self, bytes: &[u8]) -> bool {
        if let Some(missing) = self.length.get_mut(self.received..) {
            for (to, from) in missing.iter_mut().zip(bytes) {
                *to = *from;
            }
        }
        self.received += bytes.len();
        let is_end =
            self.received >= PREFIX && self.received == u32::from_be_bytes(self.length) as usize;
        if is_end {
            self.received = 0;
        }
        is_end
    }
}

/// Runs `echo` on the first of `cpus` and its client on the second one, for `span` after a warm-up.
pub(crate) fn measure(
    echo: &Echo,
    requests: &Requests,
    [server_cpu, client_cpu]: [CoreId; 2],
    span: Duration,
) -> io::Result<Sample> {
    let (near, far) = connections()?;
    let answer = &ANSWER[..requests.answer_record];
    let serve = echo.serve;
    let server = thread::spawn(move || {
        core_affinity::set_for_current(server_cpu);
        serve(near, answer)
    });
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let seen = thread::scope(|scope| {
        let client = scope.spawn(|| {
            core_affinity::set_for_current(client_cpu);
            ask(far, requests, &count, &stop)
        });
        let clock = || -> io::Result<_> {
            Ok((Instant::now(), cpu_time(server.as_pthread_t())?, count.load(Relaxed)))
        };
        thread::sleep(span / 4);
        let before = clock();
        thread::sleep(span);
        let after = clock();
        stop.store(true, Relaxed);
        client.join().unwrap()?;
        io::Result::Ok((before?, after?))
    });
    let served = server.join().unwrap();
    let (before, after) = seen?;
    served?;
    let (wall, cpu) = (after.0 - before.0, after.1 - before.1);
    let exchanges = (after.2 - before.2) as f64;
    Ok(Sample {
        cpu_us: cpu.as_secs_f64() * 1e6 / exchanges,
        per_second: exchanges / wall.as_secs_f64(),
        busy: cpu.as_secs_f64() / wall.as_secs_f64(),
    })
}

/// Both ends of connections over loopback.
fn connections() -> io::Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut ends = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let far = TcpStream::connect(address)?;
        let (near, _) = listener.accept()?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        ends.0.push(near);
        ends.1.push(far);
    }
    Ok(ends)
}

/// The client: the next request on each connection as soon as its answer is there.
fn ask(
    sockets: Vec<TcpStream>,
    requests: &Requests,
    count: &AtomicU64,
    stop: &AtomicBool,
) -> io::Result<()> {
    let bytes: Vec<_> = requests
        .lengths()
        .map(|length| {
            let mut bytes = vec![b'q'; length];
            bytes[..PREFIX].copy_from_slice(&(length as u32).to_be_bytes());
            bytes
        })
        .collect();
    let mut next = bytes.iter().map(Vec::as_slice).cycle();
    let mut received = [0; CONNECTIONS];
    let mut ring = Ring::new(sockets, Flavour { defer: true, fixed: true })?;
    let first: Vec<_> = next.by_ref().take(CONNECTIONS).collect();
    let mut exchanges = 0;
    ring.run(
        CLIENT_BATCH,
        &first,
        |connection, bytes| {
            received[connection] += bytes.len();
            if received[connection] < requests.answer_record || stop.load(Relaxed) {
                return None;
            }
            received[connection] = 0;
            exchanges += 1;
            count.store(exchanges, Relaxed);
            next.next()
        },
        || stop.load(Relaxed),
    )
}

/// The server on a ring of its own.
fn serve(sockets: Vec<TcpStream>, answer: &'static [u8], flavour: Flavour) -> io::Result<()> {
    let mut framings = vec![Framing::default(); sockets.len()];
    Ring::new(sockets, flavour)?.run(
        1,
        &[],
        |connection, bytes| framings[connection].is_end(bytes).then_some(answer),
        || false,
    )
}

/// CPU time of a running thread so far.
fn cpu_time(thread: libc::pthread_t) -> io::Result<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the thread is one that has not been joined yet; the kernel fills integers.
    let failed = unsafe {
        libc::pthread_getcpuclockid(thread, &mut clock) != 0
            || libc::clock_gettime(clock, &mut time) != 0
    };
    if failed {
        return Err(io::Error::other("the server has ended"));
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
