//! Which CPU each shard and worker is pinned to.

use std::fmt;

use core_affinity::CoreId;

use crate::{
    config::{self, CpuList, Pin},
    error::{Error, ErrorKind},
};

/// The CPUs of all threads of one server, in thread order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placement {
    /// CPU number of each shard.
    pub shards: Vec<usize>,
    /// CPU number of each worker.
    pub workers: Vec<usize>,
}

impl Placement {
    /// Places threads as `pin` says, and the others on the CPUs that are left of those that the
    /// calling thread may use (`sched_getaffinity`).
    ///
    /// Quotas of a cgroup are not seen: give `shards` and `workers` by hand there.
    ///
    /// # Errors
    /// Where `pin` has a CPU that the calling thread may not use or that does not exist, or the
    /// kernel does not report the allowed ones.
    #[doc(hidden)]
    pub fn of_this_machine(
        shards: Option<usize>,
        workers: Option<usize>,
        pin: &Pin,
    ) -> Result<Self, Error> {
        let allowed = allowed_cpus()?;
        check("server.pin.shards", pin.shards.as_ref(), &allowed)?;
        check("server.pin.workers", pin.workers.as_ref(), &allowed)?;
        Ok(Self::on(&allowed, shards, workers, pin))
    }

    /// The same for a server without shards: its workers have all CPUs.
    ///
    /// # Errors
    /// As for [`of_this_machine`](Self::of_this_machine).
    pub(crate) fn without_shards(workers: Option<usize>, pin: &Pin) -> Result<Self, Error> {
        let allowed = allowed_cpus()?;
        check("server.pin.workers", pin.workers.as_ref(), &allowed)?;
        let cpus = pin.workers.as_ref().map_or(&*allowed, CpuList::as_slice);
        let workers = workers.unwrap_or(cpus.len());
        Ok(Self { shards: Vec::new(), workers: round(cpus, workers) })
    }

    /// Shards take CPUs from the front, workers those that are left; where there are more threads
    /// than CPUs they share, each kind going round its own part. A kind that is pinned has its
    /// list, and the other one is put on what that leaves.
    fn on(cpus: &[usize], shards: Option<usize>, workers: Option<usize>, pin: &Pin) -> Self {
        let list = |cpus: &Option<CpuList>| cpus.as_ref().map(|cpus| cpus.as_slice().to_vec());
        let without = |taken: &[usize]| {
            let rest = cpus.iter().copied().filter(|cpu| !taken.contains(cpu));
            let rest: Vec<_> = rest.collect();
            if rest.is_empty() { cpus.to_vec() } else { rest }
        };
        let on_shards = list(&pin.shards).unwrap_or_else(|| {
            let room = list(&pin.workers).map_or(cpus.to_vec(), |taken| without(&taken));
            let shards = shards.unwrap_or(cpus.len() / 2).clamp(1, room.len().max(1));
            room.into_iter().take(shards).collect()
        });
        let shards = shards.unwrap_or(on_shards.len());
        let on_workers = list(&pin.workers).unwrap_or_else(|| without(&on_shards));
        // One that has no CPU of its own is enough, unless the list says otherwise.
        let is_shared = on_workers.iter().any(|cpu| on_shards.contains(cpu));
        let own = if is_shared && pin.workers.is_none() { 1 } else { on_workers.len() };
        let workers = workers.unwrap_or(own);
        Self { shards: round(&on_shards, shards), workers: round(&on_workers, workers) }
    }
}

/// The CPUs of so many `threads`, at least one, that go round `cpus`.
fn round(cpus: &[usize], threads: usize) -> Vec<usize> {
    cpus.iter().copied().cycle().take(threads.max(1)).collect()
}

/// Whether all CPUs of `list` are among those that may be used.
fn check(key: &str, list: Option<&CpuList>, allowed: &[usize]) -> Result<(), Error> {
    let Some(list) = list else { return Ok(()) };
    let is_missing = |cpu: &&usize| !allowed.contains(cpu);
    let Some(missing) = list.as_slice().iter().find(is_missing) else { return Ok(()) };
    let has = Ranges(allowed);
    let expected = format!(
        "CPUs of {has}, those that this process may use (taskset, cpusets); CPU {missing} is none \
         of them"
    );
    Err(Error::config(key, list, &expected))
}

