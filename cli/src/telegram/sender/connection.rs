//! One connection, and the requests on it, one at a time.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection,
    client::Resumption,
    pki_types::{IpAddr, Ipv4Addr, ServerName},
    version::{TLS12, TLS13},
};

use super::{Answer, Failure, Phase, Place, Target, Tls, answer, trust::Verifier};
use ringhook::{SecretToken, internals::tls};

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Which versions of TLS the sender offers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum TlsVersions {
    /// 1.2 and 1.3, as the real one.
    #[default]
    Both,
    /// 1.2 alone.
    Only12,
    /// 1.3 alone.
    Only13,
}

/// A connection to a receiver, with at most one request in flight.
#[derive(Debug)]
pub(crate) struct Connection {
    /// What a request's head begins with, up to the secret token.
    head: String,
    /// False once an answer or a failure has ended it.
    is_usable: bool,
    /// When the last answer came, or the connection was opened.
    last_used: Instant,
    socket: Socket,
    timeout: Duration,
    tls: Option<Box<ClientConnection>>,
    unread: Vec<u8>,
}

impl Connection {
    /// Connects and shakes hands; `timeout` is for both together, and again for each answer.
    ///
    /// The handshake's last message leaves with the first request, as the real sender's does, so
    /// with TLS 1.3 a server sees it completed only then.
    pub(crate) fn open(
        target: &Target,
        versions: TlsVersions,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let deadline = Deadline::after(timeout);
        let session = target.tls.as_ref().map(|tls| session(tls, versions)).transpose()?;
        let mut socket = Socket::connect(&target.place, deadline)?;
        socket.send(&target.preamble, Phase::Connect, deadline)?;
        let mut connection = Self {
            head: head(target),
            is_usable: true,
            last_used: Instant::now(),
            socket,
            timeout,
            tls: session.map(Box::new),
            unread: Vec::new(),
        };
        connection.shake_hands(deadline)?;
        connection.last_used = Instant::now();
        Ok(connection)
    }

    /// Sends an update and waits for the answer. After a failure the connection is of no more use.
    pub(crate) fn post(
        &mut self,
        body: &[u8],
        secret_token: Option<&SecretToken>,
    ) -> Result<Answer, Failure> {
        let start = Instant::now();
        let deadline = Deadline::after(self.timeout);
        self.is_usable = false;
        let wire = self.seal(&request(&self.head, body, secret_token))?;
        let sent = self.socket.send(&wire, Phase::Answer, deadline);
        let mut answer = match (sent, self.answer(deadline)) {
            // A server may refuse a request before it has all of it.
            (_, Ok(answer)) => answer,
            (Err(failure), Err(_)) | (Ok(()), Err(failure)) => return Err(failure),
        };
        answer.took = start.elapsed();
        // What follows an answer unasked is no answer to the next request.
        self.is_usable = !answer.is_last && self.unread.is_empty();
        self.last_used = Instant::now();
        Ok(answer)
    }

    /// False where the next request needs another connection.
    pub(crate) fn is_usable(&self) -> bool {
        // The sender closes it after that time.
        self.is_usable && self.last_used.elapsed() < self.timeout
    }

