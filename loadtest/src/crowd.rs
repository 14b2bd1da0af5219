//! Connections that are there beside those of a run: silent ones, and slow ones as an attacker has.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    Error, Options, PayloadGenerator,
    request::RequestHead,
    response::{Parsed, parse},
    tls::{Session, TlsConnector},
};

/// Threads that connect.
const THREADS: usize = 2;
/// How often a slow connection says a byte.
const DRIP: Duration = Duration::from_secs(1);
/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that are held open until they are asked for.
#[derive(Debug)]
pub struct Crowd {
    silent: Vec<Member>,
    slow: Option<(Arc<AtomicBool>, JoinHandle<u64>)>,
    took: Duration,
}

/// What became of a crowd.
#[derive(Clone, Copy, Debug)]
pub struct Dispersed {
    /// Silent connections that were made.
    pub silent: usize,
    /// Of these, those that the server had not closed at the end.
    pub still_open: usize,
    /// Slow connections that the server closed; each was made anew.
    pub ended: u64,
    /// How long it took to make them all.
    pub took: Duration,
}

struct Member {
    session: Session,
    socket: TcpStream,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

/// Where members come from.
struct Source {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    /// How a slow head and a slow body begin.
    beginnings: [Vec<u8>; 2],
    /// What silent ones ask first, if they do.
    question: Option<Question>,
}

/// Makes a request.
struct Question {
    head: RequestHead,
    payload: PayloadGenerator,
    /// The id of the first one's update.
    first_update_id: u64,
}

impl Crowd {
    /// Makes `silent` connections that shake hands and say nothing more, and `slow` ones that send
    /// a request at a byte a second: one half its head, the other its body. A slow one that the
    /// server closes is made anew. Of `options`, what is about target, TLS, secret token and
    /// updates counts; with [`Options::idle_asked`] the first updates are those of the silent ones.
    ///
    /// # Errors
    /// If a connection cannot be made, or the options make no sense.
    pub fn gather(options: &Options, silent: usize, slow: usize) -> Result<Self, Error> {
        let token = options.secret_token.as_deref().unwrap_or("-");
        let (path, host) = (options.target.path(), options.target.authority());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n\
             X-Telegram-Bot-Api-Secret-Token: {token}\r\nContent-Length: 500000\r\n"
        );
        let source = Arc::new(Source {
            address: options.target.resolve()?,
            tls: TlsConnector::new(options)?,
            beginnings: [
                format!("{head}X-Slow: ").into_bytes(),
                format!("{head}\r\n").into_bytes(),
            ],
            question: options.idle_asked.then(|| Question {
                head: RequestHead::new(&options.target, options.secret_token.as_deref()),
                payload: PayloadGenerator::new(&options.payload),
                first_update_id: options.first_update_id,
            }),
        });
        let start = Instant::now();
        let asking = |index| source.member().and_then(|member| source.ask(member, index));
        let silent = members(silent, &asking).map_err(Error::Runtime)?;
        let slow = match members(slow, &|_| source.member()).map_err(Error::Runtime)? {
            members if members.is_empty() => None,
            members => {
                let is_over = Arc::new(AtomicBool::new(false));
                let over = Arc::clone(&is_over);
                Some((is_over, thread::spawn(move || drip(&source, members, &over))))
            }
        };
        Ok(Self { silent, slow, took: start.elapsed() })
    }

    /// Looks which are still open, and lets go of all.
    ///
    /// # Errors
    /// If the thread of the slow ones panicked.
    pub fn disperse(mut self) -> Result<Dispersed, Error> {
        let still_open = self.silent.iter_mut().filter_map(|member| member.is_open().then_some(()));
        let still_open = still_open.count();
        let ended = match self.slow {
            None => 0,
            Some((is_over, thread)) => {
                is_over.store(true, Ordering::Relaxed);
                thread.join().map_err(|_| Error::Panicked)?
            }
        };
        Ok(Dispersed { silent: self.silent.len(), still_open, ended, took: self.took })
    }
}

/// So many members, each made from its number.
fn members(
    count: usize,
    make: &(dyn Fn(usize) -> io::Result<Member> + Sync),
) -> io::Result<Vec<Member>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || (thread..count).step_by(THREADS).map(make).collect()))
            .collect();
        let mut all = Vec::with_capacity(count);
        for thread in threads {
            let members: io::Result<Vec<_>> =
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
            all.append(&mut members?);
        }
        Ok(all)
    })
}

impl Source {
    /// A connection that has shaken hands.
    fn member(&self) -> io::Result<Member> {
        let mut socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut session = match &self.tls {
            Some(tls) => tls.connect().map_err(io::Error::other)?,
            None => Session::plain(),
        };
        let (mut wire, mut plain, mut chunk) = (Vec::new(), Vec::new(), [0; 4096]);
        loop {
            wire.clear();
            session.flush(&mut wire);
            socket.write_all(&wire)?;
            if !session.is_handshaking() {
                break;
            }
            let n = socket.read(&mut chunk)?;
            let bytes = chunk.get(..n).unwrap_or_default();
            let is_over = session.receive(bytes, &mut plain).map_err(io::Error::other)?;
            if n == 0 || is_over {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        socket.set_nonblocking(true)?;
        Ok(Member { session, socket })
    }

    /// Lets a member have a request answered, if that is asked for.
    fn ask(&self, member: Member, index: usize) -> io::Result<Member> {
        let Some(question) = &self.question else { return Ok(member) };
        let Member { mut session, mut socket } = member;
        socket.set_nonblocking(false)?;
        let (mut body, mut request, mut wire) = (Vec::new(), Vec::new(), Vec::new());
        question.payload.write(&mut body, question.first_update_id + index as u64);
        question.head.write(&mut request, body.len());
        request.append(&mut body);
        session.send(&request, &mut wire);
        socket.write_all(&wire)?;
        let (mut plain, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            match parse(&plain, false) {
                Parsed::Complete(answer) if answer.status < 300 && !answer.close => break,
                Parsed::Partial => {}
                _ => return Err(io::Error::other("a request was not answered with 2xx")),
            }
            let n = socket.read(&mut chunk)?;
            let bytes = chunk.get(..n).unwrap_or_default();
            let is_over = session.receive(bytes, &mut plain).map_err(io::Error::other)?;
            if n == 0 || is_over {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        socket.set_nonblocking(true)?;
        Ok(Member { session, socket })
    }
}

impl Member {
    /// Takes what has come: session tickets, or the end.
    fn is_open(&mut self) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) -> bool {
        let mut wire = Vec::new();
        self.session.send(bytes, &mut wire);
        // A record that does not fit now is no loss: the server has more than enough.
        let is_said = match self.socket.write(&wire) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        is_said && self.is_open()
    }
}

/// Lets every member say a byte a second until it is over. How many the server has ended.
fn drip(source: &Source, mut members: Vec<Member>, is_over: &AtomicBool) -> u64 {
    let mut ended = 0;
    let mut is_new = vec![true; members.len()];
    while !is_over.load(Ordering::Relaxed) {
        let began_at = Instant::now();
        for ((index, member), is_new) in members.iter_mut().enumerate().zip(&mut is_new) {
            let [head, body] = &source.beginnings;
            let beginning = if index % 2 == 0 { head } else { body };
            let is_open = member.say(if *is_new { beginning } else { b"x" });
            *is_new = false;
            if !is_open {
                ended += 1;
                // Where it cannot be made now, it may be in a second.
                if let Ok(other) = source.member() {
                    (*member, *is_new) = (other, true);
                }
            }
            if is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        thread::sleep(DRIP.saturating_sub(began_at.elapsed()));
    }
    ended
}
