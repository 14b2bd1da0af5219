//! The Bot API, as far as webhooks and updates need it: one small blocking client over HTTPS.
//!
//! The token is a part of each URL. It is hidden in all that this module says, errors included.
//!
//! | file | what is in it |
//! |---|---|
//! | `client` | the calls |
//! | `types` | what the calls take and return |
//! | `answer`, `cut` | the envelope around a result; JSON that is cut without being parsed |
//! | `error` | what can fail between this program and the Bot API |
//! | `proxy` | the proxy that the environment asks for |
//! | `date` | what time it is at the Bot API |

mod answer;
mod client;
mod cut;
mod date;
mod error;
mod proxy;
mod types;

pub(crate) use self::{
    client::Client,
    date::date,
    error::ApiError,
    types::{Me, RawUpdate, SetWebhook, WebhookInfo},
};
