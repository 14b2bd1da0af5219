//! From a request's host and path to a bot, with the checks of address and credentials.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::SystemTime};

use crate::{
    bots::BotId,
    config::{AllowList, BasicAuth, Bot, PreviousToken, SecretToken, allow::admits},
    outcome::Forbidden,
    proto::http::Status,
};

/// All bots of one port, by path and host.
#[derive(Debug)]
pub(crate) struct Router {
    /// By the bots' ids.
    names: HashMap<BotId, Arc<str>>,
    /// Of one path, those of a name before those of a pattern before that of any host.
    routes: HashMap<Box<[u8]>, Vec<Route>>,
}

#[derive(Debug)]
struct Route {
    allow: Option<AllowList>,
    basic_auth: Option<BasicAuth>,
    bot: BotId,
    host: Host,
    previous_token: Option<PreviousToken>,
    secret_token: Option<SecretToken>,
}

/// Which hosts a bot is at.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Host {
    Name(String),
    /// All names of one label before this, which begins with a dot.
    Under(String),
    Any,
}

/// What a request contains of its origin and its destination.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteRequest<'a> {
    /// `Authorization`.
    pub(crate) authorization: Option<&'a [u8]>,
    /// `Host`, with its port.
    pub(crate) host: Option<&'a str>,
    /// Whether the method is POST.
    pub(crate) is_post: bool,
    /// The path, in normal form.
    pub(crate) path: &'a [u8],
    /// The peer's address; `None` where it has none.
    pub(crate) peer: Option<IpAddr>,
    /// `X-Telegram-Bot-Api-Secret-Token`.
    pub(crate) secret_token: Option<&'a [u8]>,
}

impl Router {
    /// Routes to `bots`.
    pub(crate) fn new<'a>(bots: impl IntoIterator<Item = (BotId, &'a Bot)>) -> Self {
        let mut names = HashMap::new();
        let mut routes = HashMap::<Box<[u8]>, Vec<Route>>::new();
        for (id, bot) in bots {
            names.insert(id, bot.name.as_str().into());
            let route = Route {
                allow: bot.allow.clone(),
                basic_auth: bot.basic_auth.clone(),
                bot: id,
                host: Host::new(bot.host.as_deref()),
                previous_token: bot.previous_token.clone(),
                secret_token: bot.secret_token.clone(),
            };
            routes.entry(bot.path.as_bytes().into()).or_default().push(route);
        }
        for of_path in routes.values_mut() {
            of_path.sort_by(|a, b| a.host.cmp(&b.host));
        }
        Self { names, routes }
    }

    /// The bot that the request is for, or why there is none.
    pub(crate) fn route(&self, request: RouteRequest<'_>) -> Result<BotId, RouteError> {
        let route = self.find(request).ok_or(RouteError::Unknown)?;
        if !request.is_post {
            return Err(RouteError::Method);
        }
        // From an address that may not send, no credential is checked.
        if !admits(route.allow.as_ref(), request.peer) {
            return Err(RouteError::Forbidden(route.bot, Forbidden::Address));
        }
        if route.admits(request) {
            Ok(route.bot)
        } else {
            Err(RouteError::Forbidden(route.bot, Forbidden::Credentials))
        }
    }

    /// The name of the bot at the request's path and host, whether or not the client may send to
    /// it.
    pub(crate) fn meant(&self, request: RouteRequest<'_>) -> Option<Arc<str>> {
        self.name(self.find(request)?.bot)
    }

    /// The name of a bot.
    pub(crate) fn name(&self, bot: BotId) -> Option<Arc<str>> {
        self.names.get(&bot).cloned()
    }

    fn find(&self, request: RouteRequest<'_>) -> Option<&Route> {
        let of_path = self.routes.get(request.path)?;
        let host = request.host.map_or("", without_port);
        of_path.iter().find(|route| route.host.contains(host))
    }
}

