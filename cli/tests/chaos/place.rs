//! Where the servers of a run find everything: disks, files, certificates, addresses.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use super::plan::Terms;

use crate::{
    binary::process,
    support::{
        disk::{BlockDisk, Disk},
        pki::{Authority, params},
        port::Port,
    },
};

/// Bots by name, path and secret. All but the last are always there.
pub(crate) const BOTS: [(&str, &str, &str); 3] = [
    ("anna", "/anna", "chaos-secret-of-anna_0123456789"),
    ("bert", "/bert", "chaos-secret-of-bert_0123456789"),
    ("carl", "/carl", "chaos-secret-of-carl_0123456789"),
];
/// One that is added and removed, and to which nothing is sent.
const GUEST: (&str, &str, &str) = ("dora", "/dora", "chaos-secret-of-dora_0123456789");
/// How long a stop may take to drain.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);
/// Size of the journal's file system in MiB. A full journal is to be one thing, a full disk
/// another.
const DISK_MIB: u64 = 64;

pub(crate) struct Place {
    dir: TempDir,
    /// The journal's.
    pub(crate) disk: Option<BlockDisk>,
    /// That of the output.
    pub(crate) sink: Option<Disk>,
    pub(crate) authority: Authority,
    port: Port,
    admins: [Port; 2],
    terms: Terms,
    /// What fakes the clock, if that is asked for and there is any.
    faketime: Option<PathBuf>,
}

/// Which bots the config names.
#[derive(Clone, Copy)]
pub(crate) enum Named {
    All,
    /// All but the last.
    Fewer,
    /// One more.
    More,
}

impl Place {
    /// With disks of its own unless there is a reason not to.
    pub(crate) fn new(terms: &Terms, has_mounts: bool, fakes_time: bool) -> Self {
        let disk = has_mounts.then(|| BlockDisk::ext4(DISK_MIB, &[], "noatime")).flatten();
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            disk,
            sink: has_mounts.then(|| Disk::in_memory(2 * DISK_MIB)),
            authority: Authority::root("chaos"),
            port: Port::reserve(),
            admins: [Port::reserve(), Port::reserve()],
            terms: terms.clone(),
            faketime: fakes_time.then(faketime).flatten(),
        };
        place.write_certificate();
        place.write_config(Named::All);
        place.set_clock("+0");
        place
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr
    }

    /// Where a server's operator asks it: never where the one before is asked.
    pub(crate) fn admin_beside(&self, other: Option<SocketAddr>) -> SocketAddr {
        let [one, two] = &self.admins;
        if other == Some(one.addr) { two.addr } else { one.addr }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.dir.path(), |disk| disk.fs.path()).join("data")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.data().join("journal")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.sink.as_ref().map_or(self.dir.path(), Disk::path).join("out.ndjson")
    }

    pub(crate) fn has_fake_clock(&self) -> bool {
        self.faketime.is_some()
    }

    /// `ringhook` with `args`, in its directory.
    pub(crate) fn ringhook(&self, args: &[&str]) -> Command {
        let mut command = process::ringhook(self.dir.path());
        command.args(args);
        command
    }

    /// A server.
    pub(crate) fn command(&self) -> Command {
        let Terms { ack, driver, shards, workers, .. } = &self.terms;
        let [shards, workers] = [shards, workers].map(ToString::to_string);
        let listen = self.port.addr.to_string();
        let mut command = self.ringhook(&["serve", "--reuse-port", "--config", "ringhook.toml"]);
        command
            .args(["--listen", &listen, "--cert", "cert.pem", "--key", "key.pem"])
            .args(["--ack", ack, "--shards", &shards, "--workers", &workers])
            .args(["--report", "report", "--wait-for-lock", "60s"])
            .arg("--data-dir")
            .arg(self.data())
            .arg("--output")
            .arg(format!("ndjson:{}", self.output().display()));
        if std::env::var_os("RINGHOOK_TEST_DRIVER").is_none() {
            command.args(["--driver", driver]);
        }
        process::with_test_driver(&mut command);
        if let Some(library) = &self.faketime {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.file("clock"))
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1")
                .env("NO_FAKE_STAT", "1");
        }
        command
    }

    /// The clock of all servers, as libfaketime is told.
    pub(crate) fn set_clock(&self, offset: &str) {
        self.replace("clock", offset.as_bytes());
    }

    pub(crate) fn write_config(&self, named: Named) {
        let mut bots = BOTS.to_vec();
        match named {
            Named::All => {}
            Named::Fewer => bots.truncate(BOTS.len() - 1),
            Named::More => bots.push(GUEST),
        }
        let limits = match self.terms.tight {
            true => "[limits]\nqueue_updates = 200\nchat_updates = 4\n",
            false => "",
        };
        let mut text = format!(
            "[server]\ndrain_timeout = '{}s'\n[journal]\nsegment_bytes = '1MiB'\n\
             max_bytes = '24MiB'\n[dispatch]\ndead_letters = 'dead.ndjson'\n\
             [log]\nlevel = '{}'\n{limits}",
            DRAIN.as_secs(),
            self.terms.log_level
        );
        for (name, path, secret) in bots {
            text +=
                &format!("[[bot]]\nname = '{name}'\npath = '{path}'\nsecret_token = '{secret}'\n");
        }
        self.replace("ringhook.toml", text.as_bytes());
    }

    /// A new certificate of the same authority.
    pub(crate) fn write_certificate(&self) {
        let issued = self.authority.issue(&params("localhost", &["localhost"], &["127.0.0.1"]));
        self.replace("key.pem", issued.key.as_bytes());
        self.replace("cert.pem", issued.cert.as_bytes());
    }

    /// Puts a file in the place of another, as a careful operator does.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) {
        let new = self.file(&format!("{name}.new"));
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.file(name)).unwrap();
    }

    /// All files with their lengths, below the places that servers write to.
    pub(crate) fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut files = Vec::new();
        let sink = self.output();
        let roots = [Some(self.dir.path()), Some(&*self.data()), sink.parent()];
        for root in roots.into_iter().flatten() {
            let _ = list(root, &mut files);
        }
        files.sort();
        files.dedup();
        files
    }
}

fn list(dir: &Path, into: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.metadata()? {
            metadata if metadata.is_dir() => list(&entry.path(), into)?,
            metadata => into.push((entry.path(), metadata.len())),
        }
    }
    Ok(())
}

/// The library that fakes the clock for programs with threads, where Debian has it.
pub(crate) fn faketime() -> Option<PathBuf> {
    let dirs = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let files = dirs.map(|dir| dir.join("faketime/libfaketimeMT.so.1"));
    files.chain([PathBuf::from("/usr/lib/faketime/libfaketimeMT.so.1")]).find(|it| it.exists())
}
