//! Whether this machine's packet filter would turn Telegram away. A hint: it is read, not tried, and
//! rules that depend on more than addresses and ports are taken to let in.

mod iptables;
mod nft;
mod verdict;

use std::{net::Ipv4Addr, time::Duration};

use self::verdict::{Fate, Packet};
use super::{
    program::{self, Output},
    step::Finding,
};

/// Telegram's networks, first and last address.
const TELEGRAM: [(&str, (Ipv4Addr, Ipv4Addr)); 2] = [
    ("149.154.160.0/20", (Ipv4Addr::new(149, 154, 160, 0), Ipv4Addr::new(149, 154, 175, 255))),
    ("91.108.4.0/22", (Ipv4Addr::new(91, 108, 4, 0), Ipv4Addr::new(91, 108, 7, 255))),
];

/// What the rules say of new connections from Telegram to `ports` of this machine.
pub(super) fn look(ports: &[u16], timeout: Duration) -> Finding {
    let Some(port) = ports.first() else {
        return Finding::skip("only this machine itself can connect, by the config");
    };
    let filters = [
        (program::run("nft", &["-j", "list", "ruleset"], timeout), Kind::Nft),
        (program::run("iptables-save", &[], timeout), Kind::Iptables),
    ];
    let mut unread = Vec::new();
    let mut read = Vec::new();
    for (output, kind) in filters {
        match output {
            Output::Missing => {}
            Output::Failed(why) => unread.push(format!("{}: {why}", kind.program())),
            Output::Ok(text) => read.push((kind, text)),
        }
    }
    if read.is_empty() && unread.is_empty() {
        return Finding::skip("neither nft nor iptables-save is here, so its rules cannot be read");
    }
    if read.is_empty() {
        return Finding::skip(format!("the rules cannot be read ({})", unread.join("; ")))
            .and("to have them looked at: sudo ringhook doctor");
    }
    let mut opinion = Opinion::default();
    for port in ports {
        for (name, from) in TELEGRAM {
            let packet = Packet { from, port: *port };
            for (kind, text) in &read {
                match kind.fates(text, packet) {
                    Some(fates) => opinion.add(*port, name, &fates),
                    None => unread.push(format!("{}: no output of its form", kind.program())),
                }
            }
        }
    }
    let manager = Manager::of(read.iter().map(|(_, text)| text.as_str()));
    let program = read.first().map_or("", |(kind, _)| kind.program());
    opinion.finding(*port, program, manager, &unread)
}

/// Who writes the rules, so that rules of our own would not stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manager {
    Firewalld,
    Nobody,
    Ufw,
}

