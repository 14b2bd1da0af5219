//! Rules of the record layer, with records that a peer of the same code forges; `session` has tests
//! with a client of rustls.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use super::*;

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];

/// A server's records and its client's.
fn pair(suite: Suite) -> (Records, Records) {
    let length = if suite == Suite::Aes256Gcm { 48 } else { 32 };
    let direction =
        |byte: u8| Direction::of_secret(suite, Secret::new(&vec![byte; length]).unwrap()).unwrap();
    (Records::new(direction(1), direction(2)), Records::new(direction(2), direction(1)))
}

fn both() -> (Records, Records) {
    pair(Suite::Aes128Gcm)
}

/// A record of the client with these bytes in it: content, type and padding.
fn forge(client: &mut Records, inner: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    client.forge(inner, &mut record).unwrap();
    record
}

/// What a server makes of it.
fn sent(
    server: &mut Records,
    client: &mut Records,
    inner: &[u8],
) -> Result<OpenedRecord, TlsError> {
    server.open(&mut forge(client, inner))
}

fn data(server: &mut Records, record: &[u8]) -> Vec<u8> {
    let mut record = record.to_vec();
    assert_eq!(Records::length(&record), Ok(Some(record.len())));
    let Ok(OpenedRecord::Data(range)) = server.open(&mut record) else {
        unreachable!("no data in it");
    };
    record[range].to_vec()
}

/// The records in `bytes`, one by one.
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut records) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (record, later) = rest.split_at(Records::length(rest).unwrap().unwrap());
        records.push(record.to_vec());
        rest = later;
    }
    records
}

/// RFC 8448 section 3, {server} derive write traffic keys for application data.
#[test]
fn keys_are_made_as_in_the_example_of_the_rfc() {
    let secret = [
        0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9, 0x50,
        0x32, 0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63,
        0x16, 0x43,
    ];
    let key = [
        0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef, 0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3,
        0x56,
    ];
    let iv = [0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84];
    let secret = Secret::new(&secret).unwrap();
    let suite = Suite::Aes128Gcm;
    let (mut found_key, mut found_iv) = ([0; 16], [0; 12]);
    secret.expand_for_test(suite, b"key", &mut found_key);
    secret.expand_for_test(suite, b"iv", &mut found_iv);
    assert_eq!((found_key, found_iv), (key, iv));
}

#[test]
fn data_goes_both_ways_with_every_suite() {
    for suite in SUITES {
        let (mut server, mut client) = pair(suite);
        for length in [1, 2, 15, 16, 17, 1300, PLAIN_MAX] {
            let plain = vec![length as u8; length];
            let mut record = Vec::new();
            client.seal(&plain, &mut record).unwrap();
            assert_eq!(record.len(), HEADER + length + 1 + TAG);
            assert_eq!(data(&mut server, &record), plain);
            record.clear();
            server.seal(&plain, &mut record).unwrap();
            assert_eq!(data(&mut client, &record), plain);
        }
        let long = vec![7; 3 * PLAIN_MAX + 1];
        let mut records = Vec::new();
        server.seal(&long, &mut records).unwrap();
        let parts: Vec<_> =
            split(&records).iter().map(|record| data(&mut client, record)).collect();
        assert_eq!((parts.len(), parts.concat()), (4, long));
    }
}

