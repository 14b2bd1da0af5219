//! What a request costs in each of the libraries, on bytes in memory.

use std::{
    hint::black_box,
    mem::{self, MaybeUninit},
    time::{Duration, Instant},
};

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs::aead;
#[cfg(not(feature = "aws-lc-rs"))]
use ring::aead;

use self::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use core_affinity::CoreId;
use rustls::CipherSuite;
use simd_json::{Buffers, INPUT_PADDING, Tape, fill_tape_padded};

use crate::requests::Requests;

/// Requests that are prepared at once and then timed at once. With the clock read for each request,
/// the clock would be a part of the figure. With many more, they would not be in the cache any
/// more, where a request's bytes are when they have just been received.
const STRETCH: usize = 64;

/// Length of a record's header, and what is behind its content: the true type and the tag.
const HEADER: usize = 5;
const TYPE: usize = 1;
const TAG: usize = 16;
const APPLICATION_DATA: u8 = 23;
const IV: [u8; NONCE_LEN] = [7; NONCE_LEN];

/// Does its work for each request and returns how long that took.
type Piece = fn(&Requests) -> Duration;

/// Measures each piece over all requests on `cpu`, and passes its name and the microseconds per
/// request to `report`.
pub(crate) fn measure(requests: &Requests, cpu: CoreId, mut report: impl FnMut(&'static str, f64)) {
    core_affinity::set_for_current(cpu);
    let pieces: [(_, Piece); 3] = [("aes-gcm", aes_gcm), ("httparse", http), ("simd-json", json)];
    for (name, piece) in pieces {
        // The first pass warms up.
        piece(requests);
        let spent = piece(requests);
        report(name, spent.as_secs_f64() * 1e6 / requests.plain.len() as f64);
    }
}

fn nonce(sequence: u64) -> Nonce {
    let mut nonce = IV;
    for (byte, number) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= number;
    }
    Nonce::assume_unique_for_key(nonce)
}

fn key(suite: CipherSuite) -> LessSafeKey {
    let algorithm = match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => &AES_128_GCM,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => &AES_256_GCM,
        _ => panic!("{suite:?}"),
    };
    LessSafeKey::new(UnboundKey::new(algorithm, &[9; 32][..algorithm.key_len()]).unwrap())
}

/// The header of a record with `length` bytes of ciphertext and tag.
fn header(length: usize) -> [u8; HEADER] {
    let [high, low] = (length as u16).to_be_bytes();
    [APPLICATION_DATA, 3, 3, high, low]
}

/// Puts a record around `content` into `out`.
fn seal(key: &LessSafeKey, sequence: u64, content: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&header(content.len() + TYPE + TAG));
    let aad = Aad::from(header(content.len() + TYPE + TAG));
    out.extend_from_slice(content);
    out.push(APPLICATION_DATA);
    let sealed = &mut out[HEADER..];
    let tag = key.seal_in_place_separate_tag(nonce(sequence), aad, sealed).unwrap();
    out.extend_from_slice(tag.as_ref());
}

/// One record opened and one sealed for each request.
fn aes_gcm(requests: &Requests) -> Duration {
    let key = key(requests.suite);
    let mut spent = Duration::ZERO;
    let mut records = vec![Vec::new(); STRETCH];
    let mut answer = Vec::with_capacity(256);
    let mut sequence = 0;
    for stretch in requests.plain.chunks(STRETCH) {
        for (at, ((bytes, _), record)) in stretch.iter().zip(&mut records).enumerate() {
            seal(&key, sequence + at as u64, bytes, record);
        }
        let start = Instant::now();
        for record in &mut records[..stretch.len()] {
            let (header, sealed) = record.split_at_mut(HEADER);
            let aad = Aad::from(&*header);
            let plain = key.open_in_place(nonce(sequence), aad, sealed).unwrap();
            black_box(plain);
            seal(&key, sequence, requests.answer, &mut answer);
            black_box(&answer);
            sequence += 1;
        }
        spent += start.elapsed();
    }
    spent
}

fn http(requests: &Requests) -> Duration {
    each(requests, |bytes, body| {
        let mut fields = [const { MaybeUninit::uninit() }; 16];
        let mut head = httparse::Request::new(&mut []);
        let parsed = head.parse_with_uninit_headers(bytes, &mut fields).unwrap();
        assert_eq!(parsed, httparse::Status::Complete(body));
        black_box(&head);
    })
}

fn json(requests: &Requests) -> Duration {
    let mut buffers = Buffers::default();
    let mut spare = Tape(Vec::new());
    let mut memory = Vec::with_capacity(1 << 20);
    each(requests, |bytes, body| {
        memory.clear();
        memory.extend_from_slice(&bytes[body..]);
        let length = memory.len();
        memory.resize(length + INPUT_PADDING, 0);
        let mut tape = mem::replace(&mut spare, Tape(Vec::new())).reset();
        fill_tape_padded(&mut memory, length, &mut buffers, &mut tape).unwrap();
        black_box(&tape);
        spare = tape.reset();
    })
}

/// Runs `work` on each request, whose bytes are in the cache as if they had just been received.
fn each(requests: &Requests, mut work: impl FnMut(&[u8], usize)) -> Duration {
    let mut spent = Duration::ZERO;
    let mut received = vec![Vec::new(); STRETCH];
    for stretch in requests.plain.chunks(STRETCH) {
        for ((bytes, _), copy) in stretch.iter().zip(&mut received) {
            copy.clone_from(bytes);
        }
        let start = Instant::now();
        for (bytes, (_, body)) in received.iter().zip(stretch) {
            work(black_box(bytes), *body);
        }
        spent += start.elapsed();
    }
    spent
}
