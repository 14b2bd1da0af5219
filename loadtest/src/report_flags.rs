//! `loadtest report`: what was typed, and the files that come of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use loadtest::{Error, Inputs, ReportPage, hide_tokens};

/// Make a page to look at of reports: one HTML file that needs no network and no script
#[derive(Args, Debug)]
pub(crate) struct ReportFlags {
    /// Reports of runs (JSON), or directories of --profile; the first one is what others are
    /// compared with
    #[arg(value_name = "FILE", required = true)]
    runs: Vec<PathBuf>,

    /// The page to write
    #[arg(short, long, value_name = "FILE", required_unless_present = "svg")]
    output: Option<PathBuf>,

    /// Write the pictures as SVG files into this directory, too
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,

    /// What a run is called, in the order of the runs [default: its file's name]
    #[arg(long = "label", value_name = "NAME")]
    labels: Vec<String>,

    /// The report (JSON) or interval log (.hlog) of a run's server, in the order of the runs
    #[arg(long = "server", value_name = "FILE")]
    servers: Vec<PathBuf>,
}

impl ReportFlags {
    /// Reads and writes the files.
    ///
    /// # Errors
    /// One that cannot be read or written.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let Self { runs, labels, servers, .. } = self;
        let page = ReportPage::read(&Inputs {
            runs: runs.clone(),
            labels: labels.clone(),
            servers: servers.clone(),
        })?;
        if let Some(file) = &self.output {
            write(file, &hide_tokens(&page.html()))?;
        }
        if let Some(directory) = &self.svg {
            fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
            for (name, picture) in page.pictures() {
                write(&directory.join(name), &hide_tokens(&picture))?;
            }
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    fs::write(file, text).map_err(|error| unwritable(file, &error))
}

fn unwritable(file: &Path, error: &std::io::Error) -> Error {
    Error::Option(format!("cannot write {}: {error}", file.display()))
}
