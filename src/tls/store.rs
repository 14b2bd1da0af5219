//! The certificates that are served, and which of them a client gets.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use rustls::{
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    chain::{self, Order},
    facts::{self, Facts},
};

/// A chain with its key, ready to be served.
#[derive(Debug)]
pub(super) struct Certificate {
    /// Under which errors and findings speak of it.
    pub(super) name: String,
    pub(super) key: Arc<CertifiedKey>,
    /// Of each certificate of the chain, leaf first; empty where one could not be read.
    pub(super) facts: Vec<Facts>,
    pub(super) order: Order,
}

impl Certificate {
    /// Puts `key`'s chain in order.
    pub(super) fn new(name: String, mut key: CertifiedKey) -> Self {
        let facts = key.cert.iter().map(|der| Facts::from_der(der)).collect::<Vec<_>>();
        let unreadable = facts.iter().position(Option::is_none);
        if let Some(place) = unreadable {
            let order = Order { unreadable: Some(place + 1), ..Order::default() };
            return Self { name, key: Arc::new(key), facts: Vec::new(), order };
        }
        let public_key = key.key.public_key();
        let public_key = public_key.as_deref();
        let facts = facts.into_iter().flatten().collect();
        let (chain, facts, order) = chain::put_in_order(key.cert, facts, public_key);
        key.cert = chain;
        Self { name, key: Arc::new(key), facts, order }
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// When the first certificate of its chain expires; `None` where the chain could not be read.
    pub(super) fn expires_at(&self) -> Option<SystemTime> {
        self.facts.iter().take(self.order.path).map(|facts| facts.not_after).min()
    }
}

/// A certificate and the names under which it was configured.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) certificate: Arc<Certificate>,
    /// In lower case; `*.` stands for one label. The default one may have none.
    pub(super) names: Vec<String>,
}

/// All certificates at one moment, found by name.
#[derive(Debug)]
pub(super) struct CertSet {
    default: Arc<Certificate>,
    /// By the names of the configuration.
    configured: Names,
    /// By the names in the certificates themselves.
    own: Names,
    /// When the first of them expires.
    pub(super) expires_at: Option<SystemTime>,
}

#[derive(Debug, Default)]
struct Names {
    exact: HashMap<String, Arc<Certificate>>,
    /// By what stands behind `*.`.
    wildcard: HashMap<String, Arc<Certificate>>,
}

impl Names {
    /// The first certificate of a name keeps it.
    fn add(&mut self, name: &str, certificate: &Arc<Certificate>) {
        let (map, name) = match name.strip_prefix("*.") {
            Some(under) => (&mut self.wildcard, under),
            None => (&mut self.exact, name),
        };
        map.entry(name.to_owned()).or_insert_with(|| Arc::clone(certificate));
    }

    fn find(&self, name: &str) -> Option<&Arc<Certificate>> {
        let by_wildcard = || self.wildcard.get(facts::after_first_label(name)?);
        self.exact.get(name).or_else(by_wildcard)
    }
}

impl CertSet {
    /// The first of `entries` is the default one; `None` where there is none at all.
    pub(super) fn new(entries: &[Entry]) -> Option<Self> {
        let default = Arc::clone(&entries.first()?.certificate);
        let (mut configured, mut own) = (Names::default(), Names::default());
        for Entry { certificate, names } in entries {
            names.iter().for_each(|name| configured.add(name, certificate));
            let leaf = certificate.facts.first();
            leaf.into_iter().flat_map(Facts::names).for_each(|name| own.add(&name, certificate));
        }
        let expires_at = entries.iter().filter_map(|entry| entry.certificate.expires_at()).min();
        Some(Self { default, configured, own, expires_at })
    }

    /// What a client gets that asks for `sni`, in lower case.
    pub(super) fn find(&self, sni: Option<&str>) -> &Arc<Certificate> {
        let by_name = |name| self.configured.find(name).or_else(|| self.own.find(name));
        sni.and_then(by_name).unwrap_or(&self.default)
    }
}

/// What rustls asks for each handshake. The set is replaced as a whole, so handshakes under way go
/// on with what they have got.
#[derive(Debug)]
pub(super) struct CertStore(pub(super) ArcSwap<CertSet>);

impl ResolvesServerCert for CertStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let sni = hello.server_name().map(str::to_ascii_lowercase);
        let set = self.0.load();
        Some(Arc::clone(&set.find(sni.as_deref()).key))
    }
}