impl Manager {
    fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        for text in texts {
            if text.contains("ufw-user-input") {
                return Self::Ufw;
            }
            if text.contains("firewalld") {
                return Self::Firewalld;
            }
        }
        Self::Nobody
    }

    /// How Telegram is let in to `port`, where `chain` turns it away.
    fn remedy(self, port: u16, chain: &str) -> String {
        match self {
            Self::Ufw => format!("ufw allow {port}/tcp"),
            Self::Firewalld => {
                format!("firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload")
            }
            Self::Nobody if chain.starts_with("iptables") => format!(
                "iptables -I INPUT -p tcp --dport {port} -s 149.154.160.0/20,91.108.4.0/22 -j \
                 ACCEPT, and save it"
            ),
            Self::Nobody => format!(
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

    fn fates(self, text: &str, packet: Packet) -> Option<Vec<(String, Fate)>> {
        match self {
            Self::Iptables => Some(iptables::fates(text, packet)),
            Self::Nft => nft::fates(text, packet),
        }
    }
}

/// What all chains together do.
#[derive(Default)]
struct Opinion {
    /// The chain that turns each of them away: port, network, chain.
    lost: Vec<(u16, &'static str, String)>,
    is_translated: bool,
    /// Whether some rule could turn them away.
    is_unsure: bool,
}

impl Opinion {
    fn add(&mut self, port: u16, network: &'static str, fates: &[(String, Fate)]) {
        // Where a connection is sent somewhere else, other rules hold for it.
        if fates.iter().any(|(_, fate)| fate.translated) {
            self.is_translated = true;
            return;
        }
        for (chain, fate) in fates {
            if fate.is_lost() && !self.lost.iter().any(|(p, n, _)| (*p, *n) == (port, network)) {
                self.lost.push((port, network, chain.clone()));
            }
            self.is_unsure |= fate.dropped && fate.accepted;
        }
    }

    fn finding(self, port: u16, program: &str, manager: Manager, unread: &[String]) -> Finding {
        let finding = match self.lost.first() {
            Some((port, _, chain)) => {
                let mut networks: Vec<_> = self.lost.iter().map(|(_, name, _)| *name).collect();
                networks.dedup();
                let networks = networks.join(" and ");
                Finding::warn(
                    format!("{chain} would drop connections from {networks} to port {port}"),
                    manager.remedy(*port, chain),
                )
            }
            None if self.is_translated => {
                Finding::ok("a NAT rule sends these connections elsewhere: not looked at further")
            }
            None if self.is_unsure => Finding::ok(format!(
                "no rule of {program} is sure to drop Telegram's connections to port {port} (some \
                 depend on more than address and port)"
            )),
            None => Finding::ok(format!("no rule of {program} drops Telegram's connections")),
        };
        unread.iter().fold(finding, |finding, unread| finding.and(format!("not read: {unread}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: Kind, text: &str, port: u16) -> (String, String) {
        let mut opinion = Opinion::default();
        for (name, from) in TELEGRAM {
            match kind.fates(text, Packet { from, port }) {
                Some(fates) => opinion.add(port, name, &fates),
                None => return ("unread".to_owned(), String::new()),
            }
        }
        let finding = opinion.finding(port, kind.program(), Manager::of([text]), &[]);
        (finding.verdict.as_str().to_owned(), finding.what)
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
    fn a_policy_of_drop_needs_a_rule_that_lets_in() {
        expect(Kind::Nft, STRICT, 8443, "warn", "inet filter input would drop");
        expect(Kind::Nft, STRICT, 8443, "warn", "149.154.160.0/20 and 91.108.4.0/22 to port 8443");
        expect(Kind::Nft, STRICT, 443, "ok", "drops");
        // One of the two networks alone.
        expect(Kind::Nft, STRICT, 88, "warn", "from 91.108.4.0/22 to port 88");
        // Both by a named set.
        expect(Kind::Nft, STRICT, 80, "ok", "");
        expect(Kind::Nft, r#"{"nftables":[{"metainfo":{"version":"1.0.6"}}]}"#, 443, "ok", "drops");
        expect(Kind::Nft, "{}", 443, "unread", "");
        expect(Kind::Nft, "Operation not permitted", 443, "unread", "");
    }

    #[test]
    fn what_is_not_understood_is_taken_to_let_in() {
        expect(Kind::Nft, FIREWALLD, 443, "ok", "");
        expect(Kind::Nft, FIREWALLD, 8443, "warn", "inet firewalld filter_INPUT");
        let fail2ban = "*filter\n:INPUT ACCEPT [0:0]\n:f2b - [0:0]\n\
                        -A INPUT -p tcp -m multiport --dports 80,443 -j f2b\n\
                        -A f2b -m set --match-set bad src -j REJECT\n-A f2b -j RETURN\nCOMMIT\n";
        expect(Kind::Iptables, fail2ban, 443, "ok", "some depend on more");
    }

    #[test]
    fn what_iptables_wrote_is_left_to_its_own_list() {
        let xt = r#"{"nftables":[
            {"chain":{"family":"ip","table":"filter","name":"INPUT","hook":"input","policy":"drop"}},
            {"rule":{"family":"ip","table":"filter","chain":"INPUT","expr":[
                {"xt":{"type":"match","name":"multiport"}},{"accept":null}]}}]}"#;
        expect(Kind::Nft, xt, 443, "ok", "some depend on more");
        expect(Kind::Nft, &xt.replace("multiport", "x").replace("filter", "f"), 443, "ok", "");
    }

    #[test]
    fn ufw_is_understood() {
        expect(Kind::Iptables, UFW, 443, "ok", "");
        expect(Kind::Iptables, UFW, 8443, "warn", "iptables filter INPUT would drop");
    }

    #[test]
    fn what_is_sent_to_a_container_is_not_judged() {
        expect(Kind::Iptables, DOCKER, 8443, "ok", "NAT rule");
        expect(Kind::Iptables, DOCKER, 443, "warn", "iptables filter INPUT would drop");
    }

    #[test]
    fn options_of_iptables_are_read() {
        let with = |rules: &str| format!("*filter\n:INPUT DROP [0:0]\n{rules}\nCOMMIT\n");
        for (rules, verdict) in [
            ("-A INPUT -i lo -j ACCEPT", "warn"),
            ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "warn"),
            ("-A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", "ok"),
            ("-A INPUT -p udp -m udp --dport 443 -j ACCEPT", "warn"),
            ("-A INPUT -p tcp -m tcp --dport 400:500 -j ACCEPT", "ok"),
            ("-A INPUT -p tcp -m tcp ! --dport 22 -j ACCEPT", "ok"),
            ("-A INPUT -p tcp -m multiport --dports 22,443 -j ACCEPT", "ok"),
            ("-A INPUT -s 10.0.0.0/8 -j ACCEPT", "warn"),
            ("-A INPUT ! -s 10.0.0.0/255.0.0.0 -j ACCEPT", "ok"),
            ("-A INPUT -s 149.154.160.0/20 -p tcp -j ACCEPT", "warn"),
            (
                "-A INPUT -s 149.154.160.0/20 -p tcp -j ACCEPT\n-A INPUT -s 91.108.0.0/16 -j ACCEPT",
                "ok",
            ),
            ("-A INPUT -i eth0 -p tcp -m tcp --dport 443 -j ACCEPT", "ok"),
            ("-A INPUT -m comment --comment \"let \\\"all\\\" -j in\" -j ACCEPT", "ok"),
            ("-A INPUT -p tcp -m limit --limit 10/sec -j ACCEPT", "ok"),
            ("-A INPUT -j LOG --log-prefix \"x \"", "warn"),
            ("-A INPUT -j NFQUEUE --queue-num 0", "ok"),
        ] {
            assert_eq!(finding(Kind::Iptables, &with(rules), 443).0, verdict, "{rules}");
        }
    }
}
