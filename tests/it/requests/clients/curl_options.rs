//! curl with the options that change what is on the wire.

use super::*;
use ringhook::{BasicAuth, Bot, Limits, report::CloseReason};

use crate::support;

/// As [`with_servers`], after `change`.
fn with_curl(
    change: impl Fn(ringhook::ServerBuilder) -> ringhook::ServerBuilder,
    test: impl Fn(TestServer),
) {
    if program("curl").is_none() {
        return;
    }
    for driver in support::drivers() {
        test(TestServer::with(|server| change(server.driver(driver))));
    }
}

/// What curl has been told by `args` before it posts update `id` with success.
#[track_caller]
fn posts(server: &TestServer, args: &[&str], id: i64) -> String {
    let mut curl = curl(server);
    let said = succeed(post(curl.arg("-v").args(args), server, &update(id)));
    assert_eq!(said.stdout, "200 1.1 1 0\n", "{args:?}");
    said.stderr
}

/// From 1 MiB on curl asks to be invited by itself.
#[test]
fn curl_with_two_megabytes_is_invited_or_sends_them_anyhow() {
    let mut limits = Limits::default();
    limits.body_bytes = 4 * 1024 * 1024;
    with_curl(
        |server| server.limits(limits),
        |server| {
            for (id, args, asks) in [
                (1, &[][..], true),
                (2, &["-H", "Expect:"][..], false),
                (3, &["-H", "Expect:", "-H", "Transfer-Encoding: chunked"][..], false),
            ] {
                let file = body_file(&server, &large_update(id, 2_000_000));
                let mut curl = curl(&server);
                let args = [&["-v", "--expect100-timeout", "20"], args].concat();
                let said = succeed(post(curl.args(args), &server, &file));
                assert_eq!(said.stdout, "200 1.1 1 0\n");
                assert_eq!(
                    said.stderr.contains("< HTTP/1.1 100 Continue"),
                    asks,
                    "{}",
                    said.stderr
                );
            }
            assert_arrived(server, 1..4);
        },
    );
}

/// Invited or not, curl reads the 413 before a closed connection hinders it from sending.
#[test]
fn curl_with_more_than_the_limit_is_told_413() {
    let mut limits = Limits::default();
    limits.body_bytes = 256 * 1024;
    with_curl(
        |server| server.limits(limits),
        |server| {
            // Without asking not more than the server reads of what it has refused, or a curl that
            // looks late for its answer may find a reset instead.
            for (length, args, asks) in
                [(2_000_000, &[][..], true), (900_000, &["-H", "Expect:"][..], false)]
            {
                let file = body_file(&server, &large_update(1, length));
                let mut curl = curl(&server);
                curl.args(["--expect100-timeout", "20", "-w", "%{http_code} %{size_upload}"]);
                let said = succeed(post(curl.args(args), &server, &file));
                let (status, sent) = said.stdout.split_once(' ').unwrap();
                assert_eq!(status, "413", "{}", said.stderr);
                // Who did not ask may be told so early that nothing was sent.
                assert!(!asks || sent == "0", "{sent}");
            }
            let report = assert_arrived(server, 0..0);
            assert_eq!(report.requests_rejected, [(413, 2)].into());
        },
    );
}

#[test]
fn curl_streams_its_input_in_chunks() {
    with_curl(
        |server| server,
        |server| {
            let body = large_update(1, 100_000);
            let secret = format!("X-Telegram-Bot-Api-Secret-Token: {SECRET}");
            let mut command = curl(&server);
            command.args(["-v", "-X", "POST", "-T", "-", "-H", &secret, &server.url()]);
            let mut curl = Running::start(&mut command);
            // The second half does not exist before the first one is on its way.
            let (first, second) = body.as_bytes().split_at(50_000);
            curl.write(first);
            curl.wait_for("Transfer-Encoding: chunked");
            curl.write(second);
            let said = curl.finish();
            assert_eq!(said.stdout, "200 1.1 1 0\n", "{}", said.stderr);
            server.wait_handled(1);
            let sent: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert!(server.handled.all()[0] == sent, "the update is what was sent");

            let args = ["-v", "-H", "Transfer-Encoding: chunked"];
            let mut command = super::curl(&server);
            let said = talk(post(command.args(args), &server, "@-"), update(2).as_bytes());
            assert_eq!(said.stdout, "200 1.1 1 0\n", "{}", said.stderr);
            assert_arrived(server, 1..3);
        },
    );
}

