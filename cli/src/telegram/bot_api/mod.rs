//! The Bot API, as far as webhooks and updates need it: one small blocking client over HTTPS.
//!
//! The token is a part of each URL. It is hidden in all that this module says, errors included.

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
