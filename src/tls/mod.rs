//! TLS as the shards serve it: certificates and keys in, one shared [`rustls::ServerConfig`] out.
//!
//! | file | what is in it |
//! |---|---|
//! | `source`, `password` | where a certificate and its key come from |
//! | `pem`, `tidy` | PEM files, and what is wrong with them |
//! | `facts`, `form`, `chain`, `check` | the facts in a certificate, and findings for its owner |
//! | `store` | which certificate a client gets |
//! | `reload` | replacing certificates while the server runs |
//! | `secrets` | the secrets of a handshake, from which later keys are derived |
//! | `records`, `recv_buffer` | the records of TLS 1.3, and the bytes that were in them |
//! | `fault` | why a handshake failed, in fixed words |
//! | `loopback` | a connection without a socket, for benches |

pub mod chain;
pub mod check;
pub mod facts;
pub(crate) mod fault;
pub mod form;
pub(crate) mod loopback;
mod password;
pub mod pem;
pub(crate) mod records;
pub(crate) mod recv_buffer;
mod reload;
pub(crate) mod secrets;
mod source;
mod store;
pub mod tidy;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    CipherSuite, ServerConfig,
    crypto::CryptoProvider,
    server::{ProducesTickets, ServerSessionMemoryCache},
};

pub(crate) use self::reload::FileWatch;
use self::{
    check::Host,
    facts::Facts,
    reload::Counts,
    store::{CertSet, CertStore, Entry},
};
pub use self::{
    check::{Finding, FindingKind},
    password::KeyPassword,
    reload::CertificateReload,
    source::CertificateSource,
    tidy::java_keystore,
};
use crate::error::{Error, ErrorKind};

/// TLS 1.2 sessions kept for clients that resume by session id; the oldest goes first.
/// Tickets, which TLS 1.3 and most 1.2 clients use, cost the server no memory.
const SESSION_CACHE: usize = 4096;

/// Certificates, keys and session resumption, shared by all shards. A clone is the same one: what
/// is [reloaded](Self::reload) or [replaced](Self::replace) by one is so for all.
#[derive(Clone, Debug)]
pub struct TlsConfig(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counts: Counts,
    plan: Mutex<Plan>,
    server: Arc<ServerConfig>,
    store: Arc<CertStore>,
}

/// What is served, and where it came from.
#[derive(Clone, Debug)]
struct Plan {
    hosts: Vec<Host>,
    /// The default one first.
    pairs: Vec<Pair>,
}

#[derive(Clone, Debug)]
struct Pair {
    entry: Entry,
    source: CertificateSource,
}

/// A certificate that is served.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ServedCertificate {
    /// Where it was read from: the path of its file.
    pub source: String,
    /// The names that it is served for: those of its configuration, or else its own.
    pub names: Vec<String>,
    /// When the first certificate of its chain expires; `None` where the chain could not be read.
    pub not_after: Option<SystemTime>,
}

/// Certificates that are not loaded yet.
#[derive(Clone, Debug, Default)]
pub struct TlsBuilder {
    default: Option<CertificateSource>,
    sources: Vec<CertificateSource>,
}

impl TlsBuilder {
    /// Adds a certificate. The first one is the default, unless another one is
    /// [said to be](Self::default_certificate).
    #[must_use]
    pub fn certificate(mut self, source: CertificateSource) -> Self {
        self.sources.push(source);
        self
    }

    /// Adds the certificate for clients that ask for no name, as Telegram where the webhook URL has
    /// an address, or for a name that no certificate covers.
    #[must_use]
    pub fn default_certificate(mut self, source: CertificateSource) -> Self {
        self.sources.extend(self.default.replace(source));
        self
    }

    /// Reads all certificates and keys.
    ///
    /// # Errors
    /// The first that cannot be read or used, and why; two certificates for one name; none at all.
    pub fn build(self) -> Result<TlsConfig, Error> {
        let provider = provider();
        let pairs = self.default.into_iter().chain(self.sources);
        let pairs = pairs.map(|source| Pair::load(source, &provider));
        let plan = Plan { hosts: Vec::new(), pairs: pairs.collect::<Result<_, _>>()? };
        plan.check_names()?;
        let none = || Error::config("tls", "(none)", "at least one certificate and its key");
        let store = Arc::new(CertStore(ArcSwap::from_pointee(plan.set().ok_or_else(none)?)));
        let server = server_config(provider, Arc::clone(&store)).map_err(|source| {
            Error::with_source(ErrorKind::Certificate, "TLS cannot be set up", source)
        })?;
        let (counts, plan) = (Counts::default(), Mutex::new(plan));
        Ok(TlsConfig(Arc::new(Shared { counts, plan, server: Arc::new(server), store })))
    }
}

