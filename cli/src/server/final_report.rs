//! The report at the end of a server.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::process::stderr::{self, log};
use ringhook::{
    Error, ErrorKind, Report,
    internals::{
        files,
        files::{How, User},
        redact::hide_tokens,
    },
};
use ringhook_outputs::{forward::ForwardStatus, getupdates::GetUpdatesStatus};

/// What is told of a server that was stopped, and what `--report` writes.
#[derive(Serialize)]
pub(crate) struct FinalReport<'a> {
    #[serde(flatten)]
    pub(crate) report: &'a Report,
    /// The outputs behind HTTP, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) forwards: BTreeMap<String, ForwardStatus>,
    /// The outputs for bots that poll, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) getupdates: BTreeMap<String, GetUpdatesStatus>,
}

impl FinalReport<'_> {
    /// Prints it, and writes it to `file`.
    ///
    /// # Errors
    /// The file does not take it.
    pub(crate) fn tell(&self, file: Option<(PathBuf, File)>) -> Result<(), Error> {
        let report = self.report;
        log(report.to_string().trim_end());
        for (name, status) in &self.forwards {
            log(format_args!("{}", forwarded(name, status)));
        }
        for (name, status) in &self.getupdates {
            log(handed_out(name, status));
        }
        if let Some(kept) = kept(report) {
            log(kept);
        }
        let Some((path, mut file)) = file else { return Ok(()) };
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        text.and_then(|text| writeln!(file, "{}", hide_tokens(&text))).map_err(|source| {
            Error::with_source(ErrorKind::Sink, format!("--report {}", path.display()), source)
        })
    }
}

/// `report` with what this command alone knows.
pub(crate) fn with_dropped(mut report: Report) -> Report {
    report.stderr_lines_dropped = stderr::dropped();
    report
}

/// What an output behind HTTP has done, for people.
pub(crate) fn forwarded(name: &str, status: &ForwardStatus) -> String {
    let ForwardStatus { sent, delivered, retried, held, in_flight, replies, .. } = status;
    format!(
        "output {name}: {delivered} delivered by {sent} requests, {retried} again, {in_flight} \
         under way, {held} held; replies: {} relayed, {} failed",
        replies.relayed, replies.failed
    )
}

/// What an output for bots that poll has done, for people.
pub(crate) fn handed_out(name: &str, status: &GetUpdatesStatus) -> String {
    let GetUpdatesStatus { polls, handed_out, confirmed, conflicts, passed, failed, .. } = status;
    format!(
        "output {name}: {confirmed} confirmed of {handed_out} handed out by {polls} polls, \
         {conflicts} conflict(s); other methods: {passed} passed on, {failed} without an answer"
    )
}

/// What the journal keeps, for people; `None` where that is nothing, or nothing is kept.
pub(crate) fn kept(report: &Report) -> Option<String> {
    let left = report.journal.as_ref().map(|journal| journal.lag_records).filter(|n| *n > 0)?;
    Some(format!("{left} update(s) stay in the journal for the next start"))
}

/// The file is made at the start, so that a wrong path is found before the service, not after.
pub(crate) fn create(path: &Path, user: Option<&User>) -> Result<(PathBuf, File), Error> {
    let create = || {
        files::open(path, How::Replace).map_err(|source| {
            Error::with_source(ErrorKind::Config, format!("--report {}", path.display()), source)
        })
    };
    let file = match user {
        Some(user) => files::for_user(user, path, create)?,
        None => create()?,
    };
    Ok((path.to_owned(), file))
}