/// RFC 8446 sections 5.1 and 5.2.
#[test]
fn headers_are_of_data_and_bounded() {
    for cut in 0..HEADER {
        assert_eq!(Records::length(&[23, 3, 3, 0, 20][..cut]), Ok(None));
    }
    assert_eq!(Records::length(&[23, 3, 3, 0, 20]), Ok(Some(25)));
    assert_eq!(Records::length(&[23, 3, 1, 0, 20, 9, 9]), Ok(Some(25)), "an older version");
    // 2^14 + 256 is the most.
    assert_eq!(Records::length(&[23, 3, 3, 0x41, 0]), Ok(Some(RECORD_MAX)));
    assert_eq!(Records::length(&[23, 3, 3, 0x41, 1]), Err(TlsError::RecordOverflow));
    // A change_cipher_spec after the handshake, plain alerts and handshakes, and what is no TLS.
    for outer in (0..=255).filter(|outer| *outer != 23) {
        assert_eq!(Records::length(&[outer, 3, 3, 0, 1]), Err(TlsError::UnexpectedMessage));
    }
    // Section 5.1: the version "MUST be ignored for all purposes".
    for version in (0..=u16::MAX).step_by(255) {
        let [major, minor] = version.to_be_bytes();
        assert_eq!(Records::length(&[23, major, minor, 0, 20]), Ok(Some(25)), "{version:x}");
    }
}

/// Section 5.2.
#[test]
fn what_is_changed_or_has_no_tag_is_refused() {
    for suite in SUITES {
        let (_, mut client) = pair(suite);
        let record = forge(&mut client, b"hello\x17");
        for place in 0..record.len() {
            let mut changed = record.clone();
            changed[place] ^= 1;
            let (mut server, _) = pair(suite);
            // The header is authenticated as well; its length is what it is, here.
            assert_eq!(server.open(&mut changed), Err(TlsError::BadRecordMac), "{place}");
        }
        for length in 0..TAG {
            let mut short = [&[23, 3, 3, 0, length as u8][..], &vec![0; length]].concat();
            assert_eq!(pair(suite).0.open(&mut short), Err(TlsError::BadRecordMac));
        }
    }
    // A record again, or one left out.
    let (mut server, mut client) = both();
    let (first, second) = (forge(&mut client, b"1\x17"), forge(&mut client, b"2\x17"));
    assert_eq!(server.open(&mut second.clone()), Err(TlsError::BadRecordMac));
    let (mut server, _) = both();
    assert_eq!(data(&mut server, &first), b"1");
    assert_eq!(server.open(&mut first.clone()), Err(TlsError::BadRecordMac));
}

/// Section 5.4.
#[test]
fn padding_is_taken_off_and_there_must_be_a_type() {
    let (mut server, mut client) = both();
    assert_eq!(sent(&mut server, &mut client, b"a\0\x17\0\0\0"), Ok(OpenedRecord::Data(5..7)));
    let mut inner = vec![0; PLAIN_MAX + 1];
    inner[0] = 23;
    assert_eq!(sent(&mut server, &mut client, &inner), Ok(OpenedRecord::Nothing));
    for length in [0, 1, 2, 100, PLAIN_MAX + 1] {
        let (mut server, mut client) = both();
        let zeros = vec![0; length];
        assert_eq!(sent(&mut server, &mut client, &zeros), Err(TlsError::UnexpectedMessage));
    }
    for inner_kind in (1..=255).filter(|kind| ![21, 22, 23].contains(kind)) {
        let (mut server, mut client) = both();
        let outcome = sent(&mut server, &mut client, &[1, inner_kind]);
        assert_eq!(outcome, Err(TlsError::UnexpectedMessage), "{inner_kind}");
    }
}

/// Sections 5.1 and 5.2: whatever version a header has, that is the one that is authenticated.
#[test]
fn records_of_any_version_are_taken() {
    for suite in SUITES {
        let (mut server, mut client) = pair(suite);
        for version in [[0, 0], [3, 1], [3, 3], [3, 4], [255, 255]] {
            let mut record = Vec::new();
            client.forge_with(version, b"x\x17", &mut record).unwrap();
            assert_eq!(record[1..3], version);
            assert_eq!(data(&mut server, &record), b"x");
        }
    }
}

