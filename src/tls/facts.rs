//! The facts in a certificate that the checks and the choice by name need.

use std::{net::IpAddr, time::SystemTime};

use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::{Decode as _, Encode as _},
    ext::pkix::{AuthorityKeyIdentifier, SubjectAltName, SubjectKeyIdentifier, name::GeneralName},
    name::Name,
};

use super::form::{KeyForm, Purpose};

/// One certificate of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// The first common name of its subject.
    pub(super) common_name: Option<String>,
    /// Names of type DNS in its subjectAltName, in lower case.
    pub(super) dns_names: Vec<String>,
    /// Names of type IP in its subjectAltName.
    pub addresses: Vec<IpAddr>,
    /// Kind and size of its key.
    pub key: KeyForm,
    /// When it ends.
    pub not_after: SystemTime,
    /// When it begins.
    pub not_before: SystemTime,
    /// The key's DER, with its algorithm.
    pub public_key: Vec<u8>,
    /// What it may be used for.
    pub purpose: Purpose,
    issuer: Vec<u8>,
    issuer_name: String,
    issuer_key_id: Option<Vec<u8>>,
    subject: Vec<u8>,
    subject_name: String,
    key_id: Option<Vec<u8>>,
}

impl Facts {
    /// Those of the certificate in `der`; `None` where it is malformed.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let certificate = CertificateInner::<Raw>::from_der(der).ok()?;
        let signed = certificate.tbs_certificate();
        let names = match signed.get_extension::<SubjectAltName>() {
            Ok(names) => names.map_or_else(Vec::new, |(_, names)| names.0),
            Err(_) => return None,
        };
        let issuer_key_id = signed.get_extension::<AuthorityKeyIdentifier>().ok()?;
        let key_id = signed.get_extension::<SubjectKeyIdentifier>().ok()?;
        let validity = signed.validity();
        Some(Self {
            common_name: common_name(signed.subject()),
            dns_names: names.iter().filter_map(dns_name).collect(),
            addresses: names.iter().filter_map(address).collect(),
            key: KeyForm::from_public_key(signed.subject_public_key_info()),
            not_after: SystemTime::UNIX_EPOCH + validity.not_after.to_unix_duration(),
            not_before: SystemTime::UNIX_EPOCH + validity.not_before.to_unix_duration(),
            public_key: signed.subject_public_key_info().to_der().ok()?,
            purpose: Purpose::from_certificate(signed).unwrap_or_default(),
            issuer: signed.issuer().to_der().ok()?,
            issuer_name: spoken(signed.issuer()),
            issuer_key_id: issuer_key_id
                .and_then(|(_, id)| id.key_identifier)
                .map(|id| id.as_bytes().to_vec()),
            subject: signed.subject().to_der().ok()?,
            subject_name: spoken(signed.subject()),
            key_id: key_id.map(|(_, id)| id.0.as_bytes().to_vec()),
        })
    }

    /// The subject, to be shown.
    pub fn subject(&self) -> &str {
        &self.subject_name
    }

    /// The issuer, to be shown.
    pub fn issuer(&self) -> &str {
        &self.issuer_name
    }

    /// Whether it names itself as its issuer.
    pub fn is_self_signed(&self) -> bool {
        self.is_issued_by(self)
    }

    /// True where by its name and the number of its key `issuer` is the one that has signed this.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        let has_same_key = match (&self.issuer_key_id, &issuer.key_id) {
            (Some(wanted), Some(is)) => wanted == is,
            _ => true,
        };
        self.issuer == issuer.subject && has_same_key
    }

    /// The names by which clients know it: those of type DNS or, where there is none, the common
    /// name. So OpenSSL has it, which Telegram's sender is made with.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        let common_name = self.common_name.iter().filter(|_| self.dns_names.is_empty());
        self.dns_names.iter().chain(common_name).map(|name| name.to_ascii_lowercase())
    }
}

/// What follows the first label of `name`: what a wildcard stands before.
pub(super) fn after_first_label(name: &str) -> Option<&str> {
    let (label, rest) = name.split_once('.')?;
    (!label.is_empty() && !rest.is_empty()).then_some(rest)
}

/// True where a certificate for `pattern` is one for `host`, both in lower case. A wildcard stands
/// for one label, and for none of a top-level domain.
pub fn covers(pattern: &str, host: &str) -> bool {
    let by_wildcard = || {
        let under = pattern.strip_prefix("*.").filter(|under| under.contains('.'))?;
        Some(after_first_label(host)? == under && host.parse::<IpAddr>().is_err())
    };
    pattern == host || by_wildcard().unwrap_or(false)
}

fn dns_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    }
}

fn address(name: &GeneralName) -> Option<IpAddr> {
    let GeneralName::IpAddress(octets) = name else { return None };
    let octets = octets.as_bytes();
    let v4 = || <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn common_name(name: &Name) -> Option<String> {
    name.common_name().ok().flatten().map(|name| name.value().into_owned())
}

/// The common name, or else all of it. What is in a file may hold anything, so it is escaped.
fn spoken(name: &Name) -> String {
    common_name(name).unwrap_or_else(|| name.to_string()).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(covers("bot.example.com", "bot.example.com"));
        assert!(covers("*.example.com", "bot.example.com"));
        assert!(covers("*.example.com", "*.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(!covers("*.example.com", "a.bot.example.com"));
        assert!(!covers("*.example.com", ".example.com"));
        assert!(!covers("*.com", "example.com"), "OpenSSL refuses that");
        assert!(!covers("*.0.0.1", "127.0.0.1"));
        assert!(!covers("bot.example.com", "*.example.com"));
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_facts() {
        for der in [&b""[..], b"\x30", b"\x30\x82\xff\xff", &[0x30, 0x80, 0, 0]] {
            assert!(Facts::from_der(der).is_none());
        }
    }
}
