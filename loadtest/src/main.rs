//! Drives a webhook server as Telegram would: see `loadtest --help`.

mod flags;
mod limits;
mod report_flags;
mod verify_flags;

use std::{
    fs::{self, File},
    io::{self, BufReader, IsTerminal, Read},
    path::Path,
    process::ExitCode,
};

use self::{
    flags::{Command, Flags, RunFlags},
    verify_flags::VerifyFlags,
};

/// A request was not answered as it should, a sink is not as expected, or neither could be tried.
const FAILED: u8 = 1;
/// The options make no sense.
const USAGE: u8 = 2;

/// How much of a sink is read at once.
const SINK_BUFFER_BYTES: usize = 256 * 1024;

fn main() -> ExitCode {
    let done = match Flags::read() {
        Command::Run(flags) => run(&flags),
        Command::Report(flags) => flags.run().map(|()| true).map_err(Failed::from),
        Command::Verify(flags) => verify(&flags),
    };
    match done {
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
fn run(flags: &RunFlags) -> Result<bool, Failed> {
    limits::raise_open_files();
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
    let profiled = flags.profile.as_ref().map(|directory| directory.join("client.json"));
    for file in flags.report.iter().chain(&profiled) {
        let failed = |reason: String| Failed {
            message: format!("cannot write {}: {reason}", file.display()),
            code: FAILED,
        };
        let json = serde_json::to_vec_pretty(&report).map_err(|error| failed(error.to_string()))?;
        fs::write(file, json).map_err(|error| failed(error.to_string()))?;
    }
    Ok(report.is_ok())
}

/// Whether the sink holds what it should.
fn verify(flags: &VerifyFlags) -> Result<bool, Failed> {
    let expected = flags.expected()?;
    let sink = open(&flags.sink)?;
    let verified = loadtest::verify(&expected, BufReader::with_capacity(SINK_BUFFER_BYTES, sink))?;
    if flags.json {
        let json = serde_json::to_string_pretty(&verified)
            .map_err(|error| Failed { message: error.to_string(), code: FAILED })?;
        println!("{json}");
    } else {
        print!("{verified}");
    }
    Ok(verified.ok)
}

fn open(file: &Path) -> Result<Box<dyn Read>, Failed> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let failed =
        |error| Failed { message: format!("cannot read {}: {error}", file.display()), code: USAGE };
    Ok(Box::new(File::open(file).map_err(failed)?))
}