    /// `TLS 1.2` or `TLS 1.3`; `None` without TLS.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        match self.tls.as_ref()?.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
            _ => Some("TLS 1.3"),
        }
    }

    fn shake_hands(&mut self, deadline: Deadline) -> Result<(), Failure> {
        while self.is_handshaking() {
            let wire = self.seal(&[])?;
            self.socket.send(&wire, Phase::Handshake, deadline)?;
            let is_open = self.receive(Phase::Handshake, deadline)?;
            if !is_open && self.is_handshaking() {
                return Err(Failure::Closed(Phase::Handshake));
            }
        }
        Ok(())
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// The bytes for the wire that carry `plain`, after what is to be sent before it.
    fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, Failure> {
        let Some(tls) = &mut self.tls else { return Ok(plain.to_vec()) };
        let mut wire = Vec::new();
        let mut write = || {
            tls.writer().write_all(plain)?;
            while tls.wants_write() {
                tls.write_tls(&mut wire)?;
            }
            io::Result::Ok(())
        };
        write().map_err(|error| Failure::Tls(error.to_string()))?;
        Ok(wire)
    }

    fn answer(&mut self, deadline: Deadline) -> Result<Answer, Failure> {
        let mut is_end = false;
        loop {
            if let Some((answer, length)) = answer::parse(&self.unread, is_end)? {
                self.unread.drain(..length);
                return Ok(answer);
            }
            if is_end {
                return Err(match self.unread.is_empty() {
                    true => Failure::Closed(Phase::Answer),
                    false => Failure::Odd("the connection ended within it".to_owned()),
                });
            }
            is_end = !self.receive(Phase::Answer, deadline)?;
        }
    }

    /// Reads once; false where the server sends no more.
    fn receive(&mut self, phase: Phase, deadline: Deadline) -> Result<bool, Failure> {
        let mut chunk = vec![0; READ_BYTES];
        let count = self.socket.receive(&mut chunk, phase, deadline)?;
        let mut wire = chunk.get(..count).unwrap_or_default();
        let Some(tls) = &mut self.tls else {
            self.unread.extend_from_slice(wire);
            return Ok(count > 0);
        };
        let mut has_closed = count == 0;
        while !wire.is_empty() && !has_closed {
            tls.read_tls(&mut wire).map_err(|error| Failure::Tls(error.to_string()))?;
            let state = match tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The server is told why; whether it hears that does not matter any more.
                    let alert = self.seal(&[]).unwrap_or_default();
                    let _ = self.socket.send(&alert, phase, deadline);
                    return Err(Failure::tls(error));
                }
            };
            has_closed = state.peer_has_closed();
            let start = self.unread.len();
            self.unread.resize(start + state.plaintext_bytes_to_read(), 0);
            let end = self.unread.get_mut(start..).unwrap_or_default();
            let read = tls.reader().read_exact(end);
            read.map_err(|error| Failure::Tls(error.to_string()))?;
        }
        Ok(!has_closed)
    }
}

/// What each request begins with.
fn head(target: &Target) -> String {
    let mut head = format!("POST {} HTTP/1.1\r\nHost: {}\r\n", target.path, target.authority);
    if let Some(auth) = &target.basic_auth {
        head.push_str(&format!("Authorization: {}\r\n", auth.reveal()));
    }
    head
}

/// A request, header for header as Telegram sends it.
fn request(head: &str, body: &[u8], secret_token: Option<&SecretToken>) -> Vec<u8> {
    let mut request = Vec::with_capacity(head.len() + body.len() + 512);
    request.extend_from_slice(head.as_bytes());
    if let Some(token) = secret_token {
        request.extend_from_slice(b"X-Telegram-Bot-Api-Secret-Token: ");
        request.extend_from_slice(token.reveal().as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    let rest = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\
         Accept-Encoding: gzip, deflate\r\n\r\n",
        body.len()
    );
    request.extend_from_slice(rest.as_bytes());
    request.extend_from_slice(body);
    request
}

/// A client's side of TLS: no ALPN, nothing resumed, a server name only where the host is a name.
fn session(terms: &Tls, versions: TlsVersions) -> Result<ClientConnection, Failure> {
    let failed = |error: rustls::Error| Failure::Tls(error.to_string());
    let provider = Arc::new(tls::provider());
    let versions = match versions {
        TlsVersions::Both => vec![&TLS13, &TLS12],
        TlsVersions::Only12 => vec![&TLS12],
        TlsVersions::Only13 => vec![&TLS13],
    };
    let host = terms.host.as_deref();
    let verifier =
        Verifier::new(&terms.trust, host, Arc::clone(&provider)).map_err(Failure::Tls)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.enable_sni = terms.sends_name;
    config.resumption = Resumption::disabled();
    let name = match host.map(|host| host.trim_start_matches('[').trim_end_matches(']')) {
        // An address is never told to the server, so any will do.
        None => ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1]))),
        Some(host) => ServerName::try_from(host.to_owned())
            .map_err(|_| Failure::Tls(format!("{host} is no name that a server can have")))?,
    };
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
    // What is written is sent before anything else is written.
    session.set_buffer_limit(None);
    Ok(session)
}

