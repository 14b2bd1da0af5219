//! Why a handshake failed, in fixed words.

use std::io;

use rustls::{Error, PeerIncompatible};

use super::records::TlsError;

/// The words for `error`, which hold nothing that came from the peer.
pub(crate) fn words(error: &io::Error) -> &'static str {
    if let Some(fault) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return fault.words();
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(_)) => "alert from the peer",
        Some(Error::InvalidMessage(_)) => "no TLS",
        Some(Error::PeerIncompatible(why)) => match why {
            PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common",
            PeerIncompatible::NoKxGroupsInCommon => "no key exchange in common",
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => "no version in common",
            _ => "nothing in common",
        },
        Some(Error::PeerMisbehaved(_)) => "against the protocol",
        Some(Error::DecryptError) => "cannot be decrypted",
        Some(_) => "TLS error",
        None if error.kind() == io::ErrorKind::UnexpectedEof => "closed by the peer",
        None => "connection lost",
    }
}
