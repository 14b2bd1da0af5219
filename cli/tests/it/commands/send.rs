//! `ringhook send`: what it sends, to whom, and what it says where that is not taken.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use ringhook::update::UpdateKind;
use rustls::server::Acceptor;
use serde_json::Value;

use crate::{
    binary::process::{Process, ringhook, run},
    support::{
        pki::{Pki, params, self_signed},
        port::Port,
        wait_until,
    },
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A server in `dir` with its config there, whose updates go to the file `updates`.
fn serve(dir: &Path, config: &str) -> Process {
    fs::write(dir.join("ringhook.toml"), config).unwrap();
    Process::serve(dir, &["--config", "ringhook.toml", "--output", "ndjson:updates"])
}

/// `ringhook send` with the config in `dir`, to the server's first listener.
fn send(dir: &Path, server: &Process, args: &[&str]) -> (i32, String, String) {
    let at = server.addr.to_string();
    let all = [&["send", "--config", "ringhook.toml", "--listen", &at], args].concat();
    run(dir, &all)
}

/// What has come to the file `updates` in `dir`, once there are `count`.
fn updates(dir: &Path, count: usize) -> Vec<Value> {
    let read = || fs::read_to_string(dir.join("updates")).unwrap_or_default();
    wait_until(&format!("{count} updates are there"), || read().lines().count() >= count);
    let update = |line| {
        let line: Value = serde_json::from_str(line).unwrap();
        // With more than one bot, a line tells more than the update.
        line.get("update").unwrap_or(&line).clone()
    };
    read().lines().map(update).collect()
}

/// `text` without what differs from run to run: addresses, ids and times.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        for (place, word) in words.iter().enumerate() {
            let bare = word.trim_end_matches(',');
            let before = place.checked_sub(1).map_or("", |place| words[place]);
            let after = words.get(place + 1).map_or("", |word| word.trim_end_matches(','));
            let address =
                word.trim_end_matches(':').rfind(':').map(|at| word.split_at(at + 1)).and_then(
                    |(host, port)| {
                        let rest = port.trim_start_matches(|c: char| c.is_ascii_digit());
                        (port.len() > rest.len() + 3).then(|| format!("{host}PORT{rest}"))
                    },
                );
            let is_time = after == "ms" || (before == "in" && after == "s") || after == "a";
            let replaced = match address {
                Some(address) => address,
                None if is_number(bare) && bare.len() == 10 => "UPDATEID".to_owned(),
                None if is_time && bare.parse::<f64>().is_ok() => "TIME".to_owned(),
                None => (*word).to_owned(),
            };
            // Columns are as wide as what is in them.
            let is_gap = word.is_empty() && after.parse::<f64>().is_ok();
            if !is_gap {
                steady += &replaced;
                steady.push(' ');
            }
        }
        steady.truncate(steady.trim_end().len());
        steady.push('\n');
    }
    steady
}

/// Exit code, stdout and stderr as one text.
fn shown((code, out, said): (i32, String, String)) -> String {
    format!("exit code {code}\n-- stdout\n{}-- stderr\n{}", steady(&out), steady(&said))
}

