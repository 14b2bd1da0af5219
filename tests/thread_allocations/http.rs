//! Requests cost no memory of their own once a connection is warm.

use ringhook::internals::{
    http::{HttpLimits, HttpSession, Step},
    update::UpdateBody,
};

use crate::allocator::of_thread;

/// Reads all requests in `input`, each in pieces of `piece` bytes, into `body`; tells how many.
fn read_all(
    session: &mut HttpSession,
    input: &[u8],
    piece: usize,
    mut body: UpdateBody,
) -> (usize, UpdateBody) {
    let (mut start, mut end, mut complete) = (0, 0, 0);
    loop {
        let (consumed, step) = session.advance(&input[start..end]);
        start += consumed;
        match step {
            Step::Head(_) => session.accept_body(std::mem::take(&mut body)),
            Step::Complete => {
                complete += 1;
                body = session.take_body().unwrap();
            }
            Step::NeedMore if end == input.len() => return (complete, body),
            Step::NeedMore => end = (end + piece).min(input.len()),
            Step::Reject(_) | Step::Closed => panic!("{step:?}"),
        }
    }
}

/// Allocations for a hundred requests after a first one, with a body that is handed round.
fn allocations(request: &str, piece: usize) -> u64 {
    let mut session = HttpSession::new(HttpLimits::default());
    let warm = read_all(&mut session, request.as_bytes(), piece, UpdateBody::default()).1;
    let hundred = request.repeat(100);
    let before = of_thread();
    let (complete, _body) = read_all(&mut session, hundred.as_bytes(), piece, warm);
    let after = of_thread();
    assert_eq!(complete, 100);
    after - before
}

#[test]
fn a_warm_session_allocates_nothing() {
    let body = "x".repeat(1300);
    let declared = format!(
        "POST /hook HTTP/1.1\r\nHost: bot\r\nContent-Type: application/json\r\n\
         Content-Length: 1300\r\n\r\n{body}"
    );
    let chunked = format!(
        "POST /hook HTTP/1.1\r\nHost: bot\r\nTransfer-Encoding: chunked\r\n\r\n\
         514;a=b\r\n{body}\r\n0\r\nA: b\r\n\r\n"
    );
    for request in [declared, chunked] {
        for piece in [usize::MAX / 2, 100, 1] {
            assert_eq!(allocations(&request, piece), 0, "pieces of {piece}: {request}");
        }
    }
}

#[test]
fn allocations_are_counted() {
    let escaped = "GET /%41 HTTP/1.1\r\nHost: bot\r\n\r\n";
    let mut session = HttpSession::new(HttpLimits::default());
    let before = of_thread();
    assert!(matches!(session.advance(escaped.as_bytes()).1, Step::Head(_)));
    assert!(of_thread() > before, "a path in another form has to be copied");
}
