//! One pass over a body that proves it to be JSON and finds the head, and builds nothing.
//!
//! It knows what Telegram sends. Anything else is left to simd-json, wrong or merely uncommon: an
//! escape in a key that may matter, a number with an exponent or with more than 18 digits, deep
//! nesting. So what this pass accepts has to be what simd-json accepts, with the same head, and
//! what is refused is refused by simd-json, with its reason.

use super::{
    ChatKey, UpdateId, UpdateKind,
    chat_key::{Lane, poll_key},
    head::Head,
};

/// Levels of nesting that are looked at here: a bit each.
const LEVELS: usize = 64;
/// Digits of a number, before and after its point; as many fit any integer of 64 bits.
const DIGITS: usize = 18;

/// The head of the update that `bytes` are, where they are one of the common form that nests up to
/// `depth_max` levels; `None` asks for a full parse.
pub(super) fn scan(bytes: &[u8], depth_max: usize) -> Option<Head> {
    let mut scan = Scan { bytes, at: 0, levels: depth_max.min(LEVELS), high: 0 };
    let (mut id, mut carried) = (None, None);
    scan.object(|scan, key| {
        if key == b"update_id" && id.is_none() {
            id = Some(scan.integer()??);
        } else if carried.is_none()
            && let Some(kind) = UpdateKind::from_bytes(key)
        {
            carried = Some((kind, scan.payload(kind)?));
        } else {
            scan.value()?;
        }
        Some(())
    })?;
    scan.end()?;
    let id = UpdateId::new(id?);
    let (kind, chat_key) = carried.unwrap_or((UpdateKind::Unknown, None));
    Some(Head { id, kind, chat_key: chat_key.unwrap_or(ChatKey::Update(id.get())) })
}

/// Where the pass is. Each method moves it over what it reads; after `None` it is of no more use.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many more may be open at a time.
    levels: usize,
    /// All words of strings, to see whether there is a byte beyond ASCII.
    high: u64,
}

/// A string as it is written.
struct Text<'a> {
    bytes: &'a [u8],
    /// Without an escape: the bytes are what it says.
    is_plain: bool,
}

impl<'a> Scan<'a> {
    /// The lane that the payload of a `kind` names, if it does.
    fn payload(&mut self, kind: UpdateKind) -> Option<Option<ChatKey>> {
        if self.next()? != b'{' {
            self.value()?;
            return Some(None);
        }
        match Lane::of(kind) {
            Lane::Id(key) => self.chat_id(key),
            Lane::Callback => {
                let (mut chat, mut from) = (None, None);
                self.object(|scan, key| {
                    match key {
                        b"message" if chat.is_none() => chat = Some(scan.member_id("chat")?),
                        b"from" if from.is_none() => from = Some(scan.id()?),
                        _ => scan.value()?,
                    }
                    Some(())
                })?;
                Some(chat.flatten().or(from.flatten()).map(ChatKey::Chat))
            }
            Lane::Poll(wanted) => {
                let mut poll = None;
                self.object(|scan, key| {
                    if key == wanted.as_bytes() && poll.is_none() {
                        poll = Some(scan.poll()?);
                    } else {
                        scan.value()?;
                    }
                    Some(())
                })?;
                Some(poll.flatten())
            }
            Lane::Own => {
                self.value()?;
                Some(None)
            }
        }
    }

    /// The lane of the chat or user in the member `key` of the object here.
    fn chat_id(&mut self, key: &str) -> Option<Option<ChatKey>> {
        Some(self.member_id(key)?.map(ChatKey::Chat))
    }

    /// The `id` in the first member `wanted` of the value here.
    fn member_id(&mut self, wanted: &str) -> Option<Option<i64>> {
        let mut id = None;
        self.object_or_value(|scan, key| {
            if key == wanted.as_bytes() && id.is_none() {
                id = Some(scan.id()?);
            } else {
                scan.value()?;
            }
            Some(())
        })?;
        Some(id.flatten())
    }

