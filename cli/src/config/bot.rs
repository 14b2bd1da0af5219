//! `[[bot]]`: one webhook and its credentials.

use std::{
    borrow::Cow,
    env,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use super::{BotToken, Hidden, Secrets, tls::Files};
use crate::net::{idn::to_ascii, url::without_userinfo};
use ringhook::{
    AllowList, BasicAuth, Bot, Error, ErrorKind, PreviousToken, SecretToken,
    internals::{
        files::text_file,
        redact::{HIDDEN, hide_tokens},
    },
    update::UpdateKind,
};

/// One bot: its webhook, its credentials and setWebhook's parameters. Without any there is one at
/// `/webhook` with the secret token of `server.data_dir`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BotSection {
    /// Its name in logs, reports and the journal.
    pub(crate) name: String,
    /// The path of its webhook URL, such as `/webhook`. `poll` needs none.
    #[serde(default)]
    pub(crate) path: String,
    /// The host of its webhook URL, such as `bot.example.com`, `*.example.com` or `бот.рф`.
    /// Without it any.
    // As DNS has it, however it was typed.
    #[serde(default, deserialize_with = "host")]
    pub(crate) host: Option<String>,
    /// Who may send its updates, beside those who may connect. A request from elsewhere gets 403.
    pub(crate) allow: Option<Vec<String>>,
    /// Certificate chain in PEM for its host; needs `bot.key`. Without both that of `[tls]`.
    pub(crate) cert: Option<PathBuf>,
    /// Private key in PEM; needs `bot.cert`.
    pub(crate) key: Option<PathBuf>,
    /// The password of an encrypted key.
    pub(crate) key_password: Option<Hidden>,
    /// A file whose first line is the password.
    pub(crate) key_password_file: Option<PathBuf>,
    /// An environment variable with the password.
    pub(crate) key_password_env: Option<String>,
    /// What X-Telegram-Bot-Api-Secret-Token must hold: 1 to 256 of `A-Z a-z 0-9 _ -`.
    pub(crate) secret_token: Option<Hidden>,
    /// A file with the secret token. It is made where it is missing and its directory is there.
    pub(crate) secret_token_file: Option<PathBuf>,
    /// An environment variable with the secret token.
    pub(crate) secret_token_env: Option<String>,
    /// The secret token before this one, which is still taken; needs
    /// `bot.previous_secret_token_until`.
    pub(crate) previous_secret_token: Option<Hidden>,
    /// A file with the previous secret token.
    pub(crate) previous_secret_token_file: Option<PathBuf>,
    /// An environment variable with the previous secret token.
    pub(crate) previous_secret_token_env: Option<String>,
    /// From when on the previous secret token is refused.
    pub(crate) previous_secret_token_until: Option<Moment>,
    /// `USER:PASSWORD` that `Authorization` must hold, for a URL like
    /// `https://user:password@host/`. Beside a secret token both are asked for.
    pub(crate) basic_auth: Option<Hidden>,
    /// A file with user and password.
    pub(crate) basic_auth_file: Option<PathBuf>,
    /// An environment variable with user and password.
    pub(crate) basic_auth_env: Option<String>,
    /// `none` takes requests without any credentials. `secret-token`, the default, needs a
    /// secret token, user and password, or both.
    pub(crate) auth: Option<Auth>,
    /// The Bot API's token, for the commands that call it and for `[webhook]`. Without it
    /// `$TELEGRAM_BOT_TOKEN`, where there is one bot.
    pub(crate) token: Option<Hidden>,
    /// A file with the Bot API's token.
    pub(crate) token_file: Option<PathBuf>,
    /// An environment variable with the Bot API's token.
    pub(crate) token_env: Option<String>,
    /// setWebhook's `url`. Without it it is made from host, port and path.
    #[serde(default, serialize_with = "without_password")]
    pub(crate) url: Option<String>,
    /// setWebhook's `max_connections`: 1 to 100, or 100000 with `webhook.local`. Without it 40.
    pub(crate) max_connections: Option<u32>,
    /// The output that its updates go to, where no route takes them. Without it the first one.
    pub(crate) output: Option<String>,
    /// setWebhook's `allowed_updates`: `"all"`, `"auto"` for the kinds that the routes have use
    /// for, or a list of kinds. Without it Telegram's default.
    pub(crate) allowed_updates: Option<AllowedUpdates>,
    /// setWebhook's `ip_address`. Without it what the host's name leads to.
    pub(crate) ip_address: Option<IpAddr>,
}

