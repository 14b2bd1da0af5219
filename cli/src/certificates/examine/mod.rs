//! Whether Telegram would accept a certificate, with all that led to the answer. No file, no
//! socket, no clock, and no panic, whatever the bytes are.
//!
//! | file | what is in it |
//! |---|---|
//! | `line` | one finding |
//! | `described` | a certificate by its own statements |
//! | `trust` | trusted by public roots, or by what was uploaded |
//! | `chain` | order, missing certificates, dates |
//! | `leaf` | names, key, purpose |
//! | `verdict` | accepted or refused, each way |

mod chain;
mod described;
mod leaf;
mod line;
#[cfg(test)]
mod tests;
mod trust;
mod verdict;

use std::time::SystemTime;

use rustls::{RootCertStore, pki_types::CertificateDer};
use serde::Serialize;

pub(crate) use self::{
    described::Described,
    line::{Level, Line},
};
use self::{
    leaf::{key_line, likely_leaf, purpose_line},
    verdict::verdicts,
};
use ringhook::{
    FindingKind,
    internals::tls::{chain::put_in_order, check, facts::Facts},
};

/// What is to be judged.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// As in the file or as the server sent it.
    pub(crate) chain: &'a [CertificateDer<'static>],
    /// The host of the webhook URL, where it is known.
    pub(crate) host: Option<&'a str>,
    /// True where a server has sent it, so that its first certificate is the leaf.
    pub(crate) is_sent: bool,
    pub(crate) now: SystemTime,
    /// Of the public authorities.
    pub(crate) roots: &'a RootCertStore,
    /// What is uploaded to Telegram, where that is not the chain itself.
    pub(crate) uploaded: Option<&'a [CertificateDer<'static>]>,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Examination {
    /// Whether Telegram takes it one of the ways or, where it was said what is uploaded, with that.
    pub(crate) accepted: bool,
    /// Whether Telegram takes it where it was uploaded with setWebhook.
    pub(crate) accepted_as_uploaded: bool,
    /// Whether Telegram takes it where nothing was uploaded.
    pub(crate) accepted_as_signed: bool,
    pub(crate) findings: Vec<Line>,
    /// Leaf first.
    pub(crate) certificates: Vec<Described>,
}

impl Question<'_> {
    pub(crate) fn answer(&self) -> Examination {
        if self.chain.is_empty() {
            // The caller knows why.
            return Examination::refused(Vec::new());
        }
        let facts: Vec<_> = self.chain.iter().map(|der| Facts::from_der(der)).collect();
        let mut findings = Vec::new();
        if let Some(place) = facts.iter().position(Option::is_none) {
            let kind = FindingKind::Unreadable { place: place + 1 };
            findings.push(Line::new(Level::Fail, "chain", &kind));
            return Examination::refused(findings);
        }
        let facts: Vec<Facts> = facts.into_iter().flatten().collect();
        let leaf = if self.is_sent { facts.first() } else { likely_leaf(&facts) };
        let public_key = leaf.map(|leaf| leaf.public_key.clone());
        let (ders, facts, order) = put_in_order(self.chain.to_vec(), facts, public_key.as_deref());
        let (Some(leaf), Some((leaf_der, others))) = (facts.first(), ders.split_first()) else {
            findings.push(Line::fail("chain", "there is no certificate", "give one in PEM"));
            return Examination::refused(findings);
        };
        let path = facts.get(..order.path).unwrap_or(&facts);
        let signed = self.signed(leaf_der, others, path);
        let mut uploaded = self.uploaded(leaf_der, others, path);
        if signed.is_ok() && self.uploaded.is_none() {
            // It is not to be uploaded at all.
            (uploaded.root, uploaded.lines) = (None, Vec::new());
        }
        let kinds = check::chain(&facts, &order, self.now);
        findings.extend(self.chain_lines(&kinds, path, &signed, &uploaded));
        findings.push(key_line(&leaf.key));
        findings.extend(purpose_line(leaf));
        findings.push(self.name_line(leaf));
        findings.extend(self.date_lines(&kinds, path, &uploaded));
        // What is wrong so far is wrong both ways, but for the chain's end.
        let is_good = |line: &Line| line.level < Level::Fail || line.check == "chain";
        let is_good = findings.iter().all(is_good);
        let certificates = facts.iter().map(Described::new).collect();
        findings.append(&mut uploaded.lines);
        let (accepted_as_uploaded, accepted_as_signed) =
            (is_good && uploaded.is_trusted, is_good && signed.is_ok());
        findings.extend(verdicts(is_good, &uploaded, &signed, self.uploaded.is_some()));
        // What was uploaded is all that Telegram trusts from then on.
        let accepted = accepted_as_uploaded || self.uploaded.is_none() && accepted_as_signed;
        Examination { accepted, accepted_as_uploaded, accepted_as_signed, findings, certificates }
    }
}

impl Examination {
    fn refused(findings: Vec<Line>) -> Self {
        Self {
            accepted: false,
            accepted_as_uploaded: false,
            accepted_as_signed: false,
            findings,
            certificates: Vec::new(),
        }
    }
}

/// The roots of Mozilla's list, as most systems have them.
pub(crate) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}
