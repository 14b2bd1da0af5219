//! A connection's records, and a peer that forges them.

use crate::tls::{
    records::{Direction, Records, Secret, Suite},
    recv_buffer::{BufferPool, NextRecord, RecvBuffer, Wait},
};

/// One side of a TLS 1.3 connection; both have the same keys in both directions.
pub struct TestRecords {
    out: Vec<u8>,
    records: Records,
    pool: BufferPool,
    received: RecvBuffer,
}

impl TestRecords {
    /// With the first, second or third cipher suite.
    #[must_use]
    pub fn new(suite: u8) -> Self {
        let secret = [7; 48];
        let secret = if suite == 1 { &secret[..] } else { &secret[..32] };
        Self::of_secrets(suite, secret, secret)
    }

    /// With the first keys of these traffic secrets: the one by which it reads and the one by which
    /// it writes.
    #[must_use]
    #[allow(clippy::missing_panics_doc, clippy::expect_used)]
    pub fn of_secrets(suite: u8, read: &[u8], write: &[u8]) -> Self {
        let suite = match suite {
            0 => Suite::Aes128Gcm,
            1 => Suite::Aes256Gcm,
            _ => Suite::Chacha20Poly1305,
        };
        let direction = |secret| {
            let secret = Secret::new(secret).expect("as long as one is");
            Direction::of_secret(suite, secret).expect("a key")
        };
        let records = Records::new(direction(read), direction(write));
        Self {
            out: Vec::new(),
            records,
            pool: BufferPool::default(),
            received: RecvBuffer::default(),
        }
    }

    /// As [`forge`](Self::forge), with another version in the header.
    pub fn forge_with(&mut self, version: [u8; 2], inner: &[u8], out: &mut Vec<u8>) {
        let _ = self.records.forge_with(version, inner, out);
    }

    /// What is in a whole `record`, type and padding included, whatever it is; `None` where the key
    /// does not open it.
    pub fn uncover(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        self.records.uncover(&mut record.to_vec()).map(<[u8]>::to_vec)
    }

    /// As after a key update that was uncovered.
    pub fn follow_keys(&mut self) {
        let _ = self.records.uncover_keys();
    }

    /// What it has said since this was called last.
    pub fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Puts a record with `inner`, which is content, type and padding, behind what `out` holds.
    pub fn forge(&mut self, inner: &[u8], out: &mut Vec<u8>) {
        let _ = self.records.forge(inner, out);
    }

    /// As after a key update that was forged.
    pub fn change_keys(&mut self) {
        let _ = self.records.forge_keys();
    }

    /// Encrypts `data` behind what `out` holds.
    pub fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let _ = self.records.seal(data, out);
    }

    /// Reads `bytes` as a connection does, in reads as large as it has room for, and passes what
    /// was in them to `read`. Returns why it ends, where it does.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        mut read: impl FnMut(&[u8]),
    ) -> Option<&'static str> {
        loop {
            let missing = match self.received.open(&mut self.records) {
                Ok(NextRecord::Data(_)) => {
                    let data = self.received.bytes();
                    read(data);
                    self.received.consume(self.received.bytes().len());
                    continue;
                }
                Ok(NextRecord::End) => return Some("close_notify"),
                Ok(NextRecord::Missing(missing)) => missing,
                Err(fault) => {
                    let _ = self.records.alert(fault, &mut self.out);
                    return Some(fault.words());
                }
            };
            if bytes.is_empty() {
                return None;
            }
            self.received.prepare(Wait::Short, &self.pool);
            self.received.make_room(missing, &self.pool);
            let taken = self.received.receive(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// What it would send: the answer to all key updates that were asked for, and some data.
    pub fn answer(&mut self) -> &[u8] {
        let _ = self.records.seal(b"answer", &mut self.out);
        &self.out
    }

    /// Bytes of its buffer.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.received.memory()
    }
}
