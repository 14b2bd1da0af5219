//! What goes to the Bot API, and what does not.

use std::{net::TcpListener, time::Duration};

use ringhook_outputs::getupdates::GetUpdatesSettings;

use crate::support::{
    http::{Act, FakeServer, answer, free_address, hang_up, json},
    log,
    poll::{PollBench, TOKEN, bots},
    wait_until,
};

fn bench(root: &str) -> PollBench {
    PollBench::with(GetUpdatesSettings::new().bots(bots(root)), |server| server)
}

#[test]
fn other_methods_go_through_unchanged() {
    let api = FakeServer::start(|seen| async move {
        let body = format!("{{\"ok\":true,\"result\":{}}}", seen.body.len());
        answer(200, "Content-Type: application/json\r\nX-Of-The-Api: 1\r\n", body)
    });
    let bench = bench(&api.url("/root"));
    let mut client = bench.client();
    let headers = "Content-Type: multipart/form-data; boundary=x\r\nUser-Agent: some\r\n\
                   Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\n";
    let body = [b"--x\r\n".as_slice(), &[0, 255, 10, 13].repeat(300_000)].concat();
    let path = format!("/bot{TOKEN}/sendDocument?chat_id=%31&a=b");
    let said = client.request("POST", &path, headers, &body);
    assert_eq!((said.status, said.json()["result"].as_u64()), (200, Some(body.len() as u64)));
    assert!(said.head.to_ascii_lowercase().contains("x-of-the-api: 1"), "{}", said.head);
    client.request("GET", &format!("/bot{TOKEN}/test/GetMe"), "", b"");
    client.request("GET", &format!("/file/bot{TOKEN}/photos/file%20_1.jpg"), "", b"");
    let seen = api.seen();
    let lines: Vec<_> = seen.iter().map(|it| it.line()).collect();
    assert_eq!(
        lines,
        [
            format!("POST /root{path}"),
            format!("GET /root/bot{TOKEN}/test/GetMe"),
            format!("GET /root/file/bot{TOKEN}/photos/file%20_1.jpg"),
        ]
    );
    assert_eq!(seen[0].body, body);
    assert_eq!(seen[0].header("content-type"), Some("multipart/form-data; boundary=x"));
    assert_eq!(seen[0].header("user-agent"), Some("some"));
    assert_eq!(seen[0].header("host"), Some(&*api.address.unwrap().to_string()));
    assert_eq!((seen[0].header("x-hop"), seen[0].header("connection")), (None, None));
    assert_eq!(api.connections().0, 1, "the connection is kept");
    assert_eq!((bench.status().passed, bench.status().failed), (3, 0));
}

#[test]
fn errors_of_the_api_are_passed_on_and_those_of_the_network_look_like_them() {
    let api = FakeServer::start(|seen| async move {
        match seen.line() {
            line if line.contains("sendMessage") => answer(429, "Retry-After: 7\r\n", "{}"),
            _ => hang_up(),
        }
    });
    let here = bench(&api.url(""));
    let mut client = here.client();
    let said = client.call("sendMessage", "");
    assert!(said.status == 429 && said.head.to_ascii_lowercase().contains("retry-after: 7"));
    client.call("getMe", "").assert_error(502, "Bad Gateway: the Bot API has ended");
    let nowhere = bench(&format!("http://{}", free_address()));
    nowhere.client().call("getMe", "").assert_error(502, "Bad Gateway: ringhook can not reach");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let root = format!("http://{}", silent.local_addr().unwrap());
    let settings = GetUpdatesSettings::new().timeout(Duration::from_millis(50)).bots(bots(&root));
    let slow = PollBench::with(settings, |server| server);
    slow.client().call("getMe", "").assert_error(504, "Gateway Timeout");
    assert_eq!((slow.status().passed, slow.status().failed), (1, 1));
}

#[test]
fn a_kept_connection_that_the_api_has_closed_costs_no_call() {
    let api = FakeServer::start(|_| async move {
        let Act::Answer(bytes) = json("{}") else { unreachable!() };
        Act::Last(bytes)
    });
    let bench = bench(&api.url(""));
    let mut client = bench.client();
    for calls in 1..=20 {
        assert_eq!(client.call("getMe", "").status, 200);
        wait_until("the connection is closed", || api.connections() == (calls, 0));
    }
}

#[test]
fn what_would_end_the_updates_never_reaches_the_api() {
    let api = FakeServer::start(|_| async move { json("{}") });
    let bench = bench(&api.url(""));
    let mut client = bench.client();
    for method in [
        "deleteWebhook",
        "DELETEWEBHOOK",
        "delete%57ebhook",
        "test/deleteWebhook",
        "getWebhookInfo",
        "close",
        "setWebhook",
    ] {
        let said = client.call(method, "").json();
        assert_eq!(said["ok"], true, "{method}: {said}");
    }
    client.call("setWebhook", "url=https://x").assert_error(400, "Bad Request: this bot gets its");
    client.call("logOut", "").assert_error(400, "Bad Request: this bot gets its updates");
    let path = format!("/file/bot{TOKEN}/../../bot{TOKEN}/deleteWebhook");
    for path in [&*path, &path.replace("..", "%2e%2E"), &format!("/bot{TOKEN}//deleteWebhook")] {
        client.request("GET", path, "", b"").assert_error(404, "Not Found");
    }
    assert_eq!(api.count(), 0, "{:?}", api.seen());
}

#[test]
fn no_token_is_logged_and_none_but_the_bots_own_is_taken() {
    log::keep();
    let bench = bench(&format!("http://{}/{TOKEN}", free_address()));
    let mut client = bench.client();
    let (number, secret) = TOKEN.split_once(':').unwrap();
    for token in [number, secret, &format!("{number}:x"), &format!("{TOKEN}x"), &TOKEN[..20]] {
        let path = format!("/bot{token}/getUpdates");
        client.request("GET", &path, "", b"").assert_error(404, "Not Found");
    }
    assert_eq!(bench.status().refused, 5);
    client.call("getMe", "").assert_error(502, "Bad Gateway");
    let status = serde_json::to_string(&bench.status()).unwrap();
    let shown = [format!("{:?}", bench.output), status];
    drop(bench);
    for line in log::lines().iter().chain(&shown) {
        assert!(!line.contains("AAbb"), "{line}");
    }
}
