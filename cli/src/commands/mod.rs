//! The subcommands.
//!
//! | module | what it does |
//! |---|---|
//! | `cert` | makes, requests, checks and imports certificates |
//! | `dead_letters` | sends updates that have finally failed to an output again |
//! | `doctor` | looks at each step of the way of an update |
//! | `journal` | reads the journal without a server |
//! | `poll` | receives updates by getUpdates |
//! | `routes` | tells which route takes an update |
//! | `send` | sends sample updates to the running server |
//! | `serve` | receives updates by webhooks |
//! | `webhook` | sets, shows and deletes webhooks |

mod cert;
mod dead_letters;
mod doctor;
mod journal;
mod poll;
mod routes;
mod send;
mod serve;
mod webhook;

use clap::Subcommand;

use ringhook::Error;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<serve::ServeArgs>),
    Cert(cert::CertArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Doctor(doctor::DoctorArgs),
    Journal(journal::JournalArgs),
    Poll(Box<poll::PollArgs>),
    Routes(routes::RoutesArgs),
    Send(send::SendArgs),
    Webhook(webhook::WebhookArgs),
}

impl Command {
    pub(crate) fn run(&self) -> Result<(), Error> {
        match self {
            Self::Cert(args) => cert::run(args),
            Self::DeadLetters(args) => dead_letters::run(args),
            Self::Doctor(args) => doctor::run(args),
            Self::Journal(args) => journal::run(args),
            Self::Poll(args) => poll::run(args),
            Self::Routes(args) => routes::run(args),
            Self::Send(args) => send::run(args),
            Self::Serve(args) => serve::run(args),
            Self::Webhook(args) => webhook::run(args),
        }
    }
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
