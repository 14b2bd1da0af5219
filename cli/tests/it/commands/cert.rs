//! `ringhook cert` as people use it, and what openssl, which Telegram's sender is made with, says
//! of the same certificates.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

use insta::assert_snapshot;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::Value;

use crate::{
    binary::process::{Process, ringhook, run},
    support::{
        external::{Running, Said, program, succeed, talk},
        pki::{Authority, params, self_signed},
        terminal::Terminal,
    },
};

/// `ringhook cert` with `args`, split at spaces, in `dir`: exit code, stdout, stderr.
fn cert(dir: &Path, args: &str) -> (i32, String, String) {
    let args: Vec<_> = ["cert"].into_iter().chain(args.split_whitespace()).collect();
    run(dir, &args)
}

/// As [`cert`], as one text in which nothing changes from run to run.
fn said(dir: &Path, args: &str) -> String {
    let (code, out, err) = cert(dir, args);
    let mut text = format!("$ ringhook cert {args}\n");
    for (name, part) in [("stdout", out), ("stderr", err)] {
        if !part.is_empty() {
            text += &format!("--- {name}\n{part}");
        }
    }
    text += &format!("--- exit {code}\n");
    settle(&text, dir)
}

/// `text` without the test's directory, ports and dates.
fn settle(text: &str, dir: &Path) -> String {
    let text = text.replace(dir.to_str().unwrap(), "DIR");
    let mut settled = String::new();
    let mut rest = &*text;
    while let Some(place) = rest.find("20") {
        let date = rest.get(place..place + 20).filter(|date| {
            date.ends_with('Z') && date.as_bytes()[10] == b'T' && date.as_bytes()[13] == b':'
        });
        let length = if date.is_some() { 20 } else { 2 };
        settled += &rest[..place];
        settled += if date.is_some() { "DATE" } else { "20" };
        rest = &rest[place + length..];
    }
    let text = settled + rest;
    // 3650 days are fewer by the moment that has passed.
    text.replace("(3649 days)", "(N days)")
}

fn openssl(dir: &Path, args: &str) -> Command {
    let mut openssl = program("openssl").expect("asked for before");
    openssl.current_dir(dir).args(args.split_whitespace()).stdin(Stdio::null());
    openssl
}

fn has_openssl() -> bool {
    program("openssl").is_some()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn help() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_snapshot!("help", said(dir, "--help"));
    assert_snapshot!("help_new", said(dir, "new --help"));
    assert_snapshot!("help_csr", said(dir, "csr --help"));
    assert_snapshot!("help_check", said(dir, "check --help"));
    assert_snapshot!("help_import", said(dir, "import --help"));
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = [
        "new",
        "new --name bot.example.com --ip 203.0.113.7",
        "new --name https://bot.example.com/",
        "new --name 203.0.113.7",
        "new --name *.com",
        "new --ip 2001:db8::1",
        "new --name bot.example.com --days 0",
        "new --name bot.example.com --out x --cert y",
        "new --name bot.example.com --cert one --key one",
        "csr",
        "check",
        "check http://bot.example.com/",
        "check cert.pem --name a/b",
        "import file.p12 --password-env A --password-file B",
    ];
    let all = all.map(|args| said(dir, args));
    assert!(all.iter().all(|text| text.ends_with("--- exit 2\n")), "{all:#?}");
    assert_snapshot!("usage", all.join("\n"));
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "nothing is made");
}

