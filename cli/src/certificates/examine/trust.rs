//! Whether a chain is trusted: by the public roots, or by what was uploaded to Telegram.

use std::time::{Duration, SystemTime};

use rustls::{
    CertificateError, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
};

use super::{Level, Line, Question, described::called};
use ringhook::{
    FindingKind,
    internals::tls::{check, facts::Facts, provider},
};

/// Why no authority that Telegram trusts has signed a certificate.
pub(super) enum Unsigned {
    /// It has signed itself.
    Itself,
    /// This issuer's certificate is not in the chain.
    Missing(String),
    /// The chain ends in this root.
    UnknownRoot(String),
    /// As rustls has it.
    Other(String),
}

/// Whether it is trusted where only what was uploaded is.
#[derive(Default)]
pub(super) struct Uploaded {
    pub(super) is_trusted: bool,
    /// The root to which it leads, where it is not its own.
    pub(super) root: Option<Facts>,
    /// What is to be said of that.
    pub(super) lines: Vec<Line>,
}

impl Uploaded {
    /// True where it leads to a root that OpenSSL takes for none.
    pub(super) fn has_bad_root(&self) -> bool {
        self.root.is_some() && !self.is_trusted
    }
}

impl Question<'_> {
    /// Whether the chain leads to one of the known roots, dates and names aside.
    pub(super) fn signed(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        path: &[Facts],
    ) -> Result<(), Unsigned> {
        // A root in the chain leads to no other root. An error in it would hide that it is unknown.
        let is_step = |der: &&CertificateDer<'_>| {
            Facts::from_der(der).is_none_or(|facts| !facts.is_self_signed())
        };
        let steps: Vec<_> = others.iter().filter(is_step).cloned().collect();
        let error = match self.verify(leaf, &steps, self.roots) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let Some(top) = path.last() else { return Err(Unsigned::Other(error.to_string())) };
        Err(match (path.len(), top.is_self_signed()) {
            (1, true) => Unsigned::Itself,
            (_, true) if error == unknown => Unsigned::UnknownRoot(top.subject().to_owned()),
            (_, false) if error == unknown => Unsigned::Missing(top.issuer().to_owned()),
            _ => Unsigned::Other(error.to_string()),
        })
    }

    /// Whether it is trusted where only what was uploaded is: the leaf itself or its root. OpenSSL
    /// takes nothing for a beginning of trust that has not signed itself.
    pub(super) fn uploaded(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'static>],
        path: &[Facts],
    ) -> Uploaded {
        let uploaded = self.uploaded.unwrap_or(self.chain);
        let root =
            |der: &CertificateDer<'_>| Facts::from_der(der).filter(|facts| facts.is_self_signed());
        if root(leaf).is_some() {
            return Uploaded { is_trusted: uploaded.contains(leaf), ..Uploaded::default() };
        }
        let all: Vec<_> = others.iter().chain(uploaded).cloned().collect();
        let mut found = Uploaded::default();
        for (der, root) in uploaded.iter().filter_map(|der| Some((der, root(der)?))) {
            let mut roots = RootCertStore::empty();
            // One that cannot be a root is none.
            let _ = roots.add(der.clone());
            if roots.is_empty() || self.verify(leaf, &all, &roots).is_err() {
                continue;
            }
            let lines = self.root_lines(&root, path);
            let is_trusted = lines.iter().all(|line| line.level < Level::Fail);
            found = Uploaded { is_trusted, root: Some(root), lines };
            if is_trusted {
                break;
            }
        }
        found
    }

    /// What OpenSSL checks of a root and [`Self::verify`] does not: there a root is a name and a
    /// key.
    fn root_lines(&self, root: &Facts, path: &[Facts]) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Some(kind) = check::validity(root, self.now) {
            let is_soon = matches!(kind, FindingKind::ExpiresSoon { .. });
            let level = if is_soon { Level::Warn } else { Level::Fail };
            lines.push(Line::new(level, "dates", &kind));
        }
        let purpose = &root.purpose;
        let itself = usize::from(path.last().is_some_and(Facts::is_self_signed));
        let between = path.len().saturating_sub(1 + itself);
        let (fault, fix) = if !purpose.is_for_roots {
            (
                "may not sign certificates of TLS servers, by its basicConstraints, keyUsage or \
                 extendedKeyUsage",
                "have it made with CA:TRUE and keyCertSign, as `openssl req -x509` makes it",
            )
        } else if purpose.issuers_max.is_some_and(|most| between > most) {
            (
                "allows fewer certificates between it and the leaf (pathlen)",
                "have it made without that limit, or the leaf signed by an issuer nearer to it",
            )
        } else if purpose.unknown_critical.is_some() {
            (
                "has a critical extension that OpenSSL does not know and refuses",
                "have it made without that",
            )
        } else if root.key.is_too_short() {
            (
                "has an RSA key of fewer than 2048 bits, which OpenSSL refuses",
                "have it made with a longer key",
            )
        } else {
            return lines;
        };
        lines.push(Line::fail("root", format!("the root \"{}\" {fault}", called(root)), fix));
        lines
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        roots: &RootCertStore,
    ) -> Result<(), rustls::Error> {
        let since = self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let algorithms = provider().signature_verification_algorithms;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            roots,
            others,
            UnixTime::since_unix_epoch(since),
            algorithms.all,
        )
    }
}
