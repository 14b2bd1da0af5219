//! A damaged segment: reading it ends, and what is read was written and is as it was.
//!
//! The first byte counts changes, four bytes follow for each (where, what, how often), and the rest
//! is the bodies of the records, a line each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhook::internals::{records, segment};

fuzz_target!(|input: &[u8]| {
    let Some((count, rest)) = input.split_first() else { return };
    let Some((changes, bodies)) = rest.split_at_checked(4 * usize::from(count % 16)) else {
        return;
    };
    // No body that is taken holds bytes that are not UTF-8, of which the marker of a record is
    // made.
    let bodies = bodies.split(|byte| *byte == b'\n').filter(|body| body.is_ascii());
    let (whole, start) = segment(bodies);
    let written = records(whole.clone(), start, None);
    assert_eq!(written.last().map_or(start, |last| last.1), whole.len());
    let mut bytes = whole.clone();
    for change in changes.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let end = (at + usize::from(change[3])).min(bytes.len());
        if let Some(place) = bytes.get_mut(at..end) {
            place.fill(change[2]);
        }
    }
    let kept = |(from, to): &(usize, usize)| whole[*from..*to] == bytes[*from..*to];
    let expected: Vec<_> = written.into_iter().filter(kept).collect();
    assert_eq!(records(bytes.clone(), start, None), expected);
    assert_eq!(records(bytes, start, Some(whole.len() as u64)), expected);
    // Bytes that no journal has written.
    let _ = records(input.to_vec(), 0, None);
    let _ = records(input.to_vec(), 0, Some(input.len() as u64));
});
