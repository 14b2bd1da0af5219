//! TLS as the shards serve it: certificate and key in, one shared [`rustls::ServerConfig`] out.

pub(crate) mod fault;
mod pem;
pub(crate) mod session;

use std::{path::Path, sync::Arc};

use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::CryptoProvider,
    server::{ProducesTickets, ServerSessionMemoryCache},
};

use crate::error::{Error, ErrorKind};

/// TLS 1.2 sessions kept for clients that resume by session id; the oldest goes first.
/// Tickets, which TLS 1.3 and most 1.2 clients use, cost the server no memory.
const SESSION_CACHE: usize = 4096;

/// Certificate chain, key and session resumption, shared by all shards.
#[derive(Clone, Debug)]
pub struct TlsConfig(Arc<ServerConfig>);

impl TlsConfig {
    /// Reads a PEM chain (leaf first) and its key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// Which of the files cannot be read or used, and why.
    pub fn from_pem_files(cert: &Path, key: &Path) -> Result<Self, Error> {
        let (cert, key) = (pem::Source::file(cert)?, pem::Source::file(key)?);
        Self::from_sources(&cert, &key)
    }

    /// As [`from_pem_files`](Self::from_pem_files), from PEM text in memory.
    ///
    /// # Errors
    /// Which of the two cannot be used, and why.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, Error> {
        let cert = pem::Source::memory("certificate", cert);
        Self::from_sources(&cert, &pem::Source::memory("key", key))
    }

    fn from_sources(cert: &pem::Source, key: &pem::Source) -> Result<Self, Error> {
        let chain = cert.certificates()?;
        let private_key = key.private_key()?;
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
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, private_key)
            .map_err(unusable)?;
        config.ticketer = ticketer().map_err(unusable)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSION_CACHE);
        // The sender resumes nothing and each ticket costs about a tenth of a handshake; those who
        // do resume need one.
        config.send_tls13_tickets = 1;
        // Early data can be replayed, and a POST must not be.
        config.max_early_data_size = 0;
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn rustls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

/// The cryptography that the features chose.
#[cfg(feature = "aws-lc-rs")]
fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(feature = "aws-lc-rs")]
fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
}

/// The cryptography that the features chose.
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    rustls::crypto::ring::Ticketer::new()
}
