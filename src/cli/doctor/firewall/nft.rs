//! `nft -j list ruleset`, as far as it can be told what it does with a connection.

use std::{collections::HashMap, net::Ipv4Addr};

use serde_json::Value;

use super::verdict::{Action, Chains, Fate, Packet, Rule, Tri, fate, is_between, is_from};

/// Sets by family, table and name.
type Sets<'a> = HashMap<(&'a str, &'a str, &'a str), &'a Value>;

/// What each chain at which the kernel asks about arriving packets does with `packet`, by its name;
/// `None` where `json` is none of nft's.
pub(super) fn fates(json: &str, packet: Packet) -> Option<Vec<(String, Fate)>> {
    let ruleset: Value = serde_json::from_str(json).ok()?;
    let objects = ruleset.get("nftables")?.as_array()?;
    let of_kind = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let mut sets = Sets::new();
    for set in of_kind("set") {
        let elements = set.get("elem").unwrap_or(&Value::Null);
        sets.insert((text(set, "family"), text(set, "table"), text(set, "name")), elements);
    }
    let mut tables: HashMap<(&str, &str), Chains> = HashMap::new();
    for chain in of_kind("chain") {
        let table = tables.entry((text(chain, "family"), text(chain, "table"))).or_default();
        table.entry(text(chain, "name").to_owned()).or_default();
    }
    for rule in of_kind("rule") {
        let place @ (family, table) = (text(rule, "family"), text(rule, "table"));
        let reader = Reader { packet, sets: &sets, family, table };
        let rules = reader.rules(rule.get("expr").unwrap_or(&Value::Null));
        let table = tables.entry(place).or_default();
        table.entry(text(rule, "chain").to_owned()).or_default().extend(rules);
    }
    let mut fates = Vec::new();
    for chain in of_kind("chain") {
        let (family, table, name) =
            (text(chain, "family"), text(chain, "table"), text(chain, "name"));
        let is_asked = matches!(text(chain, "hook"), "prerouting" | "input")
            && matches!(family, "ip" | "inet");
        let Some(chains) = tables.get(&(family, table)).filter(|_| is_asked) else { continue };
        let mut fate = fate(chains, name);
        if std::mem::take(&mut fate.falls_through) {
            match text(chain, "policy") {
                "drop" => fate.dropped = true,
                _ => fate.accepted = true,
            }
        }
        fates.push((format!("{family} {table} {name}"), fate));
    }
    Some(fates)
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Reads rules of one table.
struct Reader<'a> {
    packet: Packet,
    sets: &'a Sets<'a>,
    family: &'a str,
    table: &'a str,
}

