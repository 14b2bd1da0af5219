//! Drives a webhook server as Telegram would: see `loadtest --help`.

mod flags;
mod limits;

use std::{
    fs,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Parser;

use self::flags::Flags;

/// A request was not answered as it should, or the load could not be made.
const FAILED: u8 = 1;
/// The options make no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::parse();
    limits::raise_open_files();
    match run(&flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(Failed { message, code }) => {
            eprintln!("loadtest: {message}");
            ExitCode::from(code)
        }
    }
}

struct Failed {
    message: String,
    code: u8,
}

impl From<loadtest::Error> for Failed {
    fn from(error: loadtest::Error) -> Self {
        let code = if error.is_usage() { USAGE } else { FAILED };
        Self { message: error.to_string(), code }
    }
}

/// Whether everything was answered.
fn run(flags: &Flags) -> Result<bool, Failed> {
    let options = flags.options()?;
    let terminal = io::stderr().is_terminal();
    let report = loadtest::run_watched(&options, |progress| match terminal {
        _ if flags.quiet => {}
        // Over the line before.
        true => eprint!("\r\x1b[K{progress}"),
        false => eprintln!("{progress}"),
    })?;
    if terminal && !flags.quiet {
        eprint!("\r\x1b[K");
    }
    print!("{report}");
    if let Some(file) = &flags.report {
        let failed = |reason: String| Failed {
            message: format!("cannot write {}: {reason}", file.display()),
            code: FAILED,
        };
        let json = serde_json::to_vec_pretty(&report).map_err(|error| failed(error.to_string()))?;
        fs::write(file, json).map_err(|error| failed(error.to_string()))?;
    }
    Ok(report.is_ok())
}
