//! Where a broker is.

use std::{fmt, str::FromStr};

use ringhook::{Error, Sink};

use super::BrokerSettings;
#[cfg(feature = "postgres")]
use super::postgres::{self, PostgresAddress};
#[cfg(feature = "redis")]
use super::redis::{self, RedisAddress};

/// The schemes, each with the feature that it needs.
const SCHEMES: [(&str, &str); 5] = [
    ("postgres://", "postgres"),
    ("postgresql://", "postgres"),
    ("redis://", "redis"),
    ("rediss://", "redis"),
    ("redis+unix:", "redis"),
];

/// A broker's URL, which has no password in it.
///
/// ```
/// # #[cfg(feature = "redis")] {
/// use ringhook_outputs::broker::BrokerUrl;
///
/// let url: BrokerUrl = "redis://ringhook@127.0.0.1:6379/2".parse()?;
/// assert_eq!(url.to_string(), "redis://ringhook@127.0.0.1:6379/2");
/// # }
/// # Ok::<(), ringhook::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BrokerUrl {
    place: Place,
    text: String,
}

/// How it is reached.
#[derive(Clone, Debug)]
enum Place {
    #[cfg(feature = "postgres")]
    Postgres(PostgresAddress),
    #[cfg(feature = "redis")]
    Redis(RedisAddress),
}

impl BrokerUrl {
    /// What there is, for messages.
    pub const EXPECTED: &str = "postgres://, redis://, rediss:// or redis+unix:";

    /// True where `text` begins as the URL of a broker, whether it is a good one or not.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        SCHEMES.iter().any(|(scheme, _)| text.starts_with(scheme))
    }

    /// The destination there. Nothing is connected yet: a broker may be down.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn open(&self, settings: BrokerSettings) -> Result<Box<dyn Sink>, Error> {
        settings.validate()?;
        match self.place {
            #[cfg(feature = "postgres")]
            Place::Postgres(ref address) => postgres::open(address, settings),
            #[cfg(feature = "redis")]
            Place::Redis(ref address) => redis::open(address, settings),
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |shown: &str, expected: &str| Error::config("output.to", shown, expected);
        let Some((scheme, feature)) = SCHEMES.iter().find(|(it, _)| text.starts_with(it)) else {
            return Err(wrong("(another scheme)", Self::EXPECTED));
        };
        let authority = text.get(scheme.len()..).unwrap_or_default();
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let userinfo = authority.rsplit_once('@').map_or("", |(userinfo, _)| userinfo);
        if userinfo.contains(':') {
            let expected = "a URL without a password: it belongs into output.password_file or \
                            output.password_env";
            return Err(wrong(&format!("{scheme}(hidden)"), expected));
        }
        let place: Option<Result<Place, &str>> = match *feature {
            #[cfg(feature = "postgres")]
            "postgres" => Some(PostgresAddress::parse(text).map(Place::Postgres)),
            #[cfg(feature = "redis")]
            "redis" => Some(RedisAddress::parse(text).map(Place::Redis)),
            _ => None,
        };
        // A query may be meant for a password.
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        let shown = format!("{before}{}", if query.is_empty() { "" } else { "?(hidden)" });
        let place = place.ok_or_else(|| {
            wrong(&shown, &format!("a ringhook that is built with the feature `{feature}`"))
        })?;
        let place = place.map_err(|expected| wrong(&shown, expected))?;
        Ok(Self { place, text: text.to_owned() })
    }
}

/// As typed.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
