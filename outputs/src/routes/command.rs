//! The bot command that a message begins with.

use ringhook::update::Value;

/// How long a command may be by the Bot API's parser.
const LENGTH_MAX: usize = 64;

/// The name of the command that `text` begins with: `start` of `/start@some_bot now`.
///
/// Telegram marks commands by entities. Where there are any, one of the type `bot_command` at
/// offset 0 makes the command, so that `/start` in a block of code is none. Where there are none,
/// the text is read as Telegram's parser reads it.
pub(super) fn command<'a>(text: &'a str, entities: Option<Value<'a>>) -> Option<&'a str> {
    let rest = text.strip_prefix('/')?;
    let written = match entities.filter(|entities| entities.is_array() && !entities.is_empty()) {
        Some(entities) => marked(rest, entities)?,
        None => unmarked(rest)?,
    };
    let name = written.split_once('@').map_or(written, |(name, _)| name);
    (!name.is_empty()).then_some(name)
}

/// What the entity at offset 0 covers of `rest`, the text behind the slash.
fn marked<'a>(rest: &'a str, entities: Value<'a>) -> Option<&'a str> {
    let text_of = |entity: Value<'a>, key| entity.get(key)?.as_str();
    let number_of = |entity: Value<'a>, key| entity.get(key)?.as_u64();
    let entity = entities.elements().find(|entity| {
        number_of(*entity, "offset") == Some(0) && text_of(*entity, "type") == Some("bot_command")
    })?;
    // It counts units of UTF-16, which are bytes here: commands are of ASCII.
    let length = usize::try_from(number_of(entity, "length")?).ok()?;
    rest.get(..length.checked_sub(1)?)
}

/// The name at the beginning of `rest`, the text behind the slash.
fn unmarked(rest: &str) -> Option<&str> {
    let is_end = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    let (name, after) = rest.split_at_checked(rest.find(is_end).unwrap_or(rest.len()))?;
    let continues = |letter: char| letter.is_alphanumeric() || matches!(letter, '/' | '<' | '>');
    (name.len() <= LENGTH_MAX && !after.starts_with(continues)).then_some(name)
}

/// Whether `name` can be a command's.
pub(super) fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=LENGTH_MAX).contains(&name.len()) && name.bytes().all(is_letter)
}
