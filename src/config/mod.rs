//! The settings of a server: typed, checked by [`Config::validate`], then never changed.
//!
//! | file | which settings |
//! |---|---|
//! | `mod` | all of them, and how they fit together |
//! | `admin` | the admin listener |
//! | `allow` | allow-lists |
//! | `bot`, `secret` | bots and their credentials |
//! | `dispatch` | the hand-off to the handler |
//! | `journal` | the journal |
//! | `limits` | bounds with their defaults |
//! | `listener` | listeners and their terms |
//! | `pin` | CPUs of the threads |
//! | `profile` | which requests count as slow |
//! | `reload` | which of them can change while the server runs |
//! | `value` | how durations and sizes are written |

mod admin;
pub(crate) mod allow;
mod bot;
mod dispatch;
mod journal;
mod limits;
mod listener;
mod pin;
mod profile;
mod reload;
mod secret;
pub mod value;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use self::{
    admin::Admin,
    allow::AllowList,
    bot::{Bot, PreviousToken},
    dispatch::{Dispatch, Order},
    journal::{Ack, Journal},
    limits::Limits,
    listener::{ListenAddress, Listener},
    pin::{CpuList, Pin},
    profile::Profile,
    secret::{BasicAuth, SECRET_TOKEN_MAX, SecretToken},
};
pub(crate) use self::{limits::RECEIVE_BYTES, pin::write_ranges, secret::base64};
use crate::{bots::BotKey, error::Error};

/// Most threads of one kind; a bound against typing errors, not a promise.
pub(crate) const THREADS_MAX: usize = 1024;
/// Range of the time for busy polling.
const BUSY_POLL: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_millis(1);

/// The settings that a server needs before it starts, apart from certificates and handler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The listener for probes and operators.
    pub admin: Admin,
    /// The addresses that may connect; `None` is every peer. A connection from elsewhere is closed
    /// before a byte of it is read.
    pub allow: Option<AllowList>,
    /// The bots whose updates are received; at least one.
    pub bots: Vec<Bot>,
    /// The sockets' SO_BUSY_POLL: a read that finds nothing looks into the network card's queue;
    /// `None`: not at all. A read looks once, however long this is, since the shard does not wait
    /// in it. For bare metal, where a CPU that does nothing else is cheaper than a wait;
    /// `docs/operations/tuning.md` says more.
    pub busy_poll: Option<Duration>,
    /// Whether answers have a `Date`, as RFC 9110 section 6.6.1 wants it of a server with a clock;
    /// true. Telegram's sender needs none.
    pub date: bool,
    /// What happens between the queue and the handler.
    pub dispatch: Dispatch,
    /// How long a stop may take before what is left is abandoned and counted; 10 s.
    pub drain_timeout: Duration,
    /// How the shards talk to the kernel; [`DriverChoice::Auto`].
    pub driver: DriverChoice,
    /// What a 200 promises, and where updates are kept; [`Ack::Memory`].
    pub journal: Journal,
    /// Bounds on what a peer can make the server hold or wait for.
    pub limits: Limits,
    /// Whether to listen at all; true. A server that does not listen has no shards and needs no
    /// certificate: its updates are those that the program brings
    /// ([`Server::deliver`](crate::Server::deliver)).
    pub listens: bool,
    /// Where to listen, with TLS and for those on `allow`; 127.0.0.1:8443, or nowhere if there are
    /// `listeners`. Port 0 takes any free one.
    pub listen: Option<ListenAddress>,
    /// Where else to listen, each on its own terms.
    pub listeners: Vec<Listener>,
    /// The CPUs that shards and workers are pinned to; by default all that the process may use,
    /// shards on the first ones.
    pub pin: Pin,
    /// Which requests the report names as slow; none.
    pub profile: Profile,
    /// Whether another process of the same user may listen on the same addresses at the same time
    /// (SO_REUSEPORT), and a Unix socket is taken over from another listener; false. The kernel
    /// spreads new connections over all of them, so one server can follow another without a gap.
    pub reuse_port: bool,
    /// Shard threads; by default one for each CPU of `pin.shards`, or else one for two CPUs of the
    /// allowed set, at least one.
    pub shards: Option<usize>,
    /// Worker threads; by default one for each CPU of `pin.workers`, or else one for each CPU that
    /// has no shard, at least one.
    pub workers: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            admin: Admin::default(),
            allow: None,
            bots: Vec::new(),
            busy_poll: None,
            date: true,
            dispatch: Dispatch::default(),
            drain_timeout: Duration::from_secs(10),
            driver: DriverChoice::Auto,
            journal: Journal::default(),
            limits: Limits::default(),
            listens: true,
            listen: None,
            listeners: Vec::new(),
            pin: Pin::default(),
            profile: Profile::default(),
            reuse_port: false,
            shards: None,
            workers: None,
        }
    }
}

