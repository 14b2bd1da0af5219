//! What is shown of URLs: people put a bot's token into the path of its webhook.

/// What stands where a token stood.
const HIDDEN: &str = "(hidden)";
/// What may stand between the id and the secret: a colon, as it is, in a URL, or in a URL in a URL.
const COLONS: [&str; 3] = [":", "%3a", "%253a"];
/// The fewest characters of a token's secret.
const SECRET_MIN: usize = 30;

/// `text` with all that looks like a bot's token hidden, of whichever bot.
pub fn hide_tokens(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (mut shown, mut rest, mut lower) = (String::new(), text, lower.as_str());
    let next = |lower: &str| {
        let found = COLONS.iter().filter_map(|colon| Some((lower.find(colon)?, colon.len())));
        found.min()
    };
    while let Some((at, length)) = next(lower) {
        let (before, _) = rest.split_at(at);
        let (through, after) = rest.split_at(at + length);
        let name = before.trim_end_matches(|c: char| c.is_ascii_digit());
        let secret = after.bytes().take_while(|byte| is_secret(*byte)).count();
        let end = if name.len() < before.len() && secret >= SECRET_MIN {
            shown.push_str(name);
            shown.push_str(HIDDEN);
            at + length + secret
        } else {
            shown.push_str(through);
            at + length
        };
        (_, rest) = rest.split_at(end);
        (_, lower) = lower.split_at(end);
    }
    shown.push_str(rest);
    shown
}

/// True for what a token's secret consists of.
fn is_secret(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_";

    #[test]
    fn hides_whatever_looks_like_a_token() {
        let text = format!("\u{e9} {TOKEN}, 1:{TOKEN} http://h:8443/{TOKEN}?a=%3A:");
        assert_eq!(hide_tokens(&text), "\u{e9} (hidden), 1:(hidden) http://h:8443/(hidden)?a=%3A:");
        for plain in
            ["", "https://h:8443/shop", "12:34:56", "x:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ_"]
        {
            assert_eq!(hide_tokens(plain), plain);
        }
    }
}
