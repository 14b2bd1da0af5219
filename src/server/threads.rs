//! How a thread of the server is started.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::{
    control::{Control, panics},
    error::{Error, ErrorKind},
    io::cpu_affinity,
};

/// Starts a thread, pinned to `cpu`. Its panic would be a bug of ours: it is a failure of the
/// server, never a silence.
pub(super) fn spawn(
    control: &Arc<Control>,
    name: String,
    cpu: Option<usize>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let control = Arc::clone(control);
    let label = name.clone();
    let body = move || {
        if let Some(cpu) = cpu
            && !cpu_affinity::pin(cpu)
        {
            tracing::warn!(thread = label, cpu, "cannot be pinned, runs on any CPU");
        }
        if panics::caught(run).is_err() {
            let message = format!("thread {label} panicked: this is a bug of ringhook");
            control.fail(&Error::new(ErrorKind::Thread, message));
        }
    };
    thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|source| Error::with_source(ErrorKind::Thread, "cannot start a thread", source))
}