#[test]
fn new_makes_what_telegram_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_snapshot!("new_ip", said(dir, "new --ip 203.0.113.7"));
    assert_snapshot!("new_name", said(dir, "new --name bot.example.com --out name"));
    assert_snapshot!("new_private_ip", said(dir, "new --ip 127.0.0.1 --out private"));
    let several = "new --name bot.example.com --name *.example.com --rsa --days 30 --out several";
    assert_snapshot!("new_several", said(dir, several));
    for out in ["", "name", "several"] {
        assert_eq!(mode(&dir.join(out).join("key.pem")), 0o600);
        assert_eq!(mode(&dir.join(out).join("cert.pem")), 0o644);
    }
    assert_eq!(mode(&dir.join("name")), 0o700);
    assert_snapshot!("check_ip", said(dir, "check cert.pem --name 203.0.113.7"));
    let names = said(dir, "check several/cert.pem --name shop.example.com");
    assert_snapshot!("check_names", names);
    assert_snapshot!("check_json", said(dir, "check cert.pem --json"));
    if !has_openssl() {
        return;
    }
    for (out, names) in [
        (".", &["203.0.113.7"][..]),
        ("name", &["bot.example.com"]),
        ("several", &["bot.example.com", "shop.example.com"]),
    ] {
        for name in names {
            let args = format!(
                "verify -purpose sslserver -verify_hostname {name} -CAfile {out}/cert.pem \
                 {out}/cert.pem"
            );
            assert!(succeed(&mut openssl(dir, &args)).stdout.ends_with("OK\n"));
        }
        let key = succeed(&mut openssl(dir, &format!("pkey -in {out}/key.pem -pubout"))).stdout;
        let of = format!("x509 -in {out}/cert.pem -noout -pubkey");
        assert_eq!(succeed(&mut openssl(dir, &of)).stdout, key);
    }
    let text = |out: &str| {
        succeed(&mut openssl(dir, &format!("x509 -in {out}/cert.pem -noout -text"))).stdout
    };
    let of_ip = text(".");
    assert!(
        of_ip.contains("Subject: CN = 203.0.113.7") || of_ip.contains("Subject: CN=203.0.113.7")
    );
    assert!(of_ip.contains("DNS:203.0.113.7\n") && !of_ip.contains("IP Address:"), "{of_ip}");
    assert!(of_ip.contains("NIST CURVE: P-256"), "{of_ip}");
    assert!(text("several").contains("Public-Key: (2048 bit)"));
    // An address is no address to it: a client that looks for one does not match such a name.
    let as_address = "verify -verify_ip 203.0.113.7 -CAfile cert.pem cert.pem";
    assert!(!talk(&mut openssl(dir, as_address), b"").status.success());
}

#[test]
fn nothing_is_overwritten_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for name in ["key.pem", "cert.pem", "request.csr"] {
        fs::write(dir.join(name), "precious").unwrap();
    }
    fs::create_dir(dir.join("half")).unwrap();
    fs::write(dir.join("half/cert.pem"), "precious").unwrap();
    fs::create_dir(dir.join("link")).unwrap();
    symlink("nowhere", dir.join("link/key.pem")).unwrap();
    let all = [
        "new --name bot.example.com",
        "new --name bot.example.com --out half",
        "new --name bot.example.com --out link",
        "new --name bot.example.com --cert new.pem --key cert.pem",
        "csr --name bot.example.com",
    ];
    let all = all.map(|args| said(dir, args));
    assert!(all.iter().all(|text| text.ends_with("--- exit 1\n")), "{all:#?}");
    assert_snapshot!("is_there", all.join("\n"));
    for name in ["key.pem", "cert.pem", "request.csr", "half/cert.pem"] {
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), "precious");
    }
    assert!(!dir.join("half/key.pem").exists() && !dir.join("new.pem").exists());
    // With --force both are new, and only the owner may read the key, whatever it was before.
    fs::set_permissions(dir.join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = cert(dir, "new --name bot.example.com --force");
    assert_eq!(code, 0, "{err}");
    assert_eq!(mode(&dir.join("key.pem")), 0o600);
    assert!(fs::read_to_string(dir.join("cert.pem")).unwrap().contains("BEGIN CERTIFICATE"));
    // A place where nothing can be written, whatever the user.
    let nowhere = said(dir, "new --name bot.example.com --out cert.pem");
    assert!(nowhere.ends_with("--- exit 1\n"), "{nowhere}");
}

#[test]
fn files_beside_the_two_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    fs::write(dir.join("cert.pem.new"), "precious").unwrap();
    fs::write(dir.join("key.pem.new"), "precious").unwrap();
    let (code, _, err) = cert(dir, "new --name bot.example.com");
    assert_eq!(code, 0, "{err}");
    assert_eq!((&*read("cert.pem.new"), &*read("key.pem.new")), ("precious", "precious"));
    let (code, _, err) = cert(dir, "new --name bot.example.com --cert x.pem --key x.pem.new");
    assert_eq!(code, 0, "{err}");
    assert!(read("x.pem").contains("BEGIN CERTIFICATE"));
    assert!(read("x.pem.new").contains("BEGIN PRIVATE KEY"));
    assert_eq!(fs::read_dir(dir).unwrap().count(), 6, "nothing half is left");
}

#[test]
fn what_force_replaces_stays_until_both_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("d")).unwrap();
    fs::write(dir.join("key.pem"), "precious").unwrap();
    let nowhere = "/proc/cert.pem";
    for (args, expected) in [
        ("new --name bot.example.com --force --key key.pem --cert ./key.pem", 2),
        ("new --name bot.example.com --force --key key.pem --cert d/../key.pem", 2),
        ("new --name bot.example.com --force --key key.pem --cert d/", 2),
        ("new --name bot.example.com --force --key key.pem --cert d", 2),
        ("new --name bot.example.com --force --key key.pem --cert none/", 2),
        ("csr --name bot.example.com --force --key key.pem --csr d", 2),
        (&format!("new --name bot.example.com --force --key key.pem --cert {nowhere}"), 1),
    ] {
        let (code, _, err) = cert(dir, args);
        assert_eq!(code, expected, "{args}: {err}");
        assert_eq!(fs::read_to_string(dir.join("key.pem")).unwrap(), "precious", "{args}");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 2, "{args}: nothing is made");
    }
}

