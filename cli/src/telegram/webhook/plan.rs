//! What setWebhook is called with, by the config.

use std::{net::IpAddr, path::PathBuf};

use zeroize::Zeroizing;

use super::{Problem, WebhookUrl, url};
use crate::{
    certificates::served::Served,
    config::{AllowedUpdates, BotSection, ConfigFile},
    net::url::without_userinfo,
    telegram::bot_api::{ApiError, Client, SetWebhook},
};
use ringhook::{Config, Error, ListenAddress, SecretToken};

/// Whether the certificate is uploaded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Upload {
    /// In any case.
    Always,
    /// Where it has signed itself, so that Telegram could not verify it otherwise.
    #[default]
    IfSelfSigned,
}

/// A call of setWebhook that is not made yet. It has no `Debug` form, since the URL may hold a
/// password.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    /// The bot's name in the config.
    pub(crate) bot: String,
    /// With user and password, where there are some; [`shown_url`](Self::shown_url) has none.
    pub(crate) url: String,
    /// What is uploaded, in PEM.
    pub(crate) certificate: Option<Vec<u8>>,
    /// What is served and not uploaded, in PEM: an authority has signed it.
    pub(crate) served: Option<Vec<u8>>,
    /// Where either is from.
    pub(crate) certificate_file: Option<PathBuf>,
    pub(crate) ip_address: Option<IpAddr>,
    pub(crate) max_connections: Option<u32>,
    /// An empty list is Telegram's default; `None` leaves it as it was set before.
    pub(crate) allowed_updates: Option<Vec<String>>,
    pub(crate) secret_token: Option<SecretToken>,
    /// Whether the Bot API server runs with `--local`.
    pub(crate) is_local: bool,
    /// True where the files of the bot were left alone, so that certificate and credentials are not
    /// known.
    pub(super) is_bare: bool,
    /// Where `ringhook cert new --out` makes the certificate anew: the data directory, where it is
    /// the one made there.
    pub(super) own_dir: Option<PathBuf>,
    /// What the config alone shows.
    pub(super) of_config: Vec<Problem>,
}

impl Plan {
    /// The plan for `bot`, one of `file`, which is `config` when checked. It reads the bot's
    /// secrets and certificates, and makes nothing.
    ///
    /// # Errors
    /// Where the URL cannot be known, or a secret or certificate cannot be read.
    pub(crate) fn new(
        file: &ConfigFile,
        config: &Config,
        bot: &BotSection,
        upload: Upload,
    ) -> Result<Self, Error> {
        let mut plan = Self::with_userinfo(file, config, bot, bot.userinfo()?.as_ref())?;
        plan.secret_token = bot.secret_token()?;
        let url = WebhookUrl::parse(&plan.url);
        let host = url.as_ref().map_or("", WebhookUrl::name);
        let is_https = url.as_ref().is_none_or(|url| url.is_https);
        let Some((path, served)) = served(file, host, upload, is_https)? else { return Ok(plan) };
        plan.certificate_file = Some(path);
        let is_self_signed = served.is_self_signed();
        if is_self_signed || upload == Upload::Always {
            plan.certificate = Some(served.to_pem());
        } else {
            plan.served = Some(served.to_pem());
        }
        let own_dir = &file.server.data_dir;
        let is_own = is_self_signed && plan.certificate_file == Some(own_dir.join("cert.pem"));
        plan.own_dir = is_own.then(|| own_dir.clone());
        Ok(plan)
    }

    /// The plan for `bot` as far as it can be known without its files, which may not be there:
    /// without certificate and credentials.
    ///
    /// # Errors
    /// Where the URL cannot be known.
    pub(crate) fn bare(
        file: &ConfigFile,
        config: &Config,
        bot: &BotSection,
    ) -> Result<Self, Error> {
        let plan = Self::with_userinfo(file, config, bot, None)?;
        Ok(Self { is_bare: true, ..plan })
    }

