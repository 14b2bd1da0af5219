//! How many instructions an update takes in this process, by step, compared with the committed
//! baseline `benches/instructions.toml`. Times differ from run to run and from machine to machine;
//! instructions, which valgrind's callgrind counts, hardly do.
//!
//! `cargo bench --bench instructions` ends with 1 where a step or the whole takes over 5 % more
//! than the baseline. It ends with 2 where no comparison is possible: without valgrind, or where
//! the compiler, the C library or the CPU's features are not those of the baseline, since other
//! code is compiled or chosen then. `-- --bless` makes what is measured the baseline.
//!
//! With `BENCH_WITHOUT_DATE=1` in the environment the answers have no `Date`, to see what that
//! costs.
//!
//! `whole` has a handler that asks for a value of each update; `whole_unread` has one that asks for
//! none, as where updates are passed on to a file or to a bot behind HTTP.
//!
//! What is counted is `support/path.rs`: from a request's records to a settled update, without the
//! kernel and what calls it. Callgrind knows no AVX-512, so the libraries choose code without it.
#![allow(missing_docs, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
    str,
};

use serde::{Deserialize, Serialize};
use support::path::{Path, STEPS};

/// More than this much above the baseline fails.
const TOLERANCE: f64 = 0.05;
/// A difference of fewer instructions is ignored, however few a step takes.
const TRIFLE: f64 = 10.0;
/// Two counts of the same code must differ by less, or no comparison is possible.
const REPEATABLE: f64 = 0.005;
/// Updates before the count, so that all memory is there, and those that are counted.
const WARM_UP: u64 = 1024;
const COUNTED: u64 = 4096;
/// The argument of the process that runs under valgrind, and one where no value is asked for.
const DRIVEN: &str = "--driven-by-callgrind";
const UNREAD: &str = "--unread";
/// What is counted where no value is asked for: the parse step, and the whole.
const UNREAD_STEPS: [&str; 2] = ["parse_unread", "whole_unread"];

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    if args.iter().any(|arg| arg == DRIVEN) {
        drive(!args.iter().any(|arg| arg == UNREAD));
        return ExitCode::SUCCESS;
    }
    let (first, second) = match (count(), count()) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(why), _) | (_, Err(why)) => {
            println!("nothing was counted: {why}");
            return ExitCode::from(2);
        }
    };
    if args.iter().any(|arg| arg == "--bless") {
        fs::write(baseline_file(), first.to_toml()).unwrap();
        print!("{}", first.to_toml());
        return ExitCode::SUCCESS;
    }
    let text = fs::read_to_string(baseline_file()).unwrap();
    judge(&toml::from_str(&text).unwrap(), &first, &second)
}

fn baseline_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml")
}

/// What was counted, and with what.
#[derive(Deserialize, Serialize)]
struct Count {
    circumstances: Circumstances,
    /// Instructions per update, by step; `whole` is their sum.
    instructions: BTreeMap<String, f64>,
}

/// What decides which code runs.
#[derive(Deserialize, Eq, PartialEq, Serialize)]
struct Circumstances {
    compiler: String,
    c_library: String,
    /// Whether the compiler optimised.
    profile: String,
    /// Those that code is chosen by, as valgrind has them.
    cpu_features: Vec<String>,
}

impl Count {
    fn to_toml(&self) -> String {
        let head = "# Instructions per update, as `cargo bench --bench instructions -- --bless` has counted \
                    them.\n# A commit that changes it says in its message what takes more, and why \
                    it is worth it.\n";
        format!("{head}{}", toml::to_string(self).unwrap())
    }
}

/// Prints both counts beside the baseline, and lists the steps that take more.
fn judge(baseline: &Count, first: &Count, second: &Count) -> ExitCode {
    println!("{:<12} {:>9} {:>9} {:>9} {:>7}", "step", "baseline", "count", "again", "change");
    let (mut dearer, mut unsure) = (Vec::new(), Vec::new());
    for step in STEPS.into_iter().chain(["whole"]).chain(UNREAD_STEPS) {
        let [before, now, again] =
            [baseline, first, second].map(|count| count.instructions.get(step).copied());
        let (Some(before), Some(now), Some(again)) = (before, now, again) else {
            unsure.push(format!("{step} was not counted"));
            continue;
        };
        let change = now / before - 1.0;
        let percent = 100.0 * change;
        println!("{step:<12} {before:>9.1} {now:>9.1} {again:>9.1} {percent:>+6.1}%");
        if (now - again).abs() > (REPEATABLE * now).max(TRIFLE) {
            unsure.push(format!("{step}: {now:.1} at first and {again:.1} then"));
        }
        if change > TOLERANCE && now - before > TRIFLE {
            let most = 100.0 * TOLERANCE;
            dearer.push(format!(
                "{step}: {now:.1} instructions per update, {percent:.1} % above the baseline's \
                 {before:.1}; at most {most} % are let through"
            ));
        }
    }
    let (then, today) = (&baseline.circumstances, &first.circumstances);
    for (what, then, today) in [
        ("compiler", &then.compiler, &today.compiler),
        ("C library", &then.c_library, &today.c_library),
        ("profile", &then.profile, &today.profile),
        ("CPU features", &then.cpu_features.join(" "), &today.cpu_features.join(" ")),
    ] {
        if then != today {
            unsure.push(format!("{what}: the baseline has \"{then}\", here it is \"{today}\""));
        }
    }
    if !unsure.is_empty() {
        println!("\nNOT COMPARED, other code may have run than that of the baseline:");
        unsure.iter().for_each(|line| println!("  {line}"));
        println!("Where this is how it shall be from now on: -- --bless");
        return ExitCode::from(2);
    }
    if !dearer.is_empty() {
        println!("\nDEARER:");
        dearer.iter().for_each(|line| println!("  {line}"));
        println!("Where that is worth it: -- --bless, and the reason in the commit message");
        return ExitCode::FAILURE;
    }
    println!("\nwithin {} % of the baseline", 100.0 * TOLERANCE);
    ExitCode::SUCCESS
}

