//! What the Bot API would refuse, or take in another way than it was meant, found without asking
//! it.

use std::{fmt, time::SystemTime};

use strsim::levenshtein;

use super::{Plan, WebhookUrl, host};
use crate::{
    certificates::{
        examine::{Level, Line},
        served,
    },
    net::address::is_reserved,
};
use ringhook::{FindingKind, internals::redact::hide_tokens, update::UpdateKind};

/// Ports that Telegram's own server connects to.
const PORTS: [u16; 4] = [443, 80, 88, 8443];
/// The largest certificate that is taken.
const CERTIFICATE_MAX: usize = 3 * 1024 * 1024;
/// The longest head of a request that Telegram sends, in bytes.
const HEAD_MAX: usize = 4096;
/// Kinds that come only where allowed_updates names them.
pub(super) const NOT_BY_DEFAULT: [UpdateKind; 3] =
    [UpdateKind::ChatMember, UpdateKind::MessageReaction, UpdateKind::MessageReactionCount];

/// Something that is wrong with what setWebhook would be called with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Problem {
    pub(crate) what: String,
    pub(crate) fix: String,
    /// True where the call would be refused, changed, or lead to a webhook that gets nothing.
    pub(crate) is_fatal: bool,
}

impl Problem {
    pub(super) fn fatal(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(&what.into(), &fix.into(), true)
    }

    pub(super) fn advice(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(&what.into(), &fix.into(), false)
    }

    /// A path may be a token.
    fn new(what: &str, fix: &str, is_fatal: bool) -> Self {
        Self { what: hide_tokens(what), fix: hide_tokens(fix), is_fatal }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.fix)
    }
}

