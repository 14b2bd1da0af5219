//! The whole path of an update on bytes in memory, step by step: records in, a handler, records
//! out.

use std::{
    env,
    hint::black_box,
    mem,
    time::{Duration, Instant},
};

use ringhook::{
    Bot,
    internals::{
        DatedAnswers, LoopbackConnection, Routes, TestPipeline,
        http::{HttpLimits, HttpSession, Status, Step, response},
        update::{BotId, Update, UpdateParser},
    },
};
use rustls::{ClientConnection, version::TLS13};

use super::{Configs, PATH, SECRET, answer, encrypted_requests};

/// Where this variable is set, answers have no date.
const WITHOUT_DATE: &str = "BENCH_WITHOUT_DATE";

/// Updates that a shard hands over before the worker runs, as at saturation.
pub(crate) const BATCH: usize = 64;

/// Steps in the order in which an update passes them.
pub(crate) const STEPS: [&str; 8] =
    ["open", "http", "route", "parse", "dispatch", "answer", "work", "reclaim"];

/// Each step in a function of its own, so that a profiler can separate them by name.
macro_rules! steps {
    ($($step:ident)*) => {$(
        #[inline(never)]
        fn $step<T>(work: impl FnOnce() -> T) -> T {
            let done = work();
            // So that this is no tail call, in which a profiler would lose the frame.
            black_box(());
            done
        }
    )*};
}

steps! {
    step_open step_http step_route step_parse step_dispatch step_answer step_work step_reclaim
}

/// All that an update passes on a shard and in a worker.
pub(crate) struct Path {
    client: ClientConnection,
    connection: LoopbackConnection,
    answer: Vec<u8>,
    /// `None` where they are to be without.
    dates: Option<DatedAnswers>,
    http: HttpSession,
    pipeline: TestPipeline,
    next_id: u64,
    parser: UpdateParser,
    routes: Routes,
}

impl Path {
    /// After a handshake, with a handler that asks for a value of each update or for none.
    pub(crate) fn new(asks: bool) -> Self {
        let configs = Configs::new(&TLS13, false);
        let mut client = configs.client();
        let connection =
            LoopbackConnection::accept(configs.server, |said| answer(&mut client, said));
        Self {
            client,
            connection: connection.unwrap(),
            answer: Vec::with_capacity(256),
            dates: env::var_os(WITHOUT_DATE).is_none().then(DatedAnswers::default),
            http: HttpSession::new(HttpLimits::default()),
            pipeline: TestPipeline::new(move |update: &Update| {
                let payload = if asks { update.payload() } else { None };
                let chat = payload.and_then(|payload| payload.get("chat"));
                black_box((update.id(), update.kind(), chat.and_then(|chat| chat.get("id"))));
            }),
            next_id: 1,
            parser: UpdateParser::default(),
            routes: Routes::new(&[Bot::new("bench", PATH, SECRET).unwrap()]),
        }
    }

    /// Takes the next `updates` along the whole path. Returns how long that was, without the
    /// client's part and the copy that a kernel would make.
    pub(crate) fn run(&mut self, updates: u64) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = updates;
        while left > 0 {
            let count = left.min(BATCH as u64);
            let requests = encrypted_requests(&mut self.client, self.next_id, count);
            self.next_id += count;
            left -= count;
            self.pipeline.prepare(requests.len());
            let start = Instant::now();
            for records in &requests {
                self.take_update(records);
            }
            step_work(|| self.pipeline.work());
            spent += start.elapsed();
        }
        spent
    }

    /// All that a shard does for one update.
    fn take_update(&mut self, mut records: &[u8]) {
        let mut bot = Err(Status::NotFound);
        loop {
            enum Then {
                Accept(Result<BotId, Status>),
                Answer,
                Read,
            }
            let (http, connection, routes) = (&mut self.http, &mut self.connection, &self.routes);
            let then = step_http(|| {
                let (consumed, step) = http.advance(connection.bytes());
                let then = match step {
                    Step::Head(head) => Then::Accept(step_route(|| routes.route_head(&head))),
                    Step::Complete => Then::Answer,
                    Step::NeedMore => Then::Read,
                    step => panic!("{step:?}"),
                };
                connection.consume(consumed);
                then
            });
            match then {
                Then::Accept(routed) => {
                    bot = routed;
                    let (pipeline, parser) = (&self.pipeline, &mut self.parser);
                    step_reclaim(|| pipeline.reclaim(parser));
                    self.http.accept_body(self.parser.take_body(0));
                }
                Then::Read => self.receive(&mut records),
                Then::Answer => break,
            }
        }
        let now = Instant::now();
        let body = self.http.take_body().unwrap();
        let update = step_parse(|| self.parser.parse(body, bot.unwrap(), now)).unwrap();
        let now = Instant::now();
        step_dispatch(|| self.pipeline.dispatch(update, now)).unwrap();
        let (http, connection) = (&self.http, &mut self.connection);
        self.answer.clear();
        let answer = &mut self.answer;
        let dates = self.dates.as_ref();
        step_answer(|| match dates {
            Some(dates) => {
                dates.with(http.directive(), now, |bytes| connection.seal(bytes, answer))
            }
            None => connection.seal(response(Status::Ok, http.directive()), answer),
        })
        .unwrap();
        black_box(answer);
    }

    /// Reads until there is data.
    fn receive(&mut self, records: &mut &[u8]) {
        let connection = &mut self.connection;
        while let Err(missing) = step_open(|| connection.open()).unwrap() {
            let mut bytes = step_open(|| connection.lend(missing));
            // The kernel's part.
            let room = (bytes.capacity() - bytes.len()).min(records.len());
            let (come, rest) = mem::take(records).split_at(room);
            assert!(!come.is_empty());
            bytes.extend_from_slice(come);
            *records = rest;
            connection.take_back(bytes);
        }
    }
}
