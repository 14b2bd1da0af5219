//! The parameters of a method, in each form in which a client may send them.

use std::{collections::HashMap, ops::RangeInclusive};

use memchr::memmem;
use percent_encoding::percent_decode;
use ringhook::update::UpdateKind;
use serde_json::{Map, Value};

use crate::parameter::parameter;

/// The most parameters that are taken of one request.
const PARAMS_MAX: usize = 256;

/// Parameters by name, in lower case. Of several with one name, the first counts.
#[derive(Debug, Default)]
pub(super) struct Params(HashMap<String, String>);

/// Which kinds of updates a client wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Allowed {
    /// All that the webhook brings.
    All,
    Only(Vec<UpdateKind>),
}

impl Params {
    /// Of a request with this query, and a body of this `Content-Type`. What can not be read is
    /// left out.
    pub(super) fn parse(query: &str, content_type: &str, body: &[u8]) -> Self {
        let mut this = Self::default();
        this.add_form(query.as_bytes());
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/x-www-form-urlencoded" => this.add_form(body),
            "application/json" => this.add_json(body),
            "multipart/form-data" => {
                if let Some(boundary) = parameter(content_type, "boundary") {
                    this.add_multipart(&boundary, body);
                }
            }
            _ => {}
        }
        this
    }

    fn add(&mut self, name: &str, value: String) {
        if self.0.len() < PARAMS_MAX {
            self.0.entry(name.to_ascii_lowercase()).or_insert(value);
        }
    }

    fn add_form(&mut self, form: &[u8]) {
        for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let (name, value) = pair.split_at(at);
            let value = value.strip_prefix(b"=").unwrap_or(value);
            self.add(&decoded(name), decoded(value));
        }
    }

    fn add_json(&mut self, body: &[u8]) {
        let Ok(object) = serde_json::from_slice::<Map<String, Value>>(body) else { return };
        for (name, value) in object {
            let value = match value {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            self.add(&name, value);
        }
    }

    fn add_multipart(&mut self, boundary: &str, body: &[u8]) {
        let delimiter = format!("--{boundary}");
        let mut rest = body;
        while let Some(at) = memmem::find(rest, delimiter.as_bytes()) {
            rest = rest.get(at + delimiter.len()..).unwrap_or_default();
            let Some(part) = rest.strip_prefix(b"\r\n") else { return };
            let end = memmem::find(part, delimiter.as_bytes()).unwrap_or(part.len());
            let part = part.get(..end).unwrap_or_default();
            let Some(head_end) = memmem::find(part, b"\r\n\r\n") else { continue };
            let (head, value) = part.split_at(head_end);
            let value = value.get(4..).unwrap_or_default();
            let value = value.strip_suffix(b"\r\n").unwrap_or(value);
            let head = String::from_utf8_lossy(head);
            let name = head.split("\r\n").find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case("content-disposition").then_some(())?;
                parameter(value, "name")
            });
            if let Some(name) = name {
                self.add(&name, String::from_utf8_lossy(value).into_owned());
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A number within `range`, read as the Bot API does: as far as there are digits.
    pub(super) fn number(&self, name: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let number = self.get(name).map_or(default, leading_number);
        number.clamp(*range.start(), *range.end())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        let value = self.get(name).unwrap_or_default().trim().to_ascii_lowercase();
        ["true", "yes", "1"].contains(&value.as_str())
    }

    /// What `allowed_updates` changes; `None` where it changes nothing.
    pub(super) fn allowed_updates(&self) -> Option<Allowed> {
        let Value::Array(names) = serde_json::from_str(self.get("allowed_updates")?).ok()? else {
            return None;
        };
        let names: Option<Vec<_>> = names.iter().map(Value::as_str).collect();
        let kinds = names?.into_iter().filter_map(|name| name.to_ascii_lowercase().parse().ok());
        let kinds: Vec<UpdateKind> = kinds.collect();
        Some(if kinds.is_empty() { Allowed::All } else { Allowed::Only(kinds) })
    }
}

impl Allowed {
    /// Whether updates of this kind are handed out. One of which nothing is known can not be named.
    pub(super) fn has(&self, kind: UpdateKind) -> bool {
        match self {
            Self::All => true,
            Self::Only(kinds) => kind == UpdateKind::Unknown || kinds.contains(&kind),
        }
    }
}

fn decoded(text: &[u8]) -> String {
    let spaced: Vec<u8> =
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

/// The number that `text` begins with; 0 where it does not.
fn leading_number(text: &str) -> i64 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    sign * digits
        .fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn parameters_come_in_all_forms() {
        let multipart = "--b\r\nContent-Disposition: form-data; name=\"offset\"\r\n\r\n-7\r\n\
                         --b\r\nContent-Disposition: form-data; name=Limit\r\n\r\n5\r\n--b--\r\n";
        for (query, kind, body) in [
            ("offset=-7&limit=5", "", ""),
            ("offset=%2D7&LIMIT=5", "text/plain", "limit=9"),
            ("", "application/x-www-form-urlencoded; charset=utf-8", "offset=-7&limit=5"),
            ("", "application/json", r#"{"offset":-7,"limit":"5","timeout":null}"#),
            ("offset=-7", "Application/JSON", r#"{"offset":8,"limit":5}"#),
            ("", "multipart/form-data; boundary=b", multipart),
        ] {
            let params = Params::parse(query, kind, body.as_bytes());
            assert_eq!(params.number("offset", 0, -10..=10), -7, "{kind} {query}");
            assert_eq!(params.number("limit", 100, 1..=100), 5, "{kind} {query}");
            assert_eq!(params.get("timeout"), None);
        }
    }

    #[test]
    fn numbers_are_read_as_the_bot_api_does() {
        for (text, expected) in [
            ("7", 7),
            ("", 3),
            ("x", 0),
            ("12x", 12),
            ("-", 0),
            ("99999999999999999999", 50),
            ("-99999999999999999999", -50),
        ] {
            let params = Params::parse(&format!("n={text}"), "", b"");
            assert_eq!(params.number("n", 3, -50..=50), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_list_of_names_changes_nothing() {
        let allowed =
            |value: &str| Params::parse("", "application/json", value.as_bytes()).allowed_updates();
        let only = |kind: &str| Some(Allowed::Only(vec![kind.parse().unwrap()]));
        assert_eq!(allowed(r#"{"allowed_updates":["Message"]}"#), only("message"));
        assert_eq!(allowed(r#"{"allowed_updates":"[\"poll\",\"new_one\"]"}"#), only("poll"));
        assert_eq!(allowed(r#"{"allowed_updates":[]}"#), Some(Allowed::All));
        assert_eq!(allowed(r#"{"allowed_updates":["new_one"]}"#), Some(Allowed::All));
        for nothing in ["[1]", "\"message\"", "{}", "null", "\"[\""] {
            assert_eq!(allowed(&format!("{{\"allowed_updates\":{nothing}}}")), None, "{nothing}");
        }
    }

    #[test]
    fn broken_bodies_have_no_parameters() {
        for (kind, body) in [
            ("application/json", "[1]"),
            ("application/json", "{"),
            ("multipart/form-data", "--b"),
            ("multipart/form-data; boundary=b", "--b\r\nno head"),
            ("multipart/form-data; boundary=b", "--bx"),
        ] {
            let params = Params::parse("", kind, body.as_bytes());
            assert!(params.0.is_empty(), "{params:?}");
        }
    }
}
