//! `ringhook webhook`, as a new user meets it, against a server that behaves as the Bot API does.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    binary::process::{Process, ringhook},
    support::{
        bot_api::{FakeBotApi, TOKEN, calls::Call, door::Reachable},
        pki,
        terminal::Terminal,
    },
};

const SECRET: &str = "the-secret_0123456789";
const PASSWORD: &str = "s3cret-password";
const OTHER_TOKEN: &str = "654321:TEST-token_of_another_bot_00000000000";

/// A directory with a config, and a Bot API.
struct Place {
    api: FakeBotApi,
    dir: tempfile::TempDir,
}

/// What a command said.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self::with(FakeBotApi::start())
    }

    fn with(api: FakeBotApi) -> Self {
        Self { api, dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A config of one bot at bot.example.com with `bot` in its section and `rest` before it.
    fn config(&self, rest: &str, bot: &str) -> &Self {
        let secret = format!("secret_token = \"{SECRET}\"");
        let secret = if bot.contains("auth") || bot.contains("secret") { "" } else { &secret };
        let text = format!(
            "{rest}\n[[bot]]\nname = \"shop\"\npath = \"/shop\"\nhost = \"bot.example.com\"\n{secret}\n\
             {bot}\n"
        );
        fs::write(self.path().join("ringhook.toml"), text).unwrap();
        self
    }

    /// With a certificate of its own for bot.example.com.
    fn certificate(&self) -> &'static str {
        let params = pki::params("bot.example.com", &["bot.example.com"], &[]);
        let made = pki::self_signed(&params);
        fs::write(self.path().join("cert.pem"), made.cert).unwrap();
        fs::write(self.path().join("key.pem"), made.key).unwrap();
        "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\""
    }

    /// A certificate that an authority has signed.
    fn signed_certificate(&self) -> &'static str {
        let root = pki::Authority::root("root");
        let params = pki::params("bot.example.com", &["bot.example.com"], &[]);
        let made = root.issue(&params);
        fs::write(self.path().join("cert.pem"), made.cert).unwrap();
        fs::write(self.path().join("key.pem"), made.key).unwrap();
        "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\""
    }

    /// The same with the authority's own certificate behind it, so that it can be uploaded.
    fn chain_with_root(&self) -> &'static str {
        let root = pki::Authority::root("root");
        let params = pki::params("bot.example.com", &["bot.example.com"], &[]);
        let made = root.issue(&params);
        fs::write(self.path().join("cert.pem"), format!("{}{}", made.cert, root.cert)).unwrap();
        fs::write(self.path().join("key.pem"), made.key).unwrap();
        "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\""
    }

    /// `ringhook webhook` with `args`, separated by spaces.
    fn command(&self, args: &str) -> Command {
        let mut command = ringhook(self.path());
        command.arg("webhook").args(args.split_whitespace()).env("TELEGRAM_BOT_TOKEN", TOKEN);
        if self.path().join("ringhook.toml").exists() && !args.contains("--help") {
            command.args(["--config", "ringhook.toml"]);
        }
        if !args.contains("--api-root") && !args.contains("--help") {
            command.args(["--api-root", &self.api.url()]);
        }
        command
    }

    fn run(&self, args: &str) -> Said {
        self.finish(self.command(args))
    }

    fn finish(&self, mut command: Command) -> Said {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| self.plain(&String::from_utf8(bytes).unwrap());
        Said {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Without what differs from run to run; no secret may be in it.
    fn plain(&self, text: &str) -> String {
        for token in [TOKEN, OTHER_TOKEN] {
            let (_, secret) = token.split_once(':').unwrap();
            assert!(!text.contains(secret), "the token is shown: {text}");
        }
        assert!(!text.contains(SECRET) && !text.contains(PASSWORD), "a secret is shown: {text}");
        let text = text
            .replace(&self.api.url(), "http://API")
            .replace(&self.path().display().to_string(), "DIR");
        without_times(&text)
    }

    /// The only call of setWebhook.
    #[track_caller]
    fn call(&self) -> Call {
        let calls = self.api.calls_of("setWebhook");
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls[0].clone()
    }
}

impl Said {
    /// As a person sees it.
    fn all(&self) -> String {
        let Self { code, stdout, stderr } = self;
        format!("{stdout}--- stderr, exit code {code}\n{stderr}")
    }
}

/// `text` with moments in it as `TIME`, and ages in seconds as `N s`.
fn without_times(text: &str) -> String {
    let is_moment = |word: &str| {
        let word = word.trim_matches(['(', ')']);
        word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T'
    };
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let words: Vec<_> = line.split(' ').collect();
        let shown = words.iter().enumerate().map(|(at, word)| {
            let is_age = words.get(at + 1) == Some(&"s")
                && words.get(at + 2).is_some_and(|it| it.starts_with("ago"));
            match word {
                word if is_moment(word.trim_end()) => {
                    word.replace(word.trim().trim_matches(['(', ')']), "TIME")
                }
                _ if is_age => "N".to_owned(),
                word => (*word).to_owned(),
            }
        });
        out += &shown.collect::<Vec<_>>().join(" ");
    }
    out
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn help_tells_everything() {
    let place = Place::new();
    for (name, args) in [
        ("help", "--help"),
        ("help_set", "set --help"),
        ("help_info", "info --help"),
        ("help_delete", "delete --help"),
    ] {
        let said = place.run(args);
        assert_eq!(said.code, 0);
        insta::assert_snapshot!(name, said.all());
        let mut command = place.command(args);
        command.env("COLUMNS", "100");
        let (code, screen) = Terminal::start(command).finish();
        assert_eq!(code, 0);
        assert!(screen.contains("--api-root") || args == "--help", "{screen}");
    }
}

#[test]
fn set_sends_what_the_config_says() {
    let place = Place::new();
    let tls = place.certificate();
    let bot = "max_connections = 60\nallowed_updates = \"all\"\nip_address = \"8.8.8.8\"";
    place.config(tls, bot);
    insta::assert_snapshot!("set", place.run("set").all());
    let call = place.call();
    assert_eq!(call.text("url"), "https://bot.example.com:8443/shop");
    assert_eq!(call.text("secret_token"), SECRET);
    assert_eq!(call.text("max_connections"), "60");
    assert_eq!(call.text("ip_address"), "8.8.8.8");
    assert_eq!(call.text("drop_pending_updates"), "");
    let kinds: Vec<String> = serde_json::from_str(call.text("allowed_updates")).unwrap();
    assert!(kinds.len() == 27 && kinds.contains(&"message_reaction".to_owned()));
    let uploaded = String::from_utf8(call.files["certificate"].clone()).unwrap();
    let file = fs::read_to_string(place.path().join("cert.pem")).unwrap();
    assert_eq!(uploaded.replace("\r\n", "\n"), file.replace("\r\n", "\n"));
    insta::assert_snapshot!("info_healthy", place.run("info").all());
    // Setting it again changes nothing and is well.
    assert_eq!(place.run("set").code, 0);
}

#[test]
fn flags_win_over_the_config() {
    let place = Place::new();
    place.config(place.chain_with_root(), "max_connections = 60");
    let flags = "set --url https://bot.example.com:88/x --ip-address 8.8.4.4 --max-connections 7 \
                 --allowed-updates message,poll --upload";
    insta::assert_snapshot!("set_flags", place.run(flags).all());
    let call = place.call();
    assert_eq!(call.text("url"), "https://bot.example.com:88/x");
    assert_eq!(call.text("ip_address"), "8.8.4.4");
    assert_eq!(call.text("max_connections"), "7");
    assert_eq!(call.text("allowed_updates"), "[\"message\",\"poll\"]");
    assert!(call.files.contains_key("certificate"));
}

#[test]
fn a_signed_certificate_is_not_uploaded() {
    let place = Place::new();
    place.config(place.signed_certificate(), "");
    let said = place.run("set");
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(place.call().files.is_empty());
    assert_eq!(place.call().text("allowed_updates"), "[]");
}

#[test]
fn what_is_missing_is_made_as_serve_would() {
    let api = FakeBotApi::builder().local(true).start();
    let place = Place::with(api);
    let flags = "set --local --url https://localhost:8443/webhook";
    insta::assert_snapshot!("set_first", place.run(flags).all());
    let read =
        |name: &str| fs::read_to_string(place.path().join("ringhook-data").join(name)).unwrap();
    let call = place.call();
    assert_eq!(call.text("secret_token"), read("secret-token").trim());
    assert_eq!(call.files["certificate"], read("cert.pem").replace("\r\n", "\n").into_bytes());
    // The second time everything is there.
    let said = place.run(flags);
    assert!(said.code == 0 && !said.stderr.contains("made "), "{}", said.all());
}

/// From nothing to the first update, and what is told where certificate and secret are others.
#[test]
fn what_is_set_is_delivered() {
    let api = FakeBotApi::builder().local(true).start();
    let place = Place::with(api);
    let server = Process::serve(place.path(), &[]);
    let url = format!("https://localhost:{}/webhook", server.addr.port());
    let said = place.run(&format!("set --local --url {url}"));
    assert_eq!(said.code, 0, "{}", said.all());
    let ids = place.api.push_many(5);
    place.api.wait_delivered();
    let said = place.run("info --local");
    assert!(said.code == 0 && said.stdout.contains("last error  none"), "{}", said.all());
    let said = place.run(&format!("set --local --url {url} --data-dir other"));
    assert_eq!(said.code, 0, "{}", said.all());
    place.api.push_many(1);
    place.api.wait_error("certificate verify failed");
    let said = place.run("info --local");
    assert_eq!(said.code, 1, "{}", said.all());
    assert!(said.stdout.contains("deliveries fail: Telegram cannot verify"), "{}", said.all());
    // Its certificate, and a secret that is not its own.
    for file in ["cert.pem", "key.pem"] {
        let (from, to) = (place.path().join("ringhook-data"), place.path().join("other"));
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let said = place.run(&format!("set --local --url {url} --data-dir other"));
    assert_eq!(said.code, 0, "{}", said.all());
    place.api.wait_error("403 Forbidden");
    let said = place.run("info --local");
    assert!(
        said.stdout.contains("the secret token, or user and password, are not"),
        "{}",
        said.all()
    );
    let said = place.run(&format!("set --local --url {url}"));
    assert_eq!(said.code, 0, "{}", said.all());
    place.api.wait_delivered();
    let lines = server.terminate().stdout.lines().count();
    assert_eq!(lines, ids.len() + 1);
}

#[test]
fn the_certificate_is_made_for_the_bots_host() {
    let place = Place::new();
    place.config("", "");
    let said = place.run("set");
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.stderr.contains("made ringhook-data/cert.pem\n"), "{}", said.all());
    let uploaded = place.call();
    assert!(uploaded.files.contains_key("certificate"));
    let check = ["cert", "check", "ringhook-data/cert.pem", "--name", "bot.example.com"];
    let checked = ringhook(place.path()).args(check).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn a_file_for_the_secret_is_made() {
    let place = Place::new();
    place.config(place.signed_certificate(), "secret_token_file = \"shop.secret\"");
    let said = place.run("set");
    assert!(said.code == 0 && said.stderr.contains("made shop.secret\n"), "{}", said.all());
    let path = place.path().join("shop.secret");
    let secret = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.call().text("secret_token"), secret.trim());
    assert_eq!(secret.trim().len(), 64);
}

#[test]
fn a_local_server_takes_plain_http() {
    let place = Place::with(FakeBotApi::builder().local(true).start());
    let listener = "[[listener]]\naddress = \"127.0.0.1:8080\"\ntls = false";
    place.config(listener, "max_connections = 5000");
    let said = place.run("set --local");
    assert_eq!(said.code, 0, "{}", said.all());
    assert_eq!(place.call().text("url"), "http://bot.example.com:8080/shop");
    assert_eq!(place.api.webhook().unwrap().max_connections, 5000);
}

#[test]
fn user_and_password_stay_hidden() {
    let place = Place::new();
    place.config(place.signed_certificate(), &format!("basic_auth = \"user:{PASSWORD}\""));
    let said = place.run("set");
    assert!(
        said.code == 0 && said.stderr.contains("https://(hidden)@bot.example.com"),
        "{}",
        said.all()
    );
    assert_eq!(
        place.call().text("url"),
        format!("https://user:{PASSWORD}@bot.example.com:8443/shop")
    );
    for args in ["info", "info --json", "info --watch --count 1", "delete"] {
        let said = place.run(args);
        assert!(
            said.code == 0 && said.all().contains("(hidden)@") || args.contains("watch"),
            "{}",
            said.all()
        );
    }
}

/// What runs are given is looked through for tokens in all that they say.
#[test]
fn no_token_is_shown_wherever_it_is() {
    let place = Place::new();
    place.config(place.signed_certificate(), "");
    let body = format!(
        "{{\"ok\":false,\"error_code\":404,\"description\":\"Not Found: POST /bot{TOKEN}/x {SECRET}\"}}"
    );
    for args in ["set", "info", "info --json", "delete"] {
        // Only what was sent can be known to be secret.
        let (method, body) = match args {
            "set" => ("setWebhook", body.clone()),
            _ => ("getWebhookInfo", body.replace(SECRET, "y")),
        };
        place.api.answer_next(method, 404, &body);
        let said = place.run(args);
        assert!(said.code == 1 && said.all().contains("/bot(hidden)/x "), "{}", said.all());
    }
    for token in [TOKEN.to_owned(), TOKEN.replace(':', "%3A"), OTHER_TOKEN.to_owned()] {
        let url = format!("https://old.example.com/bot{token}");
        for args in ["info", "info --json", "delete"] {
            let info = format!(
                "{{\"ok\":true,\"result\":{{\"url\":\"{url}\",\"pending_update_count\":3}}}}"
            );
            place.api.answer_next("getWebhookInfo", 200, &info);
            let said = place.run(args);
            assert!(said.all().contains("https://old.example.com/bot(hidden)"), "{}", said.all());
        }
    }
    let of_the_plan = place.run(&format!("set --url https://bot.example.com:8443/{OTHER_TOKEN}"));
    assert_eq!(of_the_plan.code, 0, "it is compared as it is: {}", of_the_plan.all());
    assert!(of_the_plan.stderr.contains("8443/(hidden)"), "{}", of_the_plan.all());
    let said = place.run(&format!("info --bot {TOKEN}"));
    assert!(said.code == 2 && said.stderr.contains("(hidden)"), "{}", said.all());
    for key in ["token_env", "token_file"] {
        place.config("", &format!("{key} = \"{TOKEN}\""));
        let said = place.run("info");
        assert!(said.code == 2 && said.stderr.contains("(hidden)"), "{}", said.all());
    }
}

#[test]
fn a_token_of_the_environment_that_cannot_be_is_named() {
    let place = Place::new();
    place.config("", "");
    let with = |value: &OsStr| {
        let mut command = place.command("info");
        command.env("TELEGRAM_BOT_TOKEN", value);
        place.finish(command)
    };
    let empty = with(OsStr::new(" "));
    assert!(empty.code == 2 && empty.stderr.contains("token_file, token_env"), "{}", empty.all());
    let odd = with(OsStr::from_bytes(b"123:\xff"));
    assert!(odd.code == 2 && odd.stderr.contains("TELEGRAM_BOT_TOKEN = (hidden)"), "{}", odd.all());
}

#[test]
fn the_port_of_the_api_root_has_to_be_one() {
    let place = Place::new();
    place.config("", "");
    for root in ["http://127.0.0.1:2808l", "http://127.0.0.1:99999"] {
        let said = place.run(&format!("info --api-root {root}"));
        assert!(said.code == 2 && said.stderr.contains("1 to 65535"), "{}", said.all());
    }
}

#[test]
fn what_files_do_not_tell_is_compared_all_the_same() {
    let place = Place::new();
    let tls = place.certificate();
    place.config(tls, "max_connections = 60\nallowed_updates = [\"message\"]");
    assert_eq!(place.run("set").code, 0);
    fs::remove_file(place.path().join("cert.pem")).unwrap();
    let said = place.run("info");
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.stdout.contains("as it says, as far as it was compared"), "{}", said.all());
    assert!(said.stdout.contains("are not compared: cert.pem: No such file"), "{}", said.all());
    place.api.set_webhook_behind_back("https://else.example.com/shop");
    for bot in
        ["max_connections = 60", "secret_token_file = \"nowhere\"", "basic_auth_file = \"no\""]
    {
        place.config(tls, bot);
        let said = place.run("info");
        assert_eq!(said.code, 1, "{}", said.all());
        let expected =
            "url is https://else.example.com/shop, expected https://bot.example.com:8443/shop";
        assert!(said.stdout.contains(expected), "{}", said.all());
    }
    place.config("[server]\nlisten = \"0.0.0.0:0\"", "");
    let said = place.run("info");
    assert_eq!(said.code, 1, "{}", said.all());
    assert!(
        said.stderr.contains("cannot be compared with the config: webhook.port"),
        "{}",
        said.all()
    );
}

