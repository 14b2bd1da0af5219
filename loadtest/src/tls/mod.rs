//! TLS as Telegram's sender speaks it: no ALPN, its groups without post-quantum ones, a server name
//! only for names, always verified unless asked otherwise.

mod session;
mod sessions;
mod trust;

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{
            self,
            kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768},
        },
    },
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};

pub(crate) use self::session::Session;
use self::{
    sessions::Sessions,
    trust::{Trusted, Verifier},
};

use crate::{
    Error, Target,
    options::{Options, TlsVersion, Trust},
};

/// What Telegram's sender offers, in its order, but for x448 and P-521, which rustls does not have.
/// A key share is sent for the first alone.
const GROUPS: [&dyn SupportedKxGroup; 3] = [X25519, SECP256R1, SECP384R1];

/// Makes TLS sessions to one target.
pub(crate) struct TlsConnector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnector {
    /// What the options ask for; none for an `http://` target.
    pub(crate) fn new(options: &Options) -> Result<Option<Self>, Error> {
        if !options.target.is_tls() {
            return Ok(None);
        }
        let kx_groups = match options.post_quantum {
            true => [X25519MLKEM768].into_iter().chain(GROUPS).collect(),
            false => GROUPS.to_vec(),
        };
        let provider = Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() });
        let versions = match options.tls {
            None => vec![&TLS12, &TLS13],
            Some(TlsVersion::V1_2) => vec![&TLS12],
            Some(TlsVersion::V1_3) => vec![&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|error| refused(&error))?
            .dangerous();
        let mut config = match &options.trust {
            Trust::Certificates(list) => {
                builder.with_custom_certificate_verifier(trusting(list, provider)?)
            }
            trust => {
                let checks = !matches!(trust, Trust::Unchecked);
                let verifier = Verifier::any(&provider, checks);
                builder.with_custom_certificate_verifier(Arc::new(verifier))
            }
        }
        .with_no_client_auth();
        config.resumption = match options.resume {
            true => {
                Resumption::store(Arc::new(Sessions::new(options.connections.saturating_mul(2))))
            }
            false => Resumption::disabled(),
        };
        Ok(Some(Self { config: Arc::new(config), name: server_name(&options.target)? }))
    }

    /// A session that has yet to shake hands.
    pub(crate) fn connect(&self) -> Result<Session, rustls::Error> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone())?;
        Ok(Session::tls(connection))
    }
}

fn server_name(target: &Target) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(target.host().to_owned()).map_err(|_| Error::Target {
        target: target.to_string(),
        reason: "the host is neither a name nor an address",
    })
}

fn trusting(
    list: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<Verifier>, Error> {
    let algorithms = provider.signature_verification_algorithms;
    let mut roots = RootCertStore::empty();
    for certificate in list {
        roots.add(certificate.clone()).map_err(|error| refused(&error))?;
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::Certificate(error.to_string()))?;
    let trusted = Some(Trusted { list: list.to_vec(), chain });
    Ok(Arc::new(Verifier { algorithms, checks_signatures: true, trusted }))
}

fn refused(error: &rustls::Error) -> Error {
    Error::Certificate(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use rustls::{
        NamedGroup, ServerConfig, ServerConnection, pki_types::PrivateKeyDer, server::Acceptor,
    };

    use super::*;

    fn session(target: &str) -> Session {
        let mut options = Options::new(target.parse().unwrap());
        options.trust = Trust::Anything;
        TlsConnector::new(&options).unwrap().unwrap().connect().unwrap()
    }

    #[test]
    fn the_hello_names_hosts_but_not_addresses_and_offers_no_alpn() {
        for (target, name) in [
            ("https://bot.example.org/", Some("bot.example.org")),
            ("https://127.0.0.1/", None),
            ("https://[::1]/", None),
        ] {
            let mut wire = Vec::new();
            session(target).flush(&mut wire);
            let mut acceptor = Acceptor::default();
            acceptor.read_tls(&mut wire.as_slice()).unwrap();
            let accepted = acceptor.accept().unwrap().unwrap();
            assert_eq!(accepted.client_hello().server_name(), name, "{target}");
            assert!(accepted.client_hello().alpn().is_none(), "{target}");
        }
    }

    #[test]
    fn the_hello_offers_telegrams_groups_and_post_quantum_ones_only_if_asked() {
        let telegrams = [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];
        for (post_quantum, shares) in [
            (false, vec![NamedGroup::X25519]),
            (true, vec![NamedGroup::X25519MLKEM768, NamedGroup::X25519]),
        ] {
            let mut options = Options::new("https://127.0.0.1/".parse().unwrap());
            options.trust = Trust::Anything;
            options.post_quantum = post_quantum;
            let connector = TlsConnector::new(&options).unwrap().unwrap();
            let mut wire = Vec::new();
            connector.connect().unwrap().flush(&mut wire);
            assert_eq!(key_shares(&wire), shares);
            let mut acceptor = Acceptor::default();
            acceptor.read_tls(&mut wire.as_slice()).unwrap();
            let accepted = acceptor.accept().unwrap().unwrap();
            let hello = accepted.client_hello();
            let groups = hello.named_groups().unwrap();
            let first = if post_quantum { &[NamedGroup::X25519MLKEM768][..] } else { &[] };
            assert_eq!(groups, [first, &telegrams].concat());
        }
    }

    /// The groups of the key shares of a client's hello; rustls' server does not tell them.
    fn key_shares(wire: &[u8]) -> Vec<NamedGroup> {
        let number = |at: usize| usize::from(u16::from_be_bytes([wire[at], wire[at + 1]]));
        // Heads of record and message, version, random.
        let mut at = 5 + 4 + 2 + 32;
        at += 1 + usize::from(wire[at]); // session id
        at += 2 + number(at); // cipher suites
        at += 1 + usize::from(wire[at]); // compression
        let end = at + 2 + number(at);
        at += 2;
        while at < end && number(at) != 51 {
            at += 4 + number(at + 2);
        }
        assert!(at < end, "no key_share");
        let end = at + 4 + number(at + 2);
        at += 6;
        let mut groups = Vec::new();
        while at < end {
            groups.push(NamedGroup::from(u16::try_from(number(at)).unwrap()));
            at += 4 + number(at + 2);
        }
        groups
    }

    #[test]
    fn the_first_request_leaves_with_the_last_of_the_handshake() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let mut client = session("https://localhost/");
        let (mut to_server, mut to_client, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        client.flush(&mut to_server);
        server.read_tls(&mut to_server.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        client.receive(&to_client, &mut plain).unwrap();
        assert!(!client.is_handshaking() && server.is_handshaking());

        to_server.clear();
        client.send(b"POST", &mut to_server);
        server.read_tls(&mut to_server.as_slice()).unwrap();
        let state = server.process_new_packets().unwrap();
        assert!(!server.is_handshaking());
        assert_eq!(state.plaintext_bytes_to_read(), 4);
    }
}
