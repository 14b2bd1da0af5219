//! Reading config, secrets and certificates again while the server runs.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{
    ServeArgs,
    webhook_watch::{WatchedBot, WebhookWatch},
};
use crate::server::{
    live_outputs::OutputChange,
    service::{Cause, Service},
    setup::Setup,
    written_files,
};
use ringhook::{
    Config, Error, ErrorKind, Reload, Server, TlsConfig, internals::files::watch::Watch,
};
use ringhook_outputs::routes::RouteSection;

/// Largest file that is read while the server runs, in bytes. An endless file must not use up the
/// memory of the server.
const FILE_MAX: u64 = 64 * 1024 * 1024;
/// Looks at files that have changed before they are read: another second in which nothing changes,
/// so that an editor that writes piece by piece is not read in between.
const QUIET_LOOKS: u32 = 3;

/// Reads everything again, as `serve` was started.
pub(super) struct Reloader<'a> {
    args: &'a ServeArgs,
    files: &'a Mutex<Watch>,
    /// The last line, so that a look at the files does not say the same again.
    said: RefCell<String>,
    /// The routes that are in force, as they are configured.
    routed: RefCell<Vec<RouteSection>>,
    service: &'a Service,
    /// What the server was started with.
    setup: &'a Setup,
    tls: Option<&'a TlsConfig>,
    webhooks: &'a WebhookWatch,
}

/// What was read.
type Read = (Setup, Option<TlsConfig>, Vec<WatchedBot>);

impl<'a> Reloader<'a> {
    pub(super) fn new(
        args: &'a ServeArgs,
        setup: &'a Setup,
        tls: Option<&'a TlsConfig>,
        files: &'a Mutex<Watch>,
        webhooks: &'a WebhookWatch,
        service: &'a Service,
    ) -> Self {
        let routed = RefCell::new(setup.file.routes.clone());
        Self { args, files, said: RefCell::default(), routed, service, setup, tls, webhooks }
    }

    /// Puts in force what config file, secrets and certificates say now. Where something in them is
    /// wrong, everything stays as it was.
    pub(super) fn reload(&self, server: &Server, cause: Cause) {
        // What changes from here on is looked at again.
        lock(self.files).rebase();
        let (mut read, mut replaced) = (None, None);
        let live = &self.service.outputs;
        let outcome = server.reload_from(|| {
            let (config, what) = self.read()?;
            let (change, routes) = live.prepare(server, &what.0)?;
            for warning in routes.warnings() {
                tracing::warn!("{warning}");
            }
            // In force before an update of a new bot can come.
            replaced = Some(live.routes.replace(routes));
            read = Some((what, change));
            Ok(config)
        });
        if let (Err(_), Some(routes)) = (&outcome, replaced) {
            live.routes.restore(routes);
        }
        let line = match (outcome, read) {
            (Ok(reload), Some(((next, certificates, watched_bots), change))) => {
                self.webhooks.follow(watched_bots);
                let line = self.put_in_force(change, reload, &next, certificates);
                if lock(self.files).set_paths(next.files(self.args.config.as_deref())) {
                    // They may have changed between being read and being watched.
                    self.say(line, cause);
                    return self.reload(server, Cause::Files);
                }
                line
            }
            (Ok(_), None) => return,
            (Err(error), _) => Err(error),
        };
        self.say(line, cause);
    }

    /// Reads it all. Nothing is made that is not there: a secret or certificate that is missing for
    /// a moment must not become another one.
    fn read(&self) -> Result<(Config, Read), Error> {
        check(self.args.config.iter().map(PathBuf::as_path))?;
        let next = self.args.setup()?;
        if next.has_default_bot && !self.setup.has_default_bot {
            let message = "the config names no bot, and those in force are not dropped for that";
            return Err(Error::new(ErrorKind::Config, message));
        }
        check(next.files(self.args.config.as_deref()).iter().map(PathBuf::as_path))?;
        let inputs = next.inputs(self.args.config.as_deref());
        written_files::check(&next, self.args.service.report.as_deref(), &inputs)?;
        let config = next.to_config_again()?;
        let certificates = self.tls.map(|_| next.file.to_tls()).transpose()?;
        let watched_bots = WatchedBot::all(&next)?;
        Ok((config, (next, certificates, watched_bots)))
    }

    fn put_in_force(
        &self,
        outputs: OutputChange<'_>,
        mut reload: Reload,
        next: &Setup,
        certificates: Option<TlsConfig>,
    ) -> Result<Reload, Error> {
        if let Some((tls, certificates)) = self.tls.zip(certificates) {
            if tls.files() != certificates.files() {
                reload.changed.push("tls");
            }
            tls.replace(&certificates);
            for finding in tls.findings(SystemTime::now()) {
                tracing::warn!(%finding, "certificate");
            }
        }
        if self.routed.replace(next.file.routes.clone()) != next.file.routes {
            reload.changed.push("route");
        }
        if self.service.outputs.apply(outputs)? {
            reload.changed.push("output");
        }
        // Each reload is compared with the start: what is not in force is named again.
        self.setup.compare(next, &mut reload);
        self.service.shown_config.show(next, &reload.needs_restart)?;
        Ok(reload)
    }

    fn say(&self, outcome: Result<Reload, Error>, cause: Cause) {
        let (line, is_error) = match outcome {
            Ok(reload) if reload.is_empty() && cause == Cause::Files => return,
            Ok(reload) => (format!("config reloaded: {reload}"), false),
            Err(error) => {
                let line = "config not reloaded, the one before stays in force";
                (format!("{line}: {error}"), true)
            }
        };
        let is_known = self.said.replace(line.clone()) == line;
        match is_error {
            _ if is_known && cause == Cause::Files => {}
            true => tracing::error!("{line}"),
            false => tracing::info!("{line}"),
        }
    }
}

/// Tells when `files` have changed and been left alone since; to be called a few times a second.
pub(super) fn settled(files: &Mutex<Watch>, quiet: &mut Option<u32>) -> bool {
    if lock(files).poll() {
        *quiet = Some(QUIET_LOOKS);
    } else if lock(files).is_restless() {
        // A file is written again; the next poll that finds it unchanged reports it.
        *quiet = None;
    } else if let Some(left) = quiet {
        *left -= 1;
        if *left == 0 {
            *quiet = None;
            return true;
        }
    }
    false
}

/// Whether all of them can be read without blocking, and to an end.
fn check<'p>(paths: impl Iterator<Item = &'p Path>) -> Result<(), Error> {
    for path in paths {
        let name = path.display();
        let metadata = fs::metadata(path)
            .map_err(|error| Error::with_source(ErrorKind::Config, name.to_string(), error))?;
        if !metadata.is_file() {
            let message = format!("{name} is no regular file any more");
            return Err(Error::new(ErrorKind::Config, message));
        }
        if metadata.len() > FILE_MAX {
            let message =
                format!("{name} has {} bytes, expected {FILE_MAX} at most", metadata.len());
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    Ok(())
}

fn lock(files: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}
