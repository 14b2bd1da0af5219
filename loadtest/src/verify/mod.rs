//! Compares what a sink holds with what was sent.
//!
//! One pass over the lines. Memory is a bit per update and a number per chat, whatever the size of
//! the file: the updates themselves are made again, one by one.

mod expected;
mod same;

use std::{collections::HashMap, fmt, io::BufRead};

use serde::{Deserialize, Serialize};

pub use self::expected::Expected;
use self::same::{Compared, Comparison};

use crate::{
    ChatKey, Error, PayloadGenerator, UpdateKind, chat_of, kind_of,
    lines::{Line, read_line},
};

/// What a sink holds and lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Whether it is what was expected.
    pub ok: bool,
    /// How many updates were expected.
    pub expected: u64,
    /// How many of them are there.
    pub found: u64,
    /// How many lines there are.
    pub lines: u64,
    /// Updates that are not there.
    pub missing: Offences,
    /// Lines with an update that an earlier line has; no offence where more than
    /// [once](Expected::once) is allowed.
    pub doubled: Offences,
    /// Updates that come first after a later one of the same chat; no offence where no
    /// [order](Expected::ordered) was kept.
    pub reordered: Offences,
    /// Lines with an update whose value is not the one that was sent.
    pub altered: Offences,
    /// Lines with an update that was not sent.
    pub unknown: Offences,
    /// Lines that are no JSON or no update, by their number from 1.
    pub unreadable: Offences,
}

/// Offences of one sort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Offences {
    /// How many there are.
    pub count: u64,
    /// The ids of the first, [`Offences::FIRST_MAX`] at most.
    pub first: Vec<u64>,
}

impl Offences {
    /// How many are named.
    pub const FIRST_MAX: usize = 10;

    fn add(&mut self, id: u64) {
        self.count += 1;
        if self.first.len() < Self::FIRST_MAX {
            self.first.push(id);
        }
    }
}

/// Compares the lines of `sink`, each an update as JSON, with what was sent.
///
/// It is the value that counts, not the writing. What was sent but never acknowledged is missing,
/// too, if it is not there.
///
/// ```
/// use loadtest::{Expected, PayloadGenerator, PayloadOptions, verify};
///
/// # fn main() -> Result<(), loadtest::Error> {
/// let payload = PayloadOptions::default();
/// let mut line = Vec::new();
/// PayloadGenerator::new(&payload).write(&mut line, 7);
/// line.retain(|byte| *byte != b'\n');
/// let expected =
///     Expected { first_update_id: 7, updates: 2, ..Expected::new(payload) };
/// let verified = verify(&expected, line.as_slice())?;
/// assert_eq!((verified.found, verified.missing.first), (1, vec![8]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Sink`] if it cannot be read, [`Error::Option`] if too much is expected.
pub fn verify(expected: &Expected, mut sink: impl BufRead) -> Result<Verified, Error> {
    expected.check()?;
    let mut check = Check::new(expected);
    let mut line = Vec::new();
    loop {
        match read_line(&mut sink, &mut line).map_err(Error::Sink)? {
            Line::End => return Ok(check.finish()),
            Line::TooLong => check.unreadable(),
            Line::Whole => check.line(&line),
        }
    }
}

/// A sink as far as it was read.
struct Check<'a> {
    expected: &'a Expected,
    updates: PayloadGenerator,
    /// Which updates were there: a bit for each, in words.
    found: Vec<u64>,
    /// The highest id of each chat so far, and of each kind of its updates if these are apart.
    last: HashMap<(Option<UpdateKind>, i64), u64>,
    comparison: Comparison,
    body: Vec<u8>,
    verified: Verified,
}

impl<'a> Check<'a> {
    fn new(expected: &'a Expected) -> Self {
        Self {
            expected,
            updates: PayloadGenerator::new(&expected.payload),
            found: vec![0; expected.updates.div_ceil(64) as usize],
            last: HashMap::new(),
            comparison: Comparison::default(),
            body: Vec::new(),
            verified: Verified { expected: expected.updates, ..Verified::default() },
        }
    }

