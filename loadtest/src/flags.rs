//! What was typed, and what it means.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use loadtest::{
    Driver, Error, Options, Plan, Rate, Replay, Stop, Target, Telegram, TelegramBot, TlsVersion,
    Trust,
};

use crate::{refuse, report_flags::ReportFlags, seeds, verify_flags::VerifyFlags};

/// Drives a webhook server as Telegram would, and measures how fast it answers.
///
/// Requests fall due at an even rate and latency is counted from then, so a server that stalls is
/// seen to stall for every request that was due meanwhile.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit status: 0 if every request was answered with 2xx (with --as telegram, \
                  in the end) and every expectation holds, 1 if not, 2 if the options make no sense."
)]
pub(crate) struct Flags {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    run: Option<RunFlags>,
}

impl Flags {
    /// What was typed; if it makes no sense, the process ends with a message.
    pub(crate) fn read() -> Command {
        let Self { command, run } = match Self::try_parse() {
            Ok(flags) => flags,
            Err(error) => refuse(&error),
        };
        // A run without flags lacks its target, so clap has not let it through.
        command.or_else(|| run.map(|run| Command::Run(Box::new(run)))).unwrap_or_else(|| {
            Self::command().error(ErrorKind::MissingRequiredArgument, "--target is missing").exit()
        })
    }
}

/// One of the things that the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunFlags>),
    Report(ReportFlags),
    /// List the built-in plans.
    Plans(PlansFlags),
    Verify(VerifyFlags),
    /// Print the updates of a run, one on a line: to try "verify" or --replay with.
    #[command(hide = true)]
    Generate(GenerateFlags),
}

/// Which updates to print.
#[derive(Args, Debug)]
pub(crate) struct GenerateFlags {
    /// How many
    #[arg(long, value_name = "N")]
    pub(crate) updates: u64,

    /// As for a run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) first_update_id: u64,

    /// As for a run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// As for a run
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) chats: u32,

    /// As for a run
    #[arg(long, value_name = "SECONDS")]
    pub(crate) date: u32,
}

/// Which plans to print.
#[derive(Args, Debug)]
pub(crate) struct PlansFlags {
    /// Print the text of this plan, to begin one of your own with
    pub(crate) name: Option<String>,
}

/// Drive a server; "run" may be left out.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 if every request was answered with 2xx (with --as telegram, \
                  in the end) and every expectation holds, 1 if not, 2 if the options make no sense."
)]
pub(crate) struct RunFlags {
    /// The webhook's URL: http:// or https://
    #[arg(long, value_name = "URL", required_unless_present = "bot", conflicts_with = "bot")]
    target: Option<Target>,

    /// Follow the rules of this sender to the letter: when it connects and with how many
    /// connections, what it sends when, how often it tries again and when it gives up
    #[arg(long = "as", value_name = "SENDER")]
    sender: Option<SenderFlag>,

    /// With --as telegram: one of several bots, each of which gets all of the load. May be repeated
    #[arg(long, value_name = "url=URL[,secret-file=FILE]", value_parser = bot, requires = "sender")]
    bot: Vec<BotFlag>,

    /// With --as telegram: divide all of its times by this
    #[arg(long, value_name = "N", requires = "sender")]
    time_scale: Option<f64>,

    /// A built-in plan (see "loadtest plans") or a TOML file with one; other flags win over it
    #[arg(long, value_name = "NAME|FILE")]
    plan: Option<String>,

    /// Connections, each with at most one request in flight; with --as telegram what setWebhook
    /// calls max_connections [default: 200, or 40]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,

    /// Requests per second, or "max": each connection sends as soon as it has its answer
    /// [default: 1000]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,

    /// How long to make requests, as in 10s or 5m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,

    /// For how long at the beginning no latency is recorded
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    warmup: Option<Duration>,

    /// What must hold at the end, as in p99=5ms: p50, p90, p99, p99.9 or max of the latency from
    /// due time, lost=0, errors=0, rate=99% (of what was asked). May be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    expect: Vec<String>,

    /// Stop after so many requests instead
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    requests: Option<u64>,

    /// File with the secret token for X-Telegram-Bot-Api-Secret-Token
    #[arg(long, value_name = "FILE")]
    secret_token_file: Option<PathBuf>,

    /// PEM file with the server's certificate, or the authority that signed it
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// Take any certificate
    #[arg(long)]
    insecure: bool,

    /// Take any certificate, and do not check who signed a handshake either: less work for the
    /// generator where it measures the server's handshakes
    #[arg(long, conflicts_with_all = ["ca", "insecure"])]
    unchecked: bool,

    /// Offer this version of TLS only. Always offered are the groups X25519, P-256 and P-384 in
    /// this order, as Telegram does (its x448 and P-521 are left out), and no ALPN
    #[arg(long, value_name = "VERSION")]
    tls: Option<TlsFlag>,

