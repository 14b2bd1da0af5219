//! The requests for one update, from the connection to what its target replies.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
};
use hyper::body::Body as _;
use ringhook::{Update, update::BotId};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout_at},
};

use super::{
    link::{Answer, Link, Lost, RequestBody, Unanswered, send},
    relay::Relay,
    reply::{self, CallBody, Reply},
    retry::retry_after,
    settings::HeaderMapping,
    status::Counters,
};

/// The name of the header with a webhook's secret.
const SECRET_HEADER: HeaderName = HeaderName::from_static("x-telegram-bot-api-secret-token");
/// How many headers a request has, without those of a mapping.
const HEADERS: usize = 4;
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
    pub(super) requests: Vec<Outgoing>,
    pub(super) link: Arc<Link>,
    pub(super) relay: Arc<Relay>,
    pub(super) counters: Arc<Counters>,
    /// For each request.
    pub(super) timeout: Duration,
    pub(super) events: UnboundedSender<Event>,
}

/// One request.
pub(super) struct Outgoing {
    secret: Option<HeaderValue>,
    /// Headers that the program or the configuration gives it.
    further: Option<HeaderMap>,
    body: Bytes,
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
        status: StatusCode,
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
        for outgoing in &requests {
            let is_last = reporter.taken + 1 == requests.len();
            match self.make(outgoing, is_last).await {
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
    async fn make(&self, outgoing: &Outgoing, is_last: bool) -> Outcome {
        let deadline = Instant::now() + self.timeout;
        self.counters.sent.increment();
        let answer = match timeout_at(deadline, post(&self.link, outgoing)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(lost)) => return Outcome::Lost(lost),
            Err(_) => return Outcome::Lost(Lost::Timeout),
        };
        let status = answer.response.status();
        if !status.is_success() {
            let retry_after = retry_after(answer.response.headers(), SystemTime::now());
            let Answer { response, sender } = answer;
            if Box::pin(reply::drain(response.into_body())).await.is_some() {
                self.link.put(sender).await;
            }
            return Outcome::Status { status, retry_after };
        }
        self.counters.delivered.increment();
        // What is rare is in boxes, so that a request without it moves and allocates less.
        if answer.response.body().is_end_stream() {
            self.link.put(answer.sender).await;
            return Outcome::Delivered;
        }
        let (reply, mut sender) = Box::pin(reply::read(answer, deadline)).await;
        let is_streamed = matches!(
            &reply,
            Reply::Call(call) if matches!(call.body, CallBody::Streamed { .. })
        );
        if !is_streamed && let Some(sender) = sender.take() {
            self.link.put(sender).await;
        }
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
                if is_last && !is_streamed {
                    let _ = self.events.send(Event::Taken { id: self.id });
                }
                Box::pin(self.relay.execute(self.bot, call)).await;
            }
        }
        if let Some(sender) = sender {
            self.link.put(sender).await;
        }
        Outcome::Delivered
    }
}

/// Sends a request on a kept connection, or on a new one where that has been closed by the target.
///
/// Where a connection ends with a request that was sent, one more is made, even if only to learn
/// whether the target's process is still there.
async fn post(link: &Link, outgoing: &Outgoing) -> Result<Answer, Lost> {
    let mut was_sent = false;
    if let Some(sender) = link.take() {
        match send(sender, outgoing.request(link)).await {
            Ok(answer) => return Ok(answer),
            Err(Unanswered { unsent }) => was_sent = unsent.is_none(),
        }
    }
    let ended = |lost| if was_sent && lost == Lost::Refused { Lost::Ended } else { lost };
    let sender = link.connect().await.map_err(ended)?;
    match send(sender, outgoing.request(link)).await {
        Ok(answer) => Ok(answer),
        Err(_) => match link.connect().await {
            Err(Lost::Refused) => Err(Lost::Ended),
            Err(_) => Err(Lost::Reset),
            Ok(sender) => {
                link.put(sender).await;
                Err(Lost::Reset)
            }
        },
    }
}

impl Outgoing {
    /// The request for one update, as Telegram would make it but for `Connection` and
    /// `Accept-Encoding`: the first is the default, and a compressed reply could not be read.
    pub(super) fn new(
        update: &Update,
        secret: Option<&HeaderValue>,
        mapping: Option<&HeaderMapping>,
    ) -> Self {
        let body = Bytes::copy_from_slice(update.body());
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
        Self { secret: secret.cloned(), further, body }
    }

    /// hyper adds `Content-Length`.
    fn request(&self, link: &Link) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::whole(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = link.target().uri();
        let headers = request.headers_mut();
        headers.reserve(HEADERS);
        headers.insert(HOST, link.target().authority().clone());
        if let Some(secret) = &self.secret {
            headers.insert(SECRET_HEADER, secret.clone());
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(further) = &self.further {
            headers.extend(further.clone());
        }
        request
    }
}
