//! What a sink should hold.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use crate::{Error, PayloadOptions, Report};

/// What was sent, as far as it decides what a sink should hold.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What the updates were made from.
    pub payload: PayloadOptions,
    /// The id of the first update.
    pub first_update_id: u64,
    /// How many updates there were, 1 to [`Expected::UPDATES_MAX`]; their ids have no gaps.
    pub updates: u64,
    /// Whether those of equal [`ChatKey`](crate::ChatKey) must be in the order of their ids: if
    /// they were sent one by one, as they are [with Telegram](crate::Options::telegram).
    pub ordered: bool,
    /// Whether order is kept among updates of one kind only, as
    /// [with Telegram](crate::Options::telegram).
    pub kinds_apart: bool,
    /// Whether each may be there once only.
    pub once: bool,
}

impl Expected {
    /// The most updates that can be checked at once; each takes a bit of memory.
    pub const UPDATES_MAX: u64 = 1 << 33;

    /// One update with id 1, in order and once.
    #[must_use]
    pub fn new(payload: PayloadOptions) -> Self {
        Self {
            payload,
            first_update_id: 1,
            updates: 1,
            ordered: true,
            kinds_apart: false,
            once: true,
        }
    }

    /// Reads a report that was written as JSON, of this version or a later one.
    ///
    /// # Errors
    /// [`Error::Option`] if it is none.
    pub fn from_report(json: &[u8]) -> Result<Self, Error> {
        let report: ReportJson = serde_json::from_slice(json)
            .map_err(|error| Error::Option(format!("the report cannot be read: {error}")))?;
        let ReportJson { planned, options, telegram } = report;
        if telegram.is_some_and(|bots| bots.len() > 1) {
            let reason = "the report is of several bots, whose updates have no ids in common";
            return Err(Error::Option(reason.to_owned()));
        }
        if options.replay.is_some() {
            let reason = "the report is of a file that was replayed, which cannot be made again";
            return Err(Error::Option(reason.to_owned()));
        }
        let AskedJson { seed, chats, date, .. } = options;
        let mut payload = PayloadOptions { seed, chats, date, ..PayloadOptions::default() };
        for (key, value) in &options.payload {
            payload.set(key, value)?;
        }
        Ok(Self {
            payload,
            first_update_id: options.first_update_id,
            updates: planned,
            ordered: options.time_scale.is_some(),
            kinds_apart: options.time_scale.is_some(),
            once: true,
        })
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if !(1..=Self::UPDATES_MAX).contains(&self.updates) {
            return Err(Error::Option("the number of updates must be 1 to 2^33".to_owned()));
        }
        if self.first_update_id.checked_add(self.updates).is_none() {
            return Err(Error::Option("the last update's id is too large".to_owned()));
        }
        Ok(())
    }
}

/// All that was planned, once, and in order if it was sent as Telegram does.
impl From<&Report> for Expected {
    fn from(report: &Report) -> Self {
        let options = &report.options;
        Self {
            payload: options.payload_options.clone(),
            first_update_id: options.first_update_id,
            updates: report.planned,
            ordered: options.time_scale.is_some(),
            kinds_apart: options.time_scale.is_some(),
            once: true,
        }
    }
}

#[derive(Deserialize)]
struct ReportJson {
    planned: u64,
    options: AskedJson,
    #[serde(default)]
    telegram: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct AskedJson {
    seed: u64,
    chats: u32,
    date: u32,
    #[serde(default)]
    payload: BTreeMap<String, String>,
    first_update_id: u64,
    #[serde(default)]
    time_scale: Option<f64>,
    #[serde(default)]
    replay: Option<String>,
}
