//! New keys, self-signed certificates and requests for certificates, in the form that Telegram
//! accepts.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::SystemTime,
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, string::Ia5String,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::net::idn::to_ascii;
use ringhook::{Error, ErrorKind};

/// How long a self-made certificate is valid by itself. Telegram says nothing when one expires, it
/// stops delivering, so the time is long.
pub(crate) const VALID_DAYS: u32 = 3650;
/// A certificate is valid a day early, for peers whose clocks are behind.
const EARLY_DAYS: i64 = 1;
/// When this was written, in seconds since 1970: 2026-01-01. A clock that shows less is wrong, such
/// as that of a machine without a battery before it has heard of the time.
const EARLIEST: i64 = 1_767_225_600;
/// Most characters of a common name.
const COMMON_NAME_MAX: usize = 64;
/// Most characters of a name in DNS, and of one of its labels.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// What a key is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum KeyKind {
    /// It costs a server a quarter of an RSA-2048 handshake.
    #[default]
    EcdsaP256,
    Rsa2048,
}

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    common_name: String,
    names: Vec<SanType>,
}

/// A certificate or a request for one, and its key, in PEM.
pub(crate) struct Made {
    pub(crate) text: String,
    pub(crate) key: Zeroizing<String>,
}

impl Subject {
    /// This machine, known as `hosts`, names and addresses, and by itself: `localhost`, and
    /// 127.0.0.1 as clients other than Telegram look for it.
    pub(crate) fn this_machine(hosts: &[String]) -> Result<Self, Error> {
        let itself = "localhost".to_owned();
        let others = hosts.iter().filter(|host| **host != itself).cloned();
        let names: Vec<_> = others.chain([itself.clone()]).collect();
        let mut subject = Self::names(&names)?;
        subject.names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        Ok(subject)
    }

    /// Hosts that [`host_name`] has found good, at least one.
    pub(crate) fn names(names: &[String]) -> Result<Self, Error> {
        let first = names.first().filter(|name| name.len() <= COMMON_NAME_MAX);
        // The names that count are those beside it.
        let common_name = first.map_or("ringhook", String::as_str).to_owned();
        let names = names.iter().map(|name| dns_name(name)).collect::<Result<_, _>>()?;
        Ok(Self { common_name, names })
    }

    /// A host without a name. Telegram's sender compares its address with names of type DNS and
    /// with the common name only.
    pub(crate) fn address(address: Ipv4Addr) -> Result<Self, Error> {
        let text = address.to_string();
        Ok(Self { names: vec![dns_name(&text)?], common_name: text })
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        params.subject_alt_names.clone_from(&self.names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    }

    /// A fresh key, and a certificate signed by itself that is valid for `days` from now on.
    pub(crate) fn self_signed(&self, kind: KeyKind, days: u32) -> Result<Made, Error> {
        self.self_signed_at(kind, days, OffsetDateTime::now_utc())
    }

    /// As [`self_signed`](Self::self_signed), with the clock at `now`. Where that is wrong, it is
    /// dated so that it is valid for those whose clocks are right.
    fn self_signed_at(&self, kind: KeyKind, days: u32, now: OffsetDateTime) -> Result<Made, Error> {
        let key = kind.generate()?;
        let mut params = self.params();
        let now = now.max(OffsetDateTime::UNIX_EPOCH + Duration::seconds(EARLIEST));
        params.not_before = now - Duration::days(EARLY_DAYS);
        params.not_after = now + Duration::days(i64::from(days));
        let cert = params.self_signed(&key).map_err(not_made)?;
        Ok(Made { text: cert.pem(), key: key.serialize_pem().into() })
    }

    /// A fresh key, and what an authority wants to have to make a certificate of.
    pub(crate) fn request(&self, kind: KeyKind) -> Result<Made, Error> {
        let key = kind.generate()?;
        let request = self.params().serialize_request(&key).map_err(not_made)?;
        let text = request.pem().map_err(not_made)?;
        Ok(Made { text, key: key.serialize_pem().into() })
    }
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, Error> {
        match self {
            Self::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(not_made),
            Self::Rsa2048 => rsa(),
        }
    }
}

#[cfg(feature = "aws-lc-rs")]
fn rsa() -> Result<KeyPair, Error> {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).map_err(not_made)
}

