//! The records of an established TLS 1.3 connection, in and out (RFC 8446). No socket, no clock,
//! and no memory of its own: records are opened where they lie and sealed into a buffer of the
//! caller's.
//!
//! rustls does the handshake and gives its keys away. From then on a server receives application
//! data, alerts and key updates, and nothing else is allowed; that is all there is here. Where the
//! RFC leaves a choice, this does as rustls does.

mod fault;
mod keys;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use self::{
    fault::TlsError,
    keys::{Direction, Secret, Suite},
};

/// Bytes before a record's content: type, version and length.
pub(crate) const HEADER: usize = 5;
/// Bytes of what authenticates a record, the same for all suites.
const TAG: usize = 16;
/// The most content of a record before it is encrypted (section 5.1).
const PLAIN_MAX: usize = 1 << 14;
/// The most after (section 5.2).
const SEALED_MAX: usize = PLAIN_MAX + 256;
/// The longest record with its header.
pub(crate) const RECORD_MAX: usize = HEADER + SEALED_MAX;
/// Records in a row that bring no data: empty ones, key updates and warnings. Each costs a
/// decryption; rustls and BoringSSL allow as many empty records and as many key updates.
const EMPTY_RECORDS_MAX: u8 = 32;
/// Warnings on one connection, as rustls has it.
const WARNINGS_MAX: u8 = 4;

/// The beginning of a key update: type and length. One byte follows, whether we shall change our
/// keys too.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// Types of content (section 5.1).
mod kind {
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const DATA: u8 = 23;
}

/// Levels of alerts (section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// What a record was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum OpenedRecord {
    /// Data, which is in that part of the record now.
    Data(Range<usize>),
    /// The peer's close_notify: what follows it is ignored.
    End,
    /// A record without data.
    Nothing,
}

/// Both directions of an established connection.
///
/// After a [`TlsError`] it is not to be used but for the alert.
pub(crate) struct Records {
    read: Direction,
    write: Direction,
    /// Bytes of a key update of which the rest is in the records to come.
    begun: usize,
    empty_records: u8,
    warnings: u8,
    /// The peer has asked for new keys of ours.
    update_due: bool,
}

impl Records {
    pub(crate) fn new(read: Direction, write: Direction) -> Self {
        Self { read, write, begun: 0, empty_records: 0, warnings: 0, update_due: false }
    }

