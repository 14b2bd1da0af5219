//! What is said of a leaf: its names, its key and its purpose.

use super::{Level, Line, Question};
use ringhook::internals::tls::{
    check::{self, Host},
    facts::Facts,
    form::KeyForm,
};

impl Question<'_> {
    pub(super) fn name_line(&self, leaf: &Facts) -> Line {
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
}

pub(super) fn key_line(key: &KeyForm) -> Line {
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

pub(super) fn purpose_line(leaf: &Facts) -> Option<Line> {
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

/// The one that has issued none of the others, where there is only one of that kind; else the
/// first.
pub(super) fn likely_leaf(facts: &[Facts]) -> Option<&Facts> {
    let is_end = |one: &&Facts| facts.iter().all(|other| other == *one || !other.is_issued_by(one));
    let mut ends = facts.iter().filter(is_end);
    let end = ends.next();
    let first = facts.first();
    // What is not linked to the others at all is no better a leaf than the first.
    if first.is_some_and(|first| is_end(&first)) || ends.next().is_some() { first } else { end }
}
