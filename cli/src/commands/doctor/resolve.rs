//! Whether the name in the URL leads anywhere that Telegram goes.

use std::{
    fs,
    net::{IpAddr, ToSocketAddrs as _},
    time::Duration,
};

use super::{program::within, step::Finding};
use crate::net::address::is_reserved;

const HOSTS: &str = "/etc/hosts";

/// What is known of a name.
struct Known<'a> {
    host: &'a str,
    /// `ip_address` of the bot.
    pinned: Option<IpAddr>,
    /// Whether a Bot API server of one's own delivers, which goes anywhere.
    is_local: bool,
    /// Whether this machine has its own opinion of the name.
    is_in_hosts: bool,
}

/// The addresses to which Telegram would connect for `host`, and what is to be said of them.
pub(super) fn look(
    host: &str,
    pinned: Option<IpAddr>,
    is_local: bool,
    timeout: Duration,
) -> (Finding, Vec<IpAddr>) {
    if let Ok(address) = host.parse::<IpAddr>() {
        let finding = Finding::ok(format!("{address} is an address, which needs no resolution"));
        return (finding, vec![pinned.unwrap_or(address)]);
    }
    let name = host.to_owned();
    let resolve = move || {
        let found = (name.as_str(), 0).to_socket_addrs().map_err(|error| error.to_string())?;
        let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        addresses.sort();
        addresses.dedup();
        Ok(addresses)
    };
    let found = within(timeout, resolve)
        .unwrap_or_else(|| Err(format!("no answer of the resolver in {} s", timeout.as_secs())));
    let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
    judge(&Known { host, pinned, is_local, is_in_hosts: is_in(&hosts, host) }, found)
}

/// True where the addresses of `host` are not to be had without asking a server of names.
pub(super) fn takes_the_network(host: &str, pinned: Option<IpAddr>) -> bool {
    let is_known = pinned.is_some() || host.parse::<IpAddr>().is_ok() || host == "localhost";
    !is_known && !is_in(&fs::read_to_string(HOSTS).unwrap_or_default(), host)
}

fn judge(known: &Known<'_>, found: Result<Vec<IpAddr>, String>) -> (Finding, Vec<IpAddr>) {
    let &Known { host, pinned, is_local, is_in_hosts } = known;
    let record = format!("add an A record for {host} with the public IPv4 address of this server");
    if let Some(pinned) = pinned {
        let finding =
            Finding::ok(format!("Telegram is given ip_address {pinned} and asks no DNS server"));
        return (finding, vec![pinned]);
    }
    let addresses = match found {
        Ok(addresses) if !addresses.is_empty() => addresses,
        Ok(_) => return (Finding::fail(format!("{host} has no address"), record), Vec::new()),
        Err(error) => {
            let finding = Finding::fail(format!("{host} has no address: {error}"), record);
            return (finding.and("or is the network of this machine down?"), Vec::new());
        }
    };
    let list = |addresses: &[IpAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let v4: Vec<_> = addresses.iter().copied().filter(IpAddr::is_ipv4).collect();
    if is_local {
        let wanted = if v4.is_empty() { addresses } else { v4 };
        return (Finding::ok(format!("{host} is {}", list(&wanted))), wanted);
    }
    if v4.is_empty() {
        let finding = Finding::fail(
            format!(
                "{host} has IPv6 addresses only ({}), and Telegram speaks IPv4",
                list(&addresses)
            ),
            record,
        );
        return (finding, addresses);
    }
    let reserved: Vec<_> = v4.iter().copied().filter(|address| is_reserved(*address)).collect();
    if !reserved.is_empty() {
        let what = format!("{host} is {}, to which Telegram does not connect", list(&reserved));
        let finding = match is_in_hosts {
            true => Finding::warn(
                what,
                format!(
                    "{HOSTS} of this machine says so, and others may see another address: dig +short A \
                     {host} @1.1.1.1"
                ),
            ),
            false => Finding::fail(what, record),
        };
        return (finding, v4);
    }
    let mut finding = Finding::ok(format!("{host} is {}", list(&v4)));
    if v4.len() > 1 {
        finding = finding.and(
            "Telegram takes one of them, so each has to lead here; ip_address in [[bot]] names one",
        );
    }
    (finding, v4)
}

/// Whether a file like `/etc/hosts` has the name.
fn is_in(hosts: &str, name: &str) -> bool {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines
        .flat_map(|line| line.split_whitespace().skip(1))
        .any(|word| word.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::step::Verdict;

    fn verdict(addresses: &[&str], is_local: bool, is_in_hosts: bool) -> (Verdict, usize) {
        let known = Known { host: "bot.example.com", pinned: None, is_local, is_in_hosts };
        let found = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let (finding, wanted) = judge(&known, Ok(found));
        (finding.verdict, wanted.len())
    }

    #[test]
    fn telegram_needs_an_address_of_ipv4_in_public() {
        assert_eq!(verdict(&["8.8.8.8"], false, false), (Verdict::Ok, 1));
        assert_eq!(verdict(&["8.8.8.8", "2001:4860::1"], false, false), (Verdict::Ok, 1));
        assert_eq!(verdict(&["8.8.8.8", "8.8.4.4"], false, false), (Verdict::Ok, 2));
        assert_eq!(verdict(&[], false, false), (Verdict::Fail, 0));
        assert_eq!(verdict(&["2001:4860::1"], false, false), (Verdict::Fail, 1));
        assert_eq!(verdict(&["2001:4860::1"], true, false), (Verdict::Ok, 1));
        assert_eq!(verdict(&["10.0.0.1"], false, false), (Verdict::Fail, 1));
        assert_eq!(verdict(&["127.0.1.1"], false, true), (Verdict::Warn, 1));
        assert_eq!(verdict(&["10.0.0.1"], true, false), (Verdict::Ok, 1));
    }

    #[test]
    fn what_is_pinned_needs_no_name() {
        let pinned = "8.8.8.8".parse().ok();
        let known = Known { host: "bot.invalid", pinned, is_local: false, is_in_hosts: false };
        let (finding, wanted) = judge(&known, Err("no such name".to_owned()));
        assert_eq!((finding.verdict, wanted), (Verdict::Ok, pinned.into_iter().collect()));
    }

    #[test]
    fn reads_the_table_of_hosts() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1\tBot.example.com bot # x.example\n";
        assert!(is_in(hosts, "bot.example.com") && is_in(hosts, "bot"));
        assert!(!is_in(hosts, "x.example") && !is_in(hosts, "127.0.1.1"));
    }
}
