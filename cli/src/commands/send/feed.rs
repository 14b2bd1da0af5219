//! The updates that are sent: samples, or those of a file.

use std::{
    borrow::Cow,
    collections::HashSet,
    io::{self, Read as _},
    path::Path,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::telegram::samples;
use ringhook::{Error, ErrorKind, internals::files, update::UpdateKind};

/// Updates, again and again.
#[derive(Debug)]
pub(super) enum Feed {
    File(Vec<Stored>),
    Samples(Vec<UpdateKind>),
}

/// An update of a file: its text around the number of its id.
#[derive(Debug)]
pub(super) struct Stored {
    after: String,
    before: String,
    id: i64,
    kind: UpdateKind,
}

/// An update on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) body: Vec<u8>,
    pub(super) id: i64,
    pub(super) kind: UpdateKind,
}

impl Feed {
    /// A sample of each of `kinds`.
    pub(super) fn of_kinds<'a>(kinds: impl Iterator<Item = &'a UpdateKind>) -> Self {
        Self::Samples(kinds.copied().collect())
    }

    /// The updates in the file at `path`, or on standard input where that is `-`.
    ///
    /// # Errors
    /// Where there is something else in it; messages are not quoted.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { "standard input".into() } else { path.to_string_lossy() };
        let mut text = String::new();
        let read = match is_stdin {
            true => io::stdin().lock().read_to_string(&mut text).map(|_| ()),
            false => files::read_text(path).map(|read| text = read),
        };
        read.map_err(|source| Error::with_source(ErrorKind::Config, name.to_string(), source))?;
        Self::parse(&text).map_err(|why| Error::new(ErrorKind::Config, format!("{name}: {why}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut updates = Vec::new();
        // An editor of another system may have left a mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
            let value = value.map_err(|error| {
                format!("line {} is no JSON ({:?} error)", error.line(), error.classify())
            })?;
            for one in listed(value) {
                let stored = Stored::parse(one.get());
                updates.push(stored.map_err(|why| format!("line {}: {why}", line(text, one)))?);
            }
        }
        if updates.is_empty() {
            return Err("there is no update in it".to_owned());
        }
        Ok(Self::File(updates))
    }

    /// How many updates make a round.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::File(updates) => updates.len() as u64,
            Self::Samples(kinds) => kinds.len() as u64,
        }
    }

    /// The update at `index`, counted over all rounds, with `id` unless it `keeps_id`; `None` where
    /// there is nothing to send.
    pub(super) fn make(&self, index: u64, id: i64, keeps_id: bool) -> Option<Outgoing> {
        let place = usize::try_from(index.checked_rem(self.len())?).ok()?;
        match self {
            Self::File(updates) => {
                let Stored { after, before, id: own, kind } = updates.get(place)?;
                let id = if keeps_id { *own } else { id };
                let body = format!("{before}{id}{after}").into_bytes();
                Some(Outgoing { body, id, kind: *kind })
            }
            Self::Samples(kinds) => {
                let kind = *kinds.get(place)?;
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
                let body = samples::update(kind, id, now)?.into_bytes();
                Some(Outgoing { body, id, kind })
            }
        }
    }
}

impl Stored {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected an update, which is an object with the number update_id";
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            update_id: &'a RawValue,
        }
        /// As the sink writes it where there are several bots, or among the dead letters.
        #[derive(Deserialize)]
        struct Wrapped<'a> {
            #[serde(borrow)]
            bot: &'a RawValue,
            #[serde(borrow)]
            update: &'a RawValue,
        }
        let wrapped = serde_json::from_str::<Wrapped<'_>>(text).ok();
        let text =
            wrapped.filter(|it| it.bot.get().starts_with('"')).map_or(text, |it| it.update.get());
        let Head { update_id } = serde_json::from_str(text).map_err(|_| EXPECTED)?;
        let id = update_id.get().parse().map_err(|_| EXPECTED)?;
        let start = offset(text, update_id.get());
        let (before, rest) = text.split_at_checked(start).ok_or(EXPECTED)?;
        let after = rest.get(update_id.get().len()..).ok_or(EXPECTED)?;
        Ok(Self { after: after.to_owned(), before: before.to_owned(), id, kind: kind(text) })
    }
}

