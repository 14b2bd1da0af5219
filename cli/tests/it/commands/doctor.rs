//! `ringhook doctor`: what it looks at, what it says of it, and the codes it exits with.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use crate::{
    binary::process::{Process, ringhook},
    support::{
        TestServer,
        bot_api::{FakeBotApi, TOKEN, door::Reachable},
        pki::{Issued, Pki, params, self_signed},
        port::Port,
        terminal::Terminal,
        wait_until,
    },
};

const SECRET: &str = "a-secret_of_this_test";
/// Steps about the machine, which differ from one to the next.
const OF_MACHINE: [&str; 6] = ["clock", "firewall", "io_uring", "files", "disk", "kernel"];

/// A directory with config, certificate and secret, and a port for its server.
struct Place {
    pki: Pki,
    port: Port,
    api: Option<FakeBotApi>,
}

impl Place {
    /// With a Bot API, and a server's certificate for localhost.
    fn new() -> Self {
        let api = FakeBotApi::builder().local(true).start();
        let place = Self { pki: Pki::ecdsa(), port: Port::reserve(), api: Some(api) };
        place.write("secret", SECRET);
        place.write("token", TOKEN);
        place.configure("localhost", "");
        place
    }

    fn dir(&self) -> &Path {
        self.pki.dir()
    }

    fn api(&self) -> &FakeBotApi {
        self.api.as_ref().unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes the config, with `more` in front of its bot, which is at `host`.
    fn configure(&self, host: &str, more: &str) {
        self.write("ringhook.toml", &self.config(host, more));
    }

    fn config(&self, host: &str, more: &str) -> String {
        let (listen, root) = (self.port.addr, self.api().url());
        format!(
            "[server]\nlisten = '{listen}'\n[tls]\ncert = 'cert.pem'\nkey = 'key.pem'\n\
             [webhook]\nlocal = true\napi_root = '{root}'\nwatch = false\n\
             [[output]]\nname = 'out'\nto = 'ndjson:updates'\n[journal]\nmax_bytes = '4MiB'\n\
             segment_bytes = '1MiB'\n{more}\n\
             [[bot]]\nname = 'shop'\npath = '/webhook'\nhost = '{host}'\n\
             secret_token_file = 'secret'\ntoken_file = 'token'\n"
        )
    }

    /// Serves with another certificate.
    fn certify(&self, Issued { cert, key }: &Issued) {
        self.write("cert.pem", cert);
        self.write("key.pem", key);
    }

    fn serve(&self) -> Process {
        let mut command = ringhook(self.dir());
        command.args(["serve", "--config", "ringhook.toml"]);
        Process::start(command)
    }

    /// Sets the webhook as the config has it.
    fn set(&self) {
        let outcome =
            run(ringhook(self.dir()).args(["webhook", "set", "--config", "ringhook.toml"]));
        assert_eq!(outcome.code, 0, "{outcome:?}");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = ringhook(self.dir());
        command.args(["doctor", "--config", "ringhook.toml"]).args(args);
        command
    }

    fn doctor(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args))
    }

    /// What has come to the sink.
    fn updates(&self) -> String {
        fs::read_to_string(self.dir().join("updates")).unwrap_or_default()
    }

    /// A program that `doctor` finds before that of the system.
    fn program(&self, name: &str, script: &str) {
        let bin = self.dir().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn with_programs(&self, args: &[&str]) -> Outcome {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.dir().join("bin").display());
        run(self.command(args).env("PATH", path))
    }
}

#[derive(Debug)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs to the end; neither token nor secret is ever in what is said.
#[track_caller]
fn run(command: &mut Command) -> Outcome {
    let start = Instant::now();
    let output = command.env_remove("TELEGRAM_BOT_TOKEN").output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(45), "it takes 30 s at the most");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let outcome = Outcome {
        code: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    let (_, hidden) = TOKEN.split_once(':').unwrap();
    assert!(!said.contains(hidden) && !said.contains(SECRET), "{said}");
    outcome
}

impl Outcome {
    /// The lines of a step: the one with its name and those below that are indented more.
    fn step(&self, name: &str) -> String {
        let mut lines =
            self.stdout.lines().skip_while(|line| line.split_whitespace().nth(1) != Some(name));
        let first = lines.next().unwrap_or_else(|| panic!("no step {name} in {self:?}"));
        let below = lines.take_while(|line| line.starts_with("       "));
        [first].into_iter().chain(below).map(|line| format!("{}\n", line.trim())).collect()
    }

