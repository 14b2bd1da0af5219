//! The records of TLS 1.3 over sockets: forged ones, changes of keys, records of all lengths and
//! cut anywhere, waits of all lengths.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
    thread,
    time::Duration,
};

use ringhook::Limits;
use rustls::{
    AlertDescription, CipherSuite, ClientConfig,
    version::{TLS12, TLS13},
};

use crate::support::{
    self, TestServer,
    client::{self, Client},
    external::{Running, program},
    on_each_driver, request, update,
};

/// A client's settings for TLS 1.3, changed.
fn config(server: &TestServer, change: impl FnOnce(&mut ClientConfig)) -> Arc<ClientConfig> {
    let mut config = (*client::config(&server.pki, &[&TLS13])).clone();
    change(&mut config);
    Arc::new(config)
}

/// An update of about `bytes` bytes.
fn large_update(id: i64, bytes: usize) -> String {
    update(id).replace("hello", &"x".repeat(bytes))
}

/// Asserts that the server ends the connection with an alert.
#[track_caller]
fn assert_alert(client: &mut Client, description: AlertDescription) {
    let error = client.stream.read(&mut [0]).expect_err("an alert");
    let text = format!("received fatal alert: {description:?}").to_lowercase();
    assert!(error.to_string().to_lowercase().contains(&text), "{error} is no {description:?}");
    // Whatever has come behind that, the end is no reset, which could take the alert with it.
    assert_eq!(client.stream.sock.read(&mut [0; 64]).expect("FIN, not RST"), 0);
    client.assert_no_reset();
}

#[test]
fn forged_records_are_answered_with_the_alert_that_says_so() {
    on_each_driver(Limits::default(), |server| {
        let long = [&[23, 3, 3, 0x41, 0][..], &vec![7; 16_640]].concat();
        let cases: [(&[u8], AlertDescription); 8] = [
            // A change_cipher_spec after the handshake, an alert and a hello in the clear.
            (&[20, 3, 3, 0, 1, 1], AlertDescription::UnexpectedMessage),
            (&[21, 3, 3, 0, 2, 1, 0], AlertDescription::UnexpectedMessage),
            (&[22, 3, 3, 0, 4, 0, 0, 0, 0], AlertDescription::UnexpectedMessage),
            (b"POST / HTTP/1.1\r\n\r\n", AlertDescription::UnexpectedMessage),
            (&[23, 3, 3, 0x41, 1], AlertDescription::RecordOverflow),
            (&[23, 3, 3, 0, 0], AlertDescription::BadRecordMac),
            (&[23, 3, 3, 0, 17, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], {
                AlertDescription::BadRecordMac
            }),
            (&long, AlertDescription::BadRecordMac),
        ];
        for (record, description) in cases {
            for is_used in [false, true] {
                let mut client = Client::connect_with(
                    server.handle.local_addr().unwrap(),
                    config(&server, |_| ()),
                );
                if is_used {
                    assert_eq!(client.post(&update(1)).status, 200);
                }
                client.stream.sock.write_all(record).unwrap();
                assert_alert(&mut client, description);
            }
        }
        // However much comes behind it.
        let mut client =
            Client::connect_with(server.handle.local_addr().unwrap(), config(&server, |_| ()));
        client
            .stream
            .sock
            .write_all(&[&[20, 3, 3, 0, 1, 1][..], &vec![7; 300_000]].concat())
            .unwrap();
        // A reset, which would take the alert with it, has so long to come.
        thread::sleep(Duration::from_millis(100));
        assert_alert(&mut client, AlertDescription::UnexpectedMessage);
        // The rest of a request that was begun is not waited for.
        let mut client =
            Client::connect_with(server.handle.local_addr().unwrap(), config(&server, |_| ()));
        client.send(&request(&update(1))[..20]);
        client.stream.sock.write_all(&[20, 3, 3, 0, 1, 1]).unwrap();
        assert_alert(&mut client, AlertDescription::UnexpectedMessage);
    });
}

#[test]
fn keys_may_be_changed_at_any_time() {
    on_each_driver(Limits::default(), |server| {
        for suite in [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ] {
            let mut provider = client::provider();
            provider.cipher_suites.retain(|of| of.suite() == suite);
            let of_server = config(&server, |_| ());
            let mut roots = rustls::RootCertStore::empty();
            let cert = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>
                ::from_pem_slice(server.pki.cert.as_bytes());
            roots.add(cert.unwrap()).unwrap();
            let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.resumption = of_server.resumption.clone();
            let mut client =
                Client::connect_with(server.handle.local_addr().unwrap(), Arc::new(config));
            assert_eq!(client.stream.conn.negotiated_cipher_suite().unwrap().suite(), suite);
            for id in 0..30 {
                let bytes = request(&large_update(id, 700 * id as usize));
                let (first, rest) = bytes.split_at(bytes.len() * id as usize / 30);
                for part in [first, rest] {
                    for _ in 0..id % 3 {
                        client.stream.conn.refresh_traffic_keys().unwrap();
                    }
                    client.send(part);
                }
                assert_eq!(client.response().status, 200, "{suite:?} {id}");
            }
            client.stream.conn.send_close_notify();
            client.stream.flush().unwrap();
            client.assert_clean_end();
        }
    });
}