impl Pair {
    fn load(source: CertificateSource, provider: &CryptoProvider) -> Result<Self, Error> {
        let certificate = Arc::new(source.load(provider)?);
        Ok(Self { entry: Entry { certificate, names: source.names.clone() }, source })
    }

    fn served(&self) -> ServedCertificate {
        let Entry { certificate, names } = &self.entry;
        let own = certificate.facts.first().into_iter().flat_map(Facts::names);
        ServedCertificate {
            source: certificate.name.clone(),
            names: if names.is_empty() { own.collect() } else { names.clone() },
            not_after: certificate.expires_at(),
        }
    }
}

impl Plan {
    fn set(&self) -> Option<CertSet> {
        let entries: Vec<_> = self.pairs.iter().map(|pair| pair.entry.clone()).collect();
        CertSet::new(&entries)
    }

    fn check_names(&self) -> Result<(), Error> {
        let names = self.pairs.iter().flat_map(|pair| {
            pair.entry.names.iter().map(|name| (name, &pair.entry.certificate.name))
        });
        let names: Vec<_> = names.collect();
        for (place, (name, certificate)) in names.iter().enumerate() {
            let earlier = names.iter().take(place).find(|(earlier, _)| earlier == name);
            if let Some((_, other)) = earlier {
                let message = format!("{certificate}: {name} has a certificate already, {other}");
                return Err(Error::new(ErrorKind::Certificate, message));
            }
        }
        Ok(())
    }

    fn findings(&self, set: &CertSet, now: SystemTime) -> Vec<Finding> {
        let mut found: Vec<Finding> = Vec::new();
        for pair in &self.pairs {
            let certificate = &pair.entry.certificate;
            let kinds = check::chain(&certificate.facts, &certificate.order, now);
            let finding = |kind| Finding { certificate: certificate.name.clone(), kind };
            found.extend(kinds.into_iter().map(finding));
        }
        for host in &self.hosts {
            let certificate = set.find(host.sni());
            let kind = certificate.facts.first().and_then(|leaf| check::name(leaf, host));
            found.extend(kind.map(|kind| Finding { certificate: certificate.name.clone(), kind }));
        }
        let mut seen: Vec<Finding> = Vec::new();
        // Two bots of one host, or one certificate for two names.
        found.retain(|finding| {
            let is_new = !seen.contains(finding);
            seen.extend(is_new.then(|| finding.clone()));
            is_new
        });
        found
    }
}

impl TlsConfig {
    /// Reads a PEM chain (leaf first) and its key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// Which of the files cannot be read or used, and why.
    pub fn from_pem_files(cert: &Path, key: &Path) -> Result<Self, Error> {
        Self::builder().certificate(CertificateSource::files(cert, key)).build()
    }

