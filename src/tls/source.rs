//! Where a certificate and its key come from.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{InconsistentKeys, crypto::CryptoProvider, sign::CertifiedKey};
use zeroize::Zeroizing;

use super::{KeyPassword, pem, store::Certificate};
use crate::error::{Error, ErrorKind};

/// A certificate chain and its key in PEM, in files or in memory, and the names it is for.
///
/// ```no_run
/// use ringhook::{CertificateSource, KeyPassword, TlsConfig};
///
/// # fn main() -> Result<(), ringhook::Error> {
/// let shop = CertificateSource::files("shop.pem", "shop.key")
///     .names(["shop.example.com"])
///     .password(KeyPassword::from_file("shop.password"));
/// let tls = TlsConfig::builder()
///     .certificate(CertificateSource::files("fullchain.pem", "privkey.pem"))
///     .certificate(shop)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CertificateSource {
    pub(super) names: Vec<String>,
    pair: PairSource,
    password: Option<KeyPassword>,
}

#[derive(Clone)]
enum PairSource {
    Files { cert: PathBuf, key: PathBuf },
    Memory { cert: Arc<[u8]>, key: Arc<Zeroizing<Vec<u8>>> },
}

impl CertificateSource {
    /// The chain in the file `cert`, leaf first, and its key (PKCS#8, SEC1 or PKCS#1) in the file
    /// `key`; one file may be both. They are read again at a [reload](super::TlsConfig::reload).
    #[must_use]
    pub fn files(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let pair = PairSource::Files { cert: cert.into(), key: key.into() };
        Self { names: Vec::new(), pair, password: None }
    }

    /// As [`files`](Self::files), from PEM text in memory.
    #[must_use]
    pub fn pem(cert: &[u8], key: &[u8]) -> Self {
        let pair = PairSource::Memory { cert: cert.into(), key: Arc::new(key.to_vec().into()) };
        Self { names: Vec::new(), pair, password: None }
    }

    /// Serves it to clients that ask for one of `names`, such as `bot.example.com`, or
    /// `*.example.com` for every name with one label more, whatever names are in the certificate.
    /// Case does not matter. A client that asks for a name that no certificate is configured for
    /// gets the first that contains the name, and else the default one.
    #[must_use]
    pub fn names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let lower = |name: String| name.to_ascii_lowercase();
        self.names.extend(names.into_iter().map(|name| lower(name.into())));
        self
    }

    /// Opens the key with `password`; a key that is not encrypted needs none.
    #[must_use]
    pub fn password(mut self, password: KeyPassword) -> Self {
        self.password = Some(password);
        self
    }

    /// The files that it is read from.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let pair = match &self.pair {
            PairSource::Files { cert, key } => vec![&**cert, &**key],
            PairSource::Memory { .. } => Vec::new(),
        };
        let password = self.password.as_ref().and_then(KeyPassword::file);
        pair.into_iter().chain(password)
    }

    /// Reads and checks the pair.
    pub(super) fn load(&self, provider: &CryptoProvider) -> Result<Certificate, Error> {
        let (cert, key) = match &self.pair {
            PairSource::Files { cert, key } => (pem::Source::file(cert)?, pem::Source::file(key)?),
            PairSource::Memory { cert, key } => {
                (pem::Source::memory("certificate", cert), pem::Source::memory("key", key))
            }
        };
        let unusable = |source| {
            let message = match source {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    format!("{} does not belong to {}: its key is another one", key.name, cert.name)
                }
                rustls::Error::InvalidCertificate(why) => {
                    format!("{}: the first certificate cannot be used: {why}", cert.name)
                }
                other => format!("{} with {}: {other}", cert.name, key.name),
            };
            Error::new(ErrorKind::Certificate, message)
        };
        let chain = cert.certificates()?;
        for skipped in cert.skipped() {
            tracing::warn!(file = cert.name, skipped, "a part of the file is passed over");
        }
        let private_key = key.private_key(self.password.as_ref())?;
        let signer = provider.key_provider.load_private_key(private_key).map_err(unusable)?;
        let certificate = Certificate::new(cert.name.clone(), CertifiedKey::new(chain, signer));
        match certificate.key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(certificate)
            }
            Err(error) => Err(unusable(error)),
        }
    }
}

impl fmt::Debug for CertificateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.paths().collect::<Vec<_>>();
        f.debug_struct("CertificateSource")
            .field("names", &self.names)
            .field("paths", &paths)
            .finish_non_exhaustive()
    }
}