#[test]
fn a_request_is_one_that_authorities_take() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_snapshot!("csr", said(dir, "csr --name bot.example.com --name *.example.com"));
    assert_eq!(mode(&dir.join("key.pem")), 0o600);
    let (code, _, err) = cert(dir, "csr --name bot.example.com --rsa --csr r.csr --key r.pem");
    assert_eq!(code, 0, "{err}");
    if !has_openssl() {
        return;
    }
    for (csr, key) in [("request.csr", "key.pem"), ("r.csr", "r.pem")] {
        let verified = succeed(&mut openssl(dir, &format!("req -verify -noout -text -in {csr}")));
        assert!(verified.stderr.contains("verify OK"), "{}", verified.stderr);
        assert!(verified.stdout.contains("DNS:bot.example.com"), "{}", verified.stdout);
        let key = succeed(&mut openssl(dir, &format!("pkey -in {key} -pubout"))).stdout;
        let of = format!("req -in {csr} -noout -pubkey");
        assert_eq!(succeed(&mut openssl(dir, &of)).stdout, key);
    }
}

/// How long `text` says a certificate is valid.
fn days(text: &str) -> String {
    let before = &text[..text.find(" days)").unwrap()];
    format!("{} days", &before[before.rfind('(').unwrap() + 1..])
}

/// A certificate and what Telegram's rules say of it.
struct Case {
    name: &'static str,
    /// In PEM, leaf first.
    chain: String,
    host: &'static str,
    is_accepted: bool,
}

fn cases() -> Vec<Case> {
    let case = |name, chain: String, host, is_accepted| Case { name, chain, host, is_accepted };
    let own = |name, params: &CertificateParams, host, is_accepted| {
        case(name, self_signed(params).cert, host, is_accepted)
    };
    let mut expired = params("bot.example.com", &["bot.example.com"], &[]);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let mut early = params("bot.example.com", &["bot.example.com"], &[]);
    early.not_before = rcgen::date_time_ymd(2029, 1, 1);
    let with_usage = |usage| {
        let mut params = params("bot.example.com", &["bot.example.com"], &[]);
        params.key_usages = vec![usage];
        params
    };
    let with_extended = |usage| {
        let mut params = params("bot.example.com", &["bot.example.com"], &[]);
        params.extended_key_usages = vec![usage];
        params
    };
    let mut critical = params("bot.example.com", &["bot.example.com"], &[]);
    let mut odd = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    odd.set_criticality(true);
    critical.custom_extensions = vec![odd];
    let root = Authority::root("Root");
    let intermediate = root.authorize("Intermediate");
    let issued = intermediate.issue(&params("bot.example.com", &["bot.example.com"], &[]));
    let (leaf, middle) = (&issued.cert, &intermediate.cert);
    let by_root = |name, change: &dyn Fn(&mut CertificateParams), is_accepted| {
        let mut root = Authority::root("Root");
        change(&mut root.params);
        root.cert = root.params.self_signed(&root.key).unwrap().pem();
        let middle = root.authorize("Intermediate");
        let leaf = middle.issue(&params("bot.example.com", &["bot.example.com"], &[])).cert;
        case(name, format!("{leaf}{}{}", middle.cert, root.cert), "bot.example.com", is_accepted)
    };
    vec![
        own("a name", &params("", &["bot.example.com"], &[]), "bot.example.com", true),
        own("another name", &params("", &["bot.example.com"], &[]), "shop.example.com", false),
        own("upper case", &params("", &["Bot.Example.com"], &[]), "bot.example.com", true),
        own("CN alone", &params("bot.example.com", &[], &[]), "bot.example.com", true),
        own("CN beside DNS", &params("bot.example.com", &["a.b"], &[]), "bot.example.com", false),
        own("wildcard", &params("", &["*.example.com"], &[]), "bot.example.com", true),
        own("wildcard, two labels", &params("", &["*.example.com"], &[]), "a.b.example.com", false),
        own("wildcard, no label", &params("", &["*.example.com"], &[]), "example.com", false),
        own("wildcard of a TLD", &params("", &["*.com"], &[]), "example.com", false),
        own("wildcard in the CN", &params("*.example.com", &[], &[]), "bot.example.com", true),
        own("an address as DNS", &params("", &["203.0.113.7"], &[]), "203.0.113.7", true),
        own("an address as IP", &params("", &[], &["203.0.113.7"]), "203.0.113.7", false),
        own("an address as CN", &params("203.0.113.7", &[], &[]), "203.0.113.7", true),
        own("CN beside IP", &params("203.0.113.7", &[], &["203.0.113.7"]), "203.0.113.7", true),
        own("expired", &expired, "bot.example.com", false),
        own("not valid yet", &early, "bot.example.com", false),
        own("to sign", &with_usage(KeyUsagePurpose::DigitalSignature), "bot.example.com", true),
        own("for CRLs", &with_usage(KeyUsagePurpose::CrlSign), "bot.example.com", false),
        own(
            "for servers",
            &with_extended(ExtendedKeyUsagePurpose::ServerAuth),
            "bot.example.com",
            true,
        ),
        own(
            "for clients",
            &with_extended(ExtendedKeyUsagePurpose::ClientAuth),
            "bot.example.com",
            false,
        ),
        own("critical and unknown", &critical, "bot.example.com", false),
        case("no root", format!("{leaf}{middle}"), "bot.example.com", false),
        case("with its root", format!("{leaf}{middle}{}", root.cert), "bot.example.com", true),
        case("no intermediate", format!("{leaf}{}", root.cert), "bot.example.com", false),
        by_root("root: expired", &|root| root.not_after = rcgen::date_time_ymd(2021, 1, 1), false),
        by_root("root: early", &|root| root.not_before = rcgen::date_time_ymd(2029, 1, 1), false),
        by_root(
            "root: to sign certificates",
            &|root| root.key_usages = vec![KeyUsagePurpose::KeyCertSign],
            true,
        ),
        by_root(
            "root: to sign lists",
            &|root| root.key_usages = vec![KeyUsagePurpose::CrlSign],
            false,
        ),
        by_root("root: no constraints", &|root| root.is_ca = IsCa::NoCa, false),
        by_root("root: no authority", &|root| root.is_ca = IsCa::ExplicitNoCa, false),
        by_root(
            "root: no constraints, to sign certificates",
            &|root| {
                root.is_ca = IsCa::NoCa;
                root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            },
            true,
        ),
        by_root(
            "root: for clients",
            &|root| root.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            false,
        ),
        by_root(
            "root: of leaves",
            &|root| root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            false,
        ),
        by_root(
            "root: of one issuer",
            &|root| root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)),
            true,
        ),
    ]
}

