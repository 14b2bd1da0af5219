//! A connection: what is read never depends on where the bytes were cut.
//!
//! The first byte counts cuts, one byte follows for each (the distance from the cut before), and
//! the rest is the stream.
#![no_main]

#[path = "../transcript.rs"]
mod transcript;

use libfuzzer_sys::fuzz_target;
use ringhook::internals::http::HttpLimits;

use transcript::{Bodies, transcript};

fuzz_target!(|input: &[u8]| {
    let Some((count, rest)) = input.split_first() else { return };
    let Some((cuts, stream)) = rest.split_at_checked(usize::from(count % 16)) else { return };
    let limits = HttpLimits {
        body_bytes: 256,
        extension_bytes: 16,
        head_bytes: 512,
        headers: 8,
        target_bytes: 64,
        trailer_bytes: 32,
    };
    let mut pieces = Vec::new();
    let mut left = stream;
    for cut in cuts {
        let (piece, after) = left.split_at(usize::from(*cut).min(left.len()));
        pieces.push(piece);
        left = after;
    }
    pieces.push(left);
    for bodies in [Bodies::Accept, Bodies::Discard] {
        let whole = transcript(limits, bodies, [stream]);
        assert_eq!(transcript(limits, bodies, pieces.iter().copied()), whole);
        assert_eq!(transcript(limits, bodies, stream.chunks(1)), whole);
    }
});
