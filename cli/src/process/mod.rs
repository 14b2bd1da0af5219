//! The process: what it is given at its start, and how it speaks to those who run it.
//!
//! | file | what is in it |
//! |---|---|
//! | `activation` | sockets that systemd passes |
//! | `logging` | where the log goes, and the form of its lines |
//! | `notify` | the protocol of the service manager (sd_notify) |
//! | `privileges` | the change to another user |
//! | `stderr` | all messages for people, through one bounded queue |
//! | `threads` | waiting for threads within a deadline |

pub(crate) mod activation;
pub(crate) mod logging;
pub(crate) mod notify;
pub(crate) mod privileges;
pub(crate) mod stderr;
pub(crate) mod threads;
