//! The records of TLS 1.3 are taken as rustls takes them, whatever a client with the right keys
//! sends.

#[path = "../../fuzz/two_servers.rs"]
mod two_servers;

use proptest::{collection::vec, prelude::*};
use rustls::crypto::aws_lc_rs::default_provider;
use two_servers::{Sent, Sides};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

fn record(content: &[u8], kind: u8) -> Sent {
    Sent::Record([content, &[kind]].concat())
}

fn times(sent: &[Sent], count: usize) -> Vec<Sent> {
    sent.iter().cycle().take(sent.len() * count).cloned().collect()
}

/// Each alone, and behind and before what is right.
#[test]
fn what_is_known_to_be_hard_is_taken_as_rustls_takes_it() {
    let sides = Sides::new(&default_provider());
    let padded = |length: usize| [&[b'x', DATA][..], &vec![0; length]].concat();
    let mut hard = vec![
        Sent::KeyUpdate(false),
        Sent::KeyUpdate(true),
        Sent::Record(Vec::new()),
        Sent::Record(vec![0; 100]),
        Sent::Record(vec![DATA]),
        Sent::Record(padded(1)),
        Sent::Record(padded((1 << 14) - 1)),
        Sent::Record(padded(1 << 14)),
        Sent::Record(padded((1 << 14) + 200)),
        Sent::Record([vec![7; 1 << 14], vec![DATA]].concat()),
        Sent::Record([vec![7; (1 << 14) + 1], vec![DATA]].concat()),
        Sent::Record(vec![7; (1 << 14) + 240]),
        Sent::Changed(vec![b'x', DATA], 0),
        Sent::Version([0, 0], vec![b'x', DATA]),
        Sent::Version([3, 1], vec![b'x', DATA]),
        Sent::Version([3, 4], vec![1, 90, ALERT]),
        Sent::Raw(b"POST / HTTP/1.1\r\n\r\n".to_vec()),
        Sent::Raw(vec![20, 3, 3, 0, 1, 1]),
        Sent::Raw(vec![20, 3, 3, 0, 1, 2]),
        Sent::Raw(vec![21, 3, 3, 0, 2, 1, 0]),
        Sent::Raw(vec![22, 3, 3, 0, 4, 1, 0, 0, 0]),
        Sent::Raw(vec![24, 3, 3, 0, 1, 1]),
        Sent::Raw(vec![99, 3, 3, 0, 1, 1]),
        Sent::Raw(vec![23, 3, 3, 0, 0]),
        Sent::Raw(vec![23, 3, 3, 0, 15, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        Sent::Raw(vec![23, 3, 3, 0x41, 0]),
        Sent::Raw(vec![23, 3, 3, 0x41, 1]),
        Sent::Raw(vec![23, 3, 3, 0xff, 0xff]),
        Sent::Raw(vec![23, 3]),
    ];
    for message in [
        &[][..],
        &[24],
        &[24, 0, 0, 1],
        &[24, 0, 0, 0],
        &[24, 0, 0, 2],
        &[24, 0, 0, 2, 0, 0],
        &[24, 0, 0, 2, 0, 0, 24, 0, 0, 1, 0],
        &[24, 0, 0, 0, 24, 0, 0, 1, 0],
        &[24, 0, 0, 1, 2],
        &[24, 0, 0, 1, 2, 0],
        &[24, 0, 0, 1, 0, 24],
        &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0],
        &[24, 1, 0, 0, 0],
        &[24, 255, 255, 255, 0],
        &[0, 0, 0, 0],
        &[1, 0, 0, 0],
        &[4, 0, 0, 1, 0],
        &[5, 0, 0, 0],
        &[11, 0, 0, 4, 0, 0, 0, 0],
        &[13, 0, 0, 1, 0],
        &[20, 0, 0, 32],
        &[254, 0, 0, 0],
    ] {
        hard.push(record(message, HANDSHAKE));
        hard.push(Sent::Record([message, &[HANDSHAKE], &[0; 50]].concat()));
    }
    for level in [0, 1, 2, 3, 255] {
        for description in [0, 10, 20, 50, 80, 90, 100, 255] {
            hard.push(record(&[level, description], ALERT));
        }
    }
    for alert in [&[][..], &[1], &[1, 0, 0], &[1, 90, 1, 90], &[2, 0, 2, 0]] {
        hard.push(record(alert, ALERT));
    }
    for kind in (0..=255).filter(|kind| ![ALERT, HANDSHAKE, DATA].contains(kind)) {
        hard.push(record(b"x", kind));
        hard.push(record(b"", kind));
    }
    for (number, hard) in hard.iter().enumerate() {
        let suite = number as u8 % 3;
        sides.compare(suite, usize::MAX, &[hard.clone(), record(b"after", DATA)]);
        let before = [record(b"before", DATA), Sent::KeyUpdate(true), hard.clone()];
        sides.compare(suite, 1 + number % 7, &before);
        // Between the parts of a message.
        let (first, last) = (record(&[24, 0, 0], HANDSHAKE), record(&[1, 0], HANDSHAKE));
        sides.compare(suite, usize::MAX, &[first, hard.clone(), last]);
    }
}

/// As many as there may be, and one more.
#[test]
fn what_brings_nothing_is_counted_as_rustls_counts_it() {
    let sides = Sides::new(&default_provider());
    let warning = record(&[1, 90], ALERT);
    for nothing in [record(b"", DATA), Sent::Record(vec![DATA, 0, 0]), Sent::KeyUpdate(true)] {
        for count in [31, 32, 33, 40] {
            sides.compare(0, usize::MAX, &vec![nothing.clone(); count]);
            let parts = [vec![nothing.clone(); count / 2], vec![record(b"x", DATA)]].concat();
            sides.compare(0, usize::MAX, &times(&parts, 4));
        }
        // Of all kinds together there may not be more than of one.
        sides.compare(1, usize::MAX, &times(&[nothing.clone(), record(b"", DATA)], 20));
        sides.compare(1, usize::MAX, &times(&[nothing.clone(), Sent::KeyUpdate(false)], 20));
        sides.compare(1, usize::MAX, &times(&[nothing, warning.clone()], 20));
    }
    for count in [3, 4, 5, 6] {
        sides.compare(2, usize::MAX, &vec![warning.clone(); count]);
        sides.compare(2, usize::MAX, &times(&[warning.clone(), record(b"x", DATA)], count));
    }
}

fn any_content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..40),
        4 => Just(vec![24, 0, 0, 1, 0]),
        2 => (0usize..6).prop_map(|length| [24, 0, 0, 1, 1, 0][..length].to_vec()),
        2 => (1usize..5).prop_map(|start| [24, 0, 0, 1, 1][start..].to_vec()),
        2 => Just(vec![1, 90]),
        1 => Just(vec![1, 0]),
        1 => (16_300usize..16_400).prop_map(|length| vec![9; length]),
    ]
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let known = prop_oneof![4 => Just(DATA), 2 => Just(HANDSHAKE), 1 => Just(ALERT)];
    let kind = prop_oneof![14 => known, 1 => any::<u8>()];
    let inner = (any_content(), kind, prop_oneof![4 => Just(0usize), 1 => 0usize..300])
        .prop_map(|(content, kind, zeros)| [content, vec![kind], vec![0; zeros]].concat())
        .boxed();
    let version = prop_oneof![any::<[u8; 2]>(), any::<u8>().prop_map(|minor| [3, minor])];
    prop_oneof![
        20 => inner.clone().prop_map(Sent::Record),
        8 => any_content().prop_map(|content| record(&content, DATA)),
        4 => any::<bool>().prop_map(Sent::KeyUpdate),
        1 => (version, inner.clone()).prop_map(|(version, inner)| Sent::Version(version, inner)),
        1 => (inner, 0usize..20_000).prop_map(|(inner, place)| Sent::Changed(inner, place)),
        1 => vec(any::<u8>(), 0..40).prop_map(Sent::Raw),
        1 => (18u8..26, 0u16..17_000).prop_map(|(outer, length)| {
            let [high, low] = length.to_be_bytes();
            Sent::Raw(vec![outer, 3, 3, high, low])
        }),
    ]
}

#[test]
fn any_records_are_taken_as_rustls_takes_them() {
    let sides = Sides::new(&default_provider());
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..<_>::default() };
    proptest!(config, |(
        suite in 0u8..3,
        piece in prop_oneof![Just(usize::MAX), 1usize..3_000],
        script in vec(any_sent(), 1..12),
    )| {
        sides.compare(suite, piece, &script);
    });
}
