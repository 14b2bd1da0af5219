//! What was typed, and what it means.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use loadtest::{
    Driver, Error, Options, PayloadOptions, Rate, Retry, Stop, Target, TlsVersion, Trust,
};

use crate::{report_flags::ReportFlags, verify_flags::VerifyFlags};

/// Drives a webhook server as Telegram would, and measures how fast it answers.
///
/// Requests fall due at an even rate and latency is counted from then, so a server that stalls is
/// seen to stall for every request that was due meanwhile.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit status: 0 if every request was answered with 2xx (with --retry, in the \
                  end), 1 if any was not, 2 if the options make no sense."
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
        let Self { command, run } = Self::parse();
        // A run without flags lacks its target, so clap has not let it through.
        command.or_else(|| run.map(|run| Command::Run(Box::new(run)))).unwrap_or_else(|| {
            Self::command().error(ErrorKind::MissingRequiredArgument, "--target is missing").exit()
        })
    }
}

/// One of the things that the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A run, which has no name of its own.
    #[command(skip)]
    Run(Box<RunFlags>),
    Report(ReportFlags),
    Verify(VerifyFlags),
}

/// How to drive a server.
#[derive(Args, Debug)]
pub(crate) struct RunFlags {
    /// The webhook's URL: http:// or https://
    #[arg(long, value_name = "URL")]
    target: Target,

    /// Connections, each with at most one request in flight
    #[arg(long, value_name = "N", default_value_t = 200)]
    connections: usize,

    /// Requests per second, or "max": each connection sends as soon as it has its answer
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = rate)]
    rate: Rate,

    /// How long to make requests, as in 10s or 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,

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

    /// Offer this version of TLS only
    #[arg(long, value_name = "VERSION")]
    tls: Option<TlsFlag>,

    /// Resume TLS sessions on new connections, which Telegram does not
    #[arg(long)]
    resume: bool,

    /// Make a new connection for each request
    #[arg(long)]
    churn: bool,

    /// Send what fails again as Telegram does: after 0, 2, 4, 8, 16, 32 s, then 60 to 120 s, or
    /// after Retry-After. The updates of a chat leave one by one, in order; a chat whose update
    /// failed waits
    #[arg(long)]
    retry: bool,

    /// What the delays of retries are divided by
    #[arg(long, value_name = "N", default_value_t = 1.0, requires = "retry")]
    retry_scale: f64,

    /// The share of updates, as in 2% or 0.02, that are sent twice, on different connections: half
    /// of them together, half after the first was acknowledged
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    duplicates: f64,

    /// How long a request may take, connecting included, and how long after the last was due the
    /// run waits for what is still to be sent
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Where the random numbers start: equal seeds and dates give equal updates
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Distinct chats, up to 1000000; some write far more often than others
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    chats: u32,

    /// Date of the updates, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    date: Option<u32>,

    /// Id of the first update; the others follow without gaps
    #[arg(long, value_name = "N", default_value_t = 1)]
    first_update_id: u64,

    /// Keep the generator on this CPU
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,

    /// How to talk to the kernel
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    driver: DriverFlag,

    /// Write the report as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Write latency profiles (HdrHistogram's .hlog and .hgrm) and the report (client.json) into
    /// this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) profile: Option<PathBuf>,

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
        let mut options = Options::new(self.target.clone());
        options.connections = self.connections;
        options.rate = self.rate;
        options.stop = self.requests.map_or(Stop::After(self.duration), Stop::Requests);
        options.payload = PayloadOptions {
            seed: self.seed,
            chats: self.chats,
            date: self.date.unwrap_or_else(seconds_since_1970),
        };
        options.first_update_id = self.first_update_id;
        options.trust = self.trust()?;
        options.tls = self.tls.map(TlsFlag::version);
        options.resume = self.resume;
        options.churn = self.churn;
        options.retry = self.retry.then_some(Retry { scale: self.retry_scale });
        options.duplicates = self.duplicates;
        options.timeout = self.timeout;
        options.profile.clone_from(&self.profile);
        options.pin = self.pin;
        options.driver = self.driver.driver();
        if let Some(file) = &self.secret_token_file {
            let token = String::from_utf8_lossy(&read(file)?).trim().to_owned();
            options.secret_token = Some(token);
        }
        Ok(options)
    }

    fn trust(&self) -> Result<Trust, Error> {
        match &self.ca {
            Some(file) => Trust::pem(&read(file)?),
            None if self.insecure => Ok(Trust::Anything),
            None if self.target.is_tls() => {
                Err(Error::Option("an https target needs --ca FILE or --insecure".to_owned()))
            }
            None => Ok(Trust::Nothing),
        }
    }
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
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let number: f64 = number.trim().parse().map_err(|_| "expected a share as 2% or 0.02")?;
    Ok(number / whole)
}

/// Reads a file that a flag names.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file)
        .map_err(|error| Error::Option(format!("cannot read {}: {error}", file.display())))
}

fn seconds_since_1970() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}
