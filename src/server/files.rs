//! Files of updates that are renamed or removed while the server writes to them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::{
    control::panics,
    delivery::{dead_letters::DeadLetters, sink::Sink},
};

/// The sinks and the dead letters of a server.
#[derive(Clone, Default)]
pub(super) struct Files {
    /// Whether a thread opens them anew.
    is_busy: Arc<AtomicBool>,
    letters: Option<Arc<DeadLetters>>,
    /// By the numbers of their outputs.
    sinks: Arc<Mutex<BTreeMap<usize, Arc<dyn Sink>>>>,
}

impl Files {
    pub(super) fn new(letters: Option<Arc<DeadLetters>>) -> Self {
        Self { letters, ..Self::default() }
    }

    /// Has `sink` opened anew for an output, or none where it has none; the one that was.
    pub(super) fn set_sink(
        &self,
        output: usize,
        sink: Option<Arc<dyn Sink>>,
    ) -> Option<Arc<dyn Sink>> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        match sink {
            Some(sink) => sinks.insert(output, sink),
            None => sinks.remove(&output),
        }
    }

    /// Opens them anew, on a thread of its own: a disk may keep it waiting for as long as it likes.
    /// While one waits there is no other; each commit looks at the file in any case.
    pub(super) fn reopen(&self) {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let files = self.clone();
        let run = move || {
            // A sink may be the program's own; the panic hook has logged its panic.
            let _ = panics::caught(|| files.reopen_all());
            files.is_busy.store(false, Ordering::Release);
        };
        if let Err(error) = thread::Builder::new().name("ringhook-reopen".into()).spawn(run) {
            tracing::error!(%error, "files are not opened anew: no thread for it");
            self.is_busy.store(false, Ordering::Release);
        }
    }

    fn reopen_all(&self) {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sinks = sinks.values().map(|sink| ("sink", sink.reopen()));
        let letters = self.letters.iter().map(|letters| ("dead letters", letters.reopen()));
        for (what, outcome) in sinks.chain(letters) {
            if let Err(error) = outcome {
                tracing::error!(%error, "{what}: not opened anew, the next update tries again");
            }
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]

    use std::{
        io,
        sync::atomic::AtomicUsize,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{Error, delivery::sink::SinkWriter};

    /// Panics the first time that it is to be opened anew.
    #[derive(Default)]
    struct Broken(AtomicUsize);

    impl Sink for Broken {
        fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
            crate::NullSink.writer()
        }

        fn reopen(&self) -> io::Result<()> {
            assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "of a test");
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_panics_is_opened_anew_again() {
        let sink = Arc::new(Broken::default());
        let files = Files::new(None);
        files.set_sink(0, Some(Arc::clone(&sink) as Arc<dyn Sink>));
        let end = Instant::now() + Duration::from_secs(30);
        while sink.0.load(Ordering::SeqCst) < 2 {
            assert!(Instant::now() < end, "it is never opened anew again");
            files.reopen();
            thread::yield_now();
        }
    }
}