#[test]
fn nothing_is_made_for_a_webhook_that_would_be_refused() {
    let place = Place::new();
    for (rest, bot, flags) in [
        ("", "", "set --url https://10.0.0.1/shop"),
        ("", "", "set --ip-address 192.168.1.2"),
        ("", "max_connections = 200", "set"),
        ("[server]\nlisten = \"0.0.0.0:4443\"", "", "set"),
    ] {
        place.config(rest, &format!("{bot}\nsecret_token_file = \"shop.secret\""));
        let said = place.run(flags);
        assert_eq!(said.code, 2, "{}", said.all());
        assert!(!said.stderr.contains("made "), "{}", said.all());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "only the config");
    }
    assert!(place.api.calls().is_empty());
}

/// The data directory has a certificate for another host: what is said to do helps.
#[test]
fn a_certificate_made_for_another_host_is_made_anew() {
    let place = Place::new();
    place.config("", "");
    assert_eq!(place.run("set --url https://before.example.com:8443/shop --data-dir data").code, 0);
    let text = fs::read_to_string(place.path().join("ringhook.toml")).unwrap();
    let text = text.replace("bot.example.com", "after.example.com");
    fs::write(place.path().join("ringhook.toml"), text).unwrap();
    let said = place.run("set --data-dir data");
    assert_eq!(said.code, 2, "{}", said.all());
    let (_, rest) = said.stderr.split_once("`ringhook ").unwrap();
    let (command, _) = rest.split_once('`').unwrap();
    assert_eq!(command, "cert new --name after.example.com --out data --force");
    let made = ringhook(place.path()).args(command.split(' ')).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = place.run("set --data-dir data");
    assert_eq!(said.code, 0, "{}", said.all());
}

