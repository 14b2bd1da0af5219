//! Whether Telegram would accept a certificate, with all that led to the answer. No file, no socket,
//! no clock, and no panic, whatever the bytes are.

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use rustls::{
    CertificateError, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
};
use serde::Serialize;

use ringhook::{
    FindingKind,
    internals::tls::{
        chain,
        check::{self, Host},
        facts::Facts,
        form::KeyForm,
        provider,
    },
};

/// How much something matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) level: Level,
    /// In one word.
    pub(crate) check: &'static str,
    pub(crate) what: String,
    /// What to do, where there is something.
    pub(crate) fix: Option<String>,
}

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
    /// Of the authorities that are known to everybody.
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

/// What a certificate says of itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Described {
    subject: String,
    issuer: String,
    names: Vec<String>,
    addresses: Vec<String>,
    not_before: String,
    not_after: String,
    key: String,
}

impl Line {
    pub(crate) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, what: what.into(), fix: None }
    }

    pub(crate) fn warn(check: &'static str, what: impl Into<String>, fix: &str) -> Self {
        Self { level: Level::Warn, check, what: what.into(), fix: Some(fix.to_owned()) }
    }

    pub(crate) fn fail(check: &'static str, what: impl Into<String>, fix: &str) -> Self {
        Self { level: Level::Fail, check, what: what.into(), fix: Some(fix.to_owned()) }
    }

    fn new(level: Level, check: &'static str, kind: &FindingKind) -> Self {
        Self { level, check, what: kind.what(), fix: Some(kind.fix()) }
    }
}

impl Described {
    /// Subject and issuer, for people.
    pub(crate) fn spoken(&self) -> String {
        format!("\"{}\", issued by \"{}\"", self.subject, self.issuer)
    }

    fn new(facts: &Facts) -> Self {
        let names = facts.names().map(|name| name.escape_debug().to_string());
        Self {
            subject: facts.subject().to_owned(),
            issuer: facts.issuer().to_owned(),
            names: names.collect(),
            addresses: facts.addresses.iter().map(ToString::to_string).collect(),
            not_before: check::moment(facts.not_before).to_string(),
            not_after: check::moment(facts.not_after).to_string(),
            key: facts.key.to_string(),
        }
    }
}

