//! `ringhook cert check`: whether Telegram would accept a certificate.

mod target;

use std::{
    env, fmt,
    io::{self, IsTerminal as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use clap::Args;
use rustls::{
    SupportedProtocolVersion,
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use serde::Serialize;

use self::target::{Target, UrlTarget};
use crate::certificates::{
    examine::{Examination, Level, Line, Question, public_roots},
    look::{DEMANDS, Seen, handshake},
};
use ringhook::{
    Error, ErrorKind,
    internals::{redact::hide_tokens, tls},
};

/// How long a connection or a handshake may take; Telegram waits for a minute.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ports to which Telegram's public cloud delivers.
const PUBLIC_PORTS: [u16; 4] = [443, 80, 88, 8443];

/// Check whether Telegram would accept a certificate, in a file or as a server shows it.
///
/// Exits with 1 where Telegram would refuse it both ways: uploaded with setWebhook, and signed by a
/// public authority (of Mozilla's list). Names are compared as Telegram's sender does it. A URL is
/// connected to with TLS 1.2 and 1.3, with a server name and without.
#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// PEM file with the chain, or https://host:port/
    #[arg(value_name = "FILE|URL", value_parser = Target::parse)]
    target: Target,
    /// The host of the webhook URL, where it is not the one in the URL
    #[arg(long, value_name = "HOST", value_parser = target::host)]
    name: Option<String>,
    /// What is uploaded to Telegram, where it is not the certificate itself, such as the root of a
    /// private authority; Telegram then trusts nothing else
    #[arg(long, value_name = "FILE")]
    uploaded: Option<PathBuf>,
    /// Print one object of JSON
    #[arg(long)]
    json: bool,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Report {
    target: String,
    /// The host with which names were compared.
    host: Option<String>,
    #[serde(flatten)]
    examination: Examination,
    handshakes: Vec<Handshake>,
}

/// What came of one handshake.
#[derive(Debug, Serialize)]
struct Handshake {
    version: &'static str,
    server_name: Option<String>,
    suite: Option<String>,
    error: Option<String>,
    /// True where a client certificate was asked for, and none was taken as well.
    #[serde(skip)]
    asks_for_certificate: bool,
    #[serde(skip)]
    chain: Vec<CertificateDer<'static>>,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Error> {
    let uploaded = args.uploaded.as_deref().map(tls::read_chain).transpose()?;
    let report = match &args.target {
        Target::File(path) => of_file(path, args.name.as_deref(), uploaded.as_deref())?,
        Target::Url(url) => of_url(url, args.name.as_deref(), uploaded.as_deref())?,
    };
    report
        .print(args.json)
        .map_err(|source| Error::with_source(ErrorKind::Sink, "standard output", source))?;
    if report.examination.accepted {
        return Ok(());
    }
    let message = format!("{}: Telegram would refuse it", report.target);
    Err(Error::new(ErrorKind::Certificate, message))
}

fn of_file(
    path: &Path,
    host: Option<&str>,
    uploaded: Option<&[CertificateDer<'static>]>,
) -> Result<Report, Error> {
    let (chain, skipped) = tls::read_chain_and_skipped(path)?;
    let (now, roots) = (SystemTime::now(), public_roots());
    let question = Question { chain: &chain, host, is_sent: false, now, roots: &roots, uploaded };
    let mut examination = question.answer();
    let fix = "where it is meant to be served, put it right; serve passes over it as well";
    let skipped =
        skipped.into_iter().map(|what| Line::warn("file", format!("passed over: {what}"), fix));
    examination.findings.extend(skipped);
    Ok(Report {
        target: path.display().to_string(),
        host: host.map(str::to_owned),
        examination,
        handshakes: Vec::new(),
    })
}

fn of_url(
    url: &UrlTarget,
    name: Option<&str>,
    uploaded: Option<&[CertificateDer<'static>]>,
) -> Result<Report, Error> {
    let host = name.unwrap_or(&url.host);
    let mut lines = Vec::new();
    if !PUBLIC_PORTS.contains(&url.port) {
        lines.push(Line::warn(
            "port",
            format!("Telegram's cloud does not deliver to port {}", url.port),
            "use 443, 80, 88 or 8443; only a Bot API server of your own takes others",
        ));
    }
    let addr = resolve(url, &mut lines)?;
    let names = if target::is_address(host) { vec![None] } else { vec![Some(host), None] };
    let shakes = names.into_iter().flat_map(|name| [("1.2", &TLS12, name), ("1.3", &TLS13, name)]);
    // All at once, so that a silent server costs one timeout and not four.
    let handshakes = thread::scope(|scope| {
        let begin = |(version, with, name)| scope.spawn(move || shake(addr, with, version, name));
        let begun: Vec<_> = shakes.map(begin).collect();
        begun.into_iter().filter_map(|shake| shake.join().ok()).collect::<Vec<_>>()
    });
    // Telegram sends a name where there is one.
    let (asked, unasked) = handshakes.split_at(handshakes.len().min(2));
    lines.push(versions(asked));
    if asked.iter().any(|handshake| handshake.asks_for_certificate) {
        lines.push(Line::warn(
            "client",
            "the server asks for a client certificate; Telegram has none",
            "have it ask for none: some servers take the handshake and then refuse the request",
        ));
    }
    let seen = asked.iter().rev().find(|handshake| handshake.error.is_none());
    lines.extend(seen.and_then(|seen| nameless(seen, unasked)));
    let (now, roots) = (SystemTime::now(), public_roots());
    let chain = seen.map_or(&[][..], |seen| &seen.chain);
    let question =
        Question { chain, host: Some(host), is_sent: true, now, roots: &roots, uploaded };
    let mut examination = question.answer();
    lines.append(&mut examination.findings);
    examination.findings = lines;
    let (target, host) = (url.to_string(), Some(host.to_owned()));
    Ok(Report { target, host, examination, handshakes })
}

/// Where to connect to: an IPv4 address where there is one, as Telegram does.
fn resolve(url: &UrlTarget, lines: &mut Vec<Line>) -> Result<SocketAddr, Error> {
    let failed = |source| {
        let message = format!("{url}: cannot connect, does a server listen there?");
        Error::with_source(ErrorKind::Certificate, message, source)
    };
    let found = (url.host.as_str(), url.port).to_socket_addrs().map_err(failed)?;
    let found: Vec<_> = found.collect();
    let v4 = found.iter().find(|addr| addr.is_ipv4());
    if v4.is_none() {
        lines.push(Line::warn(
            "address",
            "it has no IPv4 address, and Telegram's cloud knows no other",
            "add an A record",
        ));
    }
    let none = || failed(io::Error::other("the name has no address"));
    let addr = *v4.or(found.first()).ok_or_else(none)?;
    // Whether the port listens, before four handshakes fail for one reason.
    TcpStream::connect_timeout(&addr, PATIENCE).map_err(failed)?;
    Ok(addr)
}

fn shake(
    addr: SocketAddr,
    with: &'static SupportedProtocolVersion,
    version: &'static str,
    name: Option<&str>,
) -> Handshake {
    let server_name = name.map(str::to_owned);
    let (chain, suite, asks_for_certificate, error) = match handshake(addr, with, name, PATIENCE) {
        Ok(Seen { chain, suite, asks_for_certificate }) => {
            (chain, Some(suite), asks_for_certificate, None)
        }
        Err(error) => (Vec::new(), None, false, Some(error)),
    };
    Handshake { version, server_name, suite, error, asks_for_certificate, chain }
}

/// What is to be said of the versions that a server took.
fn versions(handshakes: &[Handshake]) -> Line {
    let took = |handshake: &&Handshake| handshake.error.is_none();
    let taken: Vec<_> = handshakes.iter().filter(took).map(|one| one.version).collect();
    let demands = |handshake: &&Handshake| {
        handshake.error.as_ref().is_some_and(|error| error.starts_with(DEMANDS))
    };
    let demanding = handshakes.iter().find(demands);
    // What it demands says more than which version it does not speak.
    let refused = demanding.into_iter().chain(handshakes).find_map(|handshake| {
        handshake.error.as_ref().map(|error| format!("TLS {}: {error}", handshake.version))
    });
    match (taken.as_slice(), refused) {
        ([], why) => Line::fail(
            "TLS",
            format!("no handshake, {}", why.unwrap_or_default()),
            match demanding {
                Some(_) => "have the server take clients without a certificate",
                None => "is it TLS at all that is served there, and of version 1.2 or 1.3?",
            },
        ),
        (_, None) => Line::ok("TLS", format!("versions {}", taken.join(" and "))),
        (_, Some(why)) => Line::warn(
            "TLS",
            format!("version {} only ({why})", taken.join(" and ")),
            "Telegram speaks both, other clients may not",
        ),
    }
}

/// What is to be said of clients that send no server name, where the sender does.
fn nameless(seen: &Handshake, unasked: &[Handshake]) -> Option<Line> {
    unasked.first()?;
    let Some(other) = unasked.iter().rev().find(|handshake| handshake.error.is_none()) else {
        let what = "no handshake without a server name; Telegram sends one for this host";
        return Some(Line::ok("SNI", what));
    };
    Some(match other.chain.first() == seen.chain.first() {
        true => Line::ok("SNI", "the same certificate with and without a server name"),
        false => Line::ok(
            "SNI",
            "another certificate without a server name; Telegram sends one for this host",
        ),
    })
}

impl Report {
    fn print(&self, is_json: bool) -> io::Result<()> {
        let text = match is_json {
            true => serde_json::to_string_pretty(self)? + "\n",
            false => self.to_string(),
        };
        let text = hide_tokens(&text);
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            // A closed stdout (`| head`) is no failure.
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_coloured = io::stdout().is_terminal()
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        writeln!(f, "{}", self.target)?;
        for Line { level, check, what, fix } in &self.examination.findings {
            let (word, colour) = match level {
                Level::Ok => ("ok", "32"),
                Level::Warn => ("warn", "33"),
                Level::Fail => ("FAIL", "31"),
            };
            match is_coloured {
                true => write!(f, "  \x1b[{colour}m{word:<4}\x1b[0m")?,
                false => write!(f, "  {word:<4}")?,
            }
            writeln!(f, "  {check:<9}  {what}")?;
            if let Some(fix) = fix {
                writeln!(f, "{:<19}{fix}", "")?;
            }
        }
        Ok(())
    }
}
