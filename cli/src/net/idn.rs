//! Hosts in letters that are not ASCII, as DNS, certificates and Telegram have them.

use std::borrow::Cow;

/// `host` as DNS has it: `xn--90a0am.xn--p1ai` for `бот.рф`. What is in ASCII stays as it is.
/// `None` where it is no name.
pub(crate) fn to_ascii(host: &str) -> Option<Cow<'_, str>> {
    if host.is_ascii() {
        return Some(Cow::Borrowed(host));
    }
    idna::domain_to_ascii(host).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_become_what_dns_has() {
        for (host, ascii) in [
            ("бот.рф", Some("xn--90a0am.xn--p1ai")),
            ("БОТ.РФ", Some("xn--90a0am.xn--p1ai")),
            ("*.бот.рф", Some("*.xn--90a0am.xn--p1ai")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("bu\u{308}cher.example", Some("xn--bcher-kva.example")),
            ("bot。example", Some("bot.example")),
            ("Bot.Example.com", Some("Bot.Example.com")),
            ("\u{ad}", None),
            ("a\u{202e}b.example", None),
        ] {
            assert_eq!(to_ascii(host).filter(|host| !host.is_empty()).as_deref(), ascii, "{host}");
        }
    }
}
