//! The whole way of an update on bytes in memory: TLS records in, an update in a worker's hands, a
//! 200 in TLS records out. No socket, no system call, one thread.
#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use ringhook::{
    Bot,
    http::{HttpLimits, HttpSession, Method, Status, Step, response},
    internals::{HandOff, Routes, TestTill},
    update::{BotId, UpdateParser},
};
use rustls::ServerConnection;
use support::{Configs, PATH, SECRET, encrypted_requests, feed};

criterion_group!(benches, path);
criterion_main!(benches);

/// Requests encrypted ahead of each timed stretch; the client's work is not timed.
const STRETCH: u64 = 1000;

/// All that an update passes on a shard and in a worker.
struct Path {
    bot: Result<BotId, Status>,
    buffer: Vec<u8>,
    hand_off: HandOff,
    till: TestTill,
    http: HttpSession,
    parser: UpdateParser,
    routes: Routes,
}

impl Path {
    fn new() -> Self {
        let hand_off = HandOff::new(1, 1024);
        Self {
            till: hand_off.till(),
            bot: Err(Status::NotFound),
            buffer: Vec::with_capacity(16 * 1024),
            hand_off,
            http: HttpSession::new(HttpLimits::default()),
            parser: UpdateParser::default(),
            routes: Routes::new(&[Bot::new("bench", PATH, SECRET).unwrap()]),
        }
    }

    fn update(&mut self, server: &mut ServerConnection, records: &[u8], answer: &mut Vec<u8>) {
        feed(server, records);
        self.buffer.resize(16 * 1024, 0);
        let length = server.reader().read(&mut self.buffer).unwrap();
        let mut start = 0;
        loop {
            let (consumed, step) = self.http.advance(&self.buffer[start..length]);
            start += consumed;
            match step {
                Step::Head(head) => {
                    let is_post = head.method == Method::Post;
                    let token = head.secret_token.value();
                    self.bot = self.routes.route(head.path.as_bytes(), is_post, token);
                    self.http.accept_body(self.parser.take_body(0));
                }
                Step::Complete => break,
                step => panic!("{step:?}"),
            }
        }
        let now = Instant::now();
        let body = self.http.take_body().unwrap();
        let update = self.parser.parse(body, self.bot.unwrap(), now).unwrap();
        self.hand_off.dispatch(update, now).unwrap();
        server.writer().write_all(response(Status::Ok, self.http.directive())).unwrap();
        answer.clear();
        server.write_tls(answer).unwrap();
        let update = self.hand_off.turn(&mut self.till, now).unwrap();
        black_box((update.id(), update.kind()));
        self.parser.keep(update.recycle());
    }
}

fn path(criterion: &mut Criterion) {
    criterion.bench_function("path/tls1.3 to worker and back", |bencher| {
        let configs = Configs::new(&rustls::version::TLS13, false);
        let (mut client, mut server) = configs.connected();
        let mut path = Path::new();
        let (mut answer, mut next_id) = (Vec::new(), 1);
        bencher.iter_custom(|updates| {
            let mut spent = Duration::ZERO;
            let mut left = updates;
            while left > 0 {
                let count = left.min(STRETCH);
                let requests = encrypted_requests(&mut client, next_id, count);
                next_id += count;
                let start = Instant::now();
                for records in &requests {
                    path.update(&mut server, records, &mut answer);
                }
                spent += start.elapsed();
                left -= count;
            }
            spent
        });
    });
}