/// A server of raw bytes that answers each request with the next of its answers, the last again and
/// again, and keeps what it gets.
struct Capture {
    addr: SocketAddr,
    /// The requests of each connection.
    connections: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Capture {
    /// `None` closes the connection without an answer.
    fn start(answers: &[Option<&str>]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut answers: Vec<_> =
            answers.iter().rev().map(|answer| answer.map(str::to_owned)).collect();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&connections);
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                kept.lock().unwrap().push(Vec::new());
                while let Some(request) = read_request(&mut stream) {
                    kept.lock().unwrap().last_mut().unwrap().push(request);
                    let answer = match answers.len() {
                        1 => answers[0].clone(),
                        _ => answers.pop().unwrap(),
                    };
                    let Some(answer) = answer else { break };
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        Self { addr, connections }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn requests(&self) -> Vec<String> {
        self.connections.lock().unwrap().concat()
    }
}

/// One request, or `None` at the end.
fn read_request(stream: &mut std::net::TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.unwrap().parse().unwrap() {
                return Some(text);
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

#[test]
fn every_kind_arrives_as_it_was_sent() {
    // The samples as they are on the wire.
    let capture = Capture::start(&[Some(OK)]);
    let dir = tempfile::tempdir().unwrap();
    let (code, _, said) = run(dir.path(), &["send", "--kind", "all", "--url", &capture.url("/")]);
    assert_eq!(code, 0, "{said}");
    let requests = capture.requests();
    assert_eq!(capture.connections.lock().unwrap().len(), 1, "all go on one connection");
    let bodies: Vec<_> =
        requests.iter().map(|request| request.split_once("\r\n\r\n").unwrap().1).collect();
    assert_eq!(bodies.len(), UpdateKind::ALL.len());
    for (kind, body) in UpdateKind::ALL.iter().zip(&bodies) {
        let begin = body.split_once(":{").unwrap().0.split_once(",\n").unwrap();
        assert_eq!(begin.1, format!("\"{kind}\""));
        assert!(begin.0.starts_with("{\"update_id\":1"), "{begin:?}");
        assert!(body.is_ascii() && body.len() < 4096, "{kind}");
    }

    // The same again, now to a server.
    fs::write(dir.path().join("samples"), bodies.join("\n")).unwrap();
    let server = Process::serve(dir.path(), &["--output", "ndjson:updates", "--report", "report"]);
    let at = server.addr.to_string();
    let args = ["send", "--listen", &at, "--file", "samples", "--keep-id"];
    let (code, out, said) = run(dir.path(), &args);
    assert_eq!((code, out.lines().count()), (0, bodies.len()), "{said}");
    let got = updates(dir.path(), bodies.len());
    for (body, kind) in bodies.iter().zip(UpdateKind::ALL) {
        let sent: Value = serde_json::from_str(body).unwrap();
        assert!(got.contains(&sent), "{kind}");
        let id = sent["update_id"].to_string();
        let line = out.lines().find(|line| line.contains(&id)).unwrap();
        assert!(line.starts_with(kind.as_str()) && line.contains("200 OK"), "{line}");
    }

    // Nothing is taken for a copy, unless it is one.
    assert_eq!(run(dir.path(), &args).0, 0);
    let (code, _, said) = run(dir.path(), &["send", "--listen", &at, "--file", "samples"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(updates(dir.path(), 2 * bodies.len()).len(), 2 * bodies.len());
    assert_eq!(server.terminate().status.code(), Some(0));
    let report: Value =
        serde_json::from_slice(&fs::read(dir.path().join("report")).unwrap()).unwrap();
    assert_eq!(report["updates_duplicate"], bodies.len());
}

#[test]
fn a_request_is_byte_for_byte_that_of_telegram() {
    let capture = Capture::start(&[Some(OK)]);
    let dir = tempfile::tempdir().unwrap();
    let update = "{\"update_id\":7,\n\"message\":{\"text\":\"\\u0416\"}}";
    fs::write(dir.path().join("update"), update).unwrap();
    fs::write(dir.path().join("token"), "s3cret\n").unwrap();
    let url = format!("http://me:pass@{}/hook?a=b", capture.addr);
    let args = ["send", "--url", &url, "--secret-token-file", "token", "--file", "update"];
    let args = [&args[..], &["--keep-id", "--count", "2"]].concat();
    let (code, _, said) = run(dir.path(), &args);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("pass") && !said.contains("s3cret"), "{said}");
    let expected = format!(
        "POST /hook?a=b HTTP/1.1\r\n\
         Host: {}\r\n\
         Authorization: Basic bWU6cGFzcw==\r\n\
         X-Telegram-Bot-Api-Secret-Token: s3cret\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\
         Connection: keep-alive\r\n\
         Accept-Encoding: gzip, deflate\r\n\
         \r\n\
         {update}",
        capture.addr,
        update.len()
    );
    assert_eq!(*capture.connections.lock().unwrap(), [vec![expected.clone(), expected]]);
}

#[test]
fn the_hello_is_that_of_telegram() {
    let dir = tempfile::tempdir().unwrap();
    for (host, name) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut acceptor = Acceptor::default();
            loop {
                acceptor.read_tls(&mut stream).unwrap();
                if let Some(accepted) = acceptor.accept().unwrap() {
                    let hello = accepted.client_hello();
                    return (hello.server_name().map(str::to_owned), hello.alpn().is_some());
                }
            }
        });
        let url = format!("https://{host}:{port}/");
        let (code, _, said) = run(dir.path(), &["send", "--url", &url, "--insecure"]);
        assert_eq!(code, 1, "{said}");
        assert_eq!(heard.join().unwrap(), (name.map(str::to_owned), false));
    }
}

#[test]
fn without_a_flag_it_finds_what_a_server_without_a_flag_has_made() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::serve(dir.path(), &["--output", "ndjson:updates"]);
    let at = server.addr.to_string();
    let sent = run(dir.path(), &["send", "--listen", &at]);
    insta::assert_snapshot!("a_message", shown(sent));
    for version in ["1.2", "1.3"] {
        let args = ["send", "--listen", &at, "--tls", version, "--json"];
        let (code, out, said) = run(dir.path(), &args);
        assert_eq!(code, 0, "{said}");
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["tls"], format!("TLS {version}"));
        assert_eq!((&told["taken"], &told["statuses"]["200"]), (&1.into(), &1.into()));
        assert_eq!(told["updates"][0]["kind"], "message");
        assert_eq!(told["updates"][0]["update_id"], told["first_update_id"]);
        assert_eq!(told["bot"], "default");
    }
    let args = ["send", "--listen", &at, "--kind", "poll,callback_query", "--count", "40"];
    let sent = run(dir.path(), &args);
    insta::assert_snapshot!("a_summary", shown(sent));
    assert_eq!(updates(dir.path(), 83).len(), 83);

