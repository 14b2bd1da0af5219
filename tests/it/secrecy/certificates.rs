//! Certificates: which one a client gets, what is said of each, encrypted keys, and whether what is
//! said is what OpenSSL does, which Telegram's sender is made with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ringhook::{CertificateSource, FindingKind, KeyPassword, TlsBuilder, TlsConfig};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::support::{
    TestServer,
    client::{self, Client},
    external::{program, succeed, talk},
    pki::{Authority, Issued, params, self_signed},
    update,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A moment between the beginning and the end of the tests' certificates: 2026-01-01.
fn meanwhile() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

/// Their end: 2030-01-01.
fn end() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000)
}

fn source(issued: &Issued) -> CertificateSource {
    CertificateSource::pem(issued.cert.as_bytes(), issued.key.as_bytes())
}

fn leaf(common_name: &str, dns: &[&str]) -> Issued {
    self_signed(&params(common_name, dns, &[]))
}

// By name

/// A client that asks for `sni`, or for nothing.
fn connect(server: &TestServer, sni: Option<&str>) -> Client {
    let mut config = client::trusting_all();
    config.enable_sni = sni.is_some();
    let addr = server.handle.local_addr().unwrap();
    Client::try_connect_as(addr, Arc::new(config), sni.unwrap_or("absent")).unwrap()
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()
}

fn serving(tls: TlsBuilder) -> TestServer {
    TestServer::with(|server| server.tls(tls.build().unwrap()))
}

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let default = leaf("default", &["default.example"]);
    let shop = leaf("shop", &["something.else"]);
    let wild = leaf("wild", &["*.bots.example"]);
    let exact = leaf("exact", &["special.bots.example"]);
    let own = leaf("own", &["a.example.org", "*.example.org"]);
    let by_common_name = leaf("cn.example.net", &[]);
    let server = serving(
        TlsConfig::builder()
            .certificate(source(&own))
            .certificate(source(&wild).names(["*.bots.example"]))
            .certificate(source(&exact).names(["Special.bots.example"]))
            .certificate(source(&shop).names(["shop.example", "a.example.org"]))
            .certificate(source(&by_common_name))
            .default_certificate(source(&default)),
    );
    for (sni, expected) in [
        (Some("shop.example"), &shop),
        (Some("SHOP.example"), &shop),
        (Some("x.bots.example"), &wild),
        (Some("special.bots.example"), &exact),
        // What is configured goes before what is in the certificates.
        (Some("a.example.org"), &shop),
        (Some("b.example.org"), &own),
        (Some("cn.example.net"), &by_common_name),
        (Some("default.example"), &default),
        // A wildcard is one label, no more and no less.
        (Some("x.y.bots.example"), &default),
        (Some("bots.example"), &default),
        (Some("unknown.example"), &default),
        (Some("localhost"), &default),
        // A client sends no SNI for an address.
        (Some("127.0.0.1"), &default),
        (None, &default),
    ] {
        let mut client = connect(&server, sni);
        let chain = client.stream.conn.peer_certificates().unwrap();
        assert_eq!(chain, [der(expected)], "{sni:?}");
        assert_eq!(client.post(&update(1)).status, 200);
    }
}

#[test]
fn without_a_default_the_first_one_is_it() {
    let (first, second) = (leaf("first", &[]), leaf("second", &[]));
    let server = serving(
        TlsConfig::builder()
            .certificate(source(&first).names(["first.example"]))
            .certificate(source(&second).names(["second.example"])),
    );
    for (sni, expected) in [
        (None, &first),
        (Some("unknown.example"), &first),
        (Some("first.example"), &first),
        (Some("second.example"), &second),
    ] {
        let client = connect(&server, sni);
        assert_eq!(client.stream.conn.peer_certificates().unwrap(), [der(expected)], "{sni:?}");
    }
}

