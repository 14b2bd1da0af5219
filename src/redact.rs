//! Hiding of bots' tokens in texts that are shown: paths, URLs, hosts, names of files.

use std::fmt;

/// The replacement of a secret.
pub const HIDDEN: &str = "(hidden)";
/// What may stand between the id and the secret: a colon, as it is, in a URL, or in a URL in a URL.
const COLONS: [&str; 3] = [":", "%3a", "%253a"];
/// The fewest characters of a token's secret.
pub const SECRET_MIN: usize = 30;

/// Shows the value without what looks like a bot's token in it.
#[derive(Clone, Copy)]
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_tokens(&self.0.to_string()))
    }
}

impl<T: fmt::Debug> fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_tokens(&format!("{:?}", self.0)))
    }
}

/// `text` with all that looks like a bot's token hidden.
pub fn hide_tokens(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (mut shown, mut rest, mut lower) = (String::new(), text, lower.as_str());
    let next = |lower: &str| {
        let bytes = lower.as_bytes();
        memchr::memchr2_iter(b':', b'%', bytes).find_map(|at| {
            let here = bytes.get(at..)?;
            let colon = COLONS.iter().find(|colon| here.starts_with(colon.as_bytes()))?;
            Some((at, colon.len()))
        })
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
pub fn is_secret(byte: u8) -> bool {
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
