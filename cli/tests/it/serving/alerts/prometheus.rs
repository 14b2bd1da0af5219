//! A Prometheus that looks often, and what it says of the alerts.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::super::metrics::contrib;
use crate::support::{PATIENCE, external::Running, port::Port, probe::ask_with};

/// Time between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// The rules with minutes made seconds, for a Prometheus that scrapes several times a second.
fn hastened(rules: &str) -> String {
    let mut text = rules.to_owned();
    for (slow, quick) in [
        ("[2m]", "[3s]"),
        ("[5m]", "[3s]"),
        ("[15m]", "[3s]"),
        ("[30m]", "[5s]"),
        ("for: 15s", "for: 1s"),
        ("for: 1m", "for: 1s"),
        ("for: 2m", "for: 1s"),
        ("for: 5m", "for: 1s"),
        ("ringhook_lag_seconds > 30", "ringhook_lag_seconds > 3"),
    ] {
        assert!(text.contains(slow), "{slow}");
        text = text.replace(slow, quick);
    }
    assert!(!text.contains("m]"));
    text
}

/// A Prometheus with hastened rules, which watches some servers.
pub(super) struct Prometheus {
    addr: SocketAddr,
    /// What has fired so far.
    fired: Mutex<BTreeSet<String>>,
    _dir: tempfile::TempDir,
    _running: Running,
}

impl Prometheus {
    pub(super) fn start(mut program: Command, targets: &[SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let rules = fs::read_to_string(contrib("prometheus/rules.yml")).unwrap();
        fs::write(at("rules.yml"), hastened(&rules)).unwrap();
        let config = fs::read_to_string(contrib("prometheus/scrape.yml")).unwrap();
        let targets: Vec<_> = targets.iter().map(|addr| format!("\"{addr}\"")).collect();
        let config = config.replace("\"127.0.0.1:9464\"", &targets.join(", "));
        fs::write(at("scrape.yml"), config.replace("15s", "300ms")).unwrap();
        let port = Port::reserve();
        let running = Running::start(
            program
                .arg(format!("--config.file={}", at("scrape.yml").display()))
                .arg(format!("--storage.tsdb.path={}", at("data").display()))
                .arg(format!("--web.listen-address={}", port.addr)),
        );
        let addr = port.addr;
        running.wait_for("Server is ready to receive web requests");
        Self { addr, fired: Mutex::default(), _dir: dir, _running: running }
    }

    /// The names of all alerts that have been seen firing.
    pub(super) fn fired(&self) -> BTreeSet<String> {
        self.fired.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of the alerts that fire for the server whose admin listener is `target`.
    fn firing(&self, target: SocketAddr) -> BTreeSet<String> {
        // 1.0, so that the answer ends with its connection.
        let request = b"GET /api/v1/alerts HTTP/1.0\r\nHost: a\r\n\r\n";
        let (_, _, body) = ask_with(self.addr, request).unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter();
        let is_firing = |alert: &&Value| {
            alert["state"] == "firing" && alert["labels"]["instance"] == target.to_string()
        };
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap().to_owned();
        let firing: BTreeSet<_> = alerts.filter(is_firing).map(name).collect();
        let mut fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        fired.extend(firing.iter().cloned());
        firing
    }

    /// Waits until each of `names` has fired for `target`, and calls `meanwhile` again and again.
    #[track_caller]
    pub(super) fn wait_for(&self, target: SocketAddr, names: &[&str], mut meanwhile: impl FnMut()) {
        let mut missing = names.to_vec();
        let mut since = Instant::now();
        while !missing.is_empty() {
            meanwhile();
            let (firing, before) = (self.firing(target), missing.len());
            missing.retain(|name| !firing.contains(*name));
            if missing.len() < before {
                since = Instant::now();
            }
            assert!(since.elapsed() < PATIENCE, "{missing:?} do not fire, {firing:?} do");
            thread::sleep(PAUSE);
        }
    }

    /// Waits until nothing fires for `target`.
    #[track_caller]
    pub(super) fn wait_quiet(&self, target: SocketAddr) {
        let start = Instant::now();
        loop {
            let firing = self.firing(target);
            if firing.is_empty() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{firing:?} do not resolve");
            thread::sleep(PAUSE);
        }
    }
}
