//! A server of the Bot API: connections by hyper, since calls and answers are streamed.

use std::{
    io,
    pin::Pin,
    sync::Arc,
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
use rustls::ClientConfig;
use tokio::time::timeout;

use super::{
    dial::{Dial, Io, Lost},
    pool::{Kept, Pool},
    target::Target,
};

/// How long a connection may take to be ready for the next request once it was answered.
const READY_WAIT: Duration = Duration::from_secs(1);

/// What a request's body consists of.
pub(crate) enum RequestBody {
    Whole(Full<Bytes>),
    Streamed(UnsyncBoxBody<Bytes, BoxError>),
}
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// One connection.
pub(crate) type Sender = SendRequest<RequestBody>;

/// An answer's head, with the rest of it to be read from the connection.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) sender: Sender,
}

/// One server, and its connections that are idle.
pub(crate) struct Link {
    dial: Dial,
    idle: Pool<Sender>,
}

impl Kept for Sender {
    fn is_usable(&mut self) -> bool {
        self.is_ready()
    }
}

impl RequestBody {
    pub(crate) fn whole(body: Bytes) -> Self {
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
    pub(crate) fn new(target: Target, tls: Arc<ClientConfig>, connect_timeout: Duration) -> Self {
        Self { dial: Dial::new(target, tls, connect_timeout), idle: Pool::default() }
    }

    pub(crate) fn target(&self) -> &Target {
        self.dial.target()
    }

    pub(crate) fn take(&self) -> Option<Sender> {
        self.idle.take()
    }

    /// Keeps a connection whose answer has been read, unless the server closes it.
    pub(crate) async fn put(&self, mut sender: Sender) {
        // It is ready at once, but where the answer came before the request was read.
        if sender.is_ready() || matches!(timeout(READY_WAIT, sender.ready()).await, Ok(Ok(()))) {
            self.idle.put(sender);
        }
    }

    pub(crate) fn sweep(&self, since: Instant) {
        self.idle.sweep(since);
    }

    pub(crate) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Sender, Lost> {
        let stream = self.dial.connect().await?;
        speak(stream).await.map_err(|error| Lost::Unconnected(error.to_string()))
    }
}

/// Speaks HTTP/1.1 over `stream`. Header names are written as Telegram writes them.
async fn speak(stream: Box<dyn Io>) -> io::Result<Sender> {
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
pub(crate) struct Unanswered {
    /// The request, where nothing of it was sent.
    pub(crate) unsent: Option<Request<RequestBody>>,
}

/// Sends `request` and waits for the head of its answer.
pub(crate) async fn send(
    mut sender: Sender,
    request: Request<RequestBody>,
) -> Result<Answer, Unanswered> {
    match sender.try_send_request(request).await {
        Ok(response) => Ok(Answer { response, sender }),
        Err(mut error) => Err(Unanswered { unsent: error.take_message() }),
    }
}
