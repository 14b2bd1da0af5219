//! Sends the updates of a file instead of made-up ones.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::BufReader,
    path::PathBuf,
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    ChatKey, Error, UpdateKind,
    lines::{Line, read_line},
};

/// A file with the user's own updates, one as JSON on each line, as ringhook's sink writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The file.
    pub file: PathBuf,
    /// Whether the updates get ids without gaps from
    /// [`Options::first_update_id`](crate::Options::first_update_id) on; otherwise they keep
    /// theirs.
    pub renumber: bool,
}

/// How much of the file is read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file that is read as its updates fall due. What is read and not done is held.
pub(crate) struct Replayed {
    renumber: bool,
    first_update_id: u64,
    len: u64,
    ahead: RefCell<Ahead>,
}

struct Ahead {
    file: BufReader<File>,
    /// The number in the run of the next line.
    next: u64,
    held: HashMap<u64, Held>,
    /// Lines that are not needed any more, to be used again.
    spare: Vec<Vec<u8>>,
}

struct Held {
    line: Vec<u8>,
    queue: Option<(UpdateKind, ChatKey)>,
}

/// What every update has.
#[derive(Deserialize)]
struct JustId {
    #[serde(rename = "update_id")]
    _update_id: u64,
}

impl Replayed {
    pub(crate) fn open(replay: &Replay, first_update_id: u64) -> Result<Self, Error> {
        let failed = |error: std::io::Error| {
            Error::Option(format!("cannot read {}: {error}", replay.file.display()))
        };
        let open = || -> Result<BufReader<File>, Error> {
            let file = File::open(&replay.file).map_err(failed)?;
            Ok(BufReader::with_capacity(BUFFER_BYTES, file))
        };
        let (mut file, mut line) = (open()?, Vec::new());
        let (mut number, mut len) = (0_u64, 0);
        loop {
            number += 1;
            let sound = match read_line(&mut file, &mut line).map_err(failed)? {
                Line::End => break,
                Line::Whole if line.trim_ascii().is_empty() => continue,
                Line::Whole => serde_json::from_slice::<JustId>(&line).is_ok(),
                Line::TooLong => false,
            };
            if !sound {
                return Err(Error::Option(format!(
                    "{}, line {number}: expected an update as JSON with an update_id, of 1 MiB at \
                     most",
                    replay.file.display()
                )));
            }
            len += 1;
        }
        if len == 0 {
            return Err(Error::Option(format!("{}: expected updates", replay.file.display())));
        }
        let ahead =
            Ahead { file: open()?, next: first_update_id, held: HashMap::new(), spare: Vec::new() };
        Ok(Self { renumber: replay.renumber, first_update_id, len, ahead: RefCell::new(ahead) })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends an update; nothing if the file has become shorter meanwhile, which the server then
    /// answers as it likes.
    pub(crate) fn write(&self, out: &mut Vec<u8>, id: u64) {
        let mut ahead = self.ahead.borrow_mut();
        let Some(held) = ahead.read_up_to(id) else { return };
        match self.renumber {
            true => renumber(&held.line, id, out),
            false => out.extend_from_slice(&held.line),
        }
    }

    /// The kind and the ordering key of an update.
    pub(crate) fn queue_of(&self, id: u64) -> (UpdateKind, ChatKey) {
        let mut ahead = self.ahead.borrow_mut();
        let unknown = (UpdateKind::Message, ChatKey::Update(id));
        let Some(held) = ahead.read_up_to(id) else { return unknown };
        *held.queue.get_or_insert_with(|| queue(&held.line).unwrap_or(unknown))
    }

    pub(crate) fn done(&self, id: u64) {
        let mut ahead = self.ahead.borrow_mut();
        if let Some(held) = ahead.held.remove(&id)
            && ahead.spare.len() < SPARE_MAX
        {
            ahead.spare.push(held.line);
        }
        debug_assert!(id >= self.first_update_id);
    }
}

/// How many lines are kept to be used again.
const SPARE_MAX: usize = 1024;

impl Ahead {
    fn read_up_to(&mut self, id: u64) -> Option<&mut Held> {
        while self.next <= id {
            let mut line = self.spare.pop().unwrap_or_default();
            match read_line(&mut self.file, &mut line) {
                Ok(Line::Whole) if line.trim_ascii().is_empty() => self.spare.push(line),
                Ok(Line::Whole) => {
                    self.held.insert(self.next, Held { line, queue: None });
                    self.next += 1;
                }
                _ => return None,
            }
        }
        self.held.get_mut(&id)
    }
}

/// Appends an update with another id.
fn renumber(line: &[u8], id: u64, out: &mut Vec<u8>) {
    // As Telegram and most sinks write it: first.
    const START: &[u8] = br#"{"update_id":"#;
    if let Some(rest) = line.strip_prefix(START)
        && let Some(end) = rest.iter().position(|byte| !byte.is_ascii_digit())
        && end > 0
    {
        out.extend_from_slice(START);
        crate::payload::push_number(out, id);
        out.extend_from_slice(rest.get(end..).unwrap_or_default());
        return;
    }
    let Ok(Value::Object(mut update)) = serde_json::from_slice(line) else { return };
    update.insert("update_id".to_owned(), id.into());
    // A map of text and values can always be written.
    out.extend_from_slice(Value::Object(update).to_string().as_bytes());
}

/// The kind of an update and what it is ordered by; none if we do not know the kind.
fn queue(line: &[u8]) -> Option<(UpdateKind, ChatKey)> {
    use UpdateKind as K;
    let update: Value = serde_json::from_slice(line).ok()?;
    let kind = *K::ALL.iter().find(|kind| update.get(kind.name()).is_some())?;
    let object = update.get(kind.name())?;
    let id = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let key = match kind {
        K::CallbackQuery => id("/message/chat/id").or_else(|| id("/from/id")),
        K::ChosenInlineResult
        | K::InlineQuery
        | K::PreCheckoutQuery
        | K::PurchasedPaidMedia
        | K::ShippingQuery => id("/from/id"),
        K::BusinessConnection | K::ManagedBot | K::Subscription => id("/user/id"),
        K::Poll | K::PollAnswer => {
            let name = if kind == K::Poll { "id" } else { "poll_id" };
            let poll = object.get(name)?.as_str()?;
            let number = poll.parse().unwrap_or_else(|_| {
                let mut hasher = DefaultHasher::new();
                poll.hash(&mut hasher);
                hasher.finish()
            });
            return Some((kind, ChatKey::Poll(number)));
        }
        _ => id("/chat/id"),
    };
    Some((kind, ChatKey::Chat(key?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ids_are_replaced_wherever_they_stand() {
        for (line, expected) in [
            (r#"{"update_id":12,"poll":{"id":"1"}}"#, r#"{"update_id":7,"poll":{"id":"1"}}"#),
            (
                r#"{"poll":{"update_id":1},"update_id":12}"#,
                r#"{"poll":{"update_id":1},"update_id":7}"#,
            ),
            (r#"{ "update_id": 12 }"#, r#"{"update_id":7}"#),
        ] {
            let mut out = Vec::new();
            renumber(line.as_bytes(), 7, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn updates_are_ordered_as_telegram_orders_them() {
        use UpdateKind as K;
        for (line, queue_of) in [
            (r#"{"message":{"chat":{"id":-5}}}"#, Some((K::Message, ChatKey::Chat(-5)))),
            (
                r#"{"callback_query":{"from":{"id":3},"message":{"chat":{"id":4}}}}"#,
                Some((K::CallbackQuery, ChatKey::Chat(4))),
            ),
            (r#"{"callback_query":{"from":{"id":3}}}"#, Some((K::CallbackQuery, ChatKey::Chat(3)))),
            (r#"{"poll_answer":{"poll_id":"77"}}"#, Some((K::PollAnswer, ChatKey::Poll(77)))),
            (r#"{"something_new":{"chat":{"id":4}}}"#, None),
        ] {
            assert_eq!(queue(line.as_bytes()), queue_of, "{line}");
        }
    }
}
