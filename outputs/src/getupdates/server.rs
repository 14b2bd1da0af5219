//! The connections of clients.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Semaphore, watch},
    time::{Instant, Sleep, sleep},
};

use super::{listener::Accepting, service::Service};

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// For how long a client may take nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest head of a request, and about what is kept of a body on its way.
const BUFFER: usize = 64 * 1024;
/// Pause after a connection could not be accepted, as where there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `stop` says so; those that are idle end then, and others once their
/// request is answered.
pub(super) async fn accept(
    listener: Accepting,
    service: Arc<Service>,
    connections: usize,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(connections));
    let mut next = 0_u64;
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            let stream = match &listener {
                Accepting::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    let _ = stream.set_nodelay(true);
                    Stream::new(stream)
                }),
                Accepting::Unix(listener) => {
                    listener.accept().await.map(|(stream, _)| Stream::new(stream))
                }
            };
            Some((permit, stream))
        };
        let accepted = tokio::select! {
            _ = stop.wait_for(|is_over| *is_over) => return,
            accepted = accepted => accepted,
        };
        let Some((permit, stream)) = accepted else { return };
        let Ok(stream) = stream else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        next += 1;
        let serve = serve(stream, Arc::clone(&service), next, stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            serve.await;
        });
    }
}

/// Answers the requests of one connection.
async fn serve(
    stream: Stream,
    service: Arc<Service>,
    number: u64,
    mut stop: watch::Receiver<bool>,
) {
    service.counters.opened.increment();
    let counters = Arc::clone(&service.counters);
    let answer = service_fn(move |request: Request<Incoming>| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request, number).await) }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let is_over = tokio::select! {
        _ = connection.as_mut() => true,
        _ = stop.wait_for(|is_over| *is_over) => false,
    };
    if !is_over {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
    counters.closed.increment();
}

/// A client's stream, which ends where the client takes nothing for long.
struct Stream {
    inner: Box<dyn ReadWrite>,
    /// Until when it has to take something, where it does not.
    patience: Option<Pin<Box<Sleep>>>,
}

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

impl Stream {
    fn new(inner: impl ReadWrite + 'static) -> Self {
        Self { inner: Box::new(inner), patience: None }
    }

    /// Lets a write wait for so long.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.patience = None;
            return outcome;
        }
        let end = || Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIMEOUT));
        match self.patience.get_or_insert_with(end).as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.bounded(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.bounded(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.bounded(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(context);
        self.bounded(context, outcome)
    }
}
