//! Where updates are sent to, and with which credentials: from the config, or from a URL.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::CertificateDer;

use super::SendArgs;
use crate::{
    config::{BotSection, ConfigFile, Secrets},
    net::url::UrlParts,
    server::{greeting::reachable, service::over, setup::Setup},
    telegram::sender::{Place, Target, Tls, Trust, with_port},
};
use ringhook::{
    Bot, Config, Error, ErrorKind, ListenAddress, Listener, SecretToken,
    internals::{
        config::allow::admits,
        files::text_file,
        io::listener::{Terms, terms},
    },
};

/// An address of Telegram's, which a balancer would name as the one that it passes on.
const TELEGRAM: Ipv4Addr = Ipv4Addr::new(149, 154, 167, 197);

/// Where updates are sent to, and with which credentials.
#[derive(Debug)]
pub(crate) struct SendTarget {
    /// What is known of the server; `None` for a URL.
    pub(crate) known: Option<Known>,
    pub(crate) secret_token: Option<SecretToken>,
    pub(crate) target: Target,
}

/// What a config tells of the server beside the target.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) bot: String,
    /// The files with the certificates that are trusted.
    pub(crate) certificates: Vec<PathBuf>,
    /// Where the bot's credentials are, for people.
    pub(crate) credentials: String,
    /// The list that this machine is not on, and its address there.
    pub(crate) not_on: Option<(&'static str, IpAddr)>,
}

impl SendTarget {
    /// What `args` ask for. Nothing is made that is not there.
    ///
    /// # Errors
    /// A wrong setting, a file that cannot be read, several bots and none chosen.
    pub(super) fn take(args: &SendArgs) -> Result<Self, Error> {
        match &args.url {
            Some(url) => Self::from_url(url, args),
            None => Self::from_config(args),
        }
    }

    /// One line for people.
    pub(super) fn spoken(&self) -> String {
        let of = match &self.known {
            Some(known) => format!(" for bot {:?}", known.bot),
            None => String::new(),
        };
        format!("sending to {} at {}{of}", self.target.url(), self.target.place)
    }

    fn from_url(url: &str, args: &SendArgs) -> Result<Self, Error> {
        let trust = match &args.ca {
            _ if args.insecure => Trust::Anything,
            Some(path) => Trust::Certificates(certificates(path)?),
            None => Trust::Authorities,
        };
        let secret_token = args.secret_token_file.as_ref().map(|path| {
            let text = text_file::read(path).map_err(|source| {
                let message = format!("--secret-token-file {}", path.display());
                Error::with_source(ErrorKind::Config, message, source)
            })?;
            SecretToken::new(text.trim(), "--secret-token-file")
        });
        Ok(Self {
            known: None,
            secret_token: secret_token.transpose()?,
            target: Target::from_url(url, trust)?,
        })
    }

    fn from_config(args: &SendArgs) -> Result<Self, Error> {
        let setup = setup(args)?;
        let config = setup.file.to_config(Secrets::Leave)?;
        let section = choose(&setup.file.bots, args.bot.as_deref())?;
        let trust = match &args.ca {
            _ if args.insecure => Some(Trust::Anything),
            Some(path) => Some(Trust::Certificates(certificates(path)?)),
            None => None,
        };
        let mut send_target =
            Self::from_bot(&setup, &config, section, args.listen.as_ref(), trust)?;
        if let (Some(known), Some(path)) = (&mut send_target.known, &args.ca) {
            known.certificates = vec![path.clone()];
        }
        Ok(send_target)
    }

    /// The receiver of `section`, one of the bots of `setup`, which is `config` when checked. It
    /// listens at `listen`, or where the config says first. Without a `trust`, the certificates of
    /// the config are trusted as if they had been uploaded.
    ///
    /// # Errors
    /// A secret or certificate that cannot be read, no place that is known to listen.
    pub(crate) fn from_bot(
        setup: &Setup,
        config: &Config,
        section: &BotSection,
        listen: Option<&ListenAddress>,
        trust: Option<Trust>,
    ) -> Result<Self, Error> {
        let file = &setup.file;
        let (listener, terms) = listener(config, listen)?;
        check_data_dir(setup, section, listener.tls)?;
        let bot = read_bot(file, section)?;
        let place = place(&listener);
        let trusted = if listener.tls { trusted(file, section) } else { Vec::new() };
        let tls = listener.tls.then(|| {
            let trust = match trust {
                Some(trust) => trust,
                None => {
                    let all = trusted.iter().map(|path| certificates(path));
                    let all = all.collect::<Result<Vec<_>, Error>>()?;
                    Trust::Certificates(all.concat())
                }
            };
            Ok::<_, Error>(Tls { host: public_host(section), sends_name: true, trust })
        });
        let has_proxy = listener.proxy_protocol.is_some();
        Ok(Self {
            known: Some(Known {
                bot: section.name.clone(),
                credentials: section.secret_source(),
                not_on: not_on(&place, has_proxy, &terms, &bot),
                certificates: trusted,
            }),
            target: Target {
                authority: authority(file, section, &listener),
                basic_auth: bot.basic_auth,
                path: bot.path,
                place,
                preamble: if has_proxy { proxy_header(&listener) } else { Vec::new() },
                tls: tls.transpose()?,
            },
            secret_token: bot.secret_token,
        })
    }
}

