//! One condition of a route beside those on bot and kind.

use ringhook::update::Value;

use super::{
    KindSet, Path,
    facts::{self, Facts},
    value_test::ValueTest,
    wording::list,
};

/// The types of chats that updates name.
pub(super) const CHAT_TYPES: [&str; 5] = ["private", "group", "supergroup", "channel", "sender"];

/// A condition, ready to be evaluated. In the order of their cost, the cheapest first.
#[derive(Debug)]
pub(super) enum Condition {
    /// Ids in order.
    Chat(Box<[i64]>),
    /// Ids in order.
    From(Box<[i64]>),
    ChatType(Box<[&'static str]>),
    Command(Box<[Box<str>]>),
    TextPrefix(Box<[Box<str>]>),
    Has(Box<[Path]>),
    Where(Path, ValueTest),
}

impl Condition {
    /// Whether it holds for the update.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        let is_in =
            |ids: &[i64], id: Option<i64>| id.is_some_and(|id| ids.binary_search(&id).is_ok());
        match self {
            Self::Chat(ids) => is_in(ids, facts.chat()),
            Self::From(ids) => is_in(ids, facts.from()),
            Self::ChatType(types) => facts.chat_type().is_some_and(|name| types.contains(&name)),
            Self::Command(names) => facts
                .command()
                .is_some_and(|name| names.iter().any(|one| one.eq_ignore_ascii_case(name))),
            Self::TextPrefix(prefixes) => facts
                .text()
                .is_some_and(|text| prefixes.iter().any(|prefix| text.starts_with(&**prefix))),
            Self::Has(paths) => paths.iter().any(|path| path.find(facts.update).is_some()),
            Self::Where(path, test) => {
                path.kinds().contains(facts.kind()) && test.holds(path.find(facts.update))
            }
        }
    }

    /// The kinds of updates for which it may hold.
    pub(super) fn kinds(&self) -> KindSet {
        match self {
            Self::Chat(_) => facts::CHAT,
            Self::From(_) => facts::FROM,
            Self::ChatType(types) if **types == ["sender"] => facts::INLINE,
            Self::ChatType(_) => facts::CHAT_TYPE,
            Self::Command(_) | Self::TextPrefix(_) => facts::TEXT,
            Self::Has(paths) => paths.iter().map(Path::kinds).fold(KindSet::EMPTY, KindSet::union),
            Self::Where(path, _) => path.kinds(),
        }
    }

    /// The key of the config file.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::Chat(_) => "chat",
            Self::From(_) => "from",
            Self::ChatType(_) => "chat_type",
            Self::Command(_) => "command",
            Self::TextPrefix(_) => "text_prefix",
            Self::Has(_) => "has",
            Self::Where(..) => "where",
        }
    }

    /// Its paths.
    pub(super) fn paths(&self) -> &[Path] {
        match self {
            Self::Has(paths) => paths,
            Self::Where(path, _) => std::slice::from_ref(path),
            _ => &[],
        }
    }

    /// Why it does not hold, with what was found in the update. Ids, kinds, types, whole numbers
    /// and truth values are shown, text never.
    pub(super) fn reason(&self, facts: &Facts<'_>) -> String {
        match self {
            Self::Chat(_) => match facts.chat() {
                Some(id) => format!("the chat is {id}"),
                None => "it is about no chat".to_owned(),
            },
            Self::From(_) => match facts.from() {
                Some(id) => format!("the user who sent it is {id}"),
                None => "it names no user who sent it".to_owned(),
            },
            Self::ChatType(_) => match facts.chat_type() {
                Some(name) => format!("the type of the chat is {name:?}"),
                None => "it names no type of a chat".to_owned(),
            },
            Self::Command(_) => match (facts.text(), facts.command()) {
                (None, _) => "it has no text".to_owned(),
                (_, None) => "the text does not begin with a command".to_owned(),
                (_, Some(_)) => "the text begins with another command".to_owned(),
            },
            Self::TextPrefix(prefixes) => match facts.text() {
                Some(_) => format!("the text does not begin with {}", quoted(prefixes)),
                None => "it has no text".to_owned(),
            },
            Self::Has(paths) => match &**paths {
                [path] => format!("{path} is not there"),
                paths => {
                    let names: Vec<_> = paths.iter().map(ToString::to_string).collect();
                    format!("none of {} is there", list(&names, " and "))
                }
            },
            Self::Where(path, _) if !path.kinds().contains(facts.kind()) => {
                format!("{path} is not there, the kind is {}", facts.kind())
            }
            Self::Where(path, test) => match (path.find(facts.update), test) {
                (None, _) => format!("{path} is not there"),
                (Some(value), ValueTest::Prefix(prefixes)) if value.as_str().is_some() => {
                    format!("{path} does not begin with {}", quoted(prefixes))
                }
                (Some(_), ValueTest::Exists(_)) => format!("{path} is there"),
                (Some(value), _) => format!("{path} is {}", shown(value, path.names_a_type())),
            },
        }
    }
}

/// `"a" or "b"`.
fn quoted(texts: &[Box<str>]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    list(&texts, " or ")
}

/// A value as a message may have it.
fn shown(value: Value<'_>, is_type: bool) -> String {
    if let Some(word) = value.as_str() {
        return if is_type { format!("{word:?}") } else { "another text".to_owned() };
    }
    if let Some(truth) = value.as_bool() {
        return truth.to_string();
    }
    match value.as_i64() {
        Some(number) => number.to_string(),
        // An object, an array, or a number such as a place on earth.
        None => format!("another value ({value:?})"),
    }
}