/// Sections 5.1 and 5.4.
#[test]
fn content_is_bounded_with_and_without_padding() {
    let (mut server, mut client) = both();
    let mut inner = vec![b'x'; PLAIN_MAX];
    inner.push(23);
    let longest = HEADER..HEADER + PLAIN_MAX;
    assert_eq!(sent(&mut server, &mut client, &inner), Ok(OpenedRecord::Data(longest)));
    inner.push(0);
    assert_eq!(sent(&mut server, &mut client, &inner), Err(TlsError::RecordOverflow));
    let (mut server, mut client) = both();
    inner.insert(0, b'x');
    assert_eq!(sent(&mut server, &mut client, &inner), Err(TlsError::RecordOverflow));
    let (mut server, mut client) = both();
    let longest = SEALED_MAX - TAG;
    inner.resize(longest, 0);
    assert_eq!(sent(&mut server, &mut client, &inner), Err(TlsError::RecordOverflow));
}

#[test]
fn a_peer_may_send_only_so_many_records_for_nothing() {
    // Empty ones and key updates.
    for inner in [&b"\x17"[..], b"\x17\0\0", b"\x18\0\0\x01\0\x16"] {
        let (mut server, mut client) = both();
        for round in 0..3 {
            for _ in 0..EMPTY_RECORDS_MAX {
                assert_eq!(
                    sent(&mut server, &mut client, inner),
                    Ok(OpenedRecord::Nothing),
                    "{round}"
                );
                if inner[0] == KEY_UPDATE[0] {
                    client.write.update().unwrap();
                }
            }
            // Data between them is what they may be for.
            assert_eq!(sent(&mut server, &mut client, b"x\x17"), Ok(OpenedRecord::Data(5..6)));
        }
        for _ in 0..EMPTY_RECORDS_MAX {
            sent(&mut server, &mut client, b"\x17").unwrap();
        }
        assert_eq!(sent(&mut server, &mut client, inner), Err(TlsError::TooMany));
    }
}

/// Section 6.1.
#[test]
fn a_peer_may_cancel_only_so_often() {
    let (mut server, mut client) = both();
    let warning = b"\x01\x5a\x15";
    for _ in 0..WARNINGS_MAX {
        assert_eq!(sent(&mut server, &mut client, warning), Ok(OpenedRecord::Nothing));
        assert_eq!(sent(&mut server, &mut client, b"x\x17"), Ok(OpenedRecord::Data(5..6)));
    }
    assert_eq!(sent(&mut server, &mut client, warning), Err(TlsError::TooMany));
}

/// Section 6.
#[test]
fn alerts_end_the_connection_but_for_one() {
    for (alert, expected) in [
        (&[1, 0][..], Ok(OpenedRecord::End)),
        (&[2, 0], Ok(OpenedRecord::End)),
        (&[1, 90], Ok(OpenedRecord::Nothing)),
        (&[2, 90], Err(TlsError::AlertReceived)),
        (&[2, 20], Err(TlsError::AlertReceived)),
        (&[2, 255], Err(TlsError::AlertReceived)),
        (&[1, 20], Err(TlsError::Malformed)),
        (&[0, 0], Err(TlsError::IllegalParameter)),
        (&[3, 10], Err(TlsError::IllegalParameter)),
        (&[], Err(TlsError::UnexpectedMessage)),
        (&[1], Err(TlsError::Malformed)),
        (&[1, 0, 1], Err(TlsError::Malformed)),
        (&[1, 0, 1, 0], Err(TlsError::Malformed)),
    ] {
        let (mut server, mut client) = both();
        let inner = [alert, &[kind::ALERT]].concat();
        assert_eq!(sent(&mut server, &mut client, &inner), expected, "{alert:?}");
    }
}

/// Section 4.6.3.
#[test]
fn keys_change_when_the_peer_says_so() {
    for suite in SUITES {
        let (mut server, mut client) = pair(suite);
        for round in 0..5 {
            let update = forge(&mut client, &[24, 0, 0, 1, 0, 22]);
            client.write.update().unwrap();
            assert_eq!(server.open(&mut update.clone()), Ok(OpenedRecord::Nothing));
            assert_eq!(data(&mut server, &forge(&mut client, b"x\x17")), b"x", "{round}");
        }
        assert!(!server.update_due);
        // Under the old key.
        let mut late = forge(&mut client, b"x\x17");
        server.read.update().unwrap();
        assert_eq!(server.open(&mut late), Err(TlsError::BadRecordMac));
    }
}