/// Why a request is for no bot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RouteError {
    /// It is for this bot, and is refused.
    Forbidden(BotId, Forbidden),
    /// It is no POST.
    Method,
    /// No bot is at its path and host.
    Unknown,
}

impl RouteError {
    /// The status for the client.
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Forbidden(..) => Status::Forbidden,
            Self::Method => Status::MethodNotAllowed,
            Self::Unknown => Status::NotFound,
        }
    }
}

impl Route {
    fn admits(&self, request: RouteRequest<'_>) -> bool {
        let presented = request.secret_token.unwrap_or_default();
        let has_token = self.secret_token.as_ref().is_none_or(|token| {
            token.matches(presented)
                || self.previous_token.as_ref().is_some_and(|previous| {
                    previous.token.matches(presented) && SystemTime::now() < previous.until
                })
        });
        let presented = request.authorization.unwrap_or_default();
        has_token && self.basic_auth.as_ref().is_none_or(|auth| auth.matches(presented))
    }
}

impl Host {
    fn new(host: Option<&str>) -> Self {
        match host.map(str::to_ascii_lowercase) {
            None => Self::Any,
            Some(host) => match host.strip_prefix('*') {
                Some(under) => Self::Under(under.to_owned()),
                None => Self::Name(host),
            },
        }
    }

    fn contains(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => host.eq_ignore_ascii_case(name),
            Self::Under(under) => host.find('.').is_some_and(|dot| {
                let (label, rest) = host.split_at(dot);
                !label.is_empty() && rest.eq_ignore_ascii_case(under)
            }),
        }
    }
}

