//! getUpdates: updates that are fetched where Telegram cannot bring them. They take the same way as
//! those of a webhook, and an update counts as confirmed when it is as safe as a 200 would promise.
//!
//! | file | question |
//! |---|---|
//! | `poller` | what is asked for, taken and confirmed |
//! | `caller` | how a call is made that a stop does not wait for |
//! | `trouble` | what a failed call means, and how long to wait after it |
//! | `stop` | how a thread learns that it is to end |

mod caller;
mod poller;
mod stop;
mod trouble;

pub(crate) use self::{
    poller::Poller,
    stop::{Stop, Stopper},
    trouble::Conflict,
};
