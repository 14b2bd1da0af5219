//! One bot as Telegram knows it: what waits for it, its webhook, and what went wrong with that.

use std::{
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{
    Rules,
    answer::Answer,
    calls::Call,
    delivery::{Attempt, Job, Outcome, Target},
    kinds::{self, Wanted},
    queue::{Pending, Schedule, Waiting},
    url::{WebhookUrl, is_reserved},
};
use crate::support::wait_until;

/// More than this is lost at Telegram.
const MAX_WAITING: usize = 100_000;
const MAX_CERTIFICATE: usize = 3 << 20;
/// An answer to getUpdates has at most this many bytes of updates.
const MAX_BATCH: usize = 1 << 22;
const OTHER_GET_UPDATES: &str = "Conflict: terminated by other getUpdates request; make sure that \
                                 only one bot instance is running";
const WEBHOOK_IS_ACTIVE: &str = "Conflict: can't use getUpdates method while webhook is active; use \
                                 deleteWebhook to delete the webhook first";

/// One bot of the server.
pub(crate) struct FakeBot {
    token: String,
    rules: Arc<Rules>,
    state: Mutex<State>,
    /// Whenever something changes.
    changed: Condvar,
}

/// A webhook as it is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    /// As it was uploaded.
    pub(crate) certificate: Option<Vec<u8>>,
    /// What the name has resolved to, or what was given.
    pub(crate) ip_address: IpAddr,
    /// True where `ip_address` was given.
    pub(crate) has_fixed_ip_address: bool,
    pub(crate) max_connections: u32,
    /// Empty where there is none.
    pub(crate) secret_token: String,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    last_id: i64,
    wanted: Wanted,
    webhook: Option<Active>,
    /// Goes up whenever a webhook comes or goes: what began under another one does not count.
    generation: u64,
    last_error: Option<(u64, String)>,
    last_synchronization_error: Option<u64>,
    is_revoked: bool,
    /// The connections to the webhook.
    sockets: Vec<TcpStream>,
    attempts: Vec<Attempt>,
    route: Option<SocketAddr>,
    is_paused: bool,
    next_set_webhook: Option<Instant>,
    next_conflict: Option<Instant>,
    last_get_updates: Option<(i64, Instant)>,
    /// The number of the long poll that waits, of all that there ever were.
    poll: Option<u64>,
    polls: u64,
    /// Why the long poll that waited last was ended by another client.
    poll_ended: &'static str,
    is_over: bool,
}

struct Active {
    webhook: Webhook,
    target: Arc<Target>,
    schedule: Schedule,
    last_success: Option<Instant>,
    next_connection: Option<Instant>,
    gone_since: Option<Instant>,
}

impl FakeBot {
    pub(super) fn new(token: &str, rules: Arc<Rules>) -> Self {
        let state = Mutex::new(State { last_id: 1_000, ..State::default() });
        Self { token: token.to_owned(), rules, state, changed: Condvar::new() }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The bot's own id, which is what its token begins with.
    pub(crate) fn id(&self) -> i64 {
        self.token.split(':').next().and_then(|id| id.parse().ok()).unwrap_or_default()
    }

    /// Something happens in Telegram: `update` is JSON, whose `update_id` is used if it has one,
    /// and has to be higher than any before. Returns the id; `None` where the bot does not want
    /// this kind or too much waits already.
    #[track_caller]
    pub(crate) fn push(&self, update: &str) -> Option<i64> {
        let parsed: Value = serde_json::from_str(update).expect("an update is JSON");
        let kind = kinds::kind(&parsed);
        let mut state = self.lock();
        if !state.wanted.has(&kind) || state.waiting.len() >= MAX_WAITING {
            return None;
        }
        let given = parsed.get("update_id").and_then(Value::as_i64);
        let id = given.unwrap_or(state.last_id + 1);
        assert!(id > state.last_id, "{id} does not follow {}", state.last_id);
        state.last_id = id;
        let (lane, now) = (kinds::lane(id, &kind, &parsed), Instant::now());
        if let Some(active) = &mut state.webhook {
            active.schedule.add(id, &lane, now);
        }
        let body = body(id, given.is_some(), update);
        state.waiting.insert(id, Pending { body, lane, expires: now + kinds::life(&kind) });
        drop(state);
        self.changed.notify_all();
        Some(id)
    }

    /// Pushes `count` small messages of seven chats; their ids.
    pub(crate) fn push_many(&self, count: usize) -> Vec<i64> {
        let now = unix_time();
        let push = |number: usize| {
            let chat = number % 7 + 1;
            self.push(&format!(
                "{{\"message\":{{\"message_id\":{number},\"date\":{now},\"chat\":{{\"id\":{chat},\
                 \"type\":\"private\"}},\"text\":\"hello \\u0416 {number}\"}}}}"
            ))
        };
        (1..=count).filter_map(push).collect()
    }

    /// The ids that are not confirmed.
    pub(crate) fn pending(&self) -> Vec<i64> {
        self.lock().waiting.keys().copied().collect()
    }

    /// Waits until nothing is left to be delivered.
    #[track_caller]
    pub(crate) fn wait_delivered(&self) {
        wait_until("everything is delivered", || self.lock().waiting.is_empty());
    }

    /// The webhook; `None` where there is none.
    pub(crate) fn webhook(&self) -> Option<Webhook> {
        self.lock().webhook.as_ref().map(|active| active.webhook.clone())
    }

    /// `last_error_message`; `None` where nothing has failed since the last setWebhook.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.lock().last_error.as_ref().map(|(_, message)| message.clone())
    }

