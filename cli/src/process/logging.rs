//! Where the log goes and what its lines look like.

use std::{
    env,
    io::{self, IsTerminal as _},
};

use super::stderr::LogWriter;
use crate::config::{LogFormat, LogSection};

/// Writes the log to stderr from now on.
pub(crate) fn to_stderr(section: &LogSection) {
    let builder = tracing_subscriber::fmt()
        .with_writer(|| LogWriter)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would report that stderr is gone to stderr, and panic.
        .log_internal_errors(false)
        .with_max_level(section.level.filter());
    // A subscriber that is set already stays.
    let _ = match section.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        // Each line gets its time there.
        LogFormat::Text if is_systemd_journal() => builder.without_time().try_init(),
        LogFormat::Text => builder.try_init(),
    };
}

/// True where stderr goes to systemd's journal: the variable is inherited by processes whose stderr
/// goes elsewhere, so it names the file.
fn is_systemd_journal() -> bool {
    let Some(stream) = env::var("JOURNAL_STREAM").ok() else { return false };
    let named = stream.split_once(':').and_then(|(device, inode)| {
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    let ours = rustix::fs::fstat(io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    named.is_some() && named == ours
}
