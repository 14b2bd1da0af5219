//! The URL of a webhook: what Telegram makes of it, and what of it is shown.

use std::{fmt, net::IpAddr};

use super::host;
use crate::net::{
    address::is_reserved,
    idn,
    url::{UrlParts, default_port},
};
use ringhook::internals::redact::hide_tokens;

/// The parts of a webhook's URL, as Telegram's server takes it apart. Shown without the userinfo,
/// and without what looks like a bot's token: people put theirs into the path.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct WebhookUrl {
    pub(crate) is_https: bool,
    /// What stands before the `@`, as it stands there: Telegram decodes nothing in it.
    userinfo: Option<String>,
    /// In lower case; an address of IPv6 in brackets.
    pub(crate) host: String,
    /// As given, or that of the scheme.
    pub(crate) port: u16,
    /// Path and query, from the first slash on.
    pub(crate) target: String,
}

impl WebhookUrl {
    /// The URL of a webhook at `host`, a name or an address (of IPv6 in brackets), and `path`.
    pub(super) fn new(
        is_https: bool,
        userinfo: Option<&str>,
        host: &str,
        port: u16,
        path: &str,
    ) -> Self {
        Self {
            is_https,
            userinfo: userinfo.map(encoded),
            host: host.to_ascii_lowercase(),
            port,
            target: path.to_owned(),
        }
    }

    /// The parts of `text`; `None` where it is no URL of http or https.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts = UrlParts::parse(text)?;
        let UrlParts { is_https, host, target, .. } = parts;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || !c.is_ascii();
        let is_host = match host.starts_with('[') {
            true => !parts.has_zone(),
            false => !host.is_empty() && host.chars().all(is_plain),
        };
        let is_foreign = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
        if !is_host || text.contains(is_foreign) {
            return None;
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = format!("{slash}{target}");
        let host = idn::to_ascii(host)?.to_ascii_lowercase();
        if host.is_empty() {
            return None;
        }
        let userinfo = parts.userinfo.map(str::to_owned);
        Some(Self { is_https, userinfo, host, port: parts.port(), target })
    }

    /// The same with `userinfo`, unless it has one.
    pub(super) fn or_userinfo(mut self, userinfo: Option<&str>) -> Self {
        self.userinfo = self.userinfo.or_else(|| userinfo.map(encoded));
        self
    }

    /// All of it, for the Bot API alone: with the password, where there is one.
    pub(super) fn reveal(&self) -> String {
        self.written(self.userinfo.as_deref())
    }

    /// The path, without the query.
    pub(super) fn path(&self) -> &str {
        self.target.split(['?', '#']).next().unwrap_or("")
    }

    /// The host without brackets.
    pub(crate) fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// True where Telegram can look its host up, or connect to it.
    pub(crate) fn has_public_host(&self) -> bool {
        match self.address() {
            Some(address) => !is_reserved(address),
            None => host::of_name(self).is_none(),
        }
    }

    /// The host, where it is an address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.name().parse().ok()
    }

    /// How long the head of the longest request to it can be, in bytes, with a secret token of
    /// `secret` bytes.
    pub(super) fn head_bytes(&self, secret: Option<usize>) -> usize {
        /// All that every request has, with a body of the most digits.
        const SAME: &str = "POST  HTTP/1.1\r\nHost: :65535\r\nContent-Type: application/json\r\n\
                            Content-Length: 524288\r\nConnection: keep-alive\r\n\
                            Accept-Encoding: gzip, deflate\r\n\r\n";
        let secret =
            secret.map_or(0, |secret| "X-Telegram-Bot-Api-Secret-Token: \r\n".len() + secret);
        let basic = self.userinfo.as_ref().map_or(0, |userinfo| {
            "Authorization: Basic \r\n".len() + userinfo.len().div_ceil(3) * 4
        });
        SAME.len() + self.target.len() + self.host.len() + secret + basic
    }

    fn written(&self, userinfo: Option<&str>) -> String {
        let Self { is_https, host, port, target, .. } = self;
        let scheme = if *is_https { "https" } else { "http" };
        let userinfo = userinfo.map(|userinfo| format!("{userinfo}@")).unwrap_or_default();
        let is_usual = *port == default_port(*is_https);
        let port = if is_usual { String::new() } else { format!(":{port}") };
        format!("{scheme}://{userinfo}{host}{port}{target}")
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_tokens(&self.written(self.userinfo.as_ref().map(|_| "(hidden)"))))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

/// True where both have the same path and query.
pub(super) fn have_same_target(one: &str, other: &str) -> bool {
    let target = |url| WebhookUrl::parse(url).map(|url| url.target);
    target(one) == target(other)
}

