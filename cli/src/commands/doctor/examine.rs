//! The steps, in the order in which the first failure explains the later ones.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, SystemTime},
};

use super::{
    api, certificate, clock,
    context::{self, DoctorContext, bare},
    firewall, kernel,
    listening::{self, Owner},
    machine, probe,
    program::within,
    reachable::Public,
    report::Report,
    resolve, secrets,
    step::Finding,
};
use crate::{
    commands::send::target::SendTarget,
    config::BotSection,
    server::{greeting::reachable, outside::ShutIn},
    telegram::{
        bot_api::{self, Client},
        webhook::{Plan, WebhookUrl},
    },
};
use ringhook::{BasicAuth, Error, ErrorKind, ListenAddress, Listener};

/// All of them.
pub(super) fn all(context: &DoctorContext<'_>, report: &mut Report) -> Result<(), Error> {
    let bots = context.bots();
    report.name_bots(bots.len() > 1);
    report.step("config", None, || context.introduction())?;
    report.step("clock", None, || context.in_time(1, |timeout| of_clock(context, timeout)))?;
    let down = server(context, report)?;
    report.step("firewall", None, || {
        context.in_time(2, |timeout| firewall::look(&ports(context, &bots), timeout))
    })?;
    for section in &bots {
        bot(context, section, &down, report)?;
    }
    of_machine(context, &bots, report)
}

