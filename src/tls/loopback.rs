//! An established TLS 1.3 connection without a socket, for benches.

use std::{fmt, sync::Arc};

use rustls::{ServerConfig, ServerConnection};

use super::{
    records::{Direction, Records, Suite, TlsError},
    recv_buffer::{BufferPool, NextRecord, RecvBuffer, Wait},
    secrets::Secrets,
};

/// What a shard holds of a connection.
pub struct LoopbackConnection {
    records: Records,
    pool: BufferPool,
    received: RecvBuffer,
}

/// A connection that cannot go on.
#[derive(Clone, Copy, Debug)]
pub struct Broken;

impl LoopbackConnection {
    /// Does the handshake: `client` gets what the server sends, at first nothing, and returns its
    /// answer. Its last answer must not go beyond the handshake.
    ///
    /// `None` where the handshake fails, or is not one of TLS 1.3.
    pub fn accept(
        config: Arc<ServerConfig>,
        mut client: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Option<Self> {
        let mut session = ServerConnection::new(config).ok()?;
        let (mut bytes, mut secrets) = (Vec::new(), Secrets::default());
        while session.is_handshaking() || session.wants_write() {
            while session.wants_write() {
                session.write_tls(&mut bytes).ok()?;
            }
            let said = client(&bytes);
            let mut rest = &said[..];
            while !rest.is_empty() {
                session.read_tls(&mut rest).ok()?;
                session.process_new_packets().ok()?;
                secrets = secrets.or(Secrets::take());
            }
            bytes.clear();
        }
        let suite = Suite::from_cipher_suite(session.negotiated_cipher_suite()?.suite())?;
        let keys = session.dangerous_extract_secrets().ok()?;
        let read = Direction::new(suite, &keys.rx, secrets.client?).ok()?;
        let write = Direction::new(suite, &keys.tx, secrets.server?).ok()?;
        Some(Self {
            records: Records::new(read, write),
            pool: BufferPool::default(),
            received: RecvBuffer::default(),
        })
    }

    /// Opens the next record: the bytes of data in it, or how many bytes are missing at least.
    ///
    /// # Errors
    /// Where the peer has broken a rule or sent a close_notify.
    #[inline]
    pub fn open(&mut self) -> Result<Result<usize, usize>, Broken> {
        match self.received.open(&mut self.records) {
            Ok(NextRecord::Data(length)) => Ok(Ok(length)),
            Ok(NextRecord::Missing(missing)) => Ok(Err(missing)),
            Ok(NextRecord::End) | Err(_) => Err(Broken),
        }
    }

    /// Makes room for `missing` bytes, and lends the memory as to a read, which puts them behind
    /// what it holds; [`take_back`](Self::take_back) is next.
    #[inline]
    pub fn lend(&mut self, missing: usize) -> Vec<u8> {
        self.received.prepare(Wait::Short, &self.pool);
        self.received.make_room(missing, &self.pool);
        self.received.lend()
    }

    /// Takes back what was lent.
    #[inline]
    pub fn take_back(&mut self, bytes: Vec<u8>) {
        self.received.take_back(bytes);
    }

    /// What requests can read.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.received.bytes()
    }

    /// A request has taken `n` bytes.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.received.consume(n);
    }

    /// Encrypts `data` behind what `out` holds.
    ///
    /// # Errors
    /// Where the cryptography fails.
    #[inline]
    pub fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.records.seal(data, out).map_err(|_: TlsError| Broken)
    }
}

impl fmt::Debug for LoopbackConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopbackConnection").finish_non_exhaustive()
    }
}
