//! What `serve` tells a person when it has started.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::outside::ShutIn;
use crate::{
    certificates::make::clock_fault,
    config::{BotSection, ConfigFile},
    process::stderr::log,
};
use ringhook::{
    Ack, ListenAddress, Listener, Server,
    internals::{
        io::cpu_affinity::Ranges,
        journal::{Directory, inspect::Inspection},
        redact::hide_tokens,
    },
};

/// Bots that are listed at the start.
const GREETED: usize = 20;
/// The update that the ready-made curl line sends, as a word for a shell. Its id is another one at
/// each run of the line, since a copy is dropped: a number of three random bytes, the only one that
/// `od` of any system, and any shell, makes alike.
const SAMPLE: &str = r#"'{"update_id":'"$(od -An -N3 -tu4 /dev/urandom)"',"message":{"message_id":1,"date":1700000000,"chat":{"id":1,"type":"private"},"text":"hello"}}'"#;

/// Tells a person what is running; the last line begins with `ready`.
pub(crate) fn greet(
    server: &Server,
    file: &ConfigFile,
    ack: Ack,
    own_certificate: bool,
    descriptors: &str,
    webhooks: Option<String>,
) {
    let (main, others) = match server.listeners() {
        [main, others @ ..] => (base_url(main), others),
        // A server without listeners does not start.
        [] => return,
    };
    let mut lines = vec![format!("ringhook {}", env!("CARGO_PKG_VERSION"))];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<11}{text}"));
    let (bots, others_of_bots) = file.bots.split_at(file.bots.len().min(GREETED));
    for bot in bots {
        let base = bot.host.as_deref().map(|host| with_host(&main, host));
        let base = base.as_deref().unwrap_or(&main);
        line("url", format!("{base}{}  ({})", bot.path, bot.name));
    }
    if !others_of_bots.is_empty() {
        line("", format!("and {} bots more", others_of_bots.len()));
    }
    for listener in others {
        line("also on", base_url(listener));
    }
    if let Some(webhooks) = webhooks {
        line("webhook", webhooks);
    }
    if let Some(allow) = &file.server.allow {
        line("allow", allow.join(", "));
    }
    if let Some(admin) = server.admin_addr() {
        line("admin", format!("http://{admin}"));
    }
    line("driver", server.driver().to_string());
    let placement = server.placement();
    line("shards", on_cpus(&placement.shards));
    line("workers", on_cpus(&placement.workers));
    line("files", descriptors.to_owned());
    for output in file.all_outputs() {
        let of =
            if file.outputs.len() > 1 { format!("  ({})", output.name) } else { String::new() };
        line("output", hide_tokens(&output.to.join(", ")) + &of);
    }
    line("200 means", promise(ack).to_owned());
    for (name, path) in [("cert", &file.tls.cert), ("key", &file.tls.key)] {
        if let Some(path) = path {
            line(name, path.display().to_string());
        }
    }
    for bot in bots {
        for (name, path) in [("cert", &bot.cert), ("key", &bot.key)] {
            if let Some(path) = path {
                line(name, format!("{}  ({})", path.display(), bot.name));
            }
        }
    }
    for bot in bots {
        let of = if file.bots.len() > 1 { format!("  ({})", bot.name) } else { String::new() };
        line("secret", bot.secret_source() + &of);
    }
    let shut_in = ShutIn::find(file, server.listeners());
    let shut_in = shut_in.map(|found| format!("{}: {}", found.what(), found.fix()));
    for notice in notices(server, file, ack).chain(shut_in) {
        line("notice", notice);
    }
    if let Some(bot) = file.bots.first() {
        line("try", curl_line(file, bot, server.listeners(), own_certificate));
    }
    lines.push(format!("ready {main}{}", file.bots.first().map_or("", |bot| &bot.path)));
    log(lines.join("\n"));
}

/// The same for one that polls for `bots`.
pub(crate) fn greet_poller(
    server: &Server,
    file: &ConfigFile,
    bots: &[&str],
    ack: Ack,
    descriptors: &str,
) {
    let mut lines = vec![format!("ringhook {}", env!("CARGO_PKG_VERSION"))];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<11}{text}"));
    line("bot api", file.webhook.api_root.to_string());
    let (some, others) = bots.split_at(bots.len().min(GREETED));
    line("bots", some.join(", "));
    if !others.is_empty() {
        line("", format!("and {} bots more", others.len()));
    }
    if let Some(admin) = server.admin_addr() {
        line("admin", format!("http://{admin}"));
    }
    line("workers", on_cpus(&server.placement().workers));
    line("files", descriptors.to_owned());
    for output in file.all_outputs() {
        let of =
            if file.outputs.len() > 1 { format!("  ({})", output.name) } else { String::new() };
        line("output", hide_tokens(&output.to.join(", ")) + &of);
    }
    line("confirmed", promise(ack).to_owned());
    for notice in notices(server, file, ack) {
        line("notice", notice);
    }
    lines.push(format!("ready polling for {} bot(s)", bots.len()));
    log(lines.join("\n"));
}

