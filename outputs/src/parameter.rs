//! Parameters of header values, as in `form-data; name="x"`.

/// The parameter `name` of a header's value, without its quotation marks.
pub(crate) fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (found, behind) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (token, behind) = after.split_at(after.find(';').unwrap_or(after.len()));
                (token.trim().to_owned(), behind)
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(found);
        }
        rest = behind.split_once(';')?.1;
    }
}

/// A quoted string without its quotation marks, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let (mut text, mut is_escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if is_escaped => {
                text.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return Some((text, quoted.get(at + 1..)?)),
            c => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn parameters_are_read_with_and_without_quotation_marks() {
        for (value, expected) in [
            ("form-data; name=method", Some("method")),
            ("form-data;NAME = \"a;b\\\"c\" ; x=y", Some("a;b\"c")),
            ("form-data; filename=\"name=x\"; name=y", Some("y")),
            ("form-data", None),
            ("form-data; name", None),
        ] {
            assert_eq!(parameter(value, "name").as_deref(), expected, "{value}");
        }
    }
}
