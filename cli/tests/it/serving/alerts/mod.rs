//! The alerts of `contrib/prometheus`: each fires on a real server in trouble that a real
//! Prometheus scrapes, and resolves when the trouble is over.

mod prometheus;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use nix::{sys::ptrace, unistd};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;

use self::prometheus::Prometheus;
use super::{metrics::contrib, stderr::Blocked};
use crate::{
    binary::{
        process::{Process, run},
        sender::{Sender, end_in_peace, start},
        service::Service,
    },
    support::{
        PATH, PATIENCE, SECRET,
        bot_api::{FakeBotApi, TOKEN},
        external::{program, skip, succeed},
        port::Port,
        probe::ask,
        request, request_to,
        sunk::Sunk,
        update, wait_until,
        way::Way,
    },
};

#[test]
fn promtool_takes_config_and_rules_and_each_alert_is_tested_by_them() {
    let Some(_) = program("promtool") else { return };
    let run = |args: &[&str]| {
        succeed(Command::new("promtool").args(args).current_dir(contrib("prometheus")))
    };
    run(&["check", "config", "scrape.yml"]);
    run(&["check", "rules", "rules.yml"]);
    run(&["test", "rules", "rules.test.yml"]);
    let tests = fs::read_to_string(contrib("prometheus/rules.test.yml")).unwrap();
    for name in all_alerts() {
        let quiet = format!("{{alertname: {name}, eval_time: ");
        assert_eq!(tests.matches(&quiet).count(), 2, "{name} is quiet before and after");
        assert_eq!(tests.matches(&format!("- alertname: {name}\n")).count(), 1, "{name} fires");
    }
}

/// The names of all alerts.
fn all_alerts() -> BTreeSet<String> {
    let rules = fs::read_to_string(contrib("prometheus/rules.yml")).unwrap();
    let lines = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    lines.map(str::to_owned).collect()
}

/// A server to be watched, and its admin listener.
struct Watched {
    admin: Port,
    service: Service,
}

impl Watched {
    fn new(config: &str, args: &[&str]) -> Self {
        let admin = Port::reserve();
        let config = format!("[admin]\nlisten = '{}'\n{config}", admin.addr);
        Self { admin, service: Service::new(&config, args) }
    }
}

/// Nothing here is played: each server is in the trouble that the alert is about. All three are in
/// trouble at the same time, to save time.
#[test]
fn every_alert_fires_on_a_server_in_trouble_and_resolves() {
    let Some(program) = program("prometheus") else { return };
    let target = Port::reserve();
    let to_a_bot = Watched::new("", &["--output", &format!("http://{}/webhook", target.addr)]);
    let on_a_disk = Watched::new(
        "[journal]\nsegment_bytes = '1MiB'\nmax_bytes = '16MiB'\n",
        &["--output", "ndjson:-"],
    );
    let at_telegram = AtTelegram::new();
    let all = [&to_a_bot, &on_a_disk, &at_telegram.watched].map(|it| it.admin.addr);
    let prometheus = &Prometheus::start(program, &all);
    let is_stuck = thread::scope(|scope| {
        scope.spawn(|| troubles_of_an_output_and_of_certificates(prometheus, &to_a_bot, &target));
        scope.spawn(|| at_telegram.troubles(prometheus));
        troubles_of_a_disk_and_of_a_shard(prometheus, &on_a_disk)
    });
    let mut expected = all_alerts();
    if !is_stuck {
        expected.remove("RinghookShardStuck");
    }
    assert_eq!(prometheus.fired(), expected);
}