    let start = Instant::now();
    let args = ["send", "--listen", &at, "--count", "5", "--rate", "10"];
    assert_eq!(run(dir.path(), &args).0, 0);
    assert!(start.elapsed().as_millis() >= 400, "{:?}", start.elapsed());
}

#[test]
fn bots_of_several_hosts_get_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = String::new();
    for name in ["a", "b", "c"] {
        let host = format!("{name}.example.com");
        let pair = self_signed(&params(&host, &[&host], &[]));
        fs::write(dir.path().join(format!("{name}.pem")), pair.cert).unwrap();
        fs::write(dir.path().join(format!("{name}.key")), pair.key).unwrap();
        let auth = match name {
            "c" => "basic_auth = 'me:pw'".to_owned(),
            _ => format!("secret_token = 'secret-{name}'"),
        };
        config += &format!(
            "[[bot]]\nname = '{name}'\npath = '/hook'\nhost = '{host}'\ncert = '{name}.pem'\n\
             key = '{name}.key'\n{auth}\n"
        );
    }
    let server = serve(dir.path(), &config);
    for (bot, kind) in [("a", "message"), ("b", "poll"), ("c", "inline_query")] {
        let (code, _, said) = send(dir.path(), &server, &["--bot", bot, "--kind", kind]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(&format!("https://{bot}.example.com:")), "{said}");
    }
    let got = updates(dir.path(), 3);
    for kind in ["message", "poll", "inline_query"] {
        assert!(got.iter().any(|update| update.get(kind).is_some()), "{kind}");
    }
    insta::assert_snapshot!("no_bot_chosen", shown(send(dir.path(), &server, &[])));
    insta::assert_snapshot!("no_such_bot", shown(send(dir.path(), &server, &["--bot", "d"])));

    // The public name may differ from what the bot takes.
    let renamed = config.replace("name = 'a'\n", "name = 'a'\nurl = 'https://bot.example.net/x'\n");
    fs::write(dir.path().join("ringhook.toml"), &renamed).unwrap();
    let refused = send(dir.path(), &server, &["--bot", "a"]);
    insta::assert_snapshot!("another_name", shown(refused));
    let (_, _, said) = send(dir.path(), &server, &["--bot", "a", "--insecure"]);
    assert!(said.contains("404 Not Found"), "{said}");
    let other = send(dir.path(), &server, &["--bot", "b", "--ca", "c.pem"]);
    insta::assert_snapshot!("another_certificate", shown(other));
}