    /// The first member `id` of the value here.
    fn id(&mut self) -> Option<Option<i64>> {
        let mut id = None;
        self.object_or_value(|scan, key| {
            if key == b"id" && id.is_none() {
                id = Some(scan.integer()?);
            } else {
                scan.value()?;
            }
            Some(())
        })?;
        Some(id.flatten())
    }

    /// The lane of the poll whose id is the value here.
    fn poll(&mut self) -> Option<Option<ChatKey>> {
        if self.next()? != b'"' {
            self.value()?;
            return Some(None);
        }
        let text = self.string()?;
        let id = text.is_plain.then(|| str::from_utf8(text.bytes).ok()).flatten()?;
        Some(Some(poll_key(id)))
    }

    /// The integer here; `None` within for any other value.
    fn integer(&mut self) -> Option<Option<i64>> {
        match self.next()? {
            b'-' | b'0'..=b'9' => self.number(),
            _ => {
                self.value()?;
                Some(None)
            }
        }
    }

    fn object_or_value(
        &mut self,
        member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>,
    ) -> Option<()> {
        match self.next()? {
            b'{' => self.object(member),
            _ => self.value(),
        }
    }

    /// An object whose values `member` reads.
    #[inline]
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        if self.next()? != b'{' {
            return None;
        }
        self.levels = self.levels.checked_sub(1)?;
        self.at += 1;
        if self.next()? == b'}' {
            self.at += 1;
            self.levels += 1;
            return Some(());
        }
        loop {
            let key = self.key()?;
            if !key.is_plain {
                return None;
            }
            member(self, key.bytes)?;
            let next = self.next()?;
            self.at += 1;
            match next {
                b',' => {}
                b'}' => {
                    self.levels += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Any value, with all that is in it.
    fn value(&mut self) -> Option<()> {
        // A bit for each that is open, the innermost lowest: 1 is an object.
        let (mut open, mut depth) = (0_u64, 0);
        loop {
            let opened = self.next()?;
            match opened {
                b'"' => {
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => {
                    self.number()?;
                }
                b'{' | b'[' => {
                    if depth >= self.levels {
                        return None;
                    }
                    let is_object = opened == b'{';
                    self.at += 1;
                    // Its end is two further in ASCII.
                    if self.next()? == opened + 2 {
                        self.at += 1;
                    } else {
                        depth += 1;
                        open = open << 1 | u64::from(is_object);
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => return None,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                let is_object = open & 1 == 1;
                let next = self.next()?;
                self.at += 1;
                match next {
                    b',' => {
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                depth -= 1;
                open >>= 1;
            }
        }
    }

    /// A key and its colon.
    #[inline]
    fn key(&mut self) -> Option<Text<'a>> {
        if self.next()? != b'"' {
            return None;
        }
        let key = self.string()?;
        if self.next()? != b':' {
            return None;
        }
        self.at += 1;
        Some(key)
    }

    /// The string that begins here.
    #[inline]
    fn string(&mut self) -> Option<Text<'a>> {
        let start = self.at + 1;
        let mut is_plain = true;
        self.at = start;
        loop {
            match self.run()? {
                b'"' => {
                    let bytes = self.bytes.get(start..self.at)?;
                    self.at += 1;
                    return Some(Text { bytes, is_plain });
                }
                b'\\' => {
                    is_plain = false;
                    self.escapes()?;
                }
                _ => return None,
            }
        }
    }

    /// Goes to the next quote, backslash or control character, and returns it.
    #[inline]
    fn run(&mut self) -> Option<u8> {
        while let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let word = u64::from_le_bytes(*word);
            self.high |= word;
            let stops = stops(word);
            if stops != 0 {
                let shift = stops.trailing_zeros() - 7;
                self.at += shift as usize / 8;
                return Some((word >> shift) as u8);
            }
            self.at += 8;
        }
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.high |= u64::from(byte);
            if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// One escape after the other. RFC 8259 section 7.
    #[inline]
    fn escapes(&mut self) -> Option<()> {
        while let Some(rest) = self.bytes.get(self.at..)
            && let Some(&[b'\\', escape, first, second, third, fourth]) = rest.first_chunk()
        {
            if escape == b'u' {
                let [first_class, second_class, third_class, fourth_class] =
                    [first, second, third, fourth].map(class);
                if first_class & second_class & third_class & fourth_class & HEX == 0 {
                    return None;
                }
                self.at += 6;
                if first | 0x20 == b'd' && second >= b'8' {
                    self.low_surrogate(second)?;
                }
            } else if class(escape) & SIMPLE != 0 {
                self.at += 2;
            } else {
                return None;
            }
        }
        self.last_escapes()
    }

    /// Those in the last six bytes, which have no room for one of a code.
    fn last_escapes(&mut self) -> Option<()> {
        while let Some(b'\\') = self.bytes.get(self.at) {
            let escape = *self.bytes.get(self.at + 1)?;
            if class(escape) & SIMPLE == 0 {
                return None;
            }
            self.at += 2;
        }
        Some(())
    }

    /// The second half of a pair whose first one has this as its second digit.
    fn low_surrogate(&mut self, second: u8) -> Option<()> {
        let is_high = matches!(second, b'8' | b'9' | b'a' | b'b' | b'A' | b'B');
        let low: &[u8; 6] = self.bytes.get(self.at..)?.first_chunk()?;
        let [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', third, fourth] = low else {
            return None;
        };
        self.at += 6;
        let are_digits = class(*third) & class(*fourth) & HEX != 0;
        (is_high && are_digits).then_some(())
    }

    /// The number that begins here; its value where it is an integer.
    #[inline]
    fn number(&mut self) -> Option<Option<i64>> {
        let rest = self.bytes.get(self.at..)?;
        let is_negative = rest.first() == Some(&b'-');
        let digits = rest.get(usize::from(is_negative)..)?;
        let mut value = 0_i64;
        let mut len = 0;
        while let Some(digit @ b'0'..=b'9') = digits.get(len) {
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            len += 1;
        }
        let is_long = len > DIGITS;
        let has_zero_ahead = len > 1 && digits.first() == Some(&b'0');
        if len == 0 || is_long || has_zero_ahead {
            return None;
        }
        let mut end = len;
        if digits.get(len) == Some(&b'.') {
            end += 1;
            while let Some(b'0'..=b'9') = digits.get(end) {
                end += 1;
            }
            // Two for the point and for a digit that has to be there.
            if end < len + 2 || end > DIGITS {
                return None;
            }
        }
        if let Some(b'e' | b'E') = digits.get(end) {
            return None;
        }
        self.at += usize::from(is_negative) + end;
        Some((end == len).then_some(if is_negative { -value } else { value }))
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        let end = self.at + word.len();
        let is_it = self.bytes.get(self.at..end)? == word;
        self.at = end;
        is_it.then_some(())
    }

    /// The next byte that is no white space.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Nothing but white space follows, and all that was read is UTF-8.
    fn end(mut self) -> Option<()> {
        if self.next().is_some() {
            return None;
        }
        let is_ascii = self.high & 0x8080_8080_8080_8080 == 0;
        (is_ascii || str::from_utf8(self.bytes).is_ok()).then_some(())
    }
}

/// The highest bit of the first byte of `word` that ends a run: a quote, a backslash or a control
/// character. Bits behind it may be wrong.
#[inline]
const fn stops(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_quote | is_backslash | is_control) & HIGH
}

/// A hexadecimal digit.
const HEX: u8 = 1;
/// What may follow a backslash, but for `u`.
const SIMPLE: u8 = 2;

/// Which of these `byte` is.
#[inline]
fn class(byte: u8) -> u8 {
    // The table has all bytes.
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

#[allow(clippy::indexing_slicing)]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < classes.len() {
        let byte = at as u8;
        if byte.is_ascii_hexdigit() {
            classes[at] |= HEX;
        }
        if matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
            classes[at] |= SIMPLE;
        }
        at += 1;
    }
    classes
};

#[cfg(test)]
mod tests;
