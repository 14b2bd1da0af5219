//! What goes wrong between the sender and a webhook, in Telegram's words.

use std::{fmt, io};

/// Why an update was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Something came back that is no response.
    BadResponse,
    /// The server ended the connection without an answer. Telegram keeps no word of it.
    Closed,
    /// No connection could be made.
    Connect(String),
    /// The connection broke.
    Io(String),
    /// The time for an answer, or for the handshake, ran out.
    ReadTimeout,
    /// An answer other than 2xx.
    Status { status: u16, reason: String },
    /// The handshake or a record failed.
    Tls(String),
    /// The time for sending ran out.
    WriteTimeout,
}

impl Trouble {
    /// An error of a socket.
    pub(crate) fn io(error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => "Connection refused".to_owned(),
            io::ErrorKind::ConnectionReset => "Connection reset by peer".to_owned(),
            io::ErrorKind::TimedOut => "Connection timed out".to_owned(),
            _ => {
                // "No route to host (os error 113)": the number says the same again.
                let text = error.to_string();
                text.split(" (os error").next().unwrap_or_default().to_owned()
            }
        }
    }

    /// An error of TLS.
    pub(crate) fn tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(_) => {
                Self::Tls("error:0A000086:SSL routines::certificate verify failed".to_owned())
            }
            other => Self::Tls(other.to_string()),
        }
    }

    /// What getWebhookInfo would say; none if it leaves no trace there.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Closed => None,
            _ => Some(self.to_string()),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadResponse => f.write_str("Not Implemented"),
            Self::Closed => f.write_str("Connection closed"),
            Self::Connect(reason) | Self::Io(reason) => f.write_str(reason),
            Self::ReadTimeout => f.write_str("Read timeout expired"),
            Self::Status { status, reason } => {
                write!(f, "Wrong response from the webhook: {status} {reason}")
            }
            Self::Tls(reason) => write!(f, "SSL error {{{reason}}}"),
            Self::WriteTimeout => f.write_str("Write timeout expired"),
        }
    }
}
