//! Certificates replaced while the server runs, in every way in which files are replaced: the next
//! handshakes get the new one, and no connection is cut off.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use ringhook::{CertificateSource, Report, TlsConfig};
use rustls::{
    HandshakeKind,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::support::{
    TestServer,
    client::{self, Client},
    pki::{Issued, params, self_signed},
    update, wait_until,
};

/// More than the server takes to look twice at the files.
const LOOKS: Duration = Duration::from_millis(1500);

/// A certificate that no other is like.
fn issue() -> Issued {
    self_signed(&params("localhost", &["localhost"], &[]))
}

/// A server that watches the pair at `cert` and `key`.
fn watching(cert: &Path, key: &Path) -> TestServer {
    let tls = TlsConfig::from_pem_files(cert, key).unwrap();
    TestServer::with(|server| server.tls(tls).watch_certificates(true))
}

/// The certificate that a new connection gets.
fn served(server: &TestServer) -> CertificateDer<'static> {
    let addr = server.handle.local_addr().unwrap();
    let client = Client::connect_with(addr, Arc::new(client::trusting_all()));
    client.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

fn is_served(server: &TestServer, issued: &Issued) -> bool {
    served(server) == CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()
}

#[track_caller]
fn assert_counts(report: &Report, reloads: u64, failures: u64) {
    let counts = (report.certificate_reloads, report.certificate_reload_failures);
    assert_eq!(counts, (reloads, failures));
}

/// A directory with `cert.pem` and `key.pem`.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pair(&self) -> (PathBuf, PathBuf) {
        (self.at("cert.pem"), self.at("key.pem"))
    }

    /// Writes `text` to `name`, over what is there.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// Writes `text` to another file and renames it to `name`.
    fn rename(&self, name: &str, text: &str) {
        self.write("temporary", text);
        fs::rename(self.at("temporary"), self.at(name)).unwrap();
    }

    /// Makes `name` a link to `target` in place of what it is now.
    fn link(&self, name: &str, target: &str) {
        symlink(target, self.at("turning")).unwrap();
        fs::rename(self.at("turning"), self.at(name)).unwrap();
    }
}

/// Replaces what `set_up` has made by `replace` twice, with an established connection in use.
fn replaced_by(set_up: impl Fn(&Dir, &Issued), replace: impl Fn(&Dir, &Issued, usize)) {
    let (dir, first) = (Dir::new(), issue());
    set_up(&dir, &first);
    let (cert, key) = dir.pair();
    let server = watching(&cert, &key);
    let addr = server.handle.local_addr().unwrap();
    let mut established = Client::connect_with(addr, Arc::new(client::trusting_all()));
    assert!(is_served(&server, &first));
    for round in 1..3 {
        assert_eq!(established.post(&update(1)).status, 200);
        let next = issue();
        replace(&dir, &next, round);
        wait_until("the new certificate is served", || is_served(&server, &next));
        assert_eq!(established.post(&update(2)).status, 200, "no connection is cut off");
    }
    let report = server.handle.stop();
    assert_counts(&report, 2, 0);
    assert_eq!(report.handshakes_failed, 0);
}

fn plain(dir: &Dir, issued: &Issued) {
    dir.write("cert.pem", &issued.cert);
    dir.write("key.pem", &issued.key);
}

#[test]
fn files_written_in_place() {
    replaced_by(plain, |dir, issued, _| plain(dir, issued));
}

#[test]
fn files_renamed_over_the_key_first_or_last() {
    replaced_by(plain, |dir, issued, round| {
        let mut files = [("cert.pem", &issued.cert), ("key.pem", &issued.key)];
        if round == 2 {
            files.reverse();
        }
        files.iter().for_each(|(name, text)| dir.rename(name, text));
    });
}

