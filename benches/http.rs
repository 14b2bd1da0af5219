//! One request, from bytes in memory to a body in memory.
#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringhook::internals::{
    http::{ConnectionDirective, HttpLimits, HttpSession, Status, Step, response},
    update::UpdateBody,
};

/// What Telegram's sender writes, to the byte, with a body of this many bytes.
fn request(body_bytes: usize) -> Vec<u8> {
    let head = format!(
        "POST /bots/support-desk HTTP/1.1\r\nHost: hooks.example.org:8443\r\n\
         X-Telegram-Bot-Api-Secret-Token: 3f9c1b2e7d8a4056b1c2d3e4f5a69788\r\n\
         Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\
         Connection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
    );
    [head.as_bytes(), &vec![b'x'; body_bytes]].concat()
}

/// The same content in four chunks, as a proxy may send it.
fn chunked_request(body_bytes: usize) -> Vec<u8> {
    let mut bytes = b"POST /bots/support-desk HTTP/1.1\r\nHost: hooks.example.org:8443\r\n\
        X-Telegram-Bot-Api-Secret-Token: 3f9c1b2e7d8a4056b1c2d3e4f5a69788\r\n\
        Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..4 {
        bytes.extend(format!("{:x}\r\n", body_bytes / 4).bytes());
        bytes.extend(vec![b'x'; body_bytes / 4]);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// Reads one request that comes in pieces of `piece` bytes, and gives its body back.
fn read(session: &mut HttpSession, bytes: &[u8], piece: usize, mut body: UpdateBody) -> UpdateBody {
    let (mut start, mut end) = (0, piece.min(bytes.len()));
    loop {
        let (consumed, step) = session.advance(&bytes[start..end]);
        start += consumed;
        match step {
            Step::Head(head) => {
                black_box(&head);
                session.accept_body(std::mem::take(&mut body));
            }
            Step::Complete => return session.take_body().unwrap(),
            Step::NeedMore => end = (end + piece).min(bytes.len()),
            Step::Reject(_) | Step::Closed => panic!("{step:?}"),
        }
    }
}

fn http(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http");
    for (name, bytes, piece) in [
        ("head", request(0), usize::MAX),
        ("head_and_body_1300", request(1300), usize::MAX),
        ("head_and_body_1300_in_pieces_of_100", request(1300), 100),
        ("chunked_body_1300", chunked_request(1300), usize::MAX),
    ] {
        let mut session = HttpSession::new(HttpLimits::default());
        let mut body = UpdateBody::with_capacity(4096);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                body = read(&mut session, black_box(&bytes), piece, std::mem::take(&mut body));
            });
        });
    }
    group.bench_function("choose_the_answer", |bencher| {
        let directive = ConnectionDirective::Persist;
        bencher.iter(|| response(black_box(Status::Ok), black_box(directive)));
    });
    group.finish();
}

criterion_group!(benches, http);
criterion_main!(benches);
