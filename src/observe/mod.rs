//! What is counted and logged.
//!
//! | file | what is in it |
//! |---|---|
//! | `metrics` | counters, histograms and the report |
//! | `incidents` | faults of peers and of webhooks, for the log and the admin listener |
//! | `recent` | the last requests, for the admin listener |
//! | `rate_limit` | how many lines of a kind go to the log |

pub(crate) mod incidents;
pub(crate) mod metrics;
pub(crate) mod rate_limit;
pub(crate) mod recent;
