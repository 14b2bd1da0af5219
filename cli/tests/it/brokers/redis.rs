//! Redis and Valkey: updates in streams, each once.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use redis::{Client, Connection, streams::StreamRangeReply};
use serde_json::Value;

use super::{Broker, check, post, wait_said, work_to_the_end, workers};
use crate::{
    binary::{process::run, service::Service},
    support::{
        drill::under_load, external::program, long, pki::Pki, port::Port, update_of, wait_going_on,
        wait_until,
    },
};

/// The servers that the same holds for, and how many updates each gets while it is killed.
const SERVERS: [(&str, u64); 2] = [("redis-server", 50_000), ("valkey-server", 20_000)];

/// A place for servers that come and go, with their data in one directory.
struct Place {
    dir: tempfile::TempDir,
    port: Port,
    program: String,
}

impl Place {
    /// `None` with the reason printed where this machine lacks `name`.
    fn new(name: &str) -> Option<Self> {
        program(name)?;
        let dir = tempfile::tempdir().unwrap();
        Some(Self { dir, port: Port::reserve(), program: name.to_owned() })
    }

    fn socket(&self) -> String {
        self.dir.path().join("socket").display().to_string()
    }

    fn url(&self) -> String {
        format!("redis://{}", self.port.addr)
    }

    /// A server that keeps what it has acknowledged, with `args`.
    fn start(&self, args: &[&str]) -> Broker {
        let mut command = Command::new(&self.program);
        command.current_dir(self.dir.path()).args(["--bind", "127.0.0.1", "--save", ""]);
        command.args(["--unixsocket", &self.socket(), "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--port", &self.port.addr.port().to_string()]);
        let broker = Broker::start(command.args(args));
        wait_until("the server answers", || {
            self.connect().and_then(|mut it| redis::cmd("PING").exec(&mut it)).is_ok()
        });
        broker
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let url = format!("unix:{}", self.socket());
        Client::open(url)?.get_connection()
    }

    fn set(&self, key: &str, value: &str) {
        let mut connection = self.connect().unwrap();
        redis::cmd("CONFIG").arg("SET").arg(key).arg(value).exec(&mut connection).unwrap();
    }

    /// The records of one of the streams, in their order.
    fn records(&self, stream: &str) -> Vec<BTreeMap<String, String>> {
        let mut connection = self.connect().unwrap();
        let range = redis::cmd("XRANGE").arg(stream).arg("-").arg("+").clone();
        let reply: StreamRangeReply = range.query(&mut connection).unwrap();
        let record = |map: std::collections::HashMap<String, redis::Value>| {
            let text = |value| redis::from_redis_value::<String>(value).unwrap();
            map.into_iter().map(|(name, value)| (name, text(value))).collect()
        };
        reply.ids.into_iter().map(|entry| record(entry.map)).collect()
    }

    /// How many records so many streams have.
    fn count(&self, streams: usize) -> u64 {
        let Ok(mut connection) = self.connect() else { return 0 };
        let length = |shard| {
            let stream = format!("tg:{{test:{shard}}}");
            redis::cmd("XLEN").arg(stream).query::<u64>(&mut connection).unwrap_or_default()
        };
        (0..streams).map(length).sum()
    }
}

fn config(to: &str, more: &str) -> String {
    format!("[[output]]\nname = 'bus'\nto = '{to}'\n{more}")
}

/// Waits until so many updates are in one stream.
#[track_caller]
fn wait_count(place: &Place, count: u64) {
    wait_until(&format!("{count} are there"), || place.count(1) == count);
}

#[test]
fn whatever_is_killed_frozen_or_full_each_update_is_there_once_and_in_order() {
    for (name, updates) in SERVERS {
        let Some(place) = Place::new(name) else { continue };
        let mut broker = place.start(&[]);
        let settings = "create = true\nshards = 4\ntimeout = '500ms'\n";
        let service = Service::new(&config(&place.url(), settings), &["--workers", "3"]);
        let load = service.load(updates);
        let first = service.start();
        let (sent, (last, _broker)) = under_load(&load, || {
            let mut server = first;
            let mut steps = 1..;
            let mut go_on = || {
                let part = updates / 8 * steps.next().unwrap();
                wait_going_on("a part of them is there", || {
                    let count = place.count(4);
                    (count >= part, count)
                });
            };
            for _ in 0..2 {
                go_on();
                drop(broker);
                wait_said(&server, "Connection refused");
                broker = place.start(&[]);
                go_on();
                server.kill();
                server = service.start();
            }
            go_on();
            broker.signal("STOP");
            wait_said(&server, "no answer within 500ms");
            broker.signal("CONT");
            go_on();
            place.set("maxmemory", "1");
            wait_said(&server, "OOM");
            place.set("maxmemory", "0");
            (server, broker)
        });
        wait_going_on("all are there", || {
            let count = place.count(4);
            (count >= updates, count)
        });
        let ended = last.terminate();
        assert!(ended.status.success(), "{:#?}", ended.stderr);
        eprintln!("{name}: {sent:?}");
        let streams = (0..4).map(|shard| place.records(&format!("tg:{{test:{shard}}}")));
        let streams: Vec<_> = streams.collect();
        assert!(streams.iter().all(|records| !records.is_empty()), "a stream has nothing");
        let ids = streams.iter().flatten().map(|record| record["update_id"].parse().unwrap());
        check(&load.payload, updates, ids);
        assert_eq!(service.report()["updates_failed"], 0);
    }
}

