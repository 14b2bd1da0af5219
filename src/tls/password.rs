//! The password of an encrypted key: given by a program, or the first line of a file.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use crate::{
    error::{Error, ErrorKind},
    files::text_file,
};

/// What opens an encrypted private key. Never shown, and wiped from memory when it is dropped.
#[derive(Clone)]
pub struct KeyPassword(PasswordSource);

#[derive(Clone)]
enum PasswordSource {
    File(PathBuf),
    Memory(Arc<Zeroizing<String>>),
}

impl KeyPassword {
    /// The password itself.
    #[must_use]
    pub fn new(password: impl Into<String>) -> Self {
        Self(PasswordSource::Memory(Arc::new(Zeroizing::new(password.into()))))
    }

    /// The first line of the file at `path`, which is read each time that the key is.
    #[must_use]
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self(PasswordSource::File(path.into()))
    }

    /// The file that it is read from.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.0 {
            PasswordSource::File(path) => Some(path),
            PasswordSource::Memory(_) => None,
        }
    }

    pub(super) fn reveal(&self) -> Result<Zeroizing<String>, Error> {
        match &self.0 {
            PasswordSource::Memory(password) => Ok(Zeroizing::clone(password)),
            PasswordSource::File(path) => {
                let text = text_file::read(path).map_err(|source| {
                    let message = format!("password of the key, {}", path.display());
                    Error::with_source(ErrorKind::Certificate, message, source)
                })?;
                Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
            }
        }
    }
}

impl fmt::Debug for KeyPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPassword(hidden)")
    }
}
