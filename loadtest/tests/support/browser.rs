//! Headless Chromium, driven over a pipe by the DevTools protocol.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser, which goes away with this.
pub struct Browser {
    child: Child,
    commands: File,
    messages: mpsc::Receiver<Value>,
    last_id: u64,
    events: Vec<Value>,
    _directory: TempDir,
}

/// What became of a page.
pub struct Opened {
    /// What the probe has found.
    pub found: Value,
    /// What was written to the console, and errors.
    pub complaints: Vec<String>,
    /// What was asked for, the page itself included.
    pub requests: Vec<String>,
}

impl Browser {
    /// A browser, or none with the reason printed where this machine has no Chromium. Where
    /// `RINGHOOK_TEST_CLIENTS` lists it, it must be there.
    pub fn start() -> Option<Self> {
        let probe = Command::new("chromium").arg("--version").stderr(Stdio::null()).output();
        if !probe.is_ok_and(|output| output.status.success()) {
            let required = std::env::var("RINGHOOK_TEST_CLIENTS").unwrap_or_default();
            let required = required.split_whitespace().any(|it| it == "chromium");
            assert!(!required, "chromium is required, not installed");
            eprintln!("skipped: chromium is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (commands, answers) = (path("commands"), path("answers"));
        assert!(Command::new("mkfifo").args([&commands, &answers]).status().unwrap().success());
        let child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<\"$COMMANDS\" 4>\"$ANSWERS\"", "sh", "chromium"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--no-first-run", "--no-default-browser-check", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", path("profile").display()))
            .env("COMMANDS", &commands)
            .env("ANSWERS", &answers)
            .env("HOME", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = OpenOptions::new().write(true).open(commands).unwrap();
        let answers = BufReader::new(File::open(answers).unwrap());
        let (tell, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in answers.split(0) {
                let Ok(message) = message else { return };
                let _ = tell.send(serde_json::from_slice(&message).unwrap());
            }
        });
        let events = Vec::new();
        Some(Self { child, commands, messages, last_id: 0, events, _directory: directory })
    }

    /// Opens a file in a window of this width, in `light` or `dark`, and runs `probe` in it.
    pub fn open(&mut self, file: &Path, width: u32, scheme: &str, probe: &str) -> Opened {
        self.visit(&format!("file://{}", file.display()), width, scheme, probe)
    }

    /// The same of any page.
    pub fn visit(&mut self, url: &str, width: u32, scheme: &str, probe: &str) -> Opened {
        self.events.clear();
        let target = self.call(None, "Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call(None, "Target.attachToTarget", &attach)["sessionId"].clone();
        let session = session.as_str().unwrap().to_owned();
        let page = Some(session.as_str());
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(page, &format!("{domain}.enable"), &json!({}));
        }
        let window =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call(page, "Emulation.setDeviceMetricsOverride", &window);
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call(page, "Emulation.setEmulatedMedia", &media);
        self.call(page, "Page.navigate", &json!({"url": url}));
        let is = |event: &Value, name: &str| event["method"] == name;
        while !self.events.iter().any(|event| is(event, "Page.loadEventFired")) {
            let event = self.next();
            self.events.push(event);
        }
        let evaluate = json!({"expression": probe, "returnByValue": true});
        let result = self.call(page, "Runtime.evaluate", &evaluate);
        assert!(result["exceptionDetails"].is_null(), "{result}");
        let said = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        let complaints = self.events.iter().filter(|event| said.iter().any(|it| is(event, it)));
        let complaints = complaints.map(|event| event["params"].to_string()).collect();
        let requests = self.events.iter().filter(|event| is(event, "Network.requestWillBeSent"));
        let requests = requests.map(|event| &event["params"]["request"]["url"]);
        let requests = requests.map(|url| url.as_str().unwrap().to_owned()).collect();
        let found = result["result"]["value"].clone();
        self.call(None, "Target.closeTarget", &json!({"targetId": target["targetId"]}));
        Opened { found, complaints, requests }
    }

    fn call(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let mut command = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let message = self.next();
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn next(&mut self) -> Value {
        self.messages.recv_timeout(PATIENCE).expect("the browser answers")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
