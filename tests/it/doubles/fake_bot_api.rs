//! The Bot API server that other tests use, `support/bot_api`, asked over raw HTTP.
//!
//! What a real server can be asked as well goes to one where `RINGHOOK_BOT_API_ROOT` names it (a
//! telegram-bot-api of one's own, over `http://`, started without `--local`) and
//! `RINGHOOK_BOT_API_TOKEN` a bot: so the fake is compared with what it stands for. That bot's
//! webhook is set and deleted again and again, its pending updates are dropped, and no user may
//! write to it. Those tests are in [`as_telegram`]; the other ones always ask the fake.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, IsCa};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use crate::support::{
    self, PATH, SECRET, TestServer,
    bot_api::{FakeBotApi, TOKEN, door::Reachable},
    external::program,
    pki::{Authority, Issued, params, self_signed},
    port::Port,
    raw::Raw,
    update_of, wait_until,
};

/// A name that resolves, for a real server as well.
const URL: &str = "https://example.com/hook";
/// An address that is not reserved; nothing is ever sent there.
const PUBLIC: &str = "1.1.1.1";

/// A server to be asked.
struct Api {
    /// `None` where it is a real one.
    fake: Option<FakeBotApi>,
    authority: String,
    token: String,
    /// How much time has to lie between two calls of setWebhook.
    pause: Duration,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// Telegram's second between two calls of setWebhook, and a little more.
const SECOND: Duration = Duration::from_millis(1_050);
/// The same of a fake that need not take so long.
const SHORT: Duration = Duration::from_millis(50);

/// A real server has one bot for all tests.
static TURN: Mutex<()> = Mutex::new(());

impl Api {
    /// The fake.
    fn new(fake: FakeBotApi) -> Self {
        let (authority, token) = (fake.addr().to_string(), fake.token().to_owned());
        Self { fake: Some(fake), authority, token, pause: SECOND, _turn: None }
    }

    fn fake() -> Self {
        Self::new(FakeBotApi::start())
    }

    /// The real server where there is one, in the state of a new bot; a strict fake otherwise.
    fn any() -> Self {
        let Ok(root) = std::env::var("RINGHOOK_BOT_API_ROOT") else {
            let fake = FakeBotApi::builder().permit_loopback(false).name("example.com", PUBLIC);
            let fake = fake.set_webhook_every(SHORT);
            return Self { pause: 2 * SHORT, ..Self::new(fake.start()) };
        };
        let authority = root.strip_prefix("http://").expect("RINGHOOK_BOT_API_ROOT is http://");
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let api = Self {
            fake: None,
            authority: authority.trim_end_matches('/').to_owned(),
            token: std::env::var("RINGHOOK_BOT_API_TOKEN").expect("RINGHOOK_BOT_API_TOKEN"),
            pause: SECOND,
            _turn: Some(turn),
        };
        // Empties allowed_updates and the queue.
        api.set(&json!({"url": URL, "allowed_updates": [], "drop_pending_updates": true}));
        api.delete();
        api.pause();
        api
    }

    fn send(&self, request: &str, body: &[u8]) -> Raw<TcpStream> {
        let mut raw = Raw::new(TcpStream::connect(&self.authority).expect("a server"));
        let head = request.replacen(" HTTP/1.1\r\n", " HTTP/1.1\r\nHost: localhost\r\n", 1);
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        raw.send(&[head.as_bytes(), body].concat());
        raw
    }

    /// The status and the body's JSON.
    #[track_caller]
    fn exchange(&self, request: &str, body: &[u8]) -> (u16, Value) {
        let response = self.send(request, body).response();
        let body = serde_json::from_slice(&response.body).expect("JSON");
        (response.status, body)
    }

    #[track_caller]
    fn get(&self, method: &str) -> (u16, Value) {
        self.exchange(&format!("GET /bot{}/{method} HTTP/1.1\r\n", self.token), b"")
    }

    /// Calls with parameters as JSON.
    #[track_caller]
    fn call(&self, method: &str, parameters: &Value) -> (u16, Value) {
        self.exchange(&self.head(method, "application/json"), parameters.to_string().as_bytes())
    }

    fn head(&self, method: &str, content_type: &str) -> String {
        format!("POST /bot{}/{method} HTTP/1.1\r\nContent-Type: {content_type}\r\n", self.token)
    }

    /// Calls with parts, of which `certificate` is a file.
    #[track_caller]
    fn upload(&self, method: &str, parameters: &[(&str, &str)], certificate: &str) -> (u16, Value) {
        let mut body = String::new();
        for (name, value) in parameters {
            let disposition = format!("Content-Disposition: form-data; name=\"{name}\"");
            body += &format!("--xyz\r\n{disposition}\r\n\r\n{value}\r\n");
        }
        body += &format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"certificate\"; \
             filename=\"cert.pem\"\r\nContent-Type: application/x-pem-file\r\n\r\n{certificate}\r\n\
             --xyz--\r\n"
        );
        self.exchange(&self.head(method, "multipart/form-data; boundary=xyz"), body.as_bytes())
    }

    /// The result of a call that succeeds.
    #[track_caller]
    fn result(&self, method: &str, parameters: &Value) -> Value {
        let (status, body) = self.call(method, parameters);
        assert_eq!((status, &body["ok"]), (200, &json!(true)), "{body}");
        body["result"].clone()
    }