/// A URL as it is printed: what stands before its `@` is a password.
fn without_password<S: Serializer>(url: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(without_userinfo).serialize(to)
}

fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let typed = Option::<String>::deserialize(deserializer)?;
    // What is no name stays as it is, to be shown as it was typed.
    Ok(typed.map(|host| match to_ascii(&host).map(Cow::into_owned) {
        Some(ascii) if !ascii.is_empty() => ascii,
        _ => host,
    }))
}

/// Which kinds of updates a bot gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum AllowedUpdates {
    /// Every kind there is, by its name.
    All,
    /// The kinds that the routes have use for; a list once these are known.
    Auto,
    /// Those of these names; none means Telegram's default.
    List(Vec<String>),
}

impl AllowedUpdates {
    /// As the Bot API is told.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::All => UpdateKind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect(),
            // Where nothing is known of routes, all of them.
            Self::Auto => Self::All.names(),
            Self::List(list) => list.clone(),
        }
    }
}

/// "all", "auto", or names with commas in between.
impl FromStr for AllowedUpdates {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "all" => return Ok(Self::All),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let names: Vec<_> = text.split(',').map(str::trim).collect();
        match names.iter().find(|name| UpdateKind::from_key(name).is_none()) {
            None => Ok(Self::List(names.into_iter().map(str::to_owned).collect())),
            Some(name) => {
                // The Bot API would ignore it.
                let kinds: Vec<_> = UpdateKind::ALL.iter().map(|kind| kind.as_str()).collect();
                let expected = format!("\"all\", or some of {}", kinds.join(", "));
                Err(Error::config("allowed_updates", format!("{name:?}"), &expected))
            }
        }
    }
}

impl<'de> Deserialize<'de> for AllowedUpdates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"all\", \"auto\", or a list like [\"message\"]")]
        enum Typed {
            Word(String),
            List(Vec<String>),
        }
        match Typed::deserialize(deserializer)? {
            Typed::Word(word) if word == "all" => Ok(Self::All),
            Typed::Word(word) if word == "auto" => Ok(Self::Auto),
            Typed::List(list) => Ok(Self::List(list)),
            Typed::Word(word) => Err(de::Error::custom(format!(
                "{word:?} is none, expected \"all\", \"auto\", or a list like [\"message\"]"
            ))),
        }
    }
}

impl Serialize for AllowedUpdates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Auto => serializer.serialize_str("auto"),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

/// How a bot's requests are authenticated.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Auth {
    /// By nothing. It has to be written out, so that no bot is left open by a slip.
    None,
    /// By the credentials that are given; the default.
    SecretToken,
}

/// A moment as RFC 3339 has it: `2027-01-31T12:00:00Z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(SystemTime);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self).map_err(|_| {
            let expected = "expected one like \"2027-01-31T12:00:00Z\"";
            de::Error::custom(format!("{text:?} is no moment, {expected}"))
        })
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_seconds(self.0))
    }
}

/// A secret, or where it is.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) key: &'a str,
    pub(super) typed: Option<&'a Hidden>,
    pub(super) file: Option<&'a Path>,
    pub(super) variable: Option<&'a str>,
}

