//! A secret token: held, compared and validated, never shown.

use std::{fmt, hint::black_box};

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
        are_equal(self.0.as_bytes(), presented)
    }
}

impl SecretToken {
    /// The token itself, for a caller that has to present it.
    #[doc(hidden)]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken(hidden)")
    }
}

/// What a bot's requests must carry in `Authorization`: user and password of the webhook's URL, by
/// the Basic scheme (RFC 7617).
///
/// Its `Debug` form hides the value.
#[derive(Clone)]
pub struct BasicAuth(Box<str>);

impl BasicAuth {
    /// Takes `user:password`: the user without a colon, neither with control characters.
    ///
    /// # Errors
    /// A [`Config`](crate::ErrorKind::Config) error that names `key` but neither of them.
    pub fn new(credentials: &str, key: &str) -> Result<Self, Error> {
        let is_good = credentials.contains(':') && !credentials.chars().any(char::is_control);
        if !is_good {
            return Err(Error::config(key, "(hidden)", "user:password"));
        }
        Ok(Self(base64(credentials.as_bytes()).into()))
    }

    /// Compares with the value of `Authorization`, in a time that depends on the lengths only.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        let Some((scheme, value)) = presented.split_at_checked("Basic ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Basic ")
            && are_equal(self.0.as_bytes(), value.trim_ascii_start())
    }
}

impl BasicAuth {
    /// The value of `Authorization`, for a caller that has to present it.
    #[doc(hidden)]
    pub fn reveal(&self) -> String {
        format!("Basic {}", self.0)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        are_equal(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicAuth(hidden)")
    }
}

/// Compares in a time that depends on the lengths only, eight bytes at a time: it is done for each
/// request.
fn are_equal(expected: &[u8], presented: &[u8]) -> bool {
    if expected.len() != presented.len() {
        return false;
    }
    let (words, rest) = expected.as_chunks::<8>();
    let (other_words, other_rest) = presented.as_chunks::<8>();
    let mut difference = 0;
    for (word, other) in words.iter().zip(other_words) {
        // The compiler must not learn the result here, or it could leave the loop early.
        difference =
            black_box(difference | (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(*other)));
    }
    for (byte, other) in rest.iter().zip(other_rest) {
        difference = black_box(difference | u64::from(byte ^ other));
    }
    difference.ct_eq(&0).into()
}

/// Base64 with padding (RFC 4648 section 4). Encoding what is expected and comparing that is less
/// than decoding what a peer has sent.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place)) as usize % 64);
            let is_padding = place > chunk.len();
            text.push(if is_padding { '=' } else { digit.copied().map_or('=', char::from) });
        }
    }
    text
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
    fn every_bit_of_every_length_counts() {
        for length in 0..40 {
            let expected: Vec<u8> = (0..length).collect();
            assert!(are_equal(&expected, &expected.clone()));
            for bit in 0..8 * expected.len() {
                let mut other = expected.clone();
                if let Some(byte) = other.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                assert!(!are_equal(&expected, &other), "bit {bit} of {length} bytes");
            }
            let longer = [&*expected, &[0]].concat();
            assert!(!are_equal(&expected, &longer) && !are_equal(&longer, &expected));
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

    #[test]
    fn basic_auth_is_what_a_client_sends() {
        // RFC 7617 section 2, and section 2.1 for UTF-8.
        let auth = BasicAuth::new("Aladdin:open sesame", "k").unwrap();
        for good in ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ=="] {
            assert!(auth.matches(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "QWxhZGRpbg==",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== x",
        ] {
            assert!(!auth.matches(bad.as_bytes()), "{bad}");
        }
        assert!(BasicAuth::new("test:123\u{a3}", "k").unwrap().matches(b"Basic dGVzdDoxMjPCow=="));
        // RFC 4648 section 10.
        let vectors = [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (bytes, text) in vectors {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        for bad in ["", "no colon", "a:b\n"] {
            let error = BasicAuth::new(bad, "bot.basic_auth").unwrap_err().to_string();
            assert_eq!(error, "bot.basic_auth = (hidden): expected user:password");
        }
        assert_eq!(format!("{auth:?}"), "BasicAuth(hidden)");
    }
}
