//! Settings of the updates as text, for flags, plans and reports.

use super::{PayloadOptions, Sizes, Skew, UpdateKind};
use crate::{Error, units::share};

impl PayloadOptions {
    /// Every key that [`PayloadOptions::set`] knows, with what it takes.
    const KEYS: &[(&str, &str)] = &[
        ("albums", "the share of updates in albums as in 5% or 0.05"),
        ("chats", "1 to 1000000"),
        ("kinds", "kinds with weights as in message:90,callback_query:10"),
        ("seed", "a whole number"),
        ("size", "sizes in bytes as in p50=1200,max=65536, from 300 to 524288"),
        ("zipf", "an exponent from 0 to 5"),
    ];

    /// Sets the option called `key`.
    ///
    /// # Errors
    /// [`Error::Option`] that names key, value and what was expected instead.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let Some((_, expected)) = Self::KEYS.iter().find(|(known, _)| *known == key) else {
            let keys: Vec<&str> = Self::KEYS.iter().map(|(key, _)| *key).collect();
            return Err(Error::key("payload", key, &format!("one of {}", keys.join(", "))));
        };
        let wrong = || Error::key(&format!("payload.{key}"), value, expected);
        match key {
            "albums" => {
                let albums = share(value).filter(|albums| (0.0..=1.0).contains(albums));
                self.albums = albums.ok_or_else(wrong)?;
            }
            "chats" => {
                let chats = value.parse().ok().filter(|n| (1..=Self::CHATS_MAX).contains(n));
                self.chats = chats.ok_or_else(wrong)?;
            }
            "kinds" => self.kinds = kinds(value).ok_or_else(wrong)?,
            "seed" => self.seed = value.parse().map_err(|_| wrong())?,
            "size" => self.size = Some(Sizes::parse(value).ok_or_else(wrong)?),
            _ => {
                let exponent = value.parse().ok();
                let exponent = exponent.filter(|e| (0.0..=Skew::EXPONENT_MAX).contains(e));
                self.skew = Some(Skew::new(exponent.ok_or_else(wrong)?));
            }
        }
        Ok(())
    }

    /// What was set of albums, kinds, size and zipf, so that [`PayloadOptions::set`] takes it.
    #[must_use]
    pub fn steering(&self) -> Vec<(&'static str, String)> {
        let mut list = Vec::new();
        if self.albums > 0.0 {
            list.push(("albums", self.albums.to_string()));
        }
        if !self.kinds.is_empty() {
            let kinds: Vec<String> =
                self.kinds.iter().map(|(kind, w)| format!("{}:{w}", kind.name())).collect();
            list.push(("kinds", kinds.join(",")));
        }
        list.extend(self.size.map(|size| ("size", size.to_string())));
        list.extend(self.skew.map(|skew| ("zipf", skew.exponent().to_string())));
        list
    }
}

fn kinds(text: &str) -> Option<Vec<(UpdateKind, u32)>> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
        let kind = UpdateKind::ALL.iter().find(|kind| kind.name() == name.trim())?;
        list.push((*kind, weight.trim().parse().ok().filter(|weight| *weight > 0)?));
    }
    Some(list)
}
