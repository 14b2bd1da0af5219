//! Clients of other projects get the answers they expect, and what they send arrives exactly
//! once: curl, openssl s_client, Python's http.client, Node's https, Java's HttpClient.

mod curl_options;
use std::{ops::Range, path::PathBuf, process::Command, time::Duration};

use ringhook::{DriverChoice, Report, report::CloseReason};

use crate::support::{
    self, PATH, SECRET, TestServer,
    external::{Running, program, succeed, talk},
    update,
};

/// Printed by curl after each transfer: status, HTTP version of the answer, new connections,
/// the verdict on the certificate.
const WRITE_OUT: &str = "%{http_code} %{http_version} %{num_connects} %{ssl_verify_result}\n";

/// Runs `test` against a server of each driver where all `programs` are installed.
fn with_servers(programs: &[&str], test: impl Fn(TestServer, DriverChoice)) {
    // Not `all`: the reason is to be printed for each that is missing.
    if programs.iter().filter(|name| program(name).is_none()).count() > 0 {
        return;
    }
    for driver in support::drivers() {
        test(TestServer::with(|server| server.driver(driver)), driver);
    }
}

/// Stops `server` after the updates in `ids` reached the handler, each once and no other.
#[track_caller]
fn assert_arrived(server: TestServer, ids: Range<i64>) -> Report {
    let expected: Vec<i64> = ids.collect();
    server.wait_handled(expected.len());
    let (report, handled) = server.stop();
    let mut arrived = handled.ids();
    arrived.sort_unstable();
    assert_eq!(arrived, expected, "each update once and no other");
    let count = expected.len() as u64;
    assert_eq!(report.updates_received, count, "{report}");
    assert_eq!(report.updates_acknowledged, count, "{report}");
    assert_eq!(report.updates_handled, count, "{report}");
    report
}

/// An update of about `bytes` bytes.
fn large_update(id: i64, bytes: usize) -> String {
    update(id).replace("hello", &"loud and clear ".repeat(bytes / 15))
}

// curl

/// Begins a transfer: what each `--next` forgets is said again.
fn transfer<'a>(curl: &'a mut Command, server: &TestServer) -> &'a mut Command {
    curl.args(["-sS", "--max-time", "30", "--noproxy", "*", "-w", WRITE_OUT, "-o", "/dev/null"]);
    curl.arg("--cacert").arg(server.pki.cert_file())
}

/// Adds a post of `body` to a transfer, as Telegram sends it.
fn post<'a>(curl: &'a mut Command, server: &TestServer, body: &str) -> &'a mut Command {
    curl.args(["-H", &format!("X-Telegram-Bot-Api-Secret-Token: {SECRET}")]);
    curl.args(["-H", "Content-Type: application/json", "--data-binary", body, &server.url()])
}

/// curl without the settings of the user who runs the tests.
fn curl(server: &TestServer) -> Command {
    let mut curl = program("curl").unwrap();
    transfer(curl.arg("-q"), server);
    curl
}

/// A file with an update too long for a command line, and curl's way to name it.
fn body_file(server: &TestServer, body: &str) -> String {
    let path = server.pki.dir().join("body.json");
    std::fs::write(&path, body).unwrap();
    format!("@{}", path.display())
}

#[test]
fn curl_posts_twice_over_one_connection() {
    with_servers(&["curl"], |server, _| {
        let mut curl = curl(&server);
        post(&mut curl, &server, &update(1));
        post(transfer(curl.arg("--next"), &server), &server, &update(2));
        assert_eq!(succeed(&mut curl).stdout, "200 1.1 1 0\n200 1.1 0 0\n");
        let report = assert_arrived(server, 1..3);
        assert_eq!((report.connections_accepted, report.handshakes_full), (1, 1));
    });
}

#[test]
fn curl_in_parallel_posts_over_many_connections() {
    with_servers(&["curl"], |server, _| {
        let mut curl = curl(&server);
        curl.args(["--parallel", "--parallel-immediate", "--parallel-max", "20"]);
        post(&mut curl, &server, &update(1));
        for id in 2..41 {
            post(transfer(curl.arg("--next"), &server), &server, &update(id));
        }
        let said = succeed(&mut curl);
        assert_eq!(said.stdout.matches("200 1.1").count(), 40, "{}", said.stdout);
        let report = assert_arrived(server, 1..41);
        assert!(report.connections_accepted > 1, "{report}");
    });
}