    /// Waits until the webhook has failed with `message`, or something that contains it.
    #[track_caller]
    pub(crate) fn wait_error(&self, message: &str) {
        wait_until(&format!("the webhook fails with {message:?}"), || {
            self.last_error().is_some_and(|error| error.contains(message))
        });
    }

    /// All tries to deliver, in the order of their ends.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.lock().attempts.clone()
    }

    /// How many calls of getUpdates have had to wait so far, the one that waits now among them.
    pub(crate) fn polls(&self) -> u64 {
        self.lock().polls
    }

    /// Another client with the token calls setWebhook, and names nothing but the URL.
    #[track_caller]
    pub(crate) fn set_webhook_behind_back(&self, url: &str) {
        let answer = self.change_webhook(self.lock(), &internal("setWebhook", url));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Another client with the token calls deleteWebhook.
    pub(crate) fn remove_webhook_behind_back(&self) {
        self.change_webhook(self.lock(), &internal("deleteWebhook", ""));
    }

    /// As if a delivery had failed with `message` at `date`, in seconds of Unix time.
    pub(crate) fn report_error(&self, date: u64, message: &str) {
        self.lock().last_error = Some((date, message.to_owned()));
    }

    /// As if Telegram's data centers had lost each other at `date`, in seconds of Unix time.
    pub(crate) fn report_synchronization_error(&self, date: u64) {
        self.lock().last_synchronization_error = Some(date);
    }

    /// The token is no longer known, as after /revoke at BotFather.
    pub(crate) fn revoke(&self) {
        self.lock().is_revoked = true;
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.lock().is_revoked
    }

    /// Sends to `addr` from now on, whatever the URL says; `None` goes back to what it says.
    /// Connections that there are go on.
    pub(crate) fn route(&self, addr: Option<SocketAddr>) {
        self.lock().route = addr;
    }

    /// Delivers nothing to the webhook until this is called with false. What is under way ends.
    pub(crate) fn pause(&self, is_paused: bool) {
        self.lock().is_paused = is_paused;
        self.changed.notify_all();
    }

    /// Ends all that waits.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        state.disconnect();
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        let Some(until) = until else { return self.changed.wait(state).unwrap() };
        let time = until.saturating_duration_since(Instant::now());
        self.changed.wait_timeout(state, time).unwrap().0
    }
}

/// The methods of the Bot API.
impl FakeBot {
    pub(super) fn get_me(&self) -> Answer {
        let me = json!({
            "id": self.id(),
            "is_bot": true,
            "first_name": "Fake",
            "username": format!("fake_{}_bot", self.id()),
            "can_join_groups": true,
            "can_read_all_group_messages": false,
            "supports_inline_queries": false,
            "can_connect_to_business": false,
            "has_main_web_app": false,
        });
        Answer::ok(&me.to_string())
    }