fn of_clock(context: &DoctorContext<'_>, timeout: Duration) -> Finding {
    if context.bots().into_iter().all(|bot| context.is_alone(bot)) {
        let why = "without a token the Bot API is not asked".to_owned();
        return clock::look(SystemTime::now(), Err(why), clock::synced());
    }
    let root = context.setup.file.webhook.api_root.clone();
    // The resolver has a patience of its own.
    let date = match within(timeout, move || bot_api::date(&root, timeout)) {
        Some(Ok(Some(date))) => Ok(date),
        Some(Ok(None)) => Err("its answer has no date".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("no answer of the Bot API in time".to_owned()),
    };
    clock::look(SystemTime::now(), date, clock::synced())
}

/// Whether the server listens; the places where it does not.
fn server(context: &DoctorContext<'_>, report: &mut Report) -> Result<Vec<String>, Error> {
    let mut down = Vec::new();
    let all = context.config.all_listeners();
    let shut_in = ShutIn::find(&context.setup.file, &all);
    for listener in context.config.all_listeners() {
        let look = || context.in_time(1, |timeout| listening::look(&listener, timeout));
        let mut is_failure = false;
        report.step("listening", None, || {
            let finding = look();
            is_failure = finding.is_failure();
            let is_it = |found: &&ShutIn| {
                matches!(listener.address, ListenAddress::Tcp(address) if address == found.address)
            };
            match shut_in.as_ref().filter(is_it).filter(|_| !is_failure) {
                Some(found) => Finding::warn(found.what(), found.fix()),
                None => finding,
            }
        })?;
        if is_failure {
            down.push(place(&listener));
        }
    }
    if let Some(admin) = context.config.admin.listen.filter(|admin| admin.port() != 0)
        && down.is_empty()
    {
        let look = || context.in_time(1, |timeout| listening::ready(admin, timeout));
        report.step("ready", None, look)?;
    }
    Ok(down)
}

/// A listener as the sender names the place.
fn place(listener: &Listener) -> String {
    match &listener.address {
        ListenAddress::Tcp(address) => reachable(*address).to_string(),
        other => other.to_string(),
    }
}

/// The ports of this machine to which Telegram's connections come.
fn ports(context: &DoctorContext<'_>, bots: &[&BotSection]) -> Vec<u16> {
    let listeners = context.config.all_listeners();
    let open = listeners.iter().filter_map(|listener| match &listener.address {
        ListenAddress::Tcp(address) if !address.ip().is_loopback() => Some(address.port()),
        _ => None,
    });
    let mut ports: Vec<u16> = open.filter(|port| *port != 0).collect();
    if ports.is_empty() {
        // Something on this machine may be in front.
        let plans = bots.iter().filter_map(|bot| context.plan(bot).ok());
        ports.extend(plans.filter_map(|plan| context::url(&plan)).map(|url| url.port));
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The steps of one bot.
fn bot(
    context: &DoctorContext<'_>,
    section: &BotSection,
    down: &[String],
    report: &mut Report,
) -> Result<(), Error> {
    let name = Some(section.name.as_str());
    let has_secrets = report
        .step("secret", name, || secrets::look(section, &context.setup.file.server.data_dir))?;
    let plan = context.plan(section);
    let url = plan.as_ref().ok().and_then(context::url);
    report.step("url", name, || of_url(&plan, has_secrets))?;
    let plan = plan.ok();
    report.step("certificate", name, || {
        of_certificate(context, section, plan.as_ref(), url.as_ref())
    })?;
    let send_target = {
        let trust = plan.as_ref().and_then(context::own_trust);
        SendTarget::from_bot(
            &context.setup,
            &context.config,
            section,
            context.args.listen.as_ref(),
            trust,
        )
    };
    let trusted = match &plan {
        Some(Plan { certificate: Some(_), .. }) => "certificate as uploaded",
        Some(_) => "certificate of a public authority",
        None => "certificate as in the config",
    };
    let reason = match &send_target {
        Err(error) => Some(error.to_string()),
        Ok(send_target) if down.contains(&send_target.target.place.to_string()) => {
            Some(format!("nothing listens on {}", send_target.target.place))
        }
        Ok(send_target) => probe::obstacle(send_target),
    };
    let is_up = reason.is_none();
    let with_server =
        |parts, look: &dyn Fn(&SendTarget, Duration) -> Finding| match (&reason, &send_target) {
            (None, Ok(send_target)) => context.in_time(parts, |timeout| look(send_target, timeout)),
            (reason, _) => Finding::skip(reason.clone().unwrap_or_default()),
        };
    let is_shaken = report.step("tls", name, || {
        with_server(2, &|send_target, timeout| {
            probe::handshakes(&send_target.target, trusted, timeout)
        })
    })?;
    let is_mute = is_up
        && !is_shaken
        && send_target.as_ref().is_ok_and(|send_target| send_target.target.tls.is_some());
    report.step("post", name, || match is_mute {
        true => Finding::skip("without TLS nothing can be posted"),
        false => with_server(2, &|send_target, timeout| {
            probe::requests(send_target, !context.args.no_post, timeout)
        }),
    })?;
    let mut addresses = Vec::new();
    let is_alone = context.is_alone(section);
    report.step("name", name, || match (&plan, &url) {
        (Some(plan), Some(url))
            if is_alone && resolve::takes_the_network(bare(&url.host), plan.ip_address) =>
        {
            Finding::skip("without a token no name is looked up")
        }
        (Some(plan), Some(url)) => context.in_time(1, |timeout| {
            let (finding, found) =
                resolve::look(bare(&url.host), plan.ip_address, plan.is_local, timeout);
            addresses = found;
            finding
        }),
        _ => Finding::skip("the URL is not known"),
    })?;
    let is_down = send_target
        .as_ref()
        .is_ok_and(|send_target| down.contains(&send_target.target.place.to_string()));
    report.step("reachable", name, || match (&plan, &url) {
        _ if is_down => Finding::skip("nothing listens here"),
        _ if is_mute => Finding::skip("TLS has to be right here first"),
        _ if is_alone && !addresses.iter().all(IpAddr::is_loopback) => {
            Finding::skip("without a token nothing outside this machine is asked")
        }
        (Some(_), Some(_)) if is_alone && addresses.is_empty() => {
            Finding::skip("the name is not looked up")
        }
        (Some(plan), Some(url)) => {
            context.in_time(2, |timeout| public(plan, url, &addresses, section).look(timeout))
        }
        _ => Finding::skip("the URL is not known"),
    })?;
    of_api(context, section, plan.as_ref(), report)
}

pub(super) fn public<'a>(
    plan: &'a Plan,
    url: &'a WebhookUrl,
    addresses: &'a [IpAddr],
    section: &BotSection,
) -> Public<'a> {
    let userinfo = section.userinfo().ok().flatten();
    let basic_auth = userinfo.and_then(|text| BasicAuth::new(&text, "bot.basic_auth").ok());
    Public {
        url,
        addresses,
        trust: context::trust(plan),
        has_credentials: section.has_secret_token() || section.has_basic_auth(),
        secret_token: plan.secret_token.as_ref(),
        basic_auth,
        has_allow: section.allow.is_some(),
        is_uploaded: plan.certificate.is_some(),
    }
}

/// What the Bot API would refuse or change. The certificate has a step of its own.
fn of_url(plan: &Result<Plan, Error>, has_secrets: bool) -> Finding {
    let plan = match plan {
        Ok(plan) => plan,
        Err(_) if !has_secrets => return Finding::skip("the credentials cannot be read"),
        Err(error) if error.kind() == ErrorKind::Certificate => {
            return Finding::skip("the certificate cannot be read");
        }
        // A server that is only tried out has none.
        Err(error) => {
            let fix = "without it Telegram cannot be told where to send updates; the local part \
                          works all the same";
            return Finding::warn(error.to_string(), fix);
        }
    };
    let mut bare = plan.clone();
    bare.certificate = None;
    bare.served = None;
    // That the default leaves out some kinds is nothing that blocks the way.
    bare.allowed_updates = bare.allowed_updates.filter(|kinds| !kinds.is_empty());
    // That there is no secret is said of the secret.
    let problems = bare.problems().into_iter();
    let mut problems = problems.filter(|problem| !problem.what.contains("no secret token"));
    let Some(first) = problems.next() else {
        return Finding::ok(plan.shown_url());
    };
    let finding = match first.is_fatal {
        true => Finding::fail(first.what, first.fix),
        false => Finding::warn(first.what, first.fix),
    };
    problems.fold(finding, |finding, problem| finding.and(problem.to_string()))
}

fn of_certificate(
    context: &DoctorContext<'_>,
    section: &BotSection,
    plan: Option<&Plan>,
    url: Option<&WebhookUrl>,
) -> Finding {
    let file = &context.setup.file;
    if !file.has_tls_listener() {
        return Finding::skip("no listener speaks TLS: what is in front has the certificate");
    }
    if url.is_some_and(|url| !url.is_https) {
        return Finding::skip("Telegram is to come over plain HTTP, by the URL");
    }
    let host = url.map(|url| bare(&url.host)).or(section.host.as_deref());
    let path = match file.served_for(host.unwrap_or("")) {
        Ok(served) => served.map(|(path, _)| path),
        Err(_) => section.cert.as_deref().or(file.tls.cert.as_deref()),
    };
    let Some(path) = path.map(Path::to_owned) else {
        return Finding::fail(
            "there is none",
            "make one: ringhook cert new, then tls.cert and tls.key in the config",
        );
    };
    // A plan that could not be made would have uploaded what has signed itself.
    let uploaded = plan.map(|plan| plan.certificate.clone());
    let uploaded = uploaded.unwrap_or_else(|| std::fs::read(&path).ok());
    certificate::look(file, &path, host, uploaded.as_deref())
}

fn of_api(
    context: &DoctorContext<'_>,
    section: &BotSection,
    plan: Option<&Plan>,
    report: &mut Report,
) -> Result<(), Error> {
    let name = Some(section.name.as_str());
    let root = &context.setup.file.webhook.api_root;
    let chosen = context.chosen(section);
    let client: Result<Client, Finding> = match &chosen {
        Ok(chosen) if chosen.token.is_none() => {
            Err(Finding::skip("there is no token of the Bot API").and(
                "token_file in [[bot]] (or TELEGRAM_BOT_TOKEN, where there is one bot) has the Bot \
                 API asked as well",
            ))
        }
        Ok(chosen) => chosen.client(root).map_err(|error| {
            Finding::fail(error.to_string(), "put the variable of the environment right")
        }),
        Err(error) => {
            Err(Finding::fail(error.to_string(), "put the token there that BotFather shows"))
        }
    };
    let is_known = report.step("token", name, || match &client {
        Ok(client) => context.in_time(1, |timeout| api::me(client, timeout)),
        Err(finding) => finding.clone(),
    })?;
    report.step("webhook", name, || match (&client, plan) {
        (Ok(_), _) if !is_known => Finding::skip("the token is not good"),
        (Ok(client), Some(plan)) => context
            .in_time(1, |timeout| api::webhook(client, plan, &context.flags(section), timeout)),
        (Ok(_), None) => Finding::skip("the URL is not known"),
        (Err(_), _) => Finding::skip("there is no token"),
    })?;
    Ok(())
}

fn of_machine(
    context: &DoctorContext<'_>,
    bots: &[&BotSection],
    report: &mut Report,
) -> Result<(), Error> {
    let config = &context.config;
    let owner = config.all_listeners().iter().find_map(|listener| match &listener.address {
        ListenAddress::Tcp(address) => owner(*address),
        _ => None,
    });
    let connections = machine::connections(bots.iter().map(|bot| bot.max_connections));
    report.step("io_uring", None, || machine::ring(config.driver))?;
    report.step("files", None, || machine::descriptors(config, connections, owner))?;
    report.step("disk", None, || machine::disk(&config.journal))?;
    report.step("kernel", None, || kernel::look(Path::new("/")))?;
    Ok(())
}

/// The process of the server that listens at `address`.
fn owner(address: SocketAddr) -> Option<u32> {
    Owner::find(address).filter(Owner::is_ours).map(|owner| owner.pid)
}