/// Nothing reaches the Bot API, and the exit code is 2.
#[test]
fn what_would_be_refused_is_found_before() {
    let place = Place::new();
    let tls = place.certificate();
    let mut all = String::new();
    for (rest, bot, flags) in [
        ("[server]\nlisten = \"0.0.0.0:4443\"", "", "set"),
        ("", "max_connections = 200", "set"),
        ("", "", "set --ip-address 192.168.1.2"),
        ("", "", "set --url http://bot.example.com/shop"),
        ("", "", "set --url https://10.0.0.1/shop"),
        ("", "", "set --url https://localhost/shop"),
        ("", "", "set --url https://other.example.com/shop"),
        ("", "", "set --url bot.example.com"),
        ("", "", "set --url https://127.1/shop"),
        ("", "", "set --url https://bot.example.com:+443/shop"),
        ("", "", "set --allowed-updates all,message"),
        ("", "", "set --allowed-updates mesage"),
        ("", "basic_auth = \"a:b/c\"", "set"),
        ("", "", "set --local --api-root https://api.telegram.org"),
        ("", "", "set --bot absent"),
        ("", "", "set --allowed-updates message --max-connections many"),
        ("", "", "set --drop-pending"),
        ("", "", "set --yes"),
        ("", "", "delete --drop-pending"),
        ("", "", "info --interval 1s"),
        ("", "", "info --watch --interval 1ms"),
    ] {
        place.config(&format!("{rest}\n{tls}"), bot);
        let said = place.run(flags);
        all += &format!("$ webhook {flags}   {rest} {bot}\n{}\n", said.all());
        assert_eq!(said.code, 2, "{all}");
    }
    assert!(place.api.calls().is_empty());
    insta::assert_snapshot!("refused_before", all);
}