/// An address as SNI is against RFC 6066, and some clients do it: they are served the default.
#[test]
fn openssl_sees_the_certificate_of_the_name_it_sends() {
    if program("openssl").is_none() {
        return;
    }
    let (default, shop) = (leaf("default", &[]), leaf("shop", &[]));
    let tls = TlsConfig::builder().certificate(source(&default));
    let server = serving(tls.certificate(source(&shop).names(["shop.example"])));
    for (args, expected) in [
        (&["-servername", "shop.example"][..], "shop"),
        (&["-servername", "unknown.example"], "default"),
        (&["-servername", "127.0.0.1"], "default"),
        (&["-noservername"], "default"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let mut openssl = program("openssl").unwrap();
            let to = server.handle.local_addr().unwrap().to_string();
            let said = talk(openssl.args(["s_client", "-connect", &to, version]).args(args), b"");
            let all = said.stdout + &said.stderr;
            assert!(all.contains(&format!("subject=CN = {expected}\n")), "{args:?}: {all}");
        }
    }
}

#[test]
fn one_name_has_one_certificate_and_there_is_one_at_least() {
    let one = leaf("one", &[]);
    let twice = TlsConfig::builder()
        .certificate(source(&one).names(["a.example"]))
        .certificate(source(&one).names(["b.example", "A.example"]));
    let error = twice.build().unwrap_err().to_string();
    assert_eq!(error, "certificate: a.example has a certificate already, certificate");
    let error = TlsConfig::builder().build().unwrap_err().to_string();
    assert_eq!(error, "tls = (none): expected at least one certificate and its key");
}

// What is said

/// What is said of `chain` with the key of `issued` at `now`, served for `hosts`.
fn findings(chain: &[&str], issued: &Issued, hosts: &[&str], now: SystemTime) -> Vec<FindingKind> {
    let tls = TlsConfig::from_pem(chain.concat().as_bytes(), issued.key.as_bytes()).unwrap();
    tls.expect_hosts(hosts.iter().copied());
    let findings = tls.findings(now);
    assert!(findings.iter().all(|finding| !finding.to_string().contains('\n')));
    findings.into_iter().map(|finding| finding.kind).collect()
}

/// The one thing said, as a line.
#[track_caller]
fn only(findings: &[FindingKind]) -> String {
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings[0].to_string()
}

struct Chain {
    root: Authority,
    intermediate: Authority,
    leaf: Issued,
}

fn chain() -> Chain {
    let root = Authority::root("Root");
    let intermediate = root.authorize("Intermediate");
    let mut of_leaf = params("bot", &["bot.example.com"], &[]);
    of_leaf.use_authority_key_identifier_extension = true;
    let leaf = intermediate.issue(&of_leaf);
    Chain { root, intermediate, leaf }
}

#[test]
fn nothing_is_said_of_what_is_right() {
    let Chain { intermediate, leaf, .. } = chain();
    let host = ["bot.example.com"];
    let good = findings(&[&leaf.cert, &intermediate.cert], &leaf, &host, meanwhile());
    assert_eq!(good, []);
    let own = self_signed(&params("bot.example.com", &[], &[]));
    assert_eq!(findings(&[&own.cert], &own, &host, meanwhile()), [], "uploaded to Telegram");
}

#[test]
fn a_missing_intermediate_is_named() {
    let Chain { root, leaf, .. } = chain();
    let said = only(&findings(&[&leaf.cert], &leaf, &[], meanwhile()));
    assert!(
        said.starts_with("the certificate of its issuer \"Intermediate\" is missing"),
        "{said}"
    );
    assert!(said.contains("fullchain.pem"), "{said}");
    let with_root = findings(&[&leaf.cert, &root.cert], &leaf, &[], meanwhile());
    let issuer = "Intermediate".to_owned();
    let expected =
        [FindingKind::MissingIntermediate { issuer }, FindingKind::Unrelated { count: 1 }];
    assert_eq!(with_root, expected);
    assert!(!expected[0].is_advice() && expected[1].is_advice());
}