/// Each certificate is uploaded as it is and served as it is.
#[test]
fn check_says_what_openssl_says() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut texts = Vec::new();
    for Case { name, chain, host, is_accepted } in cases() {
        fs::write(dir.join("cert.pem"), chain).unwrap();
        let text = said(dir, &format!("check cert.pem --name {host}"));
        let expected = if is_accepted { "--- exit 0\n" } else { "--- exit 1\n" };
        assert!(text.ends_with(expected), "{name}: {text}");
        texts.push(format!("# {name}\n{text}"));
        if has_openssl() {
            let args = format!(
                "verify -purpose sslserver -verify_hostname {host} -CAfile cert.pem -untrusted \
                 cert.pem cert.pem"
            );
            let openssl = talk(&mut openssl(dir, &args), b"");
            assert_eq!(openssl.status.success(), is_accepted, "{name}: {}", openssl.stderr);
        }
    }
    // How long is left changes every day.
    let texts = texts.join("\n");
    let lines = texts.lines().map(|line| match line.split_once(" (") {
        Some((before, after)) if after.ends_with(" days)") => format!("{before} (N days)"),
        _ => line.to_owned(),
    });
    assert_snapshot!("check_cases", lines.collect::<Vec<_>>().join("\n"));
}

/// As the guides have people make them.
#[test]
fn certificates_made_by_openssl_itself() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (args, host, is_accepted) in [
        ("-newkey rsa:2048 -subj /CN=203.0.113.7", "203.0.113.7", true),
        ("-newkey rsa:2048 -subj /O=Bots/CN=bot.example.com", "bot.example.com", true),
        (
            "-newkey rsa:4096 -subj /CN=a -addext subjectAltName=DNS:203.0.113.7",
            "203.0.113.7",
            true,
        ),
        (
            "-newkey rsa:2048 -subj /CN=a -addext subjectAltName=IP:203.0.113.7",
            "203.0.113.7",
            false,
        ),
        ("-newkey rsa:1024 -subj /CN=bot.example.com", "bot.example.com", false),
        (
            "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -subj /CN=bot.example.com",
            "bot.example.com",
            true,
        ),
        ("-newkey ed25519 -subj /CN=bot.example.com", "bot.example.com", true),
    ] {
        let make = format!("req -x509 -nodes {args} -keyout key.pem -out cert.pem");
        succeed(&mut openssl(dir, &make));
        let text = said(dir, &format!("check cert.pem --name {host}"));
        assert!(
            text.ends_with(&format!("--- exit {}\n", i32::from(!is_accepted))),
            "{args}: {text}"
        );
        let args = format!(
            "verify -auth_level 2 -purpose sslserver -verify_hostname {host} -CAfile cert.pem cert.pem"
        );
        let verified = talk(&mut openssl(dir, &args), b"");
        assert_eq!(verified.status.success(), is_accepted, "{args}: {}", verified.stderr);
    }
}