impl Config {
    /// The names of the bots, in their order.
    pub(crate) fn bot_names(&self) -> impl Iterator<Item = &str> + Clone {
        self.bots.iter().map(|bot| &*bot.name)
    }

    /// All places to listen, the main one first; none where it does not listen.
    #[must_use]
    pub fn all_listeners(&self) -> Vec<Listener> {
        if !self.listens {
            return Vec::new();
        }
        let default = || SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)).into();
        let main = self.listen.clone().or_else(|| self.listeners.is_empty().then(default));
        main.map(Listener::new).into_iter().chain(self.listeners.iter().cloned()).collect()
    }

    /// Checks all settings and how they fit together.
    ///
    /// # Errors
    /// The first wrong one: its key, its value and what was expected.
    pub fn validate(&self) -> Result<(), Error> {
        self.admin.validate()?;
        self.limits.validate()?;
        self.dispatch.validate()?;
        self.journal.validate()?;
        self.profile.validate()?;
        for (key, count) in [("server.shards", self.shards), ("server.workers", self.workers)] {
            if let Some(count) = count.filter(|count| !(1..=THREADS_MAX).contains(count)) {
                return Err(Error::config(key, count, &format!("1 to {THREADS_MAX}")));
            }
        }
        self.pin.validate(self.shards, self.workers)?;
        if let Some(time) = self.busy_poll.filter(|time| !BUSY_POLL.contains(time)) {
            let time = humantime::format_duration(time);
            return Err(Error::config("server.busy_poll", time, "1us to 1ms"));
        }
        let listeners = self.all_listeners();
        for (index, listener) in listeners.iter().enumerate() {
            listener.validate()?;
            let is_any = matches!(&listener.address, ListenAddress::Tcp(tcp) if tcp.port() == 0);
            let mut earlier = listeners.iter().take(index);
            if !is_any && earlier.any(|other| other.address == listener.address) {
                let expected = "an address of its own";
                return Err(Error::config("listener.address", &listener.address, expected));
            }
        }
        if self.bots.is_empty() {
            return Err(Error::config("bot", "(none)", "at least one bot"));
        }
        for (index, bot) in self.bots.iter().enumerate() {
            bot.validate()?;
            let earlier = self.bots.iter().take(index);
            for other in earlier {
                if other.path == bot.path && other.has_host_of(bot) {
                    let expected =
                        format!("a path of its own on its host (bot {:?} has it)", other.name);
                    return Err(Error::config("bot.path", &bot.path, &expected));
                }
                if other.name == bot.name {
                    return Err(Error::config("bot.name", &bot.name, "a name of its own"));
                }
                // In the journal a bot is the CRC32C of its name.
                if BotKey::from_name(&other.name) == BotKey::from_name(&bot.name) {
                    let expected = format!("another name ({:?} has the same CRC32C)", other.name);
                    return Err(Error::config("bot.name", &bot.name, &expected));
                }
            }
        }
        Ok(())
    }
}

