//! PEM files: what is in them, and what is wrong with them in one line.

use std::{fs, path::Path};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use crate::error::{Error, ErrorKind};

/// Said of a key with a passphrase: a server that starts by itself has nobody to ask for it.
const ENCRYPTED: &str = "the key is encrypted: decrypt it with `openssl pkey -in FILE -out PLAIN`";

/// PEM text and the name under which errors speak of it.
pub(super) struct Source {
    /// The file's path, or what the text is where it came from memory.
    pub(super) name: String,
    text: Vec<u8>,
}

impl Source {
    pub(super) fn file(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        match fs::read(path) {
            Ok(text) => Ok(Self { name, text }),
            Err(source) => Err(Error::with_source(ErrorKind::Certificate, name, source)),
        }
    }

    pub(super) fn memory(name: &str, text: &[u8]) -> Self {
        Self { name: name.to_owned(), text: text.to_vec() }
    }

    /// The chain in the order of the file, leaf first.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let chain = CertificateDer::pem_slice_iter(&self.text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.error(&broken(&error)))?;
        if chain.is_empty() {
            return Err(self.error(self.without("CERTIFICATE")));
        }
        Ok(chain)
    }

    /// The first private key of the file.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| match error {
            pem::Error::NoItemsFound => self.error(self.without("PRIVATE KEY")),
            // In keys of the old form, lines that are no base64 say how they are encrypted.
            _ if self.has("Proc-Type: 4,ENCRYPTED") => self.error(ENCRYPTED),
            error => self.error(&broken(&error)),
        })
    }

    /// Why a file has no item of `label`: what it seems to hold instead.
    fn without(&self, label: &str) -> &'static str {
        let has = |needle: &str| self.has(needle);
        if label == "PRIVATE KEY" && has("BEGIN ENCRYPTED PRIVATE KEY") {
            ENCRYPTED
        } else if label == "PRIVATE KEY" && has("BEGIN CERTIFICATE") {
            "holds a certificate, but no private key: are the two files swapped?"
        } else if label == "CERTIFICATE" && has("PRIVATE KEY") {
            "holds a private key, but no certificate: are the two files swapped?"
        } else if self.text.is_empty() {
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