#[test]
fn what_is_uploaded_may_be_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let root = Authority::root("Root");
    let issued = root.issue(&params("bot.example.com", &["bot.example.com"], &[]));
    fs::write(dir.join("cert.pem"), &issued.cert).unwrap();
    fs::write(dir.join("root.pem"), &root.cert).unwrap();
    fs::write(dir.join("other.pem"), &Authority::root("Root").cert).unwrap();
    let code = |args: &str| cert(dir, args).0;
    assert_eq!(code("check cert.pem --name bot.example.com"), 1);
    assert_eq!(code("check cert.pem --name bot.example.com --uploaded root.pem"), 0);
    assert_eq!(code("check cert.pem --name bot.example.com --uploaded other.pem"), 1);
    assert_eq!(code("check root.pem --uploaded cert.pem"), 1);
    let mut expired = root;
    expired.params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    fs::write(dir.join("expired.pem"), expired.params.self_signed(&expired.key).unwrap().pem())
        .unwrap();
    let (code, out, _) = cert(dir, "check cert.pem --name bot.example.com --uploaded expired.pem");
    assert_eq!(code, 1);
    assert!(out.contains("FAIL  dates      \"Root\" has expired on 2021-01-01"), "{out}");
    let other = said(dir, "check cert.pem --name bot.example.com --uploaded other.pem");
    assert_snapshot!("check_other_uploaded", other.replace(&days(&other), "N days"));
}

#[test]
fn files_that_are_no_certificate_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("empty.pem"), "").unwrap();
    fs::write(dir.join("text.pem"), "hello").unwrap();
    fs::write(dir.join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let odd = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    fs::write(dir.join("odd.pem"), odd).unwrap();
    fs::write(dir.join("cut.pem"), &odd[..40]).unwrap();
    let all = ["missing.pem", "empty.pem", "text.pem", "key.pem", "odd.pem", "cut.pem"];
    let all = all.map(|file| said(dir, &format!("check {file}")));
    assert!(all.iter().all(|text| text.ends_with("--- exit 1\n")), "{all:#?}");
    assert_snapshot!("no_certificate", all.join("\n"));
}

/// The sender's way: its only trust is what was uploaded, and it looks for the URL's host among the
/// names.
fn as_sender(dir: &Path, addr: &str, ca: &str, host: &str) -> Said {
    let check = format!(
        "s_client -connect {addr} -CAfile {ca} -verify_hostname {host} -verify_return_error -brief"
    );
    // It sends a name for names only.
    let name = match host.parse::<std::net::IpAddr>() {
        Ok(_) => "-noservername".to_owned(),
        Err(_) => format!("-servername {host}"),
    };
    talk(openssl(dir, &check).args(name.split(' ')), b"")
}

#[test]
fn a_server_with_a_new_certificate_is_one_for_the_sender() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (out, args) in [
        ("ip", "new --ip 127.0.0.1 --out ip"),
        ("rsa", "new --ip 127.0.0.1 --rsa --out rsa"),
        ("name", "new --name localhost --name *.example.com --out name"),
    ] {
        let (code, _, err) = cert(dir, args);
        assert_eq!(code, 0, "{err}");
        let (cert_file, key) = (format!("{out}/cert.pem"), format!("{out}/key.pem"));
        let args = ["--cert", &cert_file, "--key", &key, "--data-dir", &format!("{out}/data")];
        let server = Process::serve(dir, &args);
        let addr = server.addr.to_string();
        let host = if out == "name" { "localhost" } else { "127.0.0.1" };
        let seen = said(dir, &format!("check https://{addr}/ --name {host}"));
        assert_snapshot!(
            format!("check_url_{out}"),
            seen.replace(&addr, "ADDRESS").replace(&server.addr.port().to_string(), "PORT")
        );
        let (code, out_json, _) = cert(dir, &format!("check https://{addr}/ --name {host} --json"));
        let json: Value = serde_json::from_str(&out_json).unwrap();
        assert_eq!((code, &json["accepted_as_uploaded"]), (0, &Value::Bool(true)), "{out_json}");
        let handshakes = json["handshakes"].as_array().unwrap();
        assert_eq!(handshakes.len(), if out == "name" { 4 } else { 2 });
        assert!(handshakes.iter().all(|one| one["error"].is_null()), "{out_json}");
        if !has_openssl() {
            continue;
        }
        let verified = as_sender(dir, &addr, &cert_file, host);
        assert!(verified.status.success(), "{}", verified.stderr);
        assert!(verified.stderr.contains("Verification: OK"), "{}", verified.stderr);
        let other = as_sender(dir, &addr, &cert_file, "other.example.org");
        assert!(!other.status.success(), "{}", other.stderr);
        let as_ip = format!(
            "s_client -connect {addr} -CAfile {cert_file} -verify_ip 127.0.0.1 -verify_return_error"
        );
        assert!(!talk(&mut openssl(dir, &as_ip), b"").status.success(), "no name is of type IP");
    }
}