    /// As [`from_pem_files`](Self::from_pem_files), from PEM text in memory.
    ///
    /// # Errors
    /// Which of the two cannot be used, and why.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, Error> {
        Self::builder().certificate(CertificateSource::pem(cert, key)).build()
    }

    /// For several certificates, chosen by the name that a client asks for, or for encrypted keys.
    #[must_use]
    pub fn builder() -> TlsBuilder {
        TlsBuilder::default()
    }

    /// The hosts of webhook URLs, such as `bot.example.com`, `*.example.com` or an address, against
    /// which the names of certificates are checked; they replace those before. A server sets those
    /// of its bots by itself.
    pub fn expect_hosts<'a>(&self, hosts: impl IntoIterator<Item = &'a str>) {
        let hosts = hosts.into_iter().map(Host::new).collect();
        self.plan(|plan| plan.hosts = hosts);
    }

    /// What the owner of these certificates should know at `now`: chains out of order or not
    /// complete, certificates expired or about to, names that do not fit. They are served all the
    /// same.
    #[must_use]
    pub fn findings(&self, now: SystemTime) -> Vec<Finding> {
        let set = self.0.store.0.load();
        self.plan(|plan| plan.findings(&set, now))
    }

    /// When the first of all certificates expires, those of issuers in the chains included; `None`
    /// where none of them could be read as X.509.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.store.0.load().expires_at
    }

    /// The certificates that are served now, the default one first.
    #[must_use]
    pub fn certificates(&self) -> Vec<ServedCertificate> {
        self.plan(|plan| plan.pairs.iter().map(Pair::served).collect())
    }

    /// All files that a [`reload`](Self::reload) reads.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let paths = |plan: &mut Plan| {
            let sources = plan.pairs.iter().map(|pair| &pair.source);
            sources.flat_map(CertificateSource::paths).map(Path::to_owned).collect()
        };
        self.plan(paths)
    }

    pub(crate) fn rustls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.server)
    }

    fn plan<T>(&self, call: impl FnOnce(&mut Plan) -> T) -> T {
        // Nothing that panics leaves it half changed.
        call(&mut self.0.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The certificates of a PEM file, in its order.
pub fn read_chain(path: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, Error> {
    read_chain_and_skipped(path).map(|(chain, _)| chain)
}

/// The same, and what of the file is passed over.
pub fn read_chain_and_skipped(
    path: &Path,
) -> Result<(Vec<rustls::pki_types::CertificateDer<'static>>, Vec<String>), Error> {
    let source = pem::Source::file(path)?;
    Ok((source.certificates()?, source.skipped().to_vec()))
}

fn server_config(
    mut provider: CryptoProvider,
    store: Arc<CertStore>,
) -> Result<ServerConfig, rustls::Error> {
    // Telegram's sender puts AES-256 with SHA-384 first, as OpenSSL does, but takes what RFC 8446,
    // section 9.1, makes mandatory as well: fewer rounds for each record, and a hash that CPUs have
    // instructions for, which is a tenth of a handshake. The order of clients holds where AES is
    // the slow one.
    let is_ours = has_aes();
    if is_ours {
        provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
            _ => 1,
        });
    }
    // TLS 1.2 and 1.3, and in 1.2 the AEAD suites with a fresh key for each connection: rustls has
    // no others, no compression and no renegotiation.
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(store);
    config.ignore_client_order = is_ours;
    // Its keys are replaced every six hours.
    config.ticketer = ticketer()?;
    config.session_storage = ServerSessionMemoryCache::new(SESSION_CACHE);
    // The sender resumes nothing and each ticket costs about a tenth of a handshake; clients that
    // do resume need one.
    config.send_tls13_tickets = 1;
    // Early data can be replayed, and a POST must not be.
    config.max_early_data_size = 0;
    // `session` takes the keys over, and `secrets` what the next ones are made of.
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(secrets::Catch);
    Ok(config)
}

/// True where the CPU has instructions for AES.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// The cryptography that the features chose.
#[cfg(feature = "aws-lc-rs")]
pub fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(feature = "aws-lc-rs")]
fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
}

/// The cryptography that the features chose.
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    rustls::crypto::ring::Ticketer::new()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn tls() -> TlsConfig {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let cert = cert.self_signed(&key).unwrap().pem();
        TlsConfig::from_pem(cert.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn sessions_are_bounded_and_tickets_do_not_live_for_ever() {
        let config = tls().rustls();
        let id = |number: usize| number.to_be_bytes().to_vec();
        for number in 0..=SESSION_CACHE {
            assert!(config.session_storage.put(id(number), vec![1]));
        }
        let kept = |number| config.session_storage.get(&id(number)).is_some();
        assert!(!kept(0) && kept(SESSION_CACHE), "the oldest has made room");
        assert!((1..=SESSION_CACHE).filter(|number| kept(*number)).count() <= SESSION_CACHE);
        assert!(config.ticketer.enabled());
        // Twice the six hours after which a new key is made: the one before still opens its
        // tickets.
        assert_eq!(config.ticketer.lifetime(), 12 * 3600);
        let ticket = config.ticketer.encrypt(b"session").unwrap();
        assert_eq!(tls().rustls().ticketer.decrypt(&ticket), None, "each server has its own keys");
    }

    #[test]
    fn nothing_is_offered_that_could_be_weak() {
        let config = tls().rustls();
        assert_eq!((config.max_early_data_size, config.send_half_rtt_data), (0, false));
        assert!(config.alpn_protocols.is_empty() && config.cert_decompressors.is_empty());
        let suites = &config.crypto_provider().cipher_suites;
        for suite in suites {
            let name = format!("{:?}", suite.suite());
            let has_forward_secrecy = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
            let is_aead = name.contains("_GCM_") || name.contains("CHACHA20_POLY1305");
            assert!(has_forward_secrecy && is_aead, "{name}");
        }
        assert_eq!(suites.len(), 9);
    }
}
