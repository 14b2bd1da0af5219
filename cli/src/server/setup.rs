//! What `serve` is asked for: config file and flags together, read at the start and at each reload.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use super::{data_dir::DataDir, output::OutputSpec};
use crate::{
    certificates::make::host_name,
    config::{AllowedUpdates, BotSection, ConfigFile, OutputSection, Secrets},
    process::{privileges::Identity, stderr::log},
    telegram::webhook::WebhookUrl,
};
use ringhook::{Config, Error, Reload, TlsConfig, update::BotId};
use ringhook_outputs::routes::{RoutedBot, Routes};

/// Path of the bot that is there when the config has none.
const DEFAULT_PATH: &str = "/webhook";

/// Config file and flags, completed and checked as far as that goes without reading secrets.
pub(crate) struct Setup {
    pub(crate) file: ConfigFile,
    /// Whether the config names no bot, so that there is one of our own.
    pub(crate) has_default_bot: bool,
    /// Whether certificate and key are those of the data directory.
    pub(crate) has_own_certificate: bool,
    /// All outputs, as configured and as understood.
    pub(crate) outputs: Vec<(OutputSection, OutputSpec)>,
    data_dir: DataDir,
    /// Whether a bot has the secret token of the data directory.
    has_own_secret: bool,
}

impl Setup {
    /// What `serve` would be asked for by this config file and data directory, and by `flags`.
    pub(crate) fn from_files(
        config: Option<&Path>,
        data_dir: Option<&Path>,
        flags: impl FnOnce(&mut ConfigFile),
    ) -> Result<Self, Error> {
        let mut file = config.map(ConfigFile::read).transpose()?.unwrap_or_default();
        if let Some(dir) = data_dir {
            file.server.data_dir = dir.to_owned();
        }
        flags(&mut file);
        Self::new(file)
    }

    /// Completes `file`, which the flags have been applied to.
    pub(crate) fn new(mut file: ConfigFile) -> Result<Self, Error> {
        let data_dir = DataDir::at(&file.server.data_dir);
        let own_secret = data_dir.secret_token();
        let has_default_bot = file.bots.is_empty();
        if has_default_bot {
            let bot = BotSection::with_secret_file("default", DEFAULT_PATH, own_secret.clone());
            file.bots.push(bot);
        }
        let own_secret = Some(own_secret);
        let has_own_secret = file.bots.iter().any(|bot| bot.secret_token_file == own_secret);
        let has_own_certificate = own_certificate(&mut file, &data_dir)?;
        let outputs = file.all_outputs().into_iter().map(|section| {
            let spec = OutputSpec::new(&section)?;
            Ok((section, spec))
        });
        let outputs = outputs.collect::<Result<Vec<_>, Error>>()?;
        let routes = routes(&file, &outputs, |number, _| u32::try_from(number).ok())?;
        ask_for_routed_kinds(&mut file, &routes);
        Ok(Self { file, has_default_bot, has_own_certificate, outputs, data_dir, has_own_secret })
    }

    /// The config file that says all of it, without anything made.
    pub(crate) fn effective(&self) -> Result<String, Error> {
        let config = self.file.to_config(Secrets::Leave)?;
        self.file.clone().effective(&config).to_toml()
    }

    /// The settings of the server, with secrets. What is needed for them and not there is made, but
    /// not before everything that the user typed is found good, and belongs to `owner`.
    pub(crate) fn to_config(&self, owner: Option<&Identity>) -> Result<Config, Error> {
        self.file.to_config(Secrets::Leave)?;
        self.make_own(owner, &self.file.bots)?;
        self.make_secret_tokens(owner)?;
        self.file.to_config(Secrets::Read)
    }