    /// Resume TLS sessions on new connections, which Telegram does not
    #[arg(long)]
    resume: bool,

    /// Offer X25519MLKEM768 before the other groups, which Telegram does not
    #[arg(long)]
    post_quantum: bool,

    /// Make a new connection for each request
    #[arg(long)]
    churn: bool,

    /// The share of updates, as in 2% or 0.02, that are sent twice, on different connections: half
    /// of them together, half after the first was acknowledged
    #[arg(long, value_name = "SHARE", value_parser = share)]
    duplicates: Option<f64>,

    /// How long a request may take, connecting included, and how long after the last was due the
    /// run waits for what is still to be sent [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// Where the random numbers start: equal seeds and dates give equal updates [default: another
    /// one for each run, which the report tells]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Distinct chats, up to 1000000; some write far more often than others [default: 10000]
    #[arg(long, value_name = "N")]
    chats: Option<u32>,

    /// Send the updates of this file instead, one as JSON on each line, once; all of them unless
    /// --requests or --duration end it before
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kinds", "size", "albums", "zipf", "chats"])]
    replay: Option<PathBuf>,

    /// Give replayed updates ids without gaps, from --first-update-id on
    #[arg(long, requires = "replay")]
    renumber: bool,

    /// The only kinds of updates, each with its weight, as in message:90,callback_query:10
    #[arg(long, value_name = "KIND:WEIGHT,...")]
    kinds: Option<String>,

    /// How much more often some chats write than others: 0 is alike, 1 as one over the rank
    #[arg(long, value_name = "EXPONENT")]
    zipf: Option<String>,

    /// Sizes of bodies in bytes, as in p50=1200,max=65536
    #[arg(long, value_name = "SIZES")]
    size: Option<String>,

    /// The share of updates, as in 5% or 0.05, that are photos of albums
    #[arg(long, value_name = "SHARE")]
    albums: Option<String>,

    /// Date of the updates, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    date: Option<u32>,

    /// Id of the first update; the others follow without gaps [default: 1 with --seed, else another
    /// one for each run, so that a server does not take them for copies]
    #[arg(long, value_name = "N")]
    first_update_id: Option<u64>,

    /// Keep the generator on this CPU
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,

    /// How to talk to the kernel
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    driver: DriverFlag,

    /// Hold so many connections open beside the run that shake hands and say nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) idle: usize,

    /// Let each of the idle connections have one request answered before it says nothing more; the
    /// run's updates follow theirs
    #[arg(long)]
    idle_asked: bool,

    /// Hold so many connections open beside the run that send a head or a body at a byte a second;
    /// those that the server closes are made anew
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) slow: usize,

    /// Tell what the idle and slow connections cost in memory of this process, the server, with all
    /// that descend from it
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,

    /// Write the report as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Write latency profiles (HdrHistogram's .hlog and .hgrm) and the report (client.json) into
    /// this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) profile: Option<PathBuf>,

    /// Print the report as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// No progress on standard error
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl RunFlags {
    /// What the flags ask for; reads the files they name.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn options(&self) -> Result<Options, Error> {
        let missing = || Error::Option("--target is missing".to_owned());
        let target = self.target.as_ref().or_else(|| self.bot.first().map(|bot| &bot.target));
        let mut options = Options::new(target.ok_or_else(missing)?.clone());
        if let Some(SenderFlag::Telegram) = self.sender {
            options.connections = MAX_CONNECTIONS;
            options.telegram = Some(self.telegram()?);
        }
        options.payload.seed = seeds::seed();
        if let Some(plan) = &self.plan {
            read_plan(plan)?.apply(&mut options)?;
        }
        set(&mut options.connections, self.connections);
        if let Some(rate) = self.rate {
            options.rate = rate;
            options.phases.clear();
            // What a plan expects of its own rate makes no sense without one.
            options.expect.rate = options.expect.rate.filter(|_| rate != Rate::Max);
        }
        if let Some(file) = &self.replay {
            options.replay = Some(Replay { file: file.clone(), renumber: self.renumber });
            if self.plan.is_none() {
                // As many as there are.
                options.stop = Stop::Requests(u64::MAX);
            }
        }
        set(&mut options.stop, self.duration.map(Stop::After));
        set(&mut options.stop, self.requests.map(Stop::Requests));
        set(&mut options.warmup, self.warmup);
        for expectation in &self.expect {
            let (key, value) = expectation.split_once('=').unwrap_or((expectation, ""));
            options.expect.set(key.trim(), value.trim())?;
        }
        set(&mut options.payload.seed, self.seed);
        set(&mut options.payload.chats, self.chats);
        for (key, typed) in [
            ("albums", &self.albums),
            ("kinds", &self.kinds),
            ("size", &self.size),
            ("zipf", &self.zipf),
        ] {
            if let Some(value) = typed {
                options.payload.set(key, value)?;
            }
        }
        options.payload.date = self.date.unwrap_or_else(seeds::seconds_since_1970);
        options.first_update_id = match (self.first_update_id, self.seed) {
            (Some(typed), _) => typed,
            (None, Some(_)) => 1,
            (None, None) => seeds::first_update_id(),
        };
        options.trust = self.trust()?;
        options.tls = self.tls.map(TlsFlag::version);
        options.resume |= self.resume;
        options.post_quantum = self.post_quantum;
        options.idle_asked = self.idle_asked;
        options.churn |= self.churn;
        set(&mut options.duplicates, self.duplicates);
        set(&mut options.timeout, self.timeout);
        options.profile.clone_from(&self.profile);
        options.pin = self.pin;
        options.driver = self.driver.driver();
        if let Some(file) = &self.secret_token_file {
            let token = String::from_utf8_lossy(&read(file)?).trim().to_owned();
            options.secret_token = Some(token);
        }
        Ok(options)
    }

    fn telegram(&self) -> Result<Telegram, Error> {
        let mut telegram = Telegram::default();
        set(&mut telegram.time_scale, self.time_scale);
        for BotFlag { target, secret_file } in &self.bot {
            let secret_token = match secret_file {
                Some(file) => Some(String::from_utf8_lossy(&read(file)?).trim().to_owned()),
                None => None,
            };
            telegram.bots.push(TelegramBot { target: target.clone(), secret_token });
        }
        Ok(telegram)
    }

    /// Whether any server is asked for TLS.
    fn is_tls(&self) -> bool {
        self.target.iter().chain(self.bot.iter().map(|bot| &bot.target)).any(Target::is_tls)
    }

    fn trust(&self) -> Result<Trust, Error> {
        match &self.ca {
            Some(file) => Trust::pem(&read(file)?),
            None if self.insecure => Ok(Trust::Anything),
            None if self.unchecked => Ok(Trust::Unchecked),
            None if self.is_tls() => {
                Err(Error::Option("an https target needs --ca FILE or --insecure".to_owned()))
            }
            None => Ok(Trust::Nothing),
        }
    }
}