/// `live/cert.pem -> ../archive/cert1.pem`, turned to `cert2.pem`.
#[test]
fn links_to_files_turned_as_certbot_does() {
    let turn = |dir: &Dir, issued: &Issued, version: usize| {
        dir.write(&format!("archive/cert{version}.pem"), &issued.cert);
        dir.write(&format!("archive/key{version}.pem"), &issued.key);
        dir.link("cert.pem", &format!("archive/cert{version}.pem"));
        dir.link("key.pem", &format!("archive/key{version}.pem"));
    };
    let set_up = |dir: &Dir, issued: &Issued| {
        fs::create_dir(dir.at("archive")).unwrap();
        turn(dir, issued, 0);
    };
    replaced_by(set_up, turn);
}

/// `cert.pem -> ..data/cert.pem`, `..data -> ..1`, turned to `..2` and `..1` removed.
#[test]
fn a_link_to_a_directory_turned_as_kubernetes_does() {
    let turn = |dir: &Dir, issued: &Issued, version: usize| {
        fs::create_dir(dir.at(&format!("..{version}"))).unwrap();
        dir.write(&format!("..{version}/cert.pem"), &issued.cert);
        dir.write(&format!("..{version}/key.pem"), &issued.key);
        dir.link("..data", &format!("..{version}"));
        if let Some(old) = version.checked_sub(1) {
            fs::remove_dir_all(dir.at(&format!("..{old}"))).unwrap();
        }
    };
    let set_up = |dir: &Dir, issued: &Issued| {
        turn(dir, issued, 0);
        symlink("..data/cert.pem", dir.at("cert.pem")).unwrap();
        symlink("..data/key.pem", dir.at("key.pem")).unwrap();
    };
    replaced_by(set_up, turn);
}

#[test]
fn what_is_broken_keeps_the_old_one_and_is_counted_once() {
    let (dir, first) = (Dir::new(), issue());
    plain(&dir, &first);
    let (cert, key) = dir.pair();
    let server = watching(&cert, &key);
    let failures = || server.handle.report().certificate_reload_failures;
    let breaks: [&dyn Fn(); 4] = [
        &|| dir.write("cert.pem", "not a certificate"),
        &|| plain(&dir, &Issued { key: issue().key, ..issue() }),
        &|| dir.write("key.pem", &issue().key[..100]),
        &|| fs::remove_file(&key).unwrap(),
    ];
    for (count, breaks) in (1..).zip(breaks) {
        breaks();
        wait_until(&format!("breakage {count} is counted"), || failures() >= count);
        assert!(is_served(&server, &first), "breakage {count}");
    }
    // What must not happen has so long to happen.
    thread::sleep(LOOKS);
    assert_eq!(failures(), 4, "once each, not at each look");
    let good = issue();
    plain(&dir, &good);
    wait_until("the good one is served", || is_served(&server, &good));
    assert_counts(&server.handle.stop(), 1, 4);
}

#[test]
fn a_file_that_is_only_touched_is_no_new_certificate() {
    let (dir, first) = (Dir::new(), issue());
    plain(&dir, &first);
    let (cert, key) = dir.pair();
    let server = watching(&cert, &key);
    plain(&dir, &first);
    // What must not happen has so long to happen.
    thread::sleep(LOOKS);
    assert!(is_served(&server, &first));
    assert_counts(&server.handle.stop(), 0, 0);
}

#[test]
fn nothing_is_watched_unless_it_is_asked_for() {
    let (dir, first) = (Dir::new(), issue());
    plain(&dir, &first);
    let (cert, key) = dir.pair();
    let tls = TlsConfig::from_pem_files(&cert, &key).unwrap();
    let server = TestServer::with(|server| server.tls(tls.clone()));
    let next = issue();
    plain(&dir, &next);
    // What must not happen has so long to happen.
    thread::sleep(LOOKS);
    assert!(is_served(&server, &first));
    // The program may ask at any time.
    let reload = tls.reload(SystemTime::now());
    assert_eq!((reload.replaced, reload.failures.len()), (1, 0));
    assert!(is_served(&server, &next));
    dir.write("key.pem", &first.key);
    let reload = tls.reload(SystemTime::now());
    assert_eq!(reload.replaced, 0);
    assert!(reload.failures[0].to_string().contains("does not belong to"));
    assert!(is_served(&server, &next));
    assert_counts(&server.handle.stop(), 1, 1);
}

