//! The log: what it says, how often, and what it never says.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    process::Stdio,
};

use serde_json::Value;

use crate::{
    binary::process::{self, Process},
    support::{
        PATH, PATIENCE,
        client::{self, Client},
        pki::Pki,
        request_to, update, wait_until,
    },
};

/// What must be seen nowhere is marked so.
const MARK: &str = "xyzzy";
const SECRET: &str = "secret-xyzzy-token";

/// A server with one bot whose secrets are marked.
fn start(pki: &Pki, args: &[&str]) -> Process {
    let config = format!(
        "[[bot]]\nname = 'shop'\npath = '{PATH}'\nsecret_token = '{SECRET}'\n\
         basic_auth = 'user-xyzzy:password-xyzzy'\n[[bot]]\nname = 'news'\npath = '/news'\n\
         secret_token = 'another-xyzzy'\n"
    );
    fs::write(pki.dir().join("ringhook.toml"), config).unwrap();
    let mut command = process::ringhook(pki.dir());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"])
        .args(["--cert", "cert.pem", "--key", "key.pem", "--output", "null"])
        .args(args);
    Process::start(command)
}

/// The lines that are JSON.
fn json(lines: &[String]) -> Vec<Value> {
    let objects = lines.iter().filter(|line| line.starts_with('{'));
    objects.map(|line| serde_json::from_str(line).expect("a whole object")).collect()
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

#[test]
fn no_secret_no_text_no_query_and_no_bytes_of_a_peer_are_ever_written() {
    let pki = Pki::ecdsa();
    let args = ["--log-format", "json", "--log-level", "trace", "--admin", "127.0.0.1:0"];
    let process = start(&pki, &args);
    let authorization = "Authorization: Basic dXNlci14eXp6eTpwYXNzd29yZC14eXp6eQ==\r\n";
    let with = |path: &str, secret: &str, fields: &str, body: &str| {
        let bytes = String::from_utf8(request_to(path, secret, body)).unwrap();
        bytes.replacen("\r\n", &format!("\r\n{fields}"), 1).into_bytes()
    };
    let marked = update(1).replace("hello", "text-xyzzy");
    let mut client = Client::connect(process.addr, &pki);
    let mut send = |request: Vec<u8>| {
        client.send(&request);
        client.response().status
    };
    assert_eq!(send(with(PATH, SECRET, authorization, &marked)), 200);
    assert_eq!(send(with(&format!("{PATH}?key=query-xyzzy"), SECRET, authorization, &marked)), 200);
    assert_eq!(send(with(PATH, "wrong-xyzzy", authorization, &marked)), 403);
    assert_eq!(send(with("/news?query-xyzzy", "wrong-xyzzy", "", &marked)), 403);
    assert_eq!(send(with("/path-xyzzy", "wrong-xyzzy", "X-xyzzy: xyzzy\r\n", &marked)), 404);
    let (whole, cut) = (marked.clone(), &marked[..marked.len() - 1]);
    assert_eq!(send(with(PATH, SECRET, authorization, cut)), 400);
    assert_eq!(send(with(PATH, SECRET, authorization, "\"xyzzy\"")), 400);
    assert_eq!(send(whole.replace("{\"", "POST \x1b[31mxyzzy\n").into_bytes()), 400);
    // A name that no certificate has, and a handshake that is none.
    let config = client::config(&pki, rustls::ALL_VERSIONS);
    assert!(Client::try_connect_as(process.addr, config, "sni-xyzzy.example").is_err());
    let bare = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(process.addr).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    };
    bare(b"POST /xyzzy HTTP/1.1\r\nHost: xyzzy\r\n\r\n");
    bare(&hello_to("\x1b]0;xyzzy\x07\nxyzzy"));

    let admin = process.stderr().into_iter().find_map(|line| {
        line.split_once("admin ")
            .map(|(_, rest)| rest.trim().trim_start_matches("http://").to_owned())
    });
    let mut probe = TcpStream::connect(admin.unwrap()).unwrap();
    probe.write_all(b"GET /incidents?xyzzy=xyzzy HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut shown = String::new();
    probe.read_to_string(&mut shown).unwrap();

    drop(client);
    let ended = process.terminate();
    assert_eq!(ended.status.code(), Some(0));
    let text = ended.stderr.join("\n");
    assert!(!text.contains(MARK), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(!shown.contains(MARK) && shown.contains("auth_failed"), "{shown}");
    // The log is there, and says what happened.
    let lines = json(&ended.stderr);
    let seen = |kind: &str| {
        let fields = |line: &&Value| {
            assert_eq!(line["address"], "127.0.0.1");
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            (text("level"), text("bot"), text("detail"))
        };
        let found: Vec<_> = of_kind(&lines, kind).iter().map(fields).collect();
        found
    };
    let line = |level: &str, bot: &str, detail: &str| {
        (level.to_owned(), bot.to_owned(), detail.to_owned())
    };
    assert_eq!(seen("auth_failed"), [line("WARN", "shop", "wrong"), line("WARN", "news", "wrong")]);
    assert_eq!(seen("unknown_path"), [line("DEBUG", "", "404 Not Found")]);
    assert_eq!(
        seen("malformed_update"),
        [line("WARN", "shop", "not_json"), line("WARN", "shop", "not_an_object")]
    );
    assert_eq!(seen("malformed_request"), [line("INFO", "", "400 Bad Request")]);
    assert_eq!(seen("handshake_failed").len(), 3);
    for message in ["started", "stopping", "stopped"] {
        let of_message = lines.iter().filter(|line| line["message"] == message);
        assert_eq!(of_message.count(), 1, "{message}");
    }
    assert!(lines.iter().all(|line| line["timestamp"].is_string()));
}

/// A TLS record with a ClientHello for `name`, whatever bytes that is made of.
fn hello_to(name: &str) -> Vec<u8> {
    fn sized<const N: usize>(bytes: &[u8]) -> Vec<u8> {
        let length = (bytes.len() as u32).to_be_bytes();
        [&length[4 - N..], bytes].concat()
    }
    let server_name = sized::<2>(&[&[0][..], &sized::<2>(name.as_bytes())].concat());
    let extensions = [&[0, 0][..], &sized::<2>(&server_name)].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized::<2>(&[0x13, 0x01, 0xc0, 0x2b]),
        &[1, 0],
        &sized::<2>(&extensions),
    ]
    .concat();
    let message = [&[1][..], &sized::<3>(&body)].concat();
    [&[22, 3, 1][..], &sized::<2>(&message)].concat()
}

#[test]
fn a_flood_of_one_kind_is_a_few_lines_and_a_number() {
    const FLOOD: u64 = 3000;
    let pki = Pki::ecdsa();
    let process = start(&pki, &["--log-format", "json", "--shards", "2"]);
    let mut clients = [(); 2].map(|()| Client::connect(process.addr, &pki));
    let wrong = request_to("/news", "wrong", "{}");
    for _ in 0..FLOOD / 100 {
        for client in &mut clients {
            client.send(&wrong.repeat(50));
        }
        for client in &mut clients {
            (0..50).for_each(|_| assert_eq!(client.response().status, 403));
        }
    }
    // Others are not affected.
    clients[0].send(&request_to(PATH, "wrong", "{}").repeat(1));
    assert_eq!(clients[0].response().status, 403);
    clients[0].send(b"nonsense\r\n\r\n");
    assert_eq!(clients[0].response().status, 400);
    drop(clients);
    let ended = process.terminate();
    let lines = json(&ended.stderr);
    let told = of_kind(&lines, "auth_failed");
    let (told, summaries): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|line| line["address"].is_string());
    // Ten for each period of ten seconds that it took.
    assert!(told.len() >= 10 && (told.len() as u64) < FLOOD / 10, "{}", told.len());
    let suppressed = summaries.iter().map(|line| {
        let text = line["message"].as_str().unwrap();
        let rest = text.strip_prefix("suppressed ").and_then(|it| it.split_once(" more of "));
        let (count, kind) = rest.expect("a summary");
        assert_eq!(kind, "auth_failed");
        count.parse::<u64>().unwrap()
    });
    assert_eq!(told.len() as u64 + suppressed.sum::<u64>(), FLOOD + 1);
    assert_eq!(of_kind(&lines, "malformed_request").len(), 1);
}

