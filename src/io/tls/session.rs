//! A connection's stream: the handshake of TLS, then its records; or plain bytes, where the
//! listener speaks no TLS.

#[cfg(test)]
mod tests;

use std::{
    io,
    ops::AsyncFn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};

use super::{
    stream::{self, TlsStream},
    tls12::Tls12Stream,
};
use crate::{
    io::runtime::{self, Socket},
    proto::answers::Answer,
    tls::{
        records::{Direction, HEADER, Records, Suite},
        recv_buffer::{BufferPool, Filled, RecvBuffer, Wait},
        secrets::Secrets,
    },
};

/// Reads of a handshake; a ClientHello with post-quantum key share is about 1.8 KiB.
const READ_BYTES: usize = 4096;

/// How far a handshake has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HandshakeStep {
    /// The client has sent nothing yet, or its hello.
    Begin,
    /// It has been answered.
    GoOn,
}

/// An established connection.
// TLS 1.3 is what nearly all of them are: in a box it would be one step further away.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Stream {
    /// TLS 1.2.
    Tls12(Box<Tls12Stream>),
    Plain(Socket),
    Tls(TlsStream),
}

impl Stream {
    /// Waits for bytes, which `received` then has behind those it had; or reports that a part of a
    /// record has come, where `wait` is for something else.
    ///
    /// # Errors
    /// As [`TlsStream::fill`].
    pub(crate) async fn fill(
        &mut self,
        received: &mut RecvBuffer,
        wait: Wait,
        pool: &BufferPool,
    ) -> io::Result<Filled> {
        match self {
            Self::Tls(stream) => stream.fill(received, wait, pool).await,
            Self::Plain(socket) => {
                let outcome = stream::receive(socket, received, 0, wait, pool).await;
                received.take_plain();
                outcome.map(Filled::from_count)
            }
            Self::Tls12(stream) => Box::pin(stream.fill(received, wait, pool)).await,
        }
    }

    /// Writes all of `answer`.
    pub(crate) async fn write_all(&mut self, answer: Answer) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.write_all(answer.bytes()).await,
            Self::Plain(socket) => match answer {
                Answer::Bare(bytes) => runtime::write_all(socket, bytes).await.0,
                Answer::Dated(bytes) => runtime::write_all(socket, bytes).await.0,
            },
            Self::Tls12(stream) => Box::pin(stream.write_all(answer.bytes())).await,
        }
    }
}

/// What a handshake has come to.
pub(crate) struct Established {
    pub(crate) kind: HandshakeKind,
    pub(crate) stream: Stream,
    /// Bytes that came behind the handshake.
    pub(crate) received: RecvBuffer,
}

/// Does the handshake, to which `early` bytes have come already. Where it fails, the alert has been
/// sent as far as the peer takes it, and the socket is returned to be closed.
///
/// Each step that computes is done while what `slice` gives is held, so that the caller decides
/// when; where `slice` fails, so does the handshake.
pub(crate) async fn accept<T>(
    mut socket: Socket,
    early: Vec<u8>,
    config: Arc<ServerConfig>,
    slice: impl AsyncFn(HandshakeStep) -> io::Result<T>,
) -> Result<Established, (Socket, io::Error)> {
    let session = match begin(config, &slice).await {
        Ok(session) => session,
        Err(error) => return Err((socket, error)),
    };
    let handshake = Handshake {
        incoming: early,
        fed: 0,
        of_record: 0,
        outgoing: Vec::new(),
        secrets: Secrets::default(),
        session,
    };
    match handshake.run(&mut socket, slice).await {
        Ok((kind, agreed, outgoing)) => Ok(agreed.over(socket, kind, outgoing)),
        Err(error) => Err((socket, error)),
    }
}

async fn begin<T>(
    config: Arc<ServerConfig>,
    slice: impl AsyncFn(HandshakeStep) -> io::Result<T>,
) -> io::Result<ServerConnection> {
    let slice = slice(HandshakeStep::Begin).await?;
    let session = ServerConnection::new(config).map_err(io::Error::other);
    drop(slice);
    session
}

/// A handshake under way.
struct Handshake {
    /// What has been read, and how much of it the session has got.
    incoming: Vec<u8>,
    fed: usize,
    /// Bytes of the current record that the session has not got.
    of_record: usize,
    /// What is to be written.
    outgoing: Vec<u8>,
    secrets: Secrets,
    session: ServerConnection,
}

/// How a connection goes on after its handshake, and the bytes that came behind that.
enum Agreed {
    /// With keys of our own.
    Records(Box<Records>, Vec<u8>),
    /// As rustls does it: TLS 1.2, and TLS 1.3 where rustls has given no secrets.
    Session(Box<ServerConnection>, Vec<u8>),
}

impl Agreed {
    /// `outgoing` is what has to be sent before anything is waited for.
    fn over(self, socket: Socket, kind: HandshakeKind, outgoing: Vec<u8>) -> Established {
        match self {
            Self::Records(records, rest) => {
                let stream = Stream::Tls(TlsStream::new(socket, *records, outgoing));
                Established { kind, stream, received: RecvBuffer::sealed(rest) }
            }
            Self::Session(session, rest) => {
                let stream = Stream::Tls12(Box::new(Tls12Stream::new(socket, *session, rest)));
                Established { kind, stream, received: RecvBuffer::default() }
            }
        }
    }
}

