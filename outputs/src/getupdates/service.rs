//! What is done with each request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use ringhook::update::BotId;
use serde_json::json;
use tokio::time::{sleep, timeout, timeout_at};

use super::{
    address::{Address, Wanted},
    answer::{self, Answer},
    hub::{Ask, Hub, Look, Signal},
    params::Params,
    pass::Pass,
    queue::Poll,
    status::Counters,
};
use crate::client::terms::{Api, Bots};

/// The longest body of a method that is answered here; parameters of updates need no more.
const BODY_MAX: usize = 64 * 1024;
/// How long such a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for updates, in seconds, as at Telegram.
const POLL_TIMEOUT_MAX: i64 = 50;
/// The most updates of an answer, as at Telegram.
const LIMIT_MAX: i64 = 100;
/// Says which consumer asks, where that is not in the path.
const CONSUMER_HEADER: &str = "x-ringhook-consumer";

const CONFLICT: &str = "Conflict: terminated by other getUpdates request; make sure that only one \
                        bot instance is running";
const SET_WEBHOOK: &str = "Bad Request: this bot gets its updates from ringhook, whose webhook it \
                           would replace; set that one with `ringhook webhook set`";
const LOG_OUT: &str = "Bad Request: this bot gets its updates from ringhook, and they would end; \
                       call logOut at the Bot API itself";

/// Answers the requests of clients.
pub(super) struct Service {
    pub(super) bots: Arc<Bots>,
    pub(super) consumers: usize,
    pub(super) counters: Arc<Counters>,
    pub(super) hub: Arc<Hub>,
    pub(super) pass: Pass,
}

/// A method that is answered here.
struct Call {
    bot: BotId,
    name: String,
    /// Which consumer calls it, counted from 0, where that is said.
    consumer: Option<usize>,
    params: Params,
}

impl Service {
    /// Answers `request`, which came by this connection.
    pub(super) async fn answer(&self, request: Request<Incoming>, connection: u64) -> Answer {
        let address = Address::parse(request.uri().path());
        let known = address.and_then(|address| {
            let (bot, terms) = self.bots.with_token(&address.token)?;
            Some((bot, terms, address))
        });
        let Some((bot, terms, Address { consumer, wanted, .. })) = known else {
            self.counters.refused.increment();
            return answer::error(StatusCode::NOT_FOUND, "Not Found");
        };
        // A bot is found by its token only.
        let Some(api) = &terms.api else {
            return answer::error(StatusCode::NOT_FOUND, "Not Found");
        };
        if ![Method::GET, Method::POST].contains(request.method()) {
            return answer::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        }
        let (name, is_test) = match wanted {
            Wanted::Method { name, is_test } => (name, is_test),
            Wanted::File(path) => return self.pass_on(api, request, &api.file_path(&path)).await,
        };
        let lower = name.to_ascii_lowercase();
        if !is_here(&lower) {
            let test = if is_test { "test/" } else { "" };
            return self.pass_on(api, request, &api.path(&format!("{test}{name}"))).await;
        }
        let (parts, body) = request.into_parts();
        let body = match read(body).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let query = parts.uri.query().unwrap_or_default();
        let params = Params::parse(query, content_type.unwrap_or_default(), &body);
        match self.consumer(consumer.as_deref(), &parts.headers, &params) {
            Ok(consumer) => {
                let call = Call { bot, name: lower, consumer, params };
                self.execute(call, connection).await
            }
            Err(answer) => *answer,
        }
    }

    async fn execute(&self, call: Call, connection: u64) -> Answer {
        match call.name.as_str() {
            "getupdates" => self.get_updates(&call, connection).await,
            "getwebhookinfo" => {
                let pending = self.hub.pending(call.bot);
                let info = json!({
                    "url": "",
                    "has_custom_certificate": false,
                    "pending_update_count": pending,
                });
                answer::result(&info, None)
            }
            "deletewebhook" => self.delete_webhook(&call),
            // Without a URL it deletes.
            "setwebhook" if call.params.get("url").is_none() => self.delete_webhook(&call),
            "setwebhook" => answer::error(StatusCode::BAD_REQUEST, SET_WEBHOOK),
            "logout" => answer::error(StatusCode::BAD_REQUEST, LOG_OUT),
            // There is nothing to close: the updates come by a webhook.
            _ => answer::result(&json!(true), None),
        }
    }