    #[track_caller]
    fn expect(&self, name: &str, verdict: &str, what: &str) {
        let step = self.step(name);
        assert!(step.starts_with(verdict) && step.contains(what), "{step} of {self:#?}");
    }

    /// All of it, without what differs from run to run and from machine to machine.
    fn steady(&self, place: &Place) -> String {
        let mut lines = Vec::new();
        let mut is_left_out = false;
        for line in self.stdout.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            if !line.starts_with("       ") {
                is_left_out = words.get(1).is_some_and(|name| OF_MACHINE.contains(name));
                if is_left_out {
                    lines.push(format!("  (..)  {}", words[1]));
                    continue;
                }
            }
            if !is_left_out {
                lines.push(line.to_owned());
            }
        }
        let counts = lines.last_mut().filter(|line| line.contains(" failed, ")).unwrap();
        *counts = counts.split(", ").filter(|part| part.contains("failed")).collect();
        let port = place.port.addr.port().to_string();
        let said = format!(
            "exit code {}\n-- stdout\n{}\n-- stderr\n{}",
            self.code,
            lines.join("\n"),
            self.stderr
        );
        let said = said.replace(&port, "PORT");
        // The days that a certificate is still valid.
        let said =
            said.split(" days)").map(|text| text.trim_end_matches(|c: char| c.is_ascii_digit()));
        let said = said.collect::<Vec<_>>().join("N days)");
        let processes = said.split("process ").enumerate().map(|(part, text)| match part {
            0 => text.to_owned(),
            _ => format!("PID{}", text.trim_start_matches(|c: char| c.is_ascii_digit())),
        });
        processes.collect::<Vec<_>>().join("process ")
    }
}

#[test]
fn help_tells_what_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(ringhook(dir.path()).args(["doctor", "--help"]));
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    insta::assert_snapshot!("help", help.stdout);
}

#[test]
fn where_all_is_well_it_says_so_and_leaves_one_update_behind() {
    let place = Place::new();
    let _server = place.serve();
    place.set();
    let healthy = place.doctor(&[]);
    assert_eq!(healthy.code, 0, "{healthy:#?}");
    insta::assert_snapshot!("healthy", healthy.steady(&place));
    wait_until("the update is there", || !place.updates().is_empty());
    let again = place.doctor(&[]);
    assert_eq!(again.code, 0, "{again:#?}");
    assert_eq!(place.updates(), "{\"update_id\":0,\"ringhook_doctor\":{}}\n");
}

#[test]
fn no_post_sends_no_update() {
    let place = Place::new();
    let server = place.serve();
    place.doctor(&["--no-post"]).expect("post", "ok", "let in with the secret (400: no update)");
    let ended = server.terminate();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(place.updates(), "");
}

#[test]
fn without_a_server_the_rest_is_explained_by_that() {
    let place = Place::new();
    let down = place.doctor(&[]);
    assert_eq!(down.code, 1);
    insta::assert_snapshot!("not_running", down.steady(&place));
}

#[test]
fn another_secret_is_found() {
    let place = Place::new();
    let _server = place.serve();
    place.write("secret", "another-secret");
    // The server reads it again by itself after a while, unless it may not.
    place.write("other.toml", &place.config("localhost", "").replace("'secret'", "'third'"));
    place.write("third", "a-third-secret");
    let mut command = ringhook(place.dir());
    let other = run(command.args(["doctor", "--config", "other.toml"]));
    assert_eq!(other.code, 1);
    other.expect("post", "FAIL", "with the secret of the config: 403 Forbidden, expected 200");
    other.expect("post", "FAIL", "wants other credentials than those of bot \"shop\" (third)");
    assert_eq!(place.updates(), "");
}

#[test]
fn a_server_that_accepts_all_clients_is_found() {
    let place = Place::new();
    let open = place.config("localhost", "");
    let open = open.replace("secret_token_file = 'secret'", "auth = 'none'");
    place.write("open.toml", &open);
    let mut command = ringhook(place.dir());
    command.args(["serve", "--config", "open.toml"]);
    let _server = Process::start(command);
    place.doctor(&[]).expect("post", "FAIL", "a request without credentials is let in");
    let mut command = ringhook(place.dir());
    let open = run(command.args(["doctor", "--config", "open.toml"]));
    open.expect("secret", "warn", "any client that knows the URL can send updates");
    open.expect("post", "ok", "200, for all clients");
    open.expect("reachable", "ok", "has the certificate of this server");
}