impl Handshake {
    async fn run<T>(
        mut self,
        socket: &mut Socket,
        slice: impl AsyncFn(HandshakeStep) -> io::Result<T>,
    ) -> io::Result<(HandshakeKind, Agreed, Vec<u8>)> {
        let mut step = HandshakeStep::Begin;
        loop {
            if !self.incoming.is_empty() {
                let slice = slice(step).await?;
                let fed = self.feed();
                let is_over = !self.session.is_handshaking();
                let output = self.collect();
                if fed.is_ok() && output.is_ok() && is_over {
                    let (kind, agreed, mut outgoing) = self.end()?;
                    drop(slice);
                    if matches!(agreed, Agreed::Session(..)) {
                        // The client waits for it. In TLS 1.3 it is a ticket, and can go with the
                        // answer.
                        let output = std::mem::take(&mut outgoing);
                        runtime::write_all(socket, output).await.0?;
                    }
                    return Ok((kind, agreed, outgoing));
                }
                drop(slice);
                if !self.outgoing.is_empty() {
                    step = HandshakeStep::GoOn;
                }
                let output = self.write(socket).await.and(output);
                fed.and(output)?;
            }
            self.read(socket).await?;
        }
    }

    /// Gives the session what has come, record by record, until it has its keys: what comes behind
    /// the handshake is not for it.
    fn feed(&mut self) -> io::Result<()> {
        while self.session.is_handshaking() {
            let rest = self.incoming.get(self.fed..).unwrap_or_default();
            if self.of_record == 0 {
                let Some([.., high, low]) = rest.first_chunk::<HEADER>() else { break };
                self.of_record = HEADER + usize::from(u16::from_be_bytes([*high, *low]));
            }
            let mut part = rest.get(..self.of_record).unwrap_or(rest);
            if part.is_empty() {
                break;
            }
            let taken = self.session.read_tls(&mut part)?;
            if taken == 0 {
                // After a close_notify.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.fed += taken;
            self.of_record -= taken;
            let processed = self.session.process_new_packets();
            // Those of this call, which belong to no other connection.
            self.secrets = std::mem::take(&mut self.secrets).or(Secrets::take());
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(())
    }

    /// Collects what the session has to send.
    fn collect(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.outgoing)?;
        }
        Ok(())
    }

    async fn write(&mut self, socket: &mut Socket) -> io::Result<()> {
        let outgoing = std::mem::take(&mut self.outgoing);
        if outgoing.is_empty() {
            return Ok(());
        }
        let (outcome, mut outgoing) = runtime::write_all(socket, outgoing).await;
        outgoing.clear();
        self.outgoing = outgoing;
        outcome
    }

    /// Waits for bytes of the peer behind those that the session has not got.
    async fn read(&mut self, socket: &mut Socket) -> io::Result<()> {
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.drain(..std::mem::take(&mut self.fed).min(incoming.len()));
        incoming.reserve_exact(READ_BYTES);
        let (outcome, incoming) = runtime::append(socket, incoming).await;
        self.incoming = incoming;
        if outcome? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Takes the keys, where they can be had; what is still to be written is the last part.
    fn end(mut self) -> io::Result<(HandshakeKind, Agreed, Vec<u8>)> {
        let kind = self.session.handshake_kind().unwrap_or(HandshakeKind::Full);
        self.incoming.drain(..self.fed.min(self.incoming.len()));
        let rest = self.incoming;
        let is_newer = self.session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let suite = self.session.negotiated_cipher_suite();
        let suite =
            suite.filter(|_| is_newer).and_then(|suite| Suite::from_cipher_suite(suite.suite()));
        let (Some(suite), Secrets { client: Some(client), server: Some(server) }) =
            (suite, self.secrets)
        else {
            if is_newer {
                log_unknown_secrets();
            }
            return Ok((kind, Agreed::Session(Box::new(self.session), rest), self.outgoing));
        };
        let keys = self.session.dangerous_extract_secrets().map_err(io::Error::other)?;
        let read = Direction::new(suite, &keys.rx, client)?;
        let write = Direction::new(suite, &keys.tx, server)?;
        let records = Box::new(Records::new(read, write));
        Ok((kind, Agreed::Records(records, rest), self.outgoing))
    }
}

/// Logs once that the records of TLS 1.3 do not go through [`Records`]: each update costs more.
#[cold]
fn log_unknown_secrets() {
    static IS_LOGGED: AtomicBool = AtomicBool::new(false);
    if !IS_LOGGED.swap(true, Relaxed) {
        tracing::warn!("TLS 1.3 goes through rustls: the secrets of its keys are not known");
    }
}

/// Ends a connection in the form that every client understands: close_notify and FIN at once, then
/// the rest of the peer's bytes are discarded, since closing over unread bytes sends an RST that
/// can overtake the last answer. `limit` bounds the bytes; the caller bounds the time.
pub(crate) async fn close(stream: Stream, limit: usize) {
    let (mut socket, finished) = match stream {
        Stream::Plain(mut socket) => {
            let finished = runtime::finish(&mut socket).await;
            (socket, finished)
        }
        Stream::Tls(stream) => stream.finish().await,
        Stream::Tls12(stream) => stream.finish().await,
    };
    if finished.is_ok() {
        runtime::discard(&mut socket, limit).await;
    }
}