#[test]
fn curl_with_http_1_0_is_answered_and_the_connection_closed() {
    with_servers(&["curl"], |server, _| {
        let mut curl = curl(&server);
        post(curl.args(["--http1.0", "-D", "-"]), &server, &update(1));
        let said = succeed(&mut curl).stdout;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        assert!(said.contains("\r\nConnection: close\r\n"), "{said}");
        let report = assert_arrived(server, 1..2);
        assert_eq!(report.connections_closed.get(&CloseReason::Asked), Some(&1), "{report:?}");
    });
}

#[test]
fn curl_uploads_in_chunks() {
    with_servers(&["curl"], |server, _| {
        let body = large_update(1, 200_000);
        let mut curl = curl(&server);
        curl.args(["-v", "-H", "Transfer-Encoding: chunked"]);
        let file = body_file(&server, &body);
        let said = succeed(post(&mut curl, &server, &file));
        assert_eq!(said.stdout, "200 1.1 1 0\n");
        assert!(!said.stderr.contains("> Content-Length"), "{}", said.stderr);
        server.wait_handled(1);
        let sent: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(server.handled.all()[0] == sent, "the update is what was sent");
        assert_arrived(server, 1..2);
    });
}

/// curl would wait its 20 seconds, and for an interim answer only, if it were not invited.
#[test]
fn curl_is_invited_to_send_600_kb_when_it_expects_to_be() {
    with_servers(&["curl"], |server, _| {
        let body = large_update(1, 600_000);
        assert!(body.len() > 590_000);
        let file = body_file(&server, &body);
        let mut curl = curl(&server);
        curl.args(["-v", "-H", "Expect: 100-continue", "--expect100-timeout", "20"]);
        let said = succeed(post(&mut curl, &server, &file));
        assert_eq!(said.stdout, "200 1.1 1 0\n");
        assert!(said.stderr.contains("< HTTP/1.1 100 Continue"), "{}", said.stderr);
        server.wait_handled(1);
        let sent: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(server.handled.all()[0] == sent, "the update is what was sent");
        assert_arrived(server, 1..2);
    });
}

#[test]
fn curl_that_expects_100_and_has_a_wrong_secret_sends_no_body() {
    with_servers(&["curl"], |server, _| {
        let file = body_file(&server, &large_update(1, 600_000));
        let mut curl = curl(&server);
        curl.args(["-v", "-H", "Expect: 100-continue", "--expect100-timeout", "20"]);
        curl.args(["-w", "%{http_code} %{size_upload}", "--data-binary", &file]);
        let said = succeed(curl.arg(server.url()));
        assert_eq!(said.stdout, "403 0");
        assert!(!said.stderr.contains("100 Continue"), "{}", said.stderr);
        let report = assert_arrived(server, 0..0);
        assert_eq!(report.requests_rejected.get(&403), Some(&1), "{report}");
    });
}

#[test]
fn curl_with_tls_1_2_and_1_3_gets_what_it_asks_for() {
    with_servers(&["curl"], |server, _| {
        for (id, version) in [(1, "1.2"), (2, "1.3")] {
            let mut curl = curl(&server);
            curl.args(["-v", "--tls-max", version, &format!("--tlsv{version}")]);
            let said = succeed(post(&mut curl, &server, &update(id)));
            assert_eq!(said.stdout, "200 1.1 1 0\n");
            let line = format!("SSL connection using TLSv{version}");
            assert!(said.stderr.contains(&line), "{}", said.stderr);
        }
        assert_arrived(server, 1..3);
    });
}

#[test]
fn curl_that_offers_http_2_falls_back_to_1_1() {
    with_servers(&["curl"], |server, _| {
        let mut curl = curl(&server);
        curl.args(["-v", "--http2"]);
        let said = succeed(post(&mut curl, &server, &update(1)));
        assert_eq!(said.stdout, "200 1.1 1 0\n");
        // A curl without HTTP/2 offers nothing to fall back from, and --http2 fails there.
        assert!(said.stderr.contains("ALPN"), "{}", said.stderr);
        assert_arrived(server, 1..2);
    });
}

