//! A TLS client and a server session of ours, connected by bytes in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

pub(crate) mod path;

use std::{io::Write as _, sync::Arc};

use loadtest::{PayloadGenerator, PayloadOptions};
use rcgen::{CertificateParams, KeyPair};
use ringhook::{TlsConfig, internals};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    client::Resumption, pki_types::ServerName,
};

/// As long as those that `ringhook serve` makes.
pub(crate) const SECRET: &str = "3f9c1b2e7d8a4056b1c2d3e4f5a697883f9c1b2e7d8a4056b1c2d3e4f5a69788";
pub(crate) const PATH: &str = "/webhook";

/// The settings of both sides.
pub(crate) struct Configs {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl Configs {
    /// An ECDSA P-256 certificate; `resume` lets the client keep tickets.
    pub(crate) fn new(version: &'static rustls::SupportedProtocolVersion, resume: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let tls =
            TlsConfig::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption =
            if resume { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
        Self { client: Arc::new(client), server: internals::server_config(&tls) }
    }

    pub(crate) fn client(&self) -> ClientConnection {
        ClientConnection::new(Arc::clone(&self.client), ServerName::try_from("localhost").unwrap())
            .unwrap()
    }

    pub(crate) fn server(&self) -> ServerConnection {
        ServerConnection::new(Arc::clone(&self.server)).unwrap()
    }

    /// Two sessions after their handshake.
    pub(crate) fn connected(&self) -> (ClientConnection, ServerConnection) {
        let (mut client, mut server) = (self.client(), self.server());
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            feed(&mut server, &bytes);
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        (client, server)
    }
}

/// The client's answer to the bytes in `said`.
pub(crate) fn answer(client: &mut ClientConnection, mut said: &[u8]) -> Vec<u8> {
    while !said.is_empty() {
        client.read_tls(&mut said).unwrap();
        client.process_new_packets().unwrap();
    }
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

pub(crate) fn feed(server: &mut ServerConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).unwrap();
        server.process_new_packets().unwrap();
    }
}

thread_local! {
    static UPDATES: PayloadGenerator = PayloadGenerator::new(&PayloadOptions::default());
}

/// Head and body of a request with the load generator's update `id`, and where the body begins.
pub(crate) fn request(id: u64) -> (Vec<u8>, usize) {
    let mut body = Vec::new();
    UPDATES.with(|updates| updates.write(&mut body, id));
    let mut bytes = format!(
        "POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:8443\r\n\
         X-Telegram-Bot-Api-Secret-Token: {SECRET}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: keep-alive\r\n\
         Accept-Encoding: gzip, deflate\r\n\r\n",
        body.len()
    )
    .into_bytes();
    let head = bytes.len();
    bytes.extend(body);
    (bytes, head)
}

/// The records of one request each, with the load generator's updates.
pub(crate) fn encrypted_requests(
    client: &mut ClientConnection,
    first: u64,
    count: u64,
) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|id| {
            client.writer().write_all(&request(id).0).unwrap();
            let mut records = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut records).unwrap();
            }
            records
        })
        .collect()
}

#[cfg(feature = "aws-lc-rs")]
fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(not(feature = "aws-lc-rs"))]
fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::ring::default_provider()
}
