//! Connections to one server, and those of them that wait for a request.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use ringhook::internals::redact::hide_tokens;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::target::{Place, Target};

/// How long a connection may take to be ready for the next request once it was answered.
const READY_WAIT: Duration = Duration::from_secs(1);

/// Pause before a Unix socket is tried again whose queue of connections is full.
const BACKLOG_WAIT: Duration = Duration::from_millis(5);

/// What a request's body consists of.
pub(super) enum RequestBody {
    Whole(Full<Bytes>),
    Streamed(UnsyncBoxBody<Bytes, BoxError>),
}
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// One connection.
pub(super) type Sender = SendRequest<RequestBody>;

/// Why a request has no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Lost {
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

/// An answer's head, with the rest of it to be read from the connection.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) sender: Sender,
}

/// One server, and its connections that are idle.
pub(super) struct Link {
    target: Target,
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl RequestBody {
    pub(super) fn whole(body: Bytes) -> Self {
        Self::Whole(Full::new(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Streamed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

impl Link {
    pub(super) fn new(target: Target, tls: Arc<ClientConfig>, connect_timeout: Duration) -> Self {
        Self { target, tls, connect_timeout, idle: Mutex::default() }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The connection that has been idle for the shortest time, which is the least likely to have
    /// been closed by the server.
    pub(super) fn take(&self) -> Option<Sender> {
        let mut idle = self.idle();
        while let Some(Idle { sender, .. }) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection whose answer has been read, unless the server closes it.
    pub(super) async fn put(&self, mut sender: Sender) {
        // It is ready at once, but where the answer came before the request was read.
        if sender.is_ready() || matches!(timeout(READY_WAIT, sender.ready()).await, Ok(Ok(()))) {
            self.idle().push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes the connections that have been idle since `since`, and forgets those that the server
    /// has closed.
    pub(super) fn sweep(&self, since: Instant) {
        self.idle().retain(|idle| idle.since > since && !idle.sender.is_closed());
    }

    /// Closes all idle connections.
    pub(super) fn clear(&self) {
        self.idle().clear();
    }

    pub(super) fn has_idle(&self) -> bool {
        !self.idle().is_empty()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Sender, Lost> {
        // In a box: what makes a connection is large, and most requests need none.
        match timeout(self.connect_timeout, Box::pin(self.open())).await {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(error)) if is_refusal(&error) => Err(Lost::Refused),
            Ok(Err(error)) => Err(Lost::Unconnected(hide_tokens(&error.to_string()))),
            Err(_) => Err(Lost::Unconnected("no connection in time".to_owned())),
        }
    }

    async fn open(&self) -> io::Result<Sender> {
        match self.target.place() {
            Place::Unix(socket) => speak(connect_unix(socket).await?).await,
            Place::Tcp { host, port, is_https } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                if !is_https {
                    return speak(stream).await;
                }
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let connector = TlsConnector::from(Arc::clone(&self.tls));
                speak(connector.connect(name, stream).await?).await
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

/// Speaks HTTP/1.1 over `stream`. Header names are written as Telegram writes them.
async fn speak<T>(stream: T) -> io::Result<Sender>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with the server's FIN, with an error, or when the sender is dropped.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// A request that was not answered.
pub(super) struct Unanswered {
    /// The request, where nothing of it was sent.
    pub(super) unsent: Option<Request<RequestBody>>,
}

/// Sends `request` and waits for the head of its answer.
pub(super) async fn send(
    mut sender: Sender,
    request: Request<RequestBody>,
) -> Result<Answer, Unanswered> {
    match sender.try_send_request(request).await {
        Ok(response) => Ok(Answer { response, sender }),
        Err(mut error) => Err(Unanswered { unsent: error.take_message() }),
    }
}
