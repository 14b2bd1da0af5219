//! A secret token: held, compared and validated, never shown.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::error::Error;

/// Longest secret token the Bot API takes, in characters (setWebhook, `secret_token`).
pub const SECRET_TOKEN_MAX: usize = 256;

/// The value a bot's requests must carry in `X-Telegram-Bot-Api-Secret-Token`.
///
/// Its `Debug` form hides the value.
#[derive(Clone)]
pub struct SecretToken(Box<str>);

impl SecretToken {
    /// Takes `token` if setWebhook would: 1 to 256 characters of `A-Z a-z 0-9 _ -`.
    ///
    /// # Errors
    /// A [`Config`](crate::ErrorKind::Config) error that names `key` but not the token.
    pub fn new(token: &str, key: &str) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if token.is_empty() || token.len() > SECRET_TOKEN_MAX || !token.bytes().all(allowed) {
            return Err(Error::config(key, "(hidden)", "1 to 256 characters of A-Z a-z 0-9 _ -"));
        }
        Ok(Self(token.into()))
    }

    /// Compares in a time that depends on the lengths only.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn accepts_what_set_webhook_accepts() {
        assert!(SecretToken::new("a", "t").is_ok());
        assert!(SecretToken::new(&"x-_9".repeat(64), "t").is_ok());
        for bad in ["", "a b", "ä", "a\n", &"x".repeat(257)] {
            assert!(SecretToken::new(bad, "t").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn compares_whole_values() {
        let token = SecretToken::new("abc", "t").unwrap();
        assert!(token.matches(b"abc"));
        for other in [&b"ab"[..], b"abcd", b"abd", b"", b"ABC"] {
            assert!(!token.matches(other));
        }
    }

    #[test]
    fn never_shows_the_value() {
        let token = SecretToken::new("hunter2", "t").unwrap();
        assert!(!format!("{token:?}").contains("hunter2"));
        let error = SecretToken::new("hunter 2", "bot.secret_token").unwrap_err().to_string();
        assert!(error.contains("bot.secret_token") && !error.contains("hunter"));
    }
}
