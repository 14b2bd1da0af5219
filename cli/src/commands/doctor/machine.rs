//! What the machine gives a server: a ring, files, room on the disk.

use std::{fs, io, path::Path};

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};

use super::step::Finding;
use ringhook::{
    Ack, Config, DriverChoice, DriverKind, Journal,
    internals::io::{preflight::ring_advice, runtime::Runtime},
};

/// Files beside connections and the journal: listeners, rings, logs, secrets.
const OTHER_FILES: u64 = 128;
/// Locked memory for the rings of a few shards, in bytes.
const LOCKED_MIN: u64 = 16 << 20;
/// Connections of a bot whose config does not say how many.
const CONNECTIONS: u64 = 40;

/// Whether a ring can be had.
pub(super) fn ring(choice: DriverChoice) -> Finding {
    if choice == DriverChoice::Epoll {
        return Finding::skip("server.driver is epoll");
    }
    // As the server builds it, on a thread of its own.
    let built = std::thread::spawn(|| Runtime::new(DriverKind::IoUring).map(drop)).join();
    let error = match built {
        Ok(Ok(())) => {
            return locked_memory(&kernel_release(), getrlimit(Resource::Memlock).maximum);
        }
        Ok(Err(error)) => error,
        Err(_) => io::Error::other("the attempt failed"),
    };
    let (what, fix) = (format!("no ring: {error}"), ring_advice(&error));
    match choice {
        DriverChoice::IoUring => Finding::fail(what, fix),
        _ => Finding::warn(what, fix).and("until then the server uses epoll, which is slower"),
    }
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// What is said where one ring can be made: before Linux 5.12 each takes of the memory that may be
/// locked, and a server has one for each shard. `limit` is in bytes; `None` where there is none.
fn locked_memory(release: &str, limit: Option<u64>) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    let is_counted = version.is_some_and(|version| version < (5, 12));
    match limit.filter(|limit| is_counted && *limit < LOCKED_MIN) {
        Some(limit) => Finding::warn(
            format!(
                "a ring can be made here, and {limit} bytes of locked memory may not do for all"
            ),
            "raise it: systemd's LimitMEMLOCK=infinity, or ulimit -l unlimited",
        ),
        None => Finding::ok("a ring can be made here"),
    }
}

/// Whether the server may open as many files as it needs; `pid` is the server that runs, if that is
/// known. `connections` are those that the bots' webhooks may have.
pub(super) fn descriptors(config: &Config, connections: u64, pid: Option<u32>) -> Finding {
    // A server raises its soft limit itself.
    let (hard, whose) = match pid.and_then(|pid| hard_limit_of(pid).map(|hard| (hard, pid))) {
        Some((hard, pid)) => (hard, format!("the server's, process {pid}")),
        None => (getrlimit(Resource::Nofile).maximum, "this shell's".to_owned()),
    };
    let journal = &config.journal;
    let segments = match journal.ack {
        Ack::Memory => 0,
        _ => journal.max_bytes.div_ceil(journal.segment_bytes.max(1)),
    };
    let needed = connections + 2 * segments + OTHER_FILES;
    let Some(hard) = hard else { return Finding::ok(format!("unlimited ({whose})")) };
    if hard < needed {
        return Finding::warn(
            format!("{hard} files may be open ({whose}), {needed} may be needed"),
            format!(
                "raise the hard limit to {} (systemd: LimitNOFILE=, else ulimit -Hn): accepting \
                 pauses when none is left",
                needed.next_power_of_two().max(1024)
            ),
        );
    }
    Finding::ok(format!("{hard} files may be open ({whose}), at most {needed} are needed"))
}

/// The connections that webhooks of so many bots with these limits of theirs come to.
pub(super) fn connections(max_connections: impl Iterator<Item = Option<u32>>) -> u64 {
    max_connections.map(|count| count.map_or(CONNECTIONS, u64::from)).sum()
}