    /// Makes what the data directory is to have and has not, for `owner`. The certificate is for
    /// the hosts of `bots`.
    fn make_own<'a>(
        &self,
        owner: Option<&Identity>,
        bots: impl IntoIterator<Item = &'a BotSection>,
    ) -> Result<(), Error> {
        let data_dir = self.data_dir.clone().owned_by(owner);
        if owner.is_some() {
            // The user that it is to belong to may not be able to make it.
            data_dir.create()?;
        }
        if self.has_own_secret {
            data_dir.ensure_secret_token()?;
        }
        if self.has_own_certificate {
            let mut hosts: Vec<_> = bots.into_iter().flat_map(hosts_of).collect();
            hosts.sort_unstable();
            hosts.dedup();
            data_dir.ensure_certificate(&hosts)?;
        }
        Ok(())
    }

    /// Makes the files of secret tokens that are not there, each for the bot that names it. Where
    /// there is no directory for it either, its name is rather mistyped.
    fn make_secret_tokens(&self, owner: Option<&Identity>) -> Result<(), Error> {
        let own = self.data_dir.secret_token();
        let maker = self.data_dir.clone().owned_by(owner);
        for bot in &self.file.bots {
            let Some(path) = bot.secret_token_file.as_deref().filter(|path| **path != own) else {
                continue;
            };
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let is_missing = fs::symlink_metadata(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            if is_missing && dir.unwrap_or(Path::new(".")).is_dir() {
                maker.make_secret_token(path)?;
                log(format_args!(
                    "made a secret token for bot {:?}: {} (`ringhook webhook set` tells Telegram of it)",
                    bot.name,
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// Makes what `bots` need to be told to Telegram and is not there: certificate and secret token
    /// of the data directory, and the files of secret tokens. The files that were made.
    pub(crate) fn make_missing<'a>(
        &'a self,
        bots: impl IntoIterator<Item = &'a BotSection> + Clone,
    ) -> Result<Vec<PathBuf>, Error> {
        let own_secret = self.data_dir.secret_token();
        let files = bots.clone().into_iter().filter_map(|bot| bot.secret_token_file.clone());
        let (own, others): (Vec<_>, Vec<_>) = files.partition(|path| *path == own_secret);
        let is_own_used = !own.is_empty();
        let own_certificate = [self.data_dir.cert(), self.data_dir.key()];
        let own_certificate = own_certificate.into_iter().filter(|_| self.has_own_certificate);
        let wanted = own.into_iter().chain(others.iter().cloned()).chain(own_certificate);
        let mut missing: Vec<_> = wanted.filter(|path| !path.exists()).collect();
        missing.dedup();
        if missing.is_empty() {
            return Ok(missing);
        }
        let server = &self.file.server;
        let owner = Identity::find(server.user.as_deref(), server.group.as_deref())?;
        if is_own_used || self.has_own_certificate {
            self.make_own(owner.as_ref(), self.file.bots.iter().chain(bots))?;
        }
        let maker = self.data_dir.clone().owned_by(owner.as_ref());
        for path in others.iter().filter(|path| !path.exists()) {
            maker.make_secret_token(path)?;
        }
        Ok(missing)
    }

    /// The settings of a server that does not listen. It needs no secret of a webhook and no
    /// certificate, and nothing is made but the directory where it belongs to `owner`.
    pub(crate) fn to_config_of_poller(&self, owner: Option<&Identity>) -> Result<Config, Error> {
        let mut config = self.file.to_config(Secrets::Leave)?;
        config.listens = false;
        if owner.is_some() {
            self.data_dir.clone().owned_by(owner).create()?;
        }
        Ok(config)
    }

    /// The settings again, for a server that runs: nothing is made.
    pub(crate) fn to_config_again(&self) -> Result<Config, Error> {
        self.file.to_config(Secrets::Read)
    }

    /// The certificates; `None` where no listener speaks TLS.
    pub(crate) fn to_tls(&self) -> Result<Option<TlsConfig>, Error> {
        self.file.has_tls_listener().then(|| self.file.to_tls()).transpose()
    }

    /// The files in which what it says can change, with `config`, and without those of
    /// certificates.
    pub(crate) fn files(&self, config: Option<&Path>) -> Vec<PathBuf> {
        let secrets = self.file.bots.iter().flat_map(BotSection::secret_files);
        config.into_iter().chain(secrets).map(Path::to_owned).collect()
    }

    /// All files that are read, with `config`, where it comes from one.
    pub(crate) fn inputs(&self, config: Option<&Path>) -> Vec<PathBuf> {
        let secrets = self.file.bots.iter().flat_map(BotSection::secret_files);
        let tls = &self.file.tls;
        let default = [&tls.cert, &tls.key, &tls.key_password_file];
        let own =
            self.file.bots.iter().flat_map(|bot| [&bot.cert, &bot.key, &bot.key_password_file]);
        let certificates = default.into_iter().chain(own).filter_map(|path| path.as_deref());
        let brokers = self.outputs.iter().flat_map(|(section, _)| section.inputs());
        let inputs = config.into_iter().chain(secrets).chain(certificates).chain(brokers);
        inputs.map(Path::to_owned).collect()
    }

    /// Where latency profiles are written.
    pub(crate) fn profile_dir(&self) -> Option<&Path> {
        self.file.profile.dir.as_deref()
    }

    /// The routes, for bots that have these numbers in the server.
    ///
    /// # Errors
    /// One of them is wrong.
    pub(crate) fn routes(
        &self,
        number_of: impl Fn(usize, &str) -> Option<u32>,
    ) -> Result<Routes, Error> {
        routes(&self.file, &self.outputs, number_of)
    }

    /// Names what of `next` only a restart can bring, beside what the server names itself.
    pub(crate) fn compare(&self, next: &Self, reload: &mut Reload) {
        let (old, new) = (&self.file, &next.file);
        let (profile, other) = (&old.profile, &new.profile);
        let fixed = [
            ("log.format", old.log.format != new.log.format),
            ("log.level", old.log.level != new.log.level),
            ("profile.dir", profile.dir != other.dir),
            ("profile.interval", profile.interval != other.interval),
            ("server.group", old.server.group != new.server.group),
            ("server.user", old.server.user != new.server.user),
        ];
        let differing = fixed.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key);
        reload.needs_restart.extend(differing);
    }
}

fn routes(
    file: &ConfigFile,
    outputs: &[(OutputSection, OutputSpec)],
    number_of: impl Fn(usize, &str) -> Option<u32>,
) -> Result<Routes, Error> {
    let names: Vec<_> = outputs.iter().map(|(section, _)| &*section.name).collect();
    let bots = file.bots.iter().enumerate().filter_map(|(index, bot)| {
        let id = BotId::new(number_of(index, &bot.name)?);
        Some(RoutedBot { id, name: &bot.name, output: bot.output.as_deref() })
    });
    Ok(Routes::compile(&file.routes, &names, &bots.collect::<Vec<_>>())?)
}

/// Replaces `allowed_updates = "auto"` by the kinds that `routes` have use for, where the bots have
/// the numbers of their places.
fn ask_for_routed_kinds(file: &mut ConfigFile, routes: &Routes) {
    for (bot, number) in file.bots.iter_mut().zip(0..) {
        if bot.allowed_updates == Some(AllowedUpdates::Auto) {
            let kinds = routes.kinds_of(BotId::new(number));
            let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
            bot.allowed_updates = Some(match kinds.is_empty() {
                // To the Bot API an empty list is its default.
                true => AllowedUpdates::All,
                false => AllowedUpdates::List(kinds),
            });
        }
    }
}

/// Where Telegram looks for `bot`, as a certificate can have it: at its host and at that of its
/// URL.
fn hosts_of(bot: &BotSection) -> impl Iterator<Item = String> {
    let url = bot.url.as_deref().and_then(WebhookUrl::parse).map(|url| url.host);
    let hosts = bot.host.clone().into_iter().chain(url).map(|host| host.to_ascii_lowercase());
    hosts.filter(|host| host_name(host).is_ok() || host.parse::<Ipv4Addr>().is_ok())
}

/// True where certificate and key are those of the data directory. Their paths are filled in; where
/// they are written out, as `--print-config` does, they mean the same.
fn own_certificate(file: &mut ConfigFile, data_dir: &DataDir) -> Result<bool, Error> {
    match (&file.tls.cert, &file.tls.key) {
        (Some(cert), Some(key)) => Ok(*cert == data_dir.cert() && *key == data_dir.key()),
        (None, None) if !file.has_tls_listener() || file.has_certificate_of_bot() => Ok(false),
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
