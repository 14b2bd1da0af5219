//! TLS as Telegram's sender begins it, to see what a server offers: no ALPN, a name or none.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

/// How long a server may take to say that it wants a client certificate.
const REFUSAL: Duration = Duration::from_secs(2);

/// How the error begins of a server that demands a client certificate.
pub(crate) const DEMANDS: &str = "it demands a client certificate, and Telegram has none";

/// What a server showed.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As it came, leaf first in a correct chain.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The cipher suite.
    pub(crate) suite: String,
    /// True where it asked for a client certificate, and did without.
    pub(crate) asks_for_certificate: bool,
}

/// Has no client certificate, and keeps in mind whether one was asked for.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl Asked {
    fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    // Without one it would not be asked.
    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes every certificate and keeps it: it is judged afterwards, and no data is sent.
#[derive(Debug)]
struct Keep {
    chain: Mutex<Vec<CertificateDer<'static>>>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Keep {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = [leaf].into_iter().chain(others).map(|der| der.clone().into_owned());
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    // It would refuse keys of odd kinds before they can be spoken of.
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
        self.schemes.clone()
    }
}

/// One handshake with the server at `addr` that offers `version` only, and `name` as SNI where
/// there is one; all of it within `timeout`.
pub(crate) fn handshake(
    addr: SocketAddr,
    version: &'static SupportedProtocolVersion,
    name: Option<&str>,
    timeout: Duration,
) -> Result<Seen, String> {
    let deadline = Instant::now() + timeout;
    let asked = Arc::new(Asked::default());
    let (config, keep) =
        config(ringhook::internals::tls::provider(), version, Arc::<Asked>::clone(&asked))
            .map_err(|error| error.to_string())?;
    let server_name = match name.and_then(|name| ServerName::try_from(name.to_owned()).ok()) {
        Some(name) => name,
        // Of an address nothing is sent.
        None => ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
    };
    let mut tls = ClientConnection::new(config, server_name).map_err(|error| error.to_string())?;
    let mut tcp = TcpStream::connect_timeout(&addr, timeout).map_err(|error| spoken(&error))?;
    while tls.is_handshaking() {
        step(&mut tls, &mut tcp, deadline).map_err(|error| match asked.is_so() {
            true => demands(&error),
            false => spoken(&error),
        })?;
    }
    if asked.is_so() {
        await_refusal(&mut tls, &mut tcp).map_err(|error| demands(&error))?;
    }
    let suite = tls.negotiated_cipher_suite();
    let suite = suite.map_or_else(String::new, |suite| format!("{:?}", suite.suite()));
    tls.send_close_notify();
    // That it came is all that was asked.
    let _ = tls.write_tls(&mut tcp);
    let _ = tcp.shutdown(Shutdown::Both);
    let chain = std::mem::take(&mut *keep.chain.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Seen { chain, suite, asks_for_certificate: asked.is_so() })
}

fn config(
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
    asked: Arc<Asked>,
) -> Result<(Arc<ClientConfig>, Arc<Keep>), rustls::Error> {
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let keep = Arc::new(Keep { chain: Mutex::default(), schemes });
    let verifier: Arc<dyn ServerCertVerifier> = Arc::<Keep>::clone(&keep);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(asked);
    config.resumption = rustls::client::Resumption::disabled();
    Ok((Arc::new(config), keep))
}

/// Goes on with the handshake, one write or read.
fn step(tls: &mut ClientConnection, tcp: &mut TcpStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    tcp.set_read_timeout(Some(left))?;
    tcp.set_write_timeout(Some(left))?;
    if tls.wants_write() {
        tls.write_tls(tcp)?;
    } else {
        if tls.read_tls(tcp)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tls.process_new_packets().map_err(io::Error::other)?;
    }
    Ok(())
}

/// Waits for what a server says that was given no certificate: with TLS 1.3 that comes when the
/// handshake is over for the client. One that says nothing has nothing against it.
fn await_refusal(tls: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + REFUSAL;
    while tls.wants_write() {
        step(tls, tcp, deadline)?;
    }
    match step(tls, tcp, deadline) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}

fn demands(error: &io::Error) -> String {
    format!("{DEMANDS} ({})", spoken(error))
}

fn spoken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".into(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset by the server".into(),
        _ => error.to_string(),
    }
}
