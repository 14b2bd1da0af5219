//! `[admin]` as typed.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::address;
use crate::config::Admin;

/// `[admin]`: see [`Admin`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminSection {
    #[serde(default, deserialize_with = "address")]
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) incidents: Option<usize>,
}

impl AdminSection {
    pub(super) fn to_admin(&self) -> Admin {
        let defaults = Admin::default();
        Admin {
            incidents: self.incidents.unwrap_or(defaults.incidents),
            listen: self.listen.or(defaults.listen),
        }
    }

    /// With every value written out.
    pub(super) fn effective(admin: &Admin) -> Self {
        Self { listen: admin.listen, incidents: Some(admin.incidents) }
    }
}