#[test]
fn certificates_that_telegram_refuses_are_found() {
    let place = Place::new();
    let mut expired = params("localhost", &["localhost"], &[]);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    place.certify(&self_signed(&expired));
    {
        let _server = place.serve();
        let expired = place.doctor(&[]);
        assert_eq!(expired.code, 1);
        expired.expect("certificate", "FAIL", "has expired on 2021-01-01");
        expired.expect("tls", "FAIL", "it has expired");
        expired.expect("post", "skip", "without TLS nothing can be posted");
        expired.expect("reachable", "skip", "TLS has to be right here first");
    }
    place.certify(&self_signed(&params("other.example", &["other.example"], &[])));
    let _server = place.serve();
    let other = place.doctor(&[]);
    other.expect("certificate", "FAIL", "is for other.example, not for localhost");
    other.expect("tls", "FAIL", "it is for other.example, not for localhost");
    insta::assert_snapshot!("mismatch", other.steady(&place));
}

#[test]
fn a_server_that_has_not_read_the_new_certificate_is_found() {
    let place = Place::new();
    let _server = place.serve();
    let config = place.config("localhost", "").replace("cert.pem", "new.pem");
    place.write("other.toml", &config.replace("key.pem", "new.key"));
    let Issued { cert, key } = self_signed(&params("localhost", &["localhost"], &[]));
    place.write("new.pem", &cert);
    place.write("new.key", &key);
    let mut command = ringhook(place.dir());
    let other = run(command.args(["doctor", "--config", "other.toml"]));
    other.expect("certificate", "ok", "new.pem: Telegram accepts it as uploaded");
    other.expect("tls", "FAIL", "no trusted authority has signed the server's certificate");
}

#[test]
fn a_webhook_that_is_set_elsewhere_is_found() {
    let place = Place::new();
    let _server = place.serve();
    let none = place.doctor(&["--no-post"]);
    assert_eq!(none.code, 1);
    none.expect("webhook", "FAIL", "no webhook is set, 0 update(s) wait");
    none.expect("webhook", "FAIL", "ringhook webhook set --config ringhook.toml\n");
    place.set();
    place.api().set_webhook_behind_back("https://localhost:9/other");
    let elsewhere = place.doctor(&["--no-post"]);
    elsewhere.expect(
        "webhook",
        "FAIL",
        "not as the config has it: url is https://localhost:9/other",
    );
    place.set();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    place.api().report_error(now, "Connection refused");
    let refused = place.doctor(&["--no-post"]);
    refused.expect("webhook", "warn", "Connection refused");
    refused.expect("webhook", "warn", "it means: ");
    place.api().report_error(now - 7200, "Connection refused");
    place.doctor(&["--no-post"]).expect("webhook", "ok", "its last error is 2h old");
}

#[test]
fn without_a_token_the_local_part_works() {
    let place = Place::new();
    let config = place.config("localhost", "").replace("token_file = 'token'", "");
    place.write("ringhook.toml", &config);
    let _server = place.serve();
    let local = place.doctor(&["--no-post"]);
    assert_eq!(local.code, 0, "{local:#?}");
    local.expect("token", "skip", "there is no token of the Bot API");
    local.expect("webhook", "skip", "there is no token");
    local.expect("clock", "", "without a token the Bot API is not asked");
    local.expect("name", "", "localhost");
    let calls = place.api().calls();
    assert!(calls.is_empty(), "{}", calls.len());
    // Nor is anything else outside.
    place.write("away.toml", &config.replace("localhost", "bot.example.com"));
    let mut away = ringhook(place.dir());
    let away = run(away.args(["doctor", "--config", "away.toml", "--no-post"]));
    away.expect("name", "skip", "without a token no name is looked up");
    away.expect("reachable", "skip", "");
    // The environment's is that of the only bot.
    let mut command = place.command(&["--no-post"]);
    let output = command.env("TELEGRAM_BOT_TOKEN", TOKEN).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the token is that of @fake_"), "{said}");
}

