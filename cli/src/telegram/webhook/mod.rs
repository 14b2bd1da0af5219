//! What Telegram is told of a webhook, what it would refuse, and what it says of it afterwards.
//!
//! | file | question |
//! |---|---|
//! | `url` | what the URL of a webhook consists of, and how it is shown |
//! | `host` | which hosts Telegram can look up |
//! | `plan` | what setWebhook is called with, by the config |
//! | `problems` | what the Bot API would refuse or silently change |
//! | `differences` | whether getWebhookInfo is as planned |
//! | `meaning` | what the text of the last error means, and what to do |

mod differences;
mod host;
mod meaning;
mod plan;
mod problems;
mod url;

pub(crate) use self::{
    differences::undelivered,
    meaning::{Meaning, meaning, meaning_of_refusal},
    plan::{Plan, Upload},
    problems::Problem,
    url::WebhookUrl,
};