/// Which driver the shards may use.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DriverChoice {
    /// io_uring, or else epoll, with the reason and a fix as a notice.
    #[default]
    Auto,
    /// epoll.
    Epoll,
    /// io_uring or nothing: refuses to start without it.
    IoUring,
}

impl fmt::Display for DriverChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Epoll => "epoll",
            Self::IoUring => "io-uring",
        })
    }
}

impl FromStr for DriverChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Auto, Self::Epoll, Self::IoUring]
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| Error::config("server.driver", text, "auto, io-uring or epoll"))
    }
}

/// How a shard talks to the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub enum DriverKind {
    /// Readiness by epoll, a system call for each read and write.
    #[serde(rename = "epoll")]
    Epoll,
    /// Completions by io_uring.
    #[serde(rename = "io_uring")]
    IoUring,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with_bots(paths: &[(&str, &str)]) -> Config {
        let bots = paths.iter().map(|(name, path)| Bot::new(name, path, "secret").unwrap());
        Config { bots: bots.collect(), ..Config::default() }
    }

    #[test]
    fn a_bot_is_needed_and_its_path_is_its_own() {
        assert!(with_bots(&[]).validate().is_err());
        with_bots(&[("a", "/a"), ("b", "/b")]).validate().unwrap();
        let error = with_bots(&[("a", "/a"), ("b", "/a")]).validate().unwrap_err();
        assert!(error.to_string().starts_with("bot.path = /a: expected a path of its own"));
        let mut config = with_bots(&[("a", "/a"), ("b", "/a")]);
        config.bots.iter_mut().for_each(|bot| bot.host = Some(format!("{}.example", bot.name)));
        config.validate().unwrap();
        config.bots.iter_mut().for_each(|bot| bot.host = Some("A.example".to_owned()));
        assert!(config.validate().is_err(), "names are compared without regard to case");
        assert!(with_bots(&[("a", "/a"), ("a", "/b")]).validate().is_err());
    }

    #[test]
    fn odd_paths_are_refused() {
        for path in ["", "webhook", "/a?b", "/a#b", "/a b", "/ä", "/a/../b", "/.", "/%41"] {
            assert!(with_bots(&[("a", path)]).validate().is_err(), "{path:?}");
        }
        for path in ["/", "/webhook", "/bot/7:AAF-x_y/hook", "/a.b/...", "/a//b", "/@~!$&'()*+,;="]
        {
            with_bots(&[("a", path)]).validate().unwrap();
        }
    }

    #[test]
    fn thread_counts_have_a_range() {
        let mut config = with_bots(&[("a", "/a")]);
        config.shards = Some(0);
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "server.shards = 0: expected 1 to 1024"
        );
    }

    #[test]
    fn the_main_listener_is_there_unless_others_stand_in_for_it() {
        let addresses = |config: &Config| {
            let listeners = config.all_listeners();
            listeners.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>()
        };
        let mut config = with_bots(&[("a", "/a")]);
        assert_eq!(addresses(&config), ["127.0.0.1:8443"]);
        config.listeners.push(Listener::new("unix:/x".parse().unwrap()));
        assert_eq!(addresses(&config), ["unix:/x"]);
        config.listen = Some("[::1]:443".parse().unwrap());
        assert_eq!(addresses(&config), ["[::1]:443", "unix:/x"]);
        config.validate().unwrap();
        config.listeners.push(Listener::new("unix:/x".parse().unwrap()));
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "listener.address = unix:/x: expected an address of its own");
        // Each takes a free one.
        config.listeners = vec![Listener::new("[::1]:0".parse().unwrap()); 2];
        config.validate().unwrap();
    }

    #[test]
    fn driver_names_round_trip() {
        for choice in [DriverChoice::Auto, DriverChoice::Epoll, DriverChoice::IoUring] {
            assert_eq!(choice.to_string().parse::<DriverChoice>().unwrap(), choice);
        }
        assert!("uring".parse::<DriverChoice>().is_err());
    }
}
