//! From a worker's queue to a handler, a sink or a stream.
//!
//! | file | what is in it |
//! |---|---|
//! | `worker` | a worker's thread |
//! | `handler`, `sink`, `stream` | what it gives updates to |
//! | `dead_letters` | the file of updates that were given up |

pub(crate) mod dead_letters;
pub(crate) mod handler;
pub(crate) mod sink;
pub(crate) mod stream;
pub(crate) mod worker;