#[cfg(not(feature = "aws-lc-rs"))]
fn rsa() -> Result<KeyPair, Error> {
    let message = "--rsa: this ringhook was built with the feature `ring`, which cannot make RSA keys: \
                   leave it out for an ECDSA key, which Telegram takes as well, or build it with the \
                   feature `aws-lc-rs`";
    Err(Error::new(ErrorKind::Config, message))
}

fn not_made(source: rcgen::Error) -> Error {
    Error::with_source(ErrorKind::Certificate, "cannot make a certificate", source)
}

fn dns_name(name: &str) -> Result<SanType, Error> {
    Ia5String::try_from(name).map(SanType::DnsName).map_err(not_made)
}

/// What is wrong with a clock that shows `now`, where that cannot be.
pub(crate) fn clock_fault(now: SystemTime) -> Option<&'static str> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let is_wrong = since.as_secs() < EARLIEST.cast_unsigned();
    is_wrong.then_some(
        "the clock of this machine is wrong: it shows a time before 2026. Certificates and old secret \
         tokens are judged by it, and the log has its times: set it",
    )
}

/// The host in `text` in lower case, such as `bot.example.com` or `*.example.com`; else what is
/// wrong with it.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    if text.contains("://") || text.contains('/') {
        return Err("expected a host alone, without https:// and without a path".into());
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err("expected a name; for an address there is --ip".into());
    }
    let text =
        &*to_ascii(text).ok_or("expected a name such as bot.example.com or *.example.com")?;
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let (rest, is_wildcard) = match name.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (&*name, false),
    };
    let is_label = |label: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_MAX || !rest.split('.').all(is_label) {
        return Err("expected a name such as bot.example.com or *.example.com".into());
    }
    if is_wildcard && !rest.contains('.') {
        return Err("a wildcard stands for one label under two or more, as in *.example.com".into());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use ringhook::TlsConfig;

    #[test]
    fn hosts_are_names() {
        for (text, name) in [
            ("bot.example.com", "bot.example.com"),
            ("Bot.Example.COM.", "bot.example.com"),
            ("*.example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(host_name(text).as_deref(), Ok(name));
        }
        let long = format!("{}.example", "a".repeat(64));
        for text in [
            "",
            ".",
            "a..b",
            "*",
            "*.com",
            "*.*.com",
            "a.*.com",
            "a b",
            "-a.com",
            "a-.com",
            &long,
            "https://a.com",
            "a.com/x",
            "a.com:443",
            "192.0.2.1",
            "::1",
            "[::1]",
        ] {
            assert!(host_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_clock_in_1970_makes_a_certificate_that_is_good_today() {
        let subject = Subject::names(&["bot.example.com".to_owned()]).unwrap();
        for now in [OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH - Duration::days(9)] {
            let made = subject.self_signed_at(KeyKind::default(), VALID_DAYS, now).unwrap();
            let tls = TlsConfig::from_pem(made.text.as_bytes(), made.key.as_bytes()).unwrap();
            assert_eq!(tls.findings(SystemTime::now()), []);
            assert!(clock_fault(now.into()).is_some());
        }
        assert!(clock_fault(SystemTime::now()).is_none());
    }

    #[test]
    fn a_long_name_is_no_common_name() {
        let long = format!("{}.{}.example.com", "a".repeat(40), "b".repeat(40));
        let made = Subject::names(&[long]).unwrap().self_signed(KeyKind::default(), 1).unwrap();
        assert!(made.text.contains("BEGIN CERTIFICATE") && made.key.contains("PRIVATE KEY"));
    }
}
