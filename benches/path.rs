//! The whole path of an update on bytes in memory: TLS records in, a handler done with the update,
//! a 200 in TLS records out. No socket, no system call, one thread.
#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::path::Path;

criterion_group!(benches, path);
criterion_main!(benches);

fn path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    group.throughput(Throughput::Elements(1));
    group.bench_function("records to handler and back", |bencher| {
        let mut path = Path::new(true);
        path.run(1024);
        bencher.iter_custom(|updates| path.run(updates));
    });
    group.finish();
}
