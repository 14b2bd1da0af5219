//! What lies between the bytes of HTTP and those on the wire. Knows no socket.

use std::io::{Read, Write};

use rustls::{ClientConnection, HandshakeKind};

/// One connection's protection: TLS or none.
pub(crate) struct Session {
    tls: Option<Box<ClientConnection>>,
}

impl Session {
    /// No protection.
    pub(crate) fn plain() -> Self {
        Self { tls: None }
    }

    pub(super) fn tls(mut connection: ClientConnection) -> Self {
        // What is written is sent before anything else is written, so no limit is needed, and a
        // limit would mean short writes.
        connection.set_buffer_limit(None);
        Self { tls: Some(Box::new(connection)) }
    }

    /// Whether requests must wait for more from the server.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether the session went on where an earlier one ended; none without TLS.
    pub(crate) fn is_resumed(&self) -> Option<bool> {
        let tls = self.tls.as_ref()?;
        Some(tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Appends to `wire` what is to be sent before anything else.
    pub(crate) fn flush(&mut self, wire: &mut Vec<u8>) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                // Writing to a Vec cannot fail; if it could, the loop must still end.
                if tls.write_tls(wire).is_err() {
                    return;
                }
            }
        }
    }

    /// Appends to `wire` a request, after what is to be sent before it.
    ///
    /// The client's last handshake message waits for the first request: both then leave in one
    /// segment, as from Telegram.
    pub(crate) fn send(&mut self, request: &[u8], wire: &mut Vec<u8>) {
        match &mut self.tls {
            Some(tls) => {
                // Fails only if the session has failed, which its reading end reports.
                let _ = tls.writer().write_all(request);
                self.flush(wire);
            }
            None => wire.extend_from_slice(request),
        }
    }

    /// Takes bytes off the wire and appends to `plain` what they say. Whether the peer said that
    /// it will send no more.
    pub(crate) fn receive(
        &mut self,
        mut wire: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<bool, rustls::Error> {
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(wire);
            return Ok(false);
        };
        let mut closed = false;
        while !wire.is_empty() && !closed {
            // A slice cannot fail; rustls does if its buffer is full, which it is not, because
            // each round empties it.
            tls.read_tls(&mut wire).map_err(|error| rustls::Error::General(error.to_string()))?;
            let state = tls.process_new_packets()?;
            let (start, length) = (plain.len(), state.plaintext_bytes_to_read());
            closed = state.peer_has_closed();
            if length > 0 {
                plain.resize(start + length, 0);
                let end = plain.get_mut(start..).unwrap_or_default();
                tls.reader()
                    .read_exact(end)
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
            }
        }
        Ok(closed)
    }
}
