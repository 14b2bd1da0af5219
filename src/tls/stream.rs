//! An established TLS connection: records in and out over rustls itself.
//!
//! monoio-rustls keeps two buffers of 16 KiB for each connection, whatever it does. Here an idle
//! connection holds the buffer of the read that it waits with, and what rustls keeps of its own.

use std::io::{self, BufRead as _, Write as _};

use rustls::ServerConnection;

use crate::runtime::{self, Socket};

/// Bytes of a read while more come than fit into one of [`WAIT_BYTES`]: a full record.
const BUSY_BYTES: usize = 16 * 1024;
/// Bytes of a read that waits; most requests fit.
const WAIT_BYTES: usize = 4 * 1024;

/// A connection whose handshake is over.
pub(crate) struct TlsStream {
    session: ServerConnection,
    socket: Socket,
    /// Records as they come, and how much of them the session has got.
    incoming: Vec<u8>,
    fed: usize,
    /// Records that leave; empty between two writes.
    outgoing: Vec<u8>,
}

impl TlsStream {
    /// Goes on with a `session` that has done its handshake over `socket`. All that has been read from
    /// the one has been fed to the other.
    pub(super) fn new(socket: Socket, session: ServerConnection) -> Self {
        Self { session, socket, incoming: Vec::new(), fed: 0, outgoing: Vec::new() }
    }

    /// Waits for plaintext and puts it behind what `buffer` holds, up to its capacity. Where that has
    /// none, `spare` is asked for memory when there is something to put into it. How many bytes; 0
    /// at a close_notify, or where there is no room.
    ///
    /// # Errors
    /// `UnexpectedEof` where the peer ends the connection without a close_notify, which is how
    /// Telegram does it; `InvalidData` for records that break a rule of TLS, after the alert; and
    /// errors of the socket.
    pub(crate) async fn append(
        &mut self,
        mut buffer: Vec<u8>,
        spare: impl Fn() -> Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>) {
        loop {
            match self.take_plaintext(&mut buffer, &spare) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return (outcome, buffer),
            }
            if let Err(error) = self.receive().await {
                return (Err(error), buffer);
            }
        }
    }

    /// Moves what is decrypted into `buffer`.
    fn take_plaintext(
        &mut self,
        buffer: &mut Vec<u8>,
        spare: impl Fn() -> Vec<u8>,
    ) -> io::Result<usize> {
        let before = buffer.len();
        let mut reader = self.session.reader();
        loop {
            let chunk = match reader.fill_buf() {
                // The end, or nothing more for now; what there was goes first.
                Ok([]) => break,
                Err(_) if buffer.len() > before => break,
                Err(error) => return Err(error),
                Ok(chunk) => chunk,
            };
            if buffer.capacity() == 0 {
                *buffer = spare();
            }
            let taken = chunk.len().min(buffer.capacity() - buffer.len());
            if taken == 0 {
                break;
            }
            buffer.extend_from_slice(chunk.get(..taken).unwrap_or_default());
            reader.consume(taken);
        }
        Ok(buffer.len() - before)
    }

    /// Gives the session some of the peer's bytes, and waits for them where there are none.
    async fn receive(&mut self) -> io::Result<()> {
        let is_end = self.fed == self.incoming.len() && self.read().await? == 0;
        let fed = self.feed(is_end);
        // An alert, or the answer to a change of keys.
        self.flush().await?;
        fed
    }

    /// Waits for bytes of the peer; 0 are the end.
    async fn read(&mut self) -> io::Result<usize> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let was_full = !incoming.is_empty() && incoming.len() == incoming.capacity();
        incoming.clear();
        if was_full {
            incoming.reserve_exact(BUSY_BYTES);
        } else {
            incoming.shrink_to(WAIT_BYTES);
            incoming.reserve_exact(WAIT_BYTES);
        }
        self.fed = 0;
        let (outcome, incoming) = runtime::append(&mut self.socket, incoming).await;
        self.incoming = incoming;
        outcome
    }

    /// Gives the session the next few bytes, or the end: it takes no more than a record at a time, and
    /// nothing before what it has decrypted is taken.
    fn feed(&mut self, is_end: bool) -> io::Result<()> {
        let mut rest = self.incoming.get(self.fed..).unwrap_or_default();
        let taken = self.session.read_tls(&mut rest)?;
        self.fed += taken;
        if taken == 0 && !is_end {
            // After a close_notify; what follows is nobody's.
            self.fed = self.incoming.len();
        }
        self.session
            .process_new_packets()
            .map(drop)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Encrypts `bytes` and writes all of them.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(bytes)?;
        self.flush().await
    }

    /// Writes what the session has to say.
    async fn flush(&mut self) -> io::Result<()> {
        if !self.session.wants_write() {
            return Ok(());
        }
        let mut outgoing = std::mem::take(&mut self.outgoing);
        while self.session.wants_write() {
            self.session.write_tls(&mut outgoing)?;
        }
        let (outcome, mut outgoing) = runtime::write_all(&mut self.socket, outgoing).await;
        outgoing.clear();
        self.outgoing = outgoing;
        outcome
    }

    /// Says goodbye: close_notify, then FIN. The socket, from which the peer's last bytes can be read.
    pub(super) async fn finish(mut self) -> (Socket, io::Result<()>) {
        self.session.send_close_notify();
        let said = self.flush().await;
        let finished = runtime::finish(&mut self.socket).await;
        (self.socket, said.and(finished))
    }
}
