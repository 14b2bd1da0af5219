//! From a head to a bot: the path looked up, the secret token compared in constant time.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringhook::{Bot, internals::Routes};

criterion_group!(benches, route);
criterion_main!(benches);

/// As long as those that `ringhook serve` makes.
const SECRET: &str = "3f9c1b2e7d8a4056b1c2d3e4f5a697883f9c1b2e7d8a4056b1c2d3e4f5a69788";

fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for bots in [1, 10, 1000] {
        let bots: Vec<_> = (0..bots)
            .map(|bot| Bot::new(&format!("bot-{bot}"), &format!("/bots/{bot}"), SECRET).unwrap())
            .collect();
        let routes = Routes::new(&bots);
        let path = format!("/bots/{}", bots.len() / 2);
        let mut wrong = SECRET.as_bytes().to_vec();
        wrong.reverse();
        for (name, token) in [("right", SECRET.as_bytes()), ("wrong", &wrong)] {
            let id = BenchmarkId::new(format!("{name} token"), format!("{} bots", bots.len()));
            group.bench_function(id, |bencher| {
                bencher.iter(|| routes.route(black_box(path.as_bytes()), true, Some(token)));
            });
        }
    }
    group.finish();
}
