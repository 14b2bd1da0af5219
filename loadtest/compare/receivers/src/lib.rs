//! What both receivers have in common: flags, TLS and the loop that accepts.
//!
//! They are written as a careful user of these libraries would write them, with none of ringhook's
//! code: a token compared in constant time, a bound on the body, `TCP_NODELAY`, one thread.

use std::{env, fmt::Display, fs, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use subtle::ConstantTimeEq;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::LocalSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The header with the secret token.
pub const TOKEN_HEADER: &str = "x-telegram-bot-api-secret-token";

/// The longest body, in bytes: twice of what Telegram sends at most.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// How long a connection may be silent, or a head take: longer than Telegram keeps an idle
/// connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// What a receiver is started with: `--listen ADDRESS --cert FILE --key FILE --secret-token-file
/// FILE`.
pub struct Flags {
    pub listen: SocketAddr,
    pub secret_token: String,
    tls: ServerConfig,
}

impl Flags {
    /// Reads the command line and the files that it names.
    ///
    /// # Errors
    /// What is wrong with them, as a text.
    pub fn read() -> Result<Self, String> {
        let words: Vec<String> = env::args().skip(1).collect();
        let flag = |name: &str| {
            words
                .chunks_exact(2)
                .find_map(|pair| (pair[0] == name).then(|| pair[1].clone()))
                .ok_or_else(|| format!("{name} is missing"))
        };
        let listen = flag("--listen")?;
        let listen = listen.parse().map_err(|error| format!("--listen {listen}: {error}"))?;
        let file = flag("--secret-token-file")?;
        let token = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let tls = tls(&flag("--cert")?, &flag("--key")?)?;
        Ok(Self { listen, secret_token: token.trim().to_owned(), tls })
    }
}

/// TLS 1.2 and 1.3.
fn tls(cert: &str, key: &str) -> Result<ServerConfig, String> {
    let wrong = |file: &str, error: &dyn Display| format!("{file}: {error}");
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).map_err(|error| wrong(cert, &error))?.collect();
    let chain = chain.map_err(|error| wrong(cert, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| wrong(cert, &error))
}

/// Whether a request's token is the right one.
#[must_use]
pub fn is_token(secret: &str, header: Option<&[u8]>) -> bool {
    header.is_some_and(|token| secret.as_bytes().ct_eq(token).into())
}

/// HTTP/1.1 with keep-alive and a deadline.
#[must_use]
pub fn http() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
}

/// Accepts until the process ends; each connection is a task of its own on this thread, its
/// handshake included.
///
/// # Errors
/// If the address cannot be listened on.
pub fn run<F>(flags: Flags, serve: impl Fn(TlsStream<TcpStream>) -> F + 'static) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(flags.listen).await?;
        let acceptor = TlsAcceptor::from(Arc::new(flags.tls));
        let serve = Rc::new(serve);
        loop {
            // Too many open files passes; nothing else is to be expected.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (acceptor, serve) = (acceptor.clone(), Rc::clone(&serve));
            tokio::task::spawn_local(async move {
                let _ = stream.set_nodelay(true);
                // A peer that is no TLS client is not worth a word.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream).await;
                }
            });
        }
    })
}