#[test]
fn curl_is_refused_with_the_right_status_and_keeps_its_connection() {
    with_servers(&["curl"], |server, _| {
        let url = server.url();
        let secret = format!("X-Telegram-Bot-Api-Secret-Token: {SECRET}");
        let wrong = "X-Telegram-Bot-Api-Secret-Token: test-secret_0123456780";
        let body = update(9);
        let nowhere = url.replace(PATH, "/elsewhere");
        let refused: [(&str, &[&str]); 6] = [
            ("403", &["-H", wrong, "-d", &body, &url]),
            ("403", &["-d", &body, &url]),
            ("405", &["-H", &secret, &url]),
            ("405", &["-H", &secret, "--head", &url]),
            ("404", &["-H", &secret, "-d", &body, &nowhere]),
            ("400", &["-H", &secret, "-d", "{\"update_id\":", &url]),
        ];
        let mut curl = curl(&server);
        let mut expected = String::new();
        for (index, (status, args)) in refused.iter().enumerate() {
            if index > 0 {
                transfer(curl.arg("--next"), &server);
            }
            curl.args(*args);
            expected += &format!("{status} 1.1 {} 0\n", u8::from(index == 0));
        }
        // The same connection still serves.
        post(transfer(curl.arg("--next"), &server), &server, &update(1));
        assert_eq!(succeed(&mut curl).stdout, expected + "200 1.1 0 0\n");
        let report = assert_arrived(server, 1..2);
        let counts = [(400, 1), (403, 2), (404, 1), (405, 2)];
        assert!(report.requests_rejected.into_iter().eq(counts));
        assert_eq!(report.connections_accepted, 1);
    });
}

#[test]
fn curl_is_told_which_method_would_do() {
    with_servers(&["curl"], |server, _| {
        let mut curl = program("curl").unwrap();
        curl.args(["-q", "-sS", "--max-time", "30", "--noproxy", "*", "--head", "--cacert"]);
        let said = succeed(curl.arg(server.pki.cert_file()).arg(server.url())).stdout;
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "HTTP/1.1 405 Method Not Allowed");
        assert!(lines.contains(&"Allow: POST"), "{said}");
        assert_arrived(server, 0..0);
    });
}

#[test]
fn curl_that_compresses_is_told_not_to() {
    with_servers(&["curl"], |server, _| {
        let mut curl = curl(&server);
        curl.args(["-H", "Content-Encoding: gzip", "-D", "-"]);
        let said = succeed(post(&mut curl, &server, &update(1))).stdout;
        assert!(said.starts_with("HTTP/1.1 415 "), "{said}");
        assert!(said.contains("\r\nAccept-Encoding: identity\r\n"), "{said}");
        assert_arrived(server, 0..0);
    });
}

// openssl s_client

/// s_client that fails on a wrong certificate or name. Without `-ign_eof` it would leave at the end
/// of its input, before the answer, and take lines that begin with K or R for commands.
fn s_client(server: &TestServer, args: &[&str]) -> Command {
    let mut openssl = program("openssl").unwrap();
    openssl.args([
        "s_client",
        "-connect",
        &server.handle.local_addr().unwrap().to_string(),
        "-CAfile",
    ]);
    openssl.arg(server.pki.cert_file());
    openssl.args(["-verify_return_error", "-verify_hostname", "localhost"]).args(args);
    openssl
}

/// Update `id` in the last request of its connection.
fn last_request(id: i64) -> Vec<u8> {
    let text = String::from_utf8(support::request(&update(id))).unwrap();
    text.replace("Connection: keep-alive", "Connection: close").into_bytes()
}

/// Posts update `id` over s_client with `args`; what it said.
#[track_caller]
fn s_client_post(server: &TestServer, args: &[&str], id: i64) -> String {
    let mut openssl = s_client(server, args);
    let said = talk(openssl.arg("-ign_eof"), &last_request(id));
    let all = said.stdout + &said.stderr;
    assert!(said.status.success(), "{}: {all}", said.status);
    assert!(all.contains("HTTP/1.1 200 OK"), "{all}");
    assert!(all.contains("Verify return code: 0 (ok)"), "{all}");
    all
}

