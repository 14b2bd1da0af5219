//! The data directory: certificate, key and secret token, made on the first run and kept.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    certificates::make::{KeyKind, Subject, VALID_DAYS},
    files::{self, Over},
    process::privileges::Identity,
};
use ringhook::{
    Error, ErrorKind,
    internals::files::{Dir, User},
};

/// What is in it.
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const SECRET_TOKEN: &str = "secret-token";

/// Random bytes in a secret token; as hex it has twice as many characters.
const SECRET_BYTES: usize = 32;

/// A directory that only its owner may enter.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    /// Who gets what is made, where that is not who makes it.
    owner: Option<User>,
    path: PathBuf,
}

impl DataDir {
    /// The directory at `path`; nothing is made yet.
    pub(crate) fn at(path: &Path) -> Self {
        Self { owner: None, path: path.to_owned() }
    }

    /// What is made in it belongs to `owner`, where there is one.
    pub(crate) fn owned_by(mut self, owner: Option<&Identity>) -> Self {
        self.owner = owner.map(Identity::user);
        self
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.path.join(CERT)
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path.join(KEY)
    }

    pub(crate) fn secret_token(&self) -> PathBuf {
        self.path.join(SECRET_TOKEN)
    }

    /// Makes the directory with mode 0700 where there is none.
    pub(crate) fn create(&self) -> Result<(), Error> {
        self.make().map(|_| ())
    }

    fn make(&self) -> Result<Dir, Error> {
        Dir::make(&self.path, 0o700, self.owner.as_ref()).map_err(|source| {
            Error::with_source(ErrorKind::DataDir, self.path.display().to_string(), source)
        })
    }

    /// Makes certificate and key where neither is there, for `hosts` and this machine itself.
    pub(crate) fn ensure_certificate(&self, hosts: &[String]) -> Result<(), Error> {
        let dir = self.make()?;
        match (dir.has(CERT.as_ref()), dir.has(KEY.as_ref())) {
            (true, true) => return Ok(()),
            (false, false) => {}
            (cert, _) => {
                let (there, missing) = if cert { ("cert", "key") } else { ("key", "cert") };
                return Err(Error::new(
                    ErrorKind::DataDir,
                    format!(
                        "{}: {there}.pem is there, {missing}.pem is not: put it back, or move \
                         {there}.pem away to have both made anew",
                        self.path.display()
                    ),
                ));
            }
        }
        let made = Subject::this_machine(hosts)?.self_signed(KeyKind::default(), VALID_DAYS)?;
        // The key first: a certificate without a key would look like a mistake of the operator.
        self.write_new(&self.key(), 0o600, &made.key)?;
        self.write_new(&self.cert(), 0o644, &made.text)
    }

    /// Makes a random secret token where there is none.
    pub(crate) fn ensure_secret_token(&self) -> Result<(), Error> {
        if self.make()?.has(SECRET_TOKEN.as_ref()) {
            return Ok(());
        }
        self.make_secret_token(&self.secret_token())
    }

    /// Writes a random secret token to `path`, which is not there yet.
    pub(crate) fn make_secret_token(&self, path: &Path) -> Result<(), Error> {
        let mut random = [0; SECRET_BYTES];
        getrandom::fill(&mut random).map_err(|source| {
            Error::with_source(
                ErrorKind::DataDir,
                "no random bytes",
                io::Error::other(source.to_string()),
            )
        })?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write_new(path, 0o600, &format!("{token}\n"))
    }

    /// Writes a file that was not there, so that it is whole or not there at all.
    fn write_new(&self, path: &Path, mode: u32, text: &str) -> Result<(), Error> {
        files::write(path, mode, self.owner.as_ref(), text, Over::Keep).map_err(|source| {
            let path = path.display();
            let message = match source.kind() {
                io::ErrorKind::AlreadyExists => format!(
                    "{path} is there now, or is a symbolic link to a file that is not: make that \
                     file, or remove the link"
                ),
                _ => path.to_string(),
            };
            Error::with_source(ErrorKind::DataDir, message, source)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use ringhook::{SecretToken, TlsConfig};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_first_run_makes_everything_and_the_next_keeps_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let dir = DataDir::at(&path);
        dir.ensure_certificate(&[]).unwrap();
        dir.ensure_secret_token().unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&dir.key()), 0o600);
        assert_eq!(mode(&dir.secret_token()), 0o600);
        TlsConfig::from_pem_files(&dir.cert(), &dir.key()).unwrap();
        let files = || {
            [dir.cert(), dir.key(), dir.secret_token()]
                .map(|file| fs::read_to_string(file).unwrap())
        };
        let first = files();
        SecretToken::new(first[2].trim(), "token").unwrap();
        assert_eq!(first[2].trim().len(), 2 * SECRET_BYTES);
        dir.ensure_certificate(&[]).unwrap();
        dir.ensure_secret_token().unwrap();
        assert_eq!(files(), first);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 3, "no half-written file is left");
    }

    #[test]
    fn half_a_pair_is_not_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::at(parent.path());
        fs::write(dir.key(), "precious").unwrap();
        let error = dir.ensure_certificate(&[]).unwrap_err().to_string();
        assert!(error.contains("key.pem is there, cert.pem is not"), "{error}");
        assert_eq!(fs::read_to_string(dir.key()).unwrap(), "precious");
    }

    #[test]
    fn a_link_to_nothing_is_not_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::at(parent.path());
        std::os::unix::fs::symlink("nowhere", dir.secret_token()).unwrap();
        let error = dir.ensure_secret_token().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataDir);
        assert!(error.to_string().contains("a symbolic link to a file that is not"), "{error}");
        assert!(fs::symlink_metadata(dir.secret_token()).unwrap().is_symlink());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::at(&file.path().join("data")).ensure_certificate(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataDir);
        assert!(error.to_string().contains("data"));
    }
}
