//! Certificates made for one test.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};

/// A self-signed certificate for `localhost` and 127.0.0.1, and its key, in PEM.
pub(crate) struct Pki {
    pub(crate) cert: String,
    pub(crate) key: String,
    dir: tempfile::TempDir,
}

impl Pki {
    pub(crate) fn ecdsa() -> Self {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let cert = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let pki = Self { cert: cert.pem(), key: key.serialize_pem(), dir };
        std::fs::write(pki.cert_file(), &pki.cert).unwrap();
        std::fs::write(pki.key_file(), &pki.key).unwrap();
        pki
    }

    /// A directory of this certificate's own, gone with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn cert_file(&self) -> PathBuf {
        self.dir().join("cert.pem")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.dir().join("key.pem")
    }
}