impl Plan {
    /// All of them, the fatal ones first.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = self.of_config.clone();
        match WebhookUrl::parse(&self.url) {
            Some(url) => {
                if !self.is_local {
                    found.extend(of_url(&url));
                }
                found.extend(self.of_length(&url));
            }
            None => found.push(Problem::fatal(
                "the URL is none that Telegram takes",
                "write it like https://bot.example.com/path",
            )),
        }
        found.extend(self.of_address());
        found.extend(self.of_connections());
        found.extend(self.of_kinds());
        found.extend(self.of_certificate());
        // Stable: each kind stays in its order.
        found.sort_by_key(|problem| !problem.is_fatal);
        found
    }

    fn of_length(&self, url: &WebhookUrl) -> Option<Problem> {
        let secret = self.secret_token.as_ref().map(|token| token.reveal().len());
        let length = url.head_bytes(secret);
        (length > HEAD_MAX).then(|| {
            Problem::fatal(
                format!(
                    "with this URL the head of a request has {length} bytes, and Telegram sends no \
                     more than {HEAD_MAX}"
                ),
                "make the path shorter",
            )
        })
    }

    fn of_address(&self) -> Option<Problem> {
        let address = self.ip_address.filter(|address| !self.is_local && is_reserved(*address))?;
        let why = if address.is_ipv6() { "of IPv6" } else { "private or reserved" };
        Some(Problem::fatal(
            format!("ip_address {address} is {why}, and Telegram does not connect to it"),
            "give the public IPv4 address of this server, or leave it out",
        ))
    }

    fn of_connections(&self) -> Option<Problem> {
        let (most, local) = if self.is_local {
            (100_000, "")
        } else {
            (100, " (a Bot API server of your own that runs with --local takes 100000)")
        };
        let count = self.max_connections.filter(|count| !(1..=most).contains(count))?;
        let taken = count.clamp(1, most);
        Some(Problem::fatal(
            format!("max_connections is {count}, and the Bot API would silently make it {taken}"),
            format!("set it to 1 to {most}{local}"),
        ))
    }

    fn of_kinds(&self) -> Vec<Problem> {
        let Some(list) = &self.allowed_updates else { return Vec::new() };
        if list.is_empty() {
            let names = NOT_BY_DEFAULT.map(UpdateKind::as_str).join(", ");
            return vec![Problem::advice(
                format!("allowed_updates is Telegram's default, so {names} do not come"),
                "allowed_updates = \"all\" (or --allowed-updates all) names every kind",
            )];
        }
        let is_unknown = |name: &&String| UpdateKind::from_key(name).is_none();
        let unknown = list.iter().filter(is_unknown);
        // Telegram drops what it does not know, and an empty list stands for something else.
        let has_known = !list.iter().all(|name| is_unknown(&name));
        let problem = |name: &String| {
            if name.eq_ignore_ascii_case("all") {
                return Problem::fatal(
                    format!(
                        "allowed_updates: {name:?} is no kind of update, and the Bot API drops it"
                    ),
                    "for every kind write allowed_updates = \"all\", without a list (or \
                     --allowed-updates all)",
                );
            }
            let fix = match nearest(name) {
                Some(kind) => format!("did you mean {kind}?"),
                None => "see `ringhook webhook set --help` for all of them".to_owned(),
            };
            let what = format!("allowed_updates: {name:?} is no kind of update that is known here");
            Problem { what, fix, is_fatal: !has_known }
        };
        unknown.map(problem).collect()
    }

    fn of_certificate(&self) -> Vec<Problem> {
        let Some(pem) = &self.certificate else { return self.of_served().into_iter().collect() };
        let file = self.certificate_file.as_ref();
        let file = file.map_or("the certificate".to_owned(), |path| path.display().to_string());
        if pem.len() > CERTIFICATE_MAX {
            return vec![Problem::fatal(
                format!("{file} has more than 3 MiB, and the Bot API refuses that"),
                "upload the certificate of the server alone",
            )];
        }
        let url = WebhookUrl::parse(&self.url);
        let Some(url) = url.filter(|url| url.is_https) else { return Vec::new() };
        let host = url.name();
        let making = if url.address().is_some() { "--ip" } else { "--name" };
        let now = SystemTime::now();
        let findings = served::findings(pem, host, now).into_iter().filter(|kind| {
            // The examination knows what is uploaded, and so what may be missing or needless.
            !matches!(
                kind,
                FindingKind::MissingIntermediate { .. } | FindingKind::RootIncluded { .. }
            )
        });
        let problem = |kind: FindingKind| {
            let is_for_another = matches!(
                kind,
                FindingKind::AddressNotAsName { .. } | FindingKind::NameMismatch { .. }
            );
            let is_dead = matches!(
                kind,
                FindingKind::Expired { .. }
                    | FindingKind::NotYetValid { .. }
                    | FindingKind::Unreadable { .. }
            );
            let fix = match (is_for_another, &self.own_dir) {
                (true, Some(dir)) => format!(
                    "`ringhook cert new {making} {host} --out {} --force` makes it anew",
                    dir.display()
                ),
                (true, None) => format!("`ringhook cert new {making} {host}` makes one"),
                (false, _) => format!("`ringhook cert check {file}` tells more"),
            };
            let what = format!("{file}: {kind}");
            Problem { what, fix, is_fatal: is_for_another || is_dead }
        };
        let mut found: Vec<_> = findings.map(problem).collect();
        if let Some(examination) = served::examine(pem, host, true, now)
            && !examination.accepted
        {
            // Names and dates are told of with a fix of their own.
            let is_told = found.iter().any(|problem| problem.is_fatal);
            let is_new = |line: &&Line| match line.check {
                "names" | "dates" | "uploaded" => !is_told,
                "CA-signed" => false,
                _ => true,
            };
            let lines = examination.findings.iter().filter(|line| line.level == Level::Fail);
            found.extend(lines.filter(is_new).map(|line| {
                let fix = line.fix.clone().unwrap_or_default();
                Problem::fatal(format!("{file}: {}", line.what), fix)
            }));
        }
        found
    }

    /// Of a certificate that Telegram has to know the issuer of. It need not be the one that
    /// Telegram sees: something in front may have another.
    fn of_served(&self) -> Option<Problem> {
        let (pem, path) = (self.served.as_ref()?, self.certificate_file.as_ref()?);
        let url = WebhookUrl::parse(&self.url)?;
        let examination = served::examine(pem, url.name(), false, SystemTime::now())?;
        if examination.accepted_as_signed {
            return None;
        }
        let failed = examination.findings.iter().filter(|line| line.level == Level::Fail);
        let line = failed.min_by_key(|line| line.check == "uploaded")?;
        let fix = line.fix.clone().unwrap_or_default();
        Some(Problem::advice(format!("{}: {}", path.display(), line.what), fix))
    }
}

