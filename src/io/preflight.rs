//! Why io_uring cannot be used here, in words from which the operator sees what to change.

use std::{fs, io};

/// The reason and the fix for a ring that could not be built because of `error`.
pub fn ring_advice(error: &io::Error) -> String {
    let facts = SystemFacts {
        kernel: read("/proc/sys/kernel/osrelease"),
        disabled: read("/proc/sys/kernel/io_uring_disabled"),
        seccomp: read("/proc/self/status")
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:"))
            .map(|mode| mode.trim().to_owned())
            .unwrap_or_default(),
        memlock: read("/proc/self/limits")
            .lines()
            .find_map(|line| line.strip_prefix("Max locked memory"))
            .and_then(|limits| limits.split_whitespace().next())
            .unwrap_or_default()
            .to_owned(),
    };
    facts.advice(error)
}

/// What the system reports of itself; empty where it does not.
struct SystemFacts {
    /// Release of the running kernel.
    kernel: String,
    /// `kernel.io_uring_disabled`: 0 for all, 1 for privileged users only, 2 for no process.
    disabled: String,
    /// Seccomp mode of this process; 2 is a filter.
    seccomp: String,
    /// Soft limit of RLIMIT_MEMLOCK in bytes.
    memlock: String,
}

impl SystemFacts {
    fn advice(&self, error: &io::Error) -> String {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) if matches!(&*self.disabled, "1" | "2") => format!(
                "kernel.io_uring_disabled is {}: set it to 0 with \
                 `sysctl -w kernel.io_uring_disabled=0`, or to 1 and run in the group of \
                 kernel.io_uring_group",
                self.disabled
            ),
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if self.seccomp == "2" => {
                "a seccomp filter forbids it: allow io_uring_setup, io_uring_enter and \
                 io_uring_register (systemd: SystemCallFilter=@io-event io_uring_setup \
                 io_uring_enter io_uring_register; Docker: --security-opt seccomp=PROFILE)"
                    .to_owned()
            }
            Some(libc::EPERM | libc::EACCES) => {
                "not permitted: look for a security module's rule (SELinux, AppArmor) on io_uring"
                    .to_owned()
            }
            Some(libc::ENOSYS | libc::EINVAL) => format!(
                "kernel {} has no usable io_uring: 5.10 or later is needed, 6.1 or later is fastest",
                self.kernel
            ),
            Some(libc::ENOMEM) => format!(
                "not enough lockable memory (RLIMIT_MEMLOCK is {} bytes): raise it with \
                 `ulimit -l unlimited` or systemd's LimitMEMLOCK=infinity",
                self.memlock
            ),
            Some(libc::EMFILE | libc::ENFILE) => {
                "no file descriptor left: raise it with `ulimit -n` or systemd's LimitNOFILE="
                    .to_owned()
            }
            _ => "the kernel refused the ring".to_owned(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_remedy() {
        let facts = |disabled: &str, seccomp: &str| SystemFacts {
            kernel: "4.19.0".to_owned(),
            disabled: disabled.to_owned(),
            seccomp: seccomp.to_owned(),
            memlock: "65536".to_owned(),
        };
        let advice = |disabled, seccomp, errno| {
            facts(disabled, seccomp).advice(&io::Error::from_raw_os_error(errno))
        };
        assert!(advice("2", "0", libc::EPERM).contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(advice("0", "2", libc::EPERM).contains("SystemCallFilter"));
        assert!(advice("", "2", libc::ENOSYS).contains("seccomp"));
        assert!(advice("0", "0", libc::EPERM).contains("security module"));
        assert!(advice("", "0", libc::ENOSYS).contains("kernel 4.19.0"));
        assert!(advice("0", "0", libc::ENOMEM).contains("LimitMEMLOCK"));
        assert!(advice("0", "0", libc::EMFILE).contains("LimitNOFILE"));
        assert!(!advice("0", "0", libc::EIO).is_empty());
    }
}
