//! `[tls]`, and the certificates of all bots.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{BotSection, ConfigFile, Hidden, Secrets, bot::Source};
use crate::certificates::served::{self, Served};
use ringhook::{CertificateSource, Error, KeyPassword, TlsBuilder, TlsConfig};

/// The certificate for clients that name no server, or one without a certificate of its own.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// Certificate chain in PEM, leaf first; needs `tls.key`. Without both that of a bot, or else a
    /// self-signed one in `server.data_dir`.
    pub(crate) cert: Option<PathBuf>,
    /// Private key in PEM: PKCS#8, SEC1 or PKCS#1; needs `tls.cert`.
    pub(crate) key: Option<PathBuf>,
    /// The password of an encrypted key.
    pub(crate) key_password: Option<Hidden>,
    /// A file whose first line is the password.
    pub(crate) key_password_file: Option<PathBuf>,
    /// An environment variable with the password.
    pub(crate) key_password_env: Option<String>,
}

/// The files of one certificate, and where the key's password is.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    /// The keys' names without what follows: `tls` or `bot`.
    pub(super) section: &'static str,
    pub(super) cert: Option<&'a Path>,
    pub(super) key: Option<&'a Path>,
    pub(super) password: Source<'a>,
}

impl<'a> Files<'a> {
    fn check(self) -> Result<(), Error> {
        let Self { section, cert, key, password } = self;
        let beside = |there: &str, path: &Path, missing: &str| {
            let expected = format!("{section}.{missing} beside it");
            Error::config(&format!("{section}.{there}"), path.display(), &expected)
        };
        match (cert, key) {
            (Some(cert), None) => return Err(beside("cert", cert, "key")),
            (None, Some(key)) => return Err(beside("key", key, "cert")),
            _ => {}
        }
        let count = password.count();
        if count > 1 {
            let expected = "one of key_password, key_password_file and key_password_env";
            return Err(Error::config(&format!("{section}.key_password"), count, expected));
        }
        if count > 0 && cert.is_none() {
            let expected = format!("{section}.cert and {section}.key beside it");
            return Err(Error::config(&format!("{section}.key_password"), "(hidden)", &expected));
        }
        Ok(())
    }

    fn pair(self) -> Option<(&'a Path, &'a Path)> {
        self.cert.zip(self.key)
    }

    fn source(self, names: &[&str]) -> Result<Option<CertificateSource>, Error> {
        let Some((cert, key)) = self.pair() else { return Ok(None) };
        let source = CertificateSource::files(cert, key).names(names.iter().copied());
        // Read here in any case, so that an error names the key of the config.
        let make = |text: &str, _: &str| Ok(KeyPassword::new(text));
        let password = self.password.read(Secrets::Read, make)?;
        // A file may change together with the key.
        let password = self.password.file.map(KeyPassword::from_file).or(password);
        Ok(Some(match password {
            Some(password) => source.password(password),
            None => source,
        }))
    }
}

impl TlsSection {
    fn files(&self) -> Files<'_> {
        Files {
            section: "tls",
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            password: Source {
                key: "tls.key_password",
                typed: self.key_password.as_ref(),
                file: self.key_password_file.as_deref(),
                variable: self.key_password_env.as_deref(),
            },
        }
    }
}

impl ConfigFile {
    /// Reads the certificates of `[tls]` and of all bots. Without the former, the default is that
    /// of the first bot at an address, since clients name no server there, or else of the first
    /// bot.
    pub(crate) fn to_tls(&self) -> Result<TlsConfig, Error> {
        let default = self.tls.files();
        let bots = || self.bots.iter().filter(|bot| bot.certificate().pair().is_some());
        let at_address = bots().find(|bot| bot.host.as_deref().is_some_and(is_address));
        let first = at_address.filter(|_| default.pair().is_none());
        let files = first.into_iter().chain(bots()).map(BotSection::certificate);
        let mut builder = TlsBuilder::default();
        let mut known = Vec::new();
        for files in [default].into_iter().chain(files) {
            // Bots of one host may share theirs.
            if !known.contains(&files.pair()) {
                known.push(files.pair());
                let source = files.source(&self.hosts_of(files.pair()))?;
                builder = source.into_iter().fold(builder, TlsBuilder::certificate);
            }
        }
        builder.build()
    }