/// True where both lead to the same place with the same credentials.
pub(super) fn are_same(one: &str, other: &str) -> bool {
    match (WebhookUrl::parse(one), WebhookUrl::parse(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// True where both lead to the same place, whatever the credentials.
pub(super) fn are_same_place(one: &str, other: &str) -> bool {
    let bare = |url: &str| WebhookUrl::parse(url).map(|url| WebhookUrl { userinfo: None, ..url });
    match (bare(one), bare(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// True for what Telegram sends as it is typed: it does not decode the userinfo, so that an escape
/// would be a part of the password.
pub(super) fn is_sent_as_typed(userinfo: &str) -> bool {
    userinfo.bytes().all(is_plain)
}

/// What RFC 3986 lets stand in a userinfo without an escape.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte)
}

fn encoded(userinfo: &str) -> String {
    let mut text = String::with_capacity(userinfo.len());
    for byte in userinfo.bytes() {
        match is_plain(byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::net::url::without_userinfo;

    #[test]
    fn omits_the_usual_port() {
        let url =
            |https, port| WebhookUrl::new(https, None, "Bot.Example.com", port, "/x").reveal();
        assert_eq!(url(true, 443), "https://bot.example.com/x");
        assert_eq!(url(true, 8443), "https://bot.example.com:8443/x");
        assert_eq!(url(true, 80), "https://bot.example.com:80/x");
        assert_eq!(url(false, 80), "http://bot.example.com/x");
    }

    #[test]
    fn shows_no_password() {
        for url in ["https://u:p@ss@h.example/x", "http://u:p@ss@[::1]:8443/x?y", "u:p@ss@h"] {
            let shown = without_userinfo(url);
            assert!(shown.contains("(hidden)@") && !shown.contains("p@ss"), "{shown}");
        }
        let url = WebhookUrl::parse("https://u:s3cret@h.example/x").unwrap();
        assert_eq!(url.to_string(), "https://(hidden)@h.example/x");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert_eq!(without_userinfo("https://h/a@b"), "https://h/a@b");
        let token = "https://h/bot1:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";
        for url in [token, &token.replace("1:", "1%3A")] {
            assert_eq!(without_userinfo(url), "https://h/bot(hidden)");
            let parsed = WebhookUrl::parse(url).unwrap();
            assert_eq!(parsed.to_string(), "https://h/bot(hidden)");
            assert_eq!(parsed.reveal(), url);
        }
    }

    #[test]
    fn is_the_same_however_it_is_typed() {
        for (one, other) in [
            ("https://a.example/x", "HTTPS://A.Example:443/x"),
            ("https://a.example", "https://a.example/"),
            ("http://a.example:80/", "http://a.example"),
        ] {
            assert!(are_same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("https://a.example/x", "https://a.example/X"),
            ("https://a.example/x", "http://a.example:443/x"),
            ("https://u:p@a.example/x", "https://a.example/x"),
            ("", "https://a.example/x"),
        ] {
            assert!(!are_same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_url_has_no_parts() {
        for bad in [
            "",
            "a.example/x",
            "ftp://a/x",
            "https://",
            "https:///x",
            "https://a:0/",
            "https://a b/",
            "https://[x].com/",
            "https://[x]/",
            "https://[8.8.8.8]/",
            "https://a]b.com/",
            "https://a:b:443/",
            "https://a.example:+443/",
            "https://a.example:/",
            "https://a.example\\b/",
            "https://a.example/\\b",
        ] {
            assert_eq!(WebhookUrl::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_is_what_is_read(
            is_https: bool,
            userinfo in proptest::option::of(".{0,12}:.{0,12}"),
            host in "([a-z0-9]{1,9}\\.){0,3}[a-z]{2,5}|\\[::1\\]|192\\.0\\.2\\.[0-9]",
            port in 1_u16..,
            path in "(/[A-Za-z0-9._~!$&'()*+,;=:@-]{0,9}){1,4}",
        ) {
            let built = WebhookUrl::new(is_https, userinfo.as_deref(), &host, port, &path);
            let text = built.reveal();
            prop_assert_eq!(WebhookUrl::parse(&text), Some(built.clone()));
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{}", text);
            prop_assert_eq!(built.path(), path);
            let shown = built.to_string();
            prop_assert_eq!(shown.contains("(hidden)@"), userinfo.is_some());
            if let Some(userinfo) = userinfo.filter(|userinfo| is_sent_as_typed(userinfo)) {
                let expected = format!("{userinfo}@");
                prop_assert!(text.contains(&expected));
            }
        }
    }
}
