//! Takes a plan's table apart, key by key, so that every mistake names its key.

use std::time::Duration;

use toml::{Table, Value};

use crate::Error;

/// A table of a plan of which keys are taken until none is left.
pub(super) struct Keys {
    /// The plan's name.
    plan: String,
    /// What stands before the keys: nothing, or a table's name with a dot.
    prefix: String,
    table: Table,
    known: Vec<&'static str>,
}

impl Keys {
    pub(super) fn new(plan: &str, text: &str) -> Result<Self, Error> {
        let table = text.parse::<Table>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            Error::Option(format!("plan {plan}, line {line}: {}", error.message()))
        })?;
        Ok(Self::from_parts(plan, "", table))
    }

    fn from_parts(plan: &str, prefix: &str, table: Table) -> Self {
        Self { plan: plan.to_owned(), prefix: prefix.to_owned(), table, known: Vec::new() }
    }

    /// What `read` makes of a key's value; none if the key is not there.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else { return Ok(None) };
        match read(&value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong(key, &value, expected)),
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Error> {
        self.take(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn switch(&mut self, key: &'static str) -> Result<bool, Error> {
        Ok(self.take(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    pub(super) fn whole<T: TryFrom<i64>>(&mut self, key: &'static str) -> Result<Option<T>, Error> {
        self.take(key, "a whole number", |value| T::try_from(value.as_integer()?).ok())
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Result<Option<f64>, Error> {
        self.take(key, expected, number)
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, Error> {
        self.take(key, "a duration as in \"10s\" or \"5ms\"", |value| {
            humantime::parse_duration(value.as_str()?).ok()
        })
    }

    /// A table within; none if it is not there.
    pub(super) fn inner(&mut self, key: &'static str) -> Result<Option<Self>, Error> {
        let table = self.take(key, "a table", |value| value.as_table().cloned())?;
        Ok(table
            .map(|table| Self::from_parts(&self.plan, &format!("{}{key}.", self.prefix), table)))
    }

    /// A list of tables within.
    pub(super) fn list(&mut self, key: &'static str) -> Result<Vec<Self>, Error> {
        let tables = |value: &Value| -> Option<Vec<Table>> {
            value.as_array()?.iter().map(|item| item.as_table().cloned()).collect()
        };
        let list = self.take(key, "tables as in [[phase]]", tables)?.unwrap_or_default();
        Ok(list
            .into_iter()
            .enumerate()
            .map(|(index, table)| Self::from_parts(&self.plan, &format!("{key}[{index}]."), table))
            .collect())
    }

    /// Every key that is left with its value as a text.
    pub(super) fn rest(&mut self) -> Vec<(String, String)> {
        let rest = std::mem::take(&mut self.table);
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        rest.into_iter().map(|(key, value)| (key, text(value))).collect()
    }

    /// Says that a value that could be read makes no sense.
    pub(super) fn wrong(&self, key: &str, value: &Value, expected: &str) -> Error {
        Error::key(
            &format!("plan {}: {}{key}", self.plan, self.prefix),
            value.to_string(),
            expected,
        )
    }

    /// Says that a key is needed.
    pub(super) fn missing(&self, key: &str, expected: &str) -> Error {
        Error::key(&format!("plan {}: {}{key}", self.plan, self.prefix), "(missing)", expected)
    }

    /// Puts the plan's name before an error from elsewhere.
    pub(super) fn error(&self, error: &Error) -> Error {
        Error::Option(format!("plan {}: {error}", self.plan))
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), Error> {
        match self.table.iter().next() {
            None => Ok(()),
            Some((key, value)) => {
                let expected = format!("one of the keys {}", self.known.join(", "));
                Err(self.wrong(key, value, &expected))
            }
        }
    }
}

/// A number with or without a fraction.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
}
