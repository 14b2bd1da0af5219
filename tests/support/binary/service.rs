//! A `ringhook serve` that is killed and started again, always in the same place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::process::{self, Process};
use crate::support::{
    PATH, SECRET,
    client::{self, Client},
    load::Load,
    pki::Pki,
    port::Port,
};

/// Where its servers find everything: a directory, a port, a certificate, a config.
pub(crate) struct Service {
    pub(crate) pki: Pki,
    pub(crate) port: Port,
    data_dir: PathBuf,
    args: Vec<String>,
}

impl Service {
    /// With `config` behind a bot's section, and `args` for each server.
    pub(crate) fn new(config: &str, args: &[&str]) -> Self {
        let pki = Pki::ecdsa();
        let data_dir = pki.dir().join("data");
        let bot = format!("[[bot]]\nname = 'test'\npath = '{PATH}'\nsecret_token = '{SECRET}'\n");
        fs::write(pki.dir().join("ringhook.toml"), format!("{config}\n{bot}")).unwrap();
        let args = args.iter().map(ToString::to_string).collect();
        Self { pki, port: Port::reserve(), data_dir, args }
    }

    /// With its data somewhere else than in a directory of its own.
    pub(crate) fn with_data_in(mut self, data_dir: &Path) -> Self {
        data_dir.clone_into(&mut self.data_dir);
        self
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.data_dir.join("journal")
    }

    /// What servers are started with, in their own directory.
    pub(crate) fn command(&self) -> Command {
        let mut command = process::ringhook(self.pki.dir());
        self.arguments(&mut command);
        command
    }

    /// Gives `command` the arguments of `ringhook`.
    pub(crate) fn arguments(&self, command: &mut Command) {
        command
            .args(["serve", "--listen", &self.port.addr.to_string(), "--config", "ringhook.toml"])
            .args(["--cert", "cert.pem", "--key", "key.pem", "--report", "report"])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(&self.args);
        process::with_test_driver(command);
    }

    pub(crate) fn start(&self) -> Process {
        Process::start(self.command())
    }

    pub(crate) fn start_with_stdout(&self, stdout: Stdio) -> Process {
        Process::start_with_stdout(self.command(), stdout)
    }

    /// A connection to the server that runs.
    pub(crate) fn connect(&self) -> Client {
        let config = client::trusting(&self.pki.cert, rustls::ALL_VERSIONS);
        Client::connect_with(self.port.addr, config)
    }

    /// So many updates as fast as they are answered, some of them twice.
    pub(crate) fn load(&self, updates: u64) -> Load {
        let mut load = Load::new(self.port.addr, &self.pki, updates);
        load.has_copies = true;
        load
    }

    /// The report of the server that ended last.
    pub(crate) fn report(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.pki.dir().join("report")).unwrap()).unwrap()
    }
}
