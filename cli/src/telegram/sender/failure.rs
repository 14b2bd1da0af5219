//! Why there is no answer.

use std::{fmt, io, time::Duration};

use rustls::CertificateError;

/// Why there is no answer. The text is one line, without secrets.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server's certificate is none that the sender takes, and why.
    Certificate(String),
    /// The server has closed the connection meanwhile, without a word, as one does that turns a
    /// peer away.
    Closed(Phase),
    /// The system says why not.
    Io(Phase, io::Error),
    /// What came is not HTTP at all.
    NotHttp(String),
    /// What came is no answer that the sender understands.
    Odd(String),
    /// Nothing came for this long.
    TimedOut(Phase, Duration),
    /// TLS has failed for another reason than the certificate.
    Tls(String),
    /// No trusted authority has signed the server's certificate.
    Untrusted,
}

/// What was being done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Sending a request and waiting for its answer.
    Answer,
    /// Connecting.
    Connect,
    /// The TLS handshake.
    Handshake,
}

impl Failure {
    /// An error of TLS itself, during the handshake or later.
    pub(super) fn tls(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(why)) => {
                Self::Certificate(why.to_string())
            }
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Self::Untrusted,
            rustls::Error::InvalidCertificate(why) => Self::Certificate(why.to_string()),
            other => Self::Tls(other.to_string()),
        }
    }

    /// An error of the system; `limit` is how long it could have taken.
    pub(super) fn io(phase: Phase, error: io::Error, limit: Duration) -> Self {
        match error.kind() {
            // A read with a timeout ends so.
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut(phase, limit),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed(phase),
            _ => Self::Io(phase, error),
        }
    }

    /// True where the server has ended the connection before it said anything: on a connection that
    /// was used before, a sender tries again on a new one.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Closed(Phase::Answer))
    }

    /// True where the connection was refused.
    pub(crate) fn is_refused(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let Self::Io(Phase::Connect, error) = self else { return false };
        matches!(error.kind(), ConnectionRefused | NotFound)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(why) => write!(f, "the server's certificate is refused: {why}"),
            Self::Closed(phase) => write!(f, "the server has closed the connection ({phase})"),
            Self::Io(phase, error) => write!(f, "{error} ({phase})"),
            Self::NotHttp(why) => write!(f, "the answer is no HTTP/1.1 ({why})"),
            Self::Odd(what) => write!(f, "the answer is none for Telegram: {what}"),
            Self::TimedOut(phase, limit) => {
                write!(f, "nothing for {} ({phase})", humantime::format_duration(*limit))
            }
            Self::Tls(why) => write!(f, "TLS has failed: {why}"),
            Self::Untrusted => {
                f.write_str("no trusted authority has signed the server's certificate")
            }
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "while its answer was awaited",
            Self::Connect => "while connecting",
            Self::Handshake => "during the TLS handshake",
        })
    }
}
