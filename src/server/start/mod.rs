//! A server's start, in three steps: what is bound, what is opened, and the threads that run.
//!
//! | file | what is in it |
//! |---|---|
//! | `bound` | the settings are checked, and the sockets are there |
//! | `opened` | the journal is read, and the files are open |
//! | `running` | the threads |

mod bound;
mod opened;
mod running;

use self::bound::Bound;
use super::{ServerHandle, builder::Server};
use crate::error::Error;

/// Starts `server`.
///
/// # Errors
/// The first thing that is in the way of it; nothing of the server is left then.
pub(super) fn start(server: Server) -> Result<ServerHandle, Error> {
    Bound::new(server)?.open()?.run()
}