#[test]
fn a_token_that_is_not_good_is_found() {
    let place = Place::new();
    place.api().revoke();
    let revoked = place.doctor(&[]);
    revoked.expect("token", "FAIL", "401 Unauthorized");
    revoked.expect("webhook", "skip", "the token is not good");
    place.write("token", "nonsense");
    place.doctor(&[]).expect("token", "FAIL", "expected a bot token as BotFather shows it");
}

#[test]
fn an_api_that_is_away_or_silent_is_not_waited_for() {
    let place = Place::new();
    place.api().reach(Reachable::Refused);
    place.doctor(&[]).expect("token", "FAIL", "the Bot API cannot be reached");
    place.api().reach(Reachable::BadGateway);
    place.doctor(&[]).expect("token", "FAIL", "none of the Bot API");
    place.api().reach(Reachable::Silent);
    place.doctor(&[]).expect("token", "FAIL", "no answer of the Bot API in ");
}

#[test]
fn a_name_without_an_address_is_found() {
    let place = Place::new();
    let host = "nonexistent.invalid";
    place.configure(host, "");
    place.certify(&self_signed(&params(host, &[host], &[])));
    let _server = place.serve();
    let nowhere = place.doctor(&["--no-post"]);
    assert_eq!(nowhere.code, 1);
    nowhere.expect(
        "tls",
        "ok",
        "TLS 1.2 and 1.3, SNI nonexistent.invalid, certificate as uploaded",
    );
    nowhere.expect("name", "FAIL", "nonexistent.invalid has no address");
    nowhere.expect("name", "FAIL", "add an A record");
    nowhere.expect("reachable", "skip", "the URL's host has no address");
}

#[test]
fn an_address_that_does_not_lead_back_is_no_failure() {
    let place = Place::new();
    // For documentation: nothing answers there.
    let config = place.config("localhost", "") + "ip_address = '192.0.2.1'\n";
    place.write("ringhook.toml", &config);
    let _server = place.serve();
    let away = place.doctor(&["--no-post"]);
    away.expect("name", "ok", "Telegram is given ip_address 192.0.2.1 and asks no DNS server");
    away.expect("reachable", "warn", "hairpin NAT");
    away.expect("reachable", "warn", "from a machine outside: curl -sS -k -o /dev/null");
}

#[test]
fn a_url_that_leads_to_another_server_is_found() {
    let place = Place::new();
    let _server = place.serve();
    let lead_to = |addr: SocketAddr| {
        let config = place.config("localhost", "");
        let port = format!("watch = false\nport = {}", addr.port());
        place.write("other.toml", &config.replace("watch = false", &port));
        run(ringhook(place.dir()).args(["doctor", "--no-post", "--config", "other.toml"]))
    };
    // With another certificate.
    let other = TestServer::start();
    let found = lead_to(other.handle.local_addr().unwrap());
    found.expect("post", "ok", "let in with the secret");
    found.expect("reachable", "FAIL", "the address leads to another server");
    found.expect(
        "reachable",
        "FAIL",
        "the certificate there is \"rcgen self signed cert\", issued by",
    );
    // With another secret.
    place.write("third", "a-third-secret");
    let config = place.config("localhost", "").replace("'secret'", "'third'");
    place.write("third.toml", &config);
    let mut command = ringhook(place.dir());
    command.args(["serve", "--config", "third.toml", "--listen", "127.0.0.1:0"]);
    command.args(["--data-dir", "third-data", "--output", "null"]);
    let third = Process::start(command);
    let found = lead_to(third.addr);
    found.expect("reachable", "FAIL", "refuses the right credentials, too (403 Forbidden)");
}

#[test]
fn what_is_in_front_is_named() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 404 Not Found\r\nServer: nginx/1.22.1\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let url = format!("url = 'http://localhost:{port}/webhook'\n");
    place.write("ringhook.toml", &(place.config("localhost", "") + &url));
    let _server = place.serve();
    let expected = "answers 404 Not Found, Server: nginx/1.22.1 where this server says 403";
    place.doctor(&["--no-post"]).expect("reachable", "FAIL", expected);
}

#[test]
fn what_telegrams_own_server_would_refuse_is_found() {
    let place = Place::new();
    let config = place.config("127.0.0.1", "").replace("local = true\n", "");
    place.write("ringhook.toml", &config);
    let refused = place.doctor(&[]);
    assert_eq!(refused.code, 1);
    refused.expect("url", "FAIL", "127.0.0.1");
    refused.expect("url", "FAIL", "port");
}

