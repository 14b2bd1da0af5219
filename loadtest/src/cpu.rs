//! How much CPU time the generator takes.

use std::{mem::MaybeUninit, ops::Sub, time::Duration};

/// CPU time of a thread.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    /// In the kernel, with the part of the network stack that runs on the sender's account.
    pub(crate) system: Duration,
}

impl CpuTime {
    /// What the calling thread has taken since it began.
    pub(crate) fn for_this_thread() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the call fills the struct, for which all zeros are a value too if it fails.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            usage.assume_init()
        };
        Self { user: duration(usage.ru_utime), system: duration(usage.ru_stime) }
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}