    /// The certificate that a client gets who connects to `host`, a name or an address without
    /// brackets, and its file: the one that is configured for it, or the first that has the name in
    /// itself, or the default one; `None` where there is none. Clients name no address.
    pub(crate) fn served_for(&self, host: &str) -> Result<Option<(&Path, Served)>, Error> {
        let host = host.to_ascii_lowercase();
        let own = || self.bots.iter().filter_map(|bot| Some((bot, bot.certificate().pair()?.0)));
        let of_host = |test: &dyn Fn(&str) -> bool| {
            let is_meant =
                |bot: &BotSection| bot.host.as_deref().is_some_and(|it| test(&it.to_lowercase()));
            own().find(|(bot, _)| is_meant(bot)).map(|(_, cert)| cert)
        };
        let at_address = of_host(&is_address);
        let first = || own().next().map(|(_, cert)| cert);
        let default = self.tls.files().pair().map(|(cert, _)| cert).or(at_address).or_else(first);
        let name = Some(&*host).filter(|host| !is_address(host));
        let configured = name.and_then(|name| {
            of_host(&|it| it == name).or_else(|| of_host(&|it| served::covers(it, name)))
        });
        let all = || default.into_iter().chain(own().map(|(_, cert)| cert));
        // One that cannot be read is its own bots' to hear of.
        let has_name = |cert: &&Path| {
            let covers = |name| Served::read(cert).is_ok_and(|served| served.covers(name));
            name.is_some_and(covers)
        };
        let found = configured.or_else(|| all().find(has_name)).or(default);
        found.map(|cert| Ok((cert, Served::read(cert)?))).transpose()
    }

