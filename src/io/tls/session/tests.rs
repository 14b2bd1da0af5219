//! The hand-over of keys, with a client of rustls on bytes in memory.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::{
    io::{Read as _, Write as _},
    sync::Mutex,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, RootCertStore,
    SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use super::*;
use crate::tls::{TlsConfig, provider, records::TlsError, recv_buffer::NextRecord};

/// A server's configuration, and what a client has to trust.
struct Sides {
    cert: String,
    server: Arc<ServerConfig>,
}

impl Sides {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let cert = cert.self_signed(&key).unwrap().pem();
        let tls = TlsConfig::from_pem(cert.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        Self { cert, server: tls.rustls() }
    }

    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        suite: Option<CipherSuite>,
    ) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()).unwrap();
        let mut provider = provider();
        provider.cipher_suites.retain(|of| suite.is_none_or(|suite| of.suite() == suite));
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    fn handshake(&self) -> Handshake {
        Handshake {
            incoming: Vec::new(),
            fed: 0,
            of_record: 0,
            outgoing: Vec::new(),
            secrets: Secrets::default(),
            session: ServerConnection::new(Arc::clone(&self.server)).unwrap(),
        }
    }
}

fn said(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn receive(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

/// Gives `bytes` to the handshake in pieces of `piece` bytes; what the server sends in return.
fn give(handshake: &mut Handshake, bytes: &[u8], piece: usize) -> Vec<u8> {
    for piece in bytes.chunks(piece) {
        handshake.incoming.drain(..std::mem::take(&mut handshake.fed));
        handshake.incoming.extend_from_slice(piece);
        handshake.feed().unwrap();
    }
    handshake.collect().unwrap();
    std::mem::take(&mut handshake.outgoing)
}

/// Does a handshake behind which the client has sent `early` in the same write.
fn shake(
    client: &mut ClientConnection,
    mut server: Handshake,
    early: &[u8],
    piece: usize,
) -> Agreed {
    let answer = give(&mut server, &said(client), piece);
    receive(client, &answer).unwrap();
    client.writer().write_all(early).unwrap();
    let last = said(client);
    server.outgoing = give(&mut server, &last, piece);
    assert!(!server.session.is_handshaking());
    let (kind, agreed, outgoing) = server.end().unwrap();
    assert_eq!(kind, HandshakeKind::Full);
    receive(client, &outgoing).unwrap();
    agreed
}

/// An established pair.
struct Pair {
    client: ClientConnection,
    records: Records,
    received: RecvBuffer,
}

impl Pair {
    fn new(suite: CipherSuite) -> Self {
        let sides = Sides::new();
        let mut client = sides.client(&TLS13, Some(suite));
        let Agreed::Records(records, rest) = shake(&mut client, sides.handshake(), b"", 1 << 20)
        else {
            unreachable!("no keys")
        };
        Self { client, records: *records, received: RecvBuffer::sealed(rest) }
    }

    /// What the server reads of the client's bytes.
    fn read(&mut self) -> Vec<u8> {
        let bytes = said(&mut self.client);
        let mut all = self.received.lend();
        all.extend_from_slice(&bytes);
        self.received.take_back(all);
        let mut read = Vec::new();
        while let NextRecord::Data(_) = self.received.open(&mut self.records).unwrap() {
            read.extend_from_slice(self.received.bytes());
            self.received.consume(self.received.bytes().len());
        }
        read
    }

    /// What the client reads of `bytes` that the server sends.
    fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.records.seal(bytes, &mut out).unwrap();
        receive(&mut self.client, &out).unwrap();
        let mut read = vec![0; bytes.len()];
        self.client.reader().read_exact(&mut read).unwrap();
        read
    }
}

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

#[test]
fn a_client_is_understood_with_every_suite_however_its_bytes_are_cut() {
    let sides = Sides::new();
    for suite in SUITES {
        for piece in [1, 2, 3, 5, 6, 100, 1000, 1 << 20] {
            let mut client = sides.client(&TLS13, Some(suite));
            let early = b"the first request";
            let agreed = shake(&mut client, sides.handshake(), early, piece);
            let Agreed::Records(mut records, rest) = agreed else { unreachable!("no keys") };
            // In small pieces the handshake ends before they are all there: then they are lost
            // here.
            if piece > 1000 {
                let mut received = RecvBuffer::sealed(rest);
                assert!(matches!(received.open(&mut records), Ok(NextRecord::Data(17))));
                assert_eq!(received.bytes(), early);
            }
            let mut out = Vec::new();
            records.seal(b"answer", &mut out).unwrap();
            receive(&mut client, &out).unwrap();
            let mut answer = [0; 6];
            client.reader().read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"answer");
        }
    }
}

#[test]
fn handshakes_beside_each_other_do_not_mix() {
    let sides = Sides::new();
    let (mut one, mut two) = (sides.client(&TLS13, None), sides.client(&TLS13, None));
    let (mut with_one, mut with_two) = (sides.handshake(), sides.handshake());
    let answer_one = give(&mut with_one, &said(&mut one), 1 << 20);
    let answer_two = give(&mut with_two, &said(&mut two), 1 << 20);
    receive(&mut one, &answer_one).unwrap();
    receive(&mut two, &answer_two).unwrap();
    for (mut client, mut server) in [(two, with_two), (one, with_one)] {
        server.outgoing = give(&mut server, &said(&mut client), 1 << 20);
        let (_, agreed, outgoing) = server.end().unwrap();
        receive(&mut client, &outgoing).unwrap();
        let Agreed::Records(records, rest) = agreed else { unreachable!("no keys") };
        let mut pair = Pair { client, records: *records, received: RecvBuffer::sealed(rest) };
        // Only the secrets determine the next keys.
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(b"x").unwrap();
        assert_eq!(pair.read(), b"x");
        assert_eq!(pair.write(b"y"), b"y");
    }
}