/// The host of an authority (RFC 3986 section 3.2), a final dot left out.
fn without_port(authority: &str) -> &str {
    let host = match authority.rfind(':') {
        // The colons of an IPv6 address are inside brackets.
        Some(colon) if !authority.ends_with(']') => authority.get(..colon).unwrap_or_default(),
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn router(bots: &[Bot]) -> Router {
        Router::new((0..).map(BotId::new).zip(bots))
    }

    #[test]
    fn path_then_method_then_token() {
        let open = Bot::without_secret("open", "/open");
        let router = router(&[Bot::new("shop", "/shop", "s3cret").unwrap(), open]);
        let route = |path: &str, is_post, token: Option<&str>| {
            let (path, secret_token) = (path.as_bytes(), token.map(str::as_bytes));
            router
                .route(RouteRequest { path, is_post, secret_token, ..RouteRequest::default() })
                .map_err(RouteError::status)
        };
        assert_eq!(route("/shop", true, Some("s3cret")), Ok(BotId::new(0)));
        assert_eq!(route("/shop", true, Some("s3cre")), Err(Status::Forbidden));
        assert_eq!(route("/shop", true, Some("")), Err(Status::Forbidden));
        assert_eq!(route("/shop", true, None), Err(Status::Forbidden));
        assert_eq!(route("/shop", false, Some("s3cret")), Err(Status::MethodNotAllowed));
        assert_eq!(route("/shop/", true, Some("s3cret")), Err(Status::NotFound));
        assert_eq!(route("/SHOP", true, Some("s3cret")), Err(Status::NotFound));
        assert_eq!(route("/open", true, None), Ok(BotId::new(1)));
        assert_eq!(route("/open", true, Some("whatever")), Ok(BotId::new(1)));
        let meant = |path: &str| {
            router.meant(RouteRequest { path: path.as_bytes(), ..RouteRequest::default() })
        };
        assert_eq!((meant("/shop").as_deref(), meant("/shop/")), (Some("shop"), None));
    }

    #[test]
    fn a_name_comes_before_a_pattern_before_any_host() {
        let bot = |host: Option<&str>| {
            let mut bot = Bot::without_secret("x", "/w");
            bot.host = host.map(str::to_owned);
            bot
        };
        let bots = [None, Some("*.Example.com"), Some("shop.example.com"), Some("[::1]")].map(bot);
        let route = |bots: &[Bot], host: Option<&str>| {
            let request =
                RouteRequest { path: b"/w", is_post: true, host, ..RouteRequest::default() };
            router(bots).route(request).map(BotId::index).map_err(RouteError::status)
        };
        for (host, bot) in [
            (None, 0),
            (Some("203.0.113.7:8443"), 0),
            (Some("example.com"), 0),
            (Some(".example.com"), 0),
            (Some("a.b.example.com"), 0),
            (Some("news.example.com:443"), 1),
            (Some("SHOP.example.COM"), 2),
            (Some("shop.example.com.:8443"), 2),
            (Some("[::1]:8443"), 3),
            (Some("[::1]"), 3),
        ] {
            assert_eq!(route(&bots, host), Ok(bot), "{host:?}");
        }
        let [_, named @ ..] = &bots;
        assert_eq!(route(named, None), Err(Status::NotFound));
        assert_eq!(route(named, Some("other.org")), Err(Status::NotFound));
    }

    #[test]
    fn a_bots_list_comes_before_its_credentials_and_who_has_no_address_passes_it() {
        let mut bot = Bot::new("x", "/w", "token").unwrap();
        bot.allow = Some(AllowList::new(["telegram"]).unwrap());
        let router = router(&[bot, Bot::without_secret("open", "/open")]);
        let route = |path: &str, peer: Option<&str>, token: &str| {
            router.route(RouteRequest {
                is_post: true,
                path: path.as_bytes(),
                peer: peer.map(|peer| peer.parse().unwrap()),
                secret_token: Some(token.as_bytes()),
                ..RouteRequest::default()
            })
        };
        let forbidden = |why| Err(RouteError::Forbidden(BotId::new(0), why));
        assert_eq!(route("/w", Some("149.154.160.1"), "token"), Ok(BotId::new(0)));
        assert_eq!(route("/w", None, "token"), Ok(BotId::new(0)));
        assert_eq!(route("/w", Some("192.0.2.1"), "token"), forbidden(Forbidden::Address));
        assert_eq!(route("/w", Some("192.0.2.1"), "wrong"), forbidden(Forbidden::Address));
        assert_eq!(route("/w", Some("149.154.160.1"), "x"), forbidden(Forbidden::Credentials));
        assert_eq!(route("/w", None, "wrong"), forbidden(Forbidden::Credentials));
        assert_eq!(route("/open", Some("192.0.2.1"), ""), Ok(BotId::new(1)));
    }

    #[test]
    fn an_old_token_is_taken_until_its_moment_and_all_credentials_are_needed() {
        let mut bot = Bot::new("x", "/w", "new").unwrap();
        let route = |bot: &Bot, token: Option<&str>, authorization: Option<&str>| {
            let request = RouteRequest {
                authorization: authorization.map(str::as_bytes),
                is_post: true,
                path: b"/w",
                secret_token: token.map(str::as_bytes),
                ..RouteRequest::default()
            };
            router(std::slice::from_ref(bot)).route(request).is_ok()
        };
        let hour = Duration::from_secs(3600);
        for (until, is_taken) in
            [(SystemTime::now() + hour, true), (SystemTime::now() - hour, false)]
        {
            let token = SecretToken::new("old", "k").unwrap();
            bot.previous_token = Some(PreviousToken { token, until });
            assert!(route(&bot, Some("new"), None));
            assert_eq!(route(&bot, Some("old"), None), is_taken);
            assert!(!route(&bot, Some("older"), None) && !route(&bot, None, None));
        }
        bot.basic_auth = Some(BasicAuth::new("u:p", "k").unwrap());
        assert!(!route(&bot, Some("new"), None) && !route(&bot, None, Some("Basic dTpw")));
        assert!(route(&bot, Some("new"), Some("Basic dTpw")));
        bot.secret_token = None;
        assert!(route(&bot, None, Some("Basic dTpw")) && !route(&bot, None, None));
    }
}
