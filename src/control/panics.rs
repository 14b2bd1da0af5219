//! Panics of code that is not ringhook's own: of a handler, a sink and other code of the program.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The code that was called has panicked; the panic hook has logged the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Panicked;

/// Calls `call`, and stops its panic. What it leaves half done is for the caller to judge.
///
/// # Errors
/// It has panicked.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        // Its drop is the same code, and a second panic would end the thread.
        mem::forget(payload);
        Panicked
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use std::panic::panic_any;

    use super::*;

    #[test]
    fn a_panic_is_stopped_whose_payload_panics_as_well() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic_any("the drop");
            }
        }
        assert_eq!(caught(|| 5), Ok(5));
        assert_eq!(caught(|| -> u8 { panic_any(Bomb) }), Err(Panicked));
    }
}
