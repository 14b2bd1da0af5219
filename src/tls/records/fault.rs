//! The faults of a peer's records, and the alert for each.

use std::{error, fmt, io};

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TlsError {
    /// The peer has said that it cannot go on.
    AlertReceived,
    /// A record that its key does not open, or too short to be one.
    BadRecordMac,
    /// The cryptography has failed us, or a key has been used as often as it may be.
    Internal,
    /// rustls has given keys that are not derived from the secrets it has logged.
    KeysDiffer,
    /// A key update that is neither of the two there are, or an alert of an unknown level.
    IllegalParameter,
    /// An alert or a key update that has not its form.
    Malformed,
    /// A record that is longer than any may be.
    RecordOverflow,
    /// One record too many without data, or one warning.
    TooMany,
    /// A record that has no place here.
    UnexpectedMessage,
}

impl TlsError {
    /// The description of the alert for the peer (RFC 8446 section 6); `None` where none is sent.
    pub(crate) const fn alert(self) -> Option<u8> {
        match self {
            Self::AlertReceived => None,
            Self::BadRecordMac => Some(20),
            Self::Internal | Self::KeysDiffer => Some(80),
            Self::IllegalParameter => Some(47),
            Self::Malformed => Some(50),
            Self::RecordOverflow => Some(22),
            Self::TooMany | Self::UnexpectedMessage => Some(10),
        }
    }
}

impl TlsError {
    /// In fixed words, which hold nothing that came from the peer.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::AlertReceived => "alert from the peer",
            Self::BadRecordMac => "a record that cannot be decrypted",
            Self::Internal => "the cryptography has failed",
            Self::KeysDiffer => "keys that do not belong to the handshake",
            Self::IllegalParameter => "a value that TLS does not know",
            Self::Malformed => "a record without its form",
            Self::RecordOverflow => "a record that is too long",
            Self::TooMany => "too many records without data",
            Self::UnexpectedMessage => "a record out of place",
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl error::Error for TlsError {}

impl From<TlsError> for io::Error {
    fn from(fault: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}
