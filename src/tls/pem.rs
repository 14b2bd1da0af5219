//! PEM files: what is in them, and what is wrong with them in one line.

use std::{
    io::{self, Read as _},
    path::Path,
};

use pkcs8::{EncryptedPrivateKeyInfoRef, pkcs5};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
    pem::{self, PemObject as _},
};
use zeroize::Zeroizing;

use super::{KeyPassword, tidy};
use crate::{
    error::{Error, ErrorKind},
    files::{self, How},
};

/// The error for an encrypted key without a password: a start has no terminal to ask at.
const ENCRYPTED: &str = "the key is encrypted: give its password (key_password_file or \
                         key_password_env), or decrypt it with `openssl pkey -in FILE -out PLAIN`";
/// Said of a key whose encryption is OpenSSL's own of old, which derives the key by one MD5.
const ENCRYPTED_OLD: &str = "the key is encrypted in the old form (Proc-Type: 4,ENCRYPTED), which \
                             is not supported: make it new with `openssl pkcs8 -topk8 -in FILE \
                             -out NEW`";
const WRONG_PASSWORD: &str = "the password does not open the encrypted key";
const UNKNOWN_ENCRYPTION: &str = "the key's encryption is not supported: make it new with `openssl \
                                  pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW`";

/// Most bytes of a file; a chain has a few thousand, and what is at a path may be a device.
const FILE_MAX: u64 = 1024 * 1024;

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// PEM text and the name under which errors speak of it.
pub struct Source {
    /// The file's path, or what the text is where it came from memory.
    pub(super) name: String,
    /// What it is that is no PEM, where that is known.
    foreign: Option<String>,
    is_empty: bool,
    /// Why it cannot be read.
    problem: Option<String>,
    /// What of it is passed over.
    skipped: Vec<String>,
    /// Its sections. It may be that of a key.
    text: Zeroizing<Vec<u8>>,
}

