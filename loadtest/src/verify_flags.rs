//! What was typed after `verify`, and what it means.

use std::path::PathBuf;

use clap::Args;
use loadtest::{Error, Expected, PayloadOptions};

use crate::flags::read;

/// Compare what a sink holds with what a run sent.
///
/// The updates are made again from the run's options and compared with the lines of the file by
/// value. Memory stays small whatever the size of the file.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 if the sink holds what was sent, 1 if it does not, 2 if the \
                        options make no sense."
)]
pub(crate) struct VerifyFlags {
    /// File with an update as JSON on each line; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) sink: PathBuf,

    /// Report of the run as JSON, from which to take the options below
    #[arg(long, value_name = "FILE", required_unless_present_all = ["updates", "date"])]
    report: Option<PathBuf>,

    /// How many updates were sent
    #[arg(long, value_name = "N", conflicts_with = "report")]
    updates: Option<u64>,

    /// Id of the first update
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "report")]
    first_update_id: u64,

    /// The run's --seed
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "report")]
    seed: u64,

    /// The run's --chats
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with = "report")]
    chats: u32,

    /// The run's --date
    #[arg(long, value_name = "SECONDS", conflicts_with = "report")]
    date: Option<u32>,

    /// Updates of a chat may be in any order; so they may after a run without
    /// --as telegram
    #[arg(long)]
    unordered: bool,

    /// Updates may be there more than once
    #[arg(long)]
    allow_doubled: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl VerifyFlags {
    /// What the sink should hold; reads the report.
    ///
    /// # Errors
    /// If the report cannot be read.
    pub(crate) fn expected(&self) -> Result<Expected, Error> {
        let mut expected = match (&self.report, self.updates, self.date) {
            (Some(file), ..) => Expected::from_report(&read(file)?)?,
            (None, Some(updates), Some(date)) => Expected {
                payload: PayloadOptions {
                    seed: self.seed,
                    chats: self.chats,
                    date,
                    ..PayloadOptions::default()
                },
                first_update_id: self.first_update_id,
                updates,
                ordered: true,
                kinds_apart: true,
                once: true,
            },
            _ => return Err(Error::Option("--report, or --updates and --date".to_owned())),
        };
        expected.ordered &= !self.unordered;
        expected.once &= !self.allow_doubled;
        Ok(expected)
    }
}
