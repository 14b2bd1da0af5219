//! What a request asks for: the bot's token with a method or a file, and which consumer asks.

use percent_encoding::percent_decode_str;

/// A path of the Bot API.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Address {
    /// As in `/consumer/2/bot..`.
    pub(super) consumer: Option<String>,
    pub(super) token: String,
    pub(super) wanted: Wanted,
}

#[derive(Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    Method {
        name: String,
        /// Whether it is one of Telegram's test environment.
        is_test: bool,
    },
    /// The path of a file as the client has encoded it.
    File(String),
}

impl Address {
    /// `None` where `path` is none of the Bot API.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let (consumer, path) = match path.strip_prefix("/consumer/") {
            Some(rest) => {
                let (consumer, _) = rest.split_once('/')?;
                (Some(consumer.to_owned()), rest.get(consumer.len()..)?)
            }
            None => (None, path),
        };
        if let Some(rest) = path.strip_prefix("/file/bot") {
            let (token, file) = rest.split_once('/')?;
            // A server might go up from there to a method.
            let plain = decoded(file)?;
            let is_inside = plain.split(['/', '\\']).all(|part| part != "." && part != "..");
            (is_inside && !file.is_empty()).then_some(())?;
            let wanted = Wanted::File(file.to_owned());
            return Some(Self { consumer, token: decoded(token)?, wanted });
        }
        let path = decoded(path)?;
        let (token, rest) = path.strip_prefix("/bot")?.split_once('/')?;
        let (name, is_test) = match rest.strip_prefix("test/") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        (!name.is_empty() && name.bytes().all(is_name)).then_some(())?;
        let wanted = Wanted::Method { name: name.to_owned(), is_test };
        Some(Self { consumer, token: token.to_owned(), wanted })
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    (!text.contains(char::is_control)).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(consumer: Option<&str>, name: &str, is_test: bool) -> Option<Address> {
        let wanted = Wanted::Method { name: name.to_owned(), is_test };
        Some(Address { consumer: consumer.map(str::to_owned), token: "1:A".to_owned(), wanted })
    }

    #[test]
    fn methods_and_files_are_told_apart() {
        assert_eq!(Address::parse("/bot1:A/getUpdates"), method(None, "getUpdates", false));
        assert_eq!(Address::parse("/bot1%3AA/get%55pdates"), method(None, "getUpdates", false));
        assert_eq!(Address::parse("/bot1:A/test/getMe"), method(None, "getMe", true));
        let second = method(Some("2"), "getUpdates", false);
        assert_eq!(Address::parse("/consumer/2/bot1:A/getUpdates"), second);
        let file = Address::parse("/file/bot1:A/photos/a%20b..jpg");
        let wanted = Wanted::File("photos/a%20b..jpg".to_owned());
        assert_eq!(file, Some(Address { consumer: None, token: "1:A".to_owned(), wanted }));
    }

    #[test]
    fn what_might_lead_elsewhere_is_no_address() {
        for path in [
            "",
            "/",
            "/bot1:A",
            "/bot1:A/",
            "/bot1:A/get/Me",
            "/bot1:A/../bot2:B/getMe",
            "/bot1:A/deleteWebhook%3Fx",
            "/bot1:A/delete%00Webhook",
            "/bot1:A/%ff",
            "/consumer/2",
            "/file/bot1:A/",
            "/file/bot1:A/../bot1:A/deleteWebhook",
            "/file/bot1:A/x/%2e%2E/y",
            "/file/bot1:A/x%2f..%2fy",
            "/file/bot1:A/..\\y",
            "/other/bot1:A/getMe",
        ] {
            assert_eq!(Address::parse(path), None, "{path}");
        }
    }
}
