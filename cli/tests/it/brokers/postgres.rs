//! PostgreSQL: updates in a table, each once.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

use rustix::process::geteuid;
use serde_json::Value;

use super::{Broker, check, post, wait_said, work_to_the_end, workers};
use crate::{
    binary::service::Service,
    support::{
        drill::under_load,
        external::{program, succeed, talk},
        pki::Pki,
        port::Port,
        update_of, wait_going_on, wait_until,
    },
};

const UPDATES: u64 = 50_000;
/// PostgreSQL does not run as root; this one owns nothing.
const NOBODY: u32 = 65534;

/// A place for servers that come and go, with their data in one directory.
struct Place {
    dir: tempfile::TempDir,
    port: Port,
}

impl Place {
    /// `None` with the reason printed where this machine lacks the server.
    fn new() -> Option<Self> {
        program("postgres")?;
        program("psql")?;
        let place = Self { dir: tempfile::tempdir().unwrap(), port: Port::reserve() };
        if geteuid().is_root() {
            chown(place.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = place.data().display().to_string();
        let mut initdb = place.command("initdb");
        succeed(initdb.args(["-D", &data, "-U", "bot", "-A", "trust", "--no-sync"]));
        Some(place)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(self.dir.path());
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn url(&self) -> String {
        format!("postgres://bot@{}/postgres", self.port.addr)
    }

    fn start(&self) -> Broker {
        let port = self.port.addr.port().to_string();
        let start = || {
            let mut server = self.command("postgres");
            server.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path()).args(["-p", &port]);
            Broker::start(server.args(["-h", "127.0.0.1"]))
        };
        let mut broker = start();
        wait_until("the server answers", || {
            // The processes of the one before may not have ended.
            if broker.has_ended() {
                broker = start();
            }
            talk(&mut self.psql("SELECT 1"), b"").status.success()
        });
        broker
    }

    fn psql(&self, query: &str) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-XAtq", "-U", "bot", "-p", &self.port.addr.port().to_string(), "-h"]);
        psql.arg(self.dir.path()).args(["-d", "postgres", "-c", query]);
        psql
    }

    #[track_caller]
    fn ask(&self, query: &str) -> String {
        succeed(&mut self.psql(query)).stdout.trim().to_owned()
    }

    /// How many rows there are; none where there is no table or no server.
    fn count(&self) -> u64 {
        let count = talk(&mut self.psql("SELECT count(*) FROM ringhook_updates"), b"");
        count.stdout.trim().parse().unwrap_or_default()
    }
}

fn config(to: &str, more: &str) -> String {
    format!("[[output]]\nname = 'bus'\nto = '{to}'\n{more}")
}

#[track_caller]
fn wait_count(place: &Place, count: u64) {
    wait_until(&format!("{count} are there"), || place.count() == count);
}

#[test]
fn whatever_is_killed_or_frozen_each_update_is_there_once_and_in_order() {
    let Some(place) = Place::new() else { return };
    let mut broker = place.start();
    let settings = "create = true\ntimeout = '1s'\n";
    let service = Service::new(&config(&place.url(), settings), &["--workers", "3"]);
    let load = service.load(UPDATES);
    let first = service.start();
    let (sent, (last, _broker)) = under_load(&load, || {
        let mut server = first;
        let mut steps = 1..;
        let mut go_on = || {
            let part = UPDATES / 7 * steps.next().unwrap();
            wait_going_on("a part of them is there", || {
                let count = place.count();
                (count >= part, count)
            });
        };
        for _ in 0..2 {
            go_on();
            drop(broker);
            wait_said(&server, "Connection refused");
            broker = place.start();
            go_on();
            server.kill();
            server = service.start();
        }
        go_on();
        broker.signal("STOP");
        wait_said(&server, "no answer within 1s");
        broker.signal("CONT");
        (server, broker)
    });
    wait_going_on("all are there", || {
        let count = place.count();
        (count >= UPDATES, count)
    });
    let ended = last.terminate();
    assert!(ended.status.success(), "{:#?}", ended.stderr);
    eprintln!("{sent:?}");
    let ids = place.ask("SELECT update_id FROM ringhook_updates ORDER BY id");
    check(&load.payload, UPDATES, ids.lines().map(|id| id.parse().unwrap()));
    assert_eq!(service.report()["updates_failed"], 0);
}

#[test]
fn a_row_has_the_body_as_received_and_fields_beside_it() {
    let Some(place) = Place::new() else { return };
    let _broker = place.start();
    let settings = "create = true\ninto = 'public.got'\n[output.fields]\ntext = 'message.text'\n";
    let service = Service::new(&config(&place.url(), settings), &[]);
    let server = service.start();
    let body = update_of(-5, 7);
    post(&service, &body);
    post(&service, "{\"update_id\":8,\"poll\":{\"id\":\"9\"}}");
    wait_until("both are there", || {
        talk(&mut place.psql("SELECT count(*) FROM got"), b"").stdout.trim() == "2"
    });
    let row = "SELECT row_to_json(it) FROM (SELECT bot, update_id, kind, chat, \
               update::text, fields::text, done, now() - received < '1 min' AS is_recent \
               FROM got ORDER BY id LIMIT 1) AS it";
    let expected = serde_json::json!({
        "bot": "test", "update_id": 7, "kind": "message", "chat": "-5", "update": body,
        "fields": "{\"text\":\"hello Ж 7\"}", "done": null, "is_recent": true,
    });
    assert_eq!(serde_json::from_str::<Value>(&place.ask(row)).unwrap(), expected);
    assert_eq!(place.ask("SELECT chat, fields FROM got WHERE update_id = 8"), "poll:9|");
    assert!(server.terminate().status.success());
}

#[test]
fn a_table_is_made_only_on_request() {
    let Some(place) = Place::new() else { return };
    let _broker = place.start();
    let service = Service::new(&config(&place.url(), ""), &[]);
    let server = service.start();
    post(&service, &update_of(1, 1));
    wait_said(&server, "the table \"ringhook_updates\" is missing, and create is not set");
    // One of an owner's own: what is asked for is the columns and what is unique.
    place.ask(
        "CREATE TABLE ringhook_updates (id serial, bot text, update_id bigint, kind text, \
         chat text, received timestamptz, update jsonb, fields jsonb, UNIQUE (bot, update_id))",
    );
    wait_count(&place, 1);
    assert!(server.terminate().status.success());
}

#[test]
fn what_the_table_refuses_is_a_dead_letter_and_stops_nothing() {
    let Some(place) = Place::new() else { return };
    let _broker = place.start();
    let settings = "create = true\n[dispatch]\ndead_letters = 'letters'\n";
    let service = Service::new(&config(&place.url(), settings), &[]);
    let server = service.start();
    post(&service, &update_of(1, 1));
    wait_count(&place, 1);
    place.ask("ALTER TABLE ringhook_updates ADD CHECK (update->'message'->>'text' NOT LIKE '% 2')");
    for id in 2..=3 {
        post(&service, &update_of(1, id));
    }
    wait_count(&place, 2);
    let ended = server.terminate();
    assert!(ended.status.success());
    let letters = fs::read_to_string(service.pki.dir().join("letters")).unwrap();
    let letter: Value = serde_json::from_str(letters.lines().next().unwrap()).unwrap();
    assert_eq!((letters.lines().count(), &letter["update_id"]), (1, &Value::from(2)));
    assert_eq!(letter["reason"], "PostgreSQL refuses it, SQLSTATE 23514");
    assert!(!ended.stderr.join("\n").contains("hello Ж"), "a message is in the log");
}

#[test]
fn a_login_and_tls_are_asked_for() {
    let Some(place) = Place::new() else { return };
    let pki = Pki::ecdsa();
    let file = |name: &str, text: &str| {
        let path = place.data().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if geteuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    };
    file("server.crt", &pki.cert);
    file("server.key", &pki.key);
    let conf = fs::read_to_string(place.data().join("postgresql.conf")).unwrap();
    file("postgresql.conf", &(conf + "ssl = on\n"));
    file("pg_hba.conf", "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
    let _broker = place.start();
    place.ask("ALTER USER bot PASSWORD 'the-good-password'");
    let to = format!("{}?sslmode=require", place.url());
    let ca = pki.dir().join("cert.pem").display().to_string();
    let settings = format!("create = true\npassword_file = 'password'\nca = '{ca}'\n");
    let service = Service::new(&config(&to, &settings), &[]);
    let password = service.pki.dir().join("password");
    fs::write(&password, "the-bad-password").unwrap();
    let server = service.start();
    post(&service, &update_of(1, 1));
    wait_said(&server, "password authentication failed");
    fs::write(&password, "the-good-password").unwrap();
    wait_count(&place, 1);
    let ended = server.terminate();
    assert!(ended.status.success());
    let said = ended.stderr.join("\n") + &service.report().to_string();
    assert!(!said.contains("-password"), "{said}");
    // Another authority than the one that is trusted.
    let settings = "create = true\npassword_file = 'password'\n";
    let service = Service::new(&config(&to, settings), &[]);
    fs::write(service.pki.dir().join("password"), "the-good-password").unwrap();
    let server = service.start();
    post(&service, &update_of(1, 2));
    wait_said(&server, "certificate");
    assert_eq!(place.count(), 1);
}

#[test]
fn a_worker_that_is_killed_goes_on_where_it_was() {
    let Some(place) = Place::new() else { return };
    let _broker = place.start();
    let service = Service::new(&config(&place.url(), "create = true\n"), &[]);
    for mut worker in workers("postgres", "psycopg", &[&place.url(), "ringhook_updates"]) {
        let load = service.load(500);
        let server = service.start();
        load.send();
        wait_count(&place, 500);
        work_to_the_end(&mut worker, &load.payload, 500);
        assert!(server.terminate().status.success());
        // For the next one nothing has been before.
        place.ask("DROP TABLE ringhook_updates");
        fs::remove_dir_all(service.journal()).unwrap();
    }
}