/// Sections 4.6.3 and 5.1.
#[test]
fn a_key_update_may_come_in_parts_with_nothing_between() {
    let message = [24, 0, 0, 1, 1];
    for first in 1..5 {
        for second in first..5 {
            let (mut server, mut client) = both();
            let parts = [&message[..first], &message[first..second], &message[second..]];
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                let inner = [part, &[22]].concat();
                assert_eq!(sent(&mut server, &mut client, &inner), Ok(OpenedRecord::Nothing));
            }
            client.write.update().unwrap();
            assert_eq!(data(&mut server, &forge(&mut client, b"x\x17")), b"x");
            assert!(server.update_due);
        }
        // Another length is seen wherever it is cut.
        for length in [[0, 0, 0], [0, 0, 2], [0, 1, 1], [1, 0, 1]] {
            let (mut server, mut client) = both();
            let message = [&KEY_UPDATE[..1], &length, &[0, 0]].concat();
            let parts = [&message[..first], &message[first..]];
            let outcomes = parts.map(|part| {
                let inner = [part, &[22]].concat();
                sent(&mut server, &mut client, &inner)
            });
            assert!(outcomes.contains(&Err(TlsError::Malformed)), "{first} {length:?}");
        }
        for between in [&b"x\x17"[..], b"\x17", b"\x01\0\x15", b"\x01\x5a\x15", b"\x16"] {
            let (mut server, mut client) = both();
            let inner = [&message[..first], &[22]].concat();
            sent(&mut server, &mut client, &inner).unwrap();
            let outcome = sent(&mut server, &mut client, between);
            assert_eq!(outcome, Err(TlsError::UnexpectedMessage), "{first} {between:?}");
        }
    }
}

#[test]
fn no_other_handshake_message_may_come() {
    for (message, expected) in [
        (&[][..], TlsError::UnexpectedMessage),
        // Neither of the two.
        (&[24, 0, 0, 1, 2], TlsError::IllegalParameter),
        // Of another length.
        (&[24, 0, 0, 0], TlsError::Malformed),
        (&[24, 0, 0, 2], TlsError::Malformed),
        (&[24, 0, 0, 2, 0, 0], TlsError::Malformed),
        (&[24, 0, 0, 2, 0, 0, 24, 0, 0, 1, 0], TlsError::Malformed),
        (&[24, 0, 0, 0, 24, 0, 0, 1, 0], TlsError::Malformed),
        (&[24, 0, 1, 1, 0], TlsError::Malformed),
        (&[24, 255, 255, 255, 0, 0, 0], TlsError::Malformed),
        (&[24, 1], TlsError::Malformed),
        // Something behind it, which has the new keys.
        (&[24, 0, 0, 1, 0, 24], TlsError::UnexpectedMessage),
        (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], TlsError::UnexpectedMessage),
        // A hello, a ticket, a certificate, a Finished, and an unknown type.
        (&[1], TlsError::UnexpectedMessage),
        (&[4, 0, 0, 1, 0], TlsError::UnexpectedMessage),
        (&[11, 0], TlsError::UnexpectedMessage),
        (&[20, 0, 0, 32], TlsError::UnexpectedMessage),
        (&[0], TlsError::UnexpectedMessage),
        (&[255], TlsError::UnexpectedMessage),
    ] {
        let (mut server, mut client) = both();
        let inner = [message, &[22]].concat();
        assert_eq!(sent(&mut server, &mut client, &inner), Err(expected), "{message:?}");
    }
}

