//! The key of a certificate and what it may be used for, as OpenSSL looks at it.

use std::fmt;

use x509_cert::{
    certificate::{Raw, TbsCertificateInner, Version},
    der::{
        Decode as _, Reader as _, SliceReader, Tag,
        asn1::{AnyRef, ObjectIdentifier, UintRef},
    },
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    spki::SubjectPublicKeyInfoOwned,
};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
/// Server gated cryptography, of Netscape and of Microsoft, which OpenSSL takes for the same.
const GATED: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("2.16.840.1.113730.4.1"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.3"),
];
/// Extensions that OpenSSL understands, so that they may be critical.
const UNDERSTOOD: [&str; 13] = [
    "2.16.840.1.113730.1.1",
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.36",
    "2.5.29.37",
    "2.5.29.54",
    "1.3.6.1.5.5.7.1.7",
    "1.3.6.1.5.5.7.1.8",
];
/// Bits of an RSA key below which OpenSSL refuses it at its usual level of security.
const RSA_BITS_MIN: usize = 2048;

/// A public key's kind and size.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyForm {
    /// On a curve that every TLS client knows.
    Ecdsa(&'static str),
    /// Ed25519.
    Ed25519,
    /// The bits of the modulus.
    Rsa(usize),
    /// By the number of its algorithm or curve.
    Other(String),
}

/// What a certificate allows its key to be used for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Purpose {
    /// An extension that is critical and that OpenSSL does not know.
    pub unknown_critical: Option<String>,
    /// True where OpenSSL takes it for a root.
    pub is_for_roots: bool,
    /// How many certificates of issuers may be between it and a leaf, where it says so.
    pub issuers_max: Option<usize>,
    /// False where it says what it is for, and a TLS server is not among that.
    pub is_for_servers: bool,
}

impl KeyForm {
    pub(super) fn from_public_key(key: &SubjectPublicKeyInfoOwned) -> Self {
        let algorithm = &key.algorithm;
        let other = |oid: ObjectIdentifier| Self::Other(oid.to_string());
        match algorithm.oid {
            RSA => match modulus_bits(key.subject_public_key.raw_bytes()) {
                Some(bits) => Self::Rsa(bits),
                None => other(RSA),
            },
            EC => match algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok()) {
                Some(P256) => Self::Ecdsa("P-256"),
                Some(P384) => Self::Ecdsa("P-384"),
                Some(P521) => Self::Ecdsa("P-521"),
                Some(curve) => other(curve),
                None => other(EC),
            },
            ED25519 => Self::Ed25519,
            oid => other(oid),
        }
    }

    /// True where OpenSSL refuses it for its size.
    pub fn is_too_short(&self) -> bool {
        matches!(self, Self::Rsa(bits) if *bits < RSA_BITS_MIN)
    }
}

impl fmt::Display for KeyForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecdsa(curve) => write!(f, "ECDSA {curve}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa(bits) => write!(f, "RSA, {bits} bits"),
            Self::Other(oid) => write!(f, "of an unusual kind ({oid})"),
        }
    }
}

/// `None` where `key` is no RSA key.
fn modulus_bits(key: &[u8]) -> Option<usize> {
    let outer = AnyRef::from_der(key).ok().filter(|any| any.header().tag() == Tag::Sequence)?;
    let modulus = SliceReader::new(outer.value()).ok()?.decode::<UintRef<'_>>().ok()?;
    let bytes = modulus.as_bytes();
    let unused = bytes.first()?.leading_zeros() as usize;
    (bytes.len() * 8).checked_sub(unused)
}

impl Purpose {
    /// `None` where what it says cannot be read, and OpenSSL refuses it then.
    pub(super) fn from_certificate(signed: &TbsCertificateInner<Raw>) -> Option<Self> {
        let usage = signed.get_extension::<KeyUsage>().ok()?;
        // One of those is enough for OpenSSL, whatever the handshake needs.
        let may_sign = usage.as_ref().is_none_or(|(_, usage)| {
            usage.digital_signature() || usage.key_encipherment() || usage.key_agreement()
        });
        let extended = signed.get_extension::<ExtendedKeyUsage>().ok()?;
        let is_server = |oid: &ObjectIdentifier| *oid == SERVER_AUTH || GATED.contains(oid);
        let may_serve = extended.is_none_or(|(_, usage)| usage.0.iter().any(is_server));
        let unknown = signed.extensions().into_iter().flatten().find_map(|extension| {
            let oid = extension.extn_id.to_string();
            (extension.critical && !UNDERSTOOD.contains(&oid.as_str())).then_some(oid)
        });
        let constraints =
            signed.get_extension::<BasicConstraints>().ok()?.map(|(_, constraints)| constraints);
        let may_issue = match (&usage, &constraints) {
            (Some((_, usage)), _) if !usage.key_cert_sign() => false,
            (_, Some(constraints)) => constraints.ca,
            // Version 1 has no room for it, and who says that the key signs certificates is
            // believed.
            (usage, None) => signed.version() == Version::V1 || usage.is_some(),
        };
        Some(Self {
            unknown_critical: unknown,
            is_for_roots: may_issue && may_serve,
            issuers_max: constraints
                .and_then(|constraints| constraints.path_len_constraint)
                .map(usize::from),
            is_for_servers: may_sign && may_serve,
        })
    }
}
