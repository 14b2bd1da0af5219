//! Where updates go behind ringhook: destinations, and the routes that lead to them.
//!
//! | module | what is in it |
//! |---|---|
//! | `routes` | which update goes to which outputs |
//! | `forward` | a bot in any language behind HTTP |
//! | `broker` | brokers and databases; each needs a feature of its name |
//! | `getupdates` | a bot that polls, on a local getUpdates |
//! | `client` | what speaks HTTP to other servers |

pub mod broker;
mod client;
mod counter;
pub mod forward;
pub mod getupdates;
mod parameter;
pub mod routes;

/// For the fuzz targets of this project: no part of the interface, and it changes without notice.
#[doc(hidden)]
pub mod internals {
    pub use crate::forward::read_answer;
}