#[test]
fn a_level_leaves_out_what_is_less_important() {
    let pki = Pki::ecdsa();
    for (level, expected) in [("off", 0), ("error", 0), ("warn", 1), ("info", 2), ("debug", 3)] {
        let process = start(&pki, &["--log-level", level, "--log-format", "json"]);
        let mut client = Client::connect(process.addr, &pki);
        client.send(&request_to("/news", "wrong", "{}"));
        assert_eq!(client.response().status, 403);
        client.send(&request_to("/nowhere", "wrong", "{}"));
        assert_eq!(client.response().status, 404);
        client.send(b"nonsense\r\n\r\n");
        assert_eq!(client.response().status, 400);
        drop(client);
        let ended = process.terminate();
        let lines = json(&ended.stderr);
        let kinds = lines.iter().filter(|line| line["kind"].is_string()).count();
        assert_eq!(kinds, expected, "{level}: {lines:?}");
    }
}

#[test]
fn in_systemds_journal_a_line_of_text_has_no_time_of_its_own() {
    let pki = Pki::ecdsa();
    for is_journal in [true, false] {
        let path = pki.dir().join("stderr");
        let stderr = File::create(&path).unwrap();
        let stat = stderr.metadata().unwrap();
        let inode = if is_journal { stat.ino() } else { stat.ino() + 1 };
        let config = format!("[[bot]]\nname = 'shop'\npath = '{PATH}'\nauth = 'none'\n");
        fs::write(pki.dir().join("ringhook.toml"), config).unwrap();
        let mut command = process::ringhook(pki.dir());
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"])
            .args(["--output", "null"])
            .env("JOURNAL_STREAM", format!("{}:{inode}", stat.dev()))
            .stdout(Stdio::null())
            .stderr(stderr);
        let mut child = command.spawn().unwrap();
        let text = || fs::read_to_string(&path).unwrap();
        wait_until("it is ready", || text().contains("\nready "));
        child.kill().unwrap();
        child.wait().unwrap();
        let text = text();
        let line = text.lines().find(|line| line.contains("started")).expect("a line");
        assert_eq!(line.trim_start().starts_with("INFO started"), is_journal, "{line}");
        assert_eq!(line.starts_with("20"), !is_journal, "{line}");
        assert!(!line.contains('\x1b'), "no colours in a file: {line}");
    }
}

#[test]
fn formats_and_levels_that_are_none_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (flag, value, expected) in [
        ("--log-format", "xml", "text or json"),
        ("--log-level", "loud", "off, error, warn, info, debug or trace"),
    ] {
        let (code, _, stderr) = process::run(dir.path(), &["serve", flag, value]);
        assert_eq!(code, 2);
        assert!(stderr.contains(value) && stderr.contains(expected), "{stderr}");
    }
}