/// Config file and flags, as `serve` would have them.
fn setup(args: &SendArgs) -> Result<Setup, Error> {
    let mut file = args.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
    over(&args.data_dir, &mut file.server.data_dir);
    if let Some(address) = &args.listen {
        // Where the config has a listener there, its terms hold.
        if !file.listeners.iter().any(|listener| listener.address == *address) {
            file.server.listen = Some(address.clone());
        }
    }
    Setup::new(file)
}

fn choose<'a>(bots: &'a [BotSection], name: Option<&str>) -> Result<&'a BotSection, Error> {
    let names = || bots.iter().map(|bot| bot.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, bots) {
        (None, [bot]) => Ok(bot),
        (None, _) => Err(Error::config("--bot", "(none)", &format!("one of {}", names()))),
        (Some(name), _) => {
            let found = bots.iter().find(|bot| bot.name == name);
            found.ok_or_else(|| Error::config("--bot", name, &format!("one of {}", names())))
        }
    }
}

/// The bot with its secrets. Those of the others may be out of reach.
fn read_bot(file: &ConfigFile, section: &BotSection) -> Result<Bot, Error> {
    let mut alone = file.clone();
    alone.bots = vec![section.clone()];
    let mut config = alone.to_config(Secrets::Read)?;
    config.bots.pop().ok_or_else(|| Error::config("bot", "(none)", "at least one bot"))
}

/// What a server makes on its first run is there.
fn check_data_dir(setup: &Setup, section: &BotSection, is_tls: bool) -> Result<(), Error> {
    let secrets = section.secret_files().filter(|_| setup.has_default_bot);
    let cert = setup.file.tls.cert.as_deref().filter(|_| setup.has_own_certificate && is_tls);
    secrets.chain(cert).try_for_each(|path| need(path, path.try_exists()))
}

/// `Ok` where the file at `path` is there, as far as `is_there` tells.
fn need(path: &Path, is_there: io::Result<bool>) -> Result<(), Error> {
    let name = path.display();
    match is_there {
        Ok(true) => Ok(()),
        Ok(false) => {
            let message = format!(
                "{name} is not there: start `ringhook serve` first, which makes it, or give \
                 --data-dir or --config as the server has them"
            );
            Err(Error::new(ErrorKind::Config, message))
        }
        Err(source) => {
            let message = match source.kind() {
                // It may be there all the same.
                io::ErrorKind::PermissionDenied => format!(
                    "{name} is not for this user: run this as the user of `ringhook serve`, or as \
                     root"
                ),
                _ => name.to_string(),
            };
            Err(Error::with_source(ErrorKind::Config, message, source))
        }
    }
}

/// The listener that was `asked` for, else the first that can be connected to, and on which terms
/// it serves.
fn listener(
    config: &Config,
    asked: Option<&ListenAddress>,
) -> Result<(Listener, Arc<Terms>), Error> {
    let all = config.all_listeners().into_iter().zip(terms(config));
    let is_reachable = |address: &ListenAddress| match address {
        ListenAddress::Tcp(address) => address.port() != 0,
        ListenAddress::Unix(_) => true,
        _ => false,
    };
    let mut wanted = all.filter(|(listener, _)| match asked {
        Some(address) => listener.address == *address && is_reachable(address),
        None => is_reachable(&listener.address),
    });
    wanted.next().ok_or_else(|| {
        let value = asked.map_or_else(|| "(none)".to_owned(), ToString::to_string);
        let expected = "IP:PORT or unix:PATH where the server listens: where a socket was passed \
                        (fd:NAME) or any free port was taken, the config does not tell";
        Error::config("--listen", value, expected)
    })
}