#[test]
fn openssl_verifies_and_posts_with_tls_1_2_and_1_3_with_and_without_a_server_name() {
    with_servers(&["openssl"], |server, _| {
        let mut id = 0;
        for version in ["2", "3"] {
            for name in [&["-servername", "localhost"][..], &["-noservername"]] {
                id += 1;
                let version_flag = format!("-tls1_{version}");
                let args = [&[&*version_flag], name].concat();
                let said = s_client_post(&server, &args, id);
                assert!(said.contains(&format!("New, TLSv1.{version}")), "{said}");
            }
        }
        let report = assert_arrived(server, 1..5);
        assert_eq!(report.handshakes_full, 4);
    });
}

/// With tickets the server keeps nothing, with session ids it keeps the session.
#[test]
fn openssl_resumes_tls_1_2_by_ticket_and_by_session_id() {
    with_servers(&["openssl"], |server, _| {
        for (id, how) in [(1, &["-tls1_2"][..]), (2, &["-tls1_2", "-no_ticket"])] {
            // One connection and five more that go on where the first ended.
            let said = s_client_post(&server, &[how, &["-reconnect"]].concat(), id);
            assert_eq!(said.matches("Reused, TLSv1.2").count(), 5, "{said}");
        }
        let report = assert_arrived(server, 1..3);
        assert_eq!((report.handshakes_full, report.handshakes_resumed), (2, 10));
        assert_eq!(report.connections_accepted, 12);
    });
}

#[test]
fn openssl_resumes_tls_1_3_by_ticket_and_is_offered_no_early_data() {
    with_servers(&["openssl"], |server, _| {
        let file = server.pki.dir().join("session");
        let file = file.to_str().unwrap();
        let said = s_client_post(&server, &["-tls1_3", "-sess_out", file], 1);
        assert!(said.contains("Post-Handshake New Session Ticket arrived"), "{said}");
        assert!(
            said.contains("Max Early Data: 0"),
            "a replayed post would be a doubled one: {said}"
        );
        let said = s_client_post(&server, &["-tls1_3", "-sess_in", file], 2);
        assert!(said.contains("Reused, TLSv1.3"), "{said}");
        let report = assert_arrived(server, 1..3);
        assert_eq!((report.handshakes_full, report.handshakes_resumed), (1, 1));
    });
}

#[test]
fn openssl_in_records_of_512_bytes_is_understood() {
    with_servers(&["openssl"], |server, _| {
        for (id, version) in [(1, "-tls1_2"), (2, "-tls1_3")] {
            let mut openssl = s_client(&server, &[version, "-max_send_frag", "512", "-ign_eof"]);
            let body = large_update(id, 100_000);
            let request = String::from_utf8(support::request(&body)).unwrap();
            let request = request.replace("keep-alive", "close");
            let said = talk(&mut openssl, request.as_bytes());
            assert!(said.stdout.contains("HTTP/1.1 200 OK"), "{}", said.stdout);
        }
        assert_arrived(server, 1..3);
    });
}

#[test]
fn openssl_changes_keys_in_the_middle_of_a_connection() {
    with_servers(&["openssl"], |server, _| {
        let mut openssl = Running::start(&mut s_client(&server, &["-tls1_3"]));
        openssl.wait_for("Verify return code: 0 (ok)");
        openssl.write(&support::request(&update(1)));
        server.wait_handled(1);
        // K: a new key for both directions, so that the server has to answer with one of its own.
        openssl.write(b"K\n");
        openssl.wait_for("KEYUPDATE");
        openssl.write(&last_request(2));
        support::wait_until("both answers came", || {
            openssl.so_far().matches("HTTP/1.1 200 OK").count() == 2
        });
        openssl.finish();
        let report = assert_arrived(server, 1..3);
        assert_eq!(report.connections_accepted, 1);
    });
}

