//! TLS on bytes in memory: handshakes on the server's side, and a request's records.
//!
//! `cargo bench --bench tls` measures aws-lc-rs,
//! `cargo bench --bench tls --no-default-features --features ring` measures ring.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringhook::internals::{
    LoopbackConnection,
    http::{ConnectionDirective, Status, response},
};
use rustls::version::{TLS12, TLS13};
use support::{Configs, answer, encrypted_requests, feed};

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

/// The records of an update's request opened where they lie, and that of its 200 sealed.
fn records(criterion: &mut Criterion) {
    let configs = Configs::new(&TLS13, false);
    let mut client = configs.client();
    let accepted = LoopbackConnection::accept(configs.server, |said| answer(&mut client, said));
    let mut connection = accepted.unwrap();
    let mut group = criterion.benchmark_group("tls/records");
    group.throughput(Throughput::Elements(1));
    group.bench_function("open a request", |bencher| {
        bencher.iter_custom(|updates| {
            let mut spent = Duration::ZERO;
            let mut left = updates;
            while left > 0 {
                let requests = encrypted_requests(&mut client, 1, left.min(64));
                left -= requests.len() as u64;
                for records in &requests {
                    spent += open(&mut connection, records);
                }
            }
            spent
        });
    });
    group.bench_function("seal an answer", |bencher| {
        let mut record = Vec::with_capacity(256);
        let answer = response(Status::Ok, ConnectionDirective::Persist);
        bencher.iter(|| {
            record.clear();
            connection.seal(black_box(answer), &mut record).unwrap();
            black_box(record.len())
        });
    });
    group.finish();
}

/// How long it takes until all data of `records`, which have just been received, can be read.
fn open(connection: &mut LoopbackConnection, mut records: &[u8]) -> Duration {
    let mut spent = Duration::ZERO;
    loop {
        let start = Instant::now();
        let opened = connection.open().unwrap();
        spent += start.elapsed();
        match opened {
            Ok(length) => {
                black_box(connection.bytes());
                connection.consume(length);
            }
            Err(_) if records.is_empty() => return spent,
            Err(missing) => {
                let mut bytes = connection.lend(missing);
                let room = (bytes.capacity() - bytes.len()).min(records.len());
                let (come, rest) = records.split_at(room);
                bytes.extend_from_slice(come);
                records = rest;
                connection.take_back(bytes);
            }
        }
    }
}
