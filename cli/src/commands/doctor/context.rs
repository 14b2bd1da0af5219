//! What is looked at, and how much time is left for it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::{DoctorArgs, step::Finding};
use crate::{
    config::{BotSection, ConfigFile, Secrets},
    server::{bots::ChosenBot, service::over, setup::Setup},
    telegram::{
        sender::Trust,
        webhook::{Plan, Upload, WebhookUrl},
    },
};
use ringhook::{Config, Error};

/// How long all of it may take, and one step of it.
const TOTAL: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_secs(6);
/// Less than this is no time for a call.
const TOO_LITTLE: Duration = Duration::from_millis(200);

/// The config and its bots, as far as that could be read.
pub(super) struct DoctorContext<'a> {
    pub(super) args: &'a DoctorArgs,
    /// Checked, but without secrets.
    pub(super) config: Config,
    pub(super) setup: Setup,
    until: Instant,
}

impl<'a> DoctorContext<'a> {
    /// Reads the config. Nothing is made.
    ///
    /// # Errors
    /// A wrong setting.
    pub(super) fn read(args: &'a DoctorArgs) -> Result<Self, Error> {
        let until = Instant::now() + TOTAL;
        let mut file =
            args.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        over(&args.data_dir, &mut file.server.data_dir);
        over(&args.api_root, &mut file.webhook.api_root);
        file.webhook.local |= args.local;
        if let Some(address) = &args.listen {
            // Where the config has a listener there, its terms hold.
            if !file.listeners.iter().any(|listener| listener.address == *address) {
                file.server.listen = Some(address.clone());
            }
        }
        let setup = Setup::new(file)?;
        let config = setup.file.to_config(Secrets::Leave)?;
        Ok(Self { args, config, setup, until })
    }

    /// Whether there is the bot that was asked for.
    pub(super) fn check_choice(&self) -> Result<(), Error> {
        let bots = &self.setup.file.bots;
        let Some(name) = &self.args.bot else { return Ok(()) };
        if bots.iter().any(|bot| bot.name == *name) {
            return Ok(());
        }
        let names: Vec<_> = bots.iter().map(|bot| bot.name.as_str()).collect();
        Err(Error::config("--bot", name, &format!("one of {}", names.join(", "))))
    }

    /// Those that are looked at.
    pub(super) fn bots(&self) -> Vec<&BotSection> {
        let wanted = self.args.bot.as_ref();
        let bots = self.setup.file.bots.iter();
        bots.filter(|bot| wanted.is_none_or(|name| *name == bot.name)).collect()
    }

    /// The bot with its token, if it has one.
    pub(super) fn chosen(&self, section: &BotSection) -> Result<ChosenBot, Error> {
        ChosenBot::new(section, self.setup.file.bots.len() == 1)
    }

    /// True where the bot has no token: nothing outside this machine is asked for it then.
    pub(super) fn is_alone(&self, section: &BotSection) -> bool {
        self.chosen(section).is_ok_and(|chosen| chosen.token.is_none())
    }

    pub(super) fn plan(&self, section: &BotSection) -> Result<Plan, Error> {
        Plan::new(&self.setup.file, &self.config, section, Upload::default())
    }

    /// What came of `call`, which gets the time that each of its `parts` may take.
    pub(super) fn in_time(&self, parts: u32, call: impl FnOnce(Duration) -> Finding) -> Finding {
        let left = self.until.saturating_duration_since(Instant::now());
        if left < TOO_LITTLE {
            return Finding::skip("there was no time left: try it with --bot NAME");
        }
        call(STEP.min(left) / parts.max(1))
    }

    /// The flags with which another command is about the same bot.
    pub(super) fn flags(&self, section: &BotSection) -> String {
        let path = |flag: &str, path: &Option<PathBuf>| match path {
            Some(path) => format!(" {flag} {}", path.display()),
            None => String::new(),
        };
        let (config, data_dir) =
            (path("--config", &self.args.config), path("--data-dir", &self.args.data_dir));
        let bot = match self.setup.file.bots.len() {
            1 => String::new(),
            _ => format!(" --bot {}", section.name),
        };
        config + &data_dir + &bot
    }

    /// What is said of a config that is good.
    pub(super) fn introduction(&self) -> Finding {
        let file = &self.setup.file;
        let bots = file.bots.len();
        let data_dir = file.server.data_dir.display();
        let from = match &self.args.config {
            Some(path) => path.display().to_string(),
            None => "no --config, so the defaults".to_owned(),
        };
        let mut finding = Finding::ok(format!("{from}: {bots} bot(s), data in {data_dir}"));
        for listener in self.config.all_listeners() {
            finding = listener.notice().into_iter().fold(finding, Finding::and);
        }
        finding
    }
}

/// What is said of a config that is not.
pub(super) fn refused(args: &DoctorArgs, error: &Error) -> Finding {
    let config = match &args.config {
        Some(path) => format!(" --config {}", path.display()),
        None => String::new(),
    };
    Finding::fail(
        error.to_string(),
        format!("correct it; to see what it comes to: ringhook serve{config} --print-config"),
    )
    .and("everything else depends on it and was not looked at")
}

/// Which certificates Telegram takes for a webhook that is set by `plan`.
pub(super) fn trust(plan: &Plan) -> Trust {
    match &plan.certificate {
        Some(pem) => Trust::Certificates(
            CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect(),
        ),
        None => Trust::Authorities,
    }
}

/// The same of this machine's own listener. Where Telegram is to come over plain HTTP, only the
/// proxy in front sees its certificate, and that of the config will do (`None`).
pub(super) fn own_trust(plan: &Plan) -> Option<Trust> {
    url(plan).is_none_or(|url| url.is_https).then(|| trust(plan))
}

/// The URL of `plan`, unless it is none.
pub(super) fn url(plan: &Plan) -> Option<WebhookUrl> {
    WebhookUrl::parse(&plan.url)
}

/// The host of a URL without the brackets of an address.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}