#[test]
fn records_of_every_length_bring_long_bodies_and_short_ones() {
    on_each_driver(Limits::default(), |server| {
        let mut ids = 0..;
        for length in [32, 33, 100, 1_000, 4_000, 4_096, 5_000, 16_384] {
            let config = config(&server, |config| config.max_fragment_size = Some(length));
            let mut client = Client::connect_with(server.handle.local_addr().unwrap(), config);
            for body in [10, 3_500, 4_500, 10, 17_000, 200_000, 10] {
                let id = ids.next().unwrap();
                assert_eq!(client.post(&large_update(id, body)).status, 200, "{length} {body}");
            }
        }
        let (report, handled) = server.stop();
        assert_eq!(report.updates_acknowledged, 56);
        assert_eq!(handled.counts(), (0..56).map(|id| (id, 1)).collect());
    });
}

#[test]
fn records_come_in_any_pieces_with_any_pauses() {
    on_each_driver(Limits::default(), |server| {
        let mut client =
            Client::connect_with(server.handle.local_addr().unwrap(), config(&server, |_| ()));
        for id in 0..40 {
            client.stream.conn.writer().write_all(&request(&update(id))).unwrap();
            let mut records = Vec::new();
            client.stream.conn.write_tls(&mut records).unwrap();
            let cut = records.len() * id as usize / 40;
            for part in [&records[..cut], &records[cut..]] {
                client.stream.sock.write_all(part).unwrap();
                // The pause is what is tried.
                thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(client.response().status, 200);
            // Two pipelined in one record, one record with the end of one and the beginning of the
            // next.
            let two = [request(&update(1_000 + id)), request(&update(2_000 + id))].concat();
            client.send(&two[..two.len() * 2 / 3]);
            client.send(&two[two.len() * 2 / 3..]);
            assert_eq!((client.response().status, client.response().status), (200, 200));
        }
        let (_, handled) = server.stop();
        assert_eq!(handled.counts().into_values().collect::<Vec<_>>(), [1; 120]);
    });
}

/// Connections wait with a buffer or without one, and go from one to the other.
#[test]
fn requests_may_come_soon_or_late() {
    on_each_driver(Limits::default(), |server| {
        let tls12 = client::config(&server.pki, &[&TLS12]);
        let mut clients = [
            Client::connect_with(server.handle.local_addr().unwrap(), config(&server, |_| ())),
            Client::connect_with(server.handle.local_addr().unwrap(), tls12),
        ];
        let mut id = 0;
        for pause in [0, 0, 0, 0, 1_100, 0, 0, 0, 1_100, 1_100, 0] {
            // So late that the connection has let go of its buffer.
            thread::sleep(Duration::from_millis(pause));
            for client in &mut clients {
                id += 1;
                assert_eq!(client.post(&large_update(id, 1 + 450 * id as usize)).status, 200);
            }
        }
        for mut client in clients {
            client.stream.conn.send_close_notify();
            client.stream.flush().unwrap();
            client.assert_clean_end();
        }
        assert_eq!(server.stop().0.updates_acknowledged, 22);
    });
}

/// OpenSSL's own changes of keys: `k` changes its keys, `K` asks for ours as well.
#[test]
fn openssl_changes_keys_and_posts_with_every_suite() {
    if program("openssl").is_none() {
        return;
    }
    on_each_driver(Limits::default(), |server| {
        let mut id = 0;
        for suite in
            ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
        {
            let mut openssl = program("openssl").unwrap();
            openssl.args([
                "s_client",
                "-connect",
                &server.handle.local_addr().unwrap().to_string(),
            ]);
            openssl.arg("-CAfile").arg(server.pki.cert_file());
            openssl.args(["-tls1_3", "-ciphersuites", suite, "-msg"]);
            let mut openssl = Running::start(&mut openssl);
            openssl.wait_for("Verify return code");
            for (changes, body) in ["", "k", "K", "kK", "KK", "K", "k"]
                .into_iter()
                .zip([10, 100_000, 10, 5_000, 10, 300_000, 20_000])
            {
                for change in changes.chars() {
                    let sent = openssl.so_far().matches("KeyUpdate").count();
                    openssl.write(format!("{change}\n").as_bytes());
                    support::wait_until("the keys are changed", || {
                        openssl.so_far().matches("KeyUpdate").count() > sent
                    });
                }
                id += 1;
                let before = openssl.so_far().matches("HTTP/1.1 200 OK").count();
                openssl.write(&request(&large_update(id, body)));
                support::wait_until("it is answered", || {
                    openssl.so_far().matches("HTTP/1.1 200 OK").count() > before
                });
            }
            let said = openssl.so_far();
            assert!(said.contains(&format!("Cipher is {suite}")), "{said}");
            // It has asked four times, and been answered before the next answer: twice at once.
            let answers = said.matches("<<< TLS 1.3, Handshake [length 0005], KeyUpdate").count();
            assert_eq!(answers, 4, "{said}");
        }
        assert_eq!(server.stop().0.updates_acknowledged, 21);
    });
}
