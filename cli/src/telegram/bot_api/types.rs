//! What the calls take and give.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

/// The result of getMe, as far as it is of use here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Me {
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) username: Option<String>,
    #[serde(default)]
    pub(crate) first_name: String,
}

/// The parameters of setWebhook.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetWebhook {
    pub(crate) url: String,
    /// PEM, to be uploaded; at most 3 MiB.
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) ip_address: Option<IpAddr>,
    pub(crate) max_connections: Option<u32>,
    /// `None` leaves what was set before; an empty list means Telegram's default.
    pub(crate) allowed_updates: Option<Vec<String>>,
    pub(crate) drop_pending_updates: bool,
    pub(crate) secret_token: Option<String>,
}

/// The result of getWebhookInfo: all of its fields.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct WebhookInfo {
    /// Empty where no webhook is set.
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) has_custom_certificate: bool,
    #[serde(default, deserialize_with = "count")]
    pub(crate) pending_update_count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip_address: Option<String>,
    /// Seconds since 1970. A success never clears it, only setWebhook and deleteWebhook do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error_date: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_synchronization_error_date: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_connections: Option<u32>,
    /// Not there where it is Telegram's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) allowed_updates: Option<Vec<String>>,
}

/// Less than nothing is nothing: an odd number must not make the rest unreadable.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    i64::deserialize(deserializer).map(|count| u64::try_from(count).unwrap_or(0))
}

/// One update of getUpdates, byte for byte as it came; it may be no JSON.
#[derive(Clone, Debug)]
pub(crate) struct RawUpdate {
    /// `update_id`.
    pub(crate) id: i64,
    pub(crate) json: Vec<u8>,
}

impl AsRef<[u8]> for RawUpdate {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}
