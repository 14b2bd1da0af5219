//! The proxy that the environment asks for: used, or refused with what to write, never passed over.

use std::{env, fmt, net::IpAddr};

use ureq::Proxy;

use crate::config::ApiRoot;
use ringhook::{AllowList, Error, ErrorKind};

/// What is said of one that cannot be used. Its value may hold a password.
const EXPECTED: &str = "http://HOST:PORT, https://HOST:PORT, socks5://HOST:PORT or \
                        socks5h://HOST:PORT (which looks up names at the proxy), with USER:PASSWORD@ \
                        before the host where the proxy asks for it, or nothing";
/// The shortest part of a password that is hidden in a text: what is shorter is in many words.
const SECRET_MIN: usize = 4;

/// How the Bot API is reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// The variable, where a proxy is asked for that is not used: the root is on this machine, or
    /// in NO_PROXY.
    passed_over: Option<(&'static str, &'static str)>,
    proxy: Option<Used>,
}

#[derive(Clone)]
struct Used {
    proxy: Proxy,
    variable: &'static str,
}

impl fmt::Debug for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Used").field("variable", &self.variable).finish_non_exhaustive()
    }
}

impl Way {
    /// The way to `root` by the environment: the first that is set of HTTPS_PROXY, ALL_PROXY and
    /// HTTP_PROXY, in lower case as well; HTTP_PROXY is the first for a root of http.
    ///
    /// # Errors
    /// A proxy that is not understood. The message names the variable and never its value.
    pub(super) fn from_env(root: &ApiRoot) -> Result<Self, Error> {
        Self::new(root, |name| match env::var(name) {
            Ok(value) => Some(Ok(value)),
            Err(env::VarError::NotPresent) => None,
            Err(env::VarError::NotUnicode(_)) => Some(Err(())),
        })
    }

    fn new(
        root: &ApiRoot,
        variable: impl Fn(&str) -> Option<Result<String, ()>>,
    ) -> Result<Self, Error> {
        let mut schemes = [["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"]];
        if !root.is_https() {
            schemes.reverse();
        }
        let [own, other] = schemes;
        // An operator who has set the other one alone expects no direct connection to the Bot API.
        let names = own.into_iter().chain(["ALL_PROXY", "all_proxy"]).chain(other);
        let mut set = names.filter_map(|name| Some((name, variable(name)?)));
        // Set to nothing means none.
        let is_given =
            |value: &Result<String, ()>| !value.as_ref().is_ok_and(|v| v.trim().is_empty());
        let Some((name, value)) = set.find(|(_, value)| is_given(value)) else {
            return Ok(Self::default());
        };
        let refused = || {
            let message = format!("the proxy of {name} = (hidden): expected {EXPECTED}");
            Error::new(ErrorKind::Config, message)
        };
        let value = value.map_err(|()| refused())?;
        let proxy = parse(value.trim()).ok_or_else(refused)?;
        let none = ["NO_PROXY", "no_proxy"].into_iter().find_map(|name| variable(name)?.ok());
        let why = if is_loopback(root.host()) {
            Some("this machine itself is never reached by way of a proxy")
        } else if none.is_some_and(|list| is_listed(&list, root.host(), root.port())) {
            Some("NO_PROXY names it")
        } else {
            None
        };
        Ok(match why {
            Some(why) => Self { passed_over: Some((name, why)), proxy: None },
            None => Self { passed_over: None, proxy: Some(Used { proxy, variable: name }) },
        })
    }

    pub(super) fn proxy(&self) -> Option<Proxy> {
        self.proxy.as_ref().map(|used| used.proxy.clone())
    }

    /// A note for people, where a proxy is asked for and not used.
    pub(super) fn note(&self, root: &ApiRoot) -> Option<String> {
        let (name, why) = self.passed_over?;
        Some(format!("the proxy of {name} is not used for {}: {why}", root.host()))
    }

    /// What an error says of the way, and nothing where it is the straight one.
    pub(super) fn described(&self) -> String {
        match &self.proxy {
            None => String::new(),
            Some(Used { proxy, variable }) => {
                format!(" by way of the {} proxy of {variable}", proxy.protocol())
            }
        }
    }

    /// `text` without user and password of the proxy.
    pub(super) fn redact(&self, text: &str, hidden: &str) -> String {
        let Some(Used { proxy, .. }) = &self.proxy else { return text.to_owned() };
        let secrets = proxy.username().into_iter().chain(proxy.password());
        secrets
            .filter(|secret| secret.len() >= SECRET_MIN)
            .fold(text.to_owned(), |text, secret| text.replace(secret, hidden))
    }
}

/// The proxy that `text` names; `None` where it is not understood.
fn parse(text: &str) -> Option<Proxy> {
    // What follows the host is no part of a proxy's address, and a slip where there is something.
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let port = place.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.contains(']'));
    let is_port = |port: &str| port.parse().is_ok_and(|port: u16| port > 0);
    if authority.contains(['/', '?', '#']) || port.is_some_and(|port| !is_port(port)) {
        return None;
    }
    Proxy::new(text).ok().filter(|proxy| !proxy.host().is_empty())
}

fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// True where `list`, as NO_PROXY has it, names `host`: a name with all that end in it, an address,
/// a network, any of them with a port, or `*`.
fn is_listed(list: &str, host: &str, port: u16) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split([',', ' ', '\t']).any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        let (entry, only_port) = match entry.rsplit_once(':') {
            // An address of IPv6 without brackets has colons of its own.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port),
            _ => (entry.as_str(), ""),
        };
        if !only_port.is_empty() && only_port.parse() != Ok(port) {
            return false;
        }
        let entry = entry.trim_start_matches('[').trim_end_matches(']');
        if entry == "*" {
            return true;
        }
        if let Some(address) = address {
            let network = AllowList::new(&[entry.to_owned()]);
            return network.is_ok_and(|network| network.contains(address));
        }
        let name = entry.strip_prefix('*').unwrap_or(entry);
        let name = name.strip_prefix('.').unwrap_or(name);
        !name.is_empty()
            && host.strip_suffix(name).is_some_and(|under| under.is_empty() || under.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn way(root: &str, set: &[(&str, &str)]) -> Result<Way, Error> {
        Way::new(&root.parse().unwrap(), |name| {
            set.iter().find(|(set, _)| *set == name).map(|(_, value)| Ok((*value).to_owned()))
        })
    }

    const CLOUD: &str = "https://api.telegram.org";

    #[test]
    fn a_proxy_is_used_or_refused_and_never_passed_over() {
        for (value, protocol) in [
            ("socks5://127.0.0.1:1080", "SOCKS5"),
            ("socks5h://user:s3cret@proxy.example", "SOCKS5h"),
            ("SOCKS5://127.0.0.1:1080/", "SOCKS5"),
            ("socks4a://proxy.example:1080", "SOCKS4a"),
            ("http://proxy.example:3128", "HTTP"),
            ("https://[::1]:3128", "HTTPS"),
            ("proxy.example:3128", "HTTP"),
        ] {
            let way = way(CLOUD, &[("HTTPS_PROXY", value)]).unwrap();
            let expected = format!(" by way of the {protocol} proxy of HTTPS_PROXY");
            assert_eq!(way.described(), expected, "{value}");
        }
        for bad in [
            "socks6://127.0.0.1:1080",
            "ssh://user:s3cret@proxy.example",
            "socks5://",
            "socks5://user:s3cret@",
            "http://proxy.example:0",
            "http://proxy.example:99999",
            "http://proxy.example:3128/path",
            "http://a b:3128",
        ] {
            let error = way(CLOUD, &[("https_proxy", bad)]).unwrap_err().to_string();
            assert!(error.contains("https_proxy") && error.contains("socks5h://"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn the_variable_is_that_of_the_scheme_or_all_proxy() {
        let all = [("HTTPS_PROXY", "a:1"), ("http_proxy", "b:1"), ("ALL_PROXY", "socks5://c:1")];
        let used = |root: &str, set: &[(&'static str, &'static str)]| {
            way(root, set).unwrap().proxy.map(|used| used.variable)
        };
        assert_eq!(used(CLOUD, &all), Some("HTTPS_PROXY"));
        assert_eq!(used("http://api.example.com:8081", &all), Some("http_proxy"));
        assert_eq!(used(CLOUD, &all[1..]), Some("ALL_PROXY"));
        assert_eq!(used(CLOUD, &all[1..2]), Some("http_proxy"));
        assert_eq!(used(CLOUD, &[("HTTPS_PROXY", " "), ("ALL_PROXY", "c:1")]), Some("ALL_PROXY"));
    }

    #[test]
    fn this_machine_and_what_no_proxy_names_are_reached_straight() {
        let is_straight = |root: &str, none: &str| {
            let set = [("ALL_PROXY", "socks5://p:1"), ("NO_PROXY", none)];
            let way = way(root, &set).unwrap();
            assert_eq!(way.proxy.is_none(), way.note(&root.parse().unwrap()).is_some());
            way.proxy.is_none()
        };
        for near in
            ["http://127.0.0.1:8081", "http://localhost:1", "http://[::1]:1", "http://127.9.9.9"]
        {
            assert!(is_straight(near, ""), "{near}");
        }
        for (none, root) in [
            ("*", CLOUD),
            ("api.telegram.org", CLOUD),
            ("example.com, telegram.org", CLOUD),
            (".telegram.org", CLOUD),
            ("*.telegram.org", CLOUD),
            ("API.Telegram.Org:443", CLOUD),
            ("10.0.0.0/8", "http://10.1.2.3:8081"),
            ("10.1.2.3:8081", "http://10.1.2.3:8081"),
            ("fd00::/8", "http://[fd00::1]:8081"),
            ("[fd00::1]:8081", "http://[fd00::1]:8081"),
        ] {
            assert!(is_straight(root, none), "{none} {root}");
        }
        for (none, root) in [
            ("", CLOUD),
            ("gram.org", CLOUD),
            ("telegram.org:80", CLOUD),
            ("xapi.telegram.org", CLOUD),
            ("11.0.0.0/8", "http://10.1.2.3:8081"),
            ("10.1.2.3:80", "http://10.1.2.3:8081"),
        ] {
            assert!(!is_straight(root, none), "{none} {root}");
        }
    }

    #[test]
    fn user_and_password_are_never_shown() {
        let way = way(CLOUD, &[("ALL_PROXY", "socks5://user:s3%63ret@p:1")]).unwrap();
        assert_eq!(way.redact("user s3cret at p", "(hidden)"), "(hidden) (hidden) at p");
        assert!(!format!("{way:?}").contains("s3"));
    }
}