    /// What needs no file but that of `userinfo`.
    fn with_userinfo(
        file: &ConfigFile,
        config: &Config,
        bot: &BotSection,
        userinfo: Option<&Zeroizing<String>>,
    ) -> Result<Self, Error> {
        let userinfo = userinfo.map(|userinfo| userinfo.as_str());
        // As typed where it is none, so that problems() can say so.
        let (url, text) = match bot.url.as_deref() {
            Some(typed) => match WebhookUrl::parse(typed) {
                Some(url) => {
                    let url = url.or_userinfo(userinfo);
                    let text = url.reveal();
                    (Some(url), text)
                }
                None => (None, typed.to_owned()),
            },
            None => {
                let url = built(file, config, bot, userinfo)?;
                let text = url.reveal();
                (Some(url), text)
            }
        };
        let mut of_config = Vec::new();
        if let Some(url) = &url {
            of_config.extend(of_place(url, bot));
        }
        of_config.extend(of_credentials(bot, userinfo));
        Ok(Self {
            bot: bot.name.clone(),
            url: text,
            ip_address: bot.ip_address,
            max_connections: bot.max_connections,
            allowed_updates: Some(kinds(bot.allowed_updates.as_ref())),
            is_local: file.webhook.local,
            of_config,
            ..Self::default()
        })
    }

    /// Calls setWebhook; `drop_pending` deletes all updates that wait.
    pub(crate) fn apply(&self, client: &Client, drop_pending: bool) -> Result<(), ApiError> {
        client.set_webhook(&SetWebhook {
            url: self.url.clone(),
            certificate: self.certificate.clone(),
            ip_address: self.ip_address,
            max_connections: self.max_connections,
            allowed_updates: self.allowed_updates.clone(),
            drop_pending_updates: drop_pending,
            secret_token: self.secret_token.as_ref().map(|token| token.reveal().to_owned()),
        })
    }

    /// The URL without user and password, and without what looks like a token.
    pub(crate) fn shown_url(&self) -> String {
        without_userinfo(&self.url)
    }
}

/// The URL of `bot` from its host and path, and from where the server listens.
fn built(
    file: &ConfigFile,
    config: &Config,
    bot: &BotSection,
    userinfo: Option<&str>,
) -> Result<WebhookUrl, Error> {
    let expected = "the public name of this server, such as \"bot.example.com\", in [[bot]]; or all \
                    of the URL as bot.url (or --url)";
    let key = format!("bot.host of bot {:?}", bot.name);
    let host = match bot.host.as_deref() {
        Some(host) if !host.starts_with('*') => host,
        host => return Err(Error::config(&key, host.unwrap_or("(none)"), expected)),
    };
    let listeners = config.all_listeners();
    let port_of = |tls: bool| {
        listeners.iter().filter(|listener| listener.tls == tls).find_map(|listener| match &listener
            .address
        {
            ListenAddress::Tcp(address) => Some(address.port()),
            _ => None,
        })
    };
    let (is_https, port) = match (port_of(true), port_of(false)) {
        (None, Some(port)) if file.webhook.local => (false, Some(port)),
        (port, _) => (true, port),
    };
    let port = file.webhook.port.or(port).filter(|port| *port > 0).ok_or_else(|| {
        let expected = "the port to which Telegram is to connect (443, 80, 88 or 8443), since no \
                        listener has TLS on a port of its own that is known beforehand";
        Error::config("webhook.port", "(none)", expected)
    })?;
    Ok(WebhookUrl::new(is_https, userinfo, host, port, &bot.path))
}

/// Whether what comes to `url` arrives at `bot`.
fn of_place(url: &WebhookUrl, bot: &BotSection) -> Vec<Problem> {
    let mut found = Vec::new();
    if url.path() != bot.path {
        found.push(Problem::advice(
            format!("the URL's path is {}, and the bot's is {}", url.path(), bot.path),
            "requests are answered 404, unless something in front rewrites the path: make them \
             the same",
        ));
    }
    let host = bot.host.as_deref().map(str::to_ascii_lowercase).unwrap_or_default();
    let is_of = match host.strip_prefix('*') {
        Some(under) => url.host.ends_with(under),
        None => host.is_empty() || url.host == host,
    };
    if !is_of {
        found.push(Problem::advice(
            format!("the URL's host is {}, and the bot's is {host}", url.host),
            "requests are answered 404, unless something in front changes Host: make them the same",
        ));
    }
    found
}

