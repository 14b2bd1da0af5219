//! Waiting for threads, but not longer than is allowed.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How often a wait for threads looks whether they have ended.
const ENDED_STEP: Duration = Duration::from_millis(5);

/// What the threads have come to that have ended by `deadline`; the others are left.
pub(crate) fn ended_in_time<T>(threads: Vec<thread::JoinHandle<T>>, deadline: Instant) -> Vec<T> {
    while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
        thread::sleep(ENDED_STEP);
    }
    let ended = threads.into_iter().filter(thread::JoinHandle::is_finished);
    ended.filter_map(|thread| thread.join().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_does_not_end_is_left_and_what_the_others_came_to_is_kept() {
        let (held, hold) = mpsc::channel::<()>();
        let stuck = thread::spawn(move || {
            let _ = hold.recv();
            1
        });
        let threads = vec![stuck, thread::spawn(|| 2), thread::spawn(|| panic!("of a test"))];
        while !threads.iter().skip(1).all(thread::JoinHandle::is_finished) {
            thread::yield_now();
        }
        let (ended, has_ended) = mpsc::channel();
        thread::spawn(move || ended.send(ended_in_time(threads, Instant::now())));
        assert_eq!(has_ended.recv_timeout(Duration::from_secs(30)), Ok(vec![2]));
        drop(held);
        // One that ends before the deadline is waited for.
        let soon = thread::spawn(thread::yield_now);
        assert_eq!(ended_in_time(vec![soon], Instant::now() + Duration::from_secs(30)), [()]);
    }
}