/// What a person should know about this start.
fn notices(server: &Server, file: &ConfigFile, ack: Ack) -> impl Iterator<Item = String> {
    let clock = clock_fault(SystemTime::now()).map(str::to_owned);
    let left = left_by_an_earlier_run(file, ack);
    clock.into_iter().chain(server.notices().iter().cloned()).chain(left)
}

/// `base` with the host of a bot in the place of the address.
fn with_host(base: &str, host: &str) -> String {
    let Some((scheme, authority)) = base.split_once("://") else { return base.to_owned() };
    // A Unix socket has no port.
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let port = port.filter(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    port.map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}"))
}

/// What a journal holds that is not used now.
fn left_by_an_earlier_run(file: &ConfigFile, ack: Ack) -> Option<String> {
    let dir = (ack == Ack::Memory).then(|| file.server.journal_dir())?;
    let storage = Directory::look_into(&dir).ok()?;
    let left = Inspection::new(&storage).ok()?.unsettled();
    (left > 0).then(|| {
        format!(
            "{left} update(s) that an earlier run has left in {} are not delivered: see `ringhook \
             journal replay`",
            dir.display()
        )
    })
}

/// What an update's 200 promises.
fn promise(ack: Ack) -> &'static str {
    match ack {
        Ack::Memory => "in memory: lost with the process",
        Ack::Synced => "synced to the journal: outlives a power cut",
        Ack::Written => "written to the journal: outlives the process",
        _ => "as docs/promises.md says",
    }
}

fn on_cpus(cpus: &[usize]) -> String {
    format!("{} (CPU {})", cpus.len(), Ranges(cpus))
}

/// What URLs of a listener begin with, for a client on this machine.
fn base_url(listener: &Listener) -> String {
    let scheme = if listener.tls { "https" } else { "http" };
    match &listener.address {
        ListenAddress::Tcp(address) => format!("{scheme}://{}", reachable(*address)),
        other => format!("{scheme}+{other}:"),
    }
}

/// An address that a client on this machine can connect to.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A line for a shell that sends [`SAMPLE`] as Telegram would.
fn curl_line(
    file: &ConfigFile,
    bot: &BotSection,
    listeners: &[Listener],
    own_certificate: bool,
) -> String {
    let Some(main) = listeners.first() else { return String::new() };
    let scheme = if main.tls { "https" } else { "http" };
    let (place, url) = match &main.address {
        ListenAddress::Unix(path) => {
            let path = quoted(&path.display().to_string());
            (format!(" --unix-socket {path}"), format!("{scheme}://localhost"))
        }
        _ => (String::new(), base_url(main)),
    };
    let trust = match &file.tls.cert {
        _ if !main.tls => String::new(),
        Some(cert) if own_certificate => {
            format!(" --cacert {}", quoted(&cert.display().to_string()))
        }
        _ => " --insecure".to_owned(),
    };
    let cat = |path: &Path| format!("$(cat {})", quoted(&path.display().to_string()));
    let fetched = |file: &Option<PathBuf>, variable: &Option<String>, typed: &str| {
        let named = variable.as_ref().map(|name| format!("${name}"));
        file.as_deref().map(cat).or(named).unwrap_or_else(|| typed.to_owned())
    };
    let mut credentials = String::new();
    if let Some(host) = bot.host.as_deref().filter(|host| !host.starts_with('*')) {
        credentials += &format!(" -H 'Host: {host}'");
    }
    if bot.has_secret_token() {
        let token = fetched(&bot.secret_token_file, &bot.secret_token_env, "$SECRET_TOKEN");
        credentials += &format!(" -H \"X-Telegram-Bot-Api-Secret-Token: {token}\"");
    }
    if bot.has_basic_auth() {
        let user = fetched(&bot.basic_auth_file, &bot.basic_auth_env, "$USER_AND_PASSWORD");
        credentials += &format!(" -u \"{user}\"");
    }
    format!(
        "curl{trust}{place}{credentials} -H 'Content-Type: application/json' -d {SAMPLE} {url}{}",
        bot.path
    )
}

/// `text` as one word for a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
