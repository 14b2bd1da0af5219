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
    ApiError, ApiRoot, BotToken, Me, RawUpdate, SetWebhook, WebhookInfo,
    answer::{result_of, updates_of},
};

/// How long a call may take; a long poll has the time that it polls for beside this.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer; a hundred updates are at most 50 MiB.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// How often, and for how long at most each time, a call waits as the Bot API asks it to (429).
const WAITS: u32 = 3;
const WAIT_MAX: Duration = Duration::from_secs(60);
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

impl Client {
    /// A client for the bot of `token`. Nothing is sent yet. Proxies of the environment
    /// (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) are used.
    pub(crate) fn new(root: &ApiRoot, token: BotToken) -> Self {
        Self { agent: agent(), root: root.clone(), token, is_patient: true }
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
        self.patiently("getMe", || Parameters::None)
    }

    /// getWebhookInfo.
    pub(crate) fn get_webhook_info(&self) -> Result<WebhookInfo, ApiError> {
        self.patiently("getWebhookInfo", || Parameters::None)
    }

    /// setWebhook.
    pub(crate) fn set_webhook(&self, webhook: &SetWebhook) -> Result<(), ApiError> {
        keep_pace();
        let fields = fields_of(webhook);
        let parameters = || match &webhook.certificate {
            Some(certificate) => Parameters::Multipart(upload(&fields, certificate)),
            None => Parameters::Form(&fields),
        };
        self.patiently::<bool>("setWebhook", parameters).map(drop)
    }

    /// deleteWebhook; `drop_pending` deletes all that waits.
    pub(crate) fn delete_webhook(&self, drop_pending: bool) -> Result<(), ApiError> {
        keep_pace();
        let json = format!("{{\"drop_pending_updates\":{drop_pending}}}");
        let parameters = || Parameters::Json(json.clone());
        self.patiently::<bool>("deleteWebhook", parameters).map(drop)
    }

    /// getUpdates: up to `limit` (1 to 100) updates from `offset` on, waiting up to `timeout` (whole
    /// seconds, at most 50) for one. What is before `offset` is confirmed by it, and gone. `allowed`
    /// stays for later calls. It never waits as a 429 asks; that is the caller's to do.
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
        let (status, body) = self.call("getUpdates", Parameters::Json(json), TIMEOUT + timeout)?;
        updates_of(status, &body)
    }

    /// Calls, and again where the Bot API asks to wait for that.
    fn patiently<'a, T: DeserializeOwned>(
        &self,
        method: &str,
        parameters: impl Fn() -> Parameters<'a>,
    ) -> Result<T, ApiError> {
        let mut waits = 0;
        loop {
            let outcome = self
                .call(method, parameters(), TIMEOUT)
                .and_then(|(status, body)| result_of(status, &body));
            match outcome {
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

    /// Makes a call: the answer's status and body.
    fn call(
        &self,
        method: &str,
        parameters: Parameters<'_>,
        timeout: Duration,
    ) -> Result<(u16, String), ApiError> {
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
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_string();
        Ok((status, body.map_err(|error| self.unreachable(&error))?))
    }

    fn unreachable(&self, error: &ureq::Error) -> ApiError {
        let why = match error {
            ureq::Error::HostNotFound => "the host of the API root has no address".to_owned(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::Io(source) => source.to_string(),
            other => other.to_string(),
        };
        ApiError::Unreachable(format!("{}: {}", self.root, self.token.redact(&why)))
    }
}

/// What calls are made with.
pub(super) fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::WebPki)
        .unversioned_rustls_crypto_provider(Arc::new(crate::tls::provider()))
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would carry the token to somebody else.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("ringhook/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
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