/// Whether requests can be authenticated.
fn of_credentials(bot: &BotSection, userinfo: Option<&str>) -> Vec<Problem> {
    let mut found = Vec::new();
    if !bot.has_secret_token() && !bot.has_basic_auth() {
        found.push(Problem::advice(
            "the bot has no secret token: any client that knows the URL can send it updates",
            "put secret_token_file = \"FILE\" in its [[bot]] in the place of auth = \"none\"; the \
             file is made here if it is not there",
        ));
    }
    if userinfo.is_some_and(|userinfo| !url::is_sent_as_typed(userinfo)) {
        found.push(Problem::fatal(
            "basic_auth has characters that have to be escaped in a URL, and Telegram sends the \
             escapes, so that every update would be refused",
            "use letters, digits and - . _ ~ ! $ & ' ( ) * + , ; = only",
        ));
    }
    found
}

/// The certificate that is served or to be uploaded, and its file, where there is one.
fn served(
    file: &ConfigFile,
    host: &str,
    upload: Upload,
    is_https: bool,
) -> Result<Option<(PathBuf, Served)>, Error> {
    let is_served = is_https && file.has_tls_listener();
    if !is_served && upload == Upload::IfSelfSigned {
        return Ok(None);
    }
    let Some((path, served)) = file.served_for(host)? else {
        if upload == Upload::IfSelfSigned {
            return Ok(None);
        }
        let expected = "tls.cert or bot.cert with the certificate that is to be uploaded";
        return Err(Error::config("--upload", "(no certificate)", expected));
    };
    Ok(Some((path.to_owned(), served)))
}