    /// The hosts of all bots that have this certificate, each once.
    fn hosts_of(&self, pair: Option<(&Path, &Path)>) -> Vec<&str> {
        let bots = self.bots.iter().filter(|bot| bot.certificate().pair() == pair);
        let mut hosts: Vec<&str> = Vec::new();
        for host in bots.filter_map(|bot| pair.and(bot.host.as_deref())) {
            if !hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// Each pair is whole, and no host has two.
    pub(super) fn check_certificates(&self) -> Result<(), Error> {
        self.tls.files().check()?;
        for (place, bot) in self.bots.iter().enumerate() {
            let files = bot.certificate();
            files.check()?;
            let (Some(host), Some(pair)) = (&bot.host, files.pair()) else { continue };
            let is_rival = |other: &&BotSection| {
                let of_host = other.host.as_ref().is_some_and(|it| it.eq_ignore_ascii_case(host));
                of_host && other.certificate().pair().is_some_and(|other| other != pair)
            };
            if let Some(other) = self.bots.iter().take(place).find(is_rival) {
                let expected = format!(
                    "the certificate and key that bot {:?} has for {host}, or another host",
                    other.name
                );
                return Err(Error::config("bot.cert", pair.0.display(), &expected));
            }
        }
        Ok(())
    }

    /// True where a bot brings a certificate.
    pub(crate) fn has_certificate_of_bot(&self) -> bool {
        self.bots.iter().any(|bot| bot.cert.is_some() || bot.key.is_some())
    }
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]

    use super::*;

    fn error(tls: &str, bots: &str) -> String {
        let text = format!("[tls]\n{tls}\n{bots}");
        let file: ConfigFile = text.parse().unwrap();
        file.to_config(Secrets::Leave).unwrap_err().to_string()
    }

    fn bot(name: &str, rest: &str) -> String {
        format!("[[bot]]\nname='{name}'\npath='/{name}'\nauth='none'\n{rest}\n")
    }

    #[test]
    fn half_a_pair_is_named() {
        let one = bot("a", "");
        assert_eq!(error("cert='c'", &one), "tls.cert = c: expected tls.key beside it");
        assert_eq!(error("key='k'", &one), "tls.key = k: expected tls.cert beside it");
        assert_eq!(error("", &bot("a", "cert='c'")), "bot.cert = c: expected bot.key beside it");
        assert_eq!(error("", &bot("a", "key='k'")), "bot.key = k: expected bot.cert beside it");
        let alone = error("key_password='s3cret'", &one);
        let expected = "tls.key_password = (hidden): expected tls.cert and tls.key beside it";
        assert_eq!(alone, expected);
        let twice = error("cert='c'\nkey='k'\nkey_password='x'\nkey_password_env='Y'", &one);
        assert!(twice.starts_with("tls.key_password = 2: expected one of"), "{twice}");
    }

    #[test]
    fn a_host_has_one_certificate() {
        let at = |name: &str, cert: &str| {
            bot(name, &format!("host='h.example.com'\ncert='{cert}'\nkey='k'"))
        };
        let two = error("", &(at("a", "one") + &at("b", "two")));
        let expected = "bot.cert = two: expected the certificate and key that bot \"a\" has for \
                        h.example.com, or another host";
        assert_eq!(two, expected);
        let file: ConfigFile = (at("a", "one") + &at("b", "one")).parse().unwrap();
        file.to_config(Secrets::Leave).unwrap();
        assert_eq!(file.hosts_of(file.bots[0].certificate().pair()), ["h.example.com"]);
    }

    #[test]
    fn a_password_that_is_not_there_is_named_by_its_key() {
        let text =
            format!("[tls]\ncert='c'\nkey='k'\nkey_password_file='/nowhere'\n{}", bot("a", ""));
        let error = text.parse::<ConfigFile>().unwrap().to_tls().unwrap_err().to_string();
        assert!(error.starts_with("tls.key_password_file = /nowhere: No such file"), "{error}");
        let rest = "cert='c'\nkey='k'\nkey_password_env='RINGHOOK_NOT_SET'";
        let error = bot("a", rest).parse::<ConfigFile>().unwrap().to_tls().unwrap_err().to_string();
        assert!(error.starts_with("bot.key_password_env = RINGHOOK_NOT_SET"), "{error}");
    }

    #[test]
    fn the_default_is_that_of_tls_or_of_an_address_or_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let section = |name: &str, host: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
            let cert = params.self_signed(&key).unwrap();
            let (cert_file, key_file) =
                (dir.path().join(name), dir.path().join(format!("{name}.key")));
            std::fs::write(&cert_file, cert.pem()).unwrap();
            std::fs::write(&key_file, key.serialize_pem()).unwrap();
            format!("cert={cert_file:?}\nkey={key_file:?}\n")
        };
        let a = bot("a", &(section("a", "a.example.com") + "host='a.example.com'"));
        let b = bot("b", &(section("b", "192.0.2.1") + "host='192.0.2.1'"));
        let tls = format!("[tls]\n{}", section("tls", "other"));
        let first = |text: String| {
            let tls = text.parse::<ConfigFile>().unwrap().to_tls().unwrap();
            tls.files()[0].file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(first(a.clone()), "a");
        assert_eq!(first(format!("{a}{b}")), "b");
        assert_eq!(first(format!("{tls}{a}{b}")), "tls");
        let all: ConfigFile = format!("{tls}{a}{b}{b}").parse().unwrap();
        assert_eq!(all.to_tls().unwrap().files().len(), 6, "each pair once");
    }

    #[test]
    fn a_typed_password_is_printed_hidden() {
        let text = format!("[tls]\ncert='c'\nkey='k'\nkey_password='s3cret'\n{}", bot("a", ""));
        let file: ConfigFile = text.parse().unwrap();
        let config = file.to_config(Secrets::Leave).unwrap();
        let printed = file.effective(&config).to_toml().unwrap();
        assert!(printed.contains("key_password = ") && !printed.contains("s3cret"), "{printed}");
    }
}
