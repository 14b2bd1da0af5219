//! An HTTP server whose behaviour a test writes down.

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, UnixListener},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

use super::wait_until;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Up to and with the empty line.
    pub(crate) head: String,
    /// Without the framing of chunks.
    pub(crate) body: Vec<u8>,
    /// Which connection, counted from 0.
    pub(crate) connection: usize,
    pub(crate) at: Instant,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Method and path.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn update_id(&self) -> i64 {
        self.json()["update_id"].as_i64().unwrap()
    }

    pub(crate) fn chat(&self) -> i64 {
        self.json()["message"]["chat"]["id"].as_i64().unwrap()
    }
}

/// What is done with a request.
pub(crate) enum Act {
    /// These bytes, and the next request.
    Answer(Vec<u8>),
    /// These bytes, then the end of the connection.
    Last(Vec<u8>),
}

/// An answer with a status, further headers (each with its line end) and a body.
pub(crate) fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Act::Answer([head.as_bytes(), body].concat())
}

pub(crate) fn ok() -> Act {
    answer(200, "", "")
}

pub(crate) fn json(body: &str) -> Act {
    answer(200, "Content-Type: application/json\r\n", body)
}

/// The end of the connection, without an answer.
pub(crate) fn hang_up() -> Act {
    Act::Last(Vec::new())
}

type Script = Arc<dyn Fn(Seen) -> Pin<Box<dyn Future<Output = Act> + Send>> + Send + Sync>;

pub(crate) struct FakeServer {
    pub(crate) address: Option<SocketAddr>,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    script: Script,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
}

impl FakeServer {
    /// On a free port.
    pub(crate) fn start<F, A>(script: F) -> Self
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Act> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub(crate) fn start_at<F, A>(address: SocketAddr, script: F) -> Self
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Act> + Send + 'static,
    {
        let mut server = Self::new(script);
        let listener = server.block_on(TcpListener::bind(address)).unwrap();
        server.address = Some(listener.local_addr().unwrap());
        let shared = Arc::clone(&server.shared);
        server.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        server
    }

    pub(crate) fn start_tls<F, A>(acceptor: TlsAcceptor, script: F) -> Self
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Act> + Send + 'static,
    {
        let mut server = Self::new(script);
        let listener = server.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        server.address = Some(listener.local_addr().unwrap());
        let shared = Arc::clone(&server.shared);
        server.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, shared).await;
                    }
                });
            }
        });
        server
    }

    pub(crate) fn start_unix<F, A>(path: &Path, script: F) -> Self
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Act> + Send + 'static,
    {
        let server = Self::new(script);
        let listener = {
            let _runtime = server.runtime.as_ref().unwrap().enter();
            UnixListener::bind(path).unwrap()
        };
        let shared = Arc::clone(&server.shared);
        server.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        server
    }

    fn new<F, A>(script: F) -> Self
    where
        F: Fn(Seen) -> A + Send + Sync + 'static,
        A: Future<Output = Act> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shared = Shared {
            script: Arc::new(move |seen| Box::pin(script(seen))),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            at_once_max: AtomicUsize::new(0),
        };
        Self { address: None, shared: Arc::new(shared), runtime: Some(runtime) }
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().unwrap().spawn(future);
    }

    /// The URL of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address.unwrap())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// The ids of the updates that came.
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.seen().iter().map(Seen::update_id).collect()
    }

    #[track_caller]
    pub(crate) fn wait_count(&self, count: usize) {
        wait_until(&format!("{count} requests have come"), || self.count() >= count);
    }

    /// Connections since the start, and those that are open.
    pub(crate) fn connections(&self) -> (usize, usize) {
        (self.shared.connections.load(SeqCst), self.shared.open.load(SeqCst))
    }

    /// The most requests at once.
    pub(crate) fn at_once_max(&self) -> usize {
        self.shared.at_once_max.load(SeqCst)
    }

    /// Ends it with all its connections.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An address on which nothing listens, until a server of this test does: it stays taken for all
/// others, connections that are made included.
pub(crate) fn free_address() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}

/// Counts up as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> (Self, usize) {
        let now = count.fetch_add(1, SeqCst) + 1;
        (Self(count), now)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let connection = shared.connections.fetch_add(1, SeqCst);
    let _open = Counted::new(&shared.open);
    let mut buffer = Vec::new();
    while let Some((head, body)) = read(&mut stream, &mut buffer).await {
        let seen = Seen { head, body, connection, at: Instant::now() };
        shared.seen.lock().unwrap().push(seen.clone());
        let (counted, now) = Counted::new(&shared.at_once);
        shared.at_once_max.fetch_max(now, SeqCst);
        let act = (shared.script)(seen).await;
        drop(counted);
        let (bytes, is_last) = match act {
            Act::Answer(bytes) => (bytes, false),
            Act::Last(bytes) => (bytes, true),
        };
        if stream.write_all(&bytes).await.is_err() || is_last {
            break;
        }
    }
    let _ = stream.shutdown().await;
}

/// The next request; `None` at the end of the connection.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<(String, Vec<u8>)> {
    let end = until(stream, buffer, b"\r\n\r\n").await? + 4;
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let value = |name: &str| {
        let is_it = |line: &&str| line.to_ascii_lowercase().starts_with(name);
        head.lines().find(is_it).map(|line| line[name.len()..].trim().to_owned())
    };
    let mut body = Vec::new();
    if value("transfer-encoding:").is_some() {
        loop {
            let end = until(stream, buffer, b"\r\n").await?;
            let size: Vec<u8> = buffer.drain(..end + 2).collect();
            let size = usize::from_str_radix(str::from_utf8(&size).unwrap().trim(), 16).unwrap();
            fill(stream, buffer, size + 2).await?;
            body.extend(buffer.drain(..size));
            buffer.drain(..2);
            if size == 0 {
                break;
            }
        }
    } else {
        let length = value("content-length:").map_or(0, |length| length.parse().unwrap());
        fill(stream, buffer, length).await?;
        body.extend(buffer.drain(..length));
    }
    Some((head, body))
}

async fn until(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    pattern: &[u8],
) -> Option<usize> {
    loop {
        if let Some(at) = memchr::memmem::find(buffer, pattern) {
            return Some(at);
        }
        fill(stream, buffer, buffer.len() + 1).await?;
    }
}

async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    length: usize,
) -> Option<()> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(())
}
