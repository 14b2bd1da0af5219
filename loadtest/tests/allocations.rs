//! Once a run is under way, a request allocates nothing; with TLS no more than rustls does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../../tests/support/allocator.rs"]
mod allocator;
mod support;

use std::time::Duration;

use allocator::of_thread;
use loadtest::{Options, Rate, Stop, run_watched};
use support::{OK, Reply, Server};

/// Allocations of the generator's thread per request, in the seconds after the first.
fn per_request(mut options: Options) -> f64 {
    options.connections = 4;
    options.stop = Stop::After(Duration::from_millis(3300));
    options.keep_ids = false;
    let mut marks = Vec::with_capacity(10);
    let report = run_watched(&options, |progress| {
        marks.push((progress.sent, of_thread()));
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