    /// Sets a webhook, in a second of its own.
    #[track_caller]
    fn set(&self, parameters: &Value) -> (u16, Value) {
        for _ in 0..5 {
            let (status, body) = self.call("setWebhook", parameters);
            if status != 429 {
                return (status, body);
            }
            self.pause();
        }
        panic!("setWebhook is never allowed");
    }

    #[track_caller]
    fn must_set(&self, parameters: &Value) {
        let (status, body) = self.set(parameters);
        assert_eq!(status, 200, "{body}");
    }

    fn pause(&self) {
        // A real server asks for some time between two calls.
        thread::sleep(self.pause);
    }

    #[track_caller]
    fn delete(&self) -> String {
        let (status, body) = self.call("deleteWebhook", &json!({}));
        assert_eq!(status, 200, "{body}");
        body["description"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn info(&self) -> Value {
        self.result("getWebhookInfo", &json!({}))
    }

    /// The ids that getUpdates gives.
    #[track_caller]
    fn updates(&self, parameters: &Value) -> Vec<i64> {
        let updates = self.result("getUpdates", parameters);
        updates.as_array().unwrap().iter().map(|it| it["update_id"].as_i64().unwrap()).collect()
    }

    fn bot(&self) -> &FakeBotApi {
        self.fake.as_ref().expect("a fake")
    }
}

#[track_caller]
fn assert_refused((status, body): (u16, Value), code: u16, description: &str) {
    assert_eq!(status, code, "{body}");
    let expected = json!({"ok": false, "error_code": code, "description": description});
    assert_eq!(body, expected);
}

/// What a real server is asked as well.
mod as_telegram {
    use super::*;

    #[test]
    fn a_bot_knows_itself() {
        let api = Api::any();
        for (status, body) in [api.get("getMe"), api.get("GETME"), api.call("getme", &json!({}))] {
            assert_eq!(status, 200);
            let me = &body["result"];
            assert_eq!(me["is_bot"], json!(true));
            let id = api.token.split(':').next().unwrap();
            assert_eq!(me["id"].to_string(), id);
            assert!(me["username"].as_str().unwrap().ends_with("bot"), "{me}");
        }
    }

    #[test]
    fn an_unknown_token_and_an_unknown_method_are_refused() {
        let api = Api::any();
        let as_other =
            |token: &str| api.exchange(&format!("GET /bot{token}/getMe HTTP/1.1\r\n"), b"");
        assert_refused(as_other("1:wrong-token_0123456789"), 401, "Unauthorized");
        let (status, body) = as_other("0");
        assert_eq!((status, &body["error_code"]), (401, &json!(401)), "{body}");
        let (status, body) = api.get("getNothing");
        assert_eq!((status, &body["error_code"]), (404, &json!(404)), "{body}");
        assert!(body["description"].as_str().unwrap().starts_with("Not Found"), "{body}");
    }

    #[test]
    fn parameters_come_in_query_form_json_and_parts() {
        let api = Api::any();
        let shown = |(status, body): (u16, Value), max: u32| {
            assert_eq!(status, 200, "{body}");
            let info = api.info();
            assert_eq!(info["url"], json!(URL));
            assert_eq!(info["max_connections"], json!(max), "{info}");
            assert_eq!(info["has_custom_certificate"], json!(max == 14), "{info}");
            assert_eq!(info["allowed_updates"], json!(["message", "chat_member"]));
            assert_eq!(info["pending_update_count"], json!(0));
            assert!(info["ip_address"].is_string(), "{info}");
            assert!(info.get("last_error_date").is_none(), "{info}");
            api.pause();
        };
        const ALLOWED: &str = "%5B%22message%22,%22chat_member%22%5D";
        let form = format!("url=https%3A%2F%2Fexample.com%2Fhook&allowed_updates={ALLOWED}");
        shown(api.get(&format!("setWebhook?{form}&max_connections=11")), 11);
        let head = api.head("setWebhook", "application/x-www-form-urlencoded");
        shown(api.exchange(&head, format!("{form}&max_connections=12").as_bytes()), 12);
        let allowed = ["message", "chat_member"];
        let parameters = json!({"url": URL, "allowed_updates": allowed, "max_connections": 13});
        shown(api.call("setWebhook", &parameters), 13);
        let certificate = self_signed(&params("example.com", &[], &[])).cert;
        let allowed = json!(allowed).to_string();
        let parts = [("url", URL), ("allowed_updates", &allowed), ("max_connections", "14")];
        shown(api.upload("setWebhook", &parts, &certificate), 14);
        assert_eq!(api.delete(), "Webhook was deleted");
        let info = api.info();
        assert_eq!((&info["url"], &info["has_custom_certificate"]), (&json!(""), &json!(false)));
        assert!(info.get("max_connections").is_none(), "{info}");
    }

    #[test]
    fn curl_is_understood() {
        let (api, Some(mut curl)) = (Api::any(), program("curl")) else { return };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cert.pem");
        let certificate = self_signed(&params("example.com", &[], &[])).cert;
        std::fs::write(&file, &certificate).unwrap();
        let root = format!("http://{}/bot{}", api.authority, api.token);
        let upload = format!("certificate=@{}", file.display());
        let form = ["-F", &format!("url={URL}"), "-F", "max_connections=7", "-F", &upload];
        let chunked = ["-H", "Transfer-Encoding: chunked"];
        curl.args(["-sS", &format!("{root}/setWebhook")]).args(form).args(chunked);
        let output = curl.output().unwrap();
        let expected = r#"{"ok":true,"result":true,"description":"Webhook was set"}"#;
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        assert_eq!(api.info()["has_custom_certificate"], json!(true));
        assert_eq!(api.info()["max_connections"], json!(7));
        if let Some(fake) = &api.fake {
            let kept = fake.webhook().unwrap().certificate.unwrap();
            assert_eq!(kept, certificate.as_bytes());
        }
    }

    #[test]
    fn a_url_that_telegram_does_not_send_to_is_refused_and_takes_the_webhook_with_it() {
        let api = Api::any();
        for (url, why) in [
            ("ftp://example.com/", "invalid webhook URL specified"),
            ("https://example.com:99999/", "invalid webhook URL specified"),
            ("http://example.com/", "bad webhook: An HTTPS URL must be provided for webhook"),
            (
                "https://example.com:4443/",
                "bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443",
            ),
            ("https://127.0.0.1/", "bad webhook: IP address 127.0.0.1 is reserved"),
            ("https://192.168.1.7:8443/", "bad webhook: IP address 192.168.1.7 is reserved"),
            ("https://203.0.113.7:88/", "bad webhook: IP address 203.0.113.7 is reserved"),
            ("https://[2001:db8::1]/", "bad webhook: IPv6-only addresses are not allowed"),
        ] {
            api.must_set(&json!({"url": URL}));
            api.pause();
            assert_refused(api.set(&json!({"url": url})), 400, &format!("Bad Request: {why}"));
            assert_eq!(api.info()["url"], json!(""), "{url}");
            api.pause();
        }
        let (status, body) = api.set(&json!({"url": "https://no-such-host.invalid/"}));
        assert_eq!(status, 400);
        let why = body["description"].as_str().unwrap();
        assert!(why.starts_with("Bad Request: bad webhook: Failed to resolve host"), "{why}");
        api.pause();
        let fixed = |address: &str| api.set(&json!({"url": URL, "ip_address": address}));
        let reserved = "Bad Request: bad webhook: IP address 10.0.0.1 is reserved";
        assert_refused(fixed("10.0.0.1"), 400, reserved);
        api.pause();
        let invalid = "Bad Request: bad webhook: Invalid IP address specified";
        assert_refused(fixed("somewhere"), 400, invalid);
        api.pause();
        assert_eq!(fixed(PUBLIC).0, 200);
        assert_eq!(api.info()["ip_address"], json!(PUBLIC));
    }

    #[test]
    fn max_connections_are_clamped() {
        let api = Api::any();
        for (given, taken) in [(json!(null), 40), (json!(0), 1), (json!(-3), 1), (json!(1), 1)]
            .into_iter()
            .chain([(json!(100), 100), (json!(101), 100), (json!("many"), 1)])
        {
            api.must_set(&json!({"url": URL, "max_connections": given}));
            assert_eq!(api.info()["max_connections"], json!(taken), "{given}");
            api.pause();
        }
    }

    #[test]
    fn secret_tokens_are_checked() {
        let api = Api::any();
        let set = |token: &str| {
            let answer = api.set(&json!({"url": URL, "secret_token": token}));
            api.pause();
            answer
        };
        assert_eq!(set(&"aZ0_-".repeat(51)).0, 200);
        assert_eq!(set(&"x".repeat(256)).0, 200);
        assert_refused(set(&"x".repeat(257)), 400, "Bad Request: secret token is too long");
        for bad in ["a b", "a.b", "a+b", "\u{e4}"] {
            let why = "Bad Request: secret token contains unallowed characters";
            assert_refused(set(bad), 400, why);
        }
    }

    #[test]
    fn set_webhook_is_allowed_once_a_second() {
        // A fake as fast as Telegram.
        let api = Some(Api::any()).filter(|api| api.fake.is_none()).unwrap_or_else(Api::fake);
        api.must_set(&json!({"url": URL}));
        assert_eq!(api.delete(), "Webhook was deleted");
        let (status, body) = api.call("setWebhook", &json!({"url": URL}));
        assert_eq!(status, 429);
        let expected = json!({
            "ok": false,
            "error_code": 429,
            "description": "Too Many Requests: retry after 1",
            "parameters": {"retry_after": 1},
        });
        assert_eq!(body, expected);
        api.pause();
        assert_eq!(api.call("setWebhook", &json!({"url": URL})).0, 200);
    }

    #[test]
    fn what_changes_nothing_says_so() {
        let api = Api::any();
        assert_eq!(api.delete(), "Webhook is already deleted");
        let set = |parameters: Value| {
            let (status, body) = api.set(&parameters);
            assert_eq!(status, 200, "{body}");
            api.pause();
            body["description"].clone()
        };
        assert_eq!(set(json!({"url": URL})), "Webhook was set");
        assert_eq!(set(json!({"url": URL})), "Webhook is already set");
        assert_eq!(set(json!({"url": URL, "max_connections": 40})), "Webhook is already set");
        assert_eq!(set(json!({"url": URL, "secret_token": "x"})), "Webhook was set");
        assert_eq!(set(json!({"url": URL, "secret_token": "x"})), "Webhook is already set");
        assert_eq!(set(json!({"url": ""})), "Webhook was deleted");
    }

    #[test]
    fn allowed_updates_stay_until_others_are_named() {
        let api = Api::any();
        let allowed = |parameters: Value, expected: Value| {
            api.must_set(&parameters);
            assert_eq!(api.info()["allowed_updates"], expected, "{parameters}");
            api.pause();
        };
        allowed(json!({"url": URL}), json!(null));
        let kinds = json!(["message", "message_reaction"]);
        allowed(json!({"url": URL, "allowed_updates": kinds}), kinds.clone());
        allowed(json!({"url": URL, "max_connections": 2}), kinds.clone());
        allowed(json!({"url": URL, "allowed_updates": "message"}), kinds.clone());
        api.delete();
        assert_eq!(api.info()["allowed_updates"], kinds);
        assert!(api.updates(&json!({"allowed_updates": ["poll", "no_such_kind"]})).is_empty());
        assert_eq!(api.info()["allowed_updates"], json!(["poll"]));
        allowed(json!({"url": URL, "allowed_updates": []}), json!(null));
    }

    #[test]
    fn get_updates_is_refused_while_there_is_a_webhook() {
        let api = Api::any();
        api.must_set(&json!({"url": URL}));
        let conflict = "Conflict: can't use getUpdates method while webhook is active; use \
                        deleteWebhook to delete the webhook first";
        let began = Instant::now();
        assert_refused(api.call("getUpdates", &json!({"timeout": 30})), 409, conflict);
        assert!(began.elapsed() < Duration::from_secs(10), "no long poll");
        api.delete();
        assert!(api.updates(&json!({})).is_empty());
    }

    #[test]
    fn a_second_long_poll_and_a_webhook_end_the_first() {
        let api = Api::any();
        let poll = |number: u64| {
            let body = json!({"timeout": 20}).to_string();
            let raw = api.send(&api.head("getUpdates", "application/json"), body.as_bytes());
            // It has to wait before the next one comes; of a real server that cannot be seen.
            match &api.fake {
                Some(fake) => wait_until("the call waits", || fake.polls() == number),
                None => thread::sleep(Duration::from_secs(1)),
            }
            raw
        };
        let refused = |mut raw: Raw<TcpStream>, why: &str| {
            let response = raw.response();
            let body = serde_json::from_slice(&response.body).unwrap();
            assert_refused((response.status, body), 409, why);
        };
        let first = poll(1);
        let second = poll(2);
        let other = "Conflict: terminated by other getUpdates request; make sure that only one bot \
                     instance is running";
        refused(first, other);
        api.must_set(&json!({"url": URL}));
        refused(second, "Conflict: terminated by setWebhook request");
    }
}

/// getUpdates, as it can only be asked where updates can be made.
mod get_updates {
    use super::*;

    #[test]
    fn an_offset_confirms_what_is_before_it() {
        let api = Api::fake();
        let ids = api.bot().push_many(120);
        assert_eq!(ids.len(), 120);
        assert_eq!(api.updates(&json!({"limit": 1_000})), ids[..100]);
        assert_eq!(api.updates(&json!({"limit": 0})), ids[..1]);
        assert_eq!(api.updates(&json!({"limit": 3})), ids[..3], "nothing is confirmed");
        assert_eq!(api.updates(&json!({"offset": ids[50], "limit": 2})), ids[50..52]);
        assert_eq!(api.info()["pending_update_count"], json!(70));
        assert_eq!(api.updates(&json!({"offset": ids[10], "limit": 1})), ids[50..51]);
        let next = ids[119] + 1;
        assert_eq!(api.updates(&json!({"offset": next + 11, "limit": 1})), ids[50..51], "too far");
        assert_eq!(api.updates(&json!({"offset": -2})), ids[118..]);
        assert_eq!(api.bot().pending(), ids[118..]);
        assert!(api.updates(&json!({"offset": next})).is_empty());
        assert!(api.bot().pending().is_empty());
    }

    #[test]
    fn a_long_poll_waits_for_an_update_and_no_longer_than_asked() {
        let api = Api::fake();
        let began = Instant::now();
        assert!(api.updates(&json!({"timeout": 1})).is_empty());
        assert!(began.elapsed() >= Duration::from_secs(1));
        let mut poll = api.send(
            &api.head("getUpdates", "application/json"),
            json!({"timeout": 50}).to_string().as_bytes(),
        );
        wait_until("the call waits", || api.bot().polls() == 2);
        assert_eq!(api.bot().calls()[1].status, None);
        let update = "{\"update_id\":7000,\n\"message\":{\"text\":\"\u{416} \u{1f600}\"}}";
        assert_eq!(api.bot().push(update), Some(7000));
        let body = String::from_utf8(poll.response().body).unwrap();
        let expected = "{\"update_id\":7000,\n\"message\":{\"text\":\"\\u0416 \\ud83d\\ude00\"}}";
        assert_eq!(body, format!("{{\"ok\":true,\"result\":[{expected}]}}"));
    }

    #[test]
    fn kinds_that_were_not_asked_for_never_come() {
        let api = Api::fake();
        let bot = api.bot();
        let member = r#"{"chat_member":{"chat":{"id":1}}}"#;
        assert_eq!(bot.push(member), None);
        assert!(api.updates(&json!({"allowed_updates": ["chat_member"]})).is_empty());
        let id = bot.push(member).expect("wanted by now");
        assert_eq!(bot.push(r#"{"message":{"chat":{"id":1}}}"#), None);
        assert_eq!(bot.push(r#"{"new_in_2030":{}}"#), Some(id + 1));
        assert_eq!(api.updates(&json!({})), [id, id + 1]);
    }
}

/// What a test wants to go wrong.
mod trouble {
    use super::*;

    #[test]
    fn the_server_goes_and_comes_back() {
        let api = Api::fake();
        assert_eq!(api.get("getMe").0, 200);
        api.bot().reach(Reachable::Refused);
        TcpStream::connect(&api.authority).expect_err("nothing listens");
        api.bot().reach(Reachable::BadGateway);
        let response = api.send("GET / HTTP/1.1\r\n", b"").response();
        assert_eq!((response.status, &*response.headers["content-type"]), (502, "text/html"));
        api.bot().reach(Reachable::Silent);
        let mut silent = api.send("GET / HTTP/1.1\r\n", b"");
        silent.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        silent.stream.read(&mut [0; 1]).expect_err("no answer");
        api.bot().reach(Reachable::Yes);
        assert_eq!(api.get("getMe").0, 200);
        let (calls, other) = (api.bot().calls(), api.get("getMe").0);
        assert_eq!((calls.len(), other), (2, 200));
        assert_eq!((&*calls[0].verb, &*calls[0].token), ("GET", TOKEN));
    }

    #[test]
    fn calls_are_flooded_and_answered_as_the_test_says() {
        let api = Api::fake();
        api.bot().flood(2, 7);
        for _ in 0..2 {
            let response = api.send(&api.head("getMe", "text/plain"), b"").response();
            assert_eq!((response.status, &*response.headers["retry-after"]), (429, "7"));
        }
        api.bot().answer_next("getWebhookInfo", 200, "no JSON");
        assert_eq!(api.get("getMe").0, 200);
        let odd = api.send(&api.head("getWebhookInfo", "text/plain"), b"").response();
        assert_eq!(odd.body, b"no JSON");
        assert_eq!(api.info()["url"], json!(""));
    }

    #[test]
    fn another_client_may_have_the_token() {
        let api = Api::fake();
        api.must_set(&json!({"url": URL, "secret_token": "x", "max_connections": 3}));
        api.bot().set_webhook_behind_back("https://elsewhere.example/");
        let info = api.info();
        assert_eq!(info["url"], json!("https://elsewhere.example/"));
        assert_eq!(info["max_connections"], json!(40));
        assert_eq!(api.bot().webhook().unwrap().secret_token, "");
        api.bot().remove_webhook_behind_back();
        assert_eq!(api.info()["url"], json!(""));
        assert_eq!(api.bot().calls_of("setWebhook").len(), 1);
        api.bot().report_error(1_700_000_000, "Read timeout expired");
        api.bot().report_synchronization_error(1_700_000_001);
        let info = api.info();
        assert_eq!(info["last_error_date"], json!(1_700_000_000));
        assert_eq!(info["last_error_message"], json!("Read timeout expired"));
        assert_eq!(info["last_synchronization_error_date"], json!(1_700_000_001));
        api.bot().revoke();
        assert_refused(api.get("getMe"), 401, "Unauthorized");
    }

    #[test]
    fn each_token_has_a_bot_of_its_own() {
        let fake = FakeBotApi::builder().token("1:first").token("2:second").start();
        let api = Api::new(fake);
        api.must_set(&json!({"url": URL}));
        assert_eq!(api.bot().id(), 1);
        assert_eq!(api.bot().bot("2:second").webhook(), None);
        let (status, body) = api.exchange("GET /bot2:second/getMe HTTP/1.1\r\n", b"");
        assert_eq!((status, &body["result"]["id"]), (200, &json!(2)));
    }

    #[test]
    fn a_local_server_takes_any_port_plain_http_and_more_connections() {
        let api = Api::new(FakeBotApi::builder().local(true).permit_loopback(false).start());
        api.must_set(&json!({"url": "http://10.0.0.1:1234/x"}));
        assert_eq!(api.info()["max_connections"], json!(100));
        api.pause();
        api.must_set(&json!({"url": "http://[::1]:1234/x", "max_connections": 1_000_000}));
        assert_eq!(api.info()["max_connections"], json!(100_000));
        assert_eq!(api.info()["ip_address"], json!("::1"));
    }
}

/// Delivery to a webhook.
mod delivery {
    use super::*;

    /// Uploads the server's certificate and sets it as the webhook.
    fn set(api: &Api, server: &TestServer) {
        let url = url(server, "localhost");
        let parameters = [("url", &*url), ("secret_token", SECRET)];
        let (status, body) = api.upload("setWebhook", &parameters, &server.pki.cert);
        assert_eq!(status, 200, "{body}");
    }

    fn url(server: &TestServer, host: &str) -> String {
        format!("https://{host}:{}{PATH}", server.handle.local_addr().unwrap().port())
    }

    /// A webhook over plain HTTP, for servers in local mode, whose answers are the test's; it keeps
    /// what it gets.
    struct Plain {
        url: String,
        got: Arc<Mutex<Vec<String>>>,
        connections: Arc<AtomicUsize>,
    }

    impl Plain {
        fn start(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://u:p@{}/x?y=1", listener.local_addr().unwrap());
            let (got, connections) = (Arc::default(), Arc::default());
            let plain = Self { url, got: Arc::clone(&got), connections: Arc::clone(&connections) };
            let answer = Arc::new(answer);
            thread::spawn(move || {
                for socket in listener.incoming() {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (got, answer) = (Arc::clone(&got), Arc::clone(&answer));
                    thread::spawn(move || Self::serve(socket.unwrap(), &got, &*answer));
                }
            });
            plain
        }

        fn serve(
            mut socket: TcpStream,
            got: &Mutex<Vec<String>>,
            answer: &impl Fn(usize, &str) -> String,
        ) {
            let mut chunk = vec![0; 64 * 1024];
            // The sender writes a request at once, and one at a time.
            while let Ok(length @ 1..) = socket.read(&mut chunk) {
                let request = String::from_utf8(chunk[..length].to_vec()).unwrap();
                let number = {
                    let mut got = got.lock().unwrap();
                    got.push(request.clone());
                    got.len()
                };
                let answer = answer(number, &request);
                if answer.is_empty() || socket.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }

        fn requests(&self) -> Vec<String> {
            self.got.lock().unwrap().clone()
        }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

    fn local() -> Api {
        Api::new(FakeBotApi::builder().local(true).time_scale(50).start())
    }

    #[test]
    fn updates_reach_the_receiver_over_tls_with_the_secret() {
        let (api, server) = (Api::fake(), TestServer::start());
        let before = api.bot().push_many(3);
        set(&api, &server);
        assert_eq!(api.info()["has_custom_certificate"], json!(true));
        let after = api.bot().push_many(500);
        api.bot().wait_delivered();
        assert_eq!(api.info()["pending_update_count"], json!(0));
        assert_eq!(api.bot().last_error(), None);
        server.wait_handled(503);
        let (report, handled) = server.stop();
        let mut ids = handled.ids();
        ids.sort_unstable();
        assert_eq!(ids, [before, after].concat());
        assert_eq!(report.connections_accepted, 1, "it stays: {report:?}");
    }

    #[test]
    fn a_webhook_that_does_not_answer_200_shows_in_the_last_error_until_it_is_set_again() {
        let (api, server) = (Api::fake(), TestServer::start());
        let url = url(&server, "localhost");
        let parts = [("url", &*url), ("secret_token", "another")];
        assert_eq!(api.upload("setWebhook", &parts, &server.pki.cert).0, 200);
        let ids = api.bot().push_many(2);
        api.bot().wait_error("Wrong response from the webhook: 403 Forbidden");
        let info = api.info();
        assert_eq!(info["pending_update_count"], json!(2));
        assert!(info["last_error_date"].as_u64().unwrap() > 1_700_000_000, "{info}");
        api.pause();
        set(&api, &server);
        assert_eq!(api.bot().last_error(), None);
        api.bot().wait_delivered();
        server.wait_handled(2);
        assert_eq!(server.stop().1.counts().into_keys().collect::<Vec<_>>(), ids);
    }

    #[test]
    fn an_error_is_never_cleared_by_a_success() {
        let port = Port::reserve();
        let api = local();
        api.must_set(&json!({"url": format!("http://{}/", port.addr)}));
        api.bot().push_many(1);
        api.bot().wait_error("Connection refused");
        let plain = Plain::start(|_, _| OK.to_owned());
        let addr = plain.url.split(['@', '/']).nth(3).unwrap().parse().unwrap();
        api.bot().route(Some(addr));
        api.bot().wait_delivered();
        assert_eq!(api.bot().last_error().as_deref(), Some("Connection refused"));
        assert_eq!(api.delete(), "Webhook was deleted");
        assert_eq!(api.bot().last_error(), None);
    }

    #[test]
    fn a_request_is_as_telegram_writes_it() {
        let api = local();
        let plain = Plain::start(|_, _| OK.to_owned());
        api.must_set(&json!({"url": plain.url, "secret_token": "s-3"}));
        api.bot().push(r#"{"update_id":5000,"message":{"text":"x"}}"#);
        api.bot().wait_delivered();
        let addr = plain.url.split(['@', '/']).nth(3).unwrap();
        let expected = format!(
            "POST /x?y=1 HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Basic dTpw\r\n\
             X-Telegram-Bot-Api-Secret-Token: s-3\r\nContent-Type: application/json\r\n\
             Content-Length: 41\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n\
             {{\"update_id\":5000,\"message\":{{\"text\":\"x\"}}}}"
        );
        assert_eq!(plain.requests(), [expected]);
    }

    #[test]
    fn what_fails_blocks_its_chat_alone_and_comes_again() {
        let api = local();
        let is_down = Arc::new(AtomicUsize::new(1));
        let down = Arc::clone(&is_down);
        let plain = Plain::start(move |_, request| {
            let is_first_chat = request.contains("\"chat\":{\"id\":1,");
            let answer = if is_first_chat && down.load(Ordering::SeqCst) == 1 { BUSY } else { OK };
            answer.to_owned()
        });
        api.must_set(&json!({"url": plain.url}));
        for id in 5_001..=5_020 {
            api.bot().push(&update_of(id % 2 + 1, id));
        }
        let of_the_first: Vec<i64> = (5_001..=5_020).filter(|id| id % 2 == 0).collect();
        wait_until("the other chat is served", || api.bot().pending() == of_the_first);
        wait_until("the head is tried again", || {
            api.bot().attempts().iter().filter(|it| it.update_id == 5_002).count() >= 3
        });
        assert_eq!(
            api.bot().last_error().as_deref(),
            Some("Wrong response from the webhook: 503 Service Unavailable")
        );
        is_down.store(0, Ordering::SeqCst);
        api.bot().wait_delivered();
        let taken = api.bot().attempts().into_iter().filter(|it| it.status == Some(200));
        let taken: Vec<i64> = taken.map(|it| it.update_id).filter(|id| id % 2 == 0).collect();
        assert_eq!(taken, of_the_first, "in order");
        assert_eq!(plain.connections.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn retry_after_is_honoured_and_drops_what_does_not_live_as_long() {
        let api = local();
        let wait = |seconds: u32| {
            format!("HTTP/1.1 503 Busy\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n")
        };
        let plain = Plain::start(move |number, _| match number {
            1 => wait(20),
            2 => OK.to_owned(),
            _ => wait(151),
        });
        api.must_set(&json!({"url": plain.url}));
        let began = Instant::now();
        api.bot().push_many(1);
        api.bot().wait_delivered();
        assert!(began.elapsed() >= Duration::from_millis(400), "20 s, fifty times as fast");
        api.bot().push(r#"{"callback_query":{"id":"1","from":{"id":1}}}"#).unwrap();
        api.bot().wait_delivered();
        assert_eq!(plain.requests().len(), 3);
    }

    #[test]
    fn silence_garbage_and_a_closed_connection_are_failures() {
        let fake = FakeBotApi::builder().local(true).time_scale(50);
        let api = Api::new(fake.read_timeout(Duration::from_millis(300)).start());
        let plain = Plain::start(|number, _| match number {
            1 => String::new(),
            2 => "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
            3 => "SMTP ready\r\n\r\n".to_owned(),
            4 => {
                // Longer than the sender waits.
                thread::sleep(Duration::from_secs(1));
                OK.to_owned()
            }
            5 => "HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_owned(),
            _ => {
                "HTTP/1.1 299 Fine\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".into()
            }
        });
        api.must_set(&json!({"url": plain.url}));
        api.bot().push_many(1);
        api.bot().wait_delivered();
        let errors: Vec<_> = api.bot().attempts().into_iter().map(|it| it.error).collect();
        let errors: Vec<_> = errors.iter().map(Option::as_deref).collect();
        let expected = [
            None,
            Some("Wrong response from the webhook: 100 Continue"),
            Some("Not Implemented"),
            Some("Read timeout expired"),
            Some("Wrong response from the webhook: 301 Moved"),
            None,
        ];
        assert_eq!(errors, expected);
        assert_eq!(api.bot().attempts()[5].body, b"{}");
    }

    const UNTRUSTED: &str = "SSL error {error:0A000086:SSL routines::certificate verify failed}";

    #[test]
    fn a_certificate_is_believed_where_it_was_uploaded_or_has_a_known_root() {
        let server = TestServer::start();
        let url = url(&server, "localhost");
        let parameters = json!({"url": url, "secret_token": SECRET});
        let strange = Api::fake();
        strange.must_set(&parameters);
        strange.bot().push_many(1);
        strange.bot().wait_error(UNTRUSTED);
        let known = Api::new(FakeBotApi::builder().trusts(&server.pki.cert).start());
        known.must_set(&parameters);
        known.bot().push_many(1);
        known.bot().wait_delivered();
        let other = self_signed(&params("localhost", &["localhost"], &[])).cert;
        known.pause();
        let parts = [("url", &*url), ("secret_token", SECRET)];
        assert_eq!(known.upload("setWebhook", &parts, &other).0, 200);
        known.bot().push_many(1);
        known.bot().wait_error(UNTRUSTED);
        known.pause();
        let bad = "Bad Request: bad webhook: Failed to set custom certificate file \
                   {error:0480006C:PEM routines::no start line}";
        assert_refused(known.upload("setWebhook", &parts, "no PEM"), 400, bad);
    }

    #[test]
    fn certificates_are_judged_as_openssl_does() {
        let plain = || params("", &["bot.example.com"], &[]);
        let leaf = self_signed(&plain());
        let ca = {
            let mut params = plain();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            self_signed(&params)
        };
        let wildcard = self_signed(&params("", &["*.example.com"], &[]));
        let expired = {
            let mut params = plain();
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
            self_signed(&params)
        };
        let other = self_signed(&params("bot.example.com", &["www.example.com"], &[]));
        let root = Authority::root("root");
        let middle = root.authorize("middle");
        let issued = middle.issue(&plain());
        let chained =
            Issued { cert: format!("{}{}", issued.cert, middle.cert), key: issued.key.clone() };
        for (what, server, uploaded, is_believed) in [
            ("a leaf that signed itself", &leaf, &leaf.cert, true),
            ("an authority that signed itself", &ca, &ca.cert, true),
            ("a wildcard", &wildcard, &wildcard.cert, true),
            ("an old one", &expired, &expired.cert, false),
            ("another name", &other, &other.cert, false),
            ("a chain to the root", &chained, &root.cert, true),
            ("a chain with a hole", &issued, &root.cert, false),
            ("a leaf that others have signed", &issued, &issued.cert, false),
        ] {
            let api = Api::fake();
            let addr = tls_server(server);
            api.bot().route(Some(addr));
            let parts = [("url", "https://bot.example.com/")];
            assert_eq!(api.upload("setWebhook", &parts, uploaded).0, 200, "{what}");
            api.bot().push_many(1);
            if is_believed {
                api.bot().wait_delivered();
            } else {
                api.bot().wait_error(UNTRUSTED);
            }
        }
    }

    /// A server that takes everything, with any certificate.
    fn tls_server(issued: &Issued) -> SocketAddr {
        let chain = CertificateDer::pem_slice_iter(issued.cert.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(support::client::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(session, socket.unwrap());
                while let Ok(1..) = stream.read(&mut [0; 4096]) {
                    let _ = stream.write_all(OK.as_bytes());
                }
            }
        });
        addr
    }

    #[test]
    fn an_address_has_to_be_a_name_of_type_dns() {
        for (dns, addresses, is_believed) in [
            (&["127.0.0.1"][..], &[][..], true),
            (&[], &[], true),
            (&[], &["127.0.0.1"], true),
            (&["localhost"], &["127.0.0.1"], false),
        ] {
            let issued = self_signed(&params("127.0.0.1", dns, addresses));
            let server = TestServer::with(|server| {
                let (cert, key) = (issued.cert.as_bytes(), issued.key.as_bytes());
                server.tls(ringhook::TlsConfig::from_pem(cert, key).unwrap())
            });
            let api = Api::fake();
            let url = url(&server, "127.0.0.1");
            let parts = [("url", &*url), ("secret_token", SECRET)];
            assert_eq!(api.upload("setWebhook", &parts, &issued.cert).0, 200);
            api.bot().push_many(1);
            if is_believed {
                api.bot().wait_delivered();
            } else {
                api.bot().wait_error(UNTRUSTED);
            }
        }
    }

    #[test]
    fn nothing_is_lost_or_invented_between_webhook_and_get_updates() {
        let (api, server) = (Api::fake(), TestServer::start());
        set(&api, &server);
        let mut pushed = Vec::new();
        let mut polled = Vec::new();
        let push = |pushed: &mut Vec<i64>| pushed.extend(api.bot().push_many(200));
        for _ in 0..3 {
            push(&mut pushed);
            let all = pushed.len();
            wait_until("some of it is delivered", || api.bot().pending().len() < 150);
            assert_eq!(api.delete(), "Webhook was deleted");
            let left = api.bot().pending();
            push(&mut pushed);
            let mut offset = 0;
            while polled.last() != pushed.last() {
                let batch = api.updates(&json!({"offset": offset}));
                offset = batch.last().expect("something waits") + 1;
                polled.extend(batch);
            }
            assert!(polled.ends_with(&[&left, &pushed[all..]].concat()), "what was left, and more");
            assert!(api.updates(&json!({"offset": offset})).is_empty());
            api.pause();
            set(&api, &server);
        }
        let handled = server.stop().1;
        let mut once: Vec<i64> = handled.ids().into_iter().chain(polled).collect();
        once.sort_unstable();
        let all = once.len();
        once.dedup();
        assert_eq!(once, pushed);
        // What was under way while the webhook was deleted came by both: one update each time.
        assert!(all <= once.len() + 3, "{} came twice", all - once.len());
    }

    #[test]
    fn dropping_pending_updates_drops_them() {
        let api = Api::fake();
        api.bot().push_many(5);
        let drop = json!({"drop_pending_updates": true});
        assert_eq!(api.call("deleteWebhook", &drop).0, 200);
        assert!(api.bot().pending().is_empty());
        api.bot().push_many(5);
        api.must_set(&json!({"url": URL, "drop_pending_updates": "True"}));
        assert_eq!(api.info()["pending_update_count"], json!(0));
    }

    #[test]
    fn several_connections_are_used_as_max_connections_lets_them_be() {
        for (max, expected) in [(40, 4), (2, 2), (1, 1)] {
            let fake = FakeBotApi::builder().local(true).time_scale(50).connections(4);
            let api = Api::new(fake.start());
            let plain = Plain::start(|_, _| {
                // So long that others are needed.
                thread::sleep(Duration::from_millis(20));
                OK.to_owned()
            });
            api.must_set(&json!({"url": plain.url, "max_connections": max}));
            let ids = api.bot().push_many(70);
            api.bot().wait_delivered();
            assert_eq!(plain.connections.load(Ordering::SeqCst), expected, "of {max}");
            let taken: Vec<i64> = api.bot().attempts().iter().map(|it| it.update_id).collect();
            for chat in 0..7 {
                let of_chat = |ids: &[i64]| -> Vec<i64> {
                    ids.iter().copied().filter(|id| id % 7 == chat).collect()
                };
                assert_eq!(of_chat(&taken), of_chat(&ids), "each once, in order");
            }
        }
    }

    #[test]
    fn a_server_that_closes_after_each_answer_gets_everything() {
        let api = local();
        let plain = Plain::start(|_, _| {
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        });
        api.must_set(&json!({"url": plain.url}));
        api.bot().push_many(20);
        api.bot().wait_delivered();
        assert_eq!(plain.connections.load(Ordering::SeqCst), 20);
        assert_eq!(plain.requests().len(), 20);
        assert_eq!(api.bot().last_error(), None);
    }

    #[test]
    fn a_pause_keeps_what_waits() {
        let (api, server) = (Api::fake(), TestServer::start());
        api.bot().pause(true);
        set(&api, &server);
        let ids = api.bot().push_many(5);
        // What must not be delivered has so long for it.
        thread::sleep(Duration::from_millis(200));
        assert_eq!(api.bot().pending(), ids);
        api.bot().pause(false);
        api.bot().wait_delivered();
    }
}
