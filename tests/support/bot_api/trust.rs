//! Whether the sender believes a webhook's certificate: as OpenSSL does in Telegram's sender.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::support::client::provider;

/// Settings for connections to `host` that trust `anchors` alone.
pub(super) fn config(host: &str, anchors: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let verifier = Verifier {
        host: host.to_ascii_lowercase(),
        anchors: anchors.to_vec(),
        provider: Arc::new(provider()),
    };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[derive(Debug)]
struct Verifier {
    host: String,
    anchors: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !covers(leaf, &self.host)? {
            return Err(CertificateError::NotValidForName.into());
        }
        // One that has signed itself may be an authority as well, as those of `openssl req -x509`
        // are; webpki would not have it.
        if self.anchors.iter().any(|anchor| anchor == leaf && is_self_issued(leaf)) {
            return Ok(ServerCertVerified::assertion());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.anchors.iter().cloned());
        let algorithms = self.provider.signature_verification_algorithms.all;
        let leaf = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, chain, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is_self_issued(leaf: &CertificateDer<'_>) -> bool {
    let parsed = CertificateInner::<Raw>::from_der(leaf);
    parsed.is_ok_and(|it| it.tbs_certificate().issuer() == it.tbs_certificate().subject())
}

/// True where `leaf` is valid today and is for `host`: by a name of type DNS or, where it has none
/// of these, by its common name. Names of type IP do not count.
fn covers(leaf: &CertificateDer<'_>, host: &str) -> Result<bool, Error> {
    let bad = |_| Error::from(CertificateError::BadEncoding);
    let parsed = CertificateInner::<Raw>::from_der(leaf).map_err(bad)?;
    let signed = parsed.tbs_certificate();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let validity = signed.validity();
    if now > validity.not_after.to_unix_duration() {
        return Err(CertificateError::Expired.into());
    }
    if now < validity.not_before.to_unix_duration() {
        return Err(CertificateError::NotValidYet.into());
    }
    let names = signed.get_extension::<SubjectAltName>().map_err(bad)?;
    let names = names.map_or_else(Vec::new, |(_, names)| names.0);
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    });
    let mut names: Vec<String> = dns.collect();
    if names.is_empty() {
        let common_name = signed.subject().common_name().ok().flatten();
        names.extend(common_name.map(|name| name.value().to_ascii_lowercase()));
    }
    Ok(names.iter().any(|name| matches(name, host)))
}

/// A wildcard stands for one label.
fn matches(name: &str, host: &str) -> bool {
    let by_wildcard = || {
        let under = name.strip_prefix("*.")?;
        let (label, rest) = host.split_once('.')?;
        Some(!label.is_empty() && rest == under && under.contains('.'))
    };
    name == host || by_wildcard().unwrap_or(false)
}