#[test]
fn a_url_or_token_that_is_not_there_is_asked_for() {
    let place = Place::new();
    let mut all = String::new();
    let mut add = |said: Said| {
        assert_eq!(said.code, 2, "{}", said.all());
        all += &format!("{}\n", said.all());
    };
    add(place.run("set"));
    let without_token = |args: &str| {
        let mut command = place.command(args);
        command.env_remove("TELEGRAM_BOT_TOKEN");
        place.finish(command)
    };
    place.config("", "");
    add(without_token("set"));
    add(without_token("info"));
    add(without_token("delete"));
    place.config("[server]\nlisten = \"unix:hook.sock\"", "");
    add(place.run("set"));
    place.config("", "token_file = \"nowhere\"");
    add(place.run("set"));
    place.config(place.signed_certificate(), "secret_token_env = \"NOT_SET_AT_ALL\"");
    add(place.run("set"));
    assert!(!place.path().join("ringhook-data").exists(), "nothing is made in vain");
    place
        .config("", "auth = \"none\"\n[[bot]]\nname = \"blog\"\npath = \"/blog\"\nauth = \"none\"");
    add(place.run("set"));
    insta::assert_snapshot!("asked_for", all);
}

#[test]
fn what_the_bot_api_refuses_is_told_with_its_meaning() {
    let place = Place::new();
    place.config(place.signed_certificate(), "");
    let mut all = String::new();
    let mut add = |what: &str, said: Said| {
        assert_eq!(said.code, 1, "{what}: {}", said.all());
        all += &format!("# {what}\n{}\n", said.all());
    };
    let refusal = r#"{"ok":false,"error_code":400,"description":"Bad Request: bad webhook: Failed to resolve host: Name or service not known"}"#;
    place.api.answer_next("setWebhook", 400, refusal);
    add("a name that leads nowhere", place.run("set --url https://bot.example.com/shop"));
    let info = r#"{"ok":true,"result":{"url":"https://u:p@else.example.com/","max_connections":40,"has_custom_certificate":false,"pending_update_count":3}}"#;
    place.api.answer_next("getWebhookInfo", 200, info);
    add("another client sets it, too", place.run("set"));
    place.api.answer_next("setWebhook", 502, "<html>502 Bad Gateway</html>");
    add("no Bot API", place.run("set"));
    place.api.answer_next(
        "setWebhook",
        500,
        r#"{"ok":false,"error_code":500,"description":"Internal Server Error"}"#,
    );
    add("a failure there", place.run("set"));
    place.api.revoke();
    for args in ["set", "info", "delete"] {
        add("the token was revoked", place.run(args));
    }
    place.api.reach(Reachable::Refused);
    for args in ["set", "info", "delete"] {
        add("nothing answers", place.run(args));
    }
    insta::assert_snapshot!("refused", all);
}