/// Takes updates along the whole path, and prints the circumstances.
fn drive(asks: bool) {
    let mut path = Path::new(asks);
    path.run(WARM_UP);
    counted_run(&mut path);
    print!("{}", features().join(" "));
}

/// What is counted; callgrind knows it by its name.
#[inline(never)]
fn counted_run(path: &mut Path) {
    path.run(COUNTED);
}

/// Counts both: where values of an update are asked for, and where it is passed on as it is.
fn count() -> Result<Count, String> {
    let mut count = count_one(&[])?;
    let unread = count_one(&[UNREAD])?.instructions;
    for (name, step) in UNREAD_STEPS.into_iter().zip(["parse", "whole"]) {
        let cost = unread.get(step).copied().unwrap_or_default();
        count.instructions.insert(name.to_owned(), cost);
    }
    Ok(count)
}

/// Runs this program under callgrind.
fn count_one(args: &[&str]) -> Result<Count, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let profile = dir.path().join("profile");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_run*"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe().map_err(|error| error.to_string())?)
        .arg(DRIVEN)
        .args(args)
        // Nothing that a user has set may choose code.
        .env_remove("GLIBC_TUNABLES")
        .env_remove("OPENSSL_ia32cap")
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    if !run.status.success() {
        return Err(format!("valgrind failed: {}", String::from_utf8_lossy(&run.stderr)));
    }
    let profile = fs::read_to_string(profile).map_err(|error| error.to_string())?;
    let features = String::from_utf8_lossy(&run.stdout);
    let cpu_features = features.split_whitespace().map(str::to_owned).collect();
    let profile_name = if cfg!(debug_assertions) { "debug" } else { "release" };
    let circumstances = Circumstances {
        compiler: said_by("rustc"),
        c_library: said_by("ldd"),
        profile: profile_name.to_owned(),
        cpu_features,
    };
    Ok(Count { circumstances, instructions: by_step(&profile)? })
}

/// Reads the costs of the steps, with all that they call, out of a profile.
fn by_step(profile: &str) -> Result<BTreeMap<String, f64>, String> {
    let mut costs: BTreeMap<String, f64> = STEPS.map(|step| (step.to_owned(), 0.0)).into();
    let step_of = |name: &str| {
        let step = |step: &&&str| name.contains(&format!("::step_{step}"));
        STEPS.iter().find(step).map(|step| (*step).to_owned())
    };
    let (mut called, mut is_call) = (None, false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            called = step_of(name);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if std::mem::take(&mut is_call)
            && let Some(step) = called.take()
        {
            // The line of the source, then the cost.
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<f64>().ok());
            let cost = cost.ok_or_else(|| format!("not a cost: {line}"))?;
            *costs.entry(step).or_default() += cost;
        }
    }
    // A head is routed while it is lent out.
    let route = costs.get("route").copied().unwrap_or(0.0);
    *costs.entry("http".to_owned()).or_default() -= route;
    for cost in costs.values_mut() {
        *cost = (*cost / COUNTED as f64 * 10.0).round() / 10.0;
    }
    let missing: Vec<_> = costs.iter().filter(|(_, cost)| **cost == 0.0).collect();
    if !missing.is_empty() {
        return Err(format!("the profile has nothing of {missing:?}"));
    }
    let whole = costs.values().sum();
    costs.insert("whole".to_owned(), whole);
    Ok(costs)
}

/// The first line of a program's version output.
fn said_by(program: &str) -> String {
    let said = Command::new(program).arg("--version").output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    said.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

/// Features of the CPU by which the C library, the cryptography and the JSON parser choose code.
fn features() -> Vec<&'static str> {
    let mut features = Vec::new();
    macro_rules! check {
        ($($name:tt)*) => {$(
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!($name) {
                features.push($name);
            }
            #[cfg(target_arch = "aarch64")]
            if std::arch::is_aarch64_feature_detected!($name) {
                features.push($name);
            }
        )*};
    }
    #[cfg(target_arch = "x86_64")]
    check!("aes" "avx" "avx2" "avx512f" "bmi1" "bmi2" "fma" "movbe" "pclmulqdq" "rdrand" "sha"
        "sse4.2" "vaes" "vpclmulqdq");
    #[cfg(target_arch = "aarch64")]
    check!("aes" "neon" "pmull" "sha2" "sha3" "sve");
    features
}
