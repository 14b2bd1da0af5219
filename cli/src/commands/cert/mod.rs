//! `ringhook cert`: certificates made, asked for, looked at and taken over.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | what the subcommands have in common |
//! | `new`, `csr`, `check`, `import` | the subcommands |
//! | `password` | the password of a file |

mod check;
mod csr;
mod import;
mod new;
mod password;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use crate::files::{self, Half, Over};
use ringhook::{Error, ErrorKind, internals::files::Dir};

/// Make, ask for, check and import certificates.
///
/// Telegram verifies the certificate of a webhook with every connection: signed by a public
/// authority, or self-signed and uploaded.
#[derive(Args, Debug)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::NewArgs),
    Csr(csr::CsrArgs),
    Check(check::CheckArgs),
    Import(import::ImportArgs),
}

pub(super) fn run(args: &CertArgs) -> Result<(), Error> {
    match &args.command {
        Command::Check(args) => check::run(args),
        Command::Csr(args) => csr::run(args),
        Command::Import(args) => import::run(args),
        Command::New(args) => new::run(args),
    }
}

/// Where a key and what belongs to it are written.
#[derive(Args, Debug)]
struct Place {
    /// Directory for both files, made where there is none [default: the working directory]
    #[arg(long, value_name = "DIR", conflicts_with = "key")]
    out: Option<PathBuf>,
    /// The key's file, where there is no --out [default: key.pem]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
}

/// Two files to be made.
struct Pair {
    /// The certificate or the request for one.
    text: PathBuf,
    key: PathBuf,
    over: Over,
}

impl Place {
    /// The files, the one beside the key at `text` or called `name` in the directory; free to be
    /// written.
    fn find(&self, text: Option<&Path>, name: &str) -> Result<Pair, Error> {
        let dir = self.out.as_deref().unwrap_or(Path::new(""));
        let pair = Pair {
            text: text.map_or_else(|| dir.join(name), Path::to_owned),
            key: self.key.clone().unwrap_or_else(|| dir.join("key.pem")),
            over: if self.force { Over::Replace } else { Over::Keep },
        };
        pair.check_distinct()?;
        for path in [&pair.key, &pair.text] {
            if files::is_directory(path) {
                let message = format!("{} is a directory: name a file in it", path.display());
                return Err(Error::new(ErrorKind::Config, message));
            }
            if !self.force && fs::symlink_metadata(path).is_ok() {
                return Err(is_there(path));
            }
        }
        Ok(pair)
    }
}

impl Pair {
    fn check_distinct(&self) -> Result<(), Error> {
        if files::is_same(&self.text, &self.key) {
            let expected = "another file than that of the certificate";
            return Err(Error::config("--key", self.key.display(), expected));
        }
        Ok(())
    }

    /// Writes both; of two that were not there, both are or none. What they replace stays until
    /// both are whole.
    fn write(&self, text: &str, key: &str) -> Result<(), Error> {
        for path in [&self.key, &self.text] {
            make_parent(path).map_err(|source| failed(path, source))?;
        }
        // In directories that are there now, any spelling shows.
        self.check_distinct()?;
        let key = Self::prepare(&self.key, 0o600, key)?;
        let text = Self::prepare(&self.text, 0o644, text)?;
        // The key first: a certificate without a key would look like a mistake of the operator.
        self.settle(key, &self.key)?;
        let written = self.settle(text, &self.text);
        if written.is_err() && self.over == Over::Keep {
            let _ = Dir::parent_of(&self.key, None).and_then(|(dir, name)| dir.remove(&name));
        }
        written
    }

    fn prepare(path: &Path, mode: u32, text: &str) -> Result<Half, Error> {
        let write =
            |(dir, name): (_, std::ffi::OsString)| Half::write(dir, &name, mode, text.as_bytes());
        Dir::parent_of(path, None).and_then(write).map_err(|source| failed(path, source))
    }

    fn settle(&self, half: Half, path: &Path) -> Result<(), Error> {
        half.settle(self.over).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => is_there(path),
            _ => failed(path, source),
        })
    }

    /// The lines of the config file that serve the two.
    fn config_lines(&self) -> String {
        let quoted = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            toml::Value::String(path.display().to_string()).to_string()
        };
        format!("  [tls]\n  cert = {}\n  key = {}", quoted(&self.text), quoted(&self.key))
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    Dir::make(path.parent().unwrap_or(Path::new("")), 0o700, None).map(|_| ())
}

fn is_there(path: &Path) -> Error {
    let message = format!(
        "{} is there already: give another place with --out, or --force to replace it",
        path.display()
    );
    Error::new(ErrorKind::Certificate, message)
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::with_source(ErrorKind::Certificate, path.display().to_string(), source)
}
