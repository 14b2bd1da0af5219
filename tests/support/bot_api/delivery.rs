//! The sender: takes what waits for a bot to its webhook, one request at a time per connection.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use rustls::{AlertDescription, pki_types::CertificateDer};

use super::{bot::FakeBot, trust, url::WebhookUrl, wire::Wire};

/// One update to be sent.
pub(super) struct Job {
    pub(super) id: i64,
    pub(super) generation: u64,
    pub(super) lane: String,
    pub(super) body: String,
    pub(super) target: Arc<Target>,
}

/// A webhook as the sender needs to know it.
pub(super) struct Target {
    pub(super) url: WebhookUrl,
    pub(super) addr: SocketAddr,
    pub(super) secret_token: String,
    pub(super) trusted: Vec<CertificateDer<'static>>,
}

/// How a try has ended.
pub(super) enum Outcome {
    Answered(Taken),
    /// What came is no HTTP.
    Garbage,
    Failed(io::Error),
}

/// An answer of a webhook.
pub(super) struct Taken {
    pub(super) status: u16,
    pub(super) reason: String,
    /// In seconds; `None` where it is a date.
    pub(super) retry_after: Option<u64>,
    pub(super) body: Vec<u8>,
    /// True where the server closes behind it.
    pub(super) is_last: bool,
}

/// One try to deliver an update.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// When it ended.
    pub(crate) at: Instant,
    pub(crate) update_id: i64,
    /// `None` where there was no answer.
    pub(crate) status: Option<u16>,
    /// What becomes `last_error_message`; `None` where it is none.
    pub(crate) error: Option<String>,
    /// The body of the answer.
    pub(crate) body: Vec<u8>,
}

/// Sends for `bot` until its server ends, on its connection `number`.
pub(super) fn start(bot: Arc<FakeBot>, number: usize) -> JoinHandle<()> {
    thread::spawn(move || run(&bot, number))
}

fn run(bot: &FakeBot, number: usize) {
    let mut open: Option<(u64, Wire)> = None;
    while let Some(job) = bot.next_job(number) {
        let Ok(job) = job else {
            open = None;
            continue;
        };
        let is_usable =
            |(generation, wire): &mut (u64, Wire)| *generation == job.generation && wire.is_alive();
        let outcome = match open.take().and_then(|mut it| is_usable(&mut it).then_some(it.1)) {
            Some(wire) => Ok(wire),
            None if !bot.may_connect(job.generation) => continue,
            None => connect(bot, &job),
        };
        let outcome = match outcome {
            Ok(mut wire) => {
                let outcome = wire.post(&job.target.request(&job.body), bot.rules().read_timeout());
                if matches!(&outcome, Outcome::Answered(answer) if !answer.is_last) {
                    open = Some((job.generation, wire));
                }
                outcome
            }
            Err(error) => Outcome::Failed(error),
        };
        bot.finish(&job, &outcome);
    }
}

fn connect(bot: &FakeBot, job: &Job) -> io::Result<Wire> {
    let target = &job.target;
    let tls = target.url.is_https.then(|| trust::config(target.url.name(), &target.trusted));
    let (addr, name) = (bot.addr(target), target.url.name());
    let timeout = bot.rules().read_timeout();
    Wire::connect(addr, name, tls, timeout, |socket| bot.keep(job.generation, socket))
}

impl Target {
    /// The bytes of a request, as Telegram writes them.
    fn request(&self, body: &str) -> Vec<u8> {
        let WebhookUrl { userinfo, host, port, target, .. } = &self.url;
        let port = if *port == 443 { String::new() } else { format!(":{port}") };
        let login = if userinfo.is_empty() {
            String::new()
        } else {
            format!("Authorization: Basic {}\r\n", base64(userinfo.as_bytes()))
        };
        let secret = if self.secret_token.is_empty() {
            String::new()
        } else {
            format!("X-Telegram-Bot-Api-Secret-Token: {}\r\n", self.secret_token)
        };
        format!(
            "POST {target} HTTP/1.1\r\nHost: {host}{port}\r\n{login}{secret}\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\
             Accept-Encoding: gzip, deflate\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

impl Outcome {
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            _ => None,
        }
    }

    pub(super) fn is_taken(&self) -> bool {
        self.status().is_some_and(|status| (200..300).contains(&status))
    }

    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Answered(answer) => answer.retry_after,
            _ => None,
        }
    }

    /// What it leaves as `last_error_message`.
    pub(super) fn message(&self) -> Option<String> {
        match self {
            _ if self.is_taken() => None,
            Self::Answered(Taken { status, reason, .. }) => {
                Some(format!("Wrong response from the webhook: {status} {reason}"))
            }
            Self::Garbage => Some("Not Implemented".to_owned()),
            Self::Failed(error) => spoken(error),
        }
    }
}

impl Attempt {
    pub(super) fn new(job: &Job, outcome: &Outcome) -> Self {
        let body = match outcome {
            Outcome::Answered(answer) => answer.body.clone(),
            _ => Vec::new(),
        };
        Self {
            at: Instant::now(),
            update_id: job.id,
            status: outcome.status(),
            error: outcome.message(),
            body,
        }
    }
}

/// As the sender's libraries say it; a connection that only ends leaves nothing.
fn spoken(error: &io::Error) -> Option<String> {
    if let Some(error) = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) {
        let reason = match error {
            rustls::Error::InvalidCertificate(_) => {
                "0A000086:SSL routines::certificate verify failed".to_owned()
            }
            rustls::Error::InvalidMessage(_) => {
                "0A00010B:SSL routines::wrong version number".to_owned()
            }
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                "0A00042E:SSL routines::tlsv1 alert protocol version".to_owned()
            }
            rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => {
                "0A000458:SSL routines::tlsv1 unrecognized name".to_owned()
            }
            rustls::Error::AlertReceived(_) => {
                "0A000410:SSL routines::sslv3 alert handshake failure".to_owned()
            }
            other => other.to_string(),
        };
        return Some(format!("SSL error {{error:{reason}}}"));
    }
    match error.kind() {
        ErrorKind::UnexpectedEof => None,
        ErrorKind::ConnectionRefused => Some("Connection refused".to_owned()),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            Some("Connection reset by peer".to_owned())
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Some("Read timeout expired".to_owned()),
        ErrorKind::NetworkUnreachable => Some("Network is unreachable".to_owned()),
        ErrorKind::HostUnreachable => Some("No route to host".to_owned()),
        _ => Some(error.to_string()),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize % 64];
            text.push(if place > chunk.len() { '=' } else { digit.into() });
        }
    }
    text
}
