//! What `ringhook serve` says of bad keys and certificates.

use std::path::PathBuf;

use crate::{binary::process::run, support::pki::Pki};

#[test]
fn the_command_says_it_in_one_line_and_exits_with_1() {
    let (pki, other) = (Pki::ecdsa(), Pki::ecdsa());
    let files = |cert: PathBuf, key: PathBuf| {
        let (cert, key) = (cert.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned());
        let args = ["serve", "--listen", "127.0.0.1:0", "--cert", &cert, "--key", &key];
        run(pki.dir(), &args)
    };
    for (cert, key, cause) in [
        (pki.cert_file(), other.key_file(), "does not belong to"),
        (pki.key_file(), pki.cert_file(), "swapped"),
        (pki.dir().join("nowhere.pem"), pki.key_file(), "No such file"),
    ] {
        let (code, stdout, stderr) = files(cert, key);
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("ringhook: ") && stderr.contains(cause), "{stderr}");
    }
}
