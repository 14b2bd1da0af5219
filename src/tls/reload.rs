//! Replacing certificates while the server runs. Handshakes after it get the new ones; established
//! connections and sessions that are resumed are not touched.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{Finding, Pair, Plan, TlsConfig};
use crate::{error::Error, files::watch::Watch};

/// How long a pair may be broken before it is logged: certificate and key are two files, and after
/// one of them is replaced the other is about to be.
const HALFWAY: Duration = Duration::from_secs(2);

/// What a reload has done.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CertificateReload {
    /// Certificates that are new.
    pub replaced: usize,
    /// The pairs that cannot be read or used, and why; the ones before them are still served.
    pub failures: Vec<Error>,
    /// What there is to know of all that is served now.
    pub findings: Vec<Finding>,
}

/// Counted for the report, whatever asks for a reload.
#[derive(Debug, Default)]
pub(super) struct Counts {
    failures: AtomicU64,
    replaced: AtomicU64,
}

impl TlsConfig {
    /// Reads all files again and serves what is new in them from the next handshake on. A pair that
    /// is broken, or of which only one file is new, is left as it was.
    pub fn reload(&self, now: SystemTime) -> CertificateReload {
        let reload = self.try_reload(now);
        self.0.counts.failures.fetch_add(reload.failures.len() as u64, Ordering::Relaxed);
        reload
    }

    /// Serves the certificates of `other` from the next handshake on. Sessions that these clients
    /// have can still be resumed.
    pub fn replace(&self, other: &Self) {
        if Arc::ptr_eq(&self.0, &other.0) {
            return;
        }
        let with = other.plan(|plan| plan.clone());
        let known = |plan: &Plan, pair: &Pair| {
            plan.pairs
                .iter()
                .any(|old| old.entry.certificate.chain() == pair.entry.certificate.chain())
        };
        let replaced = self.plan(|plan| {
            let new = with.pairs.iter().filter(|pair| !known(plan, pair)).count();
            *plan = with;
            self.publish(plan);
            new
        });
        self.0.counts.replaced.fetch_add(replaced as u64, Ordering::Relaxed);
    }

    /// Certificates replaced so far, and pairs that could not be.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        let counts = &self.0.counts;
        (counts.replaced.load(Ordering::Relaxed), counts.failures.load(Ordering::Relaxed))
    }

    /// As [`reload`](Self::reload), failures not counted.
    fn try_reload(&self, now: SystemTime) -> CertificateReload {
        let mut reload = CertificateReload::default();
        let provider = self.0.server.crypto_provider();
        self.plan(|plan| {
            for pair in &mut plan.pairs {
                match pair.source.load(provider) {
                    // The same chain has the same key.
                    Ok(new) if new.chain() == pair.entry.certificate.chain() => {}
                    Ok(new) => {
                        pair.entry.certificate = Arc::new(new);
                        reload.replaced += 1;
                    }
                    Err(error) => reload.failures.push(error),
                }
            }
            if reload.replaced > 0 {
                self.publish(plan);
            }
            reload.findings = plan.findings(&self.0.store.0.load(), now);
        });
        self.0.counts.replaced.fetch_add(reload.replaced as u64, Ordering::Relaxed);
        reload
    }

    fn publish(&self, plan: &Plan) {
        // A plan has a pair, or it would not have been built.
        if let Some(set) = plan.set() {
            self.0.store.0.store(Arc::new(set));
        }
    }
}

/// Reloads certificates when their files change, and logs it.
pub(crate) struct FileWatch {
    /// Since when a pair is broken and that is not logged yet.
    broken_since: Option<Instant>,
    /// Until the files have been read once: they may have changed before they were watched.
    is_new: bool,
    tls: TlsConfig,
    watch: Watch,
}

impl FileWatch {
    pub(crate) fn new(tls: TlsConfig) -> Self {
        let watch = Watch::new(tls.files());
        Self { broken_since: None, is_new: true, tls, watch }
    }

