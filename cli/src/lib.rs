//! The command line. Messages for people go to stderr; stdout has only what a command was asked
//! for.
//!
//! Lowest layer first: a module imports only modules above it in this table.
//!
//! | module | what is in it |
//! |---|---|
//! | `files` | files with keys, made whole or not at all |
//! | `net` | names, addresses and URLs |
//! | `certificates` | making, importing and examining certificates |
//! | `config` | the config file |
//! | `process` | sockets, log, privileges and the service manager |
//! | `telegram` | the Bot API and Telegram's sender |
//! | `server` | a server from a config |
//! | `commands` | one module for each subcommand |

mod certificates;
mod commands;
mod config;
mod files;
mod net;
mod process;
mod server;
mod telegram;

use std::process::{ExitCode, exit};

use clap::Parser;

use crate::{
    config::{ConfigFile, Secrets},
    process::stderr::log,
};
use ringhook::{Error, internals::redact::hide_tokens};

/// Receives Telegram webhooks straight off the wire: TLS, HTTP and JSON on io_uring, no proxy.
#[derive(Debug, Parser)]
#[command(name = "ringhook", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
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
    let outcome = command.run();
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("ringhook: {error}"));
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    };
    process::stderr::flush();
    code
}

/// Ends the process as clap does, except that what was typed is shown without a bot's token.
fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    if error.use_stderr() && hide_tokens(&text) != text {
        log(text.trim_end());
        exit(error.exit_code());
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
