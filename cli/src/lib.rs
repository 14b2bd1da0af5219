//! The command line: one file for each subcommand. Everything for people goes to stderr; stdout
//! belongs to what a command was asked for.

mod activation;
mod bots;
mod cert;
mod certificates;
mod config;
mod data_dir;
mod dead_letters;
mod doctor;
mod files;
mod greeting;
mod journal;
mod logging;
mod net;
mod notify;
mod outputs;
mod outside;
mod poll;
mod privileges;
mod profile;
mod reload;
mod send;
mod serve;
mod service;
mod setup;
mod sink;
mod stderr;
mod telegram;
mod threads;
mod webhook;
mod webhook_watch;

use std::process::{self, ExitCode};

use clap::{Parser, Subcommand};

use self::stderr::log;
use ringhook::internals::redact::hide_tokens;

use crate::config::{ConfigFile, Secrets};
use ringhook::Error;

/// Receives Telegram webhooks straight off the wire: TLS, HTTP and JSON on io_uring, no proxy.
#[derive(Debug, Parser)]
#[command(name = "ringhook", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::ServeArgs>),
    Cert(cert::CertArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Doctor(doctor::DoctorArgs),
    Journal(journal::JournalArgs),
    Poll(Box<poll::PollArgs>),
    Send(send::SendArgs),
    Webhook(webhook::WebhookArgs),
}

/// Parses the process's arguments and runs the command.
///
/// The exit code is 0 for success, 1 for a failure and 2 for wrong usage or a wrong setting.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => refuse(&error),
    };
    let outcome = match command {
        Command::Cert(args) => cert::run(&args),
        Command::DeadLetters(args) => dead_letters::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Journal(args) => journal::run(&args),
        Command::Poll(args) => poll::run(&args),
        Command::Send(args) => send::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Webhook(args) => webhook::run(&args),
    };
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("ringhook: {error}"));
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    };
    stderr::flush();
    code
}

/// Settings with a flag of their own, and the flag.
#[cfg(test)]
pub(crate) fn setting_flags() -> Vec<(String, String)> {
    use clap::Args as _;

    let commands = [serve::ServeArgs::augment_args, poll::PollArgs::augment_args];
    let commands = commands.map(|augment| augment(clap::Command::new("ringhook")));
    let mut flags: Vec<_> = commands
        .iter()
        .flat_map(clap::Command::get_arguments)
        .filter(|arg| arg.get_id().as_str().contains('.'))
        .map(|arg| (arg.get_id().to_string(), arg.get_long().unwrap_or_default().to_owned()))
        .collect();
    flags.sort();
    flags.dedup();
    flags
}

/// Ends the process as clap does, except that what was typed is shown without a bot's token.
fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    if error.use_stderr() && hide_tokens(&text) != text {
        log(text.trim_end());
        process::exit(error.exit_code());
    }
    error.exit()
}

/// What `--print-config` makes of a file's text. No file or variable that it names is looked at.
///
/// # Errors
/// Where the text is no config.
pub fn printed_config(text: &str) -> Result<String, Error> {
    let file: ConfigFile = text.parse()?;
    let config = file.to_config(Secrets::Leave)?;
    file.effective(&config).to_toml()
}

/// A file's text as it is read and written, with nothing checked or completed.
///
/// # Errors
/// Where the text has not the form of a config.
pub fn rewritten_config(text: &str) -> Result<String, Error> {
    text.parse::<ConfigFile>()?.to_toml()
}