/// The hard limit of a process; the inner `None` where there is none, the outer one where it cannot
/// be read.
fn hard_limit_of(pid: u32) -> Option<Option<u64>> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// Whether the journal can become as large as it may.
pub(super) fn disk(journal: &Journal) -> Finding {
    let Some(dir) = journal.dir.as_deref().filter(|_| journal.ack != Ack::Memory) else {
        return Finding::skip("there is no journal (journal.ack is memory)");
    };
    // What is not there yet will be made in the nearest that is.
    let there =
        dir.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    let space = match rustix::fs::statvfs(there) {
        Ok(space) => space.f_bavail.saturating_mul(space.f_frsize),
        Err(error) => {
            return Finding::warn(
                format!("{}: {}", there.display(), io::Error::from(error)),
                "the free space could not be read: look at it with df",
            );
        }
    };
    // What it has already is not needed again.
    let (needed, used) = (journal.max_bytes + journal.segment_bytes, size_of(dir));
    let shown = |bytes: u64| ByteSize::b(bytes).display().iec().to_string();
    let dir = dir.display();
    let what = format!("{} free for {dir}, which may become {}", shown(space), shown(needed));
    if space.saturating_add(used) >= needed {
        return Finding::ok(what);
    }
    let fix = format!(
        "make room, or set journal.max_bytes to less than {}: when the disk is full, updates are \
         refused with 503 and Telegram keeps them",
        shown((space.saturating_add(used)).saturating_sub(journal.segment_bytes))
    );
    if space < 2 * journal.segment_bytes {
        return Finding::fail(what, fix);
    }
    Finding::warn(what, fix)
}

/// Bytes of the files in `dir`.
fn size_of(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::commands::doctor::step::Verdict;

    #[test]
    fn the_disk_is_compared_with_the_largest_journal() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path().join("not/yet"), Ack::Written);
        journal.max_bytes = 2 << 20;
        journal.segment_bytes = 1 << 20;
        let good = disk(&journal);
        assert_eq!(good.verdict, Verdict::Ok, "{good:?}");
        assert!(good.what.ends_with("which may become 3.0 MiB"), "{good:?}");
        journal.max_bytes = 1 << 60;
        let warned = disk(&journal);
        assert_eq!(warned.verdict, Verdict::Warn, "{warned:?}");
        journal.segment_bytes = 1 << 59;
        assert_eq!(disk(&journal).verdict, Verdict::Fail);
        journal.ack = Ack::Memory;
        assert_eq!(disk(&journal).verdict, Verdict::Skip);
    }

    #[test]
    fn files_are_counted_for_connections_and_segments() {
        let mut config = Config::default();
        let good = descriptors(&config, connections([None, Some(10)].into_iter()), None);
        assert!(good.what.contains("this shell's") && good.what.contains(" 178 "), "{good:?}");
        config.journal = Journal::at("x", Ack::Written);
        let server = descriptors(&config, 40, Some(std::process::id()));
        assert!(server.what.contains(&format!("process {}", std::process::id())), "{server:?}");
        let bad = descriptors(&config, 1 << 60, None);
        assert!(matches!(bad.verdict, Verdict::Warn | Verdict::Ok), "{bad:?}");
    }

    #[test]
    fn epoll_needs_no_ring() {
        assert_eq!(ring(DriverChoice::Epoll).verdict, Verdict::Skip);
    }

    #[test]
    fn locked_memory_counts_on_old_kernels() {
        assert_eq!(locked_memory("5.10.0-28-amd64", Some(65536)).verdict, Verdict::Warn);
        assert_eq!(locked_memory("5.10.0-28-amd64", None).verdict, Verdict::Ok);
        assert_eq!(locked_memory("5.15.0", Some(65536)).verdict, Verdict::Ok);
        assert_eq!(locked_memory("", Some(65536)).verdict, Verdict::Ok);
    }
}
