//! Tests of the config file as a whole.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use super::*;
use ringhook::{Ack, DriverChoice};

pub(super) const WHOLE: &str = r#"
    [server]
    listen = "0.0.0.0:443"
    reuse_port = true
    allow = ["telegram", "10.0.0.0/8"]
    driver = "io-uring"
    shards = 2
    workers = 3
    pin = { shards = "0,2", workers = "1" }
    busy_poll = "50us"
    date = false
    data_dir = "data"
    drain_timeout = "1m 30s"
    user = "nobody"
    group = "12"
    [admin]
    listen = "127.0.0.1:9464"
    incidents = 100
    [log]
    format = "json"
    level = "warn"
    [tls]
    cert = "cert.pem"
    key = "key.pem"
    key_password_file = "key.password"
    [limits]
    head_bytes = "16KiB"
    body_bytes = "2MiB"
    handshakes = 100
    handshakes_waiting = 0
    head_timeout = "5s"
    body_timeout = "20s"
    body_bytes_per_second = "1KiB"
    body_grace = "2s"
    answer_timeout = "8s"
    idle_timeout = "90s"
    requests_per_connection = 1000
    queue_updates = 10
    connections = 500
    connections_per_address = 50
    [journal]
    ack = "synced"
    lock_wait = "30s"
    sync_interval = "50ms"
    segment_bytes = "16MiB"
    max_bytes = "1GiB"
    [profile]
    dir = "profile"
    interval = "500ms"
    slow = "50ms"
    [[output]]
    name = "audit"
    to = "null"
    meta = true
    [[listener]]
    address = "unix:/run/hook.sock"
    tls = false
    mode = "0600"
    [[listener]]
    address = "10.0.0.2:8443"
    allow = ["telegram"]
    proxy_protocol = ["10.0.0.0/8"]
    [[bot]]
    name = "shop"
    allow = ["telegram", "10.1.0.0/16"]
    path = "/shop"
    host = "*.example.com"
    cert = "shop.pem"
    key = "shop.key"
    key_password = "w0rd"
    secret_token = "s3cret"
    previous_secret_token = "old-one"
    previous_secret_token_until = "2027-01-31T12:00:00Z"
    basic_auth = "user:word"
    [[bot]]
    name = "open"
    path = "/open"
    auth = "none"
"#;

fn error(text: &str) -> String {
    match text.parse::<ConfigFile>() {
        Err(error) => error.to_string(),
        Ok(file) => file.to_config(Secrets::Read).unwrap_err().to_string(),
    }
}

#[test]
fn every_key_is_read() {
    let file: ConfigFile = WHOLE.parse().unwrap();
    let config = file.to_config(Secrets::Read).unwrap();
    assert_eq!(config.listen, Some("0.0.0.0:443".parse().unwrap()));
    assert!(config.reuse_port);
    let (unix, balanced) = (&config.listeners[0], &config.listeners[1]);
    assert_eq!(unix.address, "unix:/run/hook.sock".parse().unwrap());
    assert_eq!((unix.tls, unix.mode, &unix.allow), (false, 0o600, &None));
    assert_eq!(balanced.address, "10.0.0.2:8443".parse().unwrap());
    assert!(balanced.tls && unix.proxy_protocol.is_none());
    assert_eq!(balanced.allow, Some(AllowList::new(["telegram"]).unwrap()));
    assert_eq!(balanced.proxy_protocol, Some(AllowList::new(["10.0.0.0/8"]).unwrap()));
    assert_eq!(config.allow, Some(AllowList::new(["telegram", "10.0.0.0/8"]).unwrap()));
    let server = &file.server;
    assert_eq!((server.user.as_deref(), server.group.as_deref()), (Some("nobody"), Some("12")));
    let admin = config.admin;
    assert_eq!((admin.listen, admin.incidents), ("127.0.0.1:9464".parse().ok(), 100));
    assert_eq!(file.log.format, LogFormat::Json);
    assert_eq!(file.log.level, LogLevel::Warn);
    assert_eq!(config.driver, DriverChoice::IoUring);
    assert_eq!((config.shards, config.workers), (Some(2), Some(3)));
    assert_eq!(config.pin.to_string(), "shards=0,2,workers=1");
    assert_eq!(config.busy_poll, Some(Duration::from_micros(50)));
    assert!(!config.date);
    assert_eq!(config.drain_timeout, Duration::from_secs(90));
    assert_eq!(config.limits.head_bytes, 16 * 1024);
    assert_eq!(config.limits.body_bytes, 2 * 1024 * 1024);
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(90));
    let limits = &config.limits;
    assert_eq!((limits.handshakes, limits.handshakes_waiting), (100, 0));
    let seconds = [limits.head_timeout, limits.body_timeout, limits.body_grace]
        .map(|timeout| timeout.as_secs());
    assert_eq!((seconds, limits.answer_timeout), ([5, 20, 2], Duration::from_secs(8)));
    assert_eq!((limits.body_bytes_per_second, limits.requests_per_connection), (1024, 1000));
    assert_eq!(config.limits.queue_updates, 10);
    assert_eq!(config.limits.connections, 500);
    assert_eq!(config.limits.connections_per_address, 50);
    let journal = &config.journal;
    assert_eq!((journal.ack, &journal.dir), (Ack::Synced, &Some("data/journal".into())));
    assert_eq!((journal.segment_bytes, journal.max_bytes), (16 << 20, 1 << 30));
    assert_eq!(journal.sync_interval, Duration::from_millis(50));
    assert_eq!(journal.lock_wait, Duration::from_secs(30));
    assert_eq!(config.profile.slow, Some(Duration::from_millis(50)));
    let profile = &file.profile;
    assert_eq!(
        (profile.dir.as_deref(), profile.interval.as_millis()),
        (Some("profile".as_ref()), 500)
    );
    let shop = &config.bots[0];
    assert_eq!(shop.host.as_deref(), Some("*.example.com"));
    assert_eq!(shop.allow, Some(AllowList::new(["telegram", "10.1.0.0/16"]).unwrap()));
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_801_396_800);
    assert_eq!(shop.previous_token.as_ref().unwrap().until, until);
    assert!(shop.basic_auth.as_ref().unwrap().matches(b"Basic dXNlcjp3b3Jk"));
    let tokens: Vec<bool> = config.bots.iter().map(|bot| bot.secret_token.is_some()).collect();
    assert_eq!(tokens, [true, false]);
}

