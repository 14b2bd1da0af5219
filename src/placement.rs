//! Which CPU each shard and worker is pinned to.

use std::fmt;

use core_affinity::CoreId;

use crate::error::{Error, ErrorKind};

/// The CPUs of all threads of one server, in thread order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placement {
    /// CPU number of each shard.
    pub shards: Vec<usize>,
    /// CPU number of each worker.
    pub workers: Vec<usize>,
}

impl Placement {
    /// Places threads on the CPUs that the calling thread may use (`sched_getaffinity`).
    ///
    /// Quotas of a cgroup are not seen: give `shards` and `workers` by hand there.
    ///
    /// # Errors
    /// Where the kernel does not tell the allowed CPUs.
    pub fn of_this_machine(shards: Option<usize>, workers: Option<usize>) -> Result<Self, Error> {
        Ok(Self::on(&allowed_cpus()?, shards, workers))
    }

    /// The same for a server without shards: its workers have all CPUs.
    ///
    /// # Errors
    /// As for [`of_this_machine`](Self::of_this_machine).
    pub(crate) fn without_shards(workers: Option<usize>) -> Result<Self, Error> {
        let cpus = allowed_cpus()?;
        let workers = workers.unwrap_or(cpus.len()).max(1);
        Ok(Self { shards: Vec::new(), workers: cpus.into_iter().cycle().take(workers).collect() })
    }

    /// Shards take CPUs from the front, workers those that are left; where there are more threads
    /// than CPUs they share, each kind going round its own part.
    fn on(cpus: &[usize], shards: Option<usize>, workers: Option<usize>) -> Self {
        let shards = shards.unwrap_or(cpus.len() / 2).max(1);
        let split = shards.min(cpus.len());
        let (front, rest) = cpus.split_at(split);
        let rest = if rest.is_empty() { front } else { rest };
        let workers = workers.unwrap_or(cpus.len() - split).max(1);
        let round = |cpus: &[usize], threads: usize| {
            cpus.iter().copied().cycle().take(threads).collect::<Vec<_>>()
        };
        Self { shards: round(front, shards), workers: round(rest, workers) }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let (shards, workers) = (&self.shards, &self.workers);
        write!(f, "{} shard(s) on CPU {}, ", shards.len(), list(shards))?;
        write!(f, "{} worker(s) on CPU {}", workers.len(), list(workers))
    }
}

/// The CPUs that the calling thread may use.
fn allowed_cpus() -> Result<Vec<usize>, Error> {
    let cpus = core_affinity::get_core_ids().filter(|cpus| !cpus.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::Thread, "sched_getaffinity failed: cannot tell the allowed CPUs")
    })?;
    Ok(cpus.into_iter().map(|cpu| cpu.id).collect())
}

/// Pins the calling thread to `cpu`; false where the kernel refuses.
pub(crate) fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: cpu })
}

/// Lets the calling thread wait for its CPU until others there pause or have had their slice
/// (`SCHED_BATCH`, sched(7)), rather than interrupt them whenever it has something to do. A thread of
/// another class than the usual one stays as it is.
pub(crate) fn be_patient() {
    // SAFETY: 0 is the calling thread, and the call takes no memory.
    let class = unsafe { libc::sched_getscheduler(0) };
    if class == libc::SCHED_OTHER {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: 0 is the calling thread; the kernel reads the parameters during the call. That it
        // refuses changes nothing but the order in which threads run.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(
        cpus: &[usize],
        shards: Option<usize>,
        workers: Option<usize>,
    ) -> (Vec<usize>, Vec<usize>) {
        let placement = Placement::on(cpus, shards, workers);
        (placement.shards, placement.workers)
    }

    #[test]
    fn one_shard_for_two_cpus_and_workers_on_the_others() {
        assert_eq!(on(&[3], None, None), (vec![3], vec![3]));
        assert_eq!(on(&[0, 1], None, None), (vec![0], vec![1]));
        assert_eq!(on(&[0, 1, 2], None, None), (vec![0], vec![1, 2]));
        assert_eq!(on(&[4, 5, 6, 7], None, None), (vec![4, 5], vec![6, 7]));
    }

    #[test]
    fn numbers_given_by_hand_are_kept() {
        assert_eq!(on(&[0, 1], Some(2), None), (vec![0, 1], vec![0]));
        assert_eq!(on(&[0, 1], Some(3), Some(3)), (vec![0, 1, 0], vec![0, 1, 0]));
        assert_eq!(on(&[0, 1, 2, 3], Some(1), Some(5)), (vec![0], vec![1, 2, 3, 1, 2]));
        assert_eq!(on(&[0, 1, 2, 3], None, Some(1)), (vec![0, 1], vec![2]));
    }
}
