//! One bot of a server: where its updates arrive and which credentials they must carry.

use std::{fmt, time::SystemTime};

use super::{BasicAuth, SecretToken};
use crate::{
    config::AllowList,
    error::Error,
    redact::{Shown, hide_tokens},
};

/// Longest name, in bytes: it is in log lines and in the heads of the journal's files.
const NAME_MAX: usize = 128;

/// One bot: where its updates arrive and what they must carry.
#[derive(Clone)]
#[non_exhaustive]
pub struct Bot {
    /// The addresses that may send its updates; `None` is every peer that may connect. A request
    /// from elsewhere is answered 403. A peer on a Unix socket has no address and may: the file's
    /// permissions guard it.
    pub allow: Option<AllowList>,
    /// What `Authorization` must hold, for a webhook URL like `https://user:password@host/path`;
    /// beside the secret token where both are given.
    pub basic_auth: Option<BasicAuth>,
    /// The host of its webhook URL, such as `bot.example.com`, or `*.example.com` for every name
    /// with one label more; `None` for any. Case does not matter, the port is not looked at.
    pub host: Option<String>,
    /// Its name in logs, reports and metrics.
    pub name: String,
    /// The path of its webhook URL, such as `/webhook`; compared byte for byte.
    pub path: String,
    /// The secret token before this one, for as long as it is still taken.
    pub previous_token: Option<PreviousToken>,
    /// What `X-Telegram-Bot-Api-Secret-Token` must hold. Where this and `basic_auth` are `None`,
    /// every request is accepted.
    pub secret_token: Option<SecretToken>,
}

/// A secret token that is being replaced. setWebhook and the config cannot change at the same
/// moment, and what Telegram has sent before carries the old one.
#[derive(Clone, Debug)]
pub struct PreviousToken {
    /// The old token.
    pub token: SecretToken,
    /// The time from which on it is refused.
    pub until: SystemTime,
}

impl Bot {
    /// A bot whose updates arrive at `path` with `secret_token`.
    ///
    /// # Errors
    /// Where the token is none that setWebhook would take.
    pub fn new(name: &str, path: &str, secret_token: &str) -> Result<Self, Error> {
        let secret_token = Some(SecretToken::new(secret_token, "bot.secret_token")?);
        Ok(Self { secret_token, ..Self::without_secret(name, path) })
    }

    /// A bot whose updates arrive at `path` without any credentials.
    #[must_use]
    pub fn without_secret(name: &str, path: &str) -> Self {
        Self {
            allow: None,
            basic_auth: None,
            host: None,
            name: name.into(),
            path: path.into(),
            previous_token: None,
            secret_token: None,
        }
    }

    /// True where a request could be for both by its host.
    pub(super) fn has_host_of(&self, other: &Self) -> bool {
        let lower = |host: &Option<String>| host.as_ref().map(|host| host.to_ascii_lowercase());
        lower(&self.host) == lower(&other.host)
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        // The name is in the log, in reports and in the journal's files.
        if hide_tokens(&self.name) != self.name {
            return Err(Error::config("bot.name", "(hidden)", "a name without a bot's token"));
        }
        let is_good = (1..=NAME_MAX).contains(&self.name.len());
        if !is_good || self.name.chars().any(char::is_control) {
            let shown: String = self.name.chars().take(NAME_MAX).collect();
            let expected = format!("a printable name of at most {NAME_MAX} bytes");
            return Err(Error::config("bot.name", format!("{shown:?}"), &expected));
        }
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%\\\"<>[]^`{|}".contains(&byte);
        let dotted = self.path.split('/').any(|segment| segment == "." || segment == "..");
        if !self.path.starts_with('/') || !self.path.bytes().all(plain) || dotted {
            let expected =
                "a path such as /webhook: begins with /, no query, escapes or dot segments";
            return Err(Error::config("bot.path", format!("{:?}", self.path), expected));
        }
        if let Some(host) = self.host.as_deref().filter(|host| !is_host(host)) {
            let expected =
                "a name such as bot.example.com or *.example.com, or an address, no port";
            return Err(Error::config("bot.host", format!("{host:?}"), expected));
        }
        if self.previous_token.is_some() && self.secret_token.is_none() {
            let expected = "bot.secret_token beside it";
            return Err(Error::config("bot.previous_secret_token", "(hidden)", expected));
        }
        Ok(())
    }
}

/// The path without a bot's token, which operators put into it.
impl fmt::Debug for Bot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allow, basic_auth, host, name, path, previous_token, secret_token } = self;
        f.debug_struct("Bot")
            .field("allow", allow)
            .field("basic_auth", basic_auth)
            .field("host", host)
            .field("name", &Shown(name))
            .field("path", &Shown(path))
            .field("previous_token", previous_token)
            .field("secret_token", secret_token)
            .finish()
    }
}

/// True for a name of labels, the first of which may be `*`, and for an address as it stands in a
/// URL.
fn is_host(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = inside {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    let name = host.strip_prefix("*.").unwrap_or(host);
    host.len() <= 253 && name.split('.').all(is_label)
}