/// What Telegram takes where setWebhook did not name a number.
const MAX_CONNECTIONS: usize = 40;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SenderFlag {
    Telegram,
}

#[derive(Clone, Debug)]
struct BotFlag {
    target: Target,
    secret_file: Option<PathBuf>,
}

/// `url=URL` and `secret-file=FILE`, separated by a comma that is followed by the latter: a URL may
/// have commas, too.
fn bot(text: &str) -> Result<BotFlag, String> {
    let (url, file) = text.split_once(",secret-file=").map_or((text, None), |(a, b)| (a, Some(b)));
    let url = url.strip_prefix("url=").ok_or("expected url=URL[,secret-file=FILE]")?;
    let target = url.parse().map_err(|error: Error| error.to_string())?;
    Ok(BotFlag { target, secret_file: file.map(PathBuf::from) })
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TlsFlag {
    #[value(name = "1.2")]
    V1_2,
    #[value(name = "1.3")]
    V1_3,
}

impl TlsFlag {
    fn version(self) -> TlsVersion {
        match self {
            Self::V1_2 => TlsVersion::V1_2,
            Self::V1_3 => TlsVersion::V1_3,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DriverFlag {
    /// io_uring if it can be had, else epoll
    Auto,
    Epoll,
    #[value(name = "io_uring")]
    IoUring,
}

impl DriverFlag {
    fn driver(self) -> Driver {
        match self {
            Self::Auto => Driver::Auto,
            Self::Epoll => Driver::Epoll,
            Self::IoUring => Driver::IoUring,
        }
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    text.parse().map(Rate::PerSecond).map_err(|_| "expected a number or max".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    loadtest::share(text).ok_or_else(|| "expected a share as 2% or 0.02".to_owned())
}

/// A flag that was typed wins over what was there.
fn set<T>(place: &mut T, typed: Option<T>) {
    if let Some(value) = typed {
        *place = value;
    }
}

/// A built-in plan, or one in a file: what has a dot or a slash is a file.
fn read_plan(plan: &str) -> Result<Plan, Error> {
    if let Some((name, text)) = Plan::built_in().find(|(name, _)| *name == plan) {
        return Plan::parse(name, text);
    }
    if !plan.contains(['.', '/']) {
        let names: Vec<&str> = Plan::built_in().map(|(name, _)| name).collect();
        let expected = format!("a file such as ./{plan}.toml, or one of {}", names.join(", "));
        return Err(Error::Option(format!("--plan = {plan}: expected {expected}")));
    }
    Plan::parse(plan, &String::from_utf8_lossy(&read(Path::new(plan))?))
}

/// Reads a file that a flag names.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file)
        .map_err(|error| Error::Option(format!("cannot read {}: {error}", file.display())))
}
