//! Drives a webhook server as Telegram would: see `loadtest --help`.

mod flags;
mod limits;
mod verify_flags;

use std::{
    fs::{self, File},
    io::{self, BufReader, IsTerminal, Read},
    path::Path,
    process::ExitCode,
};

use loadtest::{Crowd, Options};

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
    let crowd = gather(flags, &options)?;
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
    if let Some((crowd, memory)) = crowd {
        let memory = memory.map(|text| format!("; {text}")).unwrap_or_default();
        let told = crowd.disperse()?;
        println!(
            "beside it    {} silent connections, {} still open; {} slow ones, {} ended by the \
             server; made in {:.1} s{memory}",
            told.silent,
            told.still_open,
            flags.slow,
            told.ended,
            told.took.as_secs_f64(),
        );
    }
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

/// The connections beside the run, if any are asked for, and what they cost the server.
fn gather(flags: &RunFlags, options: &Options) -> Result<Option<(Crowd, Option<String>)>, Failed> {
    let count = flags.idle.saturating_add(flags.slow);
    if count == 0 {
        return Ok(None);
    }
    let resident = || flags.server_pid.map(resident).transpose();
    let before = resident()?;
    let crowd = Crowd::gather(options, flags.idle, flags.slow)?;
    let memory = before.zip(resident()?).map(|(before, after)| {
        let each = after.saturating_sub(before) as f64 / count as f64;
        format!("the server grew from {before} to {after} KiB, {each:.1} KiB each")
    });
    Ok(Some((crowd, memory)))
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> Result<u64, Failed> {
    let file = format!("/proc/{pid}/status");
    let failed = |reason: String| Failed { message: format!("{file}: {reason}"), code: USAGE };
    let status = fs::read_to_string(&file).map_err(|error| failed(error.to_string()))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split(' ').rev().nth(1));
    kib.and_then(|kib| kib.trim().parse().ok()).ok_or_else(|| failed("no VmRSS".to_owned()))
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