#[test]
fn a_root_in_the_chain_is_a_word_of_advice() {
    let Chain { root, intermediate, leaf } = chain();
    let whole = [&*leaf.cert, &intermediate.cert, &root.cert];
    let said = findings(&whole, &leaf, &[], meanwhile());
    assert_eq!(said, [FindingKind::RootIncluded { subject: "Root".to_owned() }]);
    assert!(said[0].is_advice());
    assert!(only(&said).starts_with("the root \"Root\" in the chain is not needed"));
}

#[test]
fn a_chain_in_any_order_is_served_in_the_right_one() {
    let Chain { root, intermediate, leaf } = chain();
    let parts = [&*leaf.cert, &intermediate.cert, &root.cert];
    let expected: Vec<_> =
        parts.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).into();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mixed = order.map(|place| parts[place]);
        let said = findings(&mixed, &leaf, &["bot.example.com"], meanwhile());
        let is_told = said.contains(&FindingKind::OutOfOrder { put_right: true });
        assert_eq!(is_told, order != [0, 1, 2], "{order:?}: {said:?}");
        assert!(said.iter().all(FindingKind::is_advice), "{said:?}");
        let all = Issued { cert: mixed.concat(), key: leaf.key.clone() };
        let server = serving(TlsConfig::builder().certificate(source(&all)));
        let client = connect(&server, Some("bot.example.com"));
        assert_eq!(client.stream.conn.peer_certificates().unwrap(), expected, "{order:?}");
    }
}

#[test]
fn where_a_chain_could_go_on_in_two_ways_the_file_says_which() {
    let (old, new) = (Authority::root("Old Root"), Authority::root("New Root"));
    let (one, other) = (old.cross_signed_by(&new), old.cert.clone());
    let mut of_leaf = params("bot", &["bot.example.com"], &[]);
    of_leaf.use_authority_key_identifier_extension = true;
    let leaf = old.issue(&of_leaf);
    let cross = findings(&[&leaf.cert, &one], &leaf, &[], meanwhile());
    assert_eq!(cross, []);
    let both = findings(&[&leaf.cert, &one, &other], &leaf, &[], meanwhile());
    assert_eq!(both, [FindingKind::Unrelated { count: 1 }], "the first of the two is meant");
    let unclear = findings(&[&one, &other, &leaf.cert], &leaf, &[], meanwhile());
    assert!(unclear.contains(&FindingKind::OutOfOrder { put_right: false }), "{unclear:?}");
    assert!(unclear[0].to_string().contains("in more than one order"));
    assert!(!unclear[0].is_advice());
}

#[test]
fn unrelated_certificates_in_the_file_are_counted() {
    let Chain { intermediate, leaf, .. } = chain();
    let unrelated = Authority::root("Unrelated").cert;
    let all = [&*leaf.cert, &intermediate.cert, &unrelated, &unrelated];
    let said = only(&findings(&all, &leaf, &[], meanwhile()));
    assert!(said.starts_with("2 certificate(s) in it do not belong to the chain"), "{said}");
}

#[test]
fn the_time_is_looked_at() {
    let own = leaf("bot", &[]);
    let at = |now| findings(&[&own.cert], &own, &[], now);
    let second = Duration::from_secs(1);
    let said = |now| only(&at(now));
    assert_eq!(at(end() - 30 * DAY), []);
    let expected = "\"bot\" expires in 29 day(s), on 2030-01-01T00:00:00Z: renew it";
    assert_eq!(said(end() - 30 * DAY + second), expected);
    assert!(said(end()).starts_with("\"bot\" expires in 0 day(s)"));
    let expired = said(end() + second);
    let expected = "\"bot\" has expired on 2030-01-01T00:00:00Z: Telegram refuses it and delivers \
                    nothing, renew it";
    assert_eq!(expired, expected);
    let early = said(SystemTime::UNIX_EPOCH);
    assert!(early.starts_with("\"bot\" is not valid before 2020-01-01T00:00:00Z"), "{early}");
}