    fn line(&mut self, line: &[u8]) {
        let Some(id) = update_id(line) else { return self.unreadable() };
        let index = id.wrapping_sub(self.expected.first_update_id);
        if index >= self.expected.updates {
            self.verified.lines += 1;
            self.verified.unknown.add(id);
            return;
        }
        self.body.clear();
        self.updates.write(&mut self.body, id);
        match self.comparison.compare(line, &self.body) {
            Compared::NoJson => return self.unreadable(),
            Compared::Different => self.verified.altered.add(id),
            Compared::Same => {}
        }
        self.verified.lines += 1;
        if self.find(index) {
            self.follow(id);
        } else {
            self.verified.doubled.add(id);
        }
    }

    fn unreadable(&mut self) {
        self.verified.lines += 1;
        self.verified.unreadable.add(self.verified.lines);
    }

    /// Notes that an update is there. Whether it was not before.
    fn find(&mut self, index: u64) -> bool {
        let bit = 1 << (index % 64);
        let Some(word) = self.found.get_mut((index / 64) as usize) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        self.verified.found += u64::from(new);
        new
    }

    /// Notes that an update is there for the first time, after all that were before.
    fn follow(&mut self, id: u64) {
        // A poll has one update only, so there is no order to keep.
        let ChatKey::Chat(chat) = chat_of(&self.expected.payload, id) else { return };
        let kind = self.expected.kinds_apart.then(|| kind_of(&self.expected.payload, id));
        let last = self.last.entry((kind, chat)).or_insert(id);
        if id < *last {
            self.verified.reordered.add(id);
        }
        *last = id.max(*last);
    }

    fn finish(self) -> Verified {
        let Self { expected, found, mut verified, .. } = self;
        verified.missing.count = verified.expected - verified.found;
        let first = (0..expected.updates)
            .filter(|index| {
                found.get((index / 64) as usize).is_some_and(|w| w >> (index % 64) & 1 == 0)
            })
            .take(Offences::FIRST_MAX);
        verified.missing.first = first.map(|index| expected.first_update_id + index).collect();
        let Verified { missing, doubled, reordered, altered, unknown, unreadable, .. } = &verified;
        let offences = missing.count + altered.count + unknown.count + unreadable.count;
        verified.ok = offences == 0
            && !(expected.once && doubled.count > 0)
            && !(expected.ordered && reordered.count > 0);
        verified
    }
}

/// The id of an update, as a rule without parsing the whole of it.
fn update_id(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Update {
        update_id: u64,
    }
    // As sinks write it: first, without white space. Not followed by a digit, dot or exponent.
    let quick = line.strip_prefix(br#"{"update_id":"#).and_then(|rest| {
        let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = rest.split_at(end);
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (rest.first() == Some(&b',')).then_some(number)
    });
    quick.or_else(|| Some(serde_json::from_slice::<Update>(line).ok()?.update_id))
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "expected        {}", self.expected)?;
        writeln!(f, "found           {}  (in {} lines)", self.found, self.lines)?;
        for (name, offences) in [
            ("missing", &self.missing),
            ("doubled", &self.doubled),
            ("reordered", &self.reordered),
            ("altered", &self.altered),
            ("unknown", &self.unknown),
            ("unreadable", &self.unreadable),
        ] {
            write!(f, "{name:<16}{}", offences.count)?;
            let unit = if name == "unreadable" { "line" } else { "id" };
            for (index, id) in offences.first.iter().enumerate() {
                write!(
                    f,
                    "{} {id}",
                    if index == 0 { format!("  {unit}") } else { ",".to_owned() }
                )?;
            }
            let more = offences.count > offences.first.len() as u64;
            writeln!(f, "{}", if more { ", ..." } else { "" })?;
        }
        writeln!(f, "{}", if self.ok { "as expected" } else { "NOT as expected" })
    }
}