impl Reader<'_> {
    /// A rule as one or, where it has a map of verdicts, several.
    fn rules(&self, expressions: &Value) -> Vec<Rule> {
        let mut matches = Tri::Yes;
        let mut rules = Vec::new();
        for expression in expressions.as_array().into_iter().flatten() {
            let Some((kind, what)) = expression.as_object().and_then(|object| object.iter().next())
            else {
                continue;
            };
            let action = match kind.as_str() {
                "match" => {
                    matches = matches.and(self.matches(what));
                    continue;
                }
                "vmap" => {
                    rules.extend(self.map(matches, what));
                    continue;
                }
                "counter" | "log" | "comment" | "mangle" | "notrack" | "flow" => continue,
                "dnat" | "redirect" | "tproxy" => Action::Translate,
                // What iptables made, and iptables-save tells better.
                "xt" => {
                    matches = matches.and(Tri::Maybe);
                    Action::Unknown
                }
                // A rate or a quota: it depends.
                "limit" | "quota" | "ct count" | "fib" => {
                    matches = matches.and(Tri::Maybe);
                    continue;
                }
                _ => match verdict(expression) {
                    Some(action) => action,
                    None => {
                        matches = matches.and(Tri::Maybe);
                        continue;
                    }
                },
            };
            rules.push(Rule { matches, action });
        }
        rules
    }

    /// The entries of a map of verdicts.
    fn map(&self, matches: Tri, map: &Value) -> Vec<Rule> {
        let (Some(key), Some(entries)) =
            (map.get("key"), map.pointer("/data/set").and_then(Value::as_array))
        else {
            return vec![Rule { matches: matches.and(Tri::Maybe), action: Action::Unknown }];
        };
        let entry = |entry: &Value| {
            let wanted = entry.get(0)?;
            let action = verdict(entry.get(1)?)?;
            Some(Rule { matches: matches.and(self.compare(key, wanted)), action })
        };
        let unknown = Rule { matches: matches.and(Tri::Maybe), action: Action::Unknown };
        entries.iter().map(|one| entry(one).unwrap_or_else(|| unknown.clone())).collect()
    }

    fn matches(&self, what: &Value) -> Tri {
        let (Some(left), Some(right)) = (what.get("left"), what.get("right")) else {
            return Tri::Maybe;
        };
        let is = self.compare(left, right);
        match text(what, "op") {
            "==" | "in" | "" => is,
            "!=" => is.negated_if(true),
            _ => match is {
                // Less or greater than something: only what is about another protocol is sure.
                Tri::No if self.is_foreign(left) => Tri::No,
                _ => Tri::Maybe,
            },
        }
    }

    /// Whether `left` is about another protocol than TCP over IPv4.
    fn is_foreign(&self, left: &Value) -> bool {
        let protocol = left.pointer("/payload/protocol").and_then(Value::as_str).unwrap_or("");
        matches!(protocol, "ip6" | "udp" | "icmp" | "icmpv6" | "sctp" | "dccp" | "udplite" | "igmp")
    }

    /// Whether `left` of the connection is `right`, or one of them.
    fn compare(&self, left: &Value, right: &Value) -> Tri {
        if self.is_foreign(left) {
            return Tri::No;
        }
        if let Some(list) = right.get("set").or(Some(right)).and_then(Value::as_array) {
            let each = list.iter().map(|one| self.compare(left, one));
            return each.fold(Tri::No, Tri::or);
        }
        // An element with a timeout or a counter.
        if let Some(value) = right.pointer("/elem/val") {
            return self.compare(left, value);
        }
        if let Some(name) = right.as_str().and_then(|name| name.strip_prefix('@')) {
            return match self.sets.get(&(self.family, self.table, name)) {
                Some(elements @ Value::Array(_)) => self.compare(left, elements),
                // Empty now; whoever fills it may do so at any time.
                Some(_) => Tri::No,
                None => Tri::Maybe,
            };
        }
        let payload = |key| left.pointer("/payload").map_or("", |payload| text(payload, key));
        let meta = left.pointer("/meta/key").and_then(Value::as_str).unwrap_or("");
        let ct = left.pointer("/ct/key").and_then(Value::as_str).unwrap_or("");
        match (payload("protocol"), payload("field"), meta, ct) {
            ("tcp" | "th", "dport", ..) => port(right, self.packet.port),
            ("ip", "saddr", ..) => address(right, self.packet),
            ("ip", "protocol", ..) | (_, _, "l4proto", _) => is_one_of(right, &["tcp", "6"]),
            (_, _, "nfproto", _) => is_one_of(right, &["ipv4", "2"]),
            (_, _, "protocol", _) => is_one_of(right, &["ip"]),
            (_, _, "iif" | "iifname", _) if right.as_str() == Some("lo") => Tri::No,
            (.., "state") => is_one_of(right, &["new"]),
            (.., "status") => Tri::of(false),
            _ => Tri::Maybe,
        }
    }
}

fn verdict(expression: &Value) -> Option<Action> {
    let (kind, what) = expression.as_object()?.iter().next()?;
    let target = || text(what, "target").to_owned();
    Some(match kind.as_str() {
        "accept" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "return" => Action::Return,
        "continue" => Action::Pass,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        "queue" => Action::Unknown,
        _ => return None,
    })
}

fn is_one_of(right: &Value, names: &[&str]) -> Tri {
    match right {
        Value::String(name) => Tri::of(names.contains(&name.as_str())),
        Value::Number(number) => Tri::of(names.contains(&number.to_string().as_str())),
        _ => Tri::Maybe,
    }
}

fn port(right: &Value, port: u16) -> Tri {
    if let Some(range) = right.get("range").and_then(Value::as_array) {
        let bound = |place| range.get(place).and_then(Value::as_u64);
        let (Some(first), Some(last)) = (bound(0), bound(1)) else { return Tri::Maybe };
        return Tri::of((first..=last).contains(&port.into()));
    }
    match right {
        Value::Number(number) => Tri::of(number.as_u64() == Some(port.into())),
        Value::String(name) => match name.as_str() {
            "https" => Tri::of(port == 443),
            "http" => Tri::of(port == 80),
            "ssh" => Tri::of(port == 22),
            _ => Tri::Maybe,
        },
        _ => Tri::Maybe,
    }
}

fn address(right: &Value, packet: Packet) -> Tri {
    let parse = |text: &str| text.parse::<Ipv4Addr>().ok();
    if let Some(prefix) = right.get("prefix") {
        let length =
            prefix.get("len").and_then(Value::as_u64).and_then(|len| u32::try_from(len).ok());
        return match parse(text(prefix, "addr")).zip(length) {
            Some((base, length)) => is_from(packet, base, length),
            None => Tri::Maybe,
        };
    }
    if let Some(range) = right.get("range").and_then(Value::as_array) {
        let bound = |place| range.get(place).and_then(Value::as_str).and_then(parse);
        return match (bound(0), bound(1)) {
            (Some(first), Some(last)) => is_between(packet, first, last),
            _ => Tri::Maybe,
        };
    }
    right.as_str().and_then(parse).map_or(Tri::Maybe, |address| is_from(packet, address, 32))
}
