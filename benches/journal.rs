//! The journal by itself: from the hand-over of a batch to its commit, for several numbers of
//! records in flight. The journal is in the system's temporary directory; `TMPDIR` chooses the
//! disk.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Write as _,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loadtest::{PayloadGenerator, PayloadOptions};
use ringhook::{Ack, internals::TestJournal};

criterion_group!(benches, disk, journal);
criterion_main!(benches);

/// Records in flight.
const IN_FLIGHT: [usize; 4] = [1, 16, 128, 1024];

/// The disk's own fdatasync after a write of as many bytes, to compare with.
fn disk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("disk/write and fdatasync");
    let dir = tempfile::tempdir().unwrap();
    for records in IN_FLIGHT {
        let bytes = vec![b'x'; records * 1340];
        let path = dir.path().join("file");
        fs::write(&path, vec![0; 64 << 20]).unwrap();
        let mut file = File::options().write(true).open(&path).unwrap();
        file.sync_all().unwrap();
        let mut written = 0;
        group.throughput(Throughput::Elements(records as u64));
        group.bench_function(BenchmarkId::from_parameter(records), |bencher| {
            bencher.iter(|| {
                if written + bytes.len() > 64 << 20 {
                    file = File::options().write(true).open(&path).unwrap();
                    written = 0;
                }
                file.write_all(&bytes).unwrap();
                file.sync_data().unwrap();
                written += bytes.len();
            });
        });
    }
}

fn journal(criterion: &mut Criterion) {
    for ack in [Ack::Written, Ack::Synced] {
        let mut group = criterion.benchmark_group(format!("journal/{ack}"));
        let dir = tempfile::tempdir().unwrap();
        let mut journal = TestJournal::open(dir.path(), ack);
        let bodies = bodies();
        let mut bodies = bodies.iter().map(Vec::as_slice).cycle();
        for records in IN_FLIGHT {
            group.throughput(Throughput::Elements(records as u64));
            group.bench_function(BenchmarkId::from_parameter(records), |bencher| {
                bencher.iter_custom(|count| {
                    let start = Instant::now();
                    let mut spent = Duration::ZERO;
                    for _ in 0..count {
                        journal.gather((&mut bodies).take(records));
                        spent += journal.commit();
                    }
                    assert!(spent <= start.elapsed());
                    spent
                });
            });
        }
    }
}

/// Bodies as Telegram sends them: about 1.3 KB on average, of all kinds.
fn bodies() -> Vec<Vec<u8>> {
    let generator = PayloadGenerator::new(&PayloadOptions::default());
    let body = |id| {
        let mut body = Vec::new();
        generator.write(&mut body, id);
        body
    };
    (1..=4096).map(body).collect()
}
