//! The threads of the process, and how much of a CPU each has used, as the kernel counts it.

use std::{cmp::Reverse, collections::HashMap, fs, path::Path, time::Instant};

/// A thread between the last two looks.
#[derive(Clone, Debug)]
pub(crate) struct ThreadUse {
    pub(crate) name: String,
    /// The CPU that it ran on last.
    pub(crate) cpu: usize,
    /// Of one CPU: 1 is all of it.
    pub(crate) share: f64,
}

/// All threads; of no thread anything but its name and its times is known.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    /// Nanoseconds on a CPU so far, by the number of the thread.
    before: HashMap<String, u64>,
    looked_at: Option<Instant>,
    uses: Vec<ThreadUse>,
}

impl Threads {
    /// Looks at them; what they have used is what they have since the look before.
    pub(crate) fn look(&mut self, now: Instant) {
        let before = self.looked_at.replace(now);
        let elapsed = before.map(|before| now.saturating_duration_since(before).as_nanos() as f64);
        let mut times = HashMap::new();
        self.uses.clear();
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        for task in tasks {
            // It may have ended meanwhile.
            let Some((name, cpu, ns)) = read(&task.path()) else { continue };
            let number = task.file_name().to_string_lossy().into_owned();
            let used = ns.saturating_sub(self.before.get(&number).copied().unwrap_or(0)) as f64;
            let share = elapsed.map_or(0.0, |elapsed| used / elapsed.max(1.0));
            self.uses.push(ThreadUse { name, cpu, share });
            times.insert(number, ns);
        }
        self.before = times;
        self.uses.sort_by_key(|it| (Reverse((it.share * 1e4) as u64), it.name.clone()));
    }

    /// They, the busiest first.
    pub(crate) fn uses(&self) -> &[ThreadUse] {
        &self.uses
    }
}

/// Name, last CPU and nanoseconds of the thread whose files are in `task`; `None` where they cannot
/// be read.
fn read(task: &Path) -> Option<(String, usize, u64)> {
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    // The name may contain anything, and stands in parentheses.
    let (start, rest) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let cpu = rest.split_ascii_whitespace().nth(36)?.parse().ok()?;
    let schedstat = fs::read_to_string(task.join("schedstat")).ok()?;
    let ns = schedstat.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name.to_owned(), cpu, ns))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{hint::black_box, thread, time::Duration};

    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_to() {
        let start = Instant::now();
        let work = move || {
            let mut sum = 0_u64;
            while start.elapsed() < Duration::from_millis(300) {
                sum = black_box(sum + 1);
            }
            let mut threads = Threads::default();
            threads.look(start);
            threads.before.clear();
            threads.look(start + Duration::from_secs(1));
            threads
        };
        let busy = thread::Builder::new().name("at (work) ).".into()).spawn(work).unwrap();
        let threads = busy.join().unwrap();
        let found = threads.uses().iter().find(|it| it.name == "at (work) ).").unwrap();
        assert!(found.share > 0.0 && found.share < 1.0, "{found:?}");
    }
}