#[test]
fn mistakes_name_line_key_and_expectation() {
    assert_eq!(
        error("[server]\nlistn = \"x\""),
        "line 2: unknown field `listn`, expected one of `listen`, `reuse_port`, `allow`, \
         `driver`, `shards`, `workers`, `pin`, `busy_poll`, `date`, `data_dir`, `drain_timeout`, `user`, `group`"
    );
    let unknown = error("[limits]\nrequest_timeout = \"10s\"");
    assert!(unknown.starts_with("line 2: unknown field `request_timeout`, expected"), "{unknown}");
    assert!(
        error("\n[server]\ndrain_timeout = \"soon\"")
            .starts_with("line 3: server.drain_timeout: \"soon\" is no")
    );
    let small = error("[limits]\nhead_bytes = \"100B\"\n[[bot]]\nname='a'\npath='/a'\nauth='none'");
    assert_eq!(small, "limits.head_bytes = 100: expected 512 to 65536");
    assert!(error("[[bot]]\nname = 'a'\npath = '/a'").contains("expected one of secret_token"));
    assert!(
        error("[[bot]]\nname='a'\npath='/a'\nsecret_token='x'\nauth='none'").contains("bot \"a\"")
    );
    assert!(error("[[bot]]\nname='a'\npath='a'\nauth='none'").starts_with("bot.path = \"a\""));
    let bot = "[[bot]]\nname='a'\npath='/a'\nauth='none'\n";
    let said = error(&format!("{bot}allow=['10.0.0.1/8']"));
    assert!(said.starts_with("bot.allow = \"10.0.0.1/8\": expected \"10.0.0.0/8\""), "{said}");
    let said = error(&format!("{bot}[[listener]]\naddress='localhost:80'"));
    assert!(said.starts_with("line 6: listener.address: \"localhost:80\" is no"), "{said}");
    for (key, value, expected) in [
        ("mode", "'0660'", "listener.mode = \"0660\": expected none"),
        ("mode", "'0888'", "line 7: listener.mode: \"0888\" are no"),
        ("mode", "'1777'", "line 7: listener.mode: \"1777\" are no"),
        ("allow", "['x']", "listener.allow = \"x\": expected"),
        ("proxy_protocol", "[]", "listener.proxy_protocol = []: expected"),
    ] {
        let listener = format!("[[listener]]\naddress='[::1]:80'\n{key}={value}");
        let said = error(&format!("{bot}{listener}"));
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn a_secret_is_not_shown_in_errors_or_in_the_printed_config() {
    let text = WHOLE.replace("\"s3cret\"", "\"s3cret\" x");
    assert!(!error(&text).contains("s3cret"));
    assert!(!error(&WHOLE.replace("\"s3cret\"", "[\"s3cret\"]")).contains("s3cret"));
    assert!(!error(&WHOLE.replace("s3cret", "s3 cret")).contains("s3 cret"));
    let number = error(&WHOLE.replace("\"s3cret\"", "7654321"));
    assert!(number.contains("expected a string") && !number.contains("7654321"), "{number}");
    let file: ConfigFile = WHOLE.parse().unwrap();
    let config = file.to_config(Secrets::Read).unwrap();
    let printed = file.effective(&config).to_toml().unwrap();
    for secret in ["s3cret", "old-one", "user:word", "w0rd"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.contains("previous_secret_token_until = \"2027-01-31T12:00:00Z\""));
    assert!(printed.contains("idle_timeout = \"1m 30s\""), "{printed}");
    assert!(printed.contains("body_bytes = \"2.0 MiB\""), "{printed}");
    assert!(printed.contains("reuse_port = true"), "{printed}");
    assert!(printed.contains("mode = \"0600\"") && printed.contains("tls = true"), "{printed}");
    assert!(printed.contains("proxy_protocol = [\"10.0.0.0/8\"]"), "{printed}");
    // What is printed can be read again, the hidden secret apart.
    let again: ConfigFile = printed.parse().unwrap();
    assert_eq!(again.to_toml().unwrap(), printed);
}

#[test]
fn secrets_come_from_files_and_variables() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "tok-en\n").unwrap();
    let text = format!(
        "[[bot]]\nname='a'\npath='/a'\nsecret_token_file={:?}",
        file.path().to_str().unwrap()
    );
    let config = text.parse::<ConfigFile>().unwrap().to_config(Secrets::Read).unwrap();
    assert!(config.bots[0].secret_token.as_ref().unwrap().matches(b"tok-en"));
    let missing = error("[[bot]]\nname='a'\npath='/a'\nsecret_token_env='RINGHOOK_NOT_SET'");
    assert!(missing.starts_with("bot.secret_token_env = RINGHOOK_NOT_SET"), "{missing}");
    let missing = error("[[bot]]\nname='a'\npath='/a'\nsecret_token_file='/nonexistent/x'");
    assert!(missing.starts_with("bot.secret_token_file = /nonexistent/x"), "{missing}");
}
