//! One row of the table, and the words its requests are made of.

/// Bodies of 24 bytes whose ids the runners replace by fresh ones of the same length.
pub(crate) const ONE: &str = r#"{"update_id":1000000001}"#;
pub(crate) const TWO: &str = r#"{"update_id":1000000002}"#;
pub(crate) const THREE: &str = r#"{"update_id":1000000003}"#;
/// The length of these bodies as a field.
pub(crate) const LENGTH: &str = "Content-Length: 24\r\n";
/// What all ids in the table begin with; one digit follows.
const ID: &[u8] = b"100000000";
/// The number of the update in [`successor`].
pub(crate) const SUCCESSOR: i64 = 9;

/// A request, or several, and what has to become of it.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Where it is written that it has to be so.
    pub(crate) rule: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// The statuses of the answers, in order.
    pub(crate) answers: &'static [u16],
    /// The last digits of the ids that reach the handler.
    pub(crate) taken: &'static [i64],
    pub(crate) then: Then,
    /// Whether an invitation by 100 Continue may come before the first answer; it does where the
    /// body comes later than the head.
    pub(crate) invited: bool,
    /// Where the ids are.
    ids: Vec<usize>,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    /// The server closes it, and nothing behind the entry is looked at.
    Closes,
    /// The next request is answered.
    Stays,
    /// The entry is not a whole request: more bytes are awaited. Where FIN comes instead, the
    /// server closes without a word.
    Waits,
}

/// A row: name, rule, bytes; answers, what is taken, what becomes of the connection.
pub(crate) fn entry(
    (name, rule): (&'static str, &'static str),
    bytes: impl Into<Vec<u8>>,
    answers: &'static [u16],
    taken: &'static [i64],
    then: Then,
) -> Entry {
    let bytes = bytes.into();
    let ids = bytes.windows(ID.len()).enumerate();
    let ids = ids.filter(|(_, window)| *window == ID).map(|(at, _)| at).collect();
    let invited = bytes.windows(12).any(|window| window.eq_ignore_ascii_case(b"100-continue"));
    Entry { name, rule, bytes, answers, taken, then, invited, ids }
}

/// One that is taken, after which the connection stays.
pub(crate) fn taken(what: (&'static str, &'static str), bytes: impl Into<Vec<u8>>) -> Entry {
    entry(what, bytes, &[200], &[1], Then::Stays)
}

/// One that is refused, after which the connection stays.
pub(crate) fn refused(
    what: (&'static str, &'static str),
    bytes: impl Into<Vec<u8>>,
    answer: &'static [u16; 1],
) -> Entry {
    entry(what, bytes, answer, &[], Then::Stays)
}

/// One that is refused and ends its connection.
pub(crate) fn fatal(
    what: (&'static str, &'static str),
    bytes: impl Into<Vec<u8>>,
    answer: &'static [u16; 1],
) -> Entry {
    entry(what, bytes, answer, &[], Then::Closes)
}

impl Entry {
    /// It expects an invitation, and none may come.
    pub(crate) fn uninvited(mut self) -> Self {
        self.invited = false;
        self
    }

    /// Its bytes with ids that begin with `serial`, and so with those of no other serial number.
    pub(crate) fn bytes_of(&self, serial: i64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let id = id(serial, 0).to_string();
        for at in &self.ids {
            // The last digit stays as it is.
            bytes[*at..at + ID.len()].copy_from_slice(&id.as_bytes()[..ID.len()]);
        }
        bytes
    }

    /// A good request with the ids of `serial`.
    pub(crate) fn successor(serial: i64) -> Vec<u8> {
        let body = ONE.replace("1000000001", &id(serial, SUCCESSOR).to_string());
        post(LENGTH, &body).into_bytes()
    }

    /// Whether a good request behind this one is answered; `None` where it would be read as a part
    /// of this one.
    pub(crate) fn successor_is_answered(&self) -> Option<bool> {
        match self.then {
            Then::Closes => Some(false),
            Then::Stays => Some(true),
            Then::Waits => None,
        }
    }
}

/// The id that stands for the digit `last` in the bytes of `serial`.
pub(crate) fn id(serial: i64, last: i64) -> i64 {
    1_000_000_000 + 10 * serial + last
}

/// A POST to the bot without a secret; `fields` end with CR LF each.
pub(crate) fn post(fields: &str, body: &str) -> String {
    to("/o", fields, body)
}

/// A POST to `target`.
pub(crate) fn to(target: &str, fields: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// A request that begins with `line` and is good besides.
pub(crate) fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n{LENGTH}\r\n{ONE}")
}

/// A good request with `field`, CR LF behind it.
pub(crate) fn with(field: &str) -> String {
    post(&format!("{field}\r\n{LENGTH}"), ONE)
}

/// As [`with`], for bytes that are no text.
pub(crate) fn with_bytes(field: &[u8]) -> Vec<u8> {
    let text = with("@");
    let at = text.find('@').unwrap();
    [&text.as_bytes()[..at], field, &text.as_bytes()[at + 1..]].concat()
}
