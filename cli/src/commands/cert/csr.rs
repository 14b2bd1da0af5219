//! `ringhook cert csr`: a key and a request for a certificate.

use std::path::PathBuf;

use clap::Args;

use super::{Place, new::kind};
use crate::{
    certificates::make::{Subject, host_name},
    process::stderr::log,
};
use ringhook::Error;

/// Make a key and a certificate signing request (CSR) for an authority.
#[derive(Args, Debug)]
pub(super) struct CsrArgs {
    /// A name of the host, such as bot.example.com or *.example.com; may be given several times
    #[arg(long = "name", value_name = "NAME", required = true, value_parser = host_name)]
    names: Vec<String>,
    /// An RSA key of 2048 bits in place of ECDSA P-256, which is four times as fast to serve
    #[arg(long)]
    rsa: bool,
    /// The request's file, where there is no --out [default: request.csr]
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    csr: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: &CsrArgs) -> Result<(), Error> {
    let pair = args.place.find(args.csr.as_deref(), "request.csr")?;
    let made = Subject::names(&args.names)?.request(kind(args.rsa))?;
    pair.write(&made.text, &made.key)?;
    let (names, csr, key) = (args.names.join(", "), pair.text.display(), pair.key.display());
    log(format_args!(
        "made a request for {names}: {csr}, and its key: {key}\n\
         Send {csr} to the authority and keep the key. What comes back goes into one file, the \
         certificate first and its issuers behind it; `ringhook cert check FILE` says whether it \
         is complete."
    ));
    Ok(())
}