impl Source<'_> {
    /// In how many ways it is given.
    pub(super) fn count(self) -> usize {
        let given = [self.typed.is_some(), self.file.is_some(), self.variable.is_some()];
        given.into_iter().filter(|given| *given).count()
    }

    /// The secret; `None` where there is none, or it is to be left where it is.
    pub(super) fn read<T>(
        self,
        secrets: Secrets,
        make: impl Fn(&str, &str) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let Self { key, typed, file, variable } = self;
        if let Some(typed) = typed {
            return make(typed.reveal(), key).map(Some);
        }
        if secrets == Secrets::Leave {
            return Ok(None);
        }
        // A token may have been put where the name of its file or variable belongs.
        if let Some(path) = file {
            let shown = hide_tokens(&path.display().to_string());
            let text = text_file::read(path).map_err(|source| {
                let message = format!("{key}_file = {shown}");
                Error::with_source(ErrorKind::Config, message, source)
            })?;
            return make(text.trim(), &format!("{key}_file ({shown})")).map(Some);
        }
        if let Some(name) = variable {
            let key = format!("{key}_env");
            let expected = "a variable that is set, in UTF-8";
            let text =
                env::var(name).map_err(|_| Error::config(&key, hide_tokens(name), expected))?;
            return make(text.trim(), &key).map(Some);
        }
        Ok(None)
    }
}

