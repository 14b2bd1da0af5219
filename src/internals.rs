//! Parts that benches measure one by one. Not an interface: anything here may change at any time.

#![allow(missing_docs)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};

use crate::{
    config::Bot,
    dispatch::{Delivery, Dispatcher, Gate, Queue},
    http::Status,
    route::Router,
    tls::TlsConfig,
    update::{BotId, Update},
};

/// A shard's side of the hand-off and one worker's queue.
#[derive(Debug)]
pub struct HandOff {
    dispatcher: Dispatcher,
    gate: Arc<Gate>,
    queue: Receiver<Delivery>,
}

impl HandOff {
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let (sender, queue) = bounded(capacity);
        let gate = Arc::<Gate>::default();
        let to_worker = Queue { sender, gate: Arc::clone(&gate) };
        Self { dispatcher: Dispatcher::new(vec![to_worker], 0), gate, queue }
    }

    /// # Errors
    /// The update, where the queue is full.
    pub fn dispatch(&self, update: Update, now: Instant) -> Result<(), Update> {
        self.dispatcher.dispatch(update, now)
    }

    pub fn wake_workers(&self) {
        self.dispatcher.wake_workers();
    }

    /// The worker's side: the next update if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Update> {
        self.queue.try_recv().ok().map(|delivery| delivery.update)
    }

    /// Starts a worker that gives every update to `settle` and sleeps in between.
    pub fn worker(&self, settle: impl Fn(Update) + Send + 'static) -> TestWorker {
        let (queue, gate) = (self.queue.clone(), Arc::clone(&self.gate));
        let stop = Arc::<AtomicBool>::default();
        let done = Arc::<AtomicU64>::default();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = thread::spawn(move || {
            gate.attach();
            while !stopped.load(Ordering::Relaxed) {
                match queue.try_recv() {
                    Ok(delivery) => {
                        settle(delivery.update);
                        count.fetch_add(1, Ordering::Release);
                    }
                    Err(_) => gate.sleep_unless(|| !queue.is_empty(), Duration::from_millis(10)),
                }
            }
        });
        TestWorker { done, stop, thread: Some(thread) }
    }
}

/// A worker thread of a bench; ends when dropped.
#[derive(Debug)]
pub struct TestWorker {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TestWorker {
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// From a path and a token to a bot.
#[derive(Debug)]
pub struct Routes(Router);

impl Routes {
    #[must_use]
    pub fn new(bots: &[Bot]) -> Self {
        Self(Router::new(bots))
    }

    /// # Errors
    /// The status to answer with.
    pub fn route(&self, path: &[u8], is_post: bool, token: Option<&[u8]>) -> Result<BotId, Status> {
        self.0.route(path, is_post, token)
    }
}

/// What shards serve TLS with.
#[must_use]
pub fn server_config(tls: &TlsConfig) -> Arc<rustls::ServerConfig> {
    tls.rustls()
}
