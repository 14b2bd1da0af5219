//! `ringhook cert new`: a key and a self-signed certificate.

use std::{net::Ipv4Addr, path::PathBuf, time::SystemTime};

use clap::Args;

use super::Place;
use crate::{
    certificates::make::{KeyKind, Subject, VALID_DAYS, clock_fault, host_name},
    net::address::is_reserved,
    process::stderr::log,
};
use ringhook::Error;

/// Most days of validity; beyond that the end has more digits than a certificate has room for.
const DAYS_MAX: i64 = 36_500;

/// Make a key and a self-signed certificate in the form that Telegram accepts.
///
/// Telegram has to get the certificate: `ringhook webhook set` uploads it. A certificate of a
/// public authority such as Let's Encrypt needs no upload, but a name.
#[derive(Args, Debug)]
pub(super) struct NewArgs {
    #[command(flatten)]
    host: Host,
    /// How long it is valid; Telegram stops delivering when it ends
    #[arg(
        long, value_name = "DAYS", default_value_t = VALID_DAYS,
        value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX)
    )]
    days: u32,
    /// An RSA key of 2048 bits in place of ECDSA P-256, which is four times as fast to serve
    #[arg(long)]
    rsa: bool,
    /// The certificate's file, where there is no --out [default: cert.pem]
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    cert: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// The host of the webhook URL.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Host {
    /// A name of the host, such as bot.example.com or *.example.com; may be given several times
    #[arg(long = "name", value_name = "NAME", value_parser = host_name)]
    names: Vec<String>,
    /// The host's public IPv4 address, for a webhook URL without a name
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    ip: Option<Ipv4Addr>,
}

pub(super) fn run(args: &NewArgs) -> Result<(), Error> {
    let pair = args.place.find(args.cert.as_deref(), "cert.pem")?;
    let (subject, host) = match args.host.ip {
        Some(address) => (Subject::address(address)?, address.to_string()),
        None => (Subject::names(&args.host.names)?, args.host.names.join(", ")),
    };
    if let Some(fault) = clock_fault(SystemTime::now()) {
        log(format_args!("note: {fault}"));
    }
    let made = subject.self_signed(kind(args.rsa), args.days)?;
    pair.write(&made.text, &made.key)?;
    let (cert, key) = (pair.text.display(), pair.key.display());
    log(format_args!(
        "made a certificate for {host}, valid for {} days: {cert}, and its key: {key}\n\
         In the config file of `ringhook serve`:\n\
         {}\n\
         It is self-signed, so Telegram has to get it: `ringhook webhook set` uploads it.",
        args.days,
        pair.config_lines(),
    ));
    if args.host.ip.is_some_and(|address| is_reserved(address.into())) {
        log(format_args!(
            "note: {host} is not a public address: only a Bot API server of your own delivers there"
        ));
    }
    Ok(())
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    let expected = "expected an IPv4 address such as 203.0.113.7: Telegram delivers to no other, and \
                    for a name there is --name";
    text.parse().map_err(|_| expected.to_owned())
}

/// What `--rsa` means.
pub(super) fn kind(is_rsa: bool) -> KeyKind {
    if is_rsa { KeyKind::Rsa2048 } else { KeyKind::EcdsaP256 }
}
