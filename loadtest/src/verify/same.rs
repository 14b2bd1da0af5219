//! Whether two JSON texts have the same value.

use serde_json::Value;

/// Compares texts; keeps its memory from one to the next.
#[derive(Default)]
pub(super) struct Comparison {
    one: Vec<u8>,
    two: Vec<u8>,
}

/// How a text compares with another, which is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Different,
    NoJson,
    Same,
}

impl Comparison {
    /// Compares `text` with `json`.
    ///
    /// A sink mostly writes strings in another way and drops white space, and keeps the rest. That
    /// is seen without parsing; only what differs still is parsed.
    pub(super) fn compare(&mut self, text: &[u8], json: &[u8]) -> Compared {
        self.one.clear();
        self.two.clear();
        if simplify(text, &mut self.one) && simplify(json, &mut self.two) && self.one == self.two {
            return Compared::Same;
        }
        match (serde_json::from_slice::<Value>(text), serde_json::from_slice::<Value>(json)) {
            (Ok(one), Ok(two)) if one == two => Compared::Same,
            (Ok(_), Ok(_)) => Compared::Different,
            _ => Compared::NoJson,
        }
    }
}

/// Appends JSON to `out` with every string written in one way, and without white space where it
/// surely means nothing. False if a string is none.
///
/// Texts that come out equal have equal values, provided that one is JSON: what is no JSON comes
/// out as something that is none either. Equal values may come out differently.
fn simplify(mut json: &[u8], out: &mut Vec<u8>) -> bool {
    loop {
        let Some(quote) = json.iter().position(|byte| *byte == b'"') else {
            outside(json, out);
            return true;
        };
        let (before, string) = json.split_at(quote);
        outside(before, out);
        out.push(b'"');
        match inside(string.get(1..).unwrap_or_default(), out) {
            Some(rest) => json = rest,
            None => return false,
        }
    }
}

/// What stands between strings.
fn outside(json: &[u8], out: &mut Vec<u8>) {
    for byte in json {
        // After these, white space cannot part what would be something else together.
        let free = matches!(out.last(), None | Some(b'{' | b'[' | b',' | b':'));
        if !(free && matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
            out.push(*byte);
        }
    }
}

/// A string up to and with its closing quote; what follows it.
fn inside<'a>(mut json: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = json.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (plain, rest) = json.split_at(at);
        out.extend_from_slice(plain);
        match rest {
            [b'"', rest @ ..] => {
                out.push(b'"');
                return Some(rest);
            }
            [b'\\', b'u', rest @ ..] => json = unicode(rest, out)?,
            [b'\\', b'/', rest @ ..] => {
                out.push(b'/');
                json = rest;
            }
            [b'\\', letter @ (b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't'), rest @ ..] => {
                out.extend_from_slice(&[b'\\', *letter]);
                json = rest;
            }
            _ => return None,
        }
    }
}

/// The rest of a `\u` escape, or of the pair of them that a character beyond the basic plane needs.
fn unicode<'a>(json: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, mut rest) = unit(json)?;
    let mut code = first;
    if (0xd800..0xdc00).contains(&first) {
        let (second, after) = unit(rest.strip_prefix(b"\\u")?)?;
        code = 0x10000 + ((first - 0xd800) << 10) + second.checked_sub(0xdc00)?;
        // A second unit that is none is no low surrogate: then it is no text.
        if second > 0xdfff {
            return None;
        }
        rest = after;
    }
    match char::from_u32(code)? {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        // Other controls never come in updates; they are left to the parser.
        '\0'..' ' => return None,
        character => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
    Some(rest)
}

/// Four hexadecimal digits.
fn unit(json: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = json.split_at_checked(4)?;
    let mut unit = 0;
    for digit in digits {
        unit = unit << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((unit, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_in_another_writing_is_the_same() {
        for (one, two) in [
            (r#"{"a":1}"#, "{ \"a\": 1 }"),
            ("{\"a\":1,\n\"b\":[1,2]}", r#"{"b":[1,2],"a":1}"#),
            (
                r#""\u0416\u00e9 \ud83d\ude00\/\u0022\u005c\u000a\u0009\u0008""#,
                "\"Жé 😀/\\\"\\\\\\n\\t\\b\"",
            ),
            (r#""\u0001""#, r#""\u0001""#),
            ("[1.50,1e3]", "[1.5,1000.0]"),
        ] {
            assert_eq!(
                Comparison::default().compare(one.as_bytes(), two.as_bytes()),
                Compared::Same
            );
            assert_eq!(
                Comparison::default().compare(two.as_bytes(), one.as_bytes()),
                Compared::Same
            );
        }
    }

    #[test]
    fn another_value_is_different_and_nonsense_is_no_json() {
        let json = br#"{"a":[1,12],"b":"x \u0416"}"#;
        for (text, compared) in [
            (r#"{"a":[1,12],"b":"x Ж"}"#, Compared::Same),
            (r#"{"a":[1,12],"b":"x  Ж"}"#, Compared::Different),
            (r#"{"a":[1,12],"b":"xЖ"}"#, Compared::Different),
            (r#"{"a":[12,1],"b":"x Ж"}"#, Compared::Different),
            (r#"{"a":[1,12],"b":"x Ж","c":null}"#, Compared::Different),
            (r#"{"a":[1,1 2],"b":"x Ж"}"#, Compared::NoJson),
            (r#"{"a":[1,12],"b":"x Ж"#, Compared::NoJson),
            (r#"{"a":[1,12],"b":"x \u04"}"#, Compared::NoJson),
            (r#"{"a":[1,12],"b":"x \ud800\u0416"}"#, Compared::NoJson),
            (r#"{"a":[1,12],"b":"x Ж"}}"#, Compared::NoJson),
        ] {
            assert_eq!(Comparison::default().compare(text.as_bytes(), json), compared, "{text}");
        }
    }
}
