//! From what is typed to routes.

use std::fmt;

use ringhook::update::UpdateKind;

use super::{
    KindSet, OneOf, OutputSet, Path, RouteError, RouteLabel, RouteSection, RoutedBot, command,
    condition::{CHAT_TYPES, Condition},
    route::{Bots, Route},
    value_test::ValueTest,
    wording::{did_you_mean, list},
};

/// The word in `to` for no output.
pub(super) const DROP: &str = "drop";

/// The names that routes may use.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) outputs: &'a [&'a str],
    pub(super) bots: &'a [RoutedBot<'a>],
}

impl Names<'_> {
    /// # Errors
    ///
    /// What was expected in place of `name`.
    pub(super) fn output(self, name: &str) -> Result<usize, String> {
        let found = self.outputs.iter().position(|output| *output == name);
        found.ok_or_else(|| {
            let known = list(self.outputs, " or ");
            let meant = did_you_mean(name, self.outputs.iter().copied().chain([DROP]));
            format!("the name of an output, which is {known}{meant}")
        })
    }

    /// Compiles the route `index`.
    ///
    /// # Errors
    ///
    /// The first setting that is wrong.
    pub(super) fn compile(self, index: usize, section: &RouteSection) -> Result<Route, RouteError> {
        let label = RouteLabel::new(index, section.name.as_deref());
        let bots = match values(&label, "bot", section.bot.as_ref(), |name| {
            let found = self.bots.iter().find(|bot| bot.name == *name);
            found.map(|bot| bot.id).ok_or_else(|| {
                let known = self.bots.iter().map(|bot| bot.name);
                format!("the name of a bot{}", did_you_mean(name, known))
            })
        })? {
            Some(bots) => Bots::Some(in_order(bots)),
            None => Bots::All,
        };
        let kinds = values(&label, "kind", section.kind.as_ref(), |name| kind(name))?;
        let kinds_typed = kinds.map_or(KindSet::ANY, |kinds| kinds.into_iter().collect());
        let conditions = conditions(&label, section)?;
        let kinds = conditions.iter().map(Condition::kinds);
        Ok(Route {
            bots,
            kinds_typed,
            kinds: kinds.fold(kinds_typed, KindSet::intersection),
            conditions: conditions.into_boxed_slice(),
            outputs: self.outputs_of(&label, section)?,
            label,
        })
    }

    fn outputs_of(
        self,
        label: &RouteLabel,
        section: &RouteSection,
    ) -> Result<OutputSet, RouteError> {
        match &*section.to {
            [only] if only == DROP => Ok(OutputSet::NONE),
            names if names.iter().any(|name| name == DROP) => {
                let expected = "\"drop\" alone, or names of outputs without it";
                Err(RouteError::new(label, "to", format!("{names:?}"), expected))
            }
            _ => {
                let outputs = values(label, "to", Some(&section.to), |name| self.output(name))?;
                Ok(outputs.unwrap_or_default().into_iter().collect())
            }
        }
    }
}

/// The conditions beside those on bot and kind, in the order of their cost.
fn conditions(label: &RouteLabel, section: &RouteSection) -> Result<Vec<Condition>, RouteError> {
    let chats = values(label, "chat", section.chat.as_ref(), |id| Ok(*id))?;
    let users = values(label, "from", section.from.as_ref(), |id| match *id {
        1.. => Ok(*id),
        _ => Err("the id of a user, which is greater than 0".to_owned()),
    })?;
    let types = values(label, "chat_type", section.chat_type.as_ref(), |name| {
        let found = CHAT_TYPES.into_iter().find(|known| known == name);
        found.ok_or_else(|| {
            let known = list(&CHAT_TYPES, " or ");
            format!("{known}{}", did_you_mean(name, CHAT_TYPES))
        })
    })?;
    let commands = values(label, "command", section.command.as_ref(), |typed| {
        let name = typed.strip_prefix('/').unwrap_or(typed);
        let is_name = command::is_name(name);
        let expected = "the name of a command, of A-Z a-z 0-9 _, such as \"start\"";
        is_name.then(|| Box::from(name)).ok_or_else(|| expected.to_owned())
    })?;
    let prefixes = values(label, "text_prefix", section.text_prefix.as_ref(), |text| {
        let expected = || "at least one character".to_owned();
        (!text.is_empty()).then(|| Box::from(text.as_str())).ok_or_else(expected)
    })?;
    let paths = values(label, "has", section.has.as_ref(), |text| {
        Path::parse(text).ok_or_else(|| Path::EXPECTED.to_owned())
    })?;
    let cheap = [
        chats.map(in_order).map(Condition::Chat),
        users.map(in_order).map(Condition::From),
        types.map(Vec::into_boxed_slice).map(Condition::ChatType),
        commands.map(Vec::into_boxed_slice).map(Condition::Command),
        prefixes.map(Vec::into_boxed_slice).map(Condition::TextPrefix),
        paths.map(Vec::into_boxed_slice).map(Condition::Has),
    ];
    let mut conditions: Vec<_> = cheap.into_iter().flatten().collect();
    for (text, typed) in &section.r#where {
        let wrong = |value: String, expected: &str| {
            RouteError::new(label, format!("where.{text:?}"), value, expected)
        };
        let path = Path::parse(text)
            .ok_or_else(|| RouteError::new(label, "where", format!("{text:?}"), Path::EXPECTED))?;
        let test = ValueTest::new(typed).map_err(|expected| wrong(typed.to_string(), expected))?;
        conditions.push(Condition::Where(path, test));
    }
    Ok(conditions)
}

fn kind(name: &str) -> Result<UpdateKind, String> {
    let unknown = UpdateKind::Unknown.as_str();
    let found = UpdateKind::from_key(name).or((name == unknown).then_some(UpdateKind::Unknown));
    found.ok_or_else(|| {
        let known = KindSet::ANY.iter().map(UpdateKind::as_str);
        format!("a kind of update, as in allowed_updates{}", did_you_mean(name, known))
    })
}

/// Reads each value of a list; `None` where there is no list.
///
/// # Errors
///
/// An empty list, and the first value that `read` does not take.
fn values<T: fmt::Debug, U>(
    label: &RouteLabel,
    key: &str,
    typed: Option<&OneOf<T>>,
    read: impl Fn(&T) -> Result<U, String>,
) -> Result<Option<Vec<U>>, RouteError> {
    let Some(typed) = typed else { return Ok(None) };
    if typed.is_empty() {
        return Err(RouteError::new(label, key, "[]", "at least one value"));
    }
    let wrong = |value: &T, expected| RouteError::new(label, key, format!("{value:?}"), expected);
    let read = |value| read(value).map_err(|expected| wrong(value, expected));
    typed.iter().map(read).collect::<Result<_, _>>().map(Some)
}

fn in_order<T: Ord>(mut values: Vec<T>) -> Box<[T]> {
    values.sort_unstable();
    values.into_boxed_slice()
}
