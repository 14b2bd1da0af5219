//! An established TLS 1.3 connection: [`Records`] over a socket.

use std::io;

use crate::{
    io::runtime::{self, Socket},
    tls::{
        records::{Records, TlsError},
        recv_buffer::{BufferPool, Filled, NextRecord, RecvBuffer, Wait},
    },
};

/// Memory for records that leave is kept up to this, which is more than an answer takes.
const OUTGOING_KEPT: usize = 256;

/// A connection whose handshake is over.
pub(crate) struct TlsStream {
    records: Records,
    socket: Socket,
    /// Records that have to leave before anything is waited for; empty between two writes.
    outgoing: Vec<u8>,
    /// The peer has sent a close_notify.
    has_ended: bool,
    /// The connection cannot go on: the alert has been sent.
    is_over: bool,
}

impl TlsStream {
    /// Goes on over `socket` with the keys of a handshake that is over. Its last record, a ticket,
    /// is in `outgoing`; it can wait for the answer where the request has come already.
    pub(super) fn new(socket: Socket, records: Records, outgoing: Vec<u8>) -> Self {
        Self { records, socket, outgoing, has_ended: false, is_over: false }
    }

    /// Waits for data, which `received` then has; or reports that a part of a record has come,
    /// where `wait` is for something else.
    ///
    /// # Errors
    /// `UnexpectedEof` where the peer ends the connection without a close_notify, which is how
    /// Telegram does it; `InvalidData` for records that break a rule of TLS, after the alert; and
    /// errors of the socket.
    pub(crate) async fn fill(
        &mut self,
        received: &mut RecvBuffer,
        wait: Wait,
        pool: &BufferPool,
    ) -> io::Result<Filled> {
        loop {
            if self.has_ended {
                return Ok(Filled::End);
            }
            let missing = match received.open(&mut self.records) {
                Ok(NextRecord::Data(length)) => return Ok(Filled::Data(length)),
                Ok(NextRecord::End) => {
                    self.has_ended = true;
                    return Ok(Filled::End);
                }
                Ok(NextRecord::Missing(missing)) => missing,
                Err(fault) => return Err(Box::pin(self.fail(fault)).await),
            };
            if let Some(filled) = wait.ends_early(!received.holds_nothing()) {
                return Ok(filled);
            }
            if !self.outgoing.is_empty() {
                Box::pin(self.flush()).await?;
            }
            if receive(&mut self.socket, received, missing, wait, pool).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends the alert for `fault`; whether the peer reads it does not matter any more.
    async fn fail(&mut self, fault: TlsError) -> io::Error {
        self.is_over = true;
        if self.records.alert(fault, &mut self.outgoing).is_ok() {
            let _ = self.flush().await;
        }
        fault.into()
    }

    /// Encrypts `bytes` and writes all of them.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(fault) = self.records.seal(bytes, &mut self.outgoing) {
            // A part of it may not be encrypted.
            self.outgoing.clear();
            return Err(fault.into());
        }
        self.flush().await
    }

    /// Writes what is encrypted.
    async fn flush(&mut self) -> io::Result<()> {
        let outgoing = std::mem::take(&mut self.outgoing);
        if outgoing.is_empty() {
            return Ok(());
        }
        let (outcome, mut outgoing) = runtime::write_all(&mut self.socket, outgoing).await;
        outgoing.clear();
        if outgoing.capacity() <= OUTGOING_KEPT {
            self.outgoing = outgoing;
        }
        outcome
    }

    /// Ends the connection: close_notify, then FIN. Returns the socket, from which the peer's last
    /// bytes can be read.
    pub(super) async fn finish(mut self) -> (Socket, io::Result<()>) {
        // Nothing follows an alert that says why (RFC 8446 section 6.2).
        let said = if self.is_over {
            Ok(())
        } else {
            match self.records.close_notify(&mut self.outgoing) {
                Ok(()) => {
                    // It leaves with the FIN.
                    runtime::cork(&self.socket);
                    self.flush().await
                }
                Err(fault) => Err(fault.into()),
            }
        };
        let finished = runtime::finish(&mut self.socket).await;
        (self.socket, said.and(finished))
    }
}

/// Reads once behind what `received` holds, where at least `missing` bytes are needed to go on; 0
/// is the end.
pub(super) async fn receive(
    socket: &mut Socket,
    received: &mut RecvBuffer,
    missing: usize,
    wait: Wait,
    pool: &BufferPool,
) -> io::Result<usize> {
    if received.prepare(wait, pool) {
        runtime::readable(socket).await;
    }
    received.make_room(missing, pool);
    let (outcome, bytes) = runtime::append(socket, received.lend()).await;
    received.take_back(bytes);
    outcome
}