/// An intermediate that ends before the leaf takes the chain with it; the end of a root does not.
#[test]
fn the_time_of_intermediates_is_looked_at_too() {
    let Chain { root, intermediate, .. } = chain();
    let mut long = params("bot", &[], &[]);
    long.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let leaf = intermediate.issue(&long);
    let after = end() + DAY;
    let said = findings(&[&leaf.cert, &intermediate.cert, &root.cert], &leaf, &[], after);
    let expired = FindingKind::Expired { subject: "Intermediate".to_owned(), at: end() };
    assert_eq!(said[0], expired);
    assert!(matches!(&said[1..], [FindingKind::RootIncluded { .. }]), "{said:?}");
    let tls = TlsConfig::from_pem(
        [leaf.cert, intermediate.cert].concat().as_bytes(),
        leaf.key.as_bytes(),
    );
    assert_eq!(tls.unwrap().expires_at(), Some(end()));
}

#[test]
fn a_name_that_does_not_fit_is_told_for_each_host_and_certificate() {
    let default = leaf("default", &["*.example.com"]);
    let shop = leaf("shop", &["shop.example.org"]);
    let tls = TlsConfig::builder().certificate(source(&default));
    let tls = tls.certificate(source(&shop).names(["*.example.org"])).build().unwrap();
    let said = |hosts: &[&str]| {
        tls.expect_hosts(hosts.iter().copied());
        let said = tls.findings(meanwhile());
        said.into_iter().map(|finding| finding.to_string()).collect::<Vec<_>>()
    };
    assert!(
        said(&["a.example.com", "B.EXAMPLE.COM", "*.example.com", "shop.example.org"]).is_empty()
    );
    let deep = said(&["a.b.example.com"]);
    let expected = "certificate: is for *.example.com, not for a.b.example.com, and Telegram \
                    refuses it there: get one for a.b.example.com (a wildcard stands for one label)";
    assert_eq!(deep, [expected]);
    assert!(said(&["*.example.org"])[0].contains("is for shop.example.org, not for *.example.org"));
    let both = said(&["x.example.org", "x.example.org", "elsewhere"]);
    assert_eq!(both.len(), 2, "each once: {both:?}");
    // An address is asked for without SNI, so it is the default one's to have it.
    assert!(said(&["192.0.2.1"])[0].contains("is for *.example.com, not for 192.0.2.1"));
}

#[test]
fn an_address_must_be_a_name() {
    let said = |cn: &str, dns: &[&str], addresses: &[&str]| {
        let own = self_signed(&params(cn, dns, addresses));
        findings(&[&own.cert], &own, &["192.0.2.1"], meanwhile())
    };
    assert_eq!(said("192.0.2.1", &[], &[]), []);
    assert_eq!(said("bot", &["192.0.2.1"], &[]), []);
    assert_eq!(said("192.0.2.1", &[], &["192.0.2.1"]), []);
    let by_type_ip = [FindingKind::AddressNotAsName { address: "192.0.2.1".to_owned() }];
    assert_eq!(said("bot", &[], &["192.0.2.1"]), by_type_ip);
    assert_eq!(said("192.0.2.1", &["bot.example.com"], &["192.0.2.1"]), by_type_ip);
    let line = only(&said("bot", &[], &["192.0.2.1"]));
    assert!(line.contains("subjectAltName=DNS:192.0.2.1"), "{line}");
}

