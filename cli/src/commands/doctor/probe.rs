//! Requests as Telegram sends them, to a receiver on this machine or at its public address.

use std::time::Duration;

use super::step::Finding;
use crate::{
    commands::send::{fix, target::SendTarget},
    telegram::sender::{Answer, Connection, Failure, Phase, Target, TlsVersions},
};
use ringhook::SecretToken;

/// An update that no bot can mistake for one of Telegram's: its id is none of theirs, which are
/// positive, and its kind is unknown, as each new kind is at first. Since the id is always the
/// same, a server takes the second one for a copy and drops it, so that a handler sees it at most
/// once in a long while.
const PROBE: &[u8] = b"{\"update_id\":0,\n\"ringhook_doctor\":{}}";
/// No update: who answers it with 400 has looked at path and credentials before, and nothing comes
/// of it.
const NOTHING: &[u8] = b"{}";

/// Why a receiver cannot be reached from here, though it may be healthy.
pub(super) fn obstacle(send_target: &SendTarget) -> Option<String> {
    let (list, address) = send_target.known.as_ref()?.not_on?;
    Some(format!(
        "{address} is not on the list {list}, so the server does not speak to this machine"
    ))
}

/// Shakes hands as Telegram does, with TLS 1.2 alone and 1.3 alone; `trusted` says how the
/// certificate is known.
pub(super) fn handshakes(target: &Target, trusted: &str, timeout: Duration) -> Finding {
    let Some(tls) = &target.tls else {
        return Finding::skip("the listener speaks plain HTTP: TLS is for what is in front of it");
    };
    let name = match tls.host.as_deref() {
        Some(host) if is_name(host) => format!("SNI {host}"),
        _ => "no SNI".to_owned(),
    };
    let attempt = |versions| Connection::open(target, versions, timeout).map(drop);
    match (attempt(TlsVersions::Only12), attempt(TlsVersions::Only13)) {
        (Ok(()), Ok(())) => Finding::ok(format!("TLS 1.2 and 1.3, {name}, {trusted}")),
        (Err(failure), Err(_)) => of_failure(&failure, target),
        (Ok(()), Err(failure)) => one_only("1.2", &failure),
        (Err(failure), Ok(())) => one_only("1.3", &failure),
    }
}

fn one_only(version: &str, failure: &Failure) -> Finding {
    Finding::warn(
        format!("TLS {version} only: {failure}"),
        "Telegram speaks both; let what is in front of ringhook do so, too",
    )
}

fn is_name(host: &str) -> bool {
    let inside = host.trim_start_matches('[').trim_end_matches(']');
    inside.parse::<std::net::IpAddr>().is_err()
}

/// Posts without credentials, which must be refused, and with them, which must be taken: an update
/// where `posts`, else what is none, so that it is refused for that alone.
pub(super) fn requests(send_target: &SendTarget, posts: bool, timeout: Duration) -> Finding {
    let has_credentials =
        send_target.secret_token.is_some() || send_target.target.basic_auth.is_some();
    if has_credentials {
        match anonymous(&send_target.target, timeout) {
            Ok(answer) if is_refusal(&answer) => {}
            Ok(answer) if is_open(&answer) => {
                return Finding::fail(
                    format!("a request without credentials is let in ({})", answer.line()),
                    "the server that runs accepts all clients: it has another config, or is another \
                     server; restart it, or look who listens",
                );
            }
            Ok(answer) => {
                return Finding::fail(
                    format!("without credentials: {}, expected 403", answer.line()),
                    fix::of_answer(&answer, send_target),
                );
            }
            Err(failure) => return of_failure(&failure, &send_target.target),
        }
    }
    let (body, expected) = if posts { (PROBE, 200) } else { (NOTHING, 400) };
    let taken = Connection::open(&send_target.target, TlsVersions::Both, timeout)
        .and_then(|mut connection| connection.post(body, send_target.secret_token.as_ref()));
    match taken {
        Ok(answer) if answer.status == expected => match (has_credentials, posts) {
            (true, true) => Finding::ok("200 with the secret, 403 without"),
            (true, false) => Finding::ok("let in with the secret (400: no update), 403 without"),
            (false, _) => Finding::ok(format!("{expected}, for all clients: there is no secret")),
        },
        Ok(answer) => Finding::fail(
            format!("with the secret of the config: {}, expected {expected}", answer.line()),
            fix::of_answer(&answer, send_target),
        ),
        Err(failure) => of_failure(&failure, &send_target.target),
    }
}

/// What a receiver answers to who has no credentials.
pub(super) fn anonymous(target: &Target, timeout: Duration) -> Result<Answer, Failure> {
    let target = Target { basic_auth: None, ..target.clone() };
    Connection::open(&target, TlsVersions::Both, timeout)?.post(NOTHING, None)
}

/// What a receiver answers to who has the credentials, and sends what is no update.
pub(super) fn authorized(
    target: &Target,
    secret_token: Option<&SecretToken>,
    timeout: Duration,
) -> Result<Answer, Failure> {
    Connection::open(target, TlsVersions::Both, timeout)?.post(NOTHING, secret_token)
}

/// True where a client without credentials got past their check: what was sent is no update.
pub(super) fn is_open(answer: &Answer) -> bool {
    answer.is_taken() || answer.status == 400
}

pub(super) fn is_refusal(answer: &Answer) -> bool {
    matches!(answer.status, 401 | 403)
}

fn of_failure(failure: &Failure, target: &Target) -> Finding {
    let fix = match failure {
        _ if failure.is_refused() => "start the server: ringhook serve".to_owned(),
        Failure::Certificate(_) => "Telegram refuses it, too: have the server serve one for the \
                                    URL's host, and see: ringhook cert check"
            .to_owned(),
        Failure::Untrusted => "Telegram refuses it, too: does the server that runs have another \
                               certificate than the config? Then let it read that (systemctl \
                               reload, or SIGHUP)"
            .to_owned(),
        Failure::Tls(_) => {
            "does the server speak TLS there (tls in its [[listener]])? Is it ringhook?".to_owned()
        }
        Failure::TimedOut(Phase::Connect, _) => {
            "does a firewall of this machine drop it?".to_owned()
        }
        Failure::TimedOut(..) => "the server has stalled: see its log".to_owned(),
        Failure::NotHttp(_) | Failure::Odd(_) => {
            "another program answers there, or something in front changes the answer".to_owned()
        }
        Failure::Closed(_) => match target.tls {
            Some(_) => {
                "is this machine on the server's lists of addresses (server.allow), and does \
                        it speak TLS there?"
                    .to_owned()
            }
            None => {
                "is this machine on the server's lists of addresses (server.allow), and does it \
                     speak plain HTTP there?"
                    .to_owned()
            }
        },
        _ => "see the server's log".to_owned(),
    };
    Finding::fail(failure.to_string(), fix)
}
