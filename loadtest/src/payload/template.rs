//! A rendered body with places left for what differs from update to update.

use super::kind::UpdateKind;

/// What is written over a place of a template. Each has a fixed number of digits, so that every
/// update of a template has the same length.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    /// The chat's identifier without its prefix, 10 digits.
    Chat,
    /// Seconds since 1970, 10 digits.
    Date,
    /// An identifier that is never the same, 19 digits.
    LongId,
    /// The message's identifier, 7 digits.
    Message,
    /// The identifier of an earlier message, 7 digits.
    Reply,
    /// The identifier of the user who did it, 10 digits.
    Sender,
}

impl Slot {
    const fn digits(self) -> usize {
        match self {
            Self::Chat | Self::Date | Self::Sender => 10,
            Self::LongId => 19,
            Self::Message | Self::Reply => 7,
        }
    }
}

/// The numbers of one update.
pub(super) struct Fill {
    pub(super) chat: u64,
    pub(super) sender: u64,
    pub(super) message: u64,
    pub(super) date: u64,
    /// Any 64 bits, from which other identifiers are made.
    pub(super) noise: u64,
}

impl Fill {
    fn number(&self, slot: Slot) -> u64 {
        match slot {
            Slot::Chat => self.chat,
            Slot::Date => self.date,
            Slot::LongId => long_id(self.noise),
            Slot::Message => self.message,
            Slot::Reply => self.message - 1 - self.noise % 10_000,
            Slot::Sender => self.sender,
        }
    }
}

/// An identifier of 19 digits that is never the same.
pub(super) fn long_id(noise: u64) -> u64 {
    1_000_000_000_000_000_000 + (noise >> 2)
}

/// One update of which only numbers are missing.
pub(super) struct Template {
    kind: UpdateKind,
    /// Everything after the update's identifier.
    bytes: Box<[u8]>,
    slots: Box<[(usize, Slot)]>,
}

impl Template {
    pub(super) fn kind(&self) -> UpdateKind {
        self.kind
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes it `bytes` long, if it is shorter by as much as the member for that takes.
    pub(super) fn pad(&mut self, bytes: usize) {
        const START: &[u8] = br#","padding":""#;
        const END: &[u8] = br#""}}"#;
        // The update's own brace and that of its only object make room.
        let missing = bytes.saturating_sub(self.bytes.len());
        let Some(fill) = missing.checked_sub(START.len() + END.len() - 2) else { return };
        let mut padded = self.bytes.to_vec();
        padded.truncate(padded.len() - 2);
        padded.extend_from_slice(START);
        padded.resize(padded.len() + fill, b'x');
        padded.extend_from_slice(END);
        self.bytes = padded.into();
    }

    /// Appends the whole update to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>, update_id: u64, fill: &Fill) {
        out.extend_from_slice(b"{\"update_id\":");
        push_number(out, update_id);
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for &(at, slot) in &self.slots {
            let at = start + at;
            if let Some(place) = out.get_mut(at..at + slot.digits()) {
                put_digits(place, fill.number(slot));
            }
        }
    }
}

/// A template being written.
pub(super) struct Draft {
    bytes: Vec<u8>,
    slots: Vec<(usize, Slot)>,
}

impl Draft {
    /// Starts the update of the given kind, up to and without the member's value.
    pub(super) fn new(kind: UpdateKind) -> Self {
        let bytes = format!(",\n\"{}\":", kind.name()).into_bytes();
        Self { bytes, slots: Vec::new() }
    }

    /// Ends the update.
    pub(super) fn finish(mut self, kind: UpdateKind) -> Template {
        self.raw("}");
        Template { kind, bytes: self.bytes.into(), slots: self.slots.into() }
    }

    /// JSON as it stands.
    pub(super) fn raw(&mut self, json: &str) -> &mut Self {
        self.bytes.extend_from_slice(json.as_bytes());
        self
    }

    /// A number as it stands.
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        push_number(&mut self.bytes, number);
        self
    }

    /// Digits that differ from update to update.
    pub(super) fn slot(&mut self, slot: Slot) -> &mut Self {
        self.slots.push((self.bytes.len(), slot));
        self.bytes.resize(self.bytes.len() + slot.digits(), b'0');
        self
    }

    /// A string with its quotes, everything outside ASCII escaped as Telegram does it.
    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        self.bytes.push(b'"');
        for character in text.chars() {
            match character {
                '"' => self.bytes.extend_from_slice(b"\\\""),
                '\\' => self.bytes.extend_from_slice(b"\\\\"),
                '\n' => self.bytes.extend_from_slice(b"\\n"),
                ' '..='~' => self.bytes.push(character as u8),
                _ => self.escape(character),
            }
        }
        self.bytes.push(b'"');
        self
    }

    fn escape(&mut self, character: char) {
        // Beyond the basic plane this gives two units: a surrogate pair.
        for unit in character.encode_utf16(&mut [0; 2]) {
            self.bytes.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        }
    }
}

/// Writes the last digits of `number` over the whole of `place`.
fn put_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Appends a number in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    let start = out.len();
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    out.resize(start + digits, b'0');
    if let Some(place) = out.get_mut(start..) {
        put_digits(place, number);
    }
}
