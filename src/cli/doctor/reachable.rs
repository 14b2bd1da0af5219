//! Whether the URL leads here, as far as that can be seen from here.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use super::{
    knock::{is_open, is_refusal, stranger},
    step::Finding,
};
use crate::{
    sender::{Connection, Failure, Phase, Place, Target, Tls, TlsVersions, Trust, with_port},
    webhook::WebhookUrl,
};

/// A webhook at its public address.
pub(super) struct Public<'a> {
    pub(super) url: &'a WebhookUrl,
    pub(super) addresses: &'a [IpAddr],
    pub(super) trust: Trust,
    /// Whether requests without credentials are refused.
    pub(super) has_credentials: bool,
    /// Whether the certificate is one that others have to be told to trust.
    pub(super) is_uploaded: bool,
}

impl Public<'_> {
    /// Connects, shakes hands and sends a request that must be refused.
    pub(super) fn look(self, timeout: Duration) -> Finding {
        if self.addresses.is_empty() {
            return Finding::skip("the URL's host has no address");
        }
        // What leads to this machine is not bent by a router on the way.
        let is_own = self.addresses.iter().all(|address| is_own(*address));
        let target = self.target();
        let outcome = match self.has_credentials {
            true => stranger(&target, timeout).map(Some),
            false => Connection::open(&target, TlsVersions::Both, timeout).map(|_| None),
        };
        let place = &target.place;
        match outcome {
            Ok(Some(answer)) if is_refusal(&answer) => Finding::ok(format!(
                "{place} answers as this server does (403 without credentials)"
            )),
            Ok(None) => Finding::ok(format!("{place} has the certificate of this server")),
            Ok(Some(answer)) if is_open(&answer) => Finding::fail(
                format!("{place} lets requests without credentials in ({})", answer.line()),
                "the URL leads to a server with another config, or to another server",
            ),
            Ok(Some(answer)) => Finding::fail(
                format!("{place} answers {} where this server says 403", answer.line()),
                "the URL leads to another server or path: compare host, path and what is in front",
            )
            .and(self.outside_test()),
            Err(failure) => self.failed(&failure, is_own),
        }
    }

    fn failed(&self, failure: &Failure, is_own: bool) -> Finding {
        let WebhookUrl { host, port, .. } = self.url;
        let what = format!("{host} port {port} from here: {failure}");
        match failure {
            Failure::Certificate(_) | Failure::Untrusted => Finding::fail(
                what,
                "the address leads to another server, or what is in front has another certificate; a \
                 router that answers itself looks the same",
            )
            .and(self.outside_test()),
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
            basic_auth: None,
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
        let scheme = if *is_https { "https" } else { "http" };
        let insecure = if self.is_uploaded { " -k" } else { "" };
        let expected = if self.has_credentials { "403" } else { "200" };
        format!(
            "from a machine outside: curl -sS{insecure} -o /dev/null -w '%{{http_code}}\\n' -X POST \
             {scheme}://{host}:{port}{target} (expected: {expected})"
        )
    }
}

/// True for an address of this machine.
fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}
