//! All other methods, and files, on their way to the Bot API and back. Nothing is kept whole.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Request, StatusCode, Uri,
    header::{
        CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use rustls::ClientConfig;
use tokio::time::{Instant, Sleep, sleep_until};

use super::answer::{self, Answer, AnswerBody};
use crate::client::{
    Target,
    dial::Lost,
    link::{self, BoxError, Link, RequestBody, Sender, Unanswered, send},
};

/// Headers that are about one connection.
const OF_A_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    EXPECT,
    HOST,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(60);

/// Passes requests on.
pub(super) struct Pass {
    connect_timeout: Duration,
    links: Mutex<HashMap<Target, Arc<Link>>>,
    /// For how long nothing may move.
    timeout: Duration,
    tls: Arc<ClientConfig>,
}

/// When a byte has last moved.
type Moved = Arc<Mutex<Instant>>;

/// The body of a request, which tells when it moves.
struct Upload {
    body: Incoming,
    moved: Moved,
}

/// The body of an answer. Its connection is kept where it was read to the end.
pub(super) struct PassedBody {
    body: Incoming,
    link: Arc<Link>,
    sender: Option<Sender>,
    timeout: Duration,
    /// When it has to have moved.
    deadline: Pin<Box<Sleep>>,
}

/// Why there is no answer of the Bot API.
pub(super) enum Failed {
    Unreachable(&'static str),
    Timeout,
    Broken,
}

impl Failed {
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Unreachable(why) => {
                let text = format!("Bad Gateway: ringhook can not reach the Bot API ({why})");
                answer::error(StatusCode::BAD_GATEWAY, &text)
            }
            Self::Timeout => answer::error(
                StatusCode::GATEWAY_TIMEOUT,
                "Gateway Timeout: the Bot API does not answer ringhook in time",
            ),
            Self::Broken => answer::error(
                StatusCode::BAD_GATEWAY,
                "Bad Gateway: the Bot API has ended its connection to ringhook before the answer",
            ),
        }
    }
}

impl Pass {
    pub(super) fn new(
        tls: Arc<ClientConfig>,
        connect_timeout: Duration,
        timeout: Duration,
    ) -> Self {
        Self { connect_timeout, links: Mutex::default(), timeout, tls }
    }

    fn link(&self, root: &Target) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.entry(root.clone()).or_insert_with(|| {
            Arc::new(Link::new(root.clone(), Arc::clone(&self.tls), self.connect_timeout))
        });
        Arc::clone(link)
    }

    /// Closes connections that have been idle for long, and forgets servers without any.
    pub(super) fn sweep(&self, now: std::time::Instant) {
        let Some(since) = now.checked_sub(IDLE) else { return };
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.values().for_each(|link| link.sweep(since));
        links.retain(|_, link| Arc::strong_count(link) > 1 || link.has_idle());
    }

    /// Sends `request` to `uri` of `root`, body and headers as they are but for those of the
    /// connection.
    pub(super) async fn pass(
        &self,
        root: &Target,
        uri: Uri,
        request: Request<Incoming>,
    ) -> Result<Answer, Failed> {
        let link = self.link(root);
        let moved = Arc::new(Mutex::new(Instant::now()));
        let (mut parts, body) = request.into_parts();
        strip(&mut parts.headers);
        parts.headers.insert(HOST, root.authority().clone());
        parts.uri = uri;
        parts.version = http::Version::HTTP_11;
        parts.extensions.clear();
        let body = match body.is_end_stream() {
            true => RequestBody::whole(Bytes::new()),
            false => {
                let upload = Upload { body, moved: Arc::clone(&moved) };
                RequestBody::Streamed(upload.map_err(Into::into).boxed_unsync())
            }
        };
        let request = Request::from_parts(parts, body);
        let answered = self.answered(&link, request);
        let link::Answer { response, sender } = tokio::select! {
            answered = answered => answered?,
            () = stalled(&moved, self.timeout) => return Err(Failed::Timeout),
        };
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers);
        let deadline = Box::pin(sleep_until(Instant::now() + self.timeout));
        let sender = Some(sender);
        let mut passed = PassedBody { body, link, sender, timeout: self.timeout, deadline };
        if passed.body.is_end_stream() {
            passed.keep();
        }
        Ok(Answer::from_parts(parts, AnswerBody::Passed(Box::new(passed))))
    }

    /// The answer to `request`, on a kept connection where there is one that is still open.
    async fn answered(
        &self,
        link: &Link,
        mut request: Request<RequestBody>,
    ) -> Result<link::Answer, Failed> {
        while let Some(sender) = link.take() {
            match send(sender, request).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered { unsent: Some(unsent) }) => request = unsent,
                // The method may have been executed, so it is the client that decides.
                Err(Unanswered { unsent: None }) => return Err(Failed::Broken),
            }
        }
        let sender = link.connect().await.map_err(|lost| match lost {
            Lost::Refused => Failed::Unreachable("nothing listens there"),
            _ => Failed::Unreachable("no connection came about"),
        })?;
        send(sender, request).await.map_err(|_| Failed::Broken)
    }
}

/// Removes the headers that are about one connection.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in OF_A_CONNECTION.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// Ends once nothing has moved for `timeout`.
async fn stalled(moved: &Moved, timeout: Duration) {
    loop {
        let deadline = *moved.lock().unwrap_or_else(PoisonError::into_inner) + timeout;
        if Instant::now() >= deadline {
            return;
        }
        sleep_until(deadline).await;
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl PassedBody {
    /// Keeps the connection for another request.
    fn keep(&mut self) {
        if let Some(sender) = self.sender.take() {
            let link = Arc::clone(&self.link);
            tokio::spawn(async move { link.put(sender).await });
        }
    }
}

impl Body for PassedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                let deadline = Instant::now() + self.timeout;
                self.deadline.as_mut().reset(deadline);
                if frame.is_none() || self.body.is_end_stream() {
                    self.keep();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => match self.deadline.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err("the Bot API stalls".into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