/// When patience ends.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    /// What is left, which is never nothing: a socket takes that for no limit.
    fn left(self, phase: Phase) -> Result<Duration, Failure> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Failure::TimedOut(phase, self.limit)) } else { Ok(left) }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(place: &Place, deadline: Deadline) -> Result<Self, Failure> {
        let failed = |error| Failure::io(Phase::Connect, error, deadline.limit);
        let addresses = match place {
            Place::Unix(path) => return UnixStream::connect(path).map(Self::Unix).map_err(failed),
            Place::Tcp(addresses) => addresses,
        };
        let mut last = Failure::Io(Phase::Connect, io::ErrorKind::AddrNotAvailable.into());
        for address in addresses {
            match TcpStream::connect_timeout(address, deadline.left(Phase::Connect)?) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }

    fn send(&mut self, bytes: &[u8], phase: Phase, deadline: Deadline) -> Result<(), Failure> {
        let left = Some(deadline.left(phase)?);
        let sent = match self {
            Self::Tcp(stream) => {
                stream.set_write_timeout(left).and_then(|()| stream.write_all(bytes))
            }
            Self::Unix(stream) => {
                stream.set_write_timeout(left).and_then(|()| stream.write_all(bytes))
            }
        };
        sent.map_err(|error| Failure::io(phase, error, deadline.limit))
    }

    fn receive(
        &mut self,
        chunk: &mut [u8],
        phase: Phase,
        deadline: Deadline,
    ) -> Result<usize, Failure> {
        loop {
            let left = Some(deadline.left(phase)?);
            let received = match self {
                Self::Tcp(stream) => {
                    stream.set_read_timeout(left).and_then(|()| stream.read(chunk))
                }
                Self::Unix(stream) => {
                    stream.set_read_timeout(left).and_then(|()| stream.read(chunk))
                }
            };
            match received {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    return other.map_err(|error| Failure::io(phase, error, deadline.limit));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        net::{SocketAddr, TcpListener},
        thread::{self, JoinHandle},
    };

    use rustls::{
        ServerConfig, ServerConnection,
        pki_types::{CertificateDer, PrivateKeyDer},
    };

    use super::{super::Trust, *};

    /// What a server saw.
    #[derive(Debug)]
    struct Seen {
        /// Bytes of the request that came with the first read after the server's own flight.
        early: usize,
        name: Option<String>,
        request: String,
    }

    /// A server of one request, its certificate for `name`, and what it will have seen.
    fn server(name: &str) -> (SocketAddr, CertificateDer<'static>, JoinHandle<Option<Seen>>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (cert, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.clone()], PrivateKeyDer::try_from(key).unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = thread::spawn(move || serve(&listener, config));
        (address, cert, served)
    }

    fn serve(listener: &TcpListener, config: ServerConfig) -> Option<Seen> {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        let mut early = None;
        let (mut chunk, mut request) = (vec![0; READ_BYTES], Vec::new());
        while !request.ends_with(b"{}") {
            while tls.wants_write() {
                tls.write_tls(&mut stream).unwrap();
            }
            let has_sent = !tls.is_handshaking() || tls.server_name().is_some();
            let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
            let mut wire = chunk.get(..count).unwrap();
            while !wire.is_empty() {
                tls.read_tls(&mut wire).unwrap();
                let state = tls.process_new_packets().ok()?;
                let start = request.len();
                request.resize(start + state.plaintext_bytes_to_read(), 0);
                tls.reader().read_exact(request.get_mut(start..).unwrap()).unwrap();
            }
            if has_sent && early.is_none() {
                early = Some(request.len());
            }
        }
        tls.writer().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut stream).unwrap();
        }
        let name = tls.server_name().map(str::to_owned);
        let request = String::from_utf8(request).unwrap();
        Some(Seen { early: early.unwrap_or_default(), name, request })
    }

    fn target(address: SocketAddr, host: Option<&str>, trust: Trust) -> Target {
        Target {
            authority: "bot.example.com".to_owned(),
            basic_auth: None,
            path: "/hook".to_owned(),
            place: Place::Tcp(vec![address]),
            preamble: Vec::new(),
            tls: Some(Tls { host: host.map(str::to_owned), sends_name: true, trust }),
        }
    }

    fn post(target: &Target, versions: TlsVersions) -> Result<&'static str, Failure> {
        let mut connection = Connection::open(target, versions, Duration::from_secs(10))?;
        let token = SecretToken::new("s3cret", "k").unwrap();
        let answer = connection.post(b"{}", Some(&token))?;
        assert_eq!((answer.line().as_str(), connection.is_usable()), ("200 OK", true));
        Ok(connection.tls_version().unwrap())
    }

    #[test]
    fn the_first_request_leaves_with_the_end_of_the_handshake() {
        let (address, cert, served) = server("bot.example.com");
        let trust = Trust::Certificates(vec![cert]);
        let target = target(address, Some("bot.example.com"), trust);
        assert_eq!(post(&target, TlsVersions::Both).unwrap(), "TLS 1.3");
        let seen = served.join().unwrap().unwrap();
        assert_eq!(seen.name.as_deref(), Some("bot.example.com"));
        assert_eq!(seen.early, seen.request.len(), "one segment");
        let expected = "POST /hook HTTP/1.1\r\nHost: bot.example.com\r\n\
                        X-Telegram-Bot-Api-Secret-Token: s3cret\r\n\
                        Content-Type: application/json\r\nContent-Length: 2\r\n\
                        Connection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n{}";
        assert_eq!(seen.request, expected);
    }

    #[test]
    fn versions_and_the_name_can_be_chosen() {
        for (versions, version) in
            [(TlsVersions::Only12, "TLS 1.2"), (TlsVersions::Only13, "TLS 1.3")]
        {
            let (address, cert, served) = server("bot.example.com");
            let trust = Trust::Certificates(vec![cert]);
            let mut target = target(address, Some("bot.example.com"), trust);
            target.tls.as_mut().unwrap().sends_name = false;
            assert_eq!(post(&target, versions).unwrap(), version);
            assert_eq!(served.join().unwrap().unwrap().name, None);
        }
    }

    #[test]
    fn certificates_are_judged() {
        let try_with = |host: Option<&str>, trust: fn(CertificateDer<'static>) -> Trust| {
            let (address, cert, served) = server("bot.example.com");
            let outcome = post(&target(address, host, trust(cert)), TlsVersions::Both);
            served.join().unwrap();
            outcome.map_err(|failure| failure.to_string())
        };
        let own = |cert| Trust::Certificates(vec![cert]);
        assert!(try_with(None, own).is_ok());
        assert!(try_with(Some("bot.example.com"), own).is_ok());
        assert!(try_with(Some("192.0.2.1"), |_| Trust::Anything).is_ok());
        let other = try_with(Some("192.0.2.1"), own).unwrap_err();
        assert!(other.contains("it is for bot.example.com, not for 192.0.2.1"), "{other}");
        let unknown = try_with(Some("bot.example.com"), |_| Trust::Authorities).unwrap_err();
        assert!(unknown.starts_with("no trusted authority"), "{unknown}");
    }

    #[test]
    fn patience_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(listener.local_addr().unwrap(), None, Trust::Anything);
        let limit = Duration::from_millis(50);
        let failure = Connection::open(&target, TlsVersions::Both, limit).unwrap_err();
        assert!(matches!(failure, Failure::TimedOut(Phase::Handshake, _)), "{failure}");
        let plain = Target { tls: None, ..target };
        let mut connection = Connection::open(&plain, TlsVersions::Both, limit).unwrap();
        let failure = connection.post(b"{}", None).unwrap_err();
        assert!(matches!(failure, Failure::TimedOut(Phase::Answer, _)), "{failure}");
        assert!(!connection.is_usable());
    }
}
