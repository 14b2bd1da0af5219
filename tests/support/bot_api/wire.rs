//! One connection of the sender to a webhook.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::delivery::{Outcome, Taken};

/// A connection that is up.
pub(super) struct Wire {
    stream: Stream,
    unread: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects to `addr` as to a server called `name`, over TLS where there are settings for it.
    pub(super) fn connect(
        addr: SocketAddr,
        name: &str,
        tls: Option<Arc<ClientConfig>>,
        timeout: Duration,
        keep: impl FnOnce(&TcpStream),
    ) -> io::Result<Self> {
        let deadline = Instant::now() + timeout;
        let socket = TcpStream::connect_timeout(&addr, timeout)?;
        keep(&socket);
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(timeout))?;
        let Some(config) = tls else {
            return Ok(Self { stream: Stream::Plain(socket), unread: Vec::new() });
        };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.sock.set_read_timeout(Some(left(deadline)?))?;
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(stream)), unread: Vec::new() })
    }

    /// False where the server has closed meanwhile, or sent what was not asked for.
    pub(super) fn is_alive(&mut self) -> bool {
        self.socket().set_nonblocking(true).unwrap();
        let mut chunk = [0; 1024];
        let is_alive = match self.stream.read(&mut chunk) {
            Ok(0) => match &self.stream {
                // close_notify alone is not noticed.
                Stream::Tls(tls) => !matches!(tls.sock.peek(&mut chunk), Ok(0)),
                Stream::Plain(_) => false,
            },
            Ok(length) => {
                // Taken for the answer to what is sent next.
                self.unread.extend_from_slice(&chunk[..length]);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.socket().set_nonblocking(false).unwrap();
        is_alive
    }

    pub(super) fn post(&mut self, request: &[u8], timeout: Duration) -> Outcome {
        match self.exchange(request, timeout) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn exchange(&mut self, request: &[u8], timeout: Duration) -> io::Result<Outcome> {
        self.stream.write_all(request)?;
        self.stream.flush()?;
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(outcome) = self.answer(false) {
                return Ok(outcome);
            }
            self.socket().set_read_timeout(Some(left(deadline)?))?;
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return self.answer(true).ok_or_else(|| ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.unread.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return self.answer(true).ok_or(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What has come so far, if that is an answer.
    fn answer(&mut self, is_end: bool) -> Option<Outcome> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let start = match head.parse(&self.unread) {
            Ok(httparse::Status::Complete(start)) => start,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => return Some(Outcome::Garbage),
        };
        let field = |name: &str| {
            let mut found = head.headers.iter().filter(|it| it.name.eq_ignore_ascii_case(name));
            found.next().map(|it| String::from_utf8_lossy(it.value).trim().to_owned())
        };
        let (body, end) = match field("content-length").and_then(|it| it.parse::<usize>().ok()) {
            Some(length) => (self.unread.get(start..start + length)?.to_vec(), start + length),
            None if field("transfer-encoding").is_some() => dechunked(&self.unread, start)?,
            None if field("connection").is_some_and(|it| it.eq_ignore_ascii_case("close")) => {
                let end = is_end.then_some(self.unread.len())?;
                (self.unread[start..].to_vec(), end)
            }
            None => (Vec::new(), start),
        };
        let is_last = field("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"))
            || head.version == Some(0);
        let answer = Taken {
            status: head.code?,
            reason: head.reason.unwrap_or_default().to_owned(),
            retry_after: field("retry-after").and_then(|it| it.parse().ok()),
            body,
            is_last,
        };
        self.unread.drain(..end);
        Some(Outcome::Answered(answer))
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &tls.sock,
        }
    }
}

/// The body in chunks that begins at `at`, and its end.
fn dechunked(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let end = at + memchr::memmem::find(bytes.get(at..)?, b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at = end + 2;
        body.extend_from_slice(bytes.get(at..at + size)?);
        bytes.get(at + size..at + size + 2)?;
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