fn of_url(url: &WebhookUrl) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut fatal = |what: String, fix: &str| found.push(Problem::fatal(what, fix));
    if !url.is_https {
        fatal(
            format!("{url} is not https, and Telegram sends nothing in clear"),
            "use https (plain http needs a Bot API server of your own that runs with --local)",
        );
    }
    if !PORTS.contains(&url.port) {
        fatal(
            format!(
                "the URL has port {}, and Telegram connects to no other than 443, 80, 88 and 8443",
                url.port
            ),
            "listen on one of them, or lead one of them here and name it as webhook.port",
        );
    }
    match url.address() {
        Some(address) if address.is_ipv6() => fatal(
            format!("the URL's host {address} is of IPv6, and Telegram connects to IPv4 only"),
            "use a name with an A record, or an IPv4 address",
        ),
        Some(address) if is_reserved(address) => fatal(
            format!("the URL's host {address} is private or reserved, and Telegram refuses it"),
            "use the public IPv4 address of this server or a name; behind NAT, a tunnel",
        ),
        Some(_) => {}
        None => {}
    }
    found.extend(host::of_name(url));
    found
}

/// The kind whose name is most like `name`; `None` where none is near.
fn nearest(name: &str) -> Option<UpdateKind> {
    let name = name.to_ascii_lowercase();
    let far = UpdateKind::ALL.iter().map(|kind| (levenshtein(&name, kind.as_str()), *kind));
    let (distance, kind) = far.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 4).then_some(kind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use ringhook::SecretToken;

    fn plan(url: &str) -> Plan {
        Plan { url: url.to_owned(), ..Plan::default() }
    }

    fn texts(plan: &Plan) -> Vec<String> {
        plan.problems().iter().map(|problem| problem.what.clone()).collect()
    }

    #[test]
    fn a_good_plan_has_none() {
        for url in
            ["https://bot.example.com/x", "https://bot.example.com:8443/", "https://8.8.8.8/x"]
        {
            assert_eq!(plan(url).problems(), []);
        }
    }

    #[test]
    fn what_the_bot_api_would_refuse_is_fatal() {
        for (url, word) in [
            ("http://bot.example.com/x", "not https"),
            ("https://bot.example.com:444/x", "port 444"),
            ("https://127.0.0.1/x", "127.0.0.1 is private"),
            ("https://10.0.0.1/x", "10.0.0.1 is private"),
            ("https://[2606:4700::1111]/x", "IPv6"),
            ("https://localhost/x", "\"localhost\""),
            ("bot.example.com", "none that Telegram takes"),
        ] {
            let found = plan(url).problems();
            assert!(
                found.iter().any(|it| it.is_fatal && it.what.contains(word)),
                "{url}: {found:?}"
            );
            let local = Plan { is_local: true, ..plan(url) }.problems();
            assert_eq!(local.is_empty(), url.contains("://"), "{url}: {local:?}");
        }
        let of = |ip: &str| {
            texts(&Plan {
                ip_address: Some(ip.parse().unwrap()),
                ..plan("https://bot.example.com/x")
            })
        };
        assert!(of("192.168.1.1").concat().contains("192.168.1.1 is private or reserved"));
        assert!(of("::1").concat().contains("::1 is of IPv6"));
        assert_eq!(of("8.8.8.8"), [""; 0]);
    }

    #[test]
    fn the_head_of_a_request_is_bounded() {
        let of = |length: usize, is_local| {
            let url = format!("https://bot.example.com/{}", "x".repeat(length));
            let secret_token = SecretToken::new(&"s".repeat(256), "secret").ok();
            Plan { secret_token, is_local, ..plan(&url) }.problems()
        };
        assert_eq!(of(3000, false), []);
        for is_local in [false, true] {
            let found = of(4000, is_local);
            let first = found.first().unwrap();
            assert!(first.is_fatal && first.what.contains("no more than 4096"), "{first}");
        }
    }

    #[test]
    fn connections_stay_in_their_range() {
        let of = |count, is_local| {
            let url = plan("https://bot.example.com/x");
            Plan { max_connections: Some(count), is_local, ..url }.problems()
        };
        for (count, is_local, is_good) in [
            (0, false, false),
            (1, false, true),
            (100, false, true),
            (101, false, false),
            (101, true, true),
            (100_000, true, true),
            (100_001, true, false),
        ] {
            assert_eq!(of(count, is_local).is_empty(), is_good, "{count} {is_local}");
        }
        let text = of(200, false).first().unwrap().to_string();
        assert!(text.contains("silently make it 100") && text.contains("--local"), "{text}");
    }

    #[test]
    fn unknown_kinds_are_named_with_the_nearest() {
        let of = |names: &[&str]| {
            let list = names.iter().map(|name| (*name).to_owned()).collect();
            let plan = Plan { allowed_updates: Some(list), ..plan("https://bot.example.com/x") };
            plan.problems()
        };
        assert_eq!(of(&["message", "chat_member"]), []);
        for (typed, meant) in
            [("mesage", "message"), ("callbackquery", "callback_query"), ("Message", "message")]
        {
            let found = of(&[typed]);
            assert!(found.first().unwrap().is_fatal, "none is left");
            let beside = of(&[typed, "poll"]);
            assert!(!beside.first().unwrap().is_fatal);
            assert_eq!(found.first().unwrap().fix, format!("did you mean {meant}?"));
        }
        assert!(of(&["something_else_altogether"]).first().unwrap().fix.contains("--help"));
        let all = of(&["All", "message"]);
        assert!(all.first().unwrap().is_fatal && all.first().unwrap().fix.contains("= \"all\""));
        let default = of(&[]);
        assert!(default.first().unwrap().what.contains("chat_member, message_reaction,"));
        assert!(!default.first().unwrap().is_fatal);
    }

    #[test]
    fn a_certificate_has_to_be_for_the_host() {
        let pem = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
            Some(params.self_signed(&key).unwrap().pem().into_bytes())
        };
        let of = |url: &str, name: &str| Plan { certificate: pem(name), ..plan(url) }.problems();
        assert_eq!(of("https://bot.example.com/x", "bot.example.com"), []);
        let found = of("https://bot.example.com/x", "localhost");
        let first = found.first().unwrap();
        assert!(first.is_fatal && first.what.contains("not for bot.example.com"), "{first}");
        assert!(first.fix.contains("ringhook cert new --name bot.example.com"), "{first}");
        // rcgen makes a name of type IP of it.
        let found = of("https://8.8.8.8/x", "8.8.8.8");
        assert!(found.first().unwrap().what.contains("type IP only"), "{found:?}");
        let found = Plan { certificate: Some(vec![b' '; 4 << 20]), ..plan("https://a.example/x") };
        assert!(texts(&found).concat().contains("3 MiB"));
    }

    #[test]
    fn an_uploaded_certificate_has_to_please_telegram() {
        use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, Issuer, KeyPair};

        let key = || KeyPair::generate().unwrap();
        let params = |name: &str| {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params
        };
        let host = "bot.example.com";
        let fatal = |pem: String| {
            let plan =
                Plan { certificate: Some(pem.into_bytes()), ..plan("https://bot.example.com/x") };
            let fatal = plan.problems().into_iter().filter(|problem| problem.is_fatal);
            fatal.map(|problem| problem.what).collect::<Vec<_>>().join("\n")
        };
        let mut clients = params(host);
        clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert!(fatal(clients.self_signed(&key()).unwrap().pem()).contains("not for TLS servers"));
        let mut odd = params(host);
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        odd.custom_extensions = vec![extension];
        assert!(fatal(odd.self_signed(&key()).unwrap().pem()).contains("critical extension"));
        let root_key = key();
        let mut root = params("root");
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let leaf = params(host);
        let leaf = leaf.signed_by(&key(), &Issuer::from_params(&root, &root_key)).unwrap().pem();
        let alone = fatal(leaf.clone());
        assert!(alone.contains("is missing") && alone.contains("refused"), "{alone}");
        assert_eq!(fatal(format!("{leaf}{root_pem}")), "");
        root.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        assert!(fatal(format!("{leaf}{root_pem}")).contains("expired"));
        // Served and not uploaded, it may not be what Telegram sees.
        let served = Plan {
            served: Some(leaf.into_bytes()),
            certificate_file: Some("cert.pem".into()),
            ..plan("https://bot.example.com/x")
        };
        let problems = served.problems();
        let first = problems.first().unwrap();
        assert!(
            !first.is_fatal && first.what.contains("cert.pem: the certificate of its issuer"),
            "{first}"
        );
    }

    #[test]
    fn the_kind_that_was_meant_is_named_where_one_is_near() {
        assert_eq!(nearest("Mesage"), Some(UpdateKind::Message));
        assert_eq!(nearest("calback_querry"), Some(UpdateKind::CallbackQuery));
        assert_eq!(nearest("everything"), None);
    }
}
