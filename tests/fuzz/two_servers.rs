//! The records of one client through ringhook's TLS 1.3 and through rustls, whose outcome has to be
//! the same: the data, what the server says, and whether the connection goes on.
//!
//! Shared by the tests of the package and by its fuzz targets.

use std::{
    io::{Read as _, Write as _},
    sync::{Arc, Mutex},
};

use rcgen::{CertificateParams, KeyPair};
use ringhook::internals::TestRecords;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Error, KeyLog, RootCertStore, ServerConfig,
    ServerConnection,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, ServerName},
    version::TLS13,
};

const HEADER: usize = 5;
const TAG: usize = 16;
/// RFC 8446 sections 5.1 and 5.2.
const PLAIN_MAX: usize = 1 << 14;
const SEALED_MAX: usize = PLAIN_MAX + 256;
/// Records without data that ringhook takes one after the other.
const FRUITLESS_MAX: usize = 32;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const DECODE_ERROR: u8 = 50;

/// What a client sends.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// A record with this in it: content, type and padding.
    Record(Vec<u8>),
    /// The same with a version of its own in the header.
    Version([u8; 2], Vec<u8>),
    /// A key update, after which the client writes with its next keys; true where it asks for the
    /// same.
    KeyUpdate(bool),
    /// A record in which one byte is not what it was sealed as.
    Changed(Vec<u8>, usize),
    /// Bytes that no key has sealed.
    Raw(Vec<u8>),
}

impl Sent {
    /// What a fuzzer's bytes mean.
    #[allow(dead_code)] // for the fuzz target alone
    pub(crate) fn script(mut rest: &[u8]) -> Vec<Self> {
        let mut script = Vec::new();
        while let [command, length, later @ ..] = rest {
            let (content, later) = later.split_at(later.len().min(usize::from(*length)));
            rest = later;
            let of = |kind: u8| [content, &[kind]].concat();
            let long = usize::from(*length) * 66;
            script.push(match command % 12 {
                0 => Self::Raw(content.to_vec()),
                1 => Self::Record(of(DATA)),
                2 | 3 => Self::Record(of(HANDSHAKE)),
                4 | 5 => Self::Record(of(ALERT)),
                6 => Self::KeyUpdate(length & 1 == 1),
                7 => Self::Record([content.repeat(66), vec![DATA]].concat()),
                8 => Self::Record([of(command / 12), vec![0; long]].concat()),
                9 => Self::Version([command / 12, *length], of(DATA)),
                10 => Self::Changed(of(DATA), usize::from(command / 12) * 7),
                _ => Self::Record(content.to_vec()),
            });
        }
        script
    }
}

/// What both servers and the clients have in common.
pub(crate) struct Sides {
    clients: [Arc<ClientConfig>; 3],
    secrets: Arc<Secrets>,
    server: Arc<ServerConfig>,
}

#[derive(Debug, Default)]
struct Secrets(Mutex<[Vec<u8>; 2]>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let place = match label {
            "CLIENT_TRAFFIC_SECRET_0" => 0,
            "SERVER_TRAFFIC_SECRET_0" => 1,
            _ => return,
        };
        self.0.lock().unwrap()[place] = secret.to_vec();
    }
}

impl Sides {
    pub(crate) fn new(provider: &CryptoProvider) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let cert = cert.self_signed(&key).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        let secrets = Arc::new(Secrets::default());
        let clients = [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ]
        .map(|suite| {
            let mut provider = provider.clone();
            provider.cipher_suites.retain(|of| of.suite() == suite);
            let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.key_log = Arc::<Secrets>::clone(&secrets);
            Arc::new(config)
        });
        let mut server = ServerConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        server.send_tls13_tickets = 0;
        Self { clients, secrets, server: Arc::new(server) }
    }

    /// Sends what `script` says to both servers, in pieces of `piece` bytes.
    ///
    /// # Panics
    /// Where the outcome is not the same.
    pub(crate) fn compare(&self, suite: u8, piece: usize, script: &[Sent]) {
        Comparison::new(self, suite % 3, piece.max(1)).run(script);
    }
}

/// How a server has ended a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
enum End {
    /// The client has sent close_notify.
    CloseNotify,
    /// With the alert that it has sent, if any; true where the client's alert was the reason.
    Broken(Option<u8>, bool),
}

/// What is in a record, as a server with the right keys finds it.
struct Inner {
    kind: Option<u8>,
    content: Vec<u8>,
}

