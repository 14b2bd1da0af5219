//! The checks of a certificate that can be served: findings in plain words. No file, no socket, no
//! clock.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use super::{
    chain::Order,
    facts::{self, Facts},
};

/// A certificate that ends within this time is worth a notice; certbot renews 30 days before the
/// end.
const SOON: Duration = Duration::from_secs(30 * DAY);
/// A day in seconds.
pub const DAY: u64 = 24 * 3600;

/// Something about a certificate that its owner should know. It is served all the same.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// The file of the certificate, or `certificate` where it came from memory.
    pub certificate: String,
    /// What there is to know.
    pub kind: FindingKind,
}

/// What there is to know about a certificate. Names and times are those in it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FindingKind {
    /// It has the address of a webhook URL as a name of type IP only, which Telegram's sender does
    /// not look at.
    AddressNotAsName {
        /// The address.
        address: String,
    },
    /// It or an intermediate of its chain has expired.
    Expired {
        /// Whose subject.
        subject: String,
        /// When.
        at: SystemTime,
    },
    /// It or an intermediate of its chain expires within 30 days.
    ExpiresSoon {
        /// Whose subject.
        subject: String,
        /// When.
        at: SystemTime,
        /// Whole days that are left.
        days: u64,
    },
    /// It is signed by an issuer whose certificate is not in the chain.
    MissingIntermediate {
        /// The issuer's name.
        issuer: String,
    },
    /// None of its names is the host of a webhook URL for which it is served.
    NameMismatch {
        /// The host.
        host: String,
        /// The names that it has.
        names: Vec<String>,
    },
    /// It or an intermediate of its chain is not valid yet.
    NotYetValid {
        /// Whose subject.
        subject: String,
        /// From when on it is.
        from: SystemTime,
    },
    /// The chain was not in the order of leaf, issuer, issuer's issuer.
    OutOfOrder {
        /// Whether it is served in the right order; false where more than one was possible.
        put_right: bool,
    },
    /// The chain ends in a root, which each client that trusts it has already.
    RootIncluded {
        /// The root's name.
        subject: String,
    },
    /// Some certificates of the file are not on the path from the leaf to a root.
    Unrelated {
        /// How many.
        count: usize,
    },
    /// A certificate of the chain could not be read as X.509, so nothing was checked.
    Unreadable {
        /// Its place in the file, from 1.
        place: usize,
    },
}

impl FindingKind {
    /// True where nothing fails because of it: advice, not a warning.
    #[must_use]
    pub fn is_advice(&self) -> bool {
        matches!(
            self,
            Self::OutOfOrder { put_right: true }
                | Self::RootIncluded { .. }
                | Self::Unrelated { .. }
                | Self::Unreadable { .. }
        )
    }
}

/// A host of a webhook URL: a name, a wildcard or an address, in lower case and without brackets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host(String);

impl Host {
    /// The host of this name or address.
    pub fn new(text: &str) -> Self {
        let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        Self(inside.unwrap_or(text).to_ascii_lowercase())
    }

    /// What a client that connects to it sends as SNI: nothing where it is an address.
    pub(super) fn sni(&self) -> Option<&str> {
        self.address().is_none().then_some(&*self.0)
    }

    fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

/// The findings at `now` for `chain`, leaf first.
pub fn chain(chain: &[Facts], order: &Order, now: SystemTime) -> Vec<FindingKind> {
    let mut found = Vec::new();
    if let Some(place) = order.unreadable {
        found.push(FindingKind::Unreadable { place });
        return found;
    }
    if let Some(put_right) = order.out_of_order {
        found.push(FindingKind::OutOfOrder { put_right });
    }
    let path = chain.get(..order.path).unwrap_or(chain);
    // A root has no issuer to look for, and its expiry concerns the client that trusts it.
    let root = path.iter().skip(1).find(|facts| facts.is_self_signed());
    let leaf = path.first().filter(|leaf| path.len() == 1 && !leaf.is_self_signed());
    if let Some(leaf) = leaf {
        let issuer = leaf.issuer().to_owned();
        found.push(FindingKind::MissingIntermediate { issuer });
    }
    let below_root = path.len() - usize::from(root.is_some());
    found.extend(path.iter().take(below_root).filter_map(|facts| validity(facts, now)));
    if chain.len() > path.len() {
        found.push(FindingKind::Unrelated { count: chain.len() - path.len() });
    }
    if let Some(root) = root {
        found.push(FindingKind::RootIncluded { subject: root.subject().to_owned() });
    }
    found
}

/// What is wrong at `now` with the time in which a certificate is valid.
pub fn validity(facts: &Facts, now: SystemTime) -> Option<FindingKind> {
    let (subject, at) = (facts.subject().to_owned(), facts.not_after);
    if now < facts.not_before {
        return Some(FindingKind::NotYetValid { subject, from: facts.not_before });
    }
    match at.duration_since(now) {
        Err(_) => Some(FindingKind::Expired { subject, at }),
        Ok(left) if left < SOON => {
            Some(FindingKind::ExpiresSoon { subject, at, days: left.as_secs() / DAY })
        }
        Ok(_) => None,
    }
}

/// The findings for `leaf` where it is served for `host`.
pub fn name(leaf: &Facts, host: &Host) -> Option<FindingKind> {
    if leaf.names().any(|name| facts::covers(&name, &host.0)) {
        return None;
    }
    if host.address().is_some_and(|address| leaf.addresses.contains(&address)) {
        return Some(FindingKind::AddressNotAsName { address: host.0.clone() });
    }
    let addresses = leaf.addresses.iter().map(ToString::to_string);
    let names = leaf.names().chain(addresses).map(|name| name.escape_debug().to_string());
    Some(FindingKind::NameMismatch { host: host.0.clone(), names: names.collect() })
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.certificate, self.kind)
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what(), self.fix())
    }
}

impl FindingKind {
    /// What there is to know, without a fix.
    pub fn what(&self) -> String {
        match self {
            Self::AddressNotAsName { address } => {
                format!("has {address} as a name of type IP only, and Telegram refuses that")
            }
            Self::Expired { subject, at } => {
                format!("\"{subject}\" has expired on {}", moment(*at))
            }
            Self::ExpiresSoon { subject, at, days } => {
                format!("\"{subject}\" expires in {days} day(s), on {}", moment(*at))
            }
            Self::MissingIntermediate { issuer } => format!(
                "the certificate of its issuer \"{issuer}\" is missing, and Telegram cannot verify \
                 it"
            ),
            Self::NameMismatch { host, names } => {
                let names = match names.join(", ") {
                    names if names.is_empty() => "no name at all".to_owned(),
                    names => names,
                };
                format!("is for {names}, not for {host}, and Telegram refuses it there")
            }
            Self::NotYetValid { subject, from } => {
                format!("\"{subject}\" is not valid before {}", moment(*from))
            }
            Self::OutOfOrder { put_right: true } => {
                "the chain is out of order and is served put right".to_owned()
            }
            Self::OutOfOrder { put_right: false } => {
                "the chain is out of order and can be put right in more than one order".to_owned()
            }
            Self::RootIncluded { subject } => {
                format!("the root \"{subject}\" in the chain is not needed")
            }
            Self::Unrelated { count } => {
                format!("{count} certificate(s) in it do not belong to the chain of the first")
            }
            Self::Unreadable { place } => format!(
                "certificate {place} in it cannot be read as X.509, so nothing in it was checked"
            ),
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::AddressNotAsName { address } => format!(
                "make it with subjectAltName=DNS:{address}, or with CN={address} and no name of \
                 type DNS"
            ),
            Self::Expired { .. } => "Telegram refuses it and delivers nothing, renew it".to_owned(),
            Self::ExpiresSoon { .. } => "renew it".to_owned(),
            Self::MissingIntermediate { .. } => "use the full chain (certbot's fullchain.pem), or \
                                                 upload the issuer's certificate with setWebhook"
                .to_owned(),
            Self::NameMismatch { host, .. } => {
                format!("get one for {host} (a wildcard stands for one label)")
            }
            Self::NotYetValid { .. } => {
                "Telegram refuses it until then, or is this machine's clock behind?".to_owned()
            }
            Self::OutOfOrder { .. } => "write the leaf first, then each one's issuer".to_owned(),
            Self::RootIncluded { .. } => "leave it out, it only makes handshakes longer".to_owned(),
            Self::Unrelated { .. } => "remove them".to_owned(),
            Self::Unreadable { .. } => "look at it with `openssl x509 -text`".to_owned(),
        }
    }
}

/// A time in RFC 3339, to the second; one that it cannot express as the nearest.
pub fn moment(time: SystemTime) -> impl fmt::Display {
    /// The last second of the year 9999.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since.min(LAST))
}
