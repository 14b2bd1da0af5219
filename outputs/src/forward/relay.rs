//! Webhook replies on their way to the Bot API.
//!
//! | what happens | what is done |
//! |---|---|
//! | no connection, or nothing of the request was sent | again, within the wait |
//! | 429 | again after `retry_after`, within the wait; a streamed body is gone, so not then |
//! | no answer after something was sent, or 5xx | not again: the method may have been executed |
//! | any other status but 2xx | not again: it would be refused again |

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER},
};
use http_body_util::BodyExt as _;
use ringhook::update::BotId;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

use super::{
    reply::{Call, CallBody, Spliced, drain},
    retry::retry_after,
    settings::ForwardSettings,
    status::Counters,
};
use crate::client::{
    link::{Answer, Link, RequestBody, Unanswered, send},
    target::Target,
    terms::Bots,
};

/// Methods that a reply may not call: they would change what updates come, and how.
const REFUSED: [&str; 4] = ["setwebhook", "deletewebhook", "logout", "close"];
/// The most times that one reply is sent.
const TRIES_MAX: u32 = 5;
/// The wait for a Bot API that takes no connection, doubled from one try to the next.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);
/// The wait that a 429 without a time gets.
const LIMITED_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait that is understood, in seconds; more than any that is waited for.
const HOUR: u64 = 3600;
/// How long a body that is streamed may take.
const STREAM_TIMEOUT: Duration = Duration::from_secs(300);

/// Sends replies on.
pub(super) struct Relay {
    bots: Arc<Bots>,
    connect_timeout: Duration,
    counters: Arc<Counters>,
    links: Mutex<HashMap<Target, Arc<Link>>>,
    /// How many replies are under way at once, so that those that wait for the Bot API are not all
    /// in memory.
    permits: Semaphore,
    /// Bots without a token of which that has been said.
    said: Mutex<HashSet<BotId>>,
    timeout: Duration,
    tls: Arc<ClientConfig>,
    wait: Duration,
}

/// The description of a failure, as far as it is looked at.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
}

/// How a call ended, or one try of it.
enum Try {
    Executed,
    Ambiguous,
    Refused(StatusCode),
    /// It may be sent again after this time.
    Limited(Duration),
    Unreachable,
    /// It was cut off by the target, or was too long.
    Broken,
}

