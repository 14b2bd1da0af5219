//! What the process has used, as the kernel counts it.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of the process so far, in seconds.
pub(super) fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory that the process has had resident, in bytes; `None` where `/proc` is not there.
pub(super) fn memory_peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_kernel_counts_more_than_nothing() {
        assert!(super::cpu_s() > 0.0);
        assert!(super::memory_peak_bytes().unwrap() > 1 << 20);
    }
}