/// Numbers of CPUs for a message, runs of them as ranges.
pub struct Ranges<'a>(pub &'a [usize]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        config::write_ranges(self.0, ", ", f)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shards, workers) = (&self.shards, &self.workers);
        write!(f, "{} shard(s) on CPU {}, ", shards.len(), Ranges(shards))?;
        write!(f, "{} worker(s) on CPU {}", workers.len(), Ranges(workers))
    }
}

/// The CPUs that the calling thread may use.
fn allowed_cpus() -> Result<Vec<usize>, Error> {
    let cpus = core_affinity::get_core_ids().filter(|cpus| !cpus.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::Thread, "sched_getaffinity failed: cannot find the allowed CPUs")
    })?;
    Ok(cpus.into_iter().map(|cpu| cpu.id).collect())
}

/// Pins the calling thread to `cpu`; false where the kernel refuses.
pub(crate) fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: cpu })
}

/// Lets the calling thread wait for its CPU until others there pause or have had their slice
/// (`SCHED_BATCH`, sched(7)), rather than interrupt them whenever it has something to do. A thread
/// of another class than the usual one stays as it is.
pub(crate) fn be_patient() {
    // SAFETY: 0 is the calling thread, and the call takes no memory.
    let class = unsafe { libc::sched_getscheduler(0) };
    if class == libc::SCHED_OTHER {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: 0 is the calling thread; the kernel reads the parameters during the call. A
        // refusal changes nothing but the order in which threads run.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn on(
        cpus: &[usize],
        shards: Option<usize>,
        workers: Option<usize>,
    ) -> (Vec<usize>, Vec<usize>) {
        pinned(cpus, shards, workers, &Pin::default())
    }

    fn pinned(
        cpus: &[usize],
        shards: Option<usize>,
        workers: Option<usize>,
        pin: &Pin,
    ) -> (Vec<usize>, Vec<usize>) {
        let placement = Placement::on(cpus, shards, workers, pin);
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
    fn pin(text: &str) -> Pin {
        text.parse().unwrap()
    }

    #[test]
    fn each_cpu_of_a_list_has_a_thread_and_the_other_kind_what_is_left() {
        let cpus: Vec<_> = (0..16).collect();
        let list = |range: std::ops::Range<usize>| range.collect::<Vec<_>>();
        let on = |shards, workers, text| pinned(&cpus, shards, workers, &pin(text));
        assert_eq!(on(None, None, "shards=0-7,workers=8-15"), (list(0..8), list(8..16)));
        assert_eq!(on(None, None, "shards=3,1"), (vec![3, 1], [vec![0, 2], list(4..16)].concat()));
        assert_eq!(on(None, None, "workers=0-3"), (list(4..12), list(0..4)));
        assert_eq!(on(None, None, "workers=0-13"), (vec![14, 15], list(0..14)));
        assert_eq!(on(Some(3), None, "workers=0-3"), (vec![4, 5, 6], list(0..4)));
        assert_eq!(on(None, Some(2), "shards=0-13"), (list(0..14), vec![14, 15]));
        assert_eq!(on(None, Some(3), "workers=5,6").1, [5, 6, 5]);
        // Nothing is left for the other kind: it shares.
        assert_eq!(on(None, None, "shards=0-15"), (cpus.clone(), vec![0]));
        assert_eq!(on(None, None, "workers=0-15"), (list(0..8), cpus.clone()));
        assert_eq!(on(None, None, "shards=0,1,workers=1,2"), (vec![0, 1], vec![1, 2]));
        assert_eq!(pinned(&[7], None, None, &pin("shards=7,workers=7")), (vec![7], vec![7]));
    }

    #[test]
    fn a_cpu_that_is_not_to_be_had_is_named() {
        let list = |text: &str| text.parse::<CpuList>().unwrap();
        check("key", None, &[0]).unwrap();
        check("key", Some(&list("1-2")), &[0, 1, 2, 8]).unwrap();
        let error = check("server.pin.shards", Some(&list("0-3")), &[0, 1, 2, 8]).unwrap_err();
        assert!(error.is_usage());
        assert_eq!(
            error.to_string(),
            "server.pin.shards = 0-3: expected CPUs of 0-2, 8, those that this process may use \
             (taskset, cpusets); CPU 3 is none of them"
        );
    }
}
