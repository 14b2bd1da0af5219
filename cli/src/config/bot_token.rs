//! A bot's token: held, never shown.

use std::fmt;

use zeroize::Zeroizing;

use ringhook::{
    Error,
    internals::redact::{HIDDEN, SECRET_MIN, hide_tokens, is_secret},
};

/// What BotFather gives: the bot's id, a colon, and the secret.
#[derive(Clone)]
pub(crate) struct BotToken(Zeroizing<String>);

impl BotToken {
    /// Takes `token` if it looks like one: digits, a colon, and at least 30 characters of
    /// `A-Z a-z 0-9 _ -`.
    ///
    /// # Errors
    /// A [`Config`](ringhook::ErrorKind::Config) error that names `key` but not the token.
    pub(crate) fn new(token: &str, key: &str) -> Result<Self, Error> {
        let is_good = token.split_once(':').is_some_and(|(id, secret)| {
            id.parse::<u64>().is_ok()
                && id.bytes().all(|byte| byte.is_ascii_digit())
                && (SECRET_MIN..=128).contains(&secret.len())
                && secret.bytes().all(is_secret)
        });
        if !is_good {
            let expected = "a bot token as BotFather shows it: digits, a colon, 35 characters";
            return Err(Error::config(key, "(hidden)", expected));
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// The bot's id: the part before the colon, which is no secret.
    pub(crate) fn bot_id(&self) -> u64 {
        self.0.split_once(':').and_then(|(id, _)| id.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with the token hidden, wherever it is in it: as it is, escaped for a URL, or its
    /// secret alone; and with whatever else looks like a token.
    pub(crate) fn redact(&self, text: &str) -> String {
        let secret = self.0.split_once(':').map_or("", |(_, secret)| secret);
        hide_tokens(text).replace(secret, HIDDEN)
    }
}

impl fmt::Debug for BotToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BotToken(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TOKEN: &str = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";

    #[test]
    fn takes_what_looks_like_a_token_and_never_shows_it() {
        let token = BotToken::new(TOKEN, "k").unwrap();
        assert_eq!(token.bot_id(), 123_456);
        assert_eq!(format!("{token:?}"), "BotToken(hidden)");
        let shown = token.redact(&format!("https://a/bot{TOKEN}/getMe: {TOKEN}"));
        assert_eq!(shown, "https://a/bot(hidden)/getMe: (hidden)");
        let (id, secret) = TOKEN.split_once(':').unwrap();
        for form in [format!("{id}%3A{secret}"), format!("{id}%253a{secret}"), secret.to_owned()] {
            assert_eq!(token.redact(&format!("no: /bot{form}/x")), "no: /bot(hidden)/x");
        }
        for bad in [
            "",
            "123456",
            "x:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_",
            "1:short",
            "+1:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_",
        ] {
            let error = BotToken::new(bad, "bot.token").unwrap_err().to_string();
            assert!(error.contains("bot.token") && error.contains("(hidden)"), "{error}");
        }
    }
}