#[test]
fn it_goes_by_every_kind_of_listener() {
    let dir = tempfile::tempdir().unwrap();
    let [plain, proxied] = [Port::reserve(), Port::reserve()];
    let config = format!(
        "[[listener]]\naddress = 'unix:hook.sock'\ntls = false\n\
         [[listener]]\naddress = 'unix:tls.sock'\n\
         [[listener]]\naddress = '{}'\ntls = false\n\
         [[listener]]\naddress = '{}'\nproxy_protocol = ['127.0.0.1']\nallow = ['telegram']\n\
         [[bot]]\nname = 'a'\npath = '/a'\nauth = 'none'\n",
        plain.addr, proxied.addr
    );
    let server = serve(dir.path(), &config);
    // The config's first listener, and the others by their address.
    let (code, _, said) = run(dir.path(), &["send", "--config", "ringhook.toml"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("http://localhost/a at unix:hook.sock for bot \"a\""), "{said}");
    let addresses = [
        "unix:hook.sock".to_owned(),
        "unix:tls.sock".to_owned(),
        plain.addr.to_string(),
        proxied.addr.to_string(),
        server.addr.to_string(),
    ];
    for address in &addresses {
        let args = ["send", "--config", "ringhook.toml", "--listen", address];
        let (code, _, said) = run(dir.path(), &args);
        assert_eq!(code, 0, "{address}: {said}");
    }
    assert_eq!(updates(dir.path(), 6).len(), 6);
    // A name that no certificate has does not matter where none is shown.
    let (code, ..) = run(dir.path(), &["send", "--config", "ringhook.toml", "--listen", "fd:hook"]);
    assert_eq!(code, 2);
}

#[test]
fn what_a_server_refuses_is_reported_with_a_fix() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[bot]]\nname = 'a'\npath = '/a'\nsecret_token = 'right'\n";
    let server = serve(dir.path(), config);
    let with = |config: &str, args: &[&str]| {
        fs::write(dir.path().join("ringhook.toml"), config).unwrap();
        shown(send(dir.path(), &server, args))
    };
    let wrong = config.replace("right", "wrong");
    let refused = with(&wrong, &["--kind", "message,poll"]);
    assert!(!refused.contains("wrong"), "{refused}");
    insta::assert_snapshot!("wrong_secret", refused);
    insta::assert_snapshot!("wrong_path", with(&config.replace("'/a'", "'/b'"), &[]));
    let plain = format!("{config}[[listener]]\naddress = '{}'\ntls = false\n", server.addr);
    insta::assert_snapshot!("plain_to_tls", with(&plain, &[]));
    let url = format!("https://{}/a", server.addr);
    let send_to =
        |args: &[&str]| shown(run(dir.path(), &[&["send", "--url", &url], args].concat()));
    insta::assert_snapshot!("no_secret_for_url", send_to(&["--insecure"]));
    insta::assert_snapshot!("address_only", send_to(&["--ca", "ringhook-data/cert.pem"]));
    let localhost = format!("https://localhost:{}/a", server.addr.port());
    let unknown = run(dir.path(), &["send", "--url", &localhost]);
    assert_eq!(unknown.0, 1);
    assert!(
        unknown.2.contains("no trusted authority") && unknown.2.contains("--ca"),
        "{unknown:?}"
    );
    fs::write(dir.path().join("token"), "right").unwrap();
    let args = ["send", "--url", &localhost, "--ca", "ringhook-data/cert.pem"];
    let args = [&args[..], &["--secret-token-file", "token"]].concat();
    let taken = run(dir.path(), &args);
    assert_eq!(taken.0, 0, "{taken:?}");
}

#[test]
fn a_list_that_this_machine_is_not_on_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bot = "[[bot]]\nname = 'a'\npath = '/a'\nauth = 'none'\n";
    let server = serve(dir.path(), &format!("[server]\nallow = ['telegram']\n{bot}"));
    let (code, out, said) = send(dir.path(), &server, &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    // At which moment the connection is found closed is a matter of luck.
    assert!(said.contains("was not taken: the server has closed the connection ("), "{said}");
    let fix = "127.0.0.1 is not on the list server.allow or listener.allow: put it there, or send \
                  by a Unix socket\n";
    assert!(said.ends_with(fix), "{said}");
    drop(server);
    let other = "[[bot]]\nname = 'b'\npath = '/b'\nauth = 'none'\n";
    let server = serve(dir.path(), &format!("{bot}allow = ['telegram']\n{other}"));
    let sent = send(dir.path(), &server, &["--bot", "a"]);
    insta::assert_snapshot!("not_on_the_bots_list", shown(sent));
}