#[test]
fn waits_as_it_is_told() {
    let place = Place::new();
    place.config(place.signed_certificate(), "");
    place.api.flood(1, 1);
    let said = place.run("set");
    assert_eq!(said.code, 0, "{}", said.all());
    let calls = place.api.calls_of("setWebhook");
    assert_eq!(calls.len(), 2);
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(1));
}

/// Three bots, of which the second has a token that Telegram does not know.
fn several() -> Place {
    let place = Place::with(FakeBotApi::builder().token(TOKEN).token(OTHER_TOKEN).start());
    let tls = place.signed_certificate();
    let bots =
        [("shop", TOKEN), ("blog", "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), ("news", OTHER_TOKEN)];
    let bots = bots.map(|(name, token)| {
        fs::write(place.path().join(format!("{name}.token")), token).unwrap();
        format!(
            "[[bot]]\nname = \"{name}\"\npath = \"/{name}\"\nhost = \"bot.example.com\"\n\
             token_file = \"{name}.token\"\nsecret_token = \"{SECRET}\"\n"
        )
    });
    fs::write(place.path().join("ringhook.toml"), format!("{tls}\n{}", bots.concat())).unwrap();
    place
}

#[test]
fn all_bots_one_after_the_other() {
    let place = several();
    let mut all = String::new();
    for args in ["set --all", "info --all", "delete --all --drop-pending --yes"] {
        let said = place.run(args);
        assert_eq!(said.code, 1, "{}", said.all());
        all += &format!("$ {args}\n{}\n", said.all());
    }
    insta::assert_snapshot!("all", all);
    let calls = place.api.calls_of("setWebhook");
    assert_eq!(calls.len(), 3);
    let pauses = calls.windows(2).map(|pair| pair[1].at - pair[0].at);
    assert!(pauses.min().unwrap() >= Duration::from_secs(1), "one call a second");
    assert_eq!(place.api.calls_of("deleteWebhook").len(), 2);
    let said = place.run("info --bot news --json");
    assert_eq!(said.code, 1, "it is deleted");
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).unwrap()["url"], "");
}