/// A bot that is not there and comes up late, senders that are wrong, certificates that end.
fn troubles_of_an_output_and_of_certificates(
    prometheus: &Prometheus,
    watched: &Watched,
    target: &Port,
) {
    let Watched { admin, service } = watched;
    let admin = admin.addr;
    let server = service.start();
    prometheus.wait_quiet(admin);

    // Nothing listens where the updates are to go; some come with a wrong secret.
    let mut client = service.connect();
    let mut id = 0;
    prometheus.wait_for(admin, &["RinghookOutputDown", "RinghookForbidden"], || {
        id += 1;
        assert_eq!(client.post(&update(id)).status, 200);
        client.send(&request_to(PATH, "wrong", &update(id)));
        assert_eq!(client.response().status, 403);
    });

    // A certificate that cannot be used, then one that is about to end, then a good one.
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| service.pki.dir().join(name));
    let good = [&cert, &key].map(|file| fs::read(file).unwrap());
    fs::write(&cert, "no certificate").unwrap();
    prometheus.wait_for(admin, &["RinghookCertificateReloadFailed"], || {});
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() + Duration::from_secs(10 * 86_400)).into();
    fs::write(&key, pair.serialize_pem()).unwrap();
    fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
    prometheus.wait_for(admin, &["RinghookCertificateExpires"], || {});
    fs::write(&key, &good[1]).unwrap();
    fs::write(&cert, &good[0]).unwrap();

    // The bot comes up, late for what has waited. What comes twice is known as such only when its
    // chat's lane goes on.
    take_all(TcpListener::bind(target.addr).unwrap());
    prometheus.wait_for(admin, &["RinghookDeliverySlow", "RinghookDuplicates"], || {
        id += 1;
        for _ in 0..3 {
            assert_eq!(client.post(&update(id)).status, 200);
        }
    });
    prometheus.wait_quiet(admin);

    drop(client);
    assert!(server.terminate().status.success());
    prometheus.wait_for(admin, &["RinghookDown"], || {});
    let server = service.start();
    prometheus.wait_quiet(admin);
    assert!(server.terminate().status.success());
}