/// Section 4.6.3: "before sending its next Application Data record", one for all requests.
#[test]
fn the_peers_wish_for_new_keys_is_met_once_before_anything_else() {
    for suite in SUITES {
        let (mut server, mut client) = pair(suite);
        for _ in 0..3 {
            let update = [24, 0, 0, 1, 1, 22];
            assert_eq!(sent(&mut server, &mut client, &update), Ok(OpenedRecord::Nothing));
            client.write.update().unwrap();
        }
        let mut out = Vec::new();
        server.seal(b"answer", &mut out).unwrap();
        server.seal(b"another", &mut out).unwrap();
        let records = split(&out);
        assert_eq!(records.len(), 3);
        assert_eq!(client.open(&mut records[0].clone()), Ok(OpenedRecord::Nothing));
        assert!(!client.update_due, "no update is asked for in return");
        assert_eq!(data(&mut client, &records[1]), b"answer");
        assert_eq!(data(&mut client, &records[2]), b"another");
        // Before a close_notify and an alert as well.
        for say in [Records::close_notify, |records: &mut Records, out: &mut Vec<u8>| {
            records.alert(TlsError::Malformed, out)
        }] {
            let update = [24, 0, 0, 1, 1, 22];
            sent(&mut server, &mut client, &update).unwrap();
            client.write.update().unwrap();
            let mut out = Vec::new();
            say(&mut server, &mut out).unwrap();
            let records = split(&out);
            assert_eq!(records.len(), 2);
            assert_eq!(client.open(&mut records[0].clone()), Ok(OpenedRecord::Nothing));
            let expected = [Ok(OpenedRecord::End), Err(TlsError::AlertReceived)];
            assert!(expected.contains(&client.open(&mut records[1].clone())));
        }
    }
}

/// Section 5.5.
#[test]
fn keys_are_changed_before_they_have_encrypted_too_much() {
    assert_eq!(Suite::Aes128Gcm.records_max(), 1 << 24);
    assert_eq!(Suite::Aes256Gcm.records_max(), 1 << 24);
    let (mut server, mut client) = both();
    server.write.set_numbers(0, 4);
    let mut out = Vec::new();
    for _ in 0..7 {
        server.seal(b"x", &mut out).unwrap();
    }
    // Three records and the update are four under each key.
    let kinds = split(&out).into_iter().map(|mut record| client.open(&mut record).unwrap());
    let data = OpenedRecord::Data(5..6);
    let full = [vec![data.clone(); 3], vec![OpenedRecord::Nothing]].concat();
    let expected = [full.clone(), full, vec![data]].concat();
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    let last = (1 << 24) - 1;
    let (mut server, mut client) = both();
    for (records, sequence) in [(1, last - 1), (2, last)] {
        server.write.set_numbers(sequence, 1 << 24);
        client.read.set_numbers(sequence, 1 << 24);
        let mut out = Vec::new();
        server.seal(b"x", &mut out).unwrap();
        let out = split(&out);
        assert_eq!(out.len(), records);
        for record in out {
            client.open(&mut record.clone()).unwrap();
        }
    }
}

/// Section 5.3.
#[test]
fn numbers_of_records_never_come_round() {
    for suite in SUITES {
        let (mut server, mut client) = pair(suite);
        server.read.set_numbers(u64::MAX - 1, u64::MAX);
        client.write.set_numbers(u64::MAX - 1, u64::MAX);
        assert_eq!(data(&mut server, &forge(&mut client, b"x\x17")), b"x");
        client.write.set_numbers(0, u64::MAX);
        assert_eq!(sent(&mut server, &mut client, b"x\x17"), Err(TlsError::Internal));
        // We change our keys before.
        server.write.set_numbers(u64::MAX - 1, u64::MAX);
        client.read.set_numbers(u64::MAX - 1, u64::MAX);
        let mut out = Vec::new();
        server.seal(b"x", &mut out).unwrap();
        let records = split(&out);
        assert_eq!(client.open(&mut records[0].clone()), Ok(OpenedRecord::Nothing));
        assert_eq!(data(&mut client, &records[1]), b"x");
    }
}