/// Why nobody that Telegram trusts has signed a certificate.
enum Unsigned {
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
struct Uploaded {
    is_trusted: bool,
    /// The root to which it leads, where it is not its own.
    root: Option<Facts>,
    /// What is to be said of that.
    lines: Vec<Line>,
}

impl Uploaded {
    /// True where it leads to a root that OpenSSL takes for none.
    fn has_bad_root(&self) -> bool {
        self.root.is_some() && !self.is_trusted
    }
}

impl Question<'_> {
    pub(crate) fn answer(&self) -> Examination {
        if self.chain.is_empty() {
            // Whoever has asked knows why.
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
        let (ders, facts, order) =
            chain::put_in_order(self.chain.to_vec(), facts, public_key.as_deref());
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
        findings.extend(self.of_chain(&kinds, path, &signed, &uploaded));
        findings.push(of_key(&leaf.key));
        findings.extend(of_purpose(leaf));
        findings.push(self.of_names(leaf));
        findings.extend(self.of_dates(&kinds, path, &uploaded));
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

    /// Whether the chain leads to one of the known roots, dates and names aside.
    fn signed(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        path: &[Facts],
    ) -> Result<(), Unsigned> {
        // A root in the chain is no step on the way to another, and what is wrong with it would hide
        // that nobody knows it.
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
    fn uploaded(
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
            let lines = self.of_root(&root, path);
            let is_trusted = lines.iter().all(|line| line.level < Level::Fail);
            found = Uploaded { is_trusted, root: Some(root), lines };
            if is_trusted {
                break;
            }
        }
        found
    }

    /// What OpenSSL minds about a root, and [`Self::verify`] does not: for that it is a name and a key.
    fn of_root(&self, root: &Facts, path: &[Facts]) -> Vec<Line> {
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

    fn of_chain(
        &self,
        kinds: &[FindingKind],
        path: &[Facts],
        signed: &Result<(), Unsigned>,
        uploaded: &Uploaded,
    ) -> Vec<Line> {
        let mut lines = Vec::new();
        for kind in kinds {
            let line = match kind {
                // Where it is uploaded as it is, the root is what Telegram is to trust.
                FindingKind::RootIncluded { .. } if signed.is_err() && self.uploaded.is_none() => {
                    continue;
                }
                FindingKind::OutOfOrder { .. } if self.is_sent => Line {
                    what: "the server sends the chain out of order".to_owned(),
                    ..Line::new(Level::Warn, "chain", kind)
                },
                FindingKind::OutOfOrder { .. }
                | FindingKind::RootIncluded { .. }
                | FindingKind::Unrelated { .. } => Line::new(Level::Warn, "chain", kind),
                // Whether one is missing depends on who is trusted.
                _ => continue,
            };
            lines.push(line);
        }
        if let (Err(Unsigned::Missing(issuer)), false) = (signed, uploaded.root.is_some()) {
            let kind = FindingKind::MissingIntermediate { issuer: issuer.clone() };
            lines.push(Line::new(Level::Fail, "chain", &kind));
        }
        if lines.is_empty() {
            let subjects: Vec<_> =
                path.iter().map(|facts| format!("\"{}\"", called(facts))).collect();
            let what = match path {
                [only] if only.is_self_signed() => format!("{}, self-signed", subjects.join("")),
                _ => format!("{} certificate(s), leaf first: {}", path.len(), subjects.join(", ")),
            };
            lines.push(Line::ok("chain", what));
        }
        lines
    }

    fn of_names(&self, leaf: &Facts) -> Line {
        let names: Vec<_> = leaf.names().map(|name| name.escape_debug().to_string()).collect();
        let Some(host) = self.host else {
            if names.is_empty() {
                return Line::fail(
                    "names",
                    "it has no name that Telegram looks at",
                    "make it with a name of type DNS, also for an address: `ringhook cert new`",
                );
            }
            let what = format!("{} (compared with nothing: give --name HOST)", names.join(", "));
            return Line::ok("names", what);
        };

        match check::name(leaf, &Host::new(host)) {
            Some(kind) => Line::new(Level::Fail, "names", &kind),
            None if names == [host] => Line::ok("names", format!("for {host}")),
            None => Line::ok("names", format!("for {host} by {}", names.join(", "))),
        }
    }

    fn of_dates(&self, kinds: &[FindingKind], path: &[Facts], uploaded: &Uploaded) -> Vec<Line> {
        let line = |kind: &FindingKind| match kind {
            FindingKind::Expired { .. } | FindingKind::NotYetValid { .. } => {
                Some(Line::new(Level::Fail, "dates", kind))
            }
            FindingKind::ExpiresSoon { .. } => Some(Line::new(Level::Warn, "dates", kind)),
            _ => None,
        };
        let mut lines: Vec<_> = kinds.iter().filter_map(line).collect();
        let first = path.iter().chain(&uploaded.root).map(|facts| facts.not_after).min();
        let is_said = !lines.is_empty() || uploaded.lines.iter().any(|line| line.check == "dates");
        if let (false, Some(first)) = (is_said, first) {
            let days = first.duration_since(self.now).unwrap_or_default().as_secs() / check::DAY;
            let what = format!("valid until {} ({days} days)", check::moment(first));
            lines.push(Line::ok("dates", what));
        }
        lines
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

/// The one that has issued none of the others, where there is only one of that kind; else the first.
fn likely_leaf(facts: &[Facts]) -> Option<&Facts> {
    let is_end = |one: &&Facts| facts.iter().all(|other| other == *one || !other.is_issued_by(one));
    let mut ends = facts.iter().filter(is_end);
    let end = ends.next();
    let first = facts.first();
    // What is not linked to the others at all is no better a leaf than the first.
    if first.is_some_and(|first| is_end(&first)) || ends.next().is_some() { first } else { end }
}

/// The subject, or the first name of one without.
fn called(facts: &Facts) -> String {
    match facts.subject() {
        "" => facts.names().next().unwrap_or_default().escape_debug().to_string(),
        subject => subject.to_owned(),
    }
}

fn of_key(key: &KeyForm) -> Line {
    if key.is_too_short() {
        return Line::fail(
            "key",
            format!("{key}, and OpenSSL refuses RSA keys of fewer than 2048"),
            "make a new key: `ringhook cert new` or `ringhook cert csr`",
        );
    }
    match key {
        KeyForm::Ecdsa("P-521") | KeyForm::Ed25519 => Line::warn(
            "key",
            format!("{key}, which Telegram takes and some other clients do not"),
            "ECDSA P-256 is the safe choice",
        ),
        KeyForm::Other(_) => Line::fail(
            "key",
            format!("{key}, with which neither ringhook nor most clients can do anything"),
            "make an ECDSA P-256 key: `ringhook cert new` or `ringhook cert csr`",
        ),
        _ => Line::ok("key", key.to_string()),
    }
}

fn of_purpose(leaf: &Facts) -> Option<Line> {
    let purpose = &leaf.purpose;
    if let Some(oid) = &purpose.unknown_critical {
        return Some(Line::fail(
            "use",
            format!("it has the critical extension {oid}, which OpenSSL does not know and refuses"),
            "have it made without that",
        ));
    }
    (!purpose.is_for_servers).then(|| {
        Line::fail(
            "use",
            "it is not for TLS servers by its keyUsage or extendedKeyUsage",
            "have it made with digitalSignature and serverAuth, or with neither extension",
        )
    })
}

fn verdicts(
    is_good: bool,
    uploaded: &Uploaded,
    signed: &Result<(), Unsigned>,
    has_other: bool,
) -> [Line; 2] {
    let mend = "mend what has failed above";
    let as_uploaded = match (uploaded.is_trusted, signed) {
        (true, _) if !is_good => Line::fail("uploaded", "refused", mend),
        (true, _) => Line::ok("uploaded", "accepted where it is uploaded with setWebhook"),
        (false, _) if uploaded.has_bad_root() => {
            Line::fail("uploaded", "refused: Telegram does not take its root for one", mend)
        }
        (false, _) if has_other => Line::fail(
            "uploaded",
            "refused: it does not lead to what is uploaded, which is all that Telegram trusts then",
            "upload its own certificate if it is self-signed, else the root of its chain; one that \
             a public authority has signed wants a webhook that was set without a certificate",
        ),
        (false, Ok(())) if is_good => {
            Line::ok("uploaded", "is not to be uploaded: it is CA-signed")
        }
        (false, _) => Line::fail(
            "uploaded",
            "refused: it is not self-signed, and its root is not in the file",
            "upload the root of its chain (and check that with --uploaded ROOT.pem)",
        ),
    };
    let (what, fix) = match signed {
        Ok(()) | Err(Unsigned::Itself) if !is_good => ("refused".to_owned(), mend),
        Ok(()) => {
            let what = "accepted as it is: a public authority has signed it";
            return [as_uploaded, Line::ok("CA-signed", what)];
        }
        Err(Unsigned::Itself) => (
            "refused where it is not uploaded: it is self-signed".to_owned(),
            "upload it, as `ringhook webhook set` does",
        ),
        Err(Unsigned::Missing(issuer)) => (
            format!("refused: \"{issuer}\" is not in the chain and is no public root"),
            "add the certificates of the issuers behind the leaf, if the authority is a public one",
        ),
        Err(Unsigned::UnknownRoot(root)) => (
            format!("refused where it is not uploaded: \"{root}\" is no public root"),
            "get a certificate from a public authority such as Let's Encrypt, or upload the root",
        ),
        Err(Unsigned::Other(why)) => (format!("refused: {why}"), mend),
    };
    // One of the ways is enough.
    let level = if is_good && uploaded.is_trusted { Level::Warn } else { Level::Fail };
    let as_signed = Line { level, check: "CA-signed", what, fix: Some(fix.to_owned()) };
    [as_uploaded, as_signed]
}

/// The roots of Mozilla's list, as most systems have them.
pub(crate) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}