/// A bot that answers 200 to all it gets at `listener`.
pub(super) fn take_all(listener: TcpListener) {
    thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            thread::spawn(move || {
                let _ = socket.set_read_timeout(Some(PATIENCE));
                let mut bytes = [0; 4096];
                while matches!(socket.read(&mut bytes), Ok(read) if read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if socket.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// A pipe that is not read, a journal that is full, a disk that takes nothing, a shard that stands
/// still. False where this machine allows no thread to be stopped.
fn troubles_of_a_disk_and_of_a_shard(prometheus: &Prometheus, watched: &Watched) -> bool {
    let Watched { admin, service } = watched;
    let admin = admin.addr;
    let (server, mut tap) = start(service);
    let mut sender = Sender::new(service);
    prometheus.wait_quiet(admin);

    // What comes now stays in the journal.
    let growing = ["RinghookHangs", "RinghookJournalFills", "RinghookLagGrows"];
    prometheus.wait_for(admin, &growing, || assert!(sender.post()));
    assert_told(admin, &server, "sink", "output: a write");
    let full = ["RinghookFailures", "RinghookNotReady", "RinghookRefusals"];
    prometheus.wait_for(admin, &full, || {
        (0..50).for_each(|_| {
            sender.post();
        });
    });
    let mut sunk = Sunk::default();
    tap.take_all(&sender.acknowledged, &sunk);
    prometheus.wait_quiet(admin);

    // As good as a full disk, for any user.
    let pid = Pid::from_child(&server.child);
    let unlimited = getrlimit(Resource::Fsize);
    let limit = |current| {
        prlimit(Some(pid), Resource::Fsize, Rlimit { current, ..unlimited }).unwrap();
    };
    limit(Some(4096));
    prometheus.wait_for(admin, &["RinghookJournalFailing"], || {
        sender.post();
    });
    limit(unlimited.current);
    sender.until_taken();
    prometheus.wait_quiet(admin);

    let is_stuck = match stop_thread(&server, "ringhook-s0") {
        Err(error) => {
            skip("ptrace", &error.to_string());
            false
        }
        Ok(stopped) => {
            prometheus.wait_for(admin, &["RinghookHangs", "RinghookShardStuck"], || {});
            assert_told(admin, &server, "shard", "shard: a round");
            ptrace::detach(stopped, None).unwrap();
            true
        }
    };
    prometheus.wait_quiet(admin);
    sender.post_all(1);
    end_in_peace(server, tap, &mut sunk, &sender);
    is_stuck
}

/// Of the step that hangs, called `words` in messages, `/readyz` and one line of the log tell, and
/// an incident.
#[track_caller]
fn assert_told(admin: SocketAddr, server: &Process, step: &str, words: &str) {
    let text = format!("{words} has not returned for ");
    assert!(ask(admin, "/readyz").1.contains(&text), "{}", ask(admin, "/readyz").1);
    let lines = || server.stderr().iter().filter(|line| line.contains(&text)).count();
    wait_until("a line says it", || lines() > 0);
    assert_eq!(lines(), 1, "told once");
    wait_until("an incident says it", || {
        let incidents: Value = serde_json::from_str(&ask(admin, "/incidents").1).unwrap();
        let is_it = |it: &Value| it["kind"] == "hang" && it["detail"] == step;
        incidents["incidents"].as_array().unwrap().iter().any(is_it)
    });
}

/// Stops one thread of a server and no other, until it is detached from by the same thread of ours.
fn stop_thread(server: &Process, name: &str) -> nix::Result<unistd::Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let tasks = tasks.map(|task| task.unwrap().path());
    let is_it = |path: &PathBuf| fs::read_to_string(path.join("comm")).unwrap().trim() == name;
    let task = tasks.into_iter().find(is_it).expect("there is such a thread");
    let id = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let id = unistd::Pid::from_raw(id);
    ptrace::seize(id, ptrace::Options::empty())?;
    ptrace::interrupt(id)?;
    wait_until("the thread stands still", || {
        fs::read_to_string(task.join("stat")).unwrap().contains(") t ")
    });
    Ok(id)
}

/// A bot with a webhook on `port` that is looked at every second, and whose token is in `token`.
pub(super) fn watched_bot(api: &FakeBotApi, port: u16) -> String {
    format!(
        "[webhook]\napi_root = '{}'\nlocal = true\ninterval = '1s'\n\
         [tls]\ncert = 'cert.pem'\nkey = 'key.pem'\n\
         [[bot]]\nname = 'shop'\npath = '/shop'\nsecret_token = '{SECRET}'\n\
         url = 'https://localhost:{port}/shop'\ntoken_file = 'token'\n",
        api.url(),
    )
}

/// A server whose webhook is watched at a Bot API of its own, and whose stderr is a full pipe.
struct AtTelegram {
    api: FakeBotApi,
    watched: Watched,
    way: Mutex<Way>,
}

impl AtTelegram {
    fn new() -> Self {
        let api = FakeBotApi::builder().time_scale(20).start();
        let way = Way::new();
        let config = watched_bot(&api, way.addr().port());
        let watched = Watched::new(&config, &["--output", "null", "--log-level", "debug"]);
        fs::write(watched.service.pki.dir().join("token"), TOKEN).unwrap();
        Self { api, watched, way: Mutex::new(way) }
    }

    /// Sets the webhook as the config has it.
    fn set_webhook(&self) {
        let args = ["webhook", "set", "--bot", "shop", "--config", "ringhook.toml"];
        let (code, _, stderr) = run(self.watched.service.pki.dir(), &args);
        assert_eq!(code, 0, "{stderr}");
    }

    /// A log that is not read, a way that is shut, another program with the same token.
    fn troubles(&self, prometheus: &Prometheus) {
        let Watched { admin, service } = &self.watched;
        let admin = admin.addr;
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        way.lead_to(service.port.addr);
        way.open();
        self.set_webhook();
        let mut server = Blocked::start(service.command());
        prometheus.wait_quiet(admin);

        way.shut();
        self.api.push_many(60);
        // Of each copy there is a line.
        let mut client = service.connect();
        let names = ["RinghookLogDropped", "RinghookPending", "RinghookWebhookFailing"];
        prometheus.wait_for(admin, &names, || {
            client.send(&request(&update(1)).repeat(50));
            (0..50).for_each(|_| assert_eq!(client.response().status, 200));
        });
        drop(client);
        server.read_on();
        way.open();
        self.api.wait_delivered();
        prometheus.wait_quiet(admin);

        self.api.set_webhook_behind_back("https://other.example/");
        prometheus.wait_for(admin, &["RinghookWebhookTakenAway"], || {});
        self.set_webhook();
        prometheus.wait_quiet(admin);
        assert!(server.terminate().success());
    }
}
