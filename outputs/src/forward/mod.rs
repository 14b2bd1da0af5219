//! A bot in any language behind HTTP: its updates go there as Telegram would send them, and what it
//! replies goes to the Bot API.
//!
//! One thread, `ringhook-forward`, has thousands of requests under way at once. Of a chat there is
//! one, because its next update comes when the one before is settled.
//!
//! | the target | the update |
//! |---|---|
//! | answers with 2xx | is delivered; a method call in the answer is made first |
//! | does not answer, or with 5xx, 408, 425, 429, 400 or another 4xx | comes again, see below |
//! | answers with 3xx, 401, 403, 404, 405 | waits until the target is mended, as all others do |
//! | takes no connection, or fails five times in a row | waits until the target is back |
//! | ends its process while it has a request | waits; from the second time on it comes again |
//!
//! What comes again does so after 0, 1, 2, 4 .. 60 s, or after `Retry-After` where that is longer.
//! [`Dispatch::max_attempts`](ringhook::Dispatch::max_attempts) ends that. To wait is no attempt.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the handle |
//! | `settings` | what is set, with its bounds |
//! | `run` | the thread: what it waits for, and how it ends |
//! | `engine` | what is done with each update, and what its outcome means |
//! | `outlet` | one target with what waits for it |
//! | `condition` | whether a target is up, and when it is probed |
//! | `choice` | which of several targets an update goes to |
//! | `retry` | when a request is made again |
//! | `exchange` | the requests for one update |
//! | `fields` | values of an update as headers |
//! | `upstream`, `connection` | a target's connections, and requests on them |
//! | `answer`, `answer_body` | what a target answers |
//! | `reply`, `multipart` | method calls in answers |
//! | `relay` | method calls on their way to the Bot API |
//! | `status` | what is counted |

mod answer;
mod answer_body;
mod choice;
mod condition;
mod connection;
mod engine;
mod exchange;
mod fields;
mod multipart;
mod outlet;
mod relay;
mod reply;
mod retry;
mod run;
mod settings;
mod status;
mod upstream;