#[test]
fn a_machine_that_is_not_let_in_says_so() {
    let place = Place::new();
    let config = place.config("localhost", "");
    place.write("ringhook.toml", &config.replace("[tls]", "allow = ['telegram']\n[tls]"));
    let _server = place.serve();
    let shut = place.doctor(&[]);
    shut.expect("listening", "ok", "ringhook (process ");
    shut.expect("tls", "skip", "127.0.0.1 is not on the list server.allow");
    shut.expect("post", "skip", "127.0.0.1 is not on the list server.allow");
    shut.expect("reachable", "warn", "though Telegram may come in");
}

#[test]
fn another_program_on_the_port_is_found() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    let other = place.doctor(&["--listen", &at]);
    other.expect("listening", "warn", &format!("listens on {at}"));
    other.expect("tls", "FAIL", "TLS has failed");
}

#[test]
fn a_listener_without_tls_and_a_unix_socket_are_looked_at() {
    let place = Place::new();
    let config =
        place.config("localhost", "[[listener]]\naddress = 'unix:hook.sock'\ntls = false\n");
    let config = config.replace(&format!("listen = '{}'\n", place.port.addr), "");
    place.write("ringhook.toml", &config);
    let mut command = ringhook(place.dir());
    let mut server =
        command.args(["serve", "--config", "ringhook.toml"]).spawn().expect("the binary runs");
    wait_until("it listens", || place.dir().join("hook.sock").exists());
    let proxied = place.doctor(&[]);
    server.kill().unwrap();
    server.wait().unwrap();
    proxied.expect("listening", "ok", "connections are taken on unix:hook.sock");
    proxied.expect("certificate", "skip", "no listener speaks TLS");
    proxied.expect("tls", "skip", "plain HTTP");
    proxied.expect("post", "ok", "200 with the secret, 403 without");
}

