//! Whom the generator believes.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Takes the certificates that the options name, or any.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// Signatures are checked with any certificate, too, so that the work is the same, unless that
    /// is not wanted either.
    pub(super) checks_signatures: bool,
    /// `None` where any certificate is taken.
    pub(super) trusted: Option<Trusted>,
}

/// The listed certificates themselves and whatever they signed.
///
/// A listed certificate is taken whatever it says about names or authority. What is uploaded to
/// Telegram for an IP address carries the address as a DNS name, and `openssl req -x509` marks
/// every certificate as an authority: webpki refuses both, Telegram takes them.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) list: Vec<CertificateDer<'static>>,
    pub(super) chain: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    /// Takes any certificate.
    pub(super) fn any(provider: &CryptoProvider, checks_signatures: bool) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { algorithms, checks_signatures, trusted: None }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trusted {
            Some(Trusted { list, chain }) if !list.contains(end_entity) => {
                chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.checks_signatures {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.checks_signatures {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
