//! TLS over a socket.
//!
//! | file | what is in it |
//! |---|---|
//! | `session` | the handshake |
//! | `stream` | the records of TLS 1.3 |
//! | `tls12` | TLS 1.2, and TLS 1.3 where the keys are not ours |

mod session;
mod stream;
mod tls12;

pub(crate) use self::session::{Established, HandshakeStep, Stream, accept, close};