/// The refusal goes out with the server's next bytes, which may be its last ones: until then such a
/// client waits no longer than an idle one may.
#[test]
fn openssl_is_refused_a_renegotiation_and_others_are_served_on() {
    if program("openssl").is_none() {
        return;
    }
    for driver in support::drivers() {
        let limits = support::timeouts(Duration::from_secs(3));
        let server = TestServer::with(|server| server.driver(driver).limits(limits));
        let mut openssl = Running::start(&mut s_client(&server, &["-tls1_2"]));
        openssl.wait_for("Verify return code: 0 (ok)");
        openssl.write(b"R\n");
        openssl.wait_for("RENEGOTIATING");
        openssl.wait_for("no renegotiation");
        drop(openssl);
        s_client_post(&server, &["-tls1_2"], 1);
        let report = assert_arrived(server, 1..2);
        assert_eq!(report.handshakes_full, 2);
    }
}

#[test]
fn openssl_with_tls_1_1_is_refused() {
    with_servers(&["openssl"], |server, _| {
        // Level 0, or its own policy would keep it from asking.
        let args = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
        let said = talk(&mut s_client(&server, &args), b"");
        assert!(!said.status.success());
        if said.stderr.contains("alert protocol version") {
            let report = assert_arrived(server, 0..0);
            assert_eq!(report.handshakes_failed, 1);
        } else {
            eprintln!("skipped: this openssl cannot offer TLS 1.1: {}", said.stderr);
        }
    });
}

// Python, Node and Java

fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "clients", name].iter().collect()
}

/// Runs a script with the arguments that all of them take first; the JSON that it prints.
#[track_caller]
fn run_script(
    program: &str,
    name: &str,
    (server, host): (&TestServer, &str),
    more: &[&str],
) -> serde_json::Value {
    let mut command = support::external::program(program).unwrap();
    command.arg(script(name)).args([host, &server.handle.local_addr().unwrap().port().to_string()]);
    command.arg(server.pki.cert_file()).args([PATH, SECRET]).args(more);
    let said = succeed(&mut command);
    serde_json::from_str(&said.stdout).expect(&said.stdout)
}

#[test]
fn python_posts_fifty_times_over_one_connection_by_name_and_by_address() {
    with_servers(&["python3"], |server, _| {
        for (first, host) in [("0", "127.0.0.1"), ("50", "localhost")] {
            let said = run_script("python3", "keepalive.py", (&server, host), &[first, "50"]);
            assert_eq!(said["statuses"], serde_json::json!(vec![200; 50]));
            assert_eq!(said["connections"], 1, "{host}");
            assert_eq!(said["verified"], true, "a client without the certificate refuses");
        }
        server.wait_handled(100);
        assert!(server.handled.all().iter().all(|update| update["message"]["text"] == "Жук"));
        let report = assert_arrived(server, 0..100);
        assert_eq!(report.connections_accepted, 4);
        assert_eq!((report.handshakes_full, report.handshakes_failed), (2, 2));
    });
}

#[test]
fn node_posts_over_twenty_sockets_at_once() {
    with_servers(&["node"], |server, driver| {
        let more = ["1000", "20", "20"];
        let said = run_script("node", "agent.js", (&server, "localhost"), &more);
        assert_eq!(said["statuses"], serde_json::json!({"200": 400}), "{driver}");
        assert_eq!(said["connections"], 20);
        let report = assert_arrived(server, 1000..1400);
        assert_eq!(report.connections_accepted, 20);
        assert!(report.requests_rejected.is_empty(), "{report}");
    });
}

/// By default it offers HTTP/2 and takes what it is given.
#[test]
fn java_posts_one_after_the_other_and_at_once_by_http_1_1() {
    with_servers(&["java"], |server, driver| {
        for (version, first) in [("HTTP_2", "0"), ("HTTP_1_1", "40")] {
            let said = run_script("java", "Post.java", (&server, "localhost"), &[version, first]);
            assert_eq!(said["statuses"], serde_json::json!(vec![200; 40]), "{driver}");
            assert_eq!(said["versions"], serde_json::json!(["HTTP_1_1"]));
        }
        server.wait_handled(80);
        assert!(server.handled.all().iter().all(|update| update["message"]["text"] == "Жук"));
        let report = assert_arrived(server, 0..80);
        assert_eq!(report.handshakes_failed, 0);
        assert!(report.connections_accepted <= 2 + 2 * 20, "{report}");
    });
}