    pub(super) fn get_webhook_info(&self) -> Answer {
        let mut state = self.lock();
        state.expire();
        let webhook = state.webhook.as_ref().map(|active| &active.webhook);
        let mut info = json!({
            "url": webhook.map_or("", |webhook| &webhook.url),
            "has_custom_certificate": webhook.is_some_and(|webhook| webhook.certificate.is_some()),
            "pending_update_count": state.waiting.len(),
        });
        if let Some((date, message)) = &state.last_error {
            info["last_error_date"] = json!(date);
            info["last_error_message"] = json!(message);
        }
        if let Some(date) = state.last_synchronization_error {
            info["last_synchronization_error_date"] = json!(date);
        }
        if let Some(webhook) = webhook {
            info["max_connections"] = json!(webhook.max_connections);
            info["ip_address"] = json!(webhook.ip_address);
        }
        if let Some(names) = state.wanted.names() {
            info["allowed_updates"] = json!(names);
        }
        Answer::ok(&info.to_string())
    }

    /// setWebhook and deleteWebhook, which is setWebhook without a URL.
    pub(super) fn set_webhook(&self, call: &Call) -> Answer {
        let mut state = self.lock();
        if !new_url(call).is_empty() {
            let now = Instant::now();
            if state.next_set_webhook.is_some_and(|next| now < next) {
                return Answer::flood(1);
            }
            state.next_set_webhook = Some(now + self.rules.pause);
        }
        self.change_webhook(state, call)
    }

    fn change_webhook(&self, mut state: MutexGuard<'_, State>, call: &Call) -> Answer {
        let url = new_url(call);
        if self.is_unchanged(&state, call) {
            state.want(call);
            let what = if url.is_empty() { "already deleted" } else { "already set" };
            return Answer::done(&format!("Webhook is {what}"));
        }
        if !url.is_empty() {
            state.end_poll("Conflict: terminated by setWebhook request");
        }
        let was_set = state.webhook.take().is_some();
        state.generation += 1;
        state.last_error = None;
        state.disconnect();
        if call.flag("drop_pending_updates") {
            state.waiting.clear();
        }
        let answer = if url.is_empty() {
            Answer::done(if was_set { "Webhook was deleted" } else { "Webhook is already deleted" })
        } else {
            let checked = self.check(call);
            // A refused URL has changed what is allowed all the same, unless it was no URL at all.
            if checked.as_ref().map_or_else(|refused| refused.contains("bad webhook"), |_| true) {
                state.want(call);
            }
            match checked {
                Ok((webhook, target)) => {
                    let schedule = Schedule::new(&state.waiting);
                    state.webhook = Some(Active::new(webhook, target, schedule));
                    Answer::done("Webhook was set")
                }
                Err(refused) => Answer::fail(400, &format!("Bad Request: {refused}")),
            }
        };
        drop(state);
        self.changed.notify_all();
        answer
    }

    fn is_unchanged(&self, state: &State, call: &Call) -> bool {
        let has_certificate = |call: &Call| {
            call.files.contains_key("certificate") || !call.text("certificate").is_empty()
        };
        if has_certificate(call) || call.flag("drop_pending_updates") {
            return false;
        }
        let Some(active) = &state.webhook else { return new_url(call).is_empty() };
        let old = &active.webhook;
        let address = call.text("ip_address");
        let has_same_address = if old.has_fixed_ip_address {
            address == old.ip_address.to_string()
        } else {
            address.is_empty()
        };
        old.certificate.is_none()
            && old.url == new_url(call)
            && old.max_connections == self.max_connections(call)
            && old.secret_token == call.text("secret_token")
            && has_same_address
    }

    fn max_connections(&self, call: &Call) -> u32 {
        let (default, max) = if self.rules.is_local { (100, 100_000) } else { (40, 100) };
        let number = call.number("max_connections", default, 1, max);
        number.try_into().expect("it is within 1 and 100,000")
    }

