//! Which hosts of a webhook's URL Telegram can look up.

use super::{Problem, WebhookUrl};

/// Last labels that no public name has.
const NOT_PUBLIC: [&str; 5] = ["internal", "invalid", "local", "localhost", "test"];
/// The longest label and the longest name of DNS, in bytes.
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;

/// What is wrong with the host of `url`, a name; `None` where it is an address, or nothing is.
pub(super) fn of_name(url: &WebhookUrl) -> Option<Problem> {
    if url.address().is_some() {
        return None;
    }
    let host = &url.host;
    let name = host.strip_suffix('.').unwrap_or(host);
    let labels = || name.split('.');
    let last = labels().next_back().unwrap_or_default();
    if is_number(last) {
        return Some(Problem::fatal(
            format!(
                "the URL's host {host:?} is neither a name nor an IPv4 address of four numbers"
            ),
            "write the public IPv4 address of this server in full, or a name",
        ));
    }
    let is_odd = |label: &str| {
        label.is_empty()
            || label.len() > LABEL_MAX
            || label.starts_with('-')
            || label.ends_with('-')
    };
    if name.len() > NAME_MAX || labels().any(is_odd) {
        return Some(Problem::fatal(
            format!("the URL's host {host:?} is no name of DNS"),
            "between its dots there are 1 to 63 letters, digits and hyphens, with no hyphen at \
             either end",
        ));
    }
    (!name.contains('.') || NOT_PUBLIC.contains(&last)).then(|| {
        Problem::fatal(
            format!("the URL's host {host:?} is no name that Telegram can resolve"),
            "use a public name such as bot.example.com",
        )
    })
}

/// True for what makes a resolver take all of a name for an address: digits, or 0x and hex digits.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x");
    match hex {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn what(host: &str) -> Option<String> {
        let url = WebhookUrl::parse(&format!("https://{host}/x")).unwrap();
        of_name(&url).map(|problem| problem.what)
    }

    #[test]
    fn a_public_name_or_address_is_none_of_them() {
        let longest = format!("{}.example", "a".repeat(63));
        for host in ["bot.example.com", "bot.example.com.", "8.8.8.8", "1-2.example", &longest] {
            assert_eq!(what(host), None, "{host}");
        }
    }

    #[test]
    fn what_telegram_cannot_look_up_is_named() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = format!("{}example", "a234567.".repeat(40));
        for (host, word) in [
            ("127.1", "four numbers"),
            ("0177.0.0.1", "four numbers"),
            ("10.1", "four numbers"),
            ("0x7f000001", "four numbers"),
            ("0x7f.0x1", "four numbers"),
            ("1.2.3.256", "four numbers"),
            ("2130706433", "four numbers"),
            ("127.1.", "four numbers"),
            ("bot..example.com", "no name of DNS"),
            (".example.com", "no name of DNS"),
            ("-bot.example.com", "no name of DNS"),
            ("bot-.example.com", "no name of DNS"),
            (&long, "no name of DNS"),
            (&longer, "no name of DNS"),
            ("localhost", "can resolve"),
            ("bot.localhost", "can resolve"),
            ("printer.local", "can resolve"),
            ("bot.corp.internal", "can resolve"),
            ("bot.test", "can resolve"),
            ("bot.invalid.", "can resolve"),
        ] {
            assert!(what(host).is_some_and(|what| what.contains(word)), "{host}: {:?}", what(host));
        }
    }
}
