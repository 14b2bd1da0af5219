//! A client that sends exactly the bytes it is told to, over TLS or bare, and reads one response
//! at a time.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore,
    SignatureScheme, StreamOwned, SupportedProtocolVersion,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::pki::Pki;

/// A response as read from the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Field names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// One TLS connection.
pub(crate) struct Client {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
    unread: Vec<u8>,
}

/// A client's settings, shared by connections that resume each other's sessions.
pub(crate) fn config(
    pki: &Pki,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    trusting(&pki.cert, versions)
}

/// As [`config`], for a certificate in PEM that another program made.
pub(crate) fn trusting(
    cert: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(32);
    Arc::new(config)
}

#[cfg(feature = "aws-lc-rs")]
pub(crate) fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// Trusts any certificate, whatever name the client asked for.
#[derive(Debug)]
pub(crate) struct TrustAll;

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Settings of a client that takes any certificate and resumes nothing.
pub(crate) fn trusting_all() -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAll))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr, pki: &Pki) -> Self {
        Self::connect_with(addr, config(pki, rustls::ALL_VERSIONS))
    }

    pub(crate) fn connect_with(addr: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self::try_connect(addr, config).expect("a handshake")
    }

    pub(crate) fn try_connect(addr: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        Self::try_connect_as(addr, config, "localhost")
    }

    /// Connects to the server that the client believes to be called `name`.
    pub(crate) fn try_connect_as(
        addr: SocketAddr,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(super::PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, unread: Vec::new() })
    }

    /// A client over a session that the test has brought up itself.
    pub(crate) fn over(session: ClientConnection, socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
        Self { stream: StreamOwned::new(session, socket), unread: Vec::new() }
    }

    pub(crate) fn handshake_kind(&self) -> HandshakeKind {
        self.stream.conn.handshake_kind().unwrap()
    }

    /// Sends `bytes` as one TLS record (if they fit one).
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends `body` as Telegram does, and reads the answer.
    pub(crate) fn post(&mut self, body: &str) -> Response {
        self.send(&super::request(body));
        self.response()
    }

    /// The next response; panics where the connection ends instead.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().expect("a response, not the end of the connection")
    }

    /// The next response, or `None` where the connection ends before its first byte.
    #[track_caller]
    pub(crate) fn try_response(&mut self) -> Option<Response> {
        loop {
            if let Some((response, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return Some(response);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    assert!(self.unread.is_empty(), "the connection ends within a response");
                    return None;
                }
                Ok(n) => self.unread.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
                Err(error) => panic!("no response: {error}"),
            }
        }
    }

    /// Asserts that the server closes without sending another byte.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        assert_eq!(self.try_response(), None);
    }

    /// Asserts that the server closes in full and sends nothing else: close_notify, then FIN,
    /// and no RST, which could take answers that are still under way with it.
    #[track_caller]
    pub(crate) fn assert_clean_end(&mut self) {
        assert!(self.unread.is_empty(), "bytes behind the answer: {:?}", self.unread);
        assert_eq!(self.stream.read(&mut [0; 1]).expect("close_notify"), 0);
        assert_eq!(self.stream.sock.read(&mut [0; 1]).expect("FIN, not RST"), 0);
        self.assert_no_reset();
    }

    /// Asserts that no RST has come. Behind a FIN, reading does not show it.
    #[track_caller]
    pub(crate) fn assert_no_reset(&self) {
        let error = self.stream.sock.take_error().unwrap();
        assert!(error.is_none(), "RST: {error:?}");
    }

    /// Asserts that the next bytes are exactly `expected`, but for the `Date` that a final answer
    /// has behind its status line.
    #[track_caller]
    pub(crate) fn assert_bytes(&mut self, expected: &str) {
        assert!(self.unread.is_empty(), "bytes too many: {:?}", self.unread);
        // Its first byte may have been read already.
        let line = expected.strip_prefix('H').unwrap_or(expected);
        let is_final = line.starts_with("TTP/1.1 ") && !line.starts_with("TTP/1.1 1");
        let mut bytes = vec![0; expected.len() + if is_final { DATE } else { 0 }];
        self.stream.read_exact(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        if !is_final {
            assert_eq!(text, expected);
            return;
        }
        let (line, rest) = text.split_once("Date: ").unwrap_or_else(|| panic!("no date: {text}"));
        let (date, rest) = rest.split_once("\r\n").expect("a line");
        assert_eq!(format!("{line}{rest}"), expected);
        assert!(line.ends_with("\r\n") && line.matches("\r\n").count() == 1, "{text}");
        assert_recent(date);
    }

    /// Asserts that nothing comes for a while and the connection is still open.
    #[track_caller]
    pub(crate) fn assert_silent(&mut self, time: Duration) {
        self.stream.sock.set_read_timeout(Some(time)).unwrap();
        let outcome = self.stream.read(&mut [0; 1]);
        let kind = outcome.expect_err("a byte or the end came").kind();
        assert!(matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{kind:?}");
        self.stream.sock.set_read_timeout(Some(super::PATIENCE)).unwrap();
    }

    /// Sends FIN; reading goes on.
    pub(crate) fn finish(&mut self) {
        self.stream.sock.shutdown(Shutdown::Write).unwrap();
    }
}

/// Bytes of the line with the date.
const DATE: usize = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n".len();

/// Asserts that `date` is that of an answer that has come just now, on a machine that may be slow.
#[track_caller]
pub(crate) fn assert_recent(date: &str) {
    let said = httpdate::parse_http_date(date).expect("a date");
    assert_eq!(httpdate::fmt_http_date(said), date, "the form that is to be sent");
    let now = SystemTime::now();
    assert!(said <= now, "{date} is to come");
    assert!(now.duration_since(said).unwrap() < super::PATIENCE, "{date} is long ago");
}

/// The response at the start of `bytes` and its length, once it is whole.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Response, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(bytes).expect("an HTTP response") else {
        return None;
    };
    let headers: BTreeMap<String, String> = head
        .headers
        .iter()
        .map(|field| (field.name.to_lowercase(), String::from_utf8(field.value.into()).unwrap()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let body = bytes.get(start..start + length)?.to_vec();
    Some((Response { status: head.code.unwrap(), headers, body }, start + length))
}
