//! Names in messages: lists of them, and the one that was meant.

use std::fmt::Write as _;

use strsim::levenshtein;

/// `a, b or c`, with `or` as the last word between; empty of nothing.
pub(super) fn list<T: AsRef<str>>(names: &[T], last: &str) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        let between = match at {
            0 => "",
            at if at + 1 == names.len() => last,
            _ => ", ",
        };
        let _ = write!(text, "{between}{}", name.as_ref());
    }
    text
}

/// `; did you mean "message"?` where one of `names` is like `name`, else nothing.
pub(super) fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, names) {
        Some(meant) => format!("; did you mean {meant:?}?"),
        None => String::new(),
    }
}

/// The one of `names` that is most like `name`; `None` where none is near.
fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let far = names.into_iter().map(|other| (levenshtein(&name, &other.to_lowercase()), other));
    let (distance, nearest) = far.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 4).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_was_meant() {
        let names = ["bot", "audit"];
        assert_eq!(did_you_mean("Adit", names), "; did you mean \"audit\"?");
        assert_eq!(did_you_mean("database", names), "");
        assert_eq!(did_you_mean("audit", []), "");
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(list(&["a", "b", "c"], " or "), "a, b or c");
        assert_eq!(list(&["a", "b"], " and "), "a and b");
        assert_eq!((list(&["a"], " or "), list::<&str>(&[], " or ")), ("a".into(), String::new()));
    }
}