    /// The length of the record that begins with `bytes`, its header included; `None` where they
    /// are too few.
    ///
    /// # Errors
    /// Where no such record may come.
    pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, TlsError> {
        // The version means nothing (section 5.1: "MUST be ignored for all purposes"). It is
        // authenticated with the rest of the header, whatever it is (section 5.2).
        let Some(&[outer, _, _, high, low]) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        // Everything is encrypted, and so called application data (section 5.2); a
        // change_cipher_spec has its place in the handshake only (section 5).
        if outer != kind::DATA {
            return Err(TlsError::UnexpectedMessage);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        // Section 5.2.
        if length > SEALED_MAX {
            return Err(TlsError::RecordOverflow);
        }
        Ok(Some(HEADER + length))
    }

    /// Opens a whole `record`, of the [length](Self::length) that its header says.
    ///
    /// # Errors
    /// Where the connection must not go on; the peer is to get the [alert](Self::alert).
    #[inline]
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<OpenedRecord, TlsError> {
        let Some((header, sealed)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(TlsError::Internal);
        };
        // Section 5.2: what is too short has no tag that could be right.
        if sealed.len() < TAG {
            return Err(TlsError::BadRecordMac);
        }
        let length = self.read.open(*header, sealed)?;
        // Section 5.4: "the full encoded TLSInnerPlaintext MUST NOT exceed 2^14 + 1 octets".
        if length > PLAIN_MAX + 1 {
            return Err(TlsError::RecordOverflow);
        }
        // Section 5.4: the type comes behind the content, and zeros behind the type.
        let inner = sealed.get(..length).ok_or(TlsError::Internal)?;
        let Some(at) = inner.iter().rposition(|byte| *byte != 0) else {
            return Err(TlsError::UnexpectedMessage);
        };
        let content = inner.get(..at).ok_or(TlsError::Internal)?;
        let inner_kind = inner.get(at);
        if content.len() > PLAIN_MAX {
            return Err(TlsError::RecordOverflow);
        }
        if inner_kind == Some(&kind::DATA) && self.begun == 0 {
            if content.is_empty() {
                return self.empty_records();
            }
            self.empty_records = 0;
            return Ok(OpenedRecord::Data(HEADER..HEADER + at));
        }
        self.control(inner_kind.copied(), content)
    }

    /// What is no data, or data where none may be.
    #[cold]
    fn control(
        &mut self,
        inner_kind: Option<u8>,
        content: &[u8],
    ) -> Result<OpenedRecord, TlsError> {
        match inner_kind {
            Some(kind::HANDSHAKE) => self.take_handshake(content),
            // Section 5.1: nothing may come between the parts of a handshake message.
            Some(kind::ALERT) if self.begun == 0 => self.take_alert(content),
            // A change_cipher_spec, and types that are not known (section 5), too.
            _ => Err(TlsError::UnexpectedMessage),
        }
    }

    fn empty_records(&mut self) -> Result<OpenedRecord, TlsError> {
        if self.empty_records == EMPTY_RECORDS_MAX {
            return Err(TlsError::TooMany);
        }
        self.empty_records += 1;
        Ok(OpenedRecord::Nothing)
    }

    /// Section 6. Every alert is an error "regardless of the AlertLevel" (section 6.2), but for
    /// two: close_notify, and user_canceled, which a close_notify follows (section 6.1).
    ///
    /// An error with the level of a warning cannot be sent by the rules of section 6.2. It is
    /// answered as rustls and BoringSSL answer it, by a decode_error. One with the right level is
    /// answered by nothing.
    fn take_alert(&mut self, content: &[u8]) -> Result<OpenedRecord, TlsError> {
        match *content {
            // Section 5.4.
            [] => Err(TlsError::UnexpectedMessage),
            [level, _] if level != WARNING && level != FATAL => Err(TlsError::IllegalParameter),
            [_, CLOSE_NOTIFY] => Ok(OpenedRecord::End),
            [WARNING, USER_CANCELED] if self.warnings == WARNINGS_MAX => Err(TlsError::TooMany),
            [WARNING, USER_CANCELED] => {
                self.warnings += 1;
                self.empty_records()
            }
            [WARNING, _] => Err(TlsError::Malformed),
            [_, _] => Err(TlsError::AlertReceived),
            _ => Err(TlsError::Malformed),
        }
    }

    /// Takes a part of a handshake message, which can only be a key update (section 4.6): tickets
    /// are for clients, and no client was asked for a certificate.
    fn take_handshake(&mut self, content: &[u8]) -> Result<OpenedRecord, TlsError> {
        // Sections 5.1 and 5.4: none may be empty.
        if content.is_empty() {
            return Err(TlsError::UnexpectedMessage);
        }
        let mut asked = 0;
        for byte in content {
            match KEY_UPDATE.get(self.begun) {
                Some(expected) if byte == expected => {}
                Some(_) if self.begun == 0 => return Err(TlsError::UnexpectedMessage),
                // Section 6: what cannot be parsed, such as another length, is a decode_error.
                Some(_) => return Err(TlsError::Malformed),
                None if self.begun == KEY_UPDATE.len() => asked = *byte,
                // Section 5.1: what follows a message that changes the keys has the new ones.
                None => return Err(TlsError::UnexpectedMessage),
            }
            self.begun += 1;
        }
        if self.begun <= KEY_UPDATE.len() {
            return self.empty_records();
        }
        self.begun = 0;
        self.take_key_update(asked)
    }

    /// Section 4.6.3.
    fn take_key_update(&mut self, asked: u8) -> Result<OpenedRecord, TlsError> {
        match asked {
            0 => {}
            // Asked again before we have written anything, one update answers all.
            1 => self.update_due = true,
            _ => return Err(TlsError::IllegalParameter),
        }
        self.read.update()?;
        self.empty_records()
    }

    /// Encrypts `data` behind what `out` holds.
    ///
    /// # Errors
    /// Where the cryptography fails; what `out` holds then must not be sent.
    pub(crate) fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        for content in data.chunks(PLAIN_MAX) {
            self.keep_keys_fresh(out)?;
            Self::seal_one(&mut self.write, kind::DATA, content, out)?;
        }
        Ok(())
    }

