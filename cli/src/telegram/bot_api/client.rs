//! The calls.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig, TlsProvider},
    unversioned::multipart::{Form, Part},
};

use super::{
    ApiError, Me, RawUpdate, SetWebhook, WebhookInfo,
    answer::{result_of, updates_of, wait_of},
    proxy::Way,
};
use crate::config::{ApiRoot, BotToken};
use ringhook::{Error, internals::redact::HIDDEN};

/// How long a call may take; a long poll has the time that it polls for beside this.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer; a hundred updates are at most 50 MiB.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// How often, and for how long at most each time, a call waits as the Bot API asks it to (429).
const WAITS: u32 = 3;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The fewest characters of a secret that is hidden in a text: what is shorter is in many words.
const SECRET_MIN: usize = 4;
/// The Bot API takes one setWebhook or deleteWebhook a second.
const PACE: Duration = Duration::from_millis(1050);

/// When this process last changed a webhook, whichever.
static CHANGED_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// Calls the Bot API for one bot. Blocks; connections are kept for the next call.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    root: ApiRoot,
    token: BotToken,
    /// Whether a call waits as the Bot API asks it to.
    is_patient: bool,
    way: Way,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("root", &self.root).finish_non_exhaustive()
    }
}

/// What a call sends.
enum Parameters<'a> {
    Form(&'a [(&'static str, String)]),
    Json(String),
    Multipart(Form<'a>),
    None,
}

/// What came back.
struct Answer {
    status: u16,
    body: Vec<u8>,
    /// The header Retry-After, where it is in seconds.
    retry_after: Option<Duration>,
}

impl Client {
    /// A client for the bot of `token`. Nothing is sent yet. Proxies of the environment
    /// (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) are used.
    ///
    /// # Errors
    /// A proxy in the environment that is not understood.
    pub(crate) fn new(root: &ApiRoot, token: BotToken) -> Result<Self, Error> {
        let way = Way::from_env(root)?;
        Ok(Self { agent: agent(&way), root: root.clone(), token, is_patient: true, way })
    }

    /// What people should know who have set a proxy; `None` where it is used, or there is none.
    pub(crate) fn proxy_note(&self) -> Option<String> {
        self.way.note(&self.root)
    }

    /// The same, but no call waits as a 429 asks; that is the caller's to do.
    pub(crate) fn impatient(self) -> Self {
        Self { is_patient: false, ..self }
    }

    /// True where both call for the same bot with the same token.
    pub(crate) fn has_token_of(&self, other: &Self) -> bool {
        self.token.reveal() == other.token.reveal()
    }

    /// getMe: who the token belongs to.
    pub(crate) fn get_me(&self) -> Result<Me, ApiError> {
        self.patiently("getMe", || Parameters::None, &[])
    }

    /// getWebhookInfo. The token is hidden in its texts, but not in the URL, which has to be
    /// compared: [`without_userinfo`](crate::net::url::without_userinfo) hides it where that is
    /// shown.
    pub(crate) fn get_webhook_info(&self) -> Result<WebhookInfo, ApiError> {
        let info: WebhookInfo = self.patiently("getWebhookInfo", || Parameters::None, &[])?;
        let hide = |text: Option<String>| text.map(|text| self.token.redact(&text));
        Ok(WebhookInfo {
            ip_address: hide(info.ip_address),
            last_error_message: hide(info.last_error_message),
            ..info
        })
    }

    /// setWebhook.
    pub(crate) fn set_webhook(&self, webhook: &SetWebhook) -> Result<(), ApiError> {
        keep_pace();
        let fields = fields_of(webhook);
        let parameters = || match &webhook.certificate {
            Some(certificate) => Parameters::Multipart(upload(&fields, certificate)),
            None => Parameters::Form(&fields),
        };
        self.patiently::<bool>("setWebhook", parameters, &secrets_of(webhook)).map(drop)
    }

    /// deleteWebhook; `drop_pending` deletes all that waits.
    pub(crate) fn delete_webhook(&self, drop_pending: bool) -> Result<(), ApiError> {
        keep_pace();
        let json = format!("{{\"drop_pending_updates\":{drop_pending}}}");
        let parameters = || Parameters::Json(json.clone());
        self.patiently::<bool>("deleteWebhook", parameters, &[]).map(drop)
    }

