//! `ringhook cert import`: PKCS#12 to PEM.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use super::{
    Place, failed,
    password::{self, PasswordArgs},
};
use crate::{
    certificates::import::{Failed, Unpacked, recognise, unpack},
    process::stderr::log,
};
use ringhook::{
    Error, ErrorKind,
    internals::{files, files::How, tls::java_keystore},
};

/// Most bytes of a file; one with a key and its chain has a few thousand.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Turn a PKCS#12 file (.p12, .pfx) into a certificate chain and a key in PEM.
///
/// The password is asked for on a terminal, and else comes from a file or the environment; a file
/// without a password needs none.
#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// The PKCS#12 file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    password: PasswordArgs,
    /// Which key to take where there are several: its alias (friendly name)
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// The chain's file, where there is no --out [default: cert.pem]
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    cert: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: &ImportArgs) -> Result<(), Error> {
    let data = read(&args.file).map_err(|source| failed(&args.file, source))?;
    let unusable = |failed| unusable(&args.file, failed);
    recognise(&data).map_err(unusable)?;
    let pair = args.place.find(args.cert.as_deref(), "cert.pem")?;
    let unpacked = open(args, &data)?;
    pair.write(&unpacked.chain, &unpacked.key)?;
    let Unpacked { length, notes, .. } = unpacked;
    let (cert, key) = (pair.text.display(), pair.key.display());
    log(format_args!("wrote {length} certificate(s), leaf first: {cert}, and the key: {key}"));
    notes.iter().for_each(|note| log(format_args!("note: {note}")));
    log(format_args!(
        "In the config file of `ringhook serve`:\n{}\n\
         `ringhook cert check {cert} --name HOST` says whether Telegram accepts it.",
        pair.config_lines(),
    ));
    Ok(())
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut data = Zeroizing::new(Vec::new());
    files::open(path, How::Read)?.take(FILE_MAX + 1).read_to_end(&mut data)?;
    match data.len() as u64 {
        0..=FILE_MAX => Ok(data),
        _ => Err(io::Error::other("longer than 16 MiB, so it is no PKCS#12 file")),
    }
}

fn open(args: &ImportArgs, data: &[u8]) -> Result<Unpacked, Error> {
    let unusable = |failed| unusable(&args.file, failed);
    let alias = args.alias.as_deref();
    if let Some(password) = args.password.given()? {
        return unpack(data, &password, alias).map_err(unusable);
    }
    match unpack(data, "", alias) {
        Err(Failed::Password) => {}
        outcome => return outcome.map_err(unusable),
    }
    match password::ask(&args.file.display().to_string())? {
        Some(password) => unpack(data, &password, alias).map_err(unusable),
        None => {
            let message = format!(
                "{} needs a password: give --password-file FILE or --password-env VARIABLE",
                args.file.display()
            );
            Err(Error::new(ErrorKind::Config, message))
        }
    }
}

fn unusable(path: &Path, failed: Failed) -> Error {
    let file = path.display();
    let config = |message: String| Error::new(ErrorKind::Config, message);
    match failed {
        Failed::Java => config(java_keystore(&file.to_string())),
        Failed::Pem => config(format!(
            "{file} is PEM already: give it to `ringhook cert check`, and to `ringhook serve` as it is"
        )),
        Failed::SeveralKeys(names) => config(format!(
            "{file} holds several private keys: choose one with --alias, of: {}",
            names.join(", ").escape_debug()
        )),
        Failed::Password => Error::new(
            ErrorKind::Certificate,
            format!("{file}: the password does not open it, or the file is damaged"),
        ),
        Failed::Other(why) => Error::new(ErrorKind::Certificate, format!("{file}: {why}")),
    }
}