/// What the checks call right, OpenSSL verifies, and what they call wrong it does not: verified as
/// Telegram does, the certificate itself the trust anchor, the host of the URL compared as a name
/// even where it is an address.
#[test]
fn openssl_agrees_about_every_name() {
    if program("openssl").is_none() {
        return;
    }
    let ip = "127.0.0.1";
    for (cn, dns, addresses) in [
        (ip, &[][..], &[][..]),
        ("bot", &[ip], &[]),
        ("bot", &[], &[ip]),
        (ip, &[], &[ip]),
        (ip, &["bot.example.com"], &[]),
        ("bot.example.com", &[], &[]),
        ("*.example.com", &[], &[]),
        ("bot", &["*.example.com"], &[]),
        ("bot", &["*.com"], &[]),
        ("bot", &["BOT.example.COM", "other"], &[]),
        ("", &["*.b.example.com"], &[ip]),
    ] {
        let mut params = params(cn, dns, addresses);
        params.not_after = rcgen::date_time_ymd(2999, 1, 1);
        let own = self_signed(&params);
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, &own.cert).unwrap();
        let server = serving(TlsConfig::builder().certificate(source(&own)));
        let to = server.handle.local_addr().unwrap().to_string();
        for host in [ip, "bot.example.com", "example.com", "a.b.example.com"] {
            let said = findings(&[&own.cert], &own, &[host], meanwhile());
            let mut openssl = program("openssl").unwrap();
            openssl.args(["s_client", "-connect", &to, "-verify_hostname", host, "-CAfile"]);
            openssl.arg(&ca).arg("-verify_return_error");
            if host == ip {
                openssl.arg("-noservername");
            } else {
                openssl.args(["-servername", host]);
            }
            let verdict = talk(&mut openssl, b"");
            let is_good = verdict.stdout.contains("Verify return code: 0 (ok)");
            let case = format!("CN={cn} DNS={dns:?} IP={addresses:?} for {host}");
            assert_eq!(is_good, said.is_empty(), "{case}: {said:?}\n{}", verdict.stderr);
        }
    }
}

#[test]
fn what_is_no_x509_in_a_chain_is_told() {
    let own = leaf("bot", &[]);
    let junk = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let said = findings(&[&own.cert, junk], &own, &["bot.example.com"], meanwhile());
    assert_eq!(said, [FindingKind::Unreadable { place: 2 }]);
    assert!(only(&said).contains("openssl x509 -text"));
}

#[test]
fn a_server_tells_what_it_finds_at_its_start_and_counts_the_days() {
    let mut soon = params("bot", &["bot.example.com"], &[]);
    let now = SystemTime::now();
    soon.not_after = (now + 10 * DAY + DAY / 2).into();
    let own = self_signed(&soon);
    let mut bot = ringhook::Bot::without_secret("other", "/other");
    bot.host = Some("other.example.com".to_owned());
    let tls = TlsConfig::builder().certificate(source(&own)).build().unwrap();
    let server = TestServer::with(|server| server.tls(tls).bot(bot));
    let notices = server.handle.notices();
    let has = |part: &str| notices.iter().any(|notice| notice.contains(part));
    assert!(has("\"bot\" expires in 10 day(s)"), "{notices:?}");
    assert!(has("is for bot.example.com, not for other.example.com"), "{notices:?}");
    let report = server.handle.report();
    assert_eq!(report.certificate_expires_in_days, Some(10));
    assert_eq!((report.certificate_reloads, report.certificate_reload_failures), (0, 0));
}

// Encrypted keys

/// A directory in which `openssl` has made a certificate and a plain key.
struct OpenSsl(tempfile::TempDir);

