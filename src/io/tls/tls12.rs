//! An established connection of TLS 1.2: rustls' own session over a socket.
//!
//! Telegram's sender speaks TLS 1.3, so TLS 1.2 may cost more.

use std::io::{self, BufRead as _, Write as _};

use rustls::ServerConnection;

use crate::{
    io::runtime::{self, Socket},
    tls::{
        records::HEADER,
        recv_buffer::{BufferPool, Filled, RecvBuffer, Wait},
    },
};

/// Bytes of a read while more come than fit into one of [`WAIT_BYTES`]: a full record.
const BUSY_BYTES: usize = 16 * 1024;
/// Bytes of a read that waits; most requests fit.
const WAIT_BYTES: usize = 4 * 1024;

/// A connection whose handshake is over.
pub(crate) struct Tls12Stream {
    session: ServerConnection,
    socket: Socket,
    /// Records as they come, and how much of them the session has got.
    incoming: Vec<u8>,
    fed: usize,
    /// Records that leave; empty between two writes.
    outgoing: Vec<u8>,
    /// What the session has got of the record that is not whole.
    part: Part,
}

/// Where the record ends that has been fed last.
#[derive(Debug, Default)]
struct Part {
    /// Its header, as far as that has come.
    header: [u8; HEADER],
    held: usize,
    /// Bytes behind the header that have not come.
    missing: usize,
}

impl Part {
    /// So much has come.
    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.missing > 0 {
                let passed = self.missing.min(bytes.len());
                self.missing -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.header.get_mut(self.held) {
                *place = *first;
            }
            self.held += 1;
            bytes = rest;
            if self.held == HEADER {
                let [.., high, low] = self.header;
                self.missing = usize::from(u16::from_be_bytes([high, low]));
                self.held = 0;
            }
        }
    }

    fn is_none(&self) -> bool {
        self.held == 0 && self.missing == 0
    }
}

impl Tls12Stream {
    /// Goes on with a `session` that has done its handshake over `socket`, from which `incoming`
    /// has been read and not fed to it.
    pub(super) fn new(socket: Socket, session: ServerConnection, incoming: Vec<u8>) -> Self {
        let part = Part::default();
        Self { session, socket, incoming, fed: 0, outgoing: Vec::new(), part }
    }

    /// As [`TlsStream::fill`](super::stream::TlsStream::fill).
    pub(crate) async fn fill(
        &mut self,
        received: &mut RecvBuffer,
        wait: Wait,
        pool: &BufferPool,
    ) -> io::Result<Filled> {
        loop {
            match self.take_plaintext(received, pool) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome.map(Filled::from_count),
            }
            if self.fed == self.incoming.len()
                && let Some(filled) = wait.ends_early(!self.part.is_none())
            {
                return Ok(filled);
            }
            let is_bare = received.prepare(wait, pool);
            self.receive(is_bare).await?;
        }
    }

    /// Moves what is decrypted to what is received, as far as that has room.
    fn take_plaintext(
        &mut self,
        received: &mut RecvBuffer,
        pool: &BufferPool,
    ) -> io::Result<usize> {
        let mut moved = 0;
        let mut reader = self.session.reader();
        loop {
            let chunk = match reader.fill_buf() {
                // The end, or nothing more for now; what there was goes first.
                Ok([]) => break,
                Err(_) if moved > 0 => break,
                Err(error) => return Err(error),
                Ok(chunk) => chunk,
            };
            if moved == 0 {
                received.make_room(0, pool);
            }
            let taken = received.put(chunk);
            if taken == 0 {
                break;
            }
            reader.consume(taken);
            moved += taken;
        }
        Ok(moved)
    }

    /// Gives the session some of the peer's bytes, and waits for them where there are none.
    async fn receive(&mut self, is_bare: bool) -> io::Result<()> {
        let is_end = self.fed == self.incoming.len() && self.read(is_bare).await? == 0;
        let fed = self.feed(is_end);
        // An alert.
        self.flush().await?;
        fed
    }

    /// Waits for bytes of the peer; 0 is the end. Without a buffer where `is_bare`.
    async fn read(&mut self, is_bare: bool) -> io::Result<usize> {
        let mut incoming = std::mem::take(&mut self.incoming);
        self.fed = 0;
        let was_full = !incoming.is_empty() && incoming.len() == incoming.capacity();
        incoming.clear();
        if was_full {
            incoming.reserve_exact(BUSY_BYTES);
        } else if is_bare {
            incoming = Vec::new();
            runtime::readable(&mut self.socket).await;
            incoming.reserve_exact(WAIT_BYTES);
        } else {
            incoming.shrink_to(WAIT_BYTES);
            incoming.reserve_exact(WAIT_BYTES);
        }
        let (outcome, incoming) = runtime::append(&mut self.socket, incoming).await;
        self.incoming = incoming;
        outcome
    }

    /// Gives the session the next few bytes, or the end: it takes no more than a record at a time,
    /// and nothing before what it has decrypted is taken.
    fn feed(&mut self, is_end: bool) -> io::Result<()> {
        let whole = self.incoming.get(self.fed..).unwrap_or_default();
        let mut rest = whole;
        let taken = self.session.read_tls(&mut rest)?;
        self.part.pass(whole.get(..taken).unwrap_or_default());
        self.fed += taken;
        if taken == 0 && !is_end {
            // After a close_notify; what follows is ignored.
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

    /// Writes what the session has to send.
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

    /// Ends the connection: close_notify, then FIN. Returns the socket, from which the peer's last
    /// bytes can be read.
    pub(super) async fn finish(mut self) -> (Socket, io::Result<()>) {
        self.session.send_close_notify();
        let said = self.flush().await;
        let finished = runtime::finish(&mut self.socket).await;
        (self.socket, said.and(finished))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_record_is_known_wherever_it_is_cut() {
        let records = [&[23, 3, 3, 0, 2, 1, 2][..], &[21, 3, 3, 0, 0], &[23, 3, 3, 1, 1]];
        let bytes = [records.concat(), vec![7; 257]].concat();
        let ends = [7, 12, 12 + 5 + 257];
        for step in [1, 2, 3, 5, 7, 100] {
            let (mut part, mut at) = (Part::default(), 0);
            assert!(part.is_none());
            for piece in bytes.chunks(step) {
                part.pass(piece);
                at += piece.len();
                assert_eq!(part.is_none(), ends.contains(&at), "{step} {at}");
            }
        }
    }
}
