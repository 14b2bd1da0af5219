//! The bots whose updates are forwarded: what a target and the Bot API have to be told of them.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::HeaderValue;
use ringhook::{Error, ErrorKind, update::BotId};
use subtle::ConstantTimeEq as _;

use super::Target;

/// Where webhook replies go unless a bot says otherwise.
pub(crate) const API_ROOT: &str = "https://api.telegram.org";
/// The longest secret token of a webhook, in bytes.
const SECRET_MAX: usize = 256;

/// One bot: its name, what its requests carry, and with which token its webhook replies are made.
///
/// `Debug` shows whether there are a secret and a token, not which.
#[derive(Clone)]
#[must_use]
pub struct BotTerms {
    pub(crate) name: String,
    pub(crate) id: BotId,
    pub(crate) secret: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) api_root: Option<Target>,
}

impl BotTerms {
    /// A bot without a secret and without a token: its requests have no
    /// `X-Telegram-Bot-Api-Secret-Token`, and its webhook replies are dropped and counted.
    pub fn new(name: impl Into<String>, id: BotId) -> Self {
        Self { name: name.into(), id, secret: None, token: None, api_root: None }
    }

    /// The secret token that requests carry: 1 to 256 of A-Z, a-z, 0-9, `_` and `-`.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// The bot's token at the Bot API, such as `123456:AA..`.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The server of the Bot API, `https://api.telegram.org` by default.
    pub fn api_root(mut self, root: Target) -> Self {
        self.api_root = Some(root);
        self
    }
}

impl BotTerms {
    /// Whether it has a token.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

impl fmt::Debug for BotTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BotTerms")
            .field("name", &self.name)
            .field("id", &self.id)
            .field("has_secret", &self.secret.is_some())
            .field("has_token", &self.token.is_some())
            .field("api_root", &self.api_root)
            .finish()
    }
}

/// A bot whose terms have been checked.
pub(crate) struct CheckedTerms {
    pub(crate) name: String,
    /// Marked as sensitive, so that no `Debug` shows it.
    pub(crate) secret: Option<HeaderValue>,
    pub(crate) api: Option<Api>,
}

/// How a bot's methods are called.
pub(crate) struct Api {
    pub(crate) root: Target,
    token: String,
}

impl Api {
    /// Behind the root: which method of which bot.
    pub(crate) fn path(&self, method: &str) -> String {
        format!("bot{}/{method}", self.token)
    }

    /// The same for a file of the bot.
    pub(crate) fn file_path(&self, file: &str) -> String {
        format!("file/bot{}/{file}", self.token)
    }

    /// Whether this is its token. How long it takes tells nothing of the secret behind the number.
    fn has_token(&self, token: &str) -> bool {
        let number = |token: &str| token.split_once(':').map(|(number, _)| number.to_owned());
        number(&self.token) == number(token)
            && bool::from(self.token.as_bytes().ct_eq(token.as_bytes()))
    }
}

/// All bots; they may be replaced while updates are forwarded.
#[derive(Default)]
pub(crate) struct Bots(Mutex<HashMap<BotId, Arc<CheckedTerms>>>);

impl Bots {
    pub(crate) fn get(&self, id: BotId) -> Option<Arc<CheckedTerms>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The bot with this token.
    pub(crate) fn with_token(&self, token: &str) -> Option<(BotId, Arc<CheckedTerms>)> {
        let bots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |terms: &CheckedTerms| terms.api.as_ref().is_some_and(|api| api.has_token(token));
        bots.iter().find(|(_, terms)| has(terms)).map(|(id, terms)| (*id, Arc::clone(terms)))
    }

    /// Replaces all of them.
    ///
    /// # Errors
    /// A setting is wrong; then nothing has changed.
    pub(crate) fn set(&self, bots: Vec<BotTerms>) -> Result<(), Error> {
        let default_root: Target = API_ROOT.parse()?;
        let mut names = HashSet::new();
        let mut checked = HashMap::new();
        for terms in bots {
            let (name, id) = (terms.name.clone(), terms.id);
            let terms = CheckedTerms::new(terms, &default_root)?;
            if !names.insert(name.clone()) || checked.insert(id, Arc::new(terms)).is_some() {
                return Err(wrong(&name, "expected one bot of each name and number"));
            }
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = checked;
        Ok(())
    }
}

impl CheckedTerms {
    fn new(terms: BotTerms, default_root: &Target) -> Result<Self, Error> {
        let BotTerms { name, secret, token, api_root, .. } = terms;
        let secret = match secret {
            Some(secret) => Some(secret_header(&secret).ok_or_else(|| {
                let expected = "secret: expected 1 to 256 of A-Z, a-z, 0-9, _ and -";
                wrong(&name, expected)
            })?),
            None => None,
        };
        let root = api_root.unwrap_or_else(|| default_root.clone());
        if root.has_query() {
            return Err(wrong(&name, "api_root: expected a URL without a query"));
        }
        if let Some(token) = &token
            && !is_token(token)
        {
            return Err(wrong(&name, "token: expected one such as 123456:AA.."));
        }
        Ok(Self { name, secret, api: token.map(|token| Api { root, token }) })
    }
}

fn wrong(bot: &str, what: &str) -> Error {
    Error::new(ErrorKind::Config, format!("bot {bot}: {what}"))
}

fn secret_header(secret: &str) -> Option<HeaderValue> {
    let is_secret = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if secret.is_empty() || secret.len() > SECRET_MAX || !secret.bytes().all(is_secret) {
        return None;
    }
    let mut value = HeaderValue::from_str(secret).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// True for a number, a colon and a secret. A test server's token may be shorter than Telegram's.
fn is_token(token: &str) -> bool {
    token.split_once(':').is_some_and(|(number, secret)| {
        let is_secret = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && !secret.is_empty()
            && secret.bytes().all(is_secret)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn wrong_terms_are_refused_and_change_nothing() {
        let bots = Bots::default();
        let shop = || BotTerms::new("shop", BotId::new(0)).secret("s3cret_-");
        bots.set(vec![shop().token("1:AA")]).unwrap();
        let with_query = "http://api/?x".parse().unwrap();
        for (wrong, expected) in [
            (vec![shop().secret("")], "bot shop: secret: expected 1 to 256"),
            (vec![shop().secret("s\r\n")], "bot shop: secret: expected 1 to 256"),
            (vec![shop().token("AAbbcc/x")], "bot shop: token: expected"),
            (vec![shop().api_root(with_query)], "bot shop: api_root: expected"),
            (vec![shop(), shop()], "bot shop: expected one bot"),
        ] {
            let error = bots.set(wrong).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("AAbbcc"), "{error}");
        }
        assert!(bots.get(BotId::new(0)).unwrap().api.is_some());
        assert!(bots.get(BotId::new(1)).is_none());
    }

    #[test]
    fn neither_secret_nor_token_is_shown() {
        let terms = BotTerms::new("shop", BotId::new(0)).secret("s3cret").token("1:AAbb");
        let shown = format!("{terms:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("AAbb"), "{shown}");
        let checked = CheckedTerms::new(terms, &API_ROOT.parse().unwrap()).unwrap();
        assert!(!format!("{:?}", checked.secret).contains("s3cret"));
        assert_eq!(checked.api.unwrap().path("sendMessage"), "bot1:AAbb/sendMessage");
    }
}
