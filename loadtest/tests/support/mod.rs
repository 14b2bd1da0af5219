//! A small webhook server on threads that does as it is told.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

pub mod browser;

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use loadtest::{Options, Target, Trust};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A correct answer.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
pub const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

/// What the server does with a request.
pub enum Reply {
    /// Writes this.
    Write(&'static str),
    /// Writes this after a while, during which the connection is served nothing else.
    WriteAfter(Duration, &'static str),
    /// Writes this and closes the connection.
    WriteAndClose(&'static str),
    /// Closes the connection.
    Close,
    /// Reads on without a word until the client closes.
    Silence,
}

/// Decides what becomes of the request with this number, counted from 0 over all connections.
type Script = Box<dyn Fn(u64, &Seen) -> Reply + Send + Sync>;

/// The server, which goes away with this.
pub struct Server {
    pub port: u16,
    shared: Arc<Shared>,
    certificate: Option<String>,
}

struct Shared {
    script: Script,
    tls: Option<Arc<ServerConfig>>,
    stopping: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
    seen: Mutex<Vec<Seen>>,
    /// How many requests came with each update.
    counts: Mutex<HashMap<u64, u64>>,
}

/// A request as it arrived.
#[derive(Clone)]
pub struct Seen {
    /// The number of its connection, from 0.
    pub connection: u64,
    pub head: String,
    pub body: Vec<u8>,
    /// How many requests with the same update came before.
    pub earlier: u64,
    pub arrived: Instant,
    /// The status it was answered with, and a moment before that.
    pub answered: Option<(u16, Instant)>,
}

impl Seen {
    pub fn update_id(&self) -> u64 {
        let text = std::str::from_utf8(&self.body).unwrap();
        let (number, _) = text["{\"update_id\":".len()..].split_once(',').unwrap();
        number.parse().unwrap()
    }
}

impl Server {
    /// Serves plain HTTP.
    pub fn plain(script: impl Fn(u64) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Box::new(move |number, _| script(number)), None, None)
    }

    /// Serves plain HTTP, by what is asked.
    pub fn from_requests(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Box::new(move |_, seen| script(seen)), None, None)
    }

    /// As [`Server::from_requests`], on a listener of the caller's.
    pub fn from_requests_on(
        listener: TcpListener,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(listener, Box::new(move |_, seen| script(seen)), None, None)
    }

    /// Serves HTTPS with a certificate of its own for `localhost`.
    pub fn tls(script: impl Fn(u64) -> Reply + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let script = Box::new(move |number, _: &Seen| script(number));
        Self::start(script, Some(Arc::new(config)), Some(made.cert.pem()))
    }

    fn start(script: Script, tls: Option<Arc<ServerConfig>>, certificate: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::start_on(listener, script, tls, certificate)
    }

    fn start_on(
        listener: TcpListener,
        script: Script,
        tls: Option<Arc<ServerConfig>>,
        certificate: Option<String>,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            script,
            tls,
            stopping: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            seen: Mutex::new(Vec::new()),
            counts: Mutex::new(HashMap::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Self { port, shared, certificate }
    }

    /// Options for a run against this server, by address, with a timeout that no test needs.
    pub fn options(&self) -> Options {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        let target: Target = format!("{scheme}://127.0.0.1:{}/hook", self.port).parse().unwrap();
        let mut options = Options::new(target);
        options.timeout = Duration::from_secs(20);
        options.keep_ids = true;
        if let Some(certificate) = &self.certificate {
            options.trust = Trust::pem(certificate.as_bytes()).unwrap();
        }
        options
    }

    pub fn certificate(&self) -> &str {
        self.certificate.as_deref().unwrap()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The requests that were read, in some order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Their update ids in ascending order.
    pub fn update_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.seen().iter().map(Seen::update_id).collect();
        ids.sort_unstable();
        ids
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

trait Stream: Read + Write {
    fn hang_up(&mut self);
}

impl Stream for TcpStream {
    fn hang_up(&mut self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn hang_up(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
        let _ = self.sock.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let (Ok(stream), this) = (stream, Arc::clone(&self)) else { continue };
            let number = self.connections.fetch_add(1, Ordering::SeqCst);
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || match &this.tls {
                Some(config) => {
                    let tls = ServerConnection::new(Arc::clone(config)).unwrap();
                    this.serve(StreamOwned::new(tls, stream), number)
                }
                None => this.serve(stream, number),
            });
        }
    }

    /// Serves one connection until either side closes it.
    fn serve(&self, mut stream: impl Stream, connection: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        while let Some((head, body)) = read_request(&mut stream, &mut bytes)? {
            let arrived = Instant::now();
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let mut request = Seen { connection, head, body, earlier: 0, arrived, answered: None };
            let index = {
                let mut counts = self.counts.lock().unwrap();
                let count = counts.entry(request.update_id()).or_insert(0);
                request.earlier = *count;
                *count += 1;
                let mut seen = self.seen.lock().unwrap();
                seen.push(request.clone());
                seen.len() - 1
            };
            let (text, close) = match (self.script)(number, &request) {
                Reply::Write(text) => (text, false),
                Reply::WriteAfter(delay, text) => {
                    thread::sleep(delay);
                    (text, false)
                }
                Reply::WriteAndClose(text) => (text, true),
                Reply::Close => ("", true),
                Reply::Silence => continue,
            };
            if let Some(status) = text.get(9..12).and_then(|status| status.parse().ok()) {
                self.seen.lock().unwrap()[index].answered = Some((status, Instant::now()));
            }
            stream.write_all(text.as_bytes())?;
            stream.flush()?;
            if close {
                stream.hang_up();
                return Ok(());
            }
        }
        Ok(())
    }
}

type HeadAndBody = (String, Vec<u8>);

fn read_request(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<Option<HeadAndBody>> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end + 4]).into_owned();
            let length = head.split("Content-Length: ").nth(1).unwrap();
            let total = end + 4 + length.split("\r\n").next().unwrap().parse::<usize>().unwrap();
            if bytes.len() >= total {
                let body = bytes[end + 4..total].to_vec();
                bytes.drain(..total);
                return Ok(Some((head, body)));
            }
        }
        let mut chunk = [0; 16 * 1024];
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}