    /// getUpdates: up to `limit` (1 to 100) updates from `offset` on, waiting up to `timeout`
    /// (whole seconds, at most 50) for one. What is before `offset` is confirmed by it, and gone.
    /// `allowed` stays for later calls. It never waits as a 429 asks; that is the caller's to do.
    pub(crate) fn get_updates(
        &self,
        offset: Option<i64>,
        limit: u8,
        timeout: Duration,
        allowed: Option<&[String]>,
    ) -> Result<Vec<RawUpdate>, ApiError> {
        let mut json = serde_json::Map::new();
        json.insert("limit".into(), limit.into());
        json.insert("timeout".into(), timeout.as_secs().into());
        if let Some(offset) = offset {
            json.insert("offset".into(), offset.into());
        }
        if let Some(allowed) = allowed {
            json.insert("allowed_updates".into(), allowed.into());
        }
        let json = serde_json::Value::Object(json).to_string();
        let answer = self.call("getUpdates", Parameters::Json(json), TIMEOUT + timeout);
        self.checked(answer, |status, body| updates_of(status, body, limit), &[])
    }

    /// Calls, and again where the Bot API asks to wait for that. Besides the token, what is
    /// `secret` in the parameters is hidden in errors.
    fn patiently<'a, T: DeserializeOwned>(
        &self,
        method: &str,
        parameters: impl Fn() -> Parameters<'a>,
        secret: &[&str],
    ) -> Result<T, ApiError> {
        let mut waits = 0;
        loop {
            let answer = self.call(method, parameters(), TIMEOUT);
            match self.checked(answer, result_of, secret) {
                Err(ApiError::Refused { code: 429, retry_after: Some(after), .. })
                    if self.is_patient && waits < WAITS && after <= WAIT_MAX =>
                {
                    waits += 1;
                    thread::sleep(after);
                }
                outcome => return outcome,
            }
        }
    }

    /// What `read` makes of an answer. The peer may repeat what was sent, so that all errors
    /// go through here: neither the token nor what is `secret` is in them.
    fn checked<T>(
        &self,
        answer: Result<Answer, ApiError>,
        read: impl Fn(u16, &[u8]) -> Result<T, ApiError>,
        secret: &[&str],
    ) -> Result<T, ApiError> {
        let outcome = answer.and_then(|Answer { status, body, retry_after }| {
            read(status, &body).map_err(|error| error.or_retry_after(retry_after))
        });
        let without = |text: String, secret: &&str| text.replace(secret, HIDDEN);
        let hide = |text: &str| {
            let text = self.way.redact(&self.token.redact(text), HIDDEN);
            secret.iter().fold(text, without)
        };
        outcome.map_err(|error| error.map_text(hide))
    }

    /// Makes a call.
    fn call(
        &self,
        method: &str,
        parameters: Parameters<'_>,
        timeout: Duration,
    ) -> Result<Answer, ApiError> {
        let url = format!("{}/bot{}/{method}", self.root, self.token.reveal());
        let request = self.agent.post(url).config().timeout_global(Some(timeout)).build();
        let answer = match parameters {
            Parameters::Form(fields) => {
                request.send_form(fields.iter().map(|(name, value)| (*name, value.as_str())))
            }
            Parameters::None => request.send_empty(),
            Parameters::Json(json) => request.content_type("application/json").send(json),
            Parameters::Multipart(form) => request.send(form),
        };
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = after.and_then(wait_of);
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        Ok(Answer { status, body, retry_after })
    }

    fn unreachable(&self, error: &ureq::Error) -> ApiError {
        let why = match error {
            ureq::Error::HostNotFound => "the host of the API root has no address".to_owned(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::Io(source) => source.to_string(),
            other => other.to_string(),
        };
        ApiError::Unreachable(format!("{}{}: {why}", self.root, self.way.described()))
    }
}

/// What calls are made with, on their `way`.
pub(super) fn agent(way: &Way) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::WebPki)
        .unversioned_rustls_crypto_provider(Arc::new(ringhook::internals::tls::provider()))
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would carry the token to another server.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("ringhook/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        // What else the environment says of proxies is not looked at.
        .proxy(way.proxy())
        .build()
        .new_agent()
}

