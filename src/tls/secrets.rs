//! The traffic secrets of a handshake, from rustls to [`super::records`].
//!
//! rustls gives keys, but not what the next ones are derived from. It does pass that to a `KeyLog`,
//! on the thread and within the call that reads the client's hello. The caller of that takes the
//! secrets right after it, so that no other handshake's can come between. [`Direction::new`] checks
//! that they belong to the keys.
//!
//! `KernelConnection` would make the next keys, but rustls 0.23.46 makes one of its unbuffered
//! connections only (`UnbufferedServerConnection::dangerous_into_kernel_connection`).
//!
//! [`Direction::new`]: super::records::Direction::new

use std::cell::RefCell;

use rustls::KeyLog;

use super::records::Secret;

thread_local! {
    static CAUGHT: RefCell<Secrets> = RefCell::default();
}

/// What the first keys of both directions are made of; wiped when dropped.
#[derive(Default)]
pub(crate) struct Secrets {
    pub(crate) client: Option<Secret>,
    pub(crate) server: Option<Secret>,
}

impl Secrets {
    /// Those that came up on this thread since this was called last.
    pub(crate) fn take() -> Self {
        CAUGHT.take()
    }

    /// Adds what has come up since.
    pub(crate) fn or(self, later: Self) -> Self {
        Self { client: later.client.or(self.client), server: later.server.or(self.server) }
    }
}

/// Logs nothing: it keeps them for [`Secrets::take`].
#[derive(Debug)]
pub(crate) struct Catch;

impl KeyLog for Catch {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let secret = Secret::new(secret);
        CAUGHT.with_borrow_mut(|caught| match label {
            "CLIENT_TRAFFIC_SECRET_0" => caught.client = secret,
            "SERVER_TRAFFIC_SECRET_0" => caught.server = secret,
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0")
    }
}