/// Each would take the webhook from the other.
#[test]
fn two_bots_with_one_token_are_refused() {
    let place = several();
    fs::write(place.path().join("news.token"), TOKEN).unwrap();
    let said = place.run("set --all");
    assert_eq!(said.code, 2, "{}", said.all());
    assert!(said.stderr.contains("bots \"shop\" and \"news\" have the token of"), "{}", said.all());
    let args = ["serve", "--config", "ringhook.toml"];
    let served = ringhook(place.path()).args(args).output().unwrap();
    assert_eq!(served.status.code(), Some(2));
    let stderr = place.plain(&String::from_utf8(served.stderr).unwrap());
    assert!(stderr.contains("bots \"shop\" and \"news\" have the token of"), "{stderr}");
    assert!(place.api.calls().is_empty());
}

#[test]
fn a_token_is_not_read_from_what_never_ends() {
    let place = Place::new();
    place.config("", "token_file = \"/dev/zero\"");
    let said = place.run("info");
    assert_eq!(said.code, 2, "{}", said.all());
    assert!(
        said.stderr.contains("token_file = /dev/zero: a pipe, socket or device"),
        "{}",
        said.all()
    );
}

#[test]
fn info_tells_what_is_wrong() {
    let place = Place::new();
    place.config(place.signed_certificate(), "max_connections = 60");
    insta::assert_snapshot!("info_none", place.run("info").all());
    place.api.set_webhook_behind_back("https://else.example.com/shop");
    insta::assert_snapshot!("info_other", place.run("info").all());
    assert_eq!(place.run("set").code, 0);
    place.api.pause(true);
    place.api.push_many(3);
    place
        .api
        .report_error(now(), "SSL error {error:0A000086:SSL routines::certificate verify failed}");
    let said = place.run("info");
    insta::assert_snapshot!("info_failing", said.all());
    assert_eq!(said.code, 1);
    let json: Value = serde_json::from_str(&place.run("info --json").stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["pending_update_count"], 3);
    assert!(json["fix"].as_str().unwrap().contains("ringhook cert check"), "{json}");
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    insta::assert_snapshot!("info_json_fields", keys.join("\n"));
    // A success never clears it, but it is old.
    place.api.report_error(now() - 7300, "Connection refused");
    let said = place.run("info");
    insta::assert_snapshot!("info_old_error", said.all());
    assert_eq!(said.code, 0);
    place.api.report_synchronization_error(now());
    let said = place.run("info");
    assert!(said.code == 1 && said.stdout.contains("sync error"), "{}", said.all());
}

/// A bot that asks for a list of kinds, or for none, and whose routes count on others.
#[test]
fn info_tells_which_kinds_that_routes_name_are_not_delivered() {
    let place = Place::new();
    let certificate = place.signed_certificate();
    let configure = |routes: &str, bot: &str| {
        let output = "[[output]]\nname = 'one'\nto = 'null'\n";
        place.config(&format!("{certificate}\n{output}{routes}"), bot);
    };
    let named = "[[route]]\nkind = ['message', 'poll', 'message_reaction']\nto = 'one'\n";
    let catch_all = "[[route]]\nto = 'one'\n";
    let list = "allowed_updates = ['message']";
    configure(catch_all, list);
    assert_eq!(place.run("set").code, 0);
    let said = place.run("info");
    assert_eq!(said.code, 0, "{}", said.all());
    configure(&format!("{named}{catch_all}"), list);
    let said = place.run("info");
    let told = "routes name kinds that Telegram does not deliver: message_reaction, poll (add them";
    assert!(said.code == 1 && said.stdout.contains(told), "{}", said.all());
    // Of another bot, or dropped.
    configure(&format!("[[route]]\nkind = 'poll'\nto = 'drop'\n{catch_all}"), list);
    assert_eq!(place.run("info").code, 0);
    // With Telegram's default.
    configure(&format!("{named}{catch_all}"), "");
    assert_eq!(place.run("set").code, 0);
    let said = place.run("info");
    let told = "Telegram does not deliver: message_reaction (add them";
    assert!(said.code == 1 && said.stdout.contains(told), "{}", said.all());
    // It asks for what the routes have use for, and that they have grown is a difference.
    configure(
        "[[route]]\nkind = 'message'\nto = 'one'\n[[route]]\nto = 'drop'\n",
        "allowed_updates = 'auto'",
    );
    assert_eq!(place.run("set").code, 0);
    configure(&format!("{named}[[route]]\nto = 'drop'\n"), "allowed_updates = 'auto'");
    let said = place.run("info");
    assert!(
        said.code == 1 && said.stdout.contains("message_reaction, poll missing"),
        "{}",
        said.all()
    );
    assert!(!said.stdout.contains("routes name"), "{}", said.all());
}