/// The parameters of `webhook` but the certificate.
fn fields_of(webhook: &SetWebhook) -> Vec<(&'static str, String)> {
    let mut fields = vec![("url", webhook.url.clone())];
    let list = webhook.allowed_updates.as_deref();
    for (name, value) in [
        ("ip_address", webhook.ip_address.map(|ip| ip.to_string())),
        ("max_connections", webhook.max_connections.map(|count| count.to_string())),
        ("allowed_updates", list.map(|list| serde_json::Value::from(list).to_string())),
        ("drop_pending_updates", webhook.drop_pending_updates.then(|| "true".to_owned())),
        ("secret_token", webhook.secret_token.clone()),
    ] {
        fields.extend(value.map(|value| (name, value)));
    }
    fields
}

/// What of the parameters of `webhook` is never shown: the secret token, and user and password.
fn secrets_of(webhook: &SetWebhook) -> Vec<&str> {
    let rest = webhook.url.split_once("://").map(|(_, rest)| rest);
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let userinfo = authority.and_then(|authority| authority.rsplit_once('@'));
    let secrets = webhook.secret_token.as_deref().into_iter().chain(userinfo.map(|(user, _)| user));
    secrets.filter(|secret| secret.len() >= SECRET_MIN).collect()
}

fn upload<'a>(fields: &'a [(&'static str, String)], certificate: &'a [u8]) -> Form<'a> {
    let form = fields.iter().fold(Form::new(), |form, (name, value)| form.text(name, value));
    form.part("certificate", Part::bytes(certificate).file_name("certificate.pem"))
}

/// Waits until the Bot API takes another change of a webhook.
fn keep_pace() {
    let mut changed_at = CHANGED_AT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(at) = *changed_at {
        thread::sleep(PACE.saturating_sub(at.elapsed()));
    }
    *changed_at = Some(Instant::now());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::{TcpListener, TcpStream},
        thread::JoinHandle,
    };

    use super::*;

    const TOKEN: &str = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";

    /// A client, and what answers it: with one of `answers`, head and body, on each connection.
    fn answered(answers: Vec<String>) -> (Client, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                read_call(&mut stream);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (Client::new(&root, BotToken::new(TOKEN, "k").unwrap()).unwrap(), server)
    }

    /// Reads a call to its end.
    fn read_call(stream: &mut TcpStream) {
        let mut stream = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
    }

    fn answer(head: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    #[test]
    fn no_error_repeats_what_was_secret() {
        const SECRETS: [&str; 3] = ["the-secret_0123", "user:passw0rd", "AAbbCCddEEff"];
        let text = format!("no: POST /bot{TOKEN}/x {} https://{}@h/", SECRETS[0], SECRETS[1]);
        let body = format!("{{\"ok\":false,\"error_code\":404,\"description\":\"{text}\"}}");
        let info = format!(
            "{{\"ok\":true,\"result\":{{\"url\":\"https://h/{TOKEN}\",\"last_error_message\":\"{text}\"}}}}"
        );
        let refusal = || answer("404 Not Found", &body);
        let (client, server) =
            answered(vec![refusal(), refusal(), refusal(), answer("200 OK", &info)]);
        let webhook = SetWebhook {
            url: format!("https://{}@h/", SECRETS[1]),
            secret_token: Some(SECRETS[0].to_owned()),
            ..SetWebhook::default()
        };
        let refused = client.set_webhook(&webhook).unwrap_err().to_string();
        assert!(refused.contains("/bot(hidden)/x (hidden) https://(hidden)@h/"), "{refused}");
        let polled = client.get_updates(None, 1, Duration::ZERO, None).unwrap_err();
        let text = format!("{refused} {polled:?} {}", client.get_me().unwrap_err());
        for secret in [SECRETS[2], TOKEN] {
            assert!(!text.contains(secret), "{text}");
        }
        let info = client.get_webhook_info().unwrap();
        assert_eq!(info.url, format!("https://h/{TOKEN}"), "it is compared");
        assert!(!info.last_error_message.unwrap().contains(SECRETS[2]));
        server.join().unwrap();
    }

    #[test]
    fn waits_as_the_head_of_the_answer_says() {
        let body = "{\"ok\":false,\"error_code\":429,\"description\":\"Too Many Requests\"}";
        let me = "{\"ok\":true,\"result\":{\"id\":7}}";
        let busy = answer("429 Too Many Requests\r\nRetry-After: 1", body);
        let (client, server) = answered(vec![busy, answer("200 OK", me)]);
        let begun = Instant::now();
        assert_eq!(client.get_me().unwrap().id, 7);
        assert!(begun.elapsed() >= Duration::from_secs(1));
        server.join().unwrap();
    }
}