impl Relay {
    pub(super) fn new(
        settings: &ForwardSettings,
        bots: &Arc<Bots>,
        tls: &Arc<ClientConfig>,
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            bots: Arc::clone(bots),
            connect_timeout: settings.connect_timeout,
            counters: Arc::clone(counters),
            links: Mutex::default(),
            permits: Semaphore::new(settings.connections),
            said: Mutex::default(),
            timeout: settings.timeout,
            tls: Arc::clone(tls),
            wait: settings.reply_wait,
        }
    }

    /// To be held while a reply is under way.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.permits.acquire().await.ok()
    }

    pub(super) fn sweep(&self, since: std::time::Instant) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.values().for_each(|link| link.sweep(since));
        // A root that no bot has any more, or that nothing was sent to for long.
        links.retain(|_, link| Arc::strong_count(link) > 1 || link.has_idle());
    }

    /// Has the Bot API execute `call` for `bot`, and counts what becomes of it.
    pub(super) async fn execute(&self, bot: BotId, call: Call) {
        let counters = &self.counters;
        if REFUSED.contains(&call.method.to_ascii_lowercase().as_str()) {
            counters.refused.increment();
            tracing::warn!(%bot, "a webhook reply calls a method that replies may not call");
            return;
        }
        let terms = self.bots.get(bot);
        let Some((terms, api)) =
            terms.as_ref().and_then(|terms| Some((terms, terms.api.as_ref()?)))
        else {
            counters.dropped.increment();
            if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(bot) {
                let name = terms.as_ref().map_or("?", |terms| &terms.name);
                tracing::warn!(
                    bot = name,
                    "webhook replies of this bot are dropped: give it a token to have them executed"
                );
            }
            return;
        };
        let Some(uri) = api.root.uri_below(&api.path(&call.method)) else {
            counters.reply_failed.increment();
            return;
        };
        let link = self.link(&api.root);
        let outcome = self.send_until_it_is_over(&link, &uri, call).await;
        let (counter, what) = match outcome {
            Try::Executed => return counters.relayed.increment(),
            Try::Ambiguous => (&counters.ambiguous, "it may not have been executed"),
            Try::Refused(status) => {
                counters.reply_failed.increment();
                let status = status.as_u16();
                tracing::warn!(bot = terms.name, status, "the Bot API refused a webhook reply");
                return;
            }
            Try::Limited(_) => (&counters.reply_failed, "the Bot API asked to wait for too long"),
            Try::Unreachable => (&counters.reply_failed, "the Bot API is not to be reached"),
            Try::Broken => (&counters.reply_failed, "it was cut off or is too long"),
        };
        counter.increment();
        tracing::warn!(bot = terms.name, "a webhook reply is lost: {what}");
    }

    fn link(&self, root: &Target) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.entry(root.clone()).or_insert_with(|| {
            Arc::new(Link::new(root.clone(), Arc::clone(&self.tls), self.connect_timeout))
        });
        Arc::clone(link)
    }

    /// Sends a call until it is executed, can not be sent again, or has waited long enough.
    async fn send_until_it_is_over(&self, link: &Link, uri: &Uri, call: Call) -> Try {
        let Call { method: _, content_type, body } = call;
        let give_up_at = Instant::now() + self.wait;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, link.target().authority().clone());
        headers.insert(CONTENT_TYPE, content_type);
        let body = match body {
            CallBody::Whole(body) => body,
            CallBody::Streamed { read, rest, length } => {
                if let Some(length) = length {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
                let is_broken = Arc::new(AtomicBool::new(false));
                let body = Spliced::new(read, rest, length, &is_broken).boxed_unsync();
                let body = RequestBody::Streamed(body);
                let request = request(uri, &headers, body);
                let outcome = send_once(link, request, STREAM_TIMEOUT, give_up_at).await;
                // The Bot API executes nothing that it has not got whole.
                return if is_broken.load(Relaxed) { Try::Broken } else { outcome };
            }
        };
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        for tries in 1.. {
            let request = request(uri, &headers, RequestBody::whole(body.clone()));
            match send_once(link, request, self.timeout, give_up_at).await {
                Try::Limited(wait) if tries < TRIES_MAX && Instant::now() + wait < give_up_at => {
                    sleep(wait).await;
                }
                outcome => return outcome,
            }
        }
        Try::Unreachable
    }
}

/// Sends one request, on the first connection that takes some of it. `limit` is the time for it.
async fn send_once(
    link: &Link,
    mut request: Request<RequestBody>,
    limit: Duration,
    give_up_at: Instant,
) -> Try {
    let (mut kept, mut pause) = (link.take(), CONNECT_PAUSE);
    loop {
        let is_kept = kept.is_some();
        let connection = match kept.take() {
            Some(sender) => Ok(sender),
            None => link.connect().await,
        };
        if let Ok(sender) = connection {
            match timeout(limit, send(sender, request)).await {
                Ok(Ok(answer)) => return outcome(link, answer).await,
                Ok(Err(Unanswered { unsent: Some(unsent) })) => request = unsent,
                Ok(Err(Unanswered { unsent: None })) | Err(_) => return Try::Ambiguous,
            }
            if is_kept {
                continue;
            }
        }
        if Instant::now() + pause > give_up_at {
            return Try::Unreachable;
        }
        sleep(pause).await;
        pause *= 2;
    }
}

fn request(uri: &Uri, headers: &HeaderMap, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers.clone();
    request
}

/// What an answer of the Bot API says.
async fn outcome(link: &Link, answer: Answer) -> Try {
    let Answer { response, sender } = answer;
    let (head, body) = response.into_parts();
    let (is_read, outcome) = match head.status {
        status if status.is_success() => (drain(body).await.is_some(), Try::Executed),
        StatusCode::TOO_MANY_REQUESTS => {
            let asked = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let asked = asked.and_then(|text| retry_after(text, SystemTime::now()));
            let body = drain(body).await;
            let told = body.as_ref().and_then(|body| {
                let failure: Failure = serde_json::from_slice(body).ok()?;
                failure.parameters.retry_after.map(|seconds| Duration::from_secs(seconds.min(HOUR)))
            });
            (body.is_some(), Try::Limited(told.or(asked).unwrap_or(LIMITED_PAUSE)))
        }
        status if status.is_server_error() => (drain(body).await.is_some(), Try::Ambiguous),
        status => (drain(body).await.is_some(), Try::Refused(status)),
    };
    if is_read {
        link.put(sender).await;
    }
    outcome
}