#[test]
fn a_terminal_shows_the_same() {
    let place = Place::new();
    place.config(place.signed_certificate(), "max_connections = 60");
    for args in ["info", "set", "info", "info --json", "set --max-connections 500", "delete"] {
        let (code, screen) = Terminal::start(place.command(args)).finish();
        let shown = place.plain(&screen);
        if args.starts_with("delete") {
            assert_eq!(
                (code, shown.as_str()),
                (0, "bot \"shop\": deleted https://bot.example.com:8443/shop; no update waits\n")
            );
            continue;
        }
        let said = place.run(args);
        assert_eq!((code, shown), (said.code, said.stdout + &said.stderr), "{args}");
    }
}

#[test]
fn info_of_a_bot_without_a_host_compares_nothing() {
    let place = Place::new();
    place.api.set_webhook_behind_back("https://else.example.com/shop");
    let said = place.run("info");
    assert!(said.code == 0 && said.stdout.contains("not compared: bot.host"), "{}", said.all());
}

#[test]
fn watching_shows_the_trend() {
    let place = Place::new();
    place.config(place.signed_certificate(), "");
    assert_eq!(place.run("set").code, 0);
    place.api.pause(true);
    place.api.push_many(2);
    let command = place.command("info --watch --interval 1s");
    let terminal = Terminal::start(command);
    terminal.wait_for("shop  2 waiting  no error\n");
    place.api.push_many(1);
    terminal.wait_for("3 waiting (+1)");
    place.api.report_error(now(), "Connection refused");
    terminal.wait_for("Connection refused\n  that means: nothing listens");
    terminal.interrupt();
    let (code, screen) = terminal.finish();
    assert_eq!(code, 1, "{screen}");
    place.plain(&screen);
    let said = place.run("info --watch --interval 1s --count 2 --json");
    let looks: Vec<Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 2);
    assert_eq!(looks[0]["pending_change"], Value::Null);
    assert_eq!(looks[1]["pending_change"], 0);
}

#[test]
fn what_grows_is_wrong() {
    let place = Place::new();
    place.config(place.signed_certificate(), "");
    let info = |count: u64| {
        format!(
            r#"{{"ok":true,"result":{{"url":"https://bot.example.com:8443/shop","max_connections":40,"has_custom_certificate":false,"pending_update_count":{count}}}}}"#
        )
    };
    for count in [1, 5, 9] {
        place.api.answer_next("getWebhookInfo", 200, info(count));
    }
    let said = place.run("info --watch --interval 1s --count 3");
    assert_eq!(said.code, 1);
    insta::assert_snapshot!("watch_growing", said.all());
}

#[test]
fn delete_keeps_what_waits_unless_told() {
    let place = Place::new();
    place.config(place.signed_certificate(), "");
    assert_eq!(place.run("set").code, 0);
    place.api.pause(true);
    place.api.push_many(2);
    let mut all = String::new();
    for args in ["delete", "delete", "set --drop-pending --yes", "delete --drop-pending --yes"] {
        if args.starts_with("delete --drop") {
            place.api.push_many(1);
        }
        let said = place.run(args);
        assert_eq!(said.code, 0, "{}", said.all());
        all += &format!("$ {args}\n{}\n", said.all());
    }
    insta::assert_snapshot!("delete", all);
    assert!(place.api.webhook().is_none() && place.api.pending().is_empty());
}

#[test]
fn a_person_is_asked_before_messages_are_deleted() {
    let place = Place::new();
    place.config(place.signed_certificate(), "");
    assert_eq!(place.run("set").code, 0);
    place.api.pause(true);
    place.api.push_many(2);
    let ask = |args: &str, answer: &str| {
        let mut terminal = Terminal::start(place.command(args));
        terminal.wait_for("[y/N] ");
        terminal.type_in(&format!("{answer}\n"));
        let (code, screen) = terminal.finish();
        (code, place.plain(&screen))
    };
    let (code, screen) = ask("delete --drop-pending", "n");
    assert_eq!(code, 1, "{screen}");
    insta::assert_snapshot!("ask_no", screen);
    assert_eq!(ask("set --drop-pending", "").0, 1, "the default is no");
    assert_eq!(place.api.pending().len(), 2);
    assert!(place.api.webhook().is_some());
    let (code, screen) = ask("set --drop-pending", "y");
    assert_eq!(code, 0, "{screen}");
    insta::assert_snapshot!("ask_yes", screen);
    assert!(place.api.pending().is_empty());
    // No question can be answered where only the output is a terminal.
    let said = place.run("delete --drop-pending");
    assert_eq!(said.code, 2);
}

// Proxies