    /// The webhook that `call` wants, or why it gets none.
    fn check(&self, call: &Call) -> Result<(Webhook, Target), String> {
        const TOKEN_BYTES: [u8; 2] = *b"-_";
        let bad = |why: &str| format!("bad webhook: {why}");
        let url = WebhookUrl::parse(new_url(call)).ok_or("invalid webhook URL specified")?;
        let secret_token = call.text("secret_token").to_owned();
        if secret_token.len() > 256 {
            return Err("secret token is too long".to_owned());
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || TOKEN_BYTES.contains(&byte);
        if !secret_token.bytes().all(is_allowed) {
            return Err("secret token contains unallowed characters".to_owned());
        }
        let certificate = call.files.get("certificate").cloned();
        if let Some(size) = certificate.as_ref().map(Vec::len).filter(|it| *it > MAX_CERTIFICATE) {
            return Err(format!("certificate size is too big ({size} bytes)"));
        }
        let given = Some(call.text("ip_address")).filter(|address| !address.is_empty());
        let fixed = given.map(str::parse::<IpAddr>);
        self.check_port(&url, &fixed).map_err(|why| bad(&why))?;
        let ip_address = match fixed {
            Some(address) => address.map_err(|_| bad("Invalid IP address specified"))?,
            None => self.rules.resolve(&url.host).map_err(bad)?,
        };
        self.check_address(ip_address).map_err(|why| bad(&why))?;
        let trusted = self.trusted(certificate.as_deref()).map_err(bad)?;
        let webhook = Webhook {
            url: new_url(call).to_owned(),
            certificate,
            ip_address,
            has_fixed_ip_address: given.is_some(),
            max_connections: self.max_connections(call),
            secret_token: secret_token.clone(),
        };
        let addr = SocketAddr::new(ip_address, url.port);
        Ok((webhook, Target { url, addr, secret_token, trusted }))
    }

    fn check_port(
        &self,
        url: &WebhookUrl,
        fixed: &Option<Result<IpAddr, std::net::AddrParseError>>,
    ) -> Result<(), String> {
        let is_fixed_to_loopback = matches!(fixed, Some(Ok(address)) if address.is_loopback());
        let is_loopback = url.is_loopback() || is_fixed_to_loopback;
        if self.rules.is_local {
            Ok(())
        } else if !url.is_https {
            Err("An HTTPS URL must be provided for webhook".to_owned())
        } else if [80, 88, 443, 8443].contains(&url.port)
            || (is_loopback && self.rules.is_loopback_permitted)
        {
            Ok(())
        } else {
            Err("Webhook can be set up only on ports 80, 88, 443 or 8443".to_owned())
        }
    }

    fn check_address(&self, address: IpAddr) -> Result<(), String> {
        if self.rules.is_local {
            Ok(())
        } else if address.is_ipv6() {
            Err("IPv6-only addresses are not allowed".to_owned())
        } else if is_reserved(address, self.rules.is_loopback_permitted) {
            Err(format!("IP address {address} is reserved"))
        } else {
            Ok(())
        }
    }

    /// The trust anchors: of an uploaded certificate nothing but itself.
    fn trusted(
        &self,
        uploaded: Option<&[u8]>,
    ) -> Result<Vec<CertificateDer<'static>>, &'static str> {
        const BAD: &str = "Failed to set custom certificate file {error:0480006C:PEM routines::no \
                           start line}";
        let Some(pem) = uploaded else {
            let roots = self.rules.roots.iter();
            let root = |pem: &String| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            return Ok(roots.map(root).collect());
        };
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| BAD)?;
        if certificates.is_empty() { Err(BAD) } else { Ok(certificates) }
    }

    pub(super) fn get_updates(&self, call: &Call) -> Answer {
        let mut state = self.lock();
        if state.webhook.is_some() {
            return self.conflict(state, WEBHOOK_IS_ACTIVE);
        }
        state.want(call);
        let mut offset = call.number("offset", 0, i32::MIN.into(), i32::MAX.into());
        let limit = call.number("limit", 100, 1, 100).try_into().unwrap();
        let timeout = call.number("timeout", 0, 0, 50).try_into().unwrap();
        let mut timeout = Duration::from_secs(timeout);
        let now = Instant::now();
        // Who asks for the same again and again has to wait.
        let pause = Duration::from_secs(3);
        let is_repeated = state.last_get_updates.is_some_and(|(last, at)| {
            last == offset && now.duration_since(at) < self.rules.scaled(pause)
        });
        if is_repeated && timeout < pause {
            timeout = self.rules.scaled(pause);
        }
        state.last_get_updates = Some((offset, now));
        let batch = state.batch(&mut offset, limit);
        if !batch.is_empty() || timeout.is_zero() {
            return updates(&batch);
        }
        state.end_poll(OTHER_GET_UPDATES);
        state.polls += 1;
        let number = state.polls;
        state.poll = Some(number);
        self.changed.notify_all();
        let deadline = now + timeout;
        loop {
            state = self.wait(state, Some(deadline));
            if state.is_over {
                return updates(&[]);
            }
            if state.poll != Some(number) {
                let why = state.poll_ended;
                return self.conflict(state, why);
            }
            let batch = state.batch(&mut offset, limit);
            if !batch.is_empty() || Instant::now() >= deadline {
                state.poll = None;
                return updates(&batch);
            }
        }
    }