use std::{
    fmt,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ringhook::{Error, ErrorKind, OutputState, Updates};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub use self::{
    answer_body::read_answer,
    settings::ForwardSettings,
    status::{FailedRequests, ForwardStatus, Replies, TargetState, TargetStatus},
};
use self::{engine::Engine, relay::Relay, run::Command, status::Counters, upstream::Upstream};
pub use crate::client::{BotTerms, Target};
use crate::client::{authorities, terms::Bots};

/// The name of the thread.
const THREAD_NAME: &str = "ringhook-forward";
/// How long the thread may take to end when the handle is dropped.
const DROP_WAIT: Duration = Duration::from_secs(1);
/// How long the thread may take beyond the time that its requests have.
const END_WAIT: Duration = Duration::from_secs(1);

/// Forwards a server's updates to targets, until the server stops.
///
/// ```no_run
/// use std::time::Duration;
/// use ringhook::{Bot, Server, TlsConfig, update::BotId};
/// use ringhook_outputs::forward::{BotTerms, Forward, ForwardSettings};
///
/// let (server, updates) = Server::builder()
///     .tls(TlsConfig::from_pem_files("cert.pem".as_ref(), "key.pem".as_ref())?)
///     .bot(Bot::new("shop", "/webhook", "the-secret-token")?)
///     .updates(1024);
/// let bots = vec![BotTerms::new("shop", BotId::new(0)).secret("the-secret-token")];
/// let settings = ForwardSettings::new("http://127.0.0.1:3000/webhook".parse()?).bots(bots);
/// let forward = Forward::start(updates, settings)?;
/// let server = server.start()?;
/// // .. and when all is over:
/// server.outputs().for_each(|output| forward.drain(output.clone()));
/// let report = server.stop();
/// forward.stop(Duration::from_secs(1));
/// # Ok::<(), ringhook::Error>(())
/// ```
///
/// The stream is read [directly](Updates::direct).
///
/// To drop it ends the thread, and the stream with it, which is a failure of a server that runs.
pub struct Forward {
    bots: Arc<Bots>,
    commands: UnboundedSender<Command>,
    counters: Arc<Counters>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    handle: JoinHandle<()>,
    /// Its other side is dropped when the thread ends.
    end: Receiver<()>,
}

impl Forward {
    /// Starts the thread.
    ///
    /// # Errors
    /// A setting is wrong, or the thread could not be started.
    pub fn start(updates: Updates, settings: ForwardSettings) -> Result<Self, Error> {
        settings.validate()?;
        let bots = Arc::<Bots>::default();
        bots.set(settings.bots.clone())?;
        let tls = match &settings.tls {
            Some(config) => Arc::clone(config),
            None => authorities()?,
        };
        let counters = Arc::<Counters>::default();
        let (events, heard) = unbounded_channel();
        let (commands, asked) = unbounded_channel();
        let upstream = |target: &Target| {
            Arc::new(Upstream::new(target.clone(), Arc::clone(&tls), settings.connect_timeout))
        };
        let upstreams = settings.targets.iter().map(upstream).collect();
        let relay = Relay::new(&settings, &bots, &tls, &counters);
        let engine = Engine::new(
            settings,
            upstreams,
            Arc::clone(&bots),
            relay,
            Arc::clone(&counters),
            events,
        );
        engine.publish();
        let failed = |error| {
            Error::with_source(ErrorKind::Thread, format!("the thread {THREAD_NAME}"), error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // Threads that look names up.
            .thread_name(format!("{THREAD_NAME}-dns"))
            .max_blocking_threads(4)
            .build()
            .map_err(failed)?;
        let (ends, end) = channel();
        let work = move || {
            let _ends: std::sync::mpsc::Sender<()> = ends;
            // As a task of its own: what this thread itself wakes must not cost a system call, as
            // the future does that the runtime blocks on.
            let run = runtime.spawn(run::run(engine, updates.direct(), heard, asked));
            if let Err(error) = runtime.block_on(run)
                && let Ok(panic) = error.try_into_panic()
            {
                // It has been logged by the panic hook.
                resume_unwind(panic);
            }
            // A look-up of a name may take longer than a stop may.
            runtime.shutdown_background();
        };
        let handle =
            thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { bots, commands, counters, thread: Mutex::new(Some(Thread { handle, end })) })
    }

    /// What has been counted, and how the targets are.
    #[must_use]
    pub fn status(&self) -> ForwardStatus {
        self.counters.status(Instant::now())
    }

    /// Replaces the bots. Requests that begin after it have the new secrets, and replies that are
    /// made after it the new tokens. Targets that are wrongly set up are tried again at once.
    ///
    /// # Errors
    /// A setting is wrong; then nothing has changed.
    pub fn set_bots(&self, bots: Vec<BotTerms>) -> Result<(), Error> {
        self.bots.set(bots)?;
        let _ = self.commands.send(Command::Probe);
        Ok(())
    }

    /// To be called right before [`Server::stop`](ringhook::Server::stop), with the
    /// [state](ringhook::Server::outputs) of the output that is forwarded.
    ///
    /// The stop then waits, up to its drain timeout, for all that can be delivered, but not for
    /// targets that are down or wrongly set up. Once nothing else is under way, and for a second
    /// nothing has come, the output is left: what is held stays in the journal, or is counted as
    /// abandoned where there is none. Without this call a stop waits for the whole drain timeout.
    pub fn drain(&self, output: Arc<OutputState>) {
        let _ = self.commands.send(Command::Drain(output));
    }

    /// Ends the thread: at once where the server has stopped, else after requests that are under
    /// way have had `within` to end. What is left goes back to the server; no attempt is counted.
    /// False where the thread did not end in time, one second later at the latest.
    ///
    /// A server that runs then has no output any more, which it reports as its failure.
    pub fn stop(&self, within: Duration) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Thread { handle, end }) = thread.take() else { return true };
        let _ = self.commands.send(Command::Stop(within));
        match end.recv_timeout(within.saturating_add(END_WAIT)) {
            Err(RecvTimeoutError::Timeout) => {
                *thread = Some(Thread { handle, end });
                false
            }
            // A panic of it has been logged by the panic hook.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => handle.join().is_ok(),
        }
    }

    /// Begins to end the thread where another destination has taken its output's place: once all
    /// requests that are under way have ended, but no later than `within`. What has no request is
    /// given back at once. To be called after
    /// [`PreparedOutputs::apply`](ringhook::PreparedOutputs::apply); a stop of the server does not
    /// wait for it.
    pub fn retire(&self, within: Duration) {
        let _ = self.commands.send(Command::Stop(within));
    }

    /// True until the thread has ended: because the server has stopped, or because it was told to.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.handle.is_finished())
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.stop(DROP_WAIT);
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("status", &self.status()).finish_non_exhaustive()
    }
}
