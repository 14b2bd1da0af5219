//! What `serve` is asked for: config file and flags together, read at the start and at each reload.

use std::path::{Path, PathBuf};

use super::{
    data_dir::DataDir,
    serve::{DATA_DIR, DEFAULT_PATH, ServeArgs},
    sink::{self, SinkSpec},
};
use crate::{
    Reload,
    config::{
        Config,
        file::{BotSection, ConfigFile, Secrets},
    },
    error::Error,
};

/// Config file and flags, completed and checked as far as that goes without reading secrets.
pub(super) struct Setup {
    pub(super) file: ConfigFile,
    /// Whether certificate and key are those of the data directory.
    pub(super) has_own_certificate: bool,
    pub(super) sink: SinkSpec,
    data_dir: DataDir,
    /// Whether a bot has the secret token of the data directory.
    has_own_secret: bool,
}

impl Setup {
    /// Reads the config file again and lets the flags win over it.
    pub(super) fn read(args: &ServeArgs) -> Result<Self, Error> {
        let mut file = match &args.config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        args.apply_to(&mut file);
        let dir: PathBuf = file.server.data_dir.get_or_insert_with(|| DATA_DIR.into()).clone();
        let data_dir = DataDir::at(&dir);
        let own_secret = data_dir.secret_token();
        if file.bots.is_empty() {
            let bot = BotSection::with_secret_file("default", DEFAULT_PATH, own_secret.clone());
            file.bots.push(bot);
        }
        let own_secret = Some(own_secret);
        let has_own_secret = file.bots.iter().any(|bot| bot.secret_token_file == own_secret);
        let has_own_certificate = own_certificate(&mut file, &data_dir)?;
        let sink = SinkSpec::parse(file.sink.to.get_or_insert_with(|| sink::DEFAULT.to_owned()))?;
        Ok(Self { file, has_own_certificate, sink, data_dir, has_own_secret })
    }

    /// The config file that says all of it, without anything made.
    pub(super) fn effective(&self) -> Result<String, Error> {
        let config = self.file.to_config(Secrets::Leave)?;
        self.file.clone().effective(&config).to_toml()
    }

    /// The settings of the server, with secrets. What is needed for them and not there is made, but
    /// not before everything that the user typed is found good.
    pub(super) fn to_config(&self) -> Result<Config, Error> {
        self.file.to_config(Secrets::Leave)?;
        if self.has_own_secret {
            self.data_dir.ensure_secret_token()?;
        }
        if self.has_own_certificate {
            self.data_dir.ensure_certificate()?;
        }
        self.file.to_config(Secrets::Read)
    }

    /// Where latency profiles are written.
    pub(super) fn profile_dir(&self) -> Option<&Path> {
        self.file.profile.dir.as_deref()
    }

    /// Names what of `next` only a restart can bring, beside what the server names itself.
    pub(super) fn compare(&self, next: &Self, reload: &mut Reload) {
        let (old, new) = (&self.file, &next.file);
        if old.sink.to != new.sink.to {
            reload.needs_restart.push("sink.to");
        }
        if old.profile.dir != new.profile.dir {
            reload.needs_restart.push("profile.dir");
        }
        if old.profile.interval() != new.profile.interval() {
            reload.needs_restart.push("profile.interval");
        }
    }
}

/// True where certificate and key are those of the data directory. Their paths are filled in; where
/// they are written out, as `--print-config` does, they mean the same.
fn own_certificate(file: &mut ConfigFile, data_dir: &DataDir) -> Result<bool, Error> {
    match (&file.tls.cert, &file.tls.key) {
        (Some(cert), Some(key)) => Ok(*cert == data_dir.cert() && *key == data_dir.key()),
        (None, None) => {
            file.tls.cert = Some(data_dir.cert());
            file.tls.key = Some(data_dir.key());
            Ok(true)
        }
        (Some(cert), None) => {
            Err(Error::config("tls.cert", cert.display(), "tls.key (--key) beside it"))
        }
        (None, Some(key)) => {
            Err(Error::config("tls.key", key.display(), "tls.cert (--cert) beside it"))
        }
    }
}