    fn delete_webhook(&self, call: &Call) -> Answer {
        if call.params.is_true("drop_pending_updates") {
            self.hub.forget(call.bot, call.consumer, Instant::now());
        }
        answer::result(&json!(true), Some("Webhook is already deleted"))
    }

    async fn get_updates(&self, call: &Call, connection: u64) -> Answer {
        let consumer = match call.consumer {
            Some(consumer) => consumer,
            None if self.consumers == 1 => 0,
            None => return no_consumer(self.consumers),
        };
        let params = &call.params;
        let offset = params.number("offset", 0, i32::MIN.into()..=i32::MAX.into());
        let limit = params.number("limit", LIMIT_MAX, 1..=LIMIT_MAX);
        let seconds = params.number("timeout", 0, 0..=POLL_TIMEOUT_MAX);
        let ask = Ask {
            poll: Poll { offset, limit: usize::try_from(limit).unwrap_or(1), connection },
            timeout: Duration::from_secs(seconds.unsigned_abs()),
            allowed: params.allowed_updates(),
        };
        let pending = self.hub.begin((call.bot, consumer), ask, Instant::now());
        loop {
            let receiver = match pending.look(Instant::now()) {
                Look::Answer(answer) => return answer,
                Look::Wait(receiver) => receiver,
            };
            if let Ok(Ok(Signal::Conflict(after))) =
                timeout_at(pending.deadline.into(), receiver).await
            {
                self.counters.conflicts.increment();
                sleep(after).await;
                return answer::error(StatusCode::CONFLICT, CONFLICT);
            }
        }
    }

    /// Which consumer asks, counted from 0; `None` where it does not say.
    fn consumer(
        &self,
        in_path: Option<&str>,
        headers: &HeaderMap,
        params: &Params,
    ) -> Result<Option<usize>, Box<Answer>> {
        let in_header = headers.get(CONSUMER_HEADER).and_then(|value| value.to_str().ok());
        let said = in_path.or(in_header).or_else(|| params.get("consumer"));
        let Some(said) = said else { return Ok(None) };
        let number = said.parse().ok().filter(|number| (1..=self.consumers).contains(number));
        number
            .map(|number: usize| Some(number - 1))
            .ok_or_else(|| Box::new(no_consumer(self.consumers)))
    }

    /// Sends the request to `path` below the bot's Bot API.
    async fn pass_on(&self, api: &Api, request: Request<Incoming>, path: &str) -> Answer {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let uri: Option<Uri> = api.root.uri_below(&format!("{path}{query}"));
        let Some(uri) = uri else { return answer::error(StatusCode::NOT_FOUND, "Not Found") };
        self.counters.passed.increment();
        match self.pass.pass(&api.root, uri, request).await {
            Ok(answer) => answer,
            Err(failed) => {
                self.counters.failed.increment();
                failed.answer()
            }
        }
    }
}

/// Whether a method, in lower case, is answered here.
fn is_here(name: &str) -> bool {
    ["getupdates", "getwebhookinfo", "deletewebhook", "setwebhook", "logout", "close"]
        .contains(&name)
}

fn no_consumer(consumers: usize) -> Answer {
    let text = format!(
        "Bad Request: {consumers} consumer(s) share this bot: add /consumer/1 .. \
         /consumer/{consumers} to the API root"
    );
    answer::error(StatusCode::BAD_REQUEST, &text)
}

/// The whole of a short body.
async fn read(body: Incoming) -> Result<Bytes, Answer> {
    let limited = Limited::new(body, BODY_MAX);
    match timeout(BODY_TIMEOUT, limited.collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(answer::error(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"))
        }
        Ok(Err(_)) => {
            Err(answer::error(StatusCode::BAD_REQUEST, "Bad Request: the body is broken"))
        }
        Err(_) => Err(answer::error(StatusCode::REQUEST_TIMEOUT, "Request Timeout")),
    }
}