#[test]
fn curl_with_every_cipher_and_group_that_we_have() {
    with_curl(
        |server| server,
        |server| {
            let mut id = 0;
            let mut check = |args: &[&str], used: &str| {
                id += 1;
                let said = posts(&server, args, id);
                assert!(said.contains(&format!(" / {used}")), "{args:?}: {said}");
            };
            for cipher in
                ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]
            {
                check(&["--tls13-ciphers", cipher], cipher);
            }
            for cipher in [
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
            ] {
                check(&["--tls-max", "1.2", "--ciphers", cipher], cipher);
            }
            for group in ["X25519", "P-256", "P-384"] {
                check(&["--curves", group], "TLS_");
            }
            assert_arrived(server, 1..id + 1);
        },
    );
}

#[test]
fn curl_without_the_certificate_refuses_us() {
    with_curl(
        |server| server,
        |server| {
            let mut curl = program("curl").unwrap();
            curl.args(["-q", "-sS", "--max-time", "30", "--noproxy", "*"]);
            let said = talk(post(&mut curl, &server, &update(9)), b"");
            assert_eq!(said.status.code(), Some(60), "{}", said.stderr);
            let said = succeed(post(super::curl(&server).arg("--insecure"), &server, &update(1)));
            // It says what it did not mind: 18 is a self-signed certificate.
            assert_eq!(said.stdout, "200 1.1 1 18\n");
            posts(&server, &[], 2);
            let report = assert_arrived(server, 1..3);
            assert_eq!((report.handshakes_failed, report.handshakes_full), (1, 2));
        },
    );
}

#[test]
fn curl_with_options_that_change_nothing() {
    with_curl(
        |server| server,
        |server| {
            let options: [&[&str]; 12] = [
                &["--http1.1"],
                &["--no-alpn"],
                &["--no-sessionid"],
                &["--compressed"],
                &["--no-keepalive"],
                &["--limit-rate", "2K"],
                &["-H", "Connection: close"],
                &["-H", "Connection: keep-alive", "-H", "Keep-Alive: timeout=5"],
                &["-H", "Range: bytes=0-1", "-H", "If-None-Match: *"],
                &["-A", "Mozilla/5.0", "-e", "https://example.com/", "-b", "a=b; c=d"],
                &["-H", "Content-Type: text/plain; charset=koi8-r"],
                &["--http2", "-H", "TE: trailers", "-H", "Upgrade: h2c"],
            ];
            for (id, args) in (1..).zip(options) {
                let said = posts(&server, args, id);
                assert!(!said.to_lowercase().contains("< content-encoding"), "{said}");
            }
            let report = assert_arrived(server, 1..options.len() as i64 + 1);
            assert_eq!(report.connections_closed.get(&CloseReason::Asked), Some(&1), "{report}");
        },
    );
}

