//! `[[listener]]`: further places to listen.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use ringhook::{AllowList, Error, ListenAddress, Listener};

/// A place to listen, and on which terms. There may be any number of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerSection {
    /// Where: `IP:PORT`, `unix:PATH`, or `fd:NAME` for a socket that systemd passes.
    pub(crate) address: ListenAddress,
    /// Whether connections speak TLS. Without it they do.
    pub(crate) tls: Option<bool>,
    /// Who may connect, instead of `server.allow`.
    pub(crate) allow: Option<Vec<String>>,
    /// The balancers that send a PROXY header, version 1 or 2. Without it no header is taken.
    pub(crate) proxy_protocol: Option<Vec<String>>,
    /// Permissions of a Unix socket's file, in octal. Without it `0660`.
    pub(crate) mode: Option<Mode>,
}

impl ListenerSection {
    pub(super) fn to_listener(&self) -> Result<Listener, Error> {
        let list = |key: &str, entries: &Option<Vec<String>>| {
            entries.as_ref().map(|entries| AllowList::of_key(key, entries)).transpose()
        };
        let mut listener = Listener::new(self.address.clone());
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