fn place(listener: &Listener) -> Place {
    match &listener.address {
        ListenAddress::Tcp(address) => Place::Tcp(vec![reachable(*address)]),
        ListenAddress::Unix(path) => Place::Unix(path.clone()),
        _ => Place::Tcp(Vec::new()),
    }
}

/// Host and port of the webhook's URL, as far as the config says so.
fn public_url(section: &BotSection) -> Option<(&str, Option<u16>)> {
    let url = UrlParts::parse(section.url.as_deref()?)?;
    Some((url.host, url.port.filter(|port| *port != 443)))
}

/// The host that Telegram would connect to; of a pattern any name that fits it. `None` where the
/// bot takes every host.
fn public_host(section: &BotSection) -> Option<String> {
    if let Some((host, _)) = public_url(section) {
        return Some(host.to_owned());
    }
    let host = section.host.as_deref()?;
    Some(host.strip_prefix('*').map_or_else(|| host.to_owned(), |under| format!("bot{under}")))
}

/// What `Host` is to say.
fn authority(file: &ConfigFile, section: &BotSection, listener: &Listener) -> String {
    if let Some((host, port)) = public_url(section) {
        return with_port(host, port);
    }
    let address = match &listener.address {
        ListenAddress::Tcp(address) => Some(reachable(*address)),
        _ => None,
    };
    let port = file.webhook.port.or(address.map(|address| address.port()));
    let own = if listener.tls { 443 } else { 80 };
    let port = port.filter(|port| *port != own);
    match (public_host(section), address) {
        (Some(host), _) => with_port(&host, port),
        (None, Some(address)) if address.is_ipv6() => {
            with_port(&format!("[{}]", address.ip()), port)
        }
        (None, Some(address)) => with_port(&address.ip().to_string(), port),
        (None, None) => "localhost".to_owned(),
    }
}

/// The files whose certificates the server shows for the bot.
fn trusted(file: &ConfigFile, section: &BotSection) -> Vec<PathBuf> {
    let own = section.cert.as_ref().or(file.tls.cert.as_ref());
    match own {
        Some(path) => vec![path.clone()],
        // Without one of its own, that of another bot is the default.
        None => file.bots.iter().filter_map(|bot| bot.cert.clone()).collect(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    ringhook::internals::tls::read_chain(path)
        .map_err(|error| Error::new(ErrorKind::Config, error.to_string()))
}

/// The list that keeps this machine out, and the address that it has there.
fn not_on(
    place: &Place,
    has_proxy: bool,
    terms: &Terms,
    bot: &Bot,
) -> Option<(&'static str, IpAddr)> {
    let Place::Tcp(addresses) = place else { return None };
    // A connection to an address of this machine comes from the same one.
    let own = addresses.first()?.ip();
    if has_proxy && !admits(terms.proxy_protocol.as_ref(), Some(own)) {
        return Some(("listener.proxy_protocol", own));
    }
    let peer = if has_proxy { TELEGRAM.into() } else { own };
    if !terms.admits(Some(peer)) {
        return Some(("server.allow or listener.allow", peer));
    }
    (!admits(bot.allow.as_ref(), Some(peer))).then_some(("bot.allow", peer))
}

/// What a balancer in front would send: the listener takes no connection without it.
fn proxy_header(listener: &Listener) -> Vec<u8> {
    let (to, port) = match &listener.address {
        ListenAddress::Tcp(SocketAddr::V4(address)) => (*address.ip(), address.port()),
        _ => (Ipv4Addr::LOCALHOST, 443),
    };
    format!("PROXY TCP4 {TELEGRAM} {to} 50000 {port}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_must_not_be_looked_at_is_not_said_to_be_missing() {
        let path = Path::new("/var/lib/ringhook/secret-token");
        need(path, Ok(true)).unwrap();
        let missing = need(path, Ok(false)).unwrap_err().to_string();
        assert!(missing.contains("is not there: start `ringhook serve` first"), "{missing}");
        let denied = need(path, Err(io::ErrorKind::PermissionDenied.into())).unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::Config);
        assert!(denied.to_string().contains("is not for this user"), "{denied}");
        let other = need(path, Err(io::ErrorKind::NotADirectory.into())).unwrap_err().to_string();
        assert!(!other.contains("is not there") && !other.contains("user"), "{other}");
    }
}