#[test]
fn curl_with_paths_as_they_are() {
    with_curl(
        |server| server,
        |server| {
            let base = server.url().replace(PATH, "");
            let secret = format!("X-Telegram-Bot-Api-Secret-Token: {SECRET}");
            let mut curl = curl(&server);
            let mut expected = String::new();
            for (index, (path, status)) in [
                ("/webhook?a=/../b", 200),
                ("/x/../webhook", 200),
                ("/./webhook", 200),
                ("/%77eb%68ook", 200),
                ("/x/%2e%2e/webhook", 200),
                ("//webhook", 404),
                ("/webhook/", 404),
                ("/x/..%2Fwebhook", 404),
            ]
            .into_iter()
            .enumerate()
            {
                if index > 0 {
                    transfer(curl.arg("--next"), &server);
                }
                curl.args(["--path-as-is", "-H", &secret, "-d", &update(index as i64)]);
                curl.arg(format!("{base}{path}"));
                expected += &format!("{status} 1.1 {} 0\n", u8::from(index == 0));
            }
            assert_eq!(succeed(&mut curl).stdout, expected);
            assert_arrived(server, 0..5);
        },
    );
}

/// One update to three URLs, of which two are the same bot's: its copy is answered and left out.
#[test]
fn curl_with_several_urls_goes_on_over_its_connection() {
    with_curl(
        |server| server,
        |server| {
            let url = server.url();
            let mut curl = curl(&server);
            post(&mut curl, &server, &update(1));
            curl.args(["-o", "/dev/null", &format!("{url}?again")]);
            curl.args(["-o", "/dev/null", &format!("{url}/absent")]);
            assert_eq!(succeed(&mut curl).stdout, "200 1.1 1 0\n200 1.1 0 0\n404 1.1 0 0\n");
            server.wait_handled(1);
            let (report, handled) = server.stop();
            assert_eq!(handled.ids(), [1]);
            assert_eq!((report.updates_acknowledged, report.connections_accepted), (2, 1));
        },
    );
}

#[test]
fn curl_with_other_methods_and_forms() {
    with_curl(
        |server| server,
        |server| {
            let url = server.url();
            let file = body_file(&server, &update(9));
            let path = &file[1..];
            let secret = format!("X-Telegram-Bot-Api-Secret-Token: {SECRET}");
            let requests: [(&str, &[&str]); 7] = [
                ("405", &["-X", "OPTIONS", &url]),
                ("404", &["-X", "OPTIONS", "--request-target", "*", &url]),
                ("405", &["-I", &url]),
                ("405", &["-G", "-d", "a=b", &url]),
                ("405", &["-T", path, &url]),
                ("400", &["-F", &format!("update={file}"), &url]),
                ("400", &["-d", "update_id=1", &url]),
            ];
            let mut curl = curl(&server);
            let mut expected = String::new();
            for (index, (status, args)) in requests.iter().enumerate() {
                if index > 0 {
                    transfer(curl.arg("--next"), &server);
                }
                // Uploads would ask to be invited, and end their connection when refused.
                curl.args(["-H", &secret, "-H", "Expect:"]).args(*args);
                expected += &format!("{status} 1.1 {} 0\n", u8::from(index == 0));
            }
            assert_eq!(succeed(&mut curl).stdout, expected);
            let report = assert_arrived(server, 0..0);
            assert_eq!(report.requests_rejected, [(400, 2), (404, 1), (405, 4)].into());
        },
    );
}

#[test]
fn curl_with_user_and_password() {
    let bot = || {
        let mut bot = Bot::without_secret("basic", "/basic");
        bot.basic_auth = Some(BasicAuth::new("user:pass word", "bot.basic_auth").unwrap());
        bot
    };
    with_curl(
        |server| server.bot(bot()),
        |server| {
            let url = server.url().replace(PATH, "/basic");
            let in_url = url.replace("https://", "https://user:pass%20word@");
            for (id, status, args) in [
                (1, "200", &["-u", "user:pass word", &*url][..]),
                (2, "200", &[&*in_url]),
                (9, "403", &["-u", "user:pass", &url]),
                (9, "403", &[&url]),
            ] {
                let mut curl = curl(&server);
                let said = succeed(curl.args(["-d", &update(id)]).args(args));
                assert_eq!(said.stdout, format!("{status} 1.1 1 0\n"), "{args:?}");
            }
            assert_arrived(server, 1..3);
        },
    );
}