struct Comparison {
    client: TestRecords,
    /// A client's ears: one for each server.
    from_ours: TestRecords,
    from_theirs: TestRecords,
    ours: TestRecords,
    theirs: ServerConnection,
    /// Opens records as a server does, and judges nothing.
    witness: TestRecords,
    piece: usize,
    /// The part of a handshake message that has come.
    begun: Vec<u8>,
    /// Records since the last one with data.
    fruitless: usize,
}

impl Comparison {
    fn new(sides: &Sides, suite: u8, piece: usize) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let config = &sides.clients[usize::from(suite)];
        let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut theirs = ServerConnection::new(Arc::clone(&sides.server)).unwrap();
        while client.is_handshaking() || theirs.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                theirs.read_tls(&mut rest).unwrap();
                theirs.process_new_packets().unwrap();
            }
            bytes.clear();
            while theirs.wants_write() {
                theirs.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        let [of_client, of_server] = std::mem::take(&mut *sides.secrets.0.lock().unwrap());
        let as_client = || TestRecords::of_secrets(suite, &of_server, &of_client);
        let as_server = || TestRecords::of_secrets(suite, &of_client, &of_server);
        Self {
            client: as_client(),
            from_ours: as_client(),
            from_theirs: as_client(),
            ours: as_server(),
            theirs,
            witness: as_server(),
            piece,
            begun: Vec::new(),
            fruitless: 0,
        }
    }

    fn run(mut self, script: &[Sent]) {
        let mut stream = Vec::new();
        for sent in script {
            self.send(sent, &mut stream);
            while let Some(length) = record_length(&stream) {
                let is_short = length > stream.len();
                // A header by itself may be an end already.
                let is_wrong = stream[0] != DATA || length > HEADER + SEALED_MAX;
                if is_short && !is_wrong {
                    break;
                }
                let record: Vec<u8> = stream.drain(..length.min(stream.len())).collect();
                if !self.goes_on_after(&record) {
                    return;
                }
            }
        }
        // The beginning of a record, of which nothing is known yet.
        let (ours, data) = self.give_ours(&stream);
        let (theirs, other) = self.give_theirs(&stream);
        assert!(data.is_empty() && other.is_empty() && ours.is_none());
        // rustls refuses an unknown type or major version before the header is whole.
        let is_foreign = stream.first().is_some_and(|kind| !(20..=24).contains(kind))
            || stream.get(1).is_some_and(|major| *major != 3);
        assert!(is_foreign || theirs.is_none(), "{stream:?}: {theirs:?}");
        if theirs.is_none() {
            self.compare_answers();
        }
    }

    fn send(&mut self, sent: &Sent, stream: &mut Vec<u8>) {
        match sent {
            Sent::Record(inner) => self.client.forge(inner, stream),
            Sent::Version(version, inner) => self.client.forge_with(*version, inner, stream),
            Sent::KeyUpdate(asks) => {
                self.client.forge(&[24, 0, 0, 1, u8::from(*asks), HANDSHAKE], stream);
                self.client.change_keys();
            }
            Sent::Changed(inner, place) => {
                let mut record = Vec::new();
                self.client.forge(inner, &mut record);
                let place = HEADER + place % (record.len() - HEADER);
                record[place] ^= 1;
                stream.extend_from_slice(&record);
            }
            Sent::Raw(bytes) => stream.extend_from_slice(bytes),
        }
    }

    /// Gives both a record, whole but where its header is the end; true where both go on.
    fn goes_on_after(&mut self, record: &[u8]) -> bool {
        let (ours, data) = self.give_ours(record);
        let (theirs, other) = self.give_theirs(record);
        let is_whole = record_length(record).is_some_and(|length| length <= record.len());
        let outer = (record[0], [record[1], record[2]], record.len() - HEADER);
        let is_odd = outer.0 != DATA || !is_whole || outer.2 > SEALED_MAX || outer.1 != [3, 3];
        let inner = if is_odd && outer.1 == [3, 3] { None } else { self.uncover(record) };
        if is_odd {
            self.judge_header(outer, is_whole, inner.as_ref(), ours.as_ref(), &data);
            return false;
        }
        let shown = (ours.as_ref(), theirs.as_ref(), inner.as_ref().map(|inner| inner.kind));
        if data != other && ours.is_none() {
            panic!("{} bytes of data and {} of rustls: {shown:?}", data.len(), other.len());
        }
        match (&ours, &theirs) {
            (None, None) => true,
            (Some(End::CloseNotify), Some(End::CloseNotify)) => {
                self.compare_answers();
                false
            }
            (Some(End::Broken(ours, _)), Some(End::Broken(theirs, alerted))) => {
                let same = match (ours, theirs) {
                    // rustls answers some of what is wrong with nothing, where the RFC has an
                    // alert.
                    (Some(_), None) => !alerted,
                    (ours, theirs) => ours == theirs,
                };
                assert!(same || self.is_stricter(*ours, inner.as_ref()), "{shown:?}");
                false
            }
            (Some(End::Broken(alert, false)), None) => {
                assert!(self.is_stricter(*alert, inner.as_ref()), "{shown:?}");
                if is_part_of_message(inner.as_ref()) {
                    self.refuses_the_rest();
                }
                false
            }
            _ => panic!("not the same: {shown:?}"),
        }
    }

    /// Where the header alone is one that ringhook judges in another way, and why:
    ///
    /// * Another type than application data, or an unknown one, is an unexpected_message (RFC 8446
    ///   section 5). rustls decrypts a record of whatever type it knows, and so says
    ///   bad_record_mac, or goes on; for a type that it does not know it has a decode_error.
    /// * Too long is a record_overflow (section 5.2). rustls has a decode_error from 2^14 + 2048,
    ///   and decrypts what is shorter first.
    /// * The version is ignored (section 5.1), and authenticated as it is (section 5.2). rustls
    ///   takes 3.x only, and authenticates 3.3 in its place.
    fn judge_header(
        &mut self,
        (outer, version, length): (u8, [u8; 2], usize),
        is_whole: bool,
        inner: Option<&Inner>,
        ours: Option<&End>,
        data: &[u8],
    ) {
        let broken = |alert| Some(End::Broken(Some(alert), false));
        if outer != DATA {
            assert_eq!(ours, broken(UNEXPECTED_MESSAGE).as_ref());
        } else if !is_whole {
            assert_eq!(ours, broken(RECORD_OVERFLOW).as_ref());
        } else if version != [3, 3] {
            match inner {
                None => assert_eq!(ours, broken(BAD_RECORD_MAC).as_ref()),
                Some(_) if length - TAG > PLAIN_MAX + 1 => {
                    assert_eq!(ours, broken(RECORD_OVERFLOW).as_ref());
                }
                Some(Inner { kind: Some(DATA), content }) if self.begun.is_empty() => {
                    let is_one_too_many = content.is_empty() && self.fruitless > FRUITLESS_MAX;
                    assert!(ours.is_none() || is_one_too_many, "{ours:?}");
                    assert_eq!(data, content);
                }
                Some(_) => assert!(data.is_empty()),
            }
        } else {
            assert_eq!(ours, broken(RECORD_OVERFLOW).as_ref());
        }
    }

    /// What a server finds in a record; it follows changes of keys and counts.
    fn uncover(&mut self, record: &[u8]) -> Option<Inner> {
        let inner = self.witness.uncover(record)?;
        let Some(at) = inner.iter().rposition(|byte| *byte != 0) else {
            return Some(Inner { kind: None, content: Vec::new() });
        };
        let content = inner[..at].to_vec();
        let kind = inner[at];
        self.fruitless = if kind == DATA && at > 0 { 0 } else { self.fruitless + 1 };
        if kind == HANDSHAKE {
            self.begun.extend_from_slice(&content);
            if matches!(self.begun[..], [24, 0, 0, 1, 0 | 1]) {
                self.begun.clear();
                self.witness.follow_keys();
            }
        }
        Some(Inner { kind: Some(kind), content })
    }

    /// Whether ringhook may break a connection with `alert`, where rustls does not or with another
    /// one:
    ///
    /// * Too many records without data, of all kinds together; rustls counts empty ones and key
    ///   updates each by itself, and an empty record lets it take key updates anew.
    /// * A type of content that is not known is an unexpected_message (section 5), for rustls a
    ///   decode_error.
    /// * So is an alert without content (section 5.4), for rustls a decode_error, and an empty part
    ///   of a handshake message, which rustls passes over.
    /// * A handshake message that no client may send is refused by its first byte, and a key update
    ///   of another length by that; rustls waits for all of it, and parses it first.
    fn is_stricter(&self, alert: Option<u8>, inner: Option<&Inner>) -> bool {
        let Some(Inner { kind: Some(kind), content }) = inner else { return false };
        let unexpected = alert == Some(UNEXPECTED_MESSAGE);
        let of_message = match self.begun.first() {
            Some(24) => {
                let header = self.begun.iter().zip([24, 0, 0, 1]);
                let is_wrong = { header }.any(|(byte, of_key_update)| *byte != of_key_update);
                if is_wrong { alert == Some(DECODE_ERROR) } else { unexpected }
            }
            Some(_) => unexpected,
            None => false,
        };
        match *kind {
            HANDSHAKE if content.is_empty() => unexpected,
            HANDSHAKE if of_message => true,
            ALERT if content.is_empty() => unexpected,
            ALERT | HANDSHAKE | DATA => unexpected && self.fruitless > FRUITLESS_MAX,
            _ => unexpected,
        }
    }

    /// Where ringhook has refused a handshake message by its beginning, rustls does when it has
    /// all.
    fn refuses_the_rest(&mut self) {
        for _ in 0..80 {
            let mut record = Vec::new();
            self.client.forge(&[&[0; 1024][..], &[HANDSHAKE]].concat(), &mut record);
            if let (Some(end), data) = self.give_theirs(&record) {
                assert!(matches!(end, End::Broken(..)) && data.is_empty());
                return;
            }
        }
        panic!("rustls takes what was refused: {:?}", self.begun);
    }

    fn give_ours(&mut self, bytes: &[u8]) -> (Option<End>, Vec<u8>) {
        let mut data = Vec::new();
        for piece in bytes.chunks(self.piece) {
            let Some(end) = self.ours.receive(piece, |read| data.extend_from_slice(read)) else {
                continue;
            };
            if end == "close_notify" {
                return (Some(End::CloseNotify), data);
            }
            let said = said(&mut self.from_ours, &self.ours.said());
            return (Some(End::Broken(alert(&said), end == "alert from the peer")), data);
        }
        (None, data)
    }

    fn give_theirs(&mut self, bytes: &[u8]) -> (Option<End>, Vec<u8>) {
        let mut data = Vec::new();
        for piece in bytes.chunks(self.piece.min(4096)) {
            let mut rest = piece;
            while !rest.is_empty() {
                match self.theirs.read_tls(&mut rest) {
                    Ok(0) => return (Some(End::CloseNotify), data),
                    Ok(_) => {}
                    // Its buffer is full of a message that is longer than it takes: it says
                    // nothing.
                    Err(_) => return (Some(End::Broken(None, false)), data),
                }
                let outcome = self.theirs.process_new_packets();
                let is_over = outcome.as_ref().is_ok_and(|state| state.peer_has_closed());
                let _ = self.theirs.reader().read_to_end(&mut data);
                if let Err(error) = outcome {
                    let said = said(&mut self.from_theirs, &written(&mut self.theirs));
                    let is_alert = matches!(error, Error::AlertReceived(_));
                    return (Some(End::Broken(alert(&said), is_alert)), data);
                }
                if is_over {
                    return (Some(End::CloseNotify), data);
                }
            }
        }
        (None, data)
    }

    /// Both say the same: the answers to all that was asked for, and a word.
    fn compare_answers(&mut self) {
        let ours = said(&mut self.from_ours, self.ours.answer());
        self.theirs.writer().write_all(b"answer").unwrap();
        let theirs = said(&mut self.from_theirs, &written(&mut self.theirs));
        assert_eq!(ours, theirs);
        assert_eq!(ours.last().unwrap(), &[b"answer", &[DATA][..]].concat());
    }
}

fn is_part_of_message(inner: Option<&Inner>) -> bool {
    inner.is_some_and(|inner| inner.kind == Some(HANDSHAKE) && !inner.content.is_empty())
}

/// The length of the record that begins with `bytes`.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = bytes.first_chunk::<HEADER>()?;
    Some(HEADER + usize::from(u16::from_be_bytes([*high, *low])))
}

fn written(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// What is in the records that a server has sent.
fn said(ears: &mut TestRecords, mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    while let Some(length) = record_length(bytes) {
        let (record, later) = bytes.split_at(length);
        bytes = later;
        let inner = ears.uncover(record).expect("a record of the server");
        if inner.last() == Some(&HANDSHAKE) {
            assert_eq!(inner, [24, 0, 0, 1, 0, HANDSHAKE]);
            ears.follow_keys();
        }
        said.push(inner);
    }
    assert!(bytes.is_empty());
    said
}

/// The alert at the end of what was said: a fatal one.
fn alert(said: &[Vec<u8>]) -> Option<u8> {
    let last = said.last()?;
    let [2, description, ALERT] = last[..] else { panic!("no alert: {last:?}") };
    Some(description)
}