    /// The first is answered at once; more within three seconds wait as long.
    fn conflict(&self, mut state: MutexGuard<'_, State>, why: &str) -> Answer {
        let now = Instant::now();
        let pause = self.rules.scaled(Duration::from_secs(3));
        if state.next_conflict.is_some_and(|next| now < next) {
            drop(state);
            thread::sleep(pause);
        } else {
            state.next_conflict = Some(now + pause);
        }
        Answer::fail(409, why)
    }
}

/// The sender's side.
impl FakeBot {
    /// The next update for the webhook, and what is to be known to send it: waits until there is
    /// one. `Err` where there is none for the time that a connection may be idle, and `None` at the
    /// end.
    pub(super) fn next_job(&self, number: usize) -> Option<Result<Job, Idle>> {
        let idle = self.rules.scaled(Duration::from_secs(60));
        let mut state = self.lock();
        let until = Instant::now() + idle;
        loop {
            if state.is_over {
                return None;
            }
            state.expire();
            let now = Instant::now();
            match state.take(number, now) {
                Ok(job) => return Some(Ok(job)),
                Err(_) if now >= until => return Some(Err(Idle)),
                Err(at) => {
                    let at = at.map_or(until, |at| at.min(until));
                    state = self.wait(state, Some(at));
                }
            }
        }
    }

    /// Waits until the sender would open a connection; false where there is another webhook by
    /// then.
    pub(super) fn may_connect(&self, generation: u64) -> bool {
        let mut state = self.lock();
        loop {
            if state.is_over || state.generation != generation {
                return false;
            }
            let Some(active) = &mut state.webhook else { return false };
            let now = Instant::now();
            let calm = self.rules.scaled(Duration::from_secs(10));
            let is_active = active.last_success.is_some_and(|at| now.duration_since(at) < calm);
            match active.next_connection.filter(|next| now < *next && !is_active) {
                Some(next) => state = self.wait(state, Some(next)),
                None => {
                    active.next_connection = Some(now + self.rules.scaled(Duration::from_secs(2)));
                    return true;
                }
            }
        }
    }

    /// Where to connect to.
    pub(super) fn addr(&self, target: &Target) -> SocketAddr {
        self.lock().route.unwrap_or(target.addr)
    }

