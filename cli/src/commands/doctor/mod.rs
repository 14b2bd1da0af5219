//! `ringhook doctor`: the whole way of an update, looked at step by step.
//!
//! | file | question |
//! |---|---|
//! | `context` | what is looked at: config, bots, time that is left |
//! | `examine` | which steps, in which order |
//! | `step`, `report` | what a step says, and how it is printed |
//! | `listening`, `probe` | whether the server is there and answers as it should |
//! | `secrets` | whether the credentials can be read, and by which other users |
//! | `certificate`, `resolve`, `reachable` | whether Telegram would find it and trust it |
//! | `firewall` | whether rules of this machine would drop Telegram |
//! | `api` | what the Bot API says |
//! | `clock`, `machine`, `kernel` | what the machine gives |
//! | `program` | other programs, and calls that may hang |

mod api;
mod certificate;
mod clock;
mod context;
mod examine;
mod firewall;
mod kernel;
mod listening;
mod machine;
mod probe;
mod program;
mod reachable;
mod report;
mod resolve;
mod secrets;
mod step;

use std::{path::PathBuf, time::Duration};

use clap::Args;

use self::{
    context::DoctorContext,
    report::Report,
    step::{Finding, Verdict},
};
use super::send::target::SendTarget;
use crate::{
    config::{ApiRoot, BotSection},
    server::setup::Setup,
    telegram::webhook::Plan,
};
use ringhook::{Config, Error, ListenAddress};

/// How long the server has for each answer in a self-check.
const SELF_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Look at the whole way of an update, and say what to do where it is blocked
///
/// Each step is ok, warn, FAIL or skip (it could not be looked at), with what to do under it. The
/// first failure may explain the later ones. Exits with 1 where a step failed. Without a token of
/// the Bot API the steps that need it are skipped.
///
/// The running server gets requests that it must refuse and lists as incidents (without
/// credentials, and without an update), and one with the bot's secret that it must take: an update
/// of a kind that does not exist, with update_id 0, which Telegram never uses. The first one
/// reaches the bot's handler, like any kind that it does not know; later ones are dropped as
/// copies. With --no-post there is none.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Config file in TOML, the same that "ringhook serve" gets
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where "ringhook serve" keeps certificate, key and secret token [default: ringhook-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only the bot of this name [default: all]
    #[arg(long, value_name = "NAME")]
    bot: Option<String>,
    /// Where the server listens, if the config does not say so: IP:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<ListenAddress>,
    /// Where the Bot API is [default: Telegram's own]
    #[arg(long, value_name = "URL")]
    api_root: Option<ApiRoot>,
    /// The Bot API server runs with --local: any port and address, plain HTTP
    #[arg(long)]
    local: bool,
    /// Send no update to the server
    #[arg(long)]
    no_post: bool,
    /// Print one object of JSON at the end
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DoctorArgs) -> Result<(), Error> {
    let mut report = Report::new(args.json);
    let read = DoctorContext::read(args);
    if let Ok(context) = &read {
        context.check_choice()?;
    }
    match read {
        Ok(context) => examine::all(&context, &mut report)?,
        Err(error) => {
            report.step("config", None, || context::refused(args, &error))?;
        }
    }
    report.finish()
}

/// Whether the receiver of `section`, one of the bots of `setup`, would take what Telegram sends by
/// `plan`: TLS as Telegram speaks it, 403 without credentials, let in with them; and whether the
/// URL leads to it, as far as that can be seen from here. Why not, in one line. What this machine
/// cannot tell is taken to be well. No update is sent.
pub(crate) fn self_check(
    setup: &Setup,
    config: &Config,
    section: &BotSection,
    plan: &Plan,
) -> Result<(), String> {
    let failed = |finding: Finding| match finding.verdict {
        Verdict::Fail => Err(finding.what),
        _ => Ok(()),
    };
    let trust = context::own_trust(plan);
    // Where the config does not tell the address, as with a socket that was passed, only the way
    // from outside is left to look at.
    let send_target = SendTarget::from_bot(setup, config, section, None, trust).ok();
    if let Some(send_target) =
        send_target.filter(|send_target| probe::obstacle(send_target).is_none())
    {
        failed(probe::handshakes(&send_target.target, "", SELF_CHECK_TIMEOUT))?;
        failed(probe::requests(&send_target, false, SELF_CHECK_TIMEOUT))?;
    }
    let Some(url) = context::url(plan) else { return Err("the URL is none".to_owned()) };
    let host = context::bare(&url.host);
    let (finding, addresses) =
        resolve::look(host, plan.ip_address, plan.is_local, SELF_CHECK_TIMEOUT);
    failed(finding)?;
    failed(examine::public(plan, &url, &addresses, section).look(SELF_CHECK_TIMEOUT))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, net::SocketAddr, path::Path};

    use super::*;
    use crate::{
        config::{ConfigFile, Secrets},
        telegram::webhook::Upload,
    };
    use ringhook::{Bot, Outcome, Server, TlsConfig, Update};

    /// The self-check of a config in `dir` for a server at `addr`.
    fn check(dir: &Path, addr: SocketAddr, secret: &str) -> Result<(), String> {
        let dir = dir.display();
        let text = format!(
            "[server]\nlisten='{addr}'\ndata_dir='{dir}'\n[webhook]\nlocal=true\n\
             api_root='http://127.0.0.1:1'\n[tls]\ncert='{dir}/cert'\nkey='{dir}/key'\n\
             [[bot]]\nname='a'\npath='/x'\nhost='localhost'\nsecret_token='{secret}'\n"
        );
        let setup = Setup::new(text.parse::<ConfigFile>().unwrap()).unwrap();
        let config = setup.file.to_config(Secrets::Leave).unwrap();
        let section = setup.file.bots.first().unwrap();
        let plan = Plan::new(&setup.file, &config, section, Upload::default()).unwrap();
        self_check(&setup, &config, section, &plan)
    }

    #[test]
    fn the_self_check_tells_a_good_server_from_others_and_sends_no_update() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("cert"), cert.pem()).unwrap();
        fs::write(dir.path().join("key"), key.serialize_pem()).unwrap();
        let tls = TlsConfig::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes());
        let server = Server::builder()
            .listen("127.0.0.1:0".parse().unwrap())
            .tls(tls.unwrap())
            .bot(Bot::new("a", "/x", "secret").unwrap())
            .handler(|_: &Update| Outcome::Done)
            .start()
            .unwrap();
        let addr = server.local_addr().unwrap();
        assert_eq!(check(dir.path(), addr, "secret"), Ok(()));
        let other = check(dir.path(), addr, "another").unwrap_err();
        assert!(other.contains("403 Forbidden"), "{other}");
        let report = server.stop();
        assert_eq!(report.updates_handled, 0);
        let gone = check(dir.path(), addr, "secret").unwrap_err();
        assert!(gone.contains("refused"), "{gone}");
    }
}
