//! One head: whatever is accepted keeps the promises that callers rely on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhook::internals::http::{Framing, HttpLimits, HttpSession, Method, Step, Version};

fuzz_target!(|input: &[u8]| {
    let limits = HttpLimits { headers: 24, target_bytes: 256, ..HttpLimits::default() };
    let mut session = HttpSession::new(limits);
    let (consumed, step) = session.advance(input);
    let read = &input[..consumed];
    let Step::Head(head) = step else { return };

    assert!(read.ends_with(b"\r\n\r\n"));
    let bare = |at: usize| read[at] == b'\n' && (at == 0 || read[at - 1] != b'\r');
    assert!(!(0..read.len()).any(bare), "a bare line feed");
    assert!(!read.contains(&0), "a NUL");

    assert!(head.path == "*" || head.path.starts_with('/'));
    assert!(!head.path.split('/').any(|segment| segment == "." || segment == ".."));
    assert!(!head.path.contains(['?', '#', ' ', '\\']));
    // The normal form of a normal form is itself.
    if head.path != "*" {
        let again = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", head.path);
        let limits = HttpLimits { target_bytes: 4096, ..limits };
        match HttpSession::new(limits).advance(again.as_bytes()).1 {
            Step::Head(second) => assert_eq!(second.path, head.path),
            other => panic!("{:?} became {other:?}", head.path),
        }
    }

    let lower = read.to_ascii_lowercase();
    let count = |name: &[u8]| lower.windows(name.len()).filter(|window| *window == name).count();
    match head.framing {
        Framing::Chunked => {
            assert_eq!(head.version, Version::Http11);
            assert_eq!(count(b"\ncontent-length:"), 0);
            assert_eq!(count(b"\ntransfer-encoding:"), 1);
        }
        Framing::Length(length) => {
            assert!(length <= limits.body_bytes);
            assert_eq!(count(b"\ncontent-length:"), 1);
            assert_eq!(count(b"\ntransfer-encoding:"), 0);
        }
        Framing::None => {
            assert_ne!(head.method, Method::Post);
            assert_eq!(count(b"\ncontent-length:"), 0);
            assert_eq!(count(b"\ntransfer-encoding:"), 0);
        }
    }
    assert!(count(b"\nhost:") == 1 || head.version == Version::Http10);
    if count(b"\nx-telegram-bot-api-secret-token:") != 1 {
        assert_eq!(head.secret_token.value(), None);
    }
});
