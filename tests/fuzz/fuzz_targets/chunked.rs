//! A chunked body, against a second decoder that is slow and simple.
#![no_main]

#[path = "../transcript.rs"]
mod transcript;

use libfuzzer_sys::fuzz_target;
use ringhook::internals::http::HttpLimits;

use transcript::{Bodies, Event, transcript};

const HEAD: &[u8] =
    b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    let limits = HttpLimits { body_bytes: 4096, ..HttpLimits::default() };
    let whole = transcript(limits, Bodies::Accept, [HEAD, input]);
    let bytewise = transcript(limits, Bodies::Accept, [HEAD].into_iter().chain(input.chunks(1)));
    assert_eq!(whole, bytewise);
    let discarded = transcript(limits, Bodies::Discard, [HEAD, input]);
    assert_eq!(discarded.events.len(), whole.events.len());
    if let Some(Event::Complete(content, _)) = whole.events.get(1) {
        assert_eq!(content.as_deref(), decode(input).as_deref());
        assert!(content.as_ref().is_some_and(|content| content.len() <= limits.body_bytes));
    }
});

/// The content of a chunked body that is complete and valid.
fn decode(mut input: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let end = input.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(input[..end].split(|byte| b"; \t".contains(byte)).next()?);
        let size = usize::from_str_radix(line.ok()?, 16).ok()?;
        input = &input[end + 2..];
        if size == 0 {
            return Some(content);
        }
        content.extend_from_slice(input.get(..size)?);
        input = input.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
