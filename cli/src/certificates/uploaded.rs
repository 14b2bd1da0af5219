//! A certificate in the eyes of Telegram's sender, apart from who has signed it.

use std::{error, fmt, time::SystemTime};

use ringhook::internals::tls::facts::{Facts, covers};

/// Why Telegram's sender would not take a certificate, whatever authority has signed it.
#[derive(Debug)]
pub(crate) enum Objection {
    /// It could not be read.
    Malformed,
    /// It was valid until then.
    Expired(SystemTime),
    /// It is valid from then on.
    NotYetValid(SystemTime),
    /// It is for these names, and not for the one that is wanted.
    OtherNames { wanted: String, names: Vec<String> },
    /// It has the wanted address as a name of type IP only, which the sender does not look at.
    AddressOnly(String),
}

/// What speaks against the leaf in `der` for the URL's host, as the sender sees it: an address in a
/// name of type DNS or, where there is none of that type, in the common name counts; one of type IP
/// does not. Without a `host` names are not looked at.
pub(crate) fn objection(der: &[u8], host: Option<&str>, now: SystemTime) -> Option<Objection> {
    let Some(facts) = Facts::from_der(der) else { return Some(Objection::Malformed) };
    if now > facts.not_after {
        return Some(Objection::Expired(facts.not_after));
    }
    if now < facts.not_before {
        return Some(Objection::NotYetValid(facts.not_before));
    }
    let wanted = host?.to_ascii_lowercase();
    let wanted = wanted.strip_suffix('.').unwrap_or(&wanted);
    if facts.names().any(|name| covers(&name, wanted)) {
        return None;
    }
    let bare = wanted.trim_start_matches('[').trim_end_matches(']');
    if bare.parse().is_ok_and(|address| facts.addresses.contains(&address)) {
        return Some(Objection::AddressOnly(bare.to_owned()));
    }
    Some(Objection::OtherNames { wanted: wanted.to_owned(), names: facts.names().collect() })
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |time: &SystemTime| humantime::format_rfc3339_seconds(*time);
        match self {
            Self::Malformed => f.write_str("it is malformed"),
            Self::Expired(until) => write!(f, "it has expired ({})", day(until)),
            Self::NotYetValid(from) => write!(f, "it is not valid before {}", day(from)),
            Self::OtherNames { wanted, names } if names.is_empty() => {
                write!(f, "it has no name, so it is not one for {wanted}")
            }
            Self::OtherNames { wanted, names } => {
                // What is in a certificate may hold anything.
                let names = names.join(", ");
                write!(f, "it is for {}, not for {wanted}", names.escape_debug())
            }
            Self::AddressOnly(address) => {
                write!(
                    f,
                    "it has {address} as a name of type IP only, at which Telegram does not look"
                )
            }
        }
    }
}

impl error::Error for Objection {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: &str, names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn said(der: &[u8], host: Option<&str>, year: u64) -> Option<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_557_600);
        objection(der, host, now).map(|objection| objection.to_string())
    }

    #[test]
    fn names_are_compared_as_the_sender_does_it() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let named = certificate("x", vec![dns("bot.example.com"), dns("*.example.org")]);
        assert_eq!(said(&named, Some("BOT.example.com"), 2025), None);
        assert_eq!(said(&named, Some("a.example.org"), 2025), None);
        assert_eq!(said(&named, None, 2025), None);
        let other = said(&named, Some("other.example.com"), 2025).unwrap();
        let expected = "it is for bot.example.com, *.example.org, not for other.example.com";
        assert_eq!(other, expected);
        // The forms for an address.
        assert_eq!(said(&certificate("192.0.2.1", vec![]), Some("192.0.2.1"), 2025), None);
        let both = certificate("192.0.2.1", vec![dns("192.0.2.1")]);
        assert_eq!(said(&both, Some("192.0.2.1"), 2025), None);
        let ip = certificate("x", vec![SanType::IpAddress("192.0.2.1".parse().unwrap())]);
        let refused = said(&ip, Some("192.0.2.1"), 2025).unwrap();
        assert_eq!(
            refused,
            "it has 192.0.2.1 as a name of type IP only, at which Telegram does not look"
        );
    }

    #[test]
    fn dates_count() {
        let der = certificate("a.example", vec![]);
        let early = said(&der, Some("a.example"), 2010).unwrap();
        assert_eq!(early, "it is not valid before 2020-01-01T00:00:00Z");
        let late = said(&der, Some("a.example"), 2040).unwrap();
        assert_eq!(late, "it has expired (2030-01-01T00:00:00Z)");
        assert_eq!(said(b"\x30", None, 2025).unwrap(), "it is malformed");
    }
}
