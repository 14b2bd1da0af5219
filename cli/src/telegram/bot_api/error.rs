//! What can go wrong between us and the Bot API.

use std::{fmt, time::Duration};

use ringhook::{Error, ErrorKind};

/// Why a call did not succeed. Its text is one line, and the token is never in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ApiError {
    /// The answer is not of the Bot API; what it was instead.
    Odd(String),
    /// The Bot API said no.
    Refused {
        /// `error_code`: 400, 401, 404, 409, 429, or 5xx.
        code: u16,
        /// `description`, as it came but for secrets.
        description: String,
        /// `parameters.retry_after`, or the header Retry-After.
        retry_after: Option<Duration>,
    },
    /// There was no answer; why.
    Unreachable(String),
}

impl ApiError {
    /// The same with `change` made to each text of it.
    pub(super) fn map_text(self, change: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Odd(what) => Self::Odd(change(&what)),
            Self::Refused { code, description, retry_after } => {
                Self::Refused { code, description: change(&description), retry_after }
            }
            Self::Unreachable(why) => Self::Unreachable(change(&why)),
        }
    }

    /// The same, where it asks to wait and does not say how long, with what the answer's head says.
    pub(super) fn or_retry_after(self, after: Option<Duration>) -> Self {
        match self {
            Self::Refused { code: 429, description, retry_after: None } => {
                Self::Refused { code: 429, description, retry_after: after }
            }
            other => other,
        }
    }

    /// True where the Bot API itself cannot be had at the moment, so that trying again later may
    /// help.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Odd(_) | Self::Unreachable(_) => true,
            Self::Refused { code, .. } => *code >= 500 || *code == 429,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Odd(what) => {
                write!(
                    f,
                    "the answer is none of the Bot API ({what}): look at the API root and at proxies"
                )
            }
            Self::Unreachable(why) => {
                write!(f, "the Bot API cannot be reached: {why}")
            }
            Self::Refused { code, description, retry_after } => {
                write!(f, "the Bot API refused: {code} {description}")?;
                let advice = match code {
                    401 => {
                        "the token is wrong or was revoked: get the one that BotFather shows now"
                    }
                    404 => "the token is malformed, or the API root is not one of a Bot API server",
                    429 => "too many calls: try again later",
                    _ => return Ok(()),
                };
                write!(f, " ({advice}")?;
                if let Some(after) = retry_after {
                    write!(f, ", in {} s", after.as_secs_f64().ceil())?;
                }
                f.write_str(")")
            }
        }
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::new(ErrorKind::BotApi, error.to_string())
    }
}
