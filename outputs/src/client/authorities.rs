//! Whom TLS trusts where nothing else is said.

use std::sync::Arc;

use ringhook::{Error, ErrorKind, internals::tls::provider};
use rustls::{ClientConfig, RootCertStore};

/// TLS with the authorities that browsers trust.
pub(crate) fn authorities() -> Result<Arc<ClientConfig>, Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::with_source(ErrorKind::Other, "TLS of an output", error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