impl Source {
    /// Reads `path`.
    pub fn file(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let mut text = Zeroizing::new(Vec::new());
        let read = files::open(path, How::Read)
            .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut text))
            .and_then(|length| match length as u64 {
                0..=FILE_MAX => Ok(()),
                _ => Err(io::Error::other("longer than 1 MiB, so it is no certificate or key")),
            });
        match read {
            Ok(()) => Ok(Self::memory(&name, &text)),
            Err(source) => Err(Error::with_source(ErrorKind::Certificate, name, source)),
        }
    }

    /// The same of `text`, which errors call `name`.
    pub fn memory(name: &str, text: &[u8]) -> Self {
        let (tidied, problem) = match tidy::tidy(text) {
            Ok(tidied) => (Some(tidied), None),
            Err(problem) => (None, Some(problem)),
        };
        let (skipped, tidied) =
            tidied.map_or_else(Default::default, |tidied| (tidied.skipped, tidied.text));
        Self {
            name: name.to_owned(),
            foreign: tidy::foreign(text, name),
            is_empty: text.trim_ascii().is_empty(),
            problem,
            skipped,
            text: tidied,
        }
    }

    /// What of it is passed over, each with its line.
    pub(super) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Whether its sections can be read at all.
    fn check(&self) -> Result<(), Error> {
        if let Some(foreign) = &self.foreign {
            return Err(Error::new(ErrorKind::Certificate, foreign.clone()));
        }
        self.problem.as_ref().map_or(Ok(()), |problem| Err(self.error(problem)))
    }

    /// All of its sections, the key included.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The chain in the order of the file.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        self.check()?;
        let chain = CertificateDer::pem_slice_iter(&self.text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.error(&broken(&error)))?;
        if chain.is_empty() {
            return Err(self.error(self.without("CERTIFICATE")));
        }
        Ok(chain)
    }

    /// The first private key of the file; an encrypted one only where there is no other.
    pub(super) fn private_key(
        &self,
        password: Option<&KeyPassword>,
    ) -> Result<PrivateKeyDer<'static>, Error> {
        self.check()?;
        match PrivateKeyDer::from_pem_slice(&self.text) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => match (self.encrypted_key(), password) {
                (None, _) => Err(self.error(self.without("PRIVATE KEY"))),
                (Some(_), None) => Err(self.error(ENCRYPTED)),
                (Some(section), Some(password)) => self.decrypt(&section, password),
            },
            // In keys of the old form, lines that are no base64 say how they are encrypted.
            Err(_) if self.has("Proc-Type: 4,ENCRYPTED") => Err(self.error(ENCRYPTED_OLD)),
            Err(error) => Err(self.error(&broken(&error))),
        }
    }

    /// The section of an encrypted key as if it were a plain one: the reader of PEM knows no other
    /// kind, and does not look at what is inside.
    fn encrypted_key(&self) -> Option<Zeroizing<Vec<u8>>> {
        let begin = memchr::memmem::find(&self.text, BEGIN.as_bytes())? + BEGIN.len();
        let rest = self.text.get(begin..)?;
        // Where it is cut off, the reader's error says so.
        let end = memchr::memmem::find(rest, END.as_bytes());
        let body = rest.get(..end.unwrap_or(rest.len()))?;
        let mut section = Zeroizing::new(b"-----BEGIN PRIVATE KEY-----".to_vec());
        section.extend_from_slice(body);
        if end.is_some() {
            section.extend_from_slice(b"-----END PRIVATE KEY-----\n");
        }
        Some(section)
    }

    fn decrypt(
        &self,
        section: &[u8],
        password: &KeyPassword,
    ) -> Result<PrivateKeyDer<'static>, Error> {
        let sealed = PrivatePkcs8KeyDer::from_pem_slice(section)
            .map_err(|error| self.error(&broken(&error)))?;
        let sealed = EncryptedPrivateKeyInfoRef::try_from(sealed.secret_pkcs8_der())
            .map_err(|_| self.error("the encrypted key is malformed"))?;
        let password = password.reveal()?;
        let opened = sealed.decrypt(password.as_bytes()).map_err(|error| {
            self.error(match error {
                // A wrong password may leave a padding that looks right, and then no key behind it.
                pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::DecryptFailed)
                | pkcs8::Error::Asn1(_) => WRONG_PASSWORD,
                _ => UNKNOWN_ENCRYPTION,
            })
        })?;
        Ok(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec()).into())
    }

    /// Why a file has no item of `label`: what it seems to hold instead.
    fn without(&self, label: &str) -> &'static str {
        let has = |needle: &str| self.has(needle);
        if label == "PRIVATE KEY" && has("BEGIN CERTIFICATE") {
            "holds a certificate, but no private key: are the two files swapped?"
        } else if label == "CERTIFICATE" && has("PRIVATE KEY") {
            "holds a private key, but no certificate: are the two files swapped?"
        } else if self.is_empty {
            "is empty"
        } else if !has("-----BEGIN ") {
            "is not PEM (-----BEGIN ...): convert DER with `openssl x509 -inform der` or \
             `openssl pkey -inform der`"
        } else if label == "CERTIFICATE" {
            "holds no certificate (-----BEGIN CERTIFICATE-----)"
        } else {
            "holds no private key of a known form (PKCS#8, SEC1 or PKCS#1)"
        }
    }

    fn has(&self, needle: &str) -> bool {
        memchr::memmem::find(&self.text, needle.as_bytes()).is_some()
    }

    fn error(&self, what: &str) -> Error {
        Error::new(ErrorKind::Certificate, format!("{}: {what}", self.name))
    }
}

/// A syntax error without the bytes of the line, which may be those of a key.
fn broken(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line: is it cut off?".into(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed".into(),
        pem::Error::Base64Decode(_) => "a section is not base64".into(),
        other => other.to_string(),
    }
}
