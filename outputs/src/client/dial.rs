//! New connections to a server, and why there is none.

use std::{io, path::Path, sync::Arc, time::Duration};

use ringhook::internals::redact::hide_tokens;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::target::{Place, Target};

/// Pause before a Unix socket is tried again whose queue of connections is full.
const BACKLOG_WAIT: Duration = Duration::from_millis(5);

/// What is read from and written to: TCP, TLS or a Unix socket.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Why a request has no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    /// Nothing listens there, so nothing was sent.
    Refused,
    /// No connection came about for this reason, so nothing was sent.
    Unconnected(String),
    /// The connection ended.
    Reset,
    /// The connection ended, and now nothing listens there: the target's process has ended.
    Ended,
    /// There was no time left.
    Timeout,
}

/// Where connections lead, and how they are made.
pub(crate) struct Dial {
    target: Target,
    tls: Arc<ClientConfig>,
    timeout: Duration,
}

impl Dial {
    pub(crate) fn new(target: Target, tls: Arc<ClientConfig>, timeout: Duration) -> Self {
        Self { target, tls, timeout }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Io>, Lost> {
        // In a box: what makes a connection is large, and most requests need none.
        match timeout(self.timeout, Box::pin(self.open())).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if is_refusal(&error) => Err(Lost::Refused),
            Ok(Err(error)) => Err(Lost::Unconnected(hide_tokens(&error.to_string()))),
            Err(_) => Err(Lost::Unconnected("no connection in time".to_owned())),
        }
    }

    async fn open(&self) -> io::Result<Box<dyn Io>> {
        match self.target.place() {
            Place::Unix(socket) => Ok(Box::new(connect_unix(socket).await?)),
            Place::Tcp { host, port, is_https } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                if !is_https {
                    return Ok(Box::new(stream));
                }
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let connector = TlsConnector::from(Arc::clone(&self.tls));
                Ok(Box::new(connector.connect(name, stream).await?))
            }
        }
    }
}

/// A socket whose queue of connections is full says so instead of letting the client wait.
async fn connect_unix(socket: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(BACKLOG_WAIT).await,
            outcome => return outcome,
        }
    }
}

/// True where nothing listens: there is a machine, or no socket's file.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}
