//! What is counted and told.
//!
//! | file | what is in it |
//! |---|---|
//! | `metrics` | counters, histograms and the report |
//! | `incidents` | what peers did wrong, for the log and the admin listener |
//! | `rate_limit` | how many lines of a kind go to the log |

pub(crate) mod incidents;
pub(crate) mod metrics;
pub(crate) mod rate_limit;
