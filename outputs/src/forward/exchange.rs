//! The requests for one update, from the connection to what its target replies.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
};
use ringhook::{Update, update::BotId};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout_at},
};

use super::{
    relay::Relay,
    reply::{self, CallBody, Reply},
    settings::HeaderMapping,
    status::Counters,
    upstream::{SECRET_HEADER, Upstream},
};
use crate::client::dial::Lost;

/// What a mapping of headers can not set.
const OWN_HEADERS: [HeaderName; 10] = [
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    SECRET_HEADER,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The requests for one update, or for the updates of an album in their order.
pub(super) struct Exchange {
    pub(super) id: u64,
    pub(super) bot: BotId,
    pub(super) requests: Vec<Vec<u8>>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) relay: Arc<Relay>,
    pub(super) counters: Arc<Counters>,
    /// For each request.
    pub(super) timeout: Duration,
    pub(super) events: UnboundedSender<Event>,
}

/// What an exchange tells the engine.
pub(super) enum Event {
    /// The target has taken all; what is still to be done concerns the Bot API.
    Taken { id: u64 },
    /// It is over.
    Finished {
        id: u64,
        /// How many requests were taken.
        taken: usize,
        outcome: Outcome,
    },
}

/// How an exchange ended.
pub(super) enum Outcome {
    Delivered,
    /// An answer that is not 2xx.
    Status {
        status: u16,
        retry_after: Option<Duration>,
    },
    Lost(Lost),
}

/// Tells the engine the end in any case, a panic included.
struct Reporter {
    events: UnboundedSender<Event>,
    id: u64,
    taken: usize,
    outcome: Option<Outcome>,
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Outcome::Lost(Lost::Reset));
        // Where the engine is gone, so is the update.
        let _ = self.events.send(Event::Finished { id: self.id, taken: self.taken, outcome });
    }
}

impl Exchange {
    pub(super) async fn run(mut self) {
        let requests = std::mem::take(&mut self.requests);
        let events = self.events.clone();
        let mut reporter = Reporter { events, id: self.id, taken: 0, outcome: None };
        for request in &requests {
            let is_last = reporter.taken + 1 == requests.len();
            match self.make(request, is_last).await {
                Outcome::Delivered => reporter.taken += 1,
                outcome => {
                    reporter.outcome = Some(outcome);
                    return;
                }
            }
        }
        reporter.outcome = Some(Outcome::Delivered);
    }

    /// Makes one request, and the call that it is answered with.
    async fn make(&self, request: &[u8], is_last: bool) -> Outcome {
        let deadline = Instant::now() + self.timeout;
        self.counters.sent.increment();
        let answer = match timeout_at(deadline, self.upstream.ask(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(lost)) => return Outcome::Lost(lost),
            Err(_) => return Outcome::Lost(Lost::Timeout),
        };
        let (status, retry_after) = (answer.head.status, answer.head.retry_after);
        // What is rare is in boxes, so that a request without it moves and allocates less.
        if !answer.head.is_success() {
            if let Some(body) = self.upstream.body(answer) {
                Box::pin(reply::drain(body)).await;
            }
            return Outcome::Status { status, retry_after };
        }
        self.counters.delivered.increment();
        let content_type = answer.head.content_type.clone();
        if let Some(body) = self.upstream.body(answer) {
            let reply = Box::pin(reply::read(content_type, body, deadline)).await;
            Box::pin(self.follow(reply, is_last)).await;
        }
        Outcome::Delivered
    }

    /// Does what a target replies.
    async fn follow(&self, reply: Reply, is_last: bool) {
        match reply {
            Reply::Nothing => {}
            Reply::Broken => {
                self.counters.reply_failed.increment();
                tracing::warn!(bot = %self.bot, "a webhook reply was cut off or is too long");
            }
            Reply::Unnamed => {
                self.counters.refused.increment();
                tracing::warn!(bot = %self.bot, "a webhook reply calls no method of the Bot API");
            }
            Reply::Call(call) => {
                // While all permits are taken the update counts against its target's connections,
                // so that replies slow their target down instead of filling the memory.
                let _permit = self.relay.permit().await;
                let is_streamed = matches!(call.body, CallBody::Streamed { .. });
                if is_last && !is_streamed {
                    let _ = self.events.send(Event::Taken { id: self.id });
                }
                self.relay.execute(self.bot, call).await;
            }
        }
    }
}

/// The request for one update.
pub(super) fn request(
    upstream: &Upstream,
    update: &Update,
    secret: Option<&HeaderValue>,
    mapping: Option<&HeaderMapping>,
) -> Vec<u8> {
    let further = mapping.map(|map| {
        let mut further = HeaderMap::new();
        // It is the program's.
        let map = || map(update, &mut further);
        if catch_unwind(AssertUnwindSafe(map)).is_err() {
            tracing::error!("the program's mapping of headers has panicked");
            further.clear();
        }
        OWN_HEADERS.iter().for_each(|own| drop(further.remove(own)));
        further
    });
    upstream.request(secret, &further.unwrap_or_default(), update.body())
}
