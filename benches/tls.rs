//! TLS on bytes in memory: handshakes on the server's side, and a request's records.
//!
//! `cargo bench --bench tls` measures aws-lc-rs,
//! `cargo bench --bench tls --no-default-features --features ring` measures ring.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use rustls::version::{TLS12, TLS13};
use support::{Configs, encrypted_requests, feed};

criterion_group!(benches, handshake, records);
criterion_main!(benches);

/// The server's part of a handshake with an ECDSA P-256 certificate; the client's is not timed.
fn handshake(criterion: &mut Criterion) {
    for (name, version, resume) in [
        ("tls1.3 full", &TLS13, false),
        ("tls1.3 resumed", &TLS13, true),
        ("tls1.2 full", &TLS12, false),
        ("tls1.2 resumed", &TLS12, true),
    ] {
        criterion.bench_function(&format!("tls/handshake {name}"), |bencher| {
            let configs = Configs::new(version, resume);
            drop(configs.connected());
            bencher.iter_custom(|handshakes| (0..handshakes).map(|_| timed(&configs)).sum());
        });
    }
}

fn timed(configs: &Configs) -> Duration {
    let mut client = configs.client();
    let mut spent = Duration::ZERO;
    let mut bytes = Vec::new();
    let start = Instant::now();
    let mut server = configs.server();
    spent += start.elapsed();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        bytes.clear();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let start = Instant::now();
        feed(&mut server, &bytes);
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        spent += start.elapsed();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    spent
}

/// One request decrypted, one 200 encrypted.
fn records(criterion: &mut Criterion) {
    criterion.bench_function("tls/request and answer", |bencher| {
        let configs = Configs::new(&TLS13, false);
        let (mut client, mut server) = configs.connected();
        let mut plain = vec![0; 16 * 1024];
        let mut answer = Vec::new();
        bencher.iter_custom(|updates| {
            let mut spent = Duration::ZERO;
            let mut left = updates;
            while left > 0 {
                let requests = encrypted_requests(&mut client, 1, left.min(1000));
                left -= requests.len() as u64;
                let start = Instant::now();
                for records in &requests {
                    feed(&mut server, records);
                    black_box(server.reader().read(&mut plain).unwrap());
                    server
                        .writer()
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .unwrap();
                    answer.clear();
                    server.write_tls(&mut answer).unwrap();
                }
                spent += start.elapsed();
            }
            spent
        });
    });
}
