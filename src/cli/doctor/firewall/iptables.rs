//! `iptables-save`, as far as it can be told what it does with a connection.

use std::{collections::HashMap, net::Ipv4Addr};

use super::verdict::{Action, Chains, Fate, Packet, Rule, Tri, fate, is_between, is_from};

/// Modules that match nothing by themselves, only by the options that follow.
const KNOWN_MODULES: [&str; 7] =
    ["tcp", "udp", "multiport", "conntrack", "state", "comment", "iprange"];

/// What each built-in chain that arriving packets come to does with `packet`, by its name.
pub(super) fn fates(saved: &str, packet: Packet) -> Vec<(String, Fate)> {
    let mut fates = Vec::new();
    let mut table = Table::default();
    for line in saved.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = Table { name: name.to_owned(), ..Table::default() };
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (name, policy) = (words.next().unwrap_or(""), words.next().unwrap_or("-"));
            table.policies.insert(name.to_owned(), policy.to_owned());
            table.chains.entry(name.to_owned()).or_default();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            table.add(rule, packet);
        } else if line == "COMMIT" {
            fates.extend(table.fates());
        }
    }
    fates
}

#[derive(Default)]
struct Table {
    name: String,
    policies: HashMap<String, String>,
    chains: Chains,
}

impl Table {
    fn add(&mut self, line: &str, packet: Packet) {
        let words = words(line);
        let Some((chain, options)) = words.split_first() else { return };
        let rule = rule(options, packet);
        self.chains.entry(chain.clone()).or_default().push(rule);
    }

    fn fates(&mut self) -> Vec<(String, Fate)> {
        // A target that is no chain of the table is an extension, and those that end the walk are known.
        let known: Vec<_> = self.chains.keys().cloned().collect();
        for rule in self.chains.values_mut().flatten() {
            if let Action::Jump(target) | Action::Goto(target) = &rule.action
                && !known.contains(target)
            {
                rule.action = Action::Pass;
            }
        }
        let mut fates = Vec::new();
        for name in ["PREROUTING", "INPUT"] {
            let Some(policy) = self.policies.get(name) else { continue };
            let mut fate = fate(&self.chains, name);
            if std::mem::take(&mut fate.falls_through) {
                match policy.as_str() {
                    "DROP" => fate.dropped = true,
                    _ => fate.accepted = true,
                }
            }
            fates.push((format!("iptables {} {name}", self.name), fate));
        }
        fates
    }
}

/// A rule's line as words; those in quotes are one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut is_quoted, mut is_escaped, mut has_word) =
        (String::new(), false, false, false);
    for c in line.chars() {
        match c {
            _ if is_escaped => {
                word.push(c);
                is_escaped = false;
            }
            '\\' if is_quoted => is_escaped = true,
            '"' => {
                is_quoted = !is_quoted;
                has_word = true;
            }
            c if c.is_whitespace() && !is_quoted => {
                if std::mem::take(&mut has_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                has_word = true;
            }
        }
    }
    if has_word {
        words.push(word);
    }
    words
}

fn rule(options: &[String], packet: Packet) -> Rule {
    let (mut matches, mut action, mut is_negated) = (Tri::Yes, Action::Pass, false);
    let mut words = options.iter().map(String::as_str).peekable();
    while let Some(option) = words.next() {
        if option == "!" {
            is_negated = true;
            continue;
        }
        // An option's values; those without any are followed by the next option.
        let mut values = Vec::new();
        while let Some(value) = words.next_if(|word| !word.starts_with('-') && *word != "!") {
            values.push(value);
        }
        let value = values.first().copied().unwrap_or("");
        let holds = match option {
            "-j" | "-g" => {
                action = target(option, value);
                // What follows says how, not what.
                break;
            }
            "-m" if KNOWN_MODULES.contains(&value) => Tri::Yes,
            "--comment" => Tri::Yes,
            "-p" => Tri::of(matches!(value, "tcp" | "6" | "all" | "0")),
            "-s" => source(value, packet),
            "-i" if value == "lo" => Tri::No,
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
                ports(value, packet.port)
            }
            "--ctstate" | "--state" => Tri::of(value.split(',').any(|state| state == "NEW")),
            "--src-range" => range(value, packet),
            "--syn" => Tri::Yes,
            _ => Tri::Maybe,
        };
        matches = matches.and(holds.negated_if(std::mem::take(&mut is_negated)));
    }
    Rule { matches, action }
}

fn target(option: &str, name: &str) -> Action {
    match name {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "DNAT" | "REDIRECT" | "TPROXY" => Action::Translate,
        "NFQUEUE" | "QUEUE" => Action::Unknown,
        _ if option == "-g" => Action::Goto(name.to_owned()),
        _ => Action::Jump(name.to_owned()),
    }
}

fn source(value: &str, packet: Packet) -> Tri {
    let network = |text: &str| {
        let (base, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let base: Ipv4Addr = base.parse().ok()?;
        let prefix = prefix.parse().ok().or_else(|| {
            let mask: Ipv4Addr = prefix.parse().ok()?;
            Some(mask.to_bits().leading_ones())
        })?;
        Some(is_from(packet, base, prefix))
    };
    value.split(',').map(|text| network(text).unwrap_or(Tri::Maybe)).fold(Tri::No, Tri::or)
}

fn range(value: &str, packet: Packet) -> Tri {
    let bounds = value.split_once('-').and_then(|(first, last)| {
        Some((first.parse::<Ipv4Addr>().ok()?, last.parse::<Ipv4Addr>().ok()?))
    });
    bounds.map_or(Tri::Maybe, |(first, last)| is_between(packet, first, last))
}

fn ports(value: &str, port: u16) -> Tri {
    let one = |text: &str| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let first: u16 = if first.is_empty() { 0 } else { first.parse().ok()? };
        let last: u16 = if last.is_empty() { u16::MAX } else { last.parse().ok()? };
        Some(Tri::of((first..=last).contains(&port)))
    };
    value.split(',').map(|text| one(text).unwrap_or(Tri::Maybe)).fold(Tri::No, Tri::or)
}
