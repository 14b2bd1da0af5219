//! The settings of the admin listener.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::value::socket_address;
use crate::error::Error;

/// The listener for probes and operators, and how many incidents it can show.
///
/// It speaks plain HTTP without any credentials: `/healthz`, `/readyz`, and `/incidents` and
/// `/requests`, which show the addresses of peers. Nothing of it is ever served on the public port.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Incidents that are kept by each thread that meets any, and shown in all; 1,024. 0 keeps
    /// none. One takes up to 256 bytes.
    pub incidents: usize,
    /// Where to listen. Without it there is no such listener. Port 0 takes any free one.
    #[serde(with = "socket_address")]
    pub listen: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { incidents: 1024, listen: None }
    }
}

impl Admin {
    /// A bound against typing errors.
    const INCIDENTS_MAX: usize = 65_536;

    /// A listener on `address`.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { listen: Some(address), ..Self::default() }
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.incidents > Self::INCIDENTS_MAX {
            let expected = format!("0 to {}", Self::INCIDENTS_MAX);
            return Err(Error::config("admin.incidents", self.incidents, &expected));
        }
        Ok(())
    }
}