/// A SOCKS5 proxy of one's own (RFC 1928), which brings every connection to `to`.
struct Socks {
    addr: std::net::SocketAddr,
    /// The names that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Socks {
    fn start(to: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let names = Arc::clone(&asked);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let names = Arc::clone(&names);
                thread::spawn(move || Self::serve(stream, to, &names));
            }
        });
        Self { addr, asked }
    }

    fn serve(mut stream: TcpStream, to: std::net::SocketAddr, names: &Mutex<Vec<String>>) {
        let read = |stream: &mut TcpStream, length: usize| {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).unwrap();
            bytes
        };
        let methods = read(&mut stream, 2)[1];
        let methods = read(&mut stream, methods.into());
        if methods.contains(&2) {
            stream.write_all(&[5, 2]).unwrap();
            let user = read(&mut stream, 2)[1];
            let user = String::from_utf8(read(&mut stream, user.into())).unwrap();
            let length = read(&mut stream, 1)[0];
            let password = String::from_utf8(read(&mut stream, length.into())).unwrap();
            let is_right = (user.as_str(), password.as_str()) == ("user", PASSWORD);
            stream.write_all(&[1, u8::from(!is_right)]).unwrap();
            if !is_right {
                return;
            }
        } else {
            stream.write_all(&[5, 0]).unwrap();
        }
        let head = read(&mut stream, 5);
        assert_eq!(head[..4], [5, 1, 0, 3], "a name is asked for");
        let name = String::from_utf8(read(&mut stream, head[4].into())).unwrap();
        read(&mut stream, 2);
        names.lock().unwrap().push(name);
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        let there = TcpStream::connect(to).unwrap();
        let (mut from, mut back) = (stream.try_clone().unwrap(), there.try_clone().unwrap());
        let mut into = there;
        thread::spawn(move || std::io::copy(&mut from, &mut into));
        let _ = std::io::copy(&mut back, &mut stream);
    }
}

/// `webhook info` for an API root that no name server knows.
fn info_by_way_of(place: &Place, variables: &[(&str, &str)]) -> Said {
    place.config("[webhook]\nlocal = true", "");
    let mut command = place.command("info --api-root http://api.nowhere.invalid:8081");
    command.envs(variables.iter().copied());
    place.finish(command)
}

#[test]
fn a_socks_proxy_is_used_and_looks_the_name_up() {
    let place = Place::new();
    let socks = Socks::start(place.api.addr());
    for variable in ["ALL_PROXY", "HTTPS_PROXY", "http_proxy"] {
        let proxy = format!("socks5h://user:{PASSWORD}@{}", socks.addr);
        let said = info_by_way_of(&place, &[(variable, &proxy)]);
        // Which only the Bot API can have told.
        assert!(said.stderr.contains("no webhook is set"), "{variable}: {}", said.stderr);
        assert_eq!(socks.asked.lock().unwrap().pop().as_deref(), Some("api.nowhere.invalid"));
    }
    assert!(!place.api.calls_of("getWebhookInfo").is_empty());
    // A password that is wrong is not shown either.
    let proxy = format!("socks5h://user:wrong-{PASSWORD}@{}", socks.addr);
    let said = info_by_way_of(&place, &[("ALL_PROXY", &proxy)]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("by way of the SOCKS5h proxy of ALL_PROXY"), "{}", said.stderr);
}

#[test]
fn a_proxy_that_is_not_understood_is_refused() {
    let place = Place::new();
    for bad in [&format!("socks6://user:{PASSWORD}@127.0.0.1:1"), "http://", "socks5://h:port"] {
        let said = info_by_way_of(&place, &[("HTTPS_PROXY", bad)]);
        assert_eq!(said.code, 2, "{bad}: {}", said.stderr);
        assert!(said.stderr.contains("the proxy of HTTPS_PROXY = (hidden)"), "{}", said.stderr);
    }
    assert!(place.api.calls().is_empty());
}

#[test]
fn this_machine_is_reached_without_a_proxy_and_that_is_told() {
    let place = Place::new();
    place.config("[webhook]\nlocal = true", "");
    let mut command = place.command("info");
    command.env("ALL_PROXY", "socks5://127.0.0.1:1");
    let said = place.finish(command);
    assert!(
        said.stderr.contains("the proxy of ALL_PROXY is not used for 127.0.0.1"),
        "{}",
        said.stderr
    );
    assert!(!place.api.calls_of("getWebhookInfo").is_empty());
}

#[test]
fn a_host_in_other_letters_is_set_as_dns_has_it() {
    let place = Place::new();
    let params = pki::params("x", &["xn--90a0am.xn--p1ai"], &[]);
    let made = pki::self_signed(&params);
    fs::write(place.path().join("cert.pem"), made.cert).unwrap();
    fs::write(place.path().join("key.pem"), made.key).unwrap();
    let tls = "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[webhook]\nport = 443\nlocal = true";
    for host in ["host = \"бот.рф\"", "url = \"https://БОТ.рф/shop\""] {
        let text = format!(
            "{tls}\n[[bot]]\nname = \"shop\"\npath = \"/shop\"\nsecret_token = \"{SECRET}\"\n{host}\n"
        );
        fs::write(place.path().join("ringhook.toml"), text).unwrap();
        let said = place.run("set");
        let call = place.api.calls_of("setWebhook").pop().unwrap();
        assert_eq!(call.text("url"), "https://xn--90a0am.xn--p1ai/shop", "{}", said.stderr);
    }
}
