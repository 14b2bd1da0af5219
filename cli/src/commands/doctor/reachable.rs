//! Whether the URL leads here, as far as that can be seen from here.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, SystemTime},
};

use rustls::version::{TLS12, TLS13};

use super::{
    context::bare,
    probe::{anonymous, authorized, is_open, is_refusal},
    step::Finding,
};
use crate::{
    certificates::{
        examine::{Described, Question, public_roots},
        look::handshake,
    },
    telegram::{
        sender::{
            Answer, Connection, Failure, Phase, Place, Target, Tls, TlsVersions, Trust, with_port,
        },
        webhook::WebhookUrl,
    },
};
use ringhook::{BasicAuth, SecretToken, internals::redact::hide_tokens};

/// What ringhook answers to who is let in and sends no update.
const NO_UPDATE: u16 = 400;

/// A webhook at its public address.
pub(super) struct Public<'a> {
    pub(super) url: &'a WebhookUrl,
    pub(super) addresses: &'a [IpAddr],
    pub(super) trust: Trust,
    /// Whether requests without credentials are refused.
    pub(super) has_credentials: bool,
    pub(super) secret_token: Option<&'a SecretToken>,
    pub(super) basic_auth: Option<BasicAuth>,
    /// Whether the bot has a list of addresses.
    pub(super) has_allow: bool,
    /// Whether the certificate is one that clients trust only where it is given to them.
    pub(super) is_uploaded: bool,
}

