//! Whether this machine's packet filter drops what it has no rule for. A hint: the rules are not
//! interpreted, only searched for the port.

use std::time::Duration;

use serde_json::Value;

use super::{
    program::{self, Output},
    step::Finding,
};

/// Telegram's networks.
const TELEGRAM: [&str; 2] = ["149.154.160.0/20", "91.108.4.0/22"];

/// The base of the first one, as rules have it.
const NETWORK: &str = "149.154.160.0";

/// What the rules say of new connections from Telegram to `ports` of this machine.
pub(super) fn look(ports: &[u16], timeout: Duration) -> Finding {
    if ports.is_empty() {
        return Finding::skip("only this machine itself can connect, by the config");
    }
    let filters = [
        (program::run("nft", &["-j", "list", "ruleset"], timeout), Kind::Nft),
        (program::run("iptables-save", &[], timeout), Kind::Iptables),
    ];
    let (mut rules, mut unread) = (Vec::new(), Vec::new());
    for (output, kind) in filters {
        match output {
            Output::Missing => {}
            Output::Failed(why) => unread.push(format!("{}: {why}", kind.program())),
            Output::Ok(text) => match Rules::read(kind, &text) {
                Some(read) => rules.push(read),
                None => unread.push(format!("{}: no output of its form", kind.program())),
            },
        }
    }
    if rules.is_empty() && unread.is_empty() {
        return Finding::skip("neither nft nor iptables-save is here, so its rules cannot be read");
    }
    if rules.is_empty() {
        return Finding::skip(format!("the rules cannot be read ({})", unread.join("; ")))
            .and("to have them looked at: sudo ringhook doctor");
    }
    let finding = judge(&rules, ports);
    unread.iter().fold(finding, |finding, unread| finding.and(format!("not read: {unread}")))
}

/// What all rules together say.
fn judge(rules: &[Rules], ports: &[u16]) -> Finding {
    let dropping: Vec<_> =
        rules.iter().filter_map(|rules| rules.drops_by_default.as_ref()).collect();
    let Some(chain) = dropping.first() else {
        return Finding::ok("no chain drops new connections by default");
    };
    let is_named = |port: u16| rules.iter().any(|rules| rules.names_telegram || rules.names(port));
    let Some(port) = ports.iter().copied().find(|port| !is_named(*port)) else {
        return Finding::ok(format!("{chain} drops by default, and rules name the ports"));
    };
    let networks = TELEGRAM.join(" and ");
    let manager = Manager::new(rules);
    Finding::warn(
        format!(
            "{chain} would drop connections from {networks} to port {port}: it drops by default, \
             and no rule names the port"
        ),
        manager.fix(port, chain),
    )
}

/// What writes the rules, so that rules made beside it would not stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manager {
    Firewalld,
    None,
    Ufw,
}

impl Manager {
    fn find(text: &str) -> Option<Self> {
        match () {
            () if text.contains("ufw-user-input") => Some(Self::Ufw),
            () if text.contains("firewalld") => Some(Self::Firewalld),
            () => None,
        }
    }

    fn new(rules: &[Rules]) -> Self {
        rules.iter().find_map(|rules| rules.manager).unwrap_or(Self::None)
    }

    /// The command that opens `port`, which `chain` drops.
    fn fix(self, port: u16, chain: &str) -> String {
        match self {
            Self::Ufw => format!("ufw allow {port}/tcp"),
            Self::Firewalld => {
                format!("firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload")
            }
            Self::None if chain.starts_with("iptables") => format!(
                "iptables -I INPUT -p tcp --dport {port} -s 149.154.160.0/20,91.108.4.0/22 -j \
                 ACCEPT, and save it"
            ),
            Self::None => format!(
                "nft insert rule {chain} ip saddr '{{ 149.154.160.0/20, 91.108.4.0/22 }}' tcp \
                 dport {port} accept, and save it"
            ),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Iptables,
    Nft,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Iptables => "iptables-save",
            Self::Nft => "nft",
        }
    }
}

/// What is asked of a list of rules.
#[derive(Default)]
struct Rules {
    /// The chain that drops new connections that no rule lets in.
    drops_by_default: Option<String>,
    manager: Option<Manager>,
    /// Whether a rule names Telegram's network and no port.
    names_telegram: bool,
    /// First and last of each range of numbers in the rules that can be ports.
    ports: Vec<(u16, u16)>,
}