/// The names that setWebhook gets; none for Telegram's default.
fn kinds(typed: Option<&AllowedUpdates>) -> Vec<String> {
    typed.map(AllowedUpdates::names).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use ringhook::update::UpdateKind;

    use super::*;
    use crate::config::Secrets;

    fn try_plan(text: &str) -> Result<Plan, Error> {
        let file: ConfigFile = text.parse().unwrap();
        let config = file.to_config(Secrets::Leave).unwrap();
        Plan::new(&file, &config, file.bots.first().unwrap(), Upload::default())
    }

    fn url(text: &str) -> String {
        try_plan(text).unwrap().url
    }

    fn error(text: &str) -> String {
        try_plan(text).err().unwrap().to_string()
    }

    const PLAIN: &str = "[[listener]]\naddress='0.0.0.0:8080'\ntls=false\n";
    const LOCAL: &str = "[webhook]\nlocal=true\napi_root='http://127.0.0.1:8081'\n";
    const BOT: &str = "[[bot]]\nname='a'\npath='/a'\nauth='none'\n";
    const HOST: &str = "host='Bot.example.com'\n";

    #[test]
    fn the_url_comes_from_host_and_port() {
        let bot = format!("{BOT}{HOST}");
        assert_eq!(url(&bot), "https://bot.example.com:8443/a");
        assert_eq!(
            url(&format!("[server]\nlisten='0.0.0.0:443'\n{bot}")),
            "https://bot.example.com/a"
        );
        assert_eq!(url(&format!("[webhook]\nport=88\n{bot}")), "https://bot.example.com:88/a");
        let two = format!("{PLAIN}[[listener]]\naddress='0.0.0.0:443'\n{bot}");
        assert_eq!(url(&two), "https://bot.example.com/a", "the first with TLS");
        assert_eq!(url(&format!("{LOCAL}{two}")), "https://bot.example.com/a");
        assert_eq!(url(&format!("{LOCAL}{PLAIN}{bot}")), "http://bot.example.com:8080/a");
        assert_eq!(
            url(&format!("{PLAIN}[webhook]\nport=443\n{bot}")),
            "https://bot.example.com/a",
            "TLS ends in front"
        );
        assert_eq!(url(&format!("{BOT}url='https://x.example/y'")), "https://x.example/y");
    }

    #[test]
    fn a_url_that_cannot_be_known_is_asked_for() {
        assert!(error(BOT).starts_with("bot.host of bot \"a\" = (none): expected the public name"));
        let wild = error(&format!("{BOT}host='*.example.com'"));
        assert!(wild.starts_with("bot.host of bot \"a\" = *.example.com: expected"), "{wild}");
        for listener in [PLAIN, "[server]\nlisten='0.0.0.0:0'\n", "[server]\nlisten='unix:/x'\n"] {
            let error = error(&format!("{listener}{BOT}{HOST}"));
            assert!(error.starts_with("webhook.port = (none): expected the port"), "{error}");
        }
    }

    #[test]
    fn user_and_password_are_in_the_url_and_never_shown() {
        let bot = "[[bot]]\nname='a'\npath='/a'\nhost='b.example'\nbasic_auth='u:s3cret'\n";
        let plan = try_plan(bot).unwrap();
        assert_eq!(plan.url, "https://u:s3cret@b.example:8443/a");
        assert_eq!(plan.shown_url(), "https://(hidden)@b.example:8443/a");
        assert_eq!(plan.problems().iter().filter(|problem| problem.is_fatal).count(), 0);
        let typed = try_plan(&format!("{bot}url='https://b.example/a'")).unwrap();
        assert_eq!(typed.url, "https://u:s3cret@b.example/a");
        let odd = try_plan(&bot.replace("s3cret", "p/w")).unwrap();
        assert_eq!(odd.url, "https://u:p%2Fw@b.example:8443/a");
        let problems = odd.problems();
        let first = problems.first().unwrap();
        assert!(first.is_fatal && first.what.contains("Telegram sends the escapes"), "{first}");
    }

    #[test]
    fn a_url_that_leads_elsewhere_is_worth_a_word() {
        let plan = try_plan(&format!("{BOT}{HOST}url='https://x.example/y'")).unwrap();
        let text = plan.problems().iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains("path is /y, and the bot's is /a"), "{text}");
        assert!(text.contains("host is x.example, and the bot's is bot.example.com"), "{text}");
        assert!(text.contains("no secret token"), "{text}");
        let plan = try_plan(&format!("{BOT}host='*.x.example'\nurl='https://b.x.example/a'"));
        let problems = plan.unwrap().problems();
        assert!(!problems.iter().any(|problem| problem.what.contains("host is")), "{problems:?}");
    }

    #[test]
    fn all_names_every_kind() {
        let of = |typed: &str| {
            let plan = try_plan(&format!("{BOT}{HOST}{typed}")).unwrap();
            plan.allowed_updates.unwrap()
        };
        assert_eq!(of("").len(), 0);
        assert_eq!(of("allowed_updates=['message']"), ["message"]);
        assert_eq!(of("allowed_updates='all'").len(), UpdateKind::ALL.len());
    }

    #[test]
    fn a_certificate_is_uploaded_where_it_has_signed_itself() {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let write = |name: &str, host: &str, is_self_signed: bool| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, host);
            let cert = match is_self_signed {
                true => params.self_signed(&key).unwrap(),
                false => params.signed_by(&key, &issuer).unwrap(),
            };
            let path = dir.path().join(name);
            fs::write(&path, cert.pem()).unwrap();
            format!("cert={path:?}\nkey={path:?}\n")
        };
        let own = write("own", "bot.example.com", true);
        let signed = write("signed", "bot.example.com", false);
        let other = write("other", "other.example.com", true);
        let file_of = |text: &str, upload| {
            let file: ConfigFile = text.parse().unwrap();
            let config = file.to_config(Secrets::Leave).unwrap();
            let plan = Plan::new(&file, &config, file.bots.first().unwrap(), upload).unwrap();
            let file = plan.certificate_file.filter(|_| plan.certificate.is_some());
            file.map(|path| path.file_name().unwrap().to_owned())
        };
        let bot = format!("{BOT}{HOST}");
        let at = |text: &str| file_of(text, Upload::IfSelfSigned);
        assert_eq!(at(&format!("[tls]\n{own}{bot}")), Some("own".into()));
        assert_eq!(at(&format!("[tls]\n{signed}{bot}")), None);
        let always = file_of(&format!("[tls]\n{signed}{bot}"), Upload::Always);
        assert_eq!(always, Some("signed".into()));
        assert_eq!(at(&format!("[tls]\n{signed}{bot}{own}")), Some("own".into()));
        assert_eq!(at(&format!("[tls]\n{own}{bot}{signed}")), None);
        let second = "[[bot]]\nname='b'\npath='/b'\nauth='none'\nhost='other.example.com'\n";
        assert_eq!(at(&format!("[tls]\n{own}{bot}{second}{other}")), Some("own".into()));
        let of_other = format!("[tls]\n{other}{bot}{second}{own}");
        assert_eq!(at(&of_other), Some("own".into()), "the one that has the name in itself");
        assert_eq!(at(&format!("{PLAIN}[tls]\n{own}{bot}url='https://bot.example.com/a'")), None);
    }
}