#[test]
fn a_name_of_type_ip_is_refused_as_the_sender_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let issued = self_signed(&params("", &[], &["127.0.0.1"]));
    fs::write(dir.join("cert.pem"), &issued.cert).unwrap();
    fs::write(dir.join("key.pem"), &issued.key).unwrap();
    let server = Process::serve(dir, &["--cert", "cert.pem", "--key", "key.pem"]);
    let addr = server.addr.to_string();
    let (code, out, err) = cert(dir, &format!("check https://{addr}/"));
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("as a name of type IP only, and Telegram refuses that"), "{out}");
    assert_eq!(err, format!("ringhook: https://{addr}/: Telegram would refuse it\n"));
    if !has_openssl() {
        return;
    }
    assert!(!as_sender(dir, &addr, "cert.pem", "127.0.0.1").status.success());
    let as_ip = format!(
        "s_client -connect {addr} -CAfile cert.pem -verify_ip 127.0.0.1 -verify_return_error"
    );
    assert!(talk(&mut openssl(dir, &as_ip), b"").status.success());
}

#[test]
fn servers_of_one_version_and_of_none() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = said(dir, &format!("check https://{closed}/"));
    assert_snapshot!("check_nothing_listens", text.replace(&closed.to_string(), "ADDRESS"));
    // A server that does not speak TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"220 mail.example.com\r\n");
        }
    });
    let (code, out, _) = cert(dir, &format!("check https://{addr}/"));
    assert_eq!(code, 1);
    assert!(out.contains("FAIL  TLS        no handshake, TLS 1.2: "), "{out}");
    if !has_openssl() {
        return;
    }
    assert_eq!(cert(dir, "new --ip 127.0.0.1").0, 0);
    for (version, other) in [("1_2", "1.3"), ("1_3", "1.2")] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let args =
            format!("s_server -accept 127.0.0.1:{port} -cert cert.pem -key key.pem -tls{version}");
        let server = Running::start(&mut openssl(dir, &args));
        server.wait_for("ACCEPT");
        let (code, out, err) = cert(dir, &format!("check https://127.0.0.1:{port}/"));
        assert_eq!(code, 0, "{out}{err}");
        let version = version.replace('_', ".");
        let only = format!("warn  TLS        version {version} only (TLS {other}: ");
        assert!(out.contains(&only), "{out}");
    }
}

/// Telegram has no certificate of its own.
#[test]
fn a_server_that_demands_a_client_certificate_is_refused() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(cert(dir, "new --ip 127.0.0.1").0, 0);
    for (how, version, is_accepted) in [
        ("-Verify 1 -verify_return_error", "-tls1_3", false),
        ("-Verify 1 -verify_return_error", "-tls1_2", false),
        ("-Verify 1 -verify_return_error", "", false),
        ("-verify 1", "", true),
        ("-verify 1 -num_tickets 0", "-tls1_3", true),
    ] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let args = format!(
            "s_server -accept 127.0.0.1:{port} -cert cert.pem -key key.pem {how} {version}"
        );
        let server = Running::start(&mut openssl(dir, &args));
        server.wait_for("ACCEPT");
        let (code, out, err) = cert(dir, &format!("check https://127.0.0.1:{port}/"));
        assert_eq!(code, i32::from(!is_accepted), "{how} {version}: {out}{err}");
        let is_demanded = out.contains("it demands a client certificate, and Telegram has none");
        let is_asked = out.contains("warn  client     the server asks for a client certificate");
        assert_eq!((is_demanded, is_asked), (!is_accepted, is_accepted), "{how} {version}: {out}");
    }
}