impl Rules {
    /// `None` where `text` is not what the program writes.
    fn read(kind: Kind, text: &str) -> Option<Self> {
        let mut rules = match kind {
            Kind::Iptables => Self::from_iptables(text),
            Kind::Nft => Self::from_nft(&serde_json::from_str(text).ok()?)?,
        };
        rules.manager = Manager::find(text);
        Some(rules)
    }

    fn names(&self, port: u16) -> bool {
        self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// `iptables-save`: policies are lines like `:INPUT DROP [0:0]`.
    fn from_iptables(text: &str) -> Self {
        let mut rules = Self::default();
        let mut table = "";
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            }
            let drops = line.starts_with(":INPUT DROP")
                || matches!(line.strip_prefix("-A INPUT -j "), Some(target)
                    if target.starts_with("DROP") || target.starts_with("REJECT"));
            if drops {
                rules.drops_by_default = Some(format!("iptables {table} INPUT"));
            }
            rules.names_telegram |= line.contains(NETWORK) && !line.contains("--dport");
            let words: Vec<_> = line.split_whitespace().collect();
            let values = words.windows(2).filter_map(|pair| match pair {
                [option, value] if option.trim_start_matches('-').starts_with("dport") => {
                    Some(value)
                }
                _ => None,
            });
            for text in values.flat_map(|value| value.split(',')) {
                let (first, last) = text.split_once(':').unwrap_or((text, text));
                let ends = first.parse().ok().zip(last.parse().ok());
                rules.ports.extend(ends);
            }
        }
        rules
    }

    /// `nft -j list ruleset`. Tables that iptables has written are left to its own list.
    fn from_nft(ruleset: &Value) -> Option<Self> {
        let objects = ruleset.get("nftables")?.as_array()?;
        let of_kind =
            |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
        let table = |object: &Value| (text(object, "family"), text(object, "table"));
        let is_of_iptables = |chain: &Value| {
            let mut own = of_kind("rule").filter(|rule| table(rule) == table(chain));
            own.any(|rule| expressions(rule).any(|expression| expression.get("xt").is_some()))
        };
        let mut rules = Self::default();
        for chain in of_kind("chain").filter(|chain| !is_of_iptables(chain)) {
            let is_asked = matches!(text(chain, "hook").as_str(), "prerouting" | "input")
                && matches!(text(chain, "family").as_str(), "ip" | "inet");
            let name = text(chain, "name");
            let mut own = of_kind("rule")
                .filter(|rule| table(rule) == table(chain) && text(rule, "chain") == name);
            if is_asked && (text(chain, "policy") == "drop" || own.any(is_drop_of_all)) {
                let (family, table) = table(chain);
                rules.drops_by_default.get_or_insert(format!("{family} {table} {name}"));
            }
        }
        rules.names_telegram = of_kind("rule")
            .map(Value::to_string)
            .any(|rule| rule.contains(NETWORK) && !rule.contains("dport"));
        of_kind("rule").chain(of_kind("set")).for_each(|object| rules.add_numbers(object));
        Some(rules)
    }

    fn add_numbers(&mut self, value: &Value) {
        let port = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
        match value {
            Value::Number(_) => self.ports.extend(port(value).map(|port| (port, port))),
            Value::Array(values) => values.iter().for_each(|value| self.add_numbers(value)),
            Value::Object(fields) => {
                if let Some([first, last]) =
                    fields.get("range").and_then(Value::as_array).map(Vec::as_slice)
                {
                    self.ports.extend(port(first).zip(port(last)));
                }
                for (name, value) in fields {
                    // Numbers of objects, not of ports.
                    if !matches!(
                        name.as_str(),
                        "handle" | "counter" | "prefix" | "limit" | "timeout"
                    ) {
                        self.add_numbers(value);
                    }
                }
            }
            _ => {}
        }
    }
}

fn text(object: &Value, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or("").to_owned()
}

fn expressions(rule: &Value) -> impl Iterator<Item = &Value> {
    rule.get("expr").and_then(Value::as_array).into_iter().flatten()
}