#[test]
fn a_secret_that_all_users_can_read_is_found() {
    let place = Place::new();
    let path = place.dir().join("token");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    place.doctor(&[]).expect("secret", "warn", "chmod 600 token");
    fs::remove_file(place.dir().join("secret")).unwrap();
    let missing = place.doctor(&[]);
    missing.expect("secret", "FAIL", "bot.secret_token_file = secret: No such file");
    missing.expect("secret", "FAIL", "ringhook serve makes it");
    missing.expect("url", "skip", "the credentials cannot be read");
    // And it does.
    let server = place.serve();
    let secret = fs::read_to_string(place.dir().join("secret")).unwrap();
    assert_eq!(secret.trim().len(), 64);
    let mode = fs::metadata(place.dir().join("secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(server.stderr().iter().any(|line| line.contains("made a secret token")));
    drop(server);
    place.doctor(&["--no-post"]).expect("secret", "warn", "chmod 600 token");
    // What is not there together with its directory is rather mistyped.
    let config = place.config("localhost", "").replace("= 'secret'", "= 'nowhere/secret'");
    place.write("ringhook.toml", &config);
    place.doctor(&[]).expect("secret", "FAIL", "put the file there, or its right name");
    let refused = run(ringhook(place.dir()).args(["serve", "--config", "ringhook.toml"]));
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn the_rules_of_the_firewall_are_read_where_they_may_be() {
    const DROPS: &str = r#"cat <<'EOF'
{"nftables":[{"chain":{"family":"inet","table":"filter","name":"input","hook":"input","policy":"drop"}}]}
EOF"#;
    let place = Place::new();
    let config = place.config("localhost", "");
    let any = format!("0.0.0.0:{}", place.port.addr.port());
    place.write("ringhook.toml", &config.replace(&place.port.addr.to_string(), &any));
    place.program("iptables-save", "exit 0");
    place.program("nft", DROPS);
    let drops = place.with_programs(&[]);
    drops.expect(
        "firewall",
        "warn",
        "inet filter input would drop connections from 149.154.160.0/20",
    );
    drops.expect("firewall", "warn", "nft insert rule inet filter input");
    place.program("nft", "echo 'netlink: Operation not permitted (you must be root)' >&2; exit 1");
    place.program("iptables-save", "echo 'iptables-save: Permission denied' >&2; exit 4");
    let forbidden = place.with_programs(&[]);
    forbidden.expect("firewall", "skip", "you must be root");
    forbidden.expect("firewall", "skip", "sudo ringhook doctor");
    place.program("nft", "sleep 60");
    place.with_programs(&[]).expect("firewall", "skip", "nft: no answer in time");
}

#[test]
fn a_clock_that_is_wrong_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 302 Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                  Content-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    let place = Place::new();
    place.doctor(&["--api-root", &root]).expect("clock", "FAIL", " s ahead of the Bot API's");
}

#[test]
fn a_wrong_config_or_bot_is_told_at_once() {
    let place = Place::new();
    let unknown = place.doctor(&["--bot", "absent"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (2, ""));
    assert_eq!(unknown.stderr, "ringhook: --bot = absent: expected one of shop\n");
    place.configure("localhost", "ack = 'perhaps'\n");
    let wrong = place.doctor(&[]);
    assert_eq!(wrong.code, 1);
    insta::assert_snapshot!("wrong_config", wrong.stdout);
    let mut command = ringhook(place.dir());
    let usage = run(command.args(["doctor", "--no-such-flag"]));
    assert_eq!(usage.code, 2);
}

#[test]
fn json_has_every_step() {
    let place = Place::new();
    let _server = place.serve();
    place.set();
    let outcome = place.doctor(&["--json"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(json["ok"], true);
    let steps = json["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let expected = [
        "config",
        "clock",
        "listening",
        "firewall",
        "secret",
        "url",
        "certificate",
        "tls",
        "post",
        "name",
        "reachable",
        "token",
        "webhook",
        "io_uring",
        "files",
        "disk",
        "kernel",
    ];
    assert_eq!(names, expected);
    for step in steps {
        let keys: Vec<_> = step.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 5, "{keys:?}");
        assert!(["ok", "warn", "fail", "skip"].contains(&step["verdict"].as_str().unwrap()));
        assert!(step["fix"].is_array() && step["what"].is_string(), "{step}");
        let is_of_bot = !["config", "listening"].contains(&step["step"].as_str().unwrap())
            && !OF_MACHINE.contains(&step["step"].as_str().unwrap());
        assert_eq!(step["bot"].as_str(), is_of_bot.then_some("shop"), "{step}");
    }
    let counts = json["counts"].as_object().unwrap();
    let sum: u64 = counts.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum, steps.len() as u64);
    drop(_server);
    let failed = place.doctor(&["--json"]);
    assert_eq!(failed.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&failed.stdout).unwrap()["ok"], false);
    assert!(failed.stderr.contains("begin with \"listening\""), "{}", failed.stderr);
}

#[test]
fn several_bots_have_headings() {
    let place = Place::new();
    let second = "[[bot]]\nname = 'news'\npath = '/news'\nhost = 'localhost'\n\
                  secret_token_file = 'secret'\n";
    let config = place.config("localhost", "") + second;
    place.write("ringhook.toml", &config);
    let _server = place.serve();
    let both = place.doctor(&[]);
    let headings: Vec<_> = both.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(headings[..3], ["bot shop", "bot news", "machine"]);
    both.expect("webhook", "FAIL", "ringhook webhook set --config ringhook.toml --bot shop");
    let one = place.doctor(&["--bot", "news"]);
    assert!(!one.stdout.contains("bot news\n"), "{one:#?}");
    one.expect("post", "ok", "200 with the secret");
    one.expect("token", "skip", "there is no token");
}

#[test]
fn on_a_terminal_there_is_colour_and_progress() {
    let place = Place::new();
    let _server = place.serve();
    let terminal = Terminal::start(place.command(&["--no-post"]));
    terminal.wait_for(" failed, ");
    let screen = terminal.screen();
    assert!(screen.contains("\x1b[32mok  \x1b[0m  config"), "{screen}");
    assert!(screen.contains("\x1b[31mFAIL\x1b[0m  webhook"), "{screen}");
    assert!(screen.contains("\r\x1b[K  ...   tls"), "{screen}");
    let mut command = place.command(&["--no-post"]);
    command.env("NO_COLOR", "1");
    let terminal = Terminal::start(command);
    terminal.wait_for(" failed, ");
    assert!(!terminal.screen().contains("\x1b[32m"), "{}", terminal.screen());
}
