//! Where a run took place.

use std::{fs, thread};

use serde::Serialize;

/// The generator's machine, as far as figures depend on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Machine {
    /// What the processor calls itself.
    pub cpu: String,
    /// How many CPUs the process may use.
    pub cpus: usize,
    /// The kernel's name and release.
    pub kernel: String,
    /// Main memory, in bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// Asks the kernel; what it does not tell stays empty.
    pub(crate) fn this() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let kib = field(&read("/proc/meminfo"), "MemTotal");
        let kib = kib.trim_end_matches("kB").trim().parse().unwrap_or(0_u64);
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cpus: thread::available_parallelism().map_or(0, usize::from),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            memory_bytes: kib * 1024,
        }
    }
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let value = lines.find(|(key, _)| key.trim() == name);
    value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}
