//! The bytes: requests as the load generator sends them, and ringhook's answer to one.

use std::io::Write as _;

use ringhook::internals::http::{ConnectionDirective, Status, response};
use rustls::{CipherSuite, version::TLS13};

use crate::support::{Configs, request};

/// How many different ones; a client begins again behind the last.
const COUNT: u64 = 4096;

/// What goes over the wire in both directions.
pub(crate) struct Requests {
    /// Each request's head and body, and where the body begins.
    pub(crate) plain: Vec<(Vec<u8>, usize)>,
    /// How much longer a request's record is.
    pub(crate) overhead: usize,
    /// Ringhook's answer, and how long its record is.
    pub(crate) answer: &'static [u8],
    pub(crate) answer_record: usize,
    /// What ringhook agrees on with a client that offers all suites.
    pub(crate) suite: CipherSuite,
}

impl Requests {
    pub(crate) fn new() -> Self {
        let plain: Vec<_> = (1..=COUNT).map(request).collect();
        // Real records give the length of a record and the cipher.
        let (mut client, mut server) = Configs::new(&TLS13, false).connected();
        let suite = server.negotiated_cipher_suite().unwrap().suite();
        let mut record = Vec::new();
        client.writer().write_all(&plain[0].0).unwrap();
        client.write_tls(&mut record).unwrap();
        let overhead = record.len() - plain[0].0.len();
        let answer = response(Status::Ok, ConnectionDirective::Persist);
        record.clear();
        server.writer().write_all(answer).unwrap();
        server.write_tls(&mut record).unwrap();
        Self { plain, overhead, answer, answer_record: record.len(), suite }
    }

    /// Bytes of each request on the wire.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.plain.iter().map(|(bytes, _)| bytes.len() + self.overhead)
    }

    /// Mean bytes of a body, and of a request on the wire.
    pub(crate) fn means(&self) -> (f64, f64) {
        let count = self.plain.len() as f64;
        let bodies: usize = self.plain.iter().map(|(bytes, body)| bytes.len() - body).sum();
        (bodies as f64 / count, self.lengths().sum::<usize>() as f64 / count)
    }
}