    /// To be called a few times a second.
    pub(crate) fn poll(&mut self, at: Instant, now: SystemTime) {
        self.is_new |= self.watch.set_paths(self.tls.files());
        let is_due = self.broken_since.is_some_and(|since| at >= since + HALFWAY);
        if !self.watch.poll() && !self.is_new && !is_due {
            return;
        }
        self.is_new = false;
        let reload = if is_due { self.tls.reload(now) } else { self.tls.try_reload(now) };
        if reload.replaced > 0 {
            tracing::info!(replaced = reload.replaced, "certificates reloaded");
            for finding in reload.findings {
                if finding.kind.is_advice() {
                    tracing::info!(%finding, "certificate");
                } else {
                    tracing::warn!(%finding, "certificate");
                }
            }
        }
        if reload.failures.is_empty() {
            self.broken_since = None;
            return;
        }
        if is_due {
            self.broken_since = None;
            for error in reload.failures {
                tracing::warn!(%error, "certificate not reloaded, the one before is still served");
            }
        } else {
            self.broken_since.get_or_insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, path::Path};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Certificate and key in PEM.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (cert.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn write(dir: &Path, (cert, key): (&str, &str)) -> (std::path::PathBuf, std::path::PathBuf) {
        let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&cert_file, cert).unwrap();
        fs::write(&key_file, key).unwrap();
        (cert_file, key_file)
    }

    /// A watch whose clock is the test's.
    struct Clocked {
        at: Instant,
        tls: TlsConfig,
        watch: FileWatch,
    }

    impl Clocked {
        /// Looks as often as the server would in `time`; what has been counted since the start.
        fn pass(&mut self, time: Duration) -> (u64, u64) {
            let step = Duration::from_millis(250);
            let until = self.at + time;
            while self.at < until {
                self.at += step;
                self.watch.poll(self.at, SystemTime::now());
            }
            self.tls.reloads()
        }
    }

    fn clocked(dir: &Path, (cert, key): (&str, &str)) -> Clocked {
        let (cert, key) = write(dir, (cert, key));
        let tls = TlsConfig::from_pem_files(&cert, &key).unwrap();
        let watch = FileWatch::new(tls.clone());
        Clocked { at: Instant::now(), tls, watch }
    }

    #[test]
    fn half_a_replacement_is_not_told_if_the_other_half_follows() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key), (new_cert, new_key)) = (pair(), pair());
        let mut clocked = clocked(dir.path(), (&cert, &key));
        let second = Duration::from_secs(1);
        assert_eq!(clocked.pass(3 * second), (0, 0));
        write(dir.path(), (&new_cert, &key));
        assert_eq!(clocked.pass(second), (0, 0), "the old one is served, and nothing said yet");
        write(dir.path(), (&new_cert, &new_key));
        assert_eq!(clocked.pass(second), (1, 0), "served within a second");
        assert_eq!(clocked.pass(5 * second), (1, 0));
    }

    #[test]
    fn what_stays_broken_is_told_once_and_again_when_it_is_broken_anew() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key), (new_cert, new_key)) = (pair(), pair());
        let mut clocked = clocked(dir.path(), (&cert, &key));
        let second = Duration::from_secs(1);
        write(dir.path(), (&new_cert, &key));
        assert_eq!(clocked.pass(4 * second), (0, 1));
        assert_eq!(clocked.pass(60 * second), (0, 1));
        write(dir.path(), ("broken", &key));
        assert_eq!(clocked.pass(4 * second), (0, 2));
        write(dir.path(), (&new_cert, &new_key));
        assert_eq!(clocked.pass(second), (1, 2));
    }

    #[test]
    fn what_changed_between_the_start_and_the_first_look_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key), (new_cert, new_key)) = (pair(), pair());
        let (cert_file, key_file) = write(dir.path(), (&cert, &key));
        let tls = TlsConfig::from_pem_files(&cert_file, &key_file).unwrap();
        write(dir.path(), (&new_cert, &new_key));
        let watch = FileWatch::new(tls.clone());
        let mut clocked = Clocked { at: Instant::now(), tls, watch };
        assert_eq!(clocked.pass(Duration::from_secs(1)), (1, 0));
    }

    #[test]
    fn the_files_of_a_replacement_are_watched() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ((cert, key), (new_cert, new_key), (third_cert, third_key)) = (pair(), pair(), pair());
        let mut clocked = clocked(old.path(), (&cert, &key));
        let (cert_file, key_file) = write(new.path(), (&new_cert, &new_key));
        clocked.tls.replace(&TlsConfig::from_pem_files(&cert_file, &key_file).unwrap());
        assert_eq!(clocked.pass(Duration::from_secs(1)), (1, 0));
        write(new.path(), (&third_cert, &third_key));
        assert_eq!(clocked.pass(Duration::from_secs(1)), (2, 0));
        write(old.path(), ("of no concern", ""));
        assert_eq!(clocked.pass(Duration::from_secs(4)), (2, 0));
    }
}
