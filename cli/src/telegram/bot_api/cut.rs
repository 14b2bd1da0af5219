//! JSON taken apart by its brackets and quotes alone. What is between them is not looked at: one
//! update that cannot be read must not keep those beside it from being read.

/// The value of `key` in the object `text`, as it stands there; of several, the first. `None` where
/// there is none, or `text` is no object that ends.
pub(super) fn member<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut rest = after(text, b'{')?;
    loop {
        let (name, behind) = value(rest)?;
        let name = name.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let (found, behind) = value(after(behind, b':')?)?;
        if name == key {
            return Some(found);
        }
        rest = after(behind, b',')?;
    }
}

/// The elements of the array `text`, each as it stands there; `None` where it is no array that
/// ends.
pub(super) fn elements(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = after(text, b'[')?;
    let mut all = Vec::new();
    if after(rest, b']').is_some() {
        return Some(all);
    }
    loop {
        let (element, behind) = value(rest)?;
        all.push(element);
        match behind.trim_ascii_start().split_first()? {
            (b',', behind) => rest = behind,
            (b']', _) => return Some(all),
            _ => return None,
        }
    }
}

/// What is behind `byte`, with which `text` begins but for white space.
fn after(text: &[u8], byte: u8) -> Option<&[u8]> {
    let (first, rest) = text.trim_ascii_start().split_first()?;
    (*first == byte).then_some(rest)
}

/// The value with which `text` begins, and what is behind it. It ends where its brackets and quotes
/// do, or where it has none, before what cannot be a part of it.
fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for (place, byte) in text.iter().enumerate() {
        if is_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_text = false,
                _ => {}
            }
            if is_text || depth > 0 {
                continue;
            }
        } else {
            match byte {
                b'"' => {
                    is_text = true;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' | b':' if depth == 0 => {
                    return text.split_at_checked(place).filter(|(value, _)| !value.is_empty());
                }
                b'}' | b']' => depth -= 1,
                _ if depth == 0 && byte.is_ascii_whitespace() => {
                    return text.split_at_checked(place);
                }
                _ => {}
            }
            if depth > 0 || !matches!(byte, b'}' | b']') {
                continue;
            }
        }
        return text.split_at_checked(place + 1);
    }
    // Brackets or quotes that do not end; what has none ends with the text.
    let is_whole = depth == 0 && !is_text && !text.is_empty();
    is_whole.then_some((text, &[][..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(parts: Option<Vec<&[u8]>>) -> Option<Vec<String>> {
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        parts.map(|parts| parts.into_iter().map(text).collect())
    }

    #[test]
    fn parts_are_found_by_brackets_and_quotes_alone() {
        let object = br#" { "a" : [1, {"b":"]}\"\\"} ] ,"b":"x\\","update_id" : -7 , "a":2 } "#;
        assert_eq!(member(object, b"a"), Some(&br#"[1, {"b":"]}\"\\"} ]"#[..]));
        assert_eq!(member(object, b"b"), Some(&br#""x\\""#[..]));
        assert_eq!(member(object, b"update_id"), Some(&b"-7"[..]));
        assert_eq!(member(object, b"c"), None);
        assert_eq!(member(b"{}", b"a"), None);
        let all = elements(b"[ {\"a\":\"\xff\x00,\"} ,[],\"s\" , 1.5e3,null,\"\\ud800\"]");
        let all = texts(all).unwrap_or_default();
        assert_eq!(all, ["{\"a\":\"\u{fffd}\0,\"}", "[]", "\"s\"", "1.5e3", "null", "\"\\ud800\""]);
        assert_eq!(texts(elements(b"[]")), Some(Vec::new()));
    }

    #[test]
    fn what_does_not_end_has_no_parts() {
        for cut in ["", "[", "[{}", "[{},", "[{}, {\"a\":1]", "[\"a]", "[1 2]", "{}", "[,]", "[1,]"]
        {
            assert_eq!(elements(cut.as_bytes()), None, "{cut}");
        }
        for cut in
            ["", "{", "{\"a\"", "{\"a\":", "{\"a\":[1", "[\"a\"]", "{a:1}", "{\"b\":1 \"a\":2}"]
        {
            assert_eq!(member(cut.as_bytes(), b"a"), None, "{cut}");
        }
    }

    #[test]
    fn depth_is_no_limit() {
        let deep = [vec![b'['; 1 << 20], vec![b']'; 1 << 20]].concat();
        assert_eq!(elements(&deep).map(|all| all.len()), Some(1));
    }
}
