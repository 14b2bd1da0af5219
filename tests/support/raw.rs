//! A client over any stream: plain, over a Unix socket, or TLS on either.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::client::{Response, parse};

/// One connection.
pub(crate) struct Raw<S> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

/// A plain connection to `addr`.
pub(crate) fn tcp(addr: SocketAddr) -> Raw<TcpStream> {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
    Raw::new(socket)
}

/// A connection to the socket at `path`.
pub(crate) fn unix(path: &Path) -> UnixStream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
    socket
}

/// A client's side of TLS over `socket`; the handshake is done with the first bytes.
pub(crate) fn tls<S: Read + Write>(
    socket: S,
    config: Arc<ClientConfig>,
) -> Raw<StreamOwned<ClientConnection, S>> {
    Raw::new(StreamOwned::new(session(config), socket))
}

/// A session with a server called `localhost`.
pub(crate) fn session(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap()
}

/// What the session wants to send now.
pub(crate) fn flight(session: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

impl<S: Read + Write> Raw<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends `body` as Telegram does, and reads the answer.
    #[track_caller]
    pub(crate) fn post(&mut self, body: &str) -> Response {
        self.send(&super::request(body));
        self.response()
    }

    /// The same, where there may be no server.
    pub(crate) fn try_post(&mut self, body: &str) -> io::Result<Option<Response>> {
        self.stream.write_all(&super::request(body))?;
        self.stream.flush()?;
        self.try_response()
    }

    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().expect("a readable stream").expect("a response, not the end")
    }

    /// The next response, or `None` where the connection ends before its first byte.
    #[track_caller]
    pub(crate) fn try_response(&mut self) -> io::Result<Option<Response>> {
        loop {
            if let Some((response, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return Ok(Some(response));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    assert!(self.unread.is_empty(), "the connection ends within a response");
                    return Ok(None);
                }
                Ok(n) => self.unread.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asserts that the server closes with a FIN and sends nothing else.
    #[track_caller]
    pub(crate) fn assert_end(&mut self) {
        assert_eq!(self.try_response().expect("FIN, not RST"), None);
    }
}