/// The values of an array, or of the result of a call of the Bot API; else the value itself.
fn listed(value: &RawValue) -> Vec<&RawValue> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        result: Vec<&'a RawValue>,
    }
    let text = value.get();
    let list = match text.as_bytes().first() {
        Some(b'[') => serde_json::from_str(text).ok(),
        _ => serde_json::from_str::<Answer<'_>>(text).ok().map(|answer| answer.result),
    };
    list.unwrap_or_else(|| vec![value])
}

fn kind(text: &str) -> UpdateKind {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Keys<'a> {
        #[serde(borrow)]
        keys: std::collections::HashMap<Cow<'a, str>, IgnoredAny>,
    }
    let keys = serde_json::from_str::<Keys<'_>>(text);
    let keys: HashSet<String> =
        keys.map(|keys| keys.keys.into_keys().map(Cow::into_owned).collect()).unwrap_or_default();
    let known = UpdateKind::ALL.iter().find(|kind| keys.contains(kind.as_str()));
    known.copied().unwrap_or(UpdateKind::Unknown)
}

/// Where `part` of `text` begins.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// The line on which `value` begins, from 1.
fn line(text: &str, value: &RawValue) -> usize {
    let before = text.get(..offset(text, value.get())).unwrap_or_default();
    1 + memchr::memchr_iter(b'\n', before.as_bytes()).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sent(text: &str, keeps_id: bool) -> Vec<(UpdateKind, i64, String)> {
        let feed = Feed::parse(text).unwrap();
        let made = (0..feed.len()).zip(100..).map(|(index, id)| feed.make(index, id, keeps_id));
        made.map(|update| {
            let Outgoing { body, id, kind } = update.unwrap();
            (kind, id, String::from_utf8(body).unwrap())
        })
        .collect()
    }

    #[test]
    fn a_files_updates_keep_every_byte_but_the_id() {
        let pretty = "{\n  \"poll\": {\"q\": \"\u{416}\"},\n  \"update_id\" : 7 }\n";
        let expected = "{\n  \"poll\": {\"q\": \"\u{416}\"},\n  \"update_id\" : 100 }";
        assert_eq!(sent(pretty, false), [(UpdateKind::Poll, 100, expected.to_owned())]);
        let kept = pretty.trim_end().to_owned();
        assert_eq!(sent(pretty, true), [(UpdateKind::Poll, 7, kept)]);
        let lines = "{\"update_id\":7,\"message\":{\"update_id\":9}}\r\n\n{\"update_id\":8}\n";
        assert_eq!(
            sent(lines, false),
            [
                (
                    UpdateKind::Message,
                    100,
                    "{\"update_id\":100,\"message\":{\"update_id\":9}}".to_owned()
                ),
                (UpdateKind::Unknown, 101, "{\"update_id\":101}".to_owned()),
            ]
        );
    }

    #[test]
    fn an_answer_of_get_updates_and_a_list_will_do() {
        let list = "[{\"update_id\":1},\n{\"update_id\":2}]";
        assert_eq!(sent(list, true).len(), 2);
        let answer = format!("{{\"ok\":true,\"result\":{list}}}");
        let bodies: Vec<_> = sent(&answer, true).into_iter().map(|(.., body)| body).collect();
        assert_eq!(bodies, ["{\"update_id\":1}", "{\"update_id\":2}"]);
    }

    #[test]
    fn what_is_no_update_is_named_by_its_line_and_not_quoted() {
        let error = |text: &str| Feed::parse(text).unwrap_err();
        assert_eq!(error(" \n"), "there is no update in it");
        assert_eq!(error("{\"update_id\":1}\n{\"x\": secret}"), "line 2 is no JSON (Syntax error)");
        assert_eq!(error("{\"update_id\":1"), "line 1 is no JSON (Eof error)");
        let expected = "line 2: expected an update, which is an object with the number update_id";
        for second in ["{\"text\":\"secret\"}", "7", "{\"update_id\":\"7\"}", "{\"update_id\":7.5}"]
        {
            assert_eq!(error(&format!("{{\"update_id\":1}}\n{second}")), expected);
        }
    }

    #[test]
    fn samples_come_round_and_round() {
        let feed = Feed::of_kinds([UpdateKind::Poll, UpdateKind::Message].iter());
        let kinds: Vec<_> = (0..3).map(|index| feed.make(index, 5, false).unwrap().kind).collect();
        assert_eq!(kinds, [UpdateKind::Poll, UpdateKind::Message, UpdateKind::Poll]);
        assert!(feed.make(0, 5, false).unwrap().body.starts_with(b"{\"update_id\":5,\n\"poll\":{"));
    }
}
