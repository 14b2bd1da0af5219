//! `[[listener]]` as typed.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::super::{ListenAddress, Listener};
use crate::{config::AllowList, error::Error};

/// `[[listener]]`: a place to listen, and on which terms.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerSection {
    pub(crate) address: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proxy_protocol: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<Mode>,
}

impl ListenerSection {
    pub(super) fn to_listener(&self) -> Result<Listener, Error> {
        let list = |key: &str, entries: &Option<Vec<String>>| {
            entries.as_ref().map(|entries| AllowList::of_key(key, entries)).transpose()
        };
        let mut listener = Listener::new(self.address.0.clone());
        listener.allow = list("listener.allow", &self.allow)?;
        listener.proxy_protocol = list("listener.proxy_protocol", &self.proxy_protocol)?;
        listener.tls = self.tls.unwrap_or(listener.tls);
        if let Some(Mode(mode)) = self.mode {
            if !matches!(listener.address, ListenAddress::Unix(_)) {
                let expected = "none: only the file of a Unix socket has one";
                return Err(Error::config("listener.mode", format!("\"{mode:04o}\""), expected));
            }
            listener.mode = mode;
        }
        Ok(listener)
    }

    /// This section with every value written out.
    pub(super) fn effective(mut self, listener: &Listener) -> Self {
        self.tls = Some(listener.tls);
        if matches!(listener.address, ListenAddress::Unix(_)) {
            self.mode = Some(Mode(listener.mode));
        }
        self
    }
}

/// An address as typed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address(pub(crate) ListenAddress);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            let expected = "expected one like \"127.0.0.1:8443\", \"unix:/run/hook.sock\" or \
                            \"fd:NAME\"";
            de::Error::custom(format!("{text:?} is no address, {expected}"))
        })
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Permissions in octal, as `chmod` takes them. A string: TOML's own numbers would be decimal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode(pub(crate) u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let mode = is_octal.then(|| u32::from_str_radix(&text, 8).ok()).flatten();
        mode.filter(|mode| *mode <= 0o777).map(Self).ok_or_else(|| {
            de::Error::custom(format!("{text:?} are no permissions, expected some like \"0660\""))
        })
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}