impl BotSection {
    /// A bot whose token is in the file at `secret_token_file`.
    pub(crate) fn with_secret_file(name: &str, path: &str, secret_token_file: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_owned(),
            secret_token_file: Some(secret_token_file),
            ..Self::default()
        }
    }

    /// Completes what only a webhook needs and what is unused where there is none; `number` differs
    /// for each bot.
    pub(crate) fn complete_for_poller(&mut self, number: usize) {
        if self.path.is_empty() {
            self.path = format!("/poll-{number}");
        }
        if !self.has_secret_token() && !self.has_basic_auth() {
            self.auth = Some(Auth::None);
        }
    }

    pub(crate) fn has_basic_auth(&self) -> bool {
        self.basic_auth_source().count() > 0
    }

    pub(crate) fn has_secret_token(&self) -> bool {
        self.secret_token_source().count() > 0
    }

    /// The files that hold its credentials.
    pub(crate) fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let files = [
            &self.secret_token_file,
            &self.previous_secret_token_file,
            &self.basic_auth_file,
            &self.token_file,
        ];
        files.into_iter().filter_map(Option::as_deref)
    }

    /// The Bot API's token; `None` where there is none.
    pub(crate) fn bot_token(&self) -> Result<Option<BotToken>, Error> {
        let source = self.token_source();
        if source.count() > 1 {
            let bot = format!("bot {:?}", self.name);
            return Err(Error::config(
                &bot,
                source.count(),
                "one of token, token_file and token_env",
            ));
        }
        source.read(Secrets::Read, BotToken::new)
    }

    /// What its requests carry in X-Telegram-Bot-Api-Secret-Token; `None` where that is nothing.
    pub(crate) fn secret_token(&self) -> Result<Option<SecretToken>, Error> {
        self.secret_token_source().read(Secrets::Read, SecretToken::new)
    }

    /// User and password of its URL, with a colon between them; `None` where there are none.
    pub(crate) fn userinfo(&self) -> Result<Option<Zeroizing<String>>, Error> {
        let make = |text: &str, key: &str| {
            BasicAuth::new(text, key)?;
            Ok(Zeroizing::new(text.to_owned()))
        };
        self.basic_auth_source().read(Secrets::Read, make)
    }

    /// Where the bot's credentials are, for people.
    pub(crate) fn secret_source(&self) -> String {
        let named = [self.secret_token_source(), self.basic_auth_source()];
        let named = named.into_iter().filter(|source| source.count() > 0).map(|source| {
            match (source.file, source.variable) {
                (Some(path), _) => path.display().to_string(),
                (None, Some(name)) => format!("${name}"),
                (None, None) => "in the config".to_owned(),
            }
        });
        let named: Vec<_> = named.collect();
        if named.is_empty() { "none: any client may send".to_owned() } else { named.join(" and ") }
    }

    /// The certificate that it brings, if any.
    pub(super) fn certificate(&self) -> Files<'_> {
        Files {
            section: "bot",
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            password: Source {
                key: "bot.key_password",
                typed: self.key_password.as_ref(),
                file: self.key_password_file.as_deref(),
                variable: self.key_password_env.as_deref(),
            },
        }
    }

    pub(super) fn to_bot(&self, secrets: Secrets) -> Result<Bot, Error> {
        self.check_credentials()?;
        for (key, value) in [("bot.path", Some(&self.path)), ("bot.url", self.url.as_ref())] {
            if let Some(value) = value.filter(|value| value.contains(HIDDEN)) {
                let expected = "what was there before a token was hidden in it";
                return Err(Error::config(key, format!("{value:?}"), expected));
            }
        }
        let secret_token = self.secret_token_source().read(secrets, SecretToken::new)?;
        let previous = self.previous_source().read(secrets, SecretToken::new)?;
        let until = self.previous_secret_token_until.map(|Moment(until)| until);
        let mut bot = Bot::without_secret(&self.name, &self.path);
        let entries = self.allow.as_ref();
        bot.allow = entries.map(|entries| AllowList::of_key("bot.allow", entries)).transpose()?;
        bot.basic_auth = self.basic_auth_source().read(secrets, BasicAuth::new)?;
        bot.host.clone_from(&self.host);
        // Where secrets are left where they are, there is nothing for the old one to stand beside.
        bot.previous_token = previous
            .zip(until)
            .filter(|_| secret_token.is_some())
            .map(|(token, until)| PreviousToken { token, until });
        bot.secret_token = secret_token;
        Ok(bot)
    }

    /// Each credential is given in one way, and there is one unless it is written that none is
    /// wanted.
    fn check_credentials(&self) -> Result<(), Error> {
        let bot = format!("bot {:?}", self.name);
        let (token, basic) = (self.secret_token_source().count(), self.basic_auth_source().count());
        let none = self.auth == Some(Auth::None);
        let is_good = token <= 1 && basic <= 1 && (token + basic == 0) == none;
        if !is_good {
            let expected = "one of secret_token, secret_token_file and secret_token_env, one of \
                            basic_auth, basic_auth_file and basic_auth_env, or one of each; or \
                            auth = \"none\" and none of them";
            return Err(Error::config(&bot, token + basic, expected));
        }
        let previous = self.previous_source().count();
        let until = usize::from(self.previous_secret_token_until.is_some());
        if previous > 1 || previous != until || previous > token {
            let expected = "one of previous_secret_token, previous_secret_token_file and \
                            previous_secret_token_env, together with previous_secret_token_until \
                            and beside a secret_token";
            return Err(Error::config(&bot, previous, expected));
        }
        Ok(())
    }

    fn secret_token_source(&self) -> Source<'_> {
        Source {
            key: "bot.secret_token",
            typed: self.secret_token.as_ref(),
            file: self.secret_token_file.as_deref(),
            variable: self.secret_token_env.as_deref(),
        }
    }

    fn token_source(&self) -> Source<'_> {
        Source {
            key: "bot.token",
            typed: self.token.as_ref(),
            file: self.token_file.as_deref(),
            variable: self.token_env.as_deref(),
        }
    }

    fn previous_source(&self) -> Source<'_> {
        Source {
            key: "bot.previous_secret_token",
            typed: self.previous_secret_token.as_ref(),
            file: self.previous_secret_token_file.as_deref(),
            variable: self.previous_secret_token_env.as_deref(),
        }
    }

    fn basic_auth_source(&self) -> Source<'_> {
        Source {
            key: "bot.basic_auth",
            typed: self.basic_auth.as_ref(),
            file: self.basic_auth_file.as_deref(),
            variable: self.basic_auth_env.as_deref(),
        }
    }
}