#[test]
fn a_chain_from_a_server_is_judged_as_it_came() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let root = Authority::root("Root");
    let intermediate = root.authorize("Intermediate");
    let issued = intermediate.issue(&params("127.0.0.1", &["127.0.0.1"], &[]));
    fs::write(dir.join("key.pem"), &issued.key).unwrap();
    fs::write(dir.join("leaf.pem"), &issued.cert).unwrap();
    fs::write(dir.join("root.pem"), &root.cert).unwrap();
    fs::write(dir.join("full.pem"), format!("{}{}", issued.cert, intermediate.cert)).unwrap();
    for (chain, is_accepted) in [("full.pem", true), ("leaf.pem", false)] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let args = format!(
            "s_server -accept 127.0.0.1:{port} -cert leaf.pem -cert_chain {chain} -key key.pem"
        );
        let server = Running::start(&mut openssl(dir, &args));
        server.wait_for("ACCEPT");
        let addr = format!("127.0.0.1:{port}");
        let (code, out, _) = cert(dir, &format!("check https://{addr}/ --uploaded root.pem"));
        assert_eq!(code, i32::from(!is_accepted), "{out}");
        let is_missing = out.contains("the certificate of its issuer \"Intermediate\" is missing");
        assert_eq!((is_missing, out.contains("FAIL")), (!is_accepted, !is_accepted), "{out}");
        let sender = as_sender(dir, &addr, "root.pem", "127.0.0.1");
        assert_eq!(sender.status.success(), is_accepted, "{}", sender.stderr);
    }
}

/// A PKCS#12 file with a chain in the wrong order, made by openssl with `args`.
fn p12(dir: &Path, file: &str, args: &str) -> bool {
    let root = Authority::root("Root");
    let intermediate = root.authorize("Intermediate");
    let issued = intermediate.issue(&params("bot.example.com", &["bot.example.com"], &[]));
    let unrelated = Authority::root("Unrelated").cert;
    fs::write(dir.join("leaf.pem"), &issued.cert).unwrap();
    fs::write(dir.join("leaf.key"), &issued.key).unwrap();
    fs::write(dir.join("others.pem"), format!("{}{unrelated}{}", root.cert, intermediate.cert))
        .unwrap();
    let full = format!("{}{}", issued.cert, intermediate.cert);
    fs::write(dir.join("full.pem"), full).unwrap();
    let args = format!(
        "pkcs12 -export -inkey leaf.key -in leaf.pem -certfile others.pem -out {file} {args}"
    );
    // An openssl without its old algorithms makes no old files.
    let made = talk(&mut openssl(dir, &args), b"");
    assert!(made.status.success() || args.contains("-legacy"), "{}", made.stderr);
    made.status.success()
}

#[test]
fn pkcs12_becomes_pem() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("password"), "open \u{17e} sesame\n").unwrap();
    for (out, args) in [
        ("modern", "-passout file:password"),
        ("legacy", "-legacy -passout file:password"),
        ("old", "-legacy -certpbe PBE-SHA1-RC2-40 -keypbe PBE-SHA1-3DES -passout file:password"),
    ] {
        let file = format!("{out}.p12");
        if !p12(dir, &file, args) {
            eprintln!("skipped: openssl makes no {file}");
            continue;
        }
        let import = format!("import {file} --password-file password --out {out}");
        let text = said(dir, &import);
        if out == "modern" {
            assert_snapshot!("import", text);
        }
        assert!(text.ends_with("--- exit 0\n"), "{text}");
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(mode(&dir.join(out).join("key.pem")), 0o600);
        let ders = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(ders(&read(&format!("{out}/cert.pem"))), ders(&read("full.pem")), "{out}");
        let public =
            |key: &str| succeed(&mut openssl(dir, &format!("pkey -in {key} -pubout"))).stdout;
        assert_eq!(public(&format!("{out}/key.pem")), public("leaf.key"));
        let wrong = ringhook(dir)
            .args(["cert", "import", &file, "--password-env", "WRONG", "--out", "wrong"])
            .env("WRONG", "guessed")
            .output()
            .unwrap();
        let err = String::from_utf8(wrong.stderr).unwrap();
        assert_eq!(
            (wrong.status.code(), err.contains("the password does not open it")),
            (Some(1), true),
            "{err}"
        );
        assert!(!err.contains("guessed") && !dir.join("wrong").exists(), "{err}");
    }
    // Without a password, and from the environment.
    assert!(p12(dir, "open.p12", "-passout pass:"));
    assert_eq!(cert(dir, "import open.p12 --out open").0, 0);
    let all = [
        "import modern.p12 --out x",
        "import modern.p12 --out x --password-file missing",
        "import modern.p12 --out x --password-env RINGHOOK_NOT_SET",
        "import modern.p12 --out modern --password-file password",
        "import open.p12 --out x --alias absent",
        "import leaf.pem --out x",
        "import missing.p12 --out x",
    ];
    assert_snapshot!("import_failures", all.map(|args| said(dir, args)).join("\n"));
    assert!(!dir.join("x").exists());
}