/// Without the check, the connection would work until the client changes its keys.
#[test]
fn secrets_of_another_handshake_are_refused() {
    let sides = Sides::new();
    for suite in SUITES {
        let clients = [(); 2].map(|()| sides.client(&TLS13, Some(suite)));
        let mut servers = clients.map(|mut client| {
            let mut server = sides.handshake();
            let answer = give(&mut server, &said(&mut client), 1 << 20);
            receive(&mut client, &answer).unwrap();
            give(&mut server, &said(&mut client), 1 << 20);
            server
        });
        let [one, two] = &mut servers;
        // One direction is enough.
        std::mem::swap(&mut one.secrets.server, &mut two.secrets.server);
        for server in servers {
            let Err(error) = server.end() else { unreachable!("foreign secrets") };
            let words = crate::tls::fault::words(&error);
            assert_eq!(words, TlsError::KeysDiffer.words());
        }
    }
}

#[test]
fn keys_are_changed_as_often_as_the_client_likes() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        for round in 0..50 {
            for _ in 0..round % 4 {
                pair.client.refresh_traffic_keys().unwrap();
            }
            let request = vec![round; 1 + 700 * usize::from(round)];
            pair.client.writer().write_all(&request).unwrap();
            assert_eq!(pair.read(), request, "{suite:?} {round}");
            let answer = format!("answer {round}");
            assert_eq!(pair.write(answer.as_bytes()), answer.as_bytes());
        }
    }
}

#[test]
fn a_client_follows_when_our_keys_are_used_up() {
    let mut pair = Pair::new(SUITES[0]);
    for round in 0..20 {
        pair.records.use_up();
        assert_eq!(pair.write(b"answer"), b"answer", "{round}");
        pair.client.writer().write_all(b"request").unwrap();
        assert_eq!(pair.read(), b"request");
    }
}

#[test]
fn a_close_notify_ends_both_directions() {
    let mut pair = Pair::new(SUITES[0]);
    pair.client.writer().write_all(b"last").unwrap();
    pair.client.send_close_notify();
    let mut bytes = said(&mut pair.client);
    // What follows it is ignored.
    bytes.extend_from_slice(b"junk");
    let mut received = RecvBuffer::sealed(bytes);
    assert!(matches!(received.open(&mut pair.records), Ok(NextRecord::Data(4))));
    assert_eq!(received.bytes(), b"last");
    received.consume(4);
    assert!(matches!(received.open(&mut pair.records), Ok(NextRecord::End)));
    let mut out = Vec::new();
    pair.records.close_notify(&mut out).unwrap();
    receive(&mut pair.client, &out).unwrap();
    assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0, "a clean end");
}

#[test]
fn a_client_is_told_what_was_wrong() {
    for (fault, description) in [
        (TlsError::BadRecordMac, AlertDescription::BadRecordMac),
        (TlsError::IllegalParameter, AlertDescription::IllegalParameter),
        (TlsError::Internal, AlertDescription::InternalError),
        (TlsError::Malformed, AlertDescription::DecodeError),
        (TlsError::RecordOverflow, AlertDescription::RecordOverflow),
        (TlsError::UnexpectedMessage, AlertDescription::UnexpectedMessage),
    ] {
        let mut pair = Pair::new(SUITES[1]);
        let mut out = Vec::new();
        pair.records.alert(fault, &mut out).unwrap();
        let received = receive(&mut pair.client, &out);
        assert_eq!(received, Err(rustls::Error::AlertReceived(description)));
    }
    let mut out = Vec::new();
    Pair::new(SUITES[0]).records.alert(TlsError::AlertReceived, &mut out).unwrap();
    assert!(out.is_empty(), "the peer that has sent it knows");
}

#[test]
fn tls_1_2_stays_with_rustls() {
    let sides = Sides::new();
    let mut client = sides.client(&TLS12, None);
    let mut server = sides.handshake();
    let answer = give(&mut server, &said(&mut client), 7);
    receive(&mut client, &answer).unwrap();
    server.outgoing = give(&mut server, &said(&mut client), 7);
    let (_, agreed, outgoing) = server.end().unwrap();
    receive(&mut client, &outgoing).unwrap();
    assert!(matches!(agreed, Agreed::Session(..)) && !client.is_handshaking());
}

#[test]
fn a_session_whose_secrets_are_not_known_stays_with_rustls() {
    let mut sides = Sides::new();
    let mut server = (*sides.server).clone();
    server.key_log = Arc::new(rustls::NoKeyLog);
    sides.server = Arc::new(server);
    let logged = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&logged);
    let writer = move || Logged(Arc::clone(&writer));
    let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            let mut client = sides.client(&TLS13, None);
            let agreed = shake(&mut client, sides.handshake(), b"x", 1 << 20);
            assert!(matches!(agreed, Agreed::Session(_, rest) if !rest.is_empty()));
        }
    });
    let logged = String::from_utf8(logged.lock().unwrap().clone()).unwrap();
    assert_eq!(logged.matches("TLS 1.3 goes through rustls").count(), 1, "{logged}");
}

/// What was logged.
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
