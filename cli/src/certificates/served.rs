//! The certificate of a file as it is served and, where Telegram cannot know its issuer, uploaded.

use std::{path::Path, time::SystemTime};

use rustls::pki_types::CertificateDer;

use super::examine::{Examination, Question, public_roots};
use ringhook::{
    Error, FindingKind,
    internals::tls::{
        chain::{self, Order},
        check::{self, Host},
        facts::{self, Facts},
        pem::Source,
    },
};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The chain of a file. It has no key in it, even where the file has one.
pub(crate) struct Served {
    /// Each in PEM, in the order of the file.
    blocks: Vec<String>,
    /// In the same order; `None` where one of them is malformed.
    facts: Option<Vec<Facts>>,
}

impl Served {
    /// Reads the chain in `path`.
    ///
    /// # Errors
    /// Where it cannot be read or has no certificate.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let source = Source::file(path)?;
        let chain = source.certificates()?;
        Ok(Self { blocks: blocks(source.text()), facts: facts_of(&chain) })
    }

    /// True where its leaf has signed itself, so that Telegram has to be given it.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.leaf().is_some_and(Facts::is_self_signed)
    }

    /// True where its leaf is for `host`, a name or an address without brackets.
    pub(crate) fn covers(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.leaf().is_some_and(|leaf| leaf.names().any(|name| facts::covers(&name, &host)))
    }

    /// What is uploaded: the leaf where it has signed itself, else all.
    pub(crate) fn to_pem(&self) -> Vec<u8> {
        let count = if self.is_self_signed() { 1 } else { self.blocks.len() };
        self.blocks.iter().take(count).flat_map(|block| block.bytes().chain([b'\n'])).collect()
    }

    fn leaf(&self) -> Option<&Facts> {
        self.facts.as_ref()?.first()
    }
}

/// True where a certificate for `pattern` is one for `host`, both in lower case.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    facts::covers(pattern, host)
}

/// What there is to know at `now` of the chain in `pem` where it is uploaded, and served for
/// `host`.
pub(crate) fn findings(pem: &[u8], host: &str, now: SystemTime) -> Vec<FindingKind> {
    let Ok(der) = Source::memory("certificate", pem).certificates() else {
        return vec![FindingKind::Unreadable { place: 1 }];
    };
    let Some(facts) = facts_of(&der) else { return vec![FindingKind::Unreadable { place: 1 }] };
    let (_, facts, order): (Vec<()>, _, Order) =
        chain::put_in_order(vec![(); facts.len()], facts, None);
    let mut found = check::chain(&facts, &order, now);
    // Where it is uploaded, no other authority vouches for its root.
    let roots = facts.iter().skip(1).filter(|facts| facts.is_self_signed());
    found.extend(roots.filter_map(|root| check::validity(root, now)));
    found.extend(facts.first().and_then(|leaf| check::name(leaf, &Host::new(host))));
    found
}

/// What Telegram would say at `now` of the chain in `pem` where it is served for `host`; `None`
/// where it cannot be read. Where it `is_uploaded`, it is all that Telegram trusts.
pub(crate) fn examine(
    pem: &[u8],
    host: &str,
    is_uploaded: bool,
    now: SystemTime,
) -> Option<Examination> {
    let chain = Source::memory("certificate", pem).certificates().ok()?;
    let (host, roots, uploaded) = (Some(host), public_roots(), is_uploaded.then_some(&*chain));
    let question = Question { chain: &chain, host, is_sent: false, now, roots: &roots, uploaded };
    Some(question.answer())
}

fn facts_of(chain: &[CertificateDer<'_>]) -> Option<Vec<Facts>> {
    chain.iter().map(|der| Facts::from_der(der)).collect()
}

/// The certificates of a PEM file as they stand in it.
fn blocks(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let blocks = text.split(BEGIN).skip(1).filter_map(|rest| {
        let (inside, _) = rest.split_once(END)?;
        Some(format!("{BEGIN}{inside}{END}"))
    });
    blocks.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn the_key_is_never_uploaded() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["bot.example.com".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        let path = dir.path().join("both.pem");
        fs::write(&path, format!("{}{cert}{cert}", key.serialize_pem())).unwrap();
        let served = Served::read(&path).unwrap();
        assert!(served.is_self_signed() && served.covers("bot.example.com"));
        let pem = String::from_utf8(served.to_pem()).unwrap();
        assert_eq!(pem.replace("\r\n", "\n"), cert.replace("\r\n", "\n"));
        assert!(findings(pem.as_bytes(), "bot.example.com", SystemTime::now()).is_empty());
    }
}
