//! Drives a webhook server as Telegram would: see `loadtest --help`.

mod flags;
mod limits;
mod report_flags;
#[cfg(feature = "screen")]
mod screen;
mod seeds;
mod verify_flags;

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, IsTerminal, Read, Write},
    path::Path,
    process::ExitCode,
};

use loadtest::{Crowd, Options, PayloadGenerator, PayloadOptions, Plan, Report, hide_tokens};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::{
    flags::{Command, Flags, GenerateFlags, PlansFlags, RunFlags},
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
        Command::Generate(flags) => generate(&flags),
        Command::Plans(flags) => plans(&flags),
        Command::Verify(flags) => verify(&flags),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(Failed { message, code }) => {
            eprintln!("loadtest: {}", hide_tokens(&message));
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

/// Whether everything was answered, and all is as expected.
fn run(flags: &RunFlags) -> Result<bool, Failed> {
    limits::raise_open_files();
    let mut options = flags.options()?;
    end_early_on_a_signal(&options);
    let crowd = gather(flags, &mut options)?;
    let mut report = watched(flags, &options)?;
    report.command = command();
    let json = serde_json::to_string_pretty(&report)
        .map_err(|error| Failed { message: error.to_string(), code: FAILED })?;
    // Names of files may have a token in them as well.
    let json = hide_tokens(&json);
    if flags.json {
        println!("{json}");
    } else {
        print!("{}", hide_tokens(&report.to_string()));
    }
    let mut are_all_open = true;
    if let Some((crowd, memory)) = crowd {
        let (beside, closed) = beside(flags, crowd, memory)?;
        if flags.json {
            eprintln!("{beside}")
        } else {
            println!("{beside}")
        }
        if closed > 0 {
            are_all_open = false;
            eprintln!("loadtest: the server has closed {closed} of the silent connections");
        }
    }
    let profiled = flags.profile.as_ref().map(|directory| directory.join("client.json"));
    for file in flags.report.iter().chain(&profiled) {
        fs::write(file, &json).map_err(|error| Failed {
            message: format!("cannot write {}: {error}", file.display()),
            code: FAILED,
        })?;
    }
    for expectation in report.expectations.iter().filter(|expectation| !expectation.ok) {
        eprintln!("loadtest: {expectation}");
    }
    Ok(report.is_as_expected() && are_all_open)
}

/// What became of the connections beside the run, and how many silent ones are closed.
fn beside(
    flags: &RunFlags,
    crowd: Crowd,
    memory: Option<String>,
) -> Result<(String, usize), Failed> {
    let memory = memory.map(|text| format!("; {text}")).unwrap_or_default();
    let told = crowd.disperse()?;
    let text = format!(
        "beside it    {} silent connections, {} still open; {} slow ones, {} ended by the server; \
         made in {:.1} s{memory}",
        told.silent,
        told.still_open,
        flags.slow,
        told.ended,
        told.took.as_secs_f64(),
    );
    Ok((text, told.silent.saturating_sub(told.still_open)))
}

/// Runs it, and shows meanwhile how far it is.
fn watched(flags: &RunFlags, options: &Options) -> Result<Report, loadtest::Error> {
    let terminal = io::stderr().is_terminal() && !flags.quiet;
    #[cfg(feature = "screen")]
    if terminal
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
        && let Some(screen) = screen::Screen::open(options)
    {
        let mut screen = Some(screen);
        return loadtest::run_watched(options, |progress| {
            if options.cancel.load(std::sync::atomic::Ordering::Relaxed) {
                // Another signal may end the process, and must not leave the terminal as it is.
                screen = None;
            }
            if let Some(screen) = &screen {
                screen.show(progress);
            }
        });
    }
    let report = loadtest::run_watched(options, |progress| match terminal {
        _ if flags.quiet => {}
        // Over the line before.
        true => eprint!("\r\x1b[K{progress}"),
        false => eprintln!("{progress}"),
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    report
}

/// Lets the first SIGINT or SIGTERM end the run with a report, and the second end the process.
fn end_early_on_a_signal(options: &Options) {
    for signal in [SIGINT, SIGTERM] {
        // If that cannot be had, the process ends without a report, as others do.
        let again = std::sync::Arc::clone(&options.cancel);
        let _ = signal_hook::flag::register_conditional_default(signal, again);
        let _ = signal_hook::flag::register(signal, std::sync::Arc::clone(&options.cancel));
    }
}

/// The arguments of this process, without the users and passwords of URLs, and without bots'
/// tokens.
fn command() -> Vec<String> {
    // Whatever stands between :// and the last @ before the path.
    let shown = |argument: String| {
        let Some((before, url)) = argument.split_once("://") else { return argument };
        let end = url.find(['/', '?', '#']).unwrap_or(url.len());
        let (authority, rest) = url.split_at_checked(end).unwrap_or((url, ""));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{before}://{host}{rest}")
    };
    let shown = |argument: String| hide_tokens(&shown(argument));
    std::env::args_os().map(|argument| shown(argument.to_string_lossy().into_owned())).collect()
}

/// Prints the updates that a run sends.
fn generate(flags: &GenerateFlags) -> Result<bool, Failed> {
    let GenerateFlags { updates, first_update_id, seed, chats, date } = *flags;
    let payload = PayloadOptions { seed, chats, date, ..PayloadOptions::default() };
    let generator = PayloadGenerator::new(&payload);
    let mut out = BufWriter::with_capacity(SINK_BUFFER_BYTES, io::stdout().lock());
    let mut line = Vec::new();
    let mut write = || -> io::Result<()> {
        for id in (first_update_id..).take(usize::try_from(updates).unwrap_or(usize::MAX)) {
            line.clear();
            generator.write(&mut line, id);
            // The only line end is where Telegram puts it.
            line.retain(|byte| *byte != b'\n');
            line.push(b'\n');
            out.write_all(&line)?;
        }
        out.flush()
    };
    match write() {
        // The reader has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(Failed { message: error.to_string(), code: FAILED }),
        Ok(()) => Ok(true),
    }
}

/// Prints the built-in plans, or one of them.
fn plans(flags: &PlansFlags) -> Result<bool, Failed> {
    if let Some(name) = &flags.name {
        let Some((_, text)) = Plan::built_in().find(|(built_in, _)| built_in == name) else {
            let message = format!("there is no built-in plan {name:?}: see \"loadtest plans\"");
            return Err(Failed { message, code: USAGE });
        };
        print!("{text}");
        return Ok(true);
    }
    for (name, text) in Plan::built_in() {
        println!("{name:<22}{}", Plan::parse(name, text)?.name().about);
    }
    Ok(true)
}

/// The connections beside the run, if any are asked for, and what they cost the server. Takes the
/// updates that they send away from the run.
fn gather(
    flags: &RunFlags,
    options: &mut Options,
) -> Result<Option<(Crowd, Option<String>)>, Failed> {
    let idle = if flags.idle > 0 { flags.idle } else { options.idle };
    let count = idle.saturating_add(flags.slow);
    if count == 0 {
        return Ok(None);
    }
    let resident = || flags.server_pid.map(resident).transpose();
    let before = resident()?;
    let crowd = Crowd::gather(options, idle, flags.slow)?;
    if options.idle_asked {
        options.first_update_id = options.first_update_id.saturating_add(idle as u64);
    }
    let memory = before.zip(resident()?).map(|(before, after)| {
        let each = after.saturating_sub(before) as f64 / count as f64;
        format!("the server grew from {before} to {after} KiB, {each:.1} KiB each")
    });
    Ok(Some((crowd, memory)))
}

/// Resident memory of a process and of all that descend from it, in KiB.
fn resident(pid: u32) -> Result<u64, Failed> {
    let mut sum = resident_alone(pid)?;
    let children = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in children {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in list.split_whitespace().filter_map(|child| child.parse().ok()) {
            // One that has just ended has none.
            sum += resident(child).unwrap_or(0);
        }
    }
    Ok(sum)
}

fn resident_alone(pid: u32) -> Result<u64, Failed> {
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

/// Ends the process as clap does, except that what was typed is shown without a bot's token.
pub(crate) fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    if error.use_stderr() && hide_tokens(&text) != text {
        eprint!("{}", hide_tokens(&text));
        std::process::exit(error.exit_code());
    }
    error.exit()
}
