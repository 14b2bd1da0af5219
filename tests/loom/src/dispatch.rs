//! Does a worker that sleeps learn of everything that it has not seen before?

#[path = "../../../src/dispatch/parker.rs"]
pub(crate) mod parker;

use std::sync::Arc;

use loom::{
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed},
    },
    thread::{self, JoinHandle},
};

use self::parker::{StandIn, WorkerParker, published};

const NEVER: u64 = u64::MAX;

/// A worker that sleeps until there are `pieces` of work, in the steps of the scheduler's sleep. If
/// a wake is lost, loom finds that no thread can run any more.
fn worker(parker: &Arc<WorkerParker>, work: &Arc<AtomicUsize>, pieces: usize) -> JoinHandle<()> {
    let (parker, work) = (Arc::clone(parker), Arc::clone(work));
    thread::spawn(move || {
        parker.attach();
        while work.load(Relaxed) < pieces {
            parker.prepare_park(NEVER);
            if work.load(Relaxed) < pieces {
                thread::park();
            }
            parker.cancel_park();
        }
    })
}

#[test]
fn work_that_is_brought_wakes() {
    loom::model(|| {
        let (parker, work) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let worker = worker(&parker, &work, 1);
        work.fetch_add(1, Relaxed);
        published();
        parker.wake();
        worker.join().unwrap();
    });
}

#[test]
fn work_of_two_shards_wakes() {
    let mut model = loom::model::Builder::new();
    // With all switches of three threads it takes minutes.
    model.preemption_bound = Some(3);
    model.check(|| {
        let (parker, work) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let worker = worker(&parker, &work, 2);
        let shard = {
            let (parker, work) = (Arc::<WorkerParker>::clone(&parker), Arc::clone(&work));
            thread::spawn(move || {
                work.fetch_add(1, Relaxed);
                published();
                parker.wake();
            })
        };
        work.fetch_add(1, Relaxed);
        published();
        parker.wake();
        shard.join().unwrap();
        worker.join().unwrap();
    });
}

/// Either the waker finds that the worker gets up by itself in time, or the worker has seen the
/// time, or it is woken.
#[test]
fn a_time_that_is_published_is_kept() {
    const DUE: u64 = 5;
    loom::model(|| {
        let (parker, due) = (Arc::<WorkerParker>::default(), Arc::new(AtomicU64::new(NEVER)));
        let worker = {
            let (parker, due) = (Arc::clone(&parker), Arc::clone(&due));
            thread::spawn(move || {
                parker.attach();
                loop {
                    let until = due.load(Relaxed);
                    parker.prepare_park(until);
                    let is_needed = due.load(Relaxed) < until;
                    if !is_needed && until > DUE {
                        thread::park();
                    }
                    parker.cancel_park();
                    if until <= DUE {
                        break;
                    }
                }
            })
        };
        due.store(DUE, Relaxed);
        published();
        if !parker.is_up_by(DUE) {
            parker.wake();
        }
        worker.join().unwrap();
    });
}

/// What is written before the wake of a stop is seen by the woken worker, whatever it did.
#[test]
fn an_unconditional_wake_is_not_lost() {
    loom::model(|| {
        let (parker, stop) = (Arc::<WorkerParker>::default(), Arc::new(AtomicUsize::new(0)));
        parker.attach();
        let waker = {
            let (parker, stop) = (Arc::clone(&parker), Arc::clone(&stop));
            thread::spawn(move || {
                stop.store(1, Relaxed);
                parker.wake_now();
            })
        };
        while stop.load(Acquire) == 0 {
            parker.prepare_park(NEVER);
            if stop.load(Relaxed) == 0 {
                thread::park();
            }
            parker.cancel_park();
        }
        waker.join().unwrap();
    });
}

/// A wake that goes to the stand-in while the worker's thread goes on with the work: what it was
/// for the thread sees by itself.
#[test]
fn what_comes_while_the_thread_takes_over_is_not_lost() {
    loom::model(|| {
        let (parker, work) = (Arc::<WorkerParker>::default(), Arc::new(AtomicUsize::new(0)));
        let worker = {
            let (parker, work) = (Arc::clone(&parker), Arc::clone(&work));
            thread::spawn(move || {
                parker.attach();
                parker.begin_stand_in(StandIn(Box::new(|| {})));
                // The program has found nothing and waits; nothing more is heard of it.
                parker.prepare_park(NEVER);
                parker.cancel_park();
                parker.end_stand_in();
                while work.load(Relaxed) == 0 {
                    parker.prepare_park(NEVER);
                    if work.load(Relaxed) == 0 {
                        thread::park();
                    }
                    parker.cancel_park();
                }
            })
        };
        work.fetch_add(1, Relaxed);
        published();
        parker.wake();
        worker.join().unwrap();
    });
}