impl OpenSsl {
    fn new() -> Option<Self> {
        program("openssl")?;
        let openssl = Self(tempfile::tempdir().unwrap());
        openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out plain.pem");
        openssl.run("req -x509 -new -key plain.pem -out cert.pem -days 30 -subj /CN=localhost");
        Some(openssl)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Runs `openssl` with `args`, split at spaces, in the directory.
    fn run(&self, args: &str) {
        let mut command = Command::new("openssl");
        succeed(command.args(args.split(' ')).current_dir(self.0.path()));
    }

    fn load(&self, key: &Path, password: Option<KeyPassword>) -> Result<TlsConfig, String> {
        let source = CertificateSource::files(self.path("cert.pem"), key);
        let source = password.into_iter().fold(source, CertificateSource::password);
        let built = TlsConfig::builder().certificate(source).build();
        built.map_err(|error| {
            let text = error.to_string();
            assert_eq!(error.kind(), ringhook::ErrorKind::Certificate, "{text}");
            assert!(!text.contains('\n') && !text.contains("s3cret"), "{text}");
            text
        })
    }
}

#[test]
fn encrypted_keys_are_opened_with_their_password_and_no_other() {
    let Some(openssl) = OpenSsl::new() else { return };
    let right = || KeyPassword::new("s3cret pass");
    fs::write(openssl.path("password"), "s3cret pass\nthe next line\n").unwrap();
    for (name, how) in [
        ("default", ""),
        ("aes128", " -v2 aes-128-cbc"),
        ("aes256-sha1", " -v2 aes-256-cbc -v2prf hmacWithSHA1"),
        ("aes256-sha512", " -v2 aes-256-cbc -v2prf hmacWithSHA512"),
        ("des3", " -v2 des3"),
        ("scrypt", " -scrypt -scrypt_N 1024"),
    ] {
        let key = openssl.path(&format!("{name}.pem"));
        openssl.run(&format!(
            "pkcs8 -topk8{how} -passout file:password -in plain.pem -out {name}.pem"
        ));
        assert!(fs::read_to_string(&key).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY"));
        openssl.load(&key, Some(right())).unwrap_or_else(|error| panic!("{name}: {error}"));
        openssl.load(&key, Some(KeyPassword::from_file(openssl.path("password")))).unwrap();
        let missing = openssl.load(&key, None).unwrap_err();
        assert!(missing.contains("the key is encrypted: give its password"), "{missing}");
        for wrong in ["", "s3cret", "s3cret pass "] {
            let error = openssl.load(&key, Some(KeyPassword::new(wrong))).unwrap_err();
            let expected = "the password does not open the encrypted key";
            assert!(error.ends_with(expected), "{name}: {error}");
        }
    }
}

#[test]
fn an_encrypted_key_serves_from_the_file_of_its_certificate_too() {
    let Some(openssl) = OpenSsl::new() else { return };
    openssl.run("pkcs8 -topk8 -passout pass:s3cret -in plain.pem -out key.pem");
    let read = |name| fs::read_to_string(openssl.path(name)).unwrap();
    let both = openssl.path("both.pem");
    fs::write(&both, read("cert.pem") + &read("key.pem").replace('\n', "\r\n")).unwrap();
    let source = CertificateSource::files(&both, &both).password(KeyPassword::new("s3cret"));
    let server = serving(TlsConfig::builder().certificate(source));
    assert_eq!(connect(&server, None).post(&update(1)).status, 200);
}

#[test]
fn keys_that_cannot_be_opened_are_told_in_one_line() {
    let Some(openssl) = OpenSsl::new() else { return };
    let password = || Some(KeyPassword::new("s3cret"));
    openssl.run("ec -aes128 -passout pass:s3cret -in plain.pem -out old.pem");
    let old = openssl.path("old.pem");
    assert!(fs::read_to_string(&old).unwrap().contains("Proc-Type: 4,ENCRYPTED"));
    for password in [None, password()] {
        let error = openssl.load(&old, password).unwrap_err();
        assert!(error.contains("old form") && error.contains("openssl pkcs8 -topk8"), "{error}");
    }
    openssl.run("pkcs8 -topk8 -passout pass:s3cret -in plain.pem -out new.pem");
    let new = fs::read_to_string(openssl.path("new.pem")).unwrap();
    let key = openssl.path("key.pem");
    for (text, expected) in [
        (&new[..new.len() / 2], "cut off"),
        (&new.replacen("\nMI", "\nAA", 1), "malformed"),
        (&new.replacen('\n', "\n!!!!", 1), "not base64"),
    ] {
        fs::write(&key, text).unwrap();
        let error = openssl.load(&key, password()).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let nowhere = KeyPassword::from_file(openssl.path("nowhere"));
    let error = openssl.load(&openssl.path("new.pem"), Some(nowhere.clone())).unwrap_err();
    assert!(
        error.starts_with("password of the key, ") && error.contains("No such file"),
        "{error}"
    );
    assert_eq!(format!("{:?}", KeyPassword::new("s3cret")), "KeyPassword(hidden)");
    // A key that is not encrypted needs no password, and does not look for it.
    openssl.load(&openssl.path("plain.pem"), Some(nowhere)).unwrap();
}