#[test]
fn other_servers_answers_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let answer = |answer: Option<&str>| {
        let capture = Capture::start(&[answer]);
        shown(run(dir.path(), &["send", "--url", &capture.url("/hook"), "--timeout", "1s"]))
    };
    let with = |head: &str| answer(Some(&format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n")));
    insta::assert_snapshot!("status_401", with("401 Unauthorized"));
    insta::assert_snapshot!("status_302", with("302 Found"));
    insta::assert_snapshot!("status_503", with("503 Service Unavailable\r\nRetry-After: 1"));
    insta::assert_snapshot!("status_500", with("500 Internal Server Error"));
    insta::assert_snapshot!("status_100", answer(Some("HTTP/1.1 100 Continue\r\n\r\n")));
    insta::assert_snapshot!("bare_line_feeds", answer(Some("HTTP/1.1 200 OK\n\n")));
    insta::assert_snapshot!("no_answer", answer(None));
    insta::assert_snapshot!("late_answer", answer(Some("HTTP/1.1 200")));
    // A webhook reply.
    let body = "{\"method\":\"sendMessage\"}";
    let capture = Capture::start(&[Some(&format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))]);
    let (_, out, _) = run(dir.path(), &["send", "--url", &capture.url("/"), "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["updates"][0]["body"], body);
}

#[test]
fn a_connection_that_has_ended_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let closing = OK.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    for (second, connections) in [(None, 2), (Some(closing.as_str()), 2)] {
        // The first update is taken, then the connection ends under the second or after it.
        let capture = Capture::start(&[Some(OK), second, Some(OK)]);
        let args = ["send", "--url", &capture.url("/"), "--count", "3"];
        let (code, out, said) = run(dir.path(), &args);
        assert_eq!((code, out.lines().count()), (0, 3), "{said}");
        assert_eq!(capture.connections.lock().unwrap().len(), connections);
    }
}

#[test]
fn nothing_is_sent_where_something_is_missing() {
    let pki = Pki::ecdsa();
    let dir = pki.dir();
    insta::assert_snapshot!("no_data_directory", shown(run(dir, &["send"])));
    let port = Port::reserve();
    let at = port.addr.to_string();
    let config = "[tls]\ncert = 'cert.pem'\nkey = 'key.pem'\n\
                  [[bot]]\nname = 'a'\npath = '/a'\nauth = 'none'\n";
    fs::write(dir.join("config"), config).unwrap();
    let args = ["send", "--config", "config", "--listen", &at];
    insta::assert_snapshot!("nothing_listens", shown(run(dir, &args)));
    let (code, out, _) = run(dir, &[&args[..], &["--json"]].concat());
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["taken"], &told["answered"]), (1, &0.into(), &0.into()));
    assert!(told["error"].as_str().unwrap().contains("nothing listens there"), "{told}");
    let socket = ["send", "--config", "config", "--listen", "unix:nowhere.sock"];
    insta::assert_snapshot!("no_socket", shown(run(dir, &socket)));

    fs::write(dir.join("broken"), "{\"update_id\":1}\n{\"secret\": ").unwrap();
    fs::write(dir.join("message"), "{\"message_id\":1,\"text\":\"secret\"}").unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    for file in ["broken", "message", "empty", "missing"] {
        let failed = shown(run(dir, &[&args[..], &["--file", file]].concat()));
        assert!(!failed.contains("secret"), "{failed}");
        insta::assert_snapshot!(format!("file_{file}"), failed);
    }
    for wrong in [
        &["--kind", "teleported"][..],
        &["--count", "0"],
        &["--rate", "0"],
        &["--tls", "1.1"],
        &["--keep-id"],
        &["--secret-token-file", "x"],
        &["--url", "bot.example.com"],
        &["--config", "missing"],
        &["--config", "config", "--ca", "missing"],
        &["--config", "config", "--ca", "key.pem"],
        &["--config", "config", "--bot", "b"],
        &["--file", "x", "--kind", "poll"],
    ] {
        let (code, out, said) = run(dir, &[&["send"], wrong].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{wrong:?}: {said}");
    }
}

#[test]
fn updates_come_from_standard_input_too() {
    let dir = tempfile::tempdir().unwrap();
    let capture = Capture::start(&[Some(OK)]);
    fs::write(dir.path().join("updates"), "{\"update_id\":5,\"poll\":{}}").unwrap();
    let mut command = ringhook(dir.path());
    command.args(["send", "--url", &capture.url("/"), "--file", "-", "--keep-id"]);
    command.stdin(fs::File::open(dir.path().join("updates")).unwrap());
    assert!(command.output().unwrap().status.success());
    assert!(capture.requests()[0].ends_with("\r\n\r\n{\"update_id\":5,\"poll\":{}}"));
}

#[test]
fn help_says_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(dir.path(), &["send", "--help"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!("help", out);
}