    /// Keeps a connection in mind that is to be closed with the webhook.
    pub(super) fn keep(&self, generation: u64, socket: &TcpStream) {
        let mut state = self.lock();
        if state.generation == generation && !state.is_over {
            state.sockets.retain(|socket| socket.peer_addr().is_ok());
            state.sockets.push(socket.try_clone().unwrap());
        } else {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Takes note of how a try has ended.
    pub(super) fn finish(&self, job: &Job, outcome: &Outcome) {
        let mut state = self.lock();
        let is_current = state.generation == job.generation && !state.is_over;
        state.attempts.push(Attempt::new(job, outcome));
        if !is_current {
            return;
        }
        if let Some(message) = outcome.message() {
            state.last_error = Some((unix_time(), message));
        }
        let now = Instant::now();
        let state = &mut *state;
        let Some(active) = &mut state.webhook else { return };
        let is_taken = outcome.is_taken();
        if is_taken {
            active.last_success = Some(now);
        }
        let delay = outcome.retry_after().unwrap_or(0).min(3_600);
        if is_taken || self.is_given_up(&state.waiting, active, job, delay, now) {
            active.schedule.done(job.id, &job.lane, now);
            state.waiting.remove(&job.id);
        }
        if outcome.status() == Some(410) {
            let since = *active.gone_since.get_or_insert(now);
            if now.duration_since(since) > self.rules.scaled(Duration::from_secs(23 * 60 * 60)) {
                state.webhook = None;
                state.generation += 1;
                state.disconnect();
            }
        } else if outcome.status().is_some() {
            active.gone_since = None;
        }
        self.changed.notify_all();
    }

    /// Says when the update is tried again; true where it does not live that long.
    fn is_given_up(
        &self,
        waiting: &Waiting,
        active: &mut Active,
        job: &Job,
        retry_after: u64,
        now: Instant,
    ) -> bool {
        let failed = active.schedule.failed(job.id);
        let (mut delay, mut pause) = (failed.delay, retry_after);
        if retry_after == 0 && failed.times > 0 {
            // Telegram draws the longest delay between 60 and 120 s.
            delay = (delay * 2).min(90);
            pause = delay;
        }
        let pause = Duration::from_secs(pause);
        let expires = waiting.get(&job.id).map(|pending| pending.expires);
        if expires.is_none_or(|expires| now + pause > expires) {
            return true;
        }
        active.schedule.retry(job.id, now + self.rules.scaled(pause), delay);
        false
    }
}

/// Nothing to send for as long as a connection is kept.
pub(super) struct Idle;

impl State {
    /// Takes up `allowed_updates`, if they are given.
    fn want(&mut self, call: &Call) {
        if let Some(wanted) = Wanted::new(call.text("allowed_updates")) {
            self.wanted = wanted;
        }
    }

    fn end_poll(&mut self, why: &'static str) {
        if self.poll.take().is_some() {
            self.poll_ended = why;
        }
    }

    fn disconnect(&mut self) {
        for socket in self.sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Forgets what is too old. What is scheduled stays until it would be sent.
    fn expire(&mut self) {
        let now = Instant::now();
        if self.webhook.is_none() {
            self.waiting.retain(|_, pending| pending.expires > now);
        }
    }

    /// What getUpdates answers with; forgets what lies before `offset`, which becomes the one
    /// meant.
    fn batch(&mut self, offset: &mut i64, limit: usize) -> Vec<String> {
        self.expire();
        let tail = self.last_id + 1;
        let head = self.waiting.keys().next().copied().unwrap_or(tail);
        if *offset <= 0 {
            // Counted from the end.
            *offset = if *offset < 0 { (*offset + tail).max(head) } else { head };
        }
        let from = if *offset > tail + 10 || *offset < head { head } else { *offset };
        self.waiting = self.waiting.split_off(&from);
        let mut room = MAX_BATCH;
        let fits = |pending: &&Pending| {
            room = room.saturating_sub(pending.body.len() + 50);
            room > 0
        };
        let batch = self.waiting.values().take(limit).take_while(fits);
        batch.map(|pending| pending.body.clone()).collect()
    }

    /// The next update for the sender's connection `number`, or when to look again.
    fn take(&mut self, number: usize, now: Instant) -> Result<Job, Option<Instant>> {
        if self.is_paused {
            return Err(None);
        }
        let active = self.webhook.as_mut().ok_or(None)?;
        if number >= active.webhook.max_connections as usize {
            return Err(None);
        }
        loop {
            let id = active.schedule.take(now)?;
            let pending = self.waiting.get(&id).expect("what is scheduled waits");
            if pending.expires <= now {
                active.schedule.done(id, &pending.lane.clone(), now);
                self.waiting.remove(&id);
                continue;
            }
            return Ok(Job {
                id,
                generation: self.generation,
                lane: pending.lane.clone(),
                body: pending.body.clone(),
                target: Arc::clone(&active.target),
            });
        }
    }
}

impl Active {
    fn new(webhook: Webhook, target: Target, schedule: Schedule) -> Self {
        Self {
            webhook,
            target: Arc::new(target),
            schedule,
            last_success: None,
            next_connection: None,
            gone_since: None,
        }
    }
}

/// The URL that is to be set; empty for deleteWebhook.
fn new_url(call: &Call) -> &str {
    if call.method.eq_ignore_ascii_case("setWebhook") { call.text("url") } else { "" }
}

/// A call that no client has made.
fn internal(method: &str, url: &str) -> Call {
    Call {
        at: Instant::now(),
        verb: "POST".to_owned(),
        token: String::new(),
        method: method.to_owned(),
        parameters: [("url".to_owned(), url.to_owned())].into(),
        files: Default::default(),
        status: None,
    }
}

fn updates(batch: &[String]) -> Answer {
    Answer::ok(&format!("[{}]", batch.join(",\n")))
}

/// The update as Telegram writes it: its id in front, and ASCII alone.
fn body(id: i64, has_id: bool, update: &str) -> String {
    let with_id = if has_id {
        update.to_owned()
    } else {
        let rest = update.trim_start().strip_prefix('{').expect("an update is an object");
        format!("{{\"update_id\":{id},\n{rest}")
    };
    let mut body = String::with_capacity(with_id.len());
    for char in with_id.chars() {
        if char.is_ascii() {
            body.push(char);
        } else {
            let units = char.encode_utf16(&mut [0; 2]).to_vec();
            body.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    body
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
