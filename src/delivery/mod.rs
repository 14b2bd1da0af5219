//! From a worker's queue to a handler, a sink or a stream.
//!
//! | file | what is in it |
//! |---|---|
//! | `worker` | the thread that takes updates and settles them |
//! | `handler`, `sink`, `stream` | the consumers of updates |
//! | `dead_letters` | the file of updates that finally failed |

pub(crate) mod dead_letters;
pub(crate) mod handler;
pub(crate) mod sink;
pub(crate) mod stream;
pub(crate) mod worker;