impl Public<'_> {
    /// Connects, shakes hands, and sends a request that must be refused and one that must be let
    /// in, which is no update.
    pub(super) fn look(self, timeout: Duration) -> Finding {
        if self.addresses.is_empty() {
            return Finding::skip("the URL's host has no address");
        }
        // What leads to this machine is not bent by a router on the way.
        let is_own = self.addresses.iter().all(|address| is_own(*address));
        let target = self.target();
        if !self.has_credentials {
            return match Connection::open(&target, TlsVersions::Both, timeout) {
                Ok(_) => {
                    Finding::ok(format!("{} has the certificate of this server", target.place))
                }
                Err(failure) => self.failed(&target, &failure, is_own, timeout),
            };
        }
        match anonymous(&target, timeout) {
            Ok(answer) if is_refusal(&answer) => {
                match authorized(&target, self.secret_token, timeout) {
                    Ok(answer) => self.known(&target, &answer),
                    Err(failure) => self.failed(&target, &failure, is_own, timeout),
                }
            }
            Ok(answer) if is_open(&answer) => Finding::fail(
                format!(
                    "{} lets requests without credentials in ({})",
                    target.place,
                    spoken(&answer)
                ),
                "the URL leads to a server with another config, or to another server",
            ),
            Ok(answer) => self.other(&target, &answer, 403),
            Err(failure) => self.failed(&target, &failure, is_own, timeout),
        }
    }

    /// What is said where who has the credentials got `answer`, and one without them was refused.
    fn known(&self, target: &Target, answer: &Answer) -> Finding {
        let place = &target.place;
        match answer.status {
            NO_UPDATE => Finding::ok(format!(
                "{place} answers as this server does: 403 without credentials, let in with them"
            )),
            _ if is_refusal(answer) && self.has_allow => Finding::warn(
                format!("{place} refuses this machine ({})", spoken(answer)),
                "bot.allow may not have its address, though Telegram may come in",
            ),
            _ if is_refusal(answer) => Finding::fail(
                format!("{place} refuses the right credentials, too ({})", spoken(answer)),
                "another server answers, one with another config, or something in front that takes \
                 Telegram for a robot",
            ),
            _ => self.other(target, answer, NO_UPDATE),
        }
    }

    fn other(&self, target: &Target, answer: &Answer, expected: u16) -> Finding {
        Finding::fail(
            format!(
                "{} answers {} where this server says {expected}",
                target.place,
                spoken(answer)
            ),
            "the URL leads to another server or path: compare host, path and what is in front",
        )
        .and(self.outside_test())
    }

    fn failed(
        &self,
        target: &Target,
        failure: &Failure,
        is_own: bool,
        timeout: Duration,
    ) -> Finding {
        let WebhookUrl { host, port, .. } = self.url;
        let what = format!("{host} port {port} from here: {failure}");
        match failure {
            Failure::Certificate(_) | Failure::Untrusted => {
                let finding = Finding::fail(
                    what,
                    "the address leads to another server, or what is in front has another \
                     certificate; a router that answers itself looks the same",
                );
                let shown = shown_by(target, timeout);
                let shown = shown.map(|shown| format!("the certificate there is {shown}"));
                shown.into_iter().fold(finding, Finding::and).and(self.outside_test())
            }
            _ if is_own && failure.is_refused() => Finding::fail(
                what,
                format!(
                    "nothing listens on port {port} of this address: let a listener have it, or send \
                     it on (sysctl and nft, or a proxy) to the one there is"
                ),
            ),
            Failure::Io(Phase::Connect, _) | Failure::TimedOut(Phase::Connect, _) => Finding::warn(
                what,
                "a router that does not lead its own public address back (hairpin NAT) looks the \
                 same: forward the port there to this machine, and open it in the provider's firewall",
            )
            .and(self.outside_test()),
            Failure::Closed(_) => Finding::warn(
                what,
                "the server may not let this machine in (server.allow), though Telegram may come in",
            )
            .and(self.outside_test()),
            _ => Finding::fail(what, "does TLS end there, and is it this server that answers?")
                .and(self.outside_test()),
        }
    }

    fn target(&self) -> Target {
        let WebhookUrl { host, port, is_https, target, .. } = self.url;
        let usual = if *is_https { 443 } else { 80 };
        let addresses = self.addresses.iter().map(|address| SocketAddr::new(*address, *port));
        Target {
            authority: with_port(host, (*port != usual).then_some(*port)),
            basic_auth: self.basic_auth.clone(),
            path: target.clone(),
            place: Place::Tcp(addresses.collect()),
            preamble: Vec::new(),
            tls: is_https.then(|| Tls {
                host: Some(host.clone()),
                sends_name: true,
                trust: self.trust.clone(),
            }),
        }
    }

    /// How to try it from another machine.
    fn outside_test(&self) -> String {
        let WebhookUrl { host, port, is_https, target, .. } = self.url;
        let target = hide_tokens(target);
        let scheme = if *is_https { "https" } else { "http" };
        let insecure = if self.is_uploaded { " -k" } else { "" };
        let expected = if self.has_credentials { "403" } else { "200" };
        format!(
            "from a machine outside: curl -sS{insecure} -o /dev/null -w '%{{http_code}}\\n' -X POST \
             {scheme}://{host}:{port}{target} (expected: {expected})"
        )
    }
}

/// An answer, and who says to have given it: ringhook never says so.
fn spoken(answer: &Answer) -> String {
    match &answer.server {
        Some(server) => format!("{}, Server: {server}", answer.line()),
        None => answer.line(),
    }
}

/// The certificate that is shown at `target`.
fn shown_by(target: &Target, timeout: Duration) -> Option<String> {
    let Place::Tcp(addresses) = &target.place else { return None };
    let host =
        target.tls.as_ref()?.host.as_deref().filter(|host| bare(host).parse::<IpAddr>().is_err());
    let seen = handshake(*addresses.first()?, &TLS13, host, timeout)
        .or_else(|_| handshake(*addresses.first().ok_or_else(String::new)?, &TLS12, host, timeout));
    let chain = seen.ok()?.chain;
    let (now, roots) = (SystemTime::now(), public_roots());
    let question =
        Question { chain: &chain, host: None, is_sent: true, now, roots: &roots, uploaded: None };
    question.answer().certificates.first().map(Described::spoken)
}

/// True for an address of this machine.
fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}
