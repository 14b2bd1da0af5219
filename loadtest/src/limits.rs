//! Room for many connections.

use std::mem::MaybeUninit;

/// Lets the process have as many open files as it may. The usual limit of 1024 is meant for
/// programs that use `select`; what lies above is ours without asking.
pub(crate) fn raise_open_files() {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: the first call fills the struct, for which zeros are a value too; the second reads
    // it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) == 0 {
            let mut limit = limit.assume_init();
            limit.rlim_cur = limit.rlim_max;
            // If it is refused, connections beyond the limit fail and are counted.
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
