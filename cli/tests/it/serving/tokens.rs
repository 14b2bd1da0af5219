//! A bot's token in the path of its webhook, as many bots have it: it is served, and shown nowhere.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use crate::{
    binary::process::{Process, ringhook, run},
    support::{self, SECRET, bot_api::TOKEN, client::Client, pki::Pki, request_to, update},
};

/// What must be seen nowhere.
fn secret() -> &'static str {
    TOKEN.split_once(':').unwrap().1
}

fn path() -> String {
    format!("/bot{TOKEN}")
}

/// Writes a config with the token wherever people put it.
fn write_config(dir: &Path, path: &str, more: &str) {
    let config = format!(
        "[webhook]\napi_root = 'http://127.0.0.1:9/{TOKEN}'\nwatch = false\n\
         [dispatch]\ndead_letters = 'dead-{TOKEN}'\n\
         [[bot]]\nname = 'shop'\npath = '{path}'\nsecret_token = '{SECRET}'\ntoken = '{TOKEN}'\n\
         url = 'https://h.example:8443{path}'\n{more}"
    );
    fs::write(dir.join("ringhook.toml"), config).unwrap();
}

#[track_caller]
fn assert_hidden(text: &str) {
    assert!(!text.contains(secret()), "{text}");
}

#[test]
fn a_server_with_a_token_in_its_path_serves_it_and_does_not_show_it() {
    let pki = Pki::ecdsa();
    write_config(pki.dir(), &path(), "");
    let mut command = ringhook(pki.dir());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"])
        .args(["--cert", "cert.pem", "--key", "key.pem", "--output", "null", "--report", "report"])
        .args(["--admin", "127.0.0.1:0", "--log-level", "trace"]);
    let server = Process::start(command);
    let lines = server.stderr();
    let hidden = format!("https://{}/bot(hidden)", server.addr);
    assert!(lines.contains(&format!("ready {hidden}")), "{lines:#?}");
    assert!(lines.contains(&format!("  url        {hidden}  (shop)")), "{lines:#?}");
    let mut client = Client::connect(server.addr, &pki);
    let mut send = |path: &str, secret: &str| {
        client.send(&request_to(path, secret, &update(1)));
        client.response().status
    };
    // The second is a copy.
    assert_eq!((send(&path(), SECRET), send(&path(), SECRET)), (200, 200));
    assert_eq!((send(&path(), "wrong"), send(&format!("{}x", path()), SECRET)), (403, 404));
    let admin = lines.iter().find_map(|line| line.split_once("admin ")?.1.split_once("http://"));
    let mut probe = TcpStream::connect(admin.unwrap().1).unwrap();
    probe.write_all(b"GET /incidents HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut incidents = String::new();
    probe.read_to_string(&mut incidents).unwrap();
    assert!(incidents.contains("auth_failed"), "{incidents}");
    // A reload whose config is wrong in the very path.
    write_config(pki.dir(), &format!("{}?", path()), "");
    server.signal("HUP");
    let is_told = |line: &String| line.contains("config not reloaded");
    support::wait_until("the reload fails", || server.stderr().iter().any(is_told));
    drop(client);
    let ended = server.terminate();
    assert_eq!(ended.status.code(), Some(0));
    let stderr = ended.stderr.join("\n");
    assert!(stderr.contains("/bot(hidden)?") && stderr.contains("dropped a copy"), "{stderr}");
    for text in [&stderr, &incidents, &fs::read_to_string(pki.dir().join("report")).unwrap()] {
        assert_hidden(text);
    }
}

#[test]
fn a_printed_config_shows_no_token_and_is_refused_where_one_was_hidden() {
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path(), &path(), "");
    let print = ["serve", "--config", "ringhook.toml", "--print-config"];
    let (code, printed, stderr) = run(dir.path(), &print);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_hidden(&printed);
    assert!(printed.contains("path = \"/bot(hidden)\""), "{printed}");
    // Nor a password.
    let with = |more: &str| write_config(dir.path(), "/x", more);
    with("[[bot]]\nname = 'b'\npath = '/b'\nauth = 'none'\nurl = 'https://me:xyzzy@h.example/b'\n");
    let (code, other, _) = run(dir.path(), &print);
    assert!(code == 0 && other.contains("https://(hidden)@h.example/b"), "{code} {other}");
    // A server must not listen at another path without a word.
    fs::write(dir.path().join("ringhook.toml"), printed).unwrap();
    let (code, _, stderr) = run(dir.path(), &print);
    assert_eq!(code, 2);
    assert!(stderr.contains("bot.path = \"/bot(hidden)\": expected what was there"), "{stderr}");
}

#[test]
fn no_command_shows_what_was_typed_with_a_token_in_it() {
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path(), &path(), "");
    let bad = format!("http://127.0.0.1:x/bot{TOKEN}");
    let url = format!("http://127.0.0.1:9/bot{TOKEN}");
    let config = ["--config", "ringhook.toml"];
    let file = format!("no-file-{TOKEN}");
    let commands: [&[&str]; 12] = [
        &["poll", "--api-root", &bad],
        &["poll", "--config", &file],
        &["serve", "--listen", &format!("unix:/none/{TOKEN}"), "--config", "ringhook.toml"],
        &["serve", "--output", &format!("ndjson:none/{TOKEN}")],
        &["serve", "--no-such-flag", TOKEN],
        &["send", "--url", &url, "--timeout", "2s"],
        &["send", "--url", &format!("ftp://{TOKEN}")],
        &["send", "--listen", "127.0.0.1:9", "--json", config[0], config[1]],
        &["webhook", "info", config[0], config[1]],
        &["webhook", "info", "--json", "--api-root", &url, config[0], config[1]],
        &["doctor", "--no-post", "--json", config[0], config[1]],
        &["journal", "ls", "--data-dir", &file],
    ];
    for args in commands {
        let (code, stdout, stderr) = run(dir.path(), args);
        assert_ne!(code, 101, "{stderr}");
        let text = stdout + &stderr;
        assert!(!text.is_empty());
        assert_hidden(&text);
    }
    write_config(
        dir.path(),
        "/shop",
        &format!("[[bot]]\nname = '{TOKEN}'\npath = '/x'\nauth = 'none'\n"),
    );
    let (code, _, stderr) = run(dir.path(), &["serve", config[0], config[1]]);
    assert_eq!(code, 2);
    assert!(stderr.contains("bot.name = (hidden)"), "{stderr}");
    assert_hidden(&stderr);
}
