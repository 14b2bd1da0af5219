//! Once a run is under way, a request allocates nothing; with TLS no more than rustls does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use loadtest::{Options, Rate, Stop, run_watched};
use support::{OK, Reply, Server};

/// The system's allocator, counting for each thread what it asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may have lost its counter already.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the generator's thread per request, in the seconds after the first.
fn per_request(mut options: Options) -> f64 {
    options.connections = 4;
    options.stop = Stop::After(Duration::from_millis(3300));
    options.keep_ids = false;
    let mut marks = Vec::with_capacity(10);
    let report = run_watched(&options, |progress| {
        marks.push((progress.sent, ALLOCATIONS.with(Cell::get)));
    })
    .unwrap();
    assert!(report.is_ok() && marks.len() >= 2, "{report}");
    let ((sent, allocations), (sent_last, allocations_last)) = (marks[0], *marks.last().unwrap());
    assert!(sent_last > sent + 200, "{report}");
    (allocations_last - allocations) as f64 / (sent_last - sent) as f64
}

#[test]
fn a_request_allocates_nothing() {
    for rate in [Rate::Max, Rate::PerSecond(500.0)] {
        let server = Server::plain(|_| Reply::Write(OK));
        let mut options = server.options();
        options.rate = rate;
        let plain = per_request(options);
        // Buffers that grow with a longer body yet, and the record of each second.
        assert!(plain < 0.05, "{plain} allocations per request at {rate:?}");
    }
    let server = Server::tls(|_| Reply::Write(OK));
    let mut options = server.options();
    options.rate = Rate::Max;
    let tls = per_request(options);
    // One for the record that leaves and one for what an answer says, both within rustls.
    assert!(tls < 2.05, "{tls} allocations per request with TLS");
}
