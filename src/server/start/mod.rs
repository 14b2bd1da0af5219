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
use super::{Server, builder::ServerBuilder};
use crate::error::Error;

impl ServerBuilder {
    /// Binds the addresses, reads the journal and starts all threads. When this returns,
    /// connections are accepted.
    ///
    /// # Errors
    /// A wrong setting, an address that cannot be bound, a driver that is not to be had, a sink
    /// that cannot be opened, a journal that cannot be read or belongs to another process, or a
    /// thread that cannot be started; nothing is left running then.
    pub fn start(self) -> Result<Server, Error> {
        Bound::new(self)?.open()?.run()
    }
}