    /// Encrypts the alert for `fault` behind what `out` holds; nothing where there is none.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub(crate) fn alert(&mut self, fault: TlsError, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let Some(description) = fault.alert() else { return Ok(()) };
        self.keep_keys_fresh(out)?;
        Self::seal_one(&mut self.write, kind::ALERT, &[FATAL, description], out)
    }

    /// Encrypts our close_notify behind what `out` holds.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub(crate) fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.keep_keys_fresh(out)?;
        Self::seal_one(&mut self.write, kind::ALERT, &[WARNING, CLOSE_NOTIFY], out)
    }

    /// Changes our keys where the peer has asked for it (section 4.6.3), or where they have
    /// encrypted as many records as they may (section 5.5). The message that says so is the last
    /// under the old ones.
    #[inline]
    fn keep_keys_fresh(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.update_due || self.write.is_used_up() { self.change_keys(out) } else { Ok(()) }
    }

    #[cold]
    fn change_keys(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        let [first, .., last] = KEY_UPDATE;
        let message = [first, 0, 0, last, 0];
        Self::seal_one(&mut self.write, kind::HANDSHAKE, &message, out)?;
        self.update_due = false;
        self.write.update()
    }

    /// One record of `content`, of [`PLAIN_MAX`] bytes at the most.
    #[inline]
    fn seal_one(
        write: &mut Direction,
        kind: u8,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let length = u16::try_from(content.len() + 1 + TAG).map_err(|_| TlsError::Internal)?;
        let [high, low] = length.to_be_bytes();
        // Section 5.2: it says application data of TLS 1.2, whatever it is.
        let header = [kind::DATA, 3, 3, high, low];
        out.reserve(HEADER + content.len() + 1 + TAG);
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(content);
        out.push(kind);
        let plain = out.get_mut(start..).ok_or(TlsError::Internal)?;
        let tag = write.seal(header, plain)?;
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// As a peer may do it that breaks the rules: one record with `inner`, which is content, type
    /// and padding, behind what `out` holds. For fuzzing.
    pub(crate) fn forge(&mut self, inner: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.forge_with([3, 3], inner, out)
    }

    /// The same with another version in the header.
    pub(crate) fn forge_with(
        &mut self,
        [major, minor]: [u8; 2],
        inner: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let length = u16::try_from(inner.len() + TAG).map_err(|_| TlsError::Internal)?;
        let [high, low] = length.to_be_bytes();
        let header = [kind::DATA, major, minor, high, low];
        let mut inner = inner.to_vec();
        let tag = self.write.seal(header, &mut inner)?;
        for part in [&header[..], &inner, &tag] {
            out.extend_from_slice(part);
        }
        Ok(())
    }

    /// As after a key update that was [forged](Self::forge).
    pub(crate) fn forge_keys(&mut self) -> Result<(), TlsError> {
        self.write.update()
    }

    /// What is in a whole `record`, type and padding included, whatever it is; `None` where the key
    /// does not open it. For fuzzing.
    pub(crate) fn uncover<'a>(&mut self, record: &'a mut [u8]) -> Option<&'a [u8]> {
        let (header, sealed) = record.split_first_chunk_mut::<HEADER>()?;
        let length = self.read.open(*header, sealed).ok()?;
        sealed.get(..length)
    }

    /// As after a key update that was [uncovered](Self::uncover).
    pub(crate) fn uncover_keys(&mut self) -> Result<(), TlsError> {
        self.read.update()
    }

    /// As after so many records that our keys must be changed.
    #[cfg(test)]
    pub(crate) fn use_up(&mut self) {
        self.write.use_up();
    }
}