#[test]
fn a_record_has_the_body_as_received_and_fields_beside_it() {
    let Some(place) = Place::new(SERVERS[0].0) else { return };
    let _broker = place.start(&[]);
    let settings = "create = true\ninto = 'in'\n[output.fields]\ntext = 'message.text'\n\
                    type = 'message.chat.type'\nmissing = 'message.caption'\n";
    let to = format!("redis+unix:{}", place.socket());
    let service = Service::new(&config(&to, settings), &[]);
    let server = service.start();
    let body = update_of(-5, 7);
    post(&service, &body);
    post(&service, "{\"update_id\":8,\"poll\":{\"id\":\"9\"}}");
    post(&service, "{\"update_id\":9,\"new\":{}}");
    wait_until("all are there", || place.records("in:{test:0}").len() == 3);
    let records = place.records("in:{test:0}");
    let mut first = records[0].clone();
    let received = humantime::parse_rfc3339(&first.remove("received").unwrap()).unwrap();
    assert!(received.elapsed().unwrap().as_secs() < 60);
    let expected = [
        ("bot", "test"),
        ("chat", "-5"),
        ("kind", "message"),
        ("text", "hello Ж 7"),
        ("type", "private"),
        ("update", &body),
        ("update_id", "7"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(first, BTreeMap::from(expected));
    let heads = records.iter().map(|record| (&*record["kind"], &*record["chat"]));
    let expected = [("message", "-5"), ("poll", "poll:9"), ("unknown", "update:9")];
    assert_eq!(heads.collect::<Vec<_>>(), expected);
    assert!(server.terminate().status.success());
}

#[test]
fn a_stream_is_made_only_on_request() {
    let Some(place) = Place::new(SERVERS[0].0) else { return };
    let _broker = place.start(&[]);
    let settings = "[admin]\nlisten = '127.0.0.1:0'\n";
    let service = Service::new(&(config(&place.url(), "") + settings), &[]);
    let server = service.start();
    post(&service, &update_of(1, 1));
    wait_said(&server, "tg:{test:0} is missing, and create is not set");
    let mut connection = place.connect().unwrap();
    assert_eq!(redis::cmd("DBSIZE").query::<u64>(&mut connection).unwrap(), 0);
    let mut group = redis::cmd("XGROUP");
    group.arg("CREATE").arg("tg:{test:0}").arg("bot").arg("$").arg("MKSTREAM");
    group.exec(&mut connection).unwrap();
    wait_count(&place, 1);
    assert!(server.terminate().status.success());
}

#[test]
fn a_login_with_few_rights_is_enough_and_its_password_is_shown_nowhere() {
    let Some(place) = Place::new(SERVERS[0].0) else { return };
    let rights = "+eval +xadd +zadd +zscore +zremrangebyrank +time ~tg:*";
    let user = ["--user", "ringhook", "on", ">the-good-password"];
    let rights: Vec<_> = rights.split(' ').collect();
    let _broker = place.start(&[&user[..], &rights].concat());
    let to = format!("redis://ringhook@{}", place.port.addr);
    let settings = "create = true\npassword_file = 'password'\n";
    let service = Service::new(&config(&to, settings), &[]);
    let file = service.pki.dir().join("password");
    fs::write(&file, "the-bad-password\n").unwrap();
    let server = service.start();
    post(&service, &update_of(1, 1));
    wait_said(&server, "authentication failed");
    fs::write(&file, "the-good-password\n").unwrap();
    wait_count(&place, 1);
    let ended = server.terminate();
    assert!(ended.status.success());
    let said = ended.stderr.join("\n") + &service.report().to_string();
    assert!(!said.contains("-password"), "{said}");
}

#[test]
fn tls_trusts_the_authority_that_is_named() {
    let Some(place) = Place::new(SERVERS[0].0) else { return };
    let pki = Pki::ecdsa();
    let at = |name: &str| pki.dir().join(name).display().to_string();
    let tls = Port::reserve();
    let port = tls.addr.port().to_string();
    let (cert, key) = (at("cert.pem"), at("key.pem"));
    let args = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let _broker = place.start(&[&["--tls-port", &port][..], &args].concat());
    let to = format!("rediss://{}", tls.addr);
    for (ca, is_trusted) in [(Some(cert.clone()), true), (None, false)] {
        let ca = ca.map(|path| format!("ca = '{path}'\n")).unwrap_or_default();
        let service = Service::new(&config(&to, &format!("create = true\n{ca}")), &[]);
        let server = service.start();
        post(&service, &update_of(1, 1));
        if is_trusted {
            wait_count(&place, 1);
            assert!(server.terminate().status.success());
        } else {
            wait_said(&server, "certificate");
            assert_eq!(place.count(1), 1);
        }
    }
}

#[test]
fn what_is_too_long_for_the_server_is_a_dead_letter_and_stops_nothing() {
    let Some(place) = Place::new(SERVERS[0].0) else { return };
    let _broker = place.start(&["--proto-max-bulk-len", "1mb"]);
    let settings = "create = true\n[limits]\nbody_bytes = '2MiB'\n\
                    [dispatch]\ndead_letters = 'letters'\n";
    let service = Service::new(&config(&place.url(), settings), &[]);
    let server = service.start();
    post(&service, &update_of(1, 1));
    post(&service, &long(1, 2, 1_500_000));
    post(&service, &update_of(1, 3));
    wait_count(&place, 2);
    assert!(server.terminate().status.success());
    let letters = fs::read_to_string(service.pki.dir().join("letters")).unwrap();
    let letter: Value = serde_json::from_str(letters.lines().next().unwrap()).unwrap();
    assert_eq!((letters.lines().count(), &letter["update_id"]), (1, &Value::from(2)));
    assert_eq!(letter["reason"], "longer than the server's proto-max-bulk-len");
}

#[test]
fn what_is_wrong_in_the_config_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |section: &str| {
        let bot = "[[bot]]\nname = 'a'\npath = '/a'\nauth = 'none'\n";
        fs::write(dir.path().join("config"), format!("{section}\n{bot}")).unwrap();
        let args = ["serve", "--listen", "127.0.0.1:0", "--config", "config"];
        let (code, _, said) = run(dir.path(), &args);
        assert_eq!((code, said.lines().count()), (2, 1), "{said}");
        assert!(!said.contains("secret"), "{said}");
        said
    };
    let to = |url: &str| refused(&config(url, ""));
    assert!(to("redis://a:secret@h").contains("output.password_file"));
    assert!(to("redis+unix:/s?pass=secret").contains("redis+unix:/SOCKET[?db=DB]"));
    let with = |more: &str| refused(&config("redis://h", more));
    assert!(with("shards = 0\n").contains("output.shards = 0: expected 1 to 1024"));
    assert!(with("timeout = '0s'\n").contains("output.timeout = 0s"));
    assert!(with("into = 'a b'\n").contains("output.into = \"a b\": expected letters"));
    assert!(with("password_file = 'none'\n").contains("output.password_file = none"));
    assert!(with("ca = 'none'\n").contains("output.ca = none"));
    assert!(with("password_file = 'a'\npassword_env = 'B'\n").contains("one of password_file"));
    assert!(with("[output.fields]\nkind = 'message.text'\n").contains("another name"));
}

#[test]
fn a_worker_that_is_killed_goes_on_where_it_was() {
    let Some(place) = Place::new(SERVERS[0].0) else { return };
    let _broker = place.start(&[]);
    let service = Service::new(&config(&place.url(), "create = true\n"), &[]);
    for mut worker in workers("redis", "redis", &[&place.url(), "tg:{test:0}"]) {
        place.connect().and_then(|mut it| redis::cmd("FLUSHALL").exec(&mut it)).unwrap();
        let load = service.load(2000);
        let server = service.start();
        load.send();
        work_to_the_end(&mut worker, &load.payload, 2000);
        wait_count(&place, 0);
        assert!(server.terminate().status.success());
        // For the next one nothing has been before.
        fs::remove_dir_all(service.journal()).unwrap();
    }
}

/// What `journal replay` and `dead-letters replay` bring to a stream is known there as well.
#[test]
fn dead_letters_are_replayed_into_a_stream_once() {
    let Some(place) = Place::new(SERVERS[0].0) else { return };
    let _broker = place.start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let letter = |id: i64| {
        format!("{{\"bot\":\"test\",\"update\":{{\"update_id\":{id},\"message\":{{}}}}}}\n")
    };
    write("letters", &[letter(1), letter(2), letter(1)].concat());
    let replay = |dir: &Path| {
        let bot = "[[bot]]\nname = 'test'\npath = '/a'\nauth = 'none'\n";
        write("config", &(config(&place.url(), "create = true\n") + bot));
        let (code, _, said) =
            run(dir, &["dead-letters", "replay", "letters", "--config", "config"]);
        assert_eq!(code, 0, "{said}");
    };
    replay(dir.path());
    replay(dir.path());
    let ids: Vec<_> =
        place.records("tg:{test:0}").iter().map(|it| it["update_id"].clone()).collect();
    assert_eq!(ids, ["1", "2"]);
}
