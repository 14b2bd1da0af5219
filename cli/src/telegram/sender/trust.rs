//! Which certificates the sender takes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::certificates::uploaded::objection;

/// Which certificates are taken.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Any. Signatures are still checked.
    Anything,
    /// Those of the public authorities, as for a webhook that is set without a
    /// certificate.
    Authorities,
    /// These and what they have signed, and no others: as for a certificate that was uploaded.
    Certificates(Vec<CertificateDer<'static>>),
}

/// Decides on a certificate as the sender does: on names by [`objection`], which differs from
/// webpki.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None` where any is taken.
    chain: Option<Arc<WebPkiServerVerifier>>,
    host: Option<String>,
    /// Taken without a check of its signature.
    listed: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// One that has the certificate be for `host`, where there is one.
    ///
    /// # Errors
    /// Where there is nothing that could be trusted.
    pub(super) fn new(
        trust: &Trust,
        host: Option<&str>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let mut listed = Vec::new();
        let host = host.map(str::to_owned);
        match trust {
            Trust::Anything => return Ok(Self { chain: None, host, listed, provider }),
            Trust::Authorities => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Trust::Certificates(list) => {
                // One that cannot be an anchor is still taken as a leaf.
                roots.add_parsable_certificates(list.iter().cloned());
                listed.clone_from(list);
            }
        }
        let chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let chain = Some(chain.build().map_err(|error| error.to_string())?);
        Ok(Self { chain, host, listed, provider })
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
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if let Some(objection) = objection(end_entity, self.host.as_deref(), time) {
            let other = CertificateError::Other(OtherError(Arc::new(objection)));
            return Err(Error::InvalidCertificate(other));
        }
        // `openssl req -x509` marks every certificate as an authority, which webpki takes for no
        // leaf; the sender does.
        if self.listed.contains(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let verified =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The chain is good by then, and names have been looked at.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
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