#[test]
fn of_java_keystores_the_way_out_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("store.jks"), b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01").unwrap();
    fs::write(dir.join("junk.p12"), b"\x30\x82\x01\x00junk").unwrap();
    fs::write(dir.join("text.p12"), b"hello").unwrap();
    let all = ["import store.jks", "import junk.p12", "import text.p12"];
    assert_snapshot!("import_others", all.map(|args| said(dir, args)).join("\n"));
}

#[test]
fn on_a_terminal_there_are_colours_and_a_password_is_asked_for_without_an_echo() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(cert(dir, "new --ip 203.0.113.7").0, 0);
    let on_terminal = |args: &[&str]| {
        let mut command = ringhook(dir);
        command.arg("cert").args(args).env_remove("NO_COLOR");
        command
    };
    let (code, shown) = Terminal::start(on_terminal(&["check", "cert.pem"])).finish();
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("\x1b[32mok  \x1b[0m  key ") && shown.contains("\x1b[33mwarn"),
        "{shown}"
    );
    let mut plain = on_terminal(&["check", "cert.pem"]);
    plain.env("NO_COLOR", "1");
    let (_, shown) = Terminal::start(plain).finish();
    assert!(!shown.contains('\x1b'), "{shown}");
    if !has_openssl() {
        return;
    }
    fs::write(dir.join("password"), "sesame\n").unwrap();
    assert!(p12(dir, "store.p12", "-passout file:password"));
    for (typed, expected) in [("sesame\n", 0), ("guessed\n", 1)] {
        let mut terminal =
            Terminal::start(on_terminal(&["import", "store.p12", "--out", "out", "--force"]));
        terminal.wait_for("password of store.p12: ");
        terminal.type_in(typed);
        let (code, shown) = terminal.finish();
        assert_eq!(code, expected, "{shown}");
        assert!(!shown.contains(typed.trim()), "{shown}");
    }
}

/// `cat leaf.pem issuer.pem`, where the first one has no line feed at its end; and what else
/// editors and tools leave behind.
#[test]
fn a_chain_is_read_however_it_was_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let root = Authority::root("root");
    let issuer = root.authorize("issuer");
    let leaf = issuer.issue(&params("bot.example.com", &["bot.example.com"], &[]));
    let (leaf, issuer) = (leaf.cert.trim_end(), &issuer.cert);
    let check = |text: &str| {
        fs::write(dir.join("x.pem"), text).unwrap();
        let (_, out, err) = cert(dir, "check x.pem --name bot.example.com");
        out + &err
    };
    let good = check(&format!("{leaf}\n{issuer}"));
    assert!(!good.contains("issuer is missing"), "{good}");
    for text in [
        format!("{leaf}{issuer}"),
        format!("\u{feff}{leaf}\n\u{feff}{issuer}"),
        format!("  {leaf}\n  {issuer}"),
    ] {
        assert_eq!(check(&text), good, "{text}");
    }
    let told = check(&format!("{leaf}\n# {}\n{issuer}", issuer.lines().next().unwrap()));
    assert!(told.contains("passed over: line") && told.contains("a BEGIN in a comment"), "{told}");
    let told = check(&format!("{leaf}\nx {issuer}"));
    assert!(told.contains("a BEGIN that does not begin its line"), "{told}");
    let crl = issuer.replace("CERTIFICATE", "X509 CRL");
    let told = check(&format!("{leaf}\n{issuer}{crl}"));
    assert!(told.contains("passed over: line") && told.contains("X509 CRL"), "{told}");
}

#[test]
fn a_keystore_in_the_place_of_pem_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("x.p12"), b"\x30\x82\x04\x00\x02\x01\x03\x30").unwrap();
    fs::write(dir.join("x.jks"), b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01").unwrap();
    for (file, words) in
        [("x.p12", "ringhook cert import x.p12"), ("x.jks", "keytool -importkeystore")]
    {
        let (code, _, told) = cert(dir, &format!("check {file} --name bot.example.com"));
        assert_eq!(code, 1, "{told}");
        assert!(told.contains(words) && !told.contains("-inform der"), "{told}");
        let args = ["serve", "--listen", "127.0.0.1:0", "--cert", file, "--key", file];
        let (_, _, told) = run(dir, &args);
        assert!(told.contains(words), "{told}");
    }
}
