//! Whether a machine elsewhere can connect to where Telegram is told to come.

use std::{fs, net::SocketAddr};

use crate::{
    config::{BotSection, ConfigFile},
    telegram::webhook::WebhookUrl,
};
use ringhook::{ListenAddress, Listener};

/// The sockets of this machine, by protocol.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The state of a socket that listens.
const LISTEN: &str = "0A";

/// A listener to which this machine alone can connect, and the URL by which Telegram is to come
/// there.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ShutIn {
    pub(crate) address: SocketAddr,
    url: String,
}

impl ShutIn {
    /// One of `listeners`, where Telegram is to come to its very port by the config. Where the port
    /// is another one, or something else of this machine has it, that is in front and may be
    /// reached.
    pub(crate) fn find(file: &ConfigFile, listeners: &[Listener]) -> Option<Self> {
        let is_taken = |port| {
            TABLES
                .iter()
                .any(|table| has_other(&fs::read_to_string(table).unwrap_or_default(), port))
        };
        // A Bot API server of one's own may be on this machine.
        let bots = file.bots.iter().filter(|_| !file.webhook.local);
        let mut known = Vec::new();
        let found = bots.filter_map(|bot| Self::new(file, bot, listeners)).filter(|found| {
            let is_new = !known.contains(&found.address);
            known.push(found.address);
            is_new
        });
        found.into_iter().find(|found| !is_taken(found.address.port()))
    }

    fn new(file: &ConfigFile, bot: &BotSection, listeners: &[Listener]) -> Option<Self> {
        let addresses = listeners.iter().map(|listener| match &listener.address {
            ListenAddress::Tcp(address) => Some(*address),
            // Where it is bound is not known here.
            _ => None,
        });
        let addresses = addresses.collect::<Option<Vec<_>>>()?;
        let url = match bot.url.as_deref() {
            Some(url) => WebhookUrl::parse(url)?,
            None => {
                let host = bot.host.as_deref().filter(|host| !host.starts_with('*'))?;
                let port = file.webhook.port.or(addresses.first().map(SocketAddr::port))?;
                WebhookUrl::parse(&format!("https://{host}:{port}{}", bot.path))?
            }
        };
        let mut there = addresses.iter().filter(|address| address.port() == url.port);
        let address = *there.next()?;
        let is_alone = address.ip().is_loopback() && there.all(|other| other.ip().is_loopback());
        (is_alone && url.has_public_host()).then(|| Self { address, url: url.to_string() })
    }

    pub(crate) fn what(&self) -> String {
        let Self { address, url } = self;
        format!("only this machine can connect to {address}, and Telegram is to come to {url}")
    }

    pub(crate) fn fix(&self) -> String {
        let port = self.address.port();
        format!(
            "listen on 0.0.0.0:{port}; where a tunnel ends here, or something else is in front, all \
             is well"
        )
    }
}

/// True where a socket of `table` listens at `port` and not on loopback alone.
fn has_other(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace();
        let (Some(local), Some(state)) = (words.nth(1), words.nth(1)) else { return false };
        let Some((ip, at)) = local.split_once(':') else { return false };
        // The bytes of each word are in the order of the machine, the first byte of IPv4 the last
        // one.
        let is_loopback = match ip.len() {
            8 => ip.ends_with("7F"),
            _ => {
                ip == "00000000000000000000000001000000"
                    || (ip.starts_with("0000000000000000FFFF0000") && ip.ends_with("7F"))
            }
        };
        state == LISTEN && u16::from_str_radix(at, 16) == Ok(port) && !is_loopback
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Secrets;

    fn found(server: &str, bot: &str) -> Option<String> {
        let text = format!("{server}\n[[bot]]\nname='a'\npath='/a'\nauth='none'\n{bot}\n");
        let file: ConfigFile = text.parse().unwrap();
        let listeners = file.to_config(Secrets::Leave).unwrap().all_listeners();
        ShutIn::new(&file, file.bots.first().unwrap(), &listeners).map(|found| found.what())
    }

    #[test]
    fn a_public_url_that_leads_to_loopback_is_told() {
        const HOST: &str = "host='bot.example.com'";
        let expected = "only this machine can connect to 127.0.0.1:8443, and Telegram is to come to \
                        https://bot.example.com:8443/a";
        assert_eq!(found("", HOST).as_deref(), Some(expected));
        assert!(found("[server]\nlisten='[::1]:443'", HOST).is_some());
        assert!(found("", "url='https://bot.example.com:8443/a'").is_some());
        assert!(found("", "host='8.8.8.8'").is_some());
        for (server, bot) in [
            // Something is in front.
            ("[webhook]\nport=443", HOST),
            ("", "url='https://bot.example.com/a'"),
            ("[server]\nlisten='unix:/run/x'", HOST),
            ("[server]\nlisten='fd:0'", HOST),
            // It is reached.
            ("[server]\nlisten='0.0.0.0:8443'", HOST),
            ("[server]\nlisten='127.0.0.1:8443'\n[[listener]]\naddress='192.0.2.1:8443'", HOST),
            // It is not to be.
            ("", "host='localhost'"),
            ("", "host='bot.internal'"),
            ("", "host='192.168.0.1'"),
            ("", "host='*.example.com'"),
            ("", ""),
        ] {
            assert_eq!(found(server, bot), None, "{server} {bot}");
        }
    }

    #[test]
    fn what_else_has_the_port_may_be_in_front() {
        let line =
            |ip: &str, state: &str| format!("head\n 0: {ip}:20FB 00000000:0000 {state} rest\n");
        assert!(has_other(&line("00000000", "0A"), 8443));
        assert!(has_other(&line("0100000A", "0A"), 8443));
        assert!(has_other(&line("00000000000000000000000000000000", "0A"), 8443));
        for (ip, state, port) in [
            ("0100007F", "0A", 8443),
            ("00000000000000000000000001000000", "0A", 8443),
            ("0000000000000000FFFF00000100007F", "0A", 8443),
            ("00000000", "01", 8443),
            ("00000000", "0A", 443),
        ] {
            assert!(!has_other(&line(ip, state), port), "{ip} {state} {port}");
        }
    }
}