/// Of two pairs the broken one stays as it was, and the other is replaced.
#[test]
fn one_broken_pair_does_not_hold_up_another() {
    let (default, shop) = (Dir::new(), Dir::new());
    let first = issue();
    plain(&default, &first);
    plain(&shop, &issue());
    let source = |dir: &Dir| CertificateSource::files(dir.at("cert.pem"), dir.at("key.pem"));
    let tls = TlsConfig::builder()
        .certificate(source(&default))
        .certificate(source(&shop).names(["shop.example"]))
        .build()
        .unwrap();
    let server = TestServer::with(|server| server.tls(tls.clone()));
    let next = issue();
    default.write("cert.pem", "broken");
    plain(&shop, &next);
    let reload = tls.reload(SystemTime::now());
    assert_eq!((reload.replaced, reload.failures.len()), (1, 1));
    assert!(is_served(&server, &first));
    let addr = server.handle.local_addr().unwrap();
    let client =
        Client::try_connect_as(addr, Arc::new(client::trusting_all()), "shop.example").unwrap();
    let chain = client.stream.conn.peer_certificates().unwrap();
    assert_eq!(chain, [CertificateDer::from_pem_slice(next.cert.as_bytes()).unwrap()]);
}

/// The keys of tickets and the cache of sessions outlive the certificate.
#[test]
fn sessions_are_resumed_across_a_reload_and_a_replacement() {
    let (dir, first) = (Dir::new(), issue());
    plain(&dir, &first);
    let (cert, key) = dir.pair();
    let tls = TlsConfig::from_pem_files(&cert, &key).unwrap();
    let server = TestServer::with(|server| server.tls(tls.clone()));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = (*client::trusting(&issue().cert, &[version])).clone();
        config.dangerous().set_certificate_verifier(Arc::new(client::TrustAll));
        config.resumption = Resumption::in_memory_sessions(32);
        let config = Arc::new(config);
        let kind = || {
            let addr = server.handle.local_addr().unwrap();
            let mut client = Client::connect_with(addr, Arc::clone(&config));
            assert_eq!(client.post(&update(1)).status, 200);
            client.handshake_kind()
        };
        assert_eq!(kind(), HandshakeKind::Full);
        plain(&dir, &issue());
        assert_eq!(tls.reload(SystemTime::now()).replaced, 1);
        assert_eq!(kind(), HandshakeKind::Resumed, "{version:?}");
        let other = issue();
        tls.replace(&TlsConfig::from_pem(other.cert.as_bytes(), other.key.as_bytes()).unwrap());
        assert_eq!(kind(), HandshakeKind::Resumed, "{version:?}");
        assert!(is_served(&server, &other));
        tls.replace(&TlsConfig::from_pem_files(&cert, &key).unwrap());
    }
}

/// A flood of handshakes while certificates are replaced as fast as they can be: each handshake
/// gets one of them, whole.
#[test]
fn handshakes_go_on_while_certificates_are_replaced() {
    let server_tls = |issued: &Issued| {
        TlsConfig::from_pem(issued.cert.as_bytes(), issued.key.as_bytes()).unwrap()
    };
    let pairs: Vec<_> = (0..3).map(|_| issue()).collect();
    let tls = server_tls(&pairs[0]);
    let others: Vec<_> = pairs.iter().map(server_tls).collect();
    let server = TestServer::with(|server| server.tls(tls.clone()));
    thread::scope(|scope| {
        let handshakes = scope.spawn(|| {
            for _ in 0..100 {
                let served = served(&server);
                assert!(pairs.iter().any(|issued| {
                    CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap() == served
                }));
            }
        });
        while !handshakes.is_finished() {
            others.iter().for_each(|other| tls.replace(other));
        }
    });
    assert_eq!(server.handle.stop().handshakes_failed, 0);
}
