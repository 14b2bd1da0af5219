//! What a certificate says of itself.

use serde::Serialize;

use ringhook::internals::tls::{check, facts::Facts};

/// A certificate by its own statements.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Described {
    pub(super) subject: String,
    issuer: String,
    names: Vec<String>,
    addresses: Vec<String>,
    not_before: String,
    not_after: String,
    key: String,
}

impl Described {
    /// Subject and issuer, for people.
    pub(crate) fn spoken(&self) -> String {
        format!("\"{}\", issued by \"{}\"", self.subject, self.issuer)
    }

    pub(super) fn new(facts: &Facts) -> Self {
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

/// The subject, or the first name of one without.
pub(super) fn called(facts: &Facts) -> String {
    match facts.subject() {
        "" => facts.names().next().unwrap_or_default().escape_debug().to_string(),
        subject => subject.to_owned(),
    }
}
