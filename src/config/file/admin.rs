//! `[admin]` as typed.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, de};

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

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| {
        de::Error::custom(format!("{text:?} is no address, expected one like \"127.0.0.1:9464\""))
    })
}
