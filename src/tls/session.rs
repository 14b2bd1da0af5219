//! A connection's stream: the handshake of TLS, then its records; or plain, where a listener was told
//! so.

use std::{io, ops::AsyncFn, sync::Arc};

use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::stream::TlsStream;
use crate::{
    runtime::{self, Socket},
    shard::Step,
};

/// Reads of a handshake; a ClientHello with post-quantum key share is about 1.8 KiB.
const READ_BYTES: usize = 4096;

/// An established connection.
// TLS is what nearly all of them are: in a box it would be one step further away.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(TlsStream),
}

impl Stream {
    /// As [`runtime::append`]; a buffer without memory gets some from `spare` when it is needed.
    pub(crate) async fn append(
        &mut self,
        buffer: Vec<u8>,
        spare: impl Fn() -> Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>) {
        match self {
            Self::Plain(socket) => {
                let buffer = if buffer.capacity() == 0 { spare() } else { buffer };
                runtime::append(socket, buffer).await
            }
            Self::Tls(stream) => stream.append(buffer, spare).await,
        }
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &'static [u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => runtime::write_all(socket, bytes).await.0,
            Self::Tls(stream) => stream.write_all(bytes).await,
        }
    }
}

/// Does the handshake, to which `early` bytes have come already. Where it fails, the alert has been sent as far as the peer takes it, and
/// the socket comes back to be closed.
///
/// Each step that computes is done while what `turn` gives is held, so that the caller decides when;
/// where `turn` fails, so does the handshake.
pub(crate) async fn accept<T>(
    mut socket: Socket,
    early: Vec<u8>,
    config: Arc<ServerConfig>,
    turn: impl AsyncFn(Step) -> io::Result<T>,
) -> Result<(Stream, HandshakeKind), (Socket, io::Error)> {
    let mut session = match begin(config, &turn).await {
        Ok(session) => session,
        Err(error) => return Err((socket, error)),
    };
    match handshake(&mut socket, &mut session, early, turn).await {
        Ok(()) => {
            let kind = session.handshake_kind().unwrap_or(HandshakeKind::Full);
            Ok((Stream::Tls(TlsStream::new(socket, session)), kind))
        }
        Err(error) => Err((socket, error)),
    }
}

async fn begin<T>(
    config: Arc<ServerConfig>,
    turn: impl AsyncFn(Step) -> io::Result<T>,
) -> io::Result<ServerConnection> {
    let turn = turn(Step::Begin).await?;
    let session = ServerConnection::new(config).map_err(io::Error::other);
    drop(turn);
    session
}

async fn handshake<T>(
    socket: &mut Socket,
    session: &mut ServerConnection,
    early: Vec<u8>,
    turn: impl AsyncFn(Step) -> io::Result<T>,
) -> io::Result<()> {
    let mut buffer = early;
    buffer.reserve(READ_BYTES);
    let mut step = Step::Begin;
    loop {
        if !buffer.is_empty() {
            let turn = turn(step).await?;
            let fed = feed(session, &buffer);
            drop(turn);
            if let Err(error) = fed {
                alert(socket, session).await;
                return Err(error);
            }
        }
        buffer.clear();
        while session.wants_write() {
            session.write_tls(&mut buffer)?;
        }
        if !buffer.is_empty() {
            let (outcome, written) = runtime::write_all(socket, buffer).await;
            outcome?;
            buffer = written;
            step = Step::GoOn;
        }
        if !session.is_handshaking() {
            return Ok(());
        }
        buffer.clear();
        let (outcome, read) = runtime::append(socket, buffer).await;
        if outcome? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = read;
    }
}

/// Gives all of `bytes` to the session, or as many as it wants where the peer has said goodbye.
fn feed(session: &mut ServerConnection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // rustls takes nothing more after a close_notify; what follows it is nobody's.
        if session.read_tls(&mut bytes)? == 0 {
            let is_over = !session.is_handshaking();
            return if is_over { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        session
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}

/// Tells the peer why the handshake failed; whether it listens does not matter any more.
async fn alert(socket: &mut Socket, session: &mut ServerConnection) {
    let mut bytes = Vec::new();
    while session.wants_write() {
        if session.write_tls(&mut bytes).is_err() {
            break;
        }
    }
    if !bytes.is_empty() {
        let _ = runtime::write_all(socket, bytes).await;
    }
}

/// Ends a connection in the way that every client understands: close_notify and FIN at once, then
/// the rest of the peer's bytes are read away, since closing over unread bytes sends an RST that
/// can overtake the last answer. `limit` bounds the bytes; the time is the caller's to bound.
pub(crate) async fn close(stream: Stream, limit: usize) {
    let (mut socket, finished) = match stream {
        Stream::Plain(mut socket) => {
            let finished = runtime::finish(&mut socket).await;
            (socket, finished)
        }
        Stream::Tls(stream) => stream.finish().await,
    };
    if finished.is_ok() {
        runtime::discard(&mut socket, limit).await;
    }
}