/// True for a rule without any condition that drops or rejects.
fn is_drop_of_all(rule: &Value) -> bool {
    let is = |expression: &Value, names: &[&str]| {
        names.iter().any(|name| expression.get(name).is_some())
    };
    expressions(rule).any(|it| is(it, &["drop", "reject"]))
        && expressions(rule).all(|it| is(it, &["counter", "drop", "log", "reject"]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn finding(kind: Kind, text: &str, port: u16) -> (String, String, String) {
        let Some(rules) = Rules::read(kind, text) else {
            return ("unread".to_owned(), String::new(), String::new());
        };
        let finding = judge(&[rules], &[port]);
        let fix = finding.fix.first().cloned().unwrap_or_default();
        (finding.verdict.as_str().to_owned(), finding.what, fix)
    }

    #[track_caller]
    fn expect(kind: Kind, text: &str, port: u16, verdict: &str, what: &str) {
        let found = finding(kind, text, port);
        assert_eq!(found.0, verdict, "{found:?}");
        assert!(found.1.contains(what), "{found:?}");
    }

    const UFW: &str = include_str!("fixtures/ufw.iptables");
    const DOCKER: &str = include_str!("fixtures/docker.iptables");
    const STRICT: &str = include_str!("fixtures/strict.nft.json");
    const FIREWALLD: &str = include_str!("fixtures/firewalld.nft.json");

    #[test]
    fn a_default_drop_needs_a_rule_that_names_the_port() {
        expect(Kind::Nft, STRICT, 8443, "warn", "inet filter input would drop");
        expect(Kind::Nft, STRICT, 8443, "warn", "149.154.160.0/20 and 91.108.4.0/22 to port 8443");
        for port in [443, 80] {
            expect(Kind::Nft, STRICT, port, "ok", "rules name");
        }
        let empty = r#"{"nftables":[{"metainfo":{"version":"1.0.6"}}]}"#;
        expect(Kind::Nft, empty, 443, "ok", "no chain drops");
        expect(Kind::Nft, "{}", 443, "unread", "");
        expect(Kind::Nft, "Operation not permitted", 443, "unread", "");
        let log = "*filter\n:INPUT DROP [0:0]\n-A INPUT -j LOG --log-prefix \"x \"\nCOMMIT\n";
        expect(Kind::Iptables, log, 443, "warn", "iptables filter INPUT would drop");
        for (rule, verdict) in [
            ("-p tcp -m tcp --dport 400:500 -j ACCEPT", "ok"),
            ("-p tcp -m multiport --dports 22,443 -j ACCEPT", "ok"),
            ("-s 149.154.160.0/20 -p tcp -j ACCEPT", "ok"),
            ("-p tcp -m tcp --dport 22 -j ACCEPT", "warn"),
            ("-i lo -j ACCEPT", "warn"),
        ] {
            let text =
                format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {rule}\n-A INPUT -j REJECT\n");
            assert_eq!(finding(Kind::Iptables, &text, 443).0, verdict, "{rule}");
        }
    }

    #[test]
    fn each_manager_has_its_own_command() {
        expect(Kind::Nft, FIREWALLD, 443, "ok", "");
        expect(Kind::Nft, FIREWALLD, 8443, "warn", "inet firewalld filter_INPUT");
        expect(Kind::Iptables, UFW, 443, "ok", "");
        expect(Kind::Iptables, UFW, 8443, "warn", "iptables filter INPUT would drop");
        let command = |kind, text| finding(kind, text, 8444).2;
        assert!(command(Kind::Iptables, UFW).starts_with("ufw allow 8444/tcp"));
        assert!(command(Kind::Nft, FIREWALLD).starts_with("firewall-cmd --permanent"));
        assert!(command(Kind::Nft, STRICT).starts_with("nft insert rule inet filter input"));
        let plain = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
        assert!(command(Kind::Iptables, plain).starts_with("iptables -I INPUT"));
    }

    #[test]
    fn what_iptables_wrote_is_left_to_its_own_list() {
        let xt = r#"{"nftables":[
            {"chain":{"family":"ip","table":"filter","name":"INPUT","hook":"input","policy":"drop"}},
            {"rule":{"family":"ip","table":"filter","chain":"INPUT","expr":[
                {"xt":{"type":"match","name":"multiport"}},{"accept":null}]}}]}"#;
        expect(Kind::Nft, xt, 443, "ok", "");
        let fail2ban = "*filter\n:INPUT ACCEPT [0:0]\n:f2b - [0:0]\n\
                        -A INPUT -p tcp -m multiport --dports 80,443 -j f2b\n\
                        -A f2b -m set --match-set bad src -j REJECT\n-A f2b -j RETURN\nCOMMIT\n";
        expect(Kind::Iptables, fail2ban, 443, "ok", "no chain drops");
    }

    #[test]
    fn a_port_that_is_sent_to_a_container_is_named() {
        expect(Kind::Iptables, DOCKER, 8443, "ok", "");
        expect(Kind::Iptables, DOCKER, 443, "warn", "iptables filter INPUT would drop");
    }
}
