//! A bot that polls, as it is: its getUpdates is answered here, and all else goes to the Bot API.
//!
//! One thread, `ringhook-getupdates`, has all clients and all updates that wait for them. An update
//! is settled when a client confirms it by an offset; see [`GetUpdatesSettings`] for what becomes
//! of it where none does.
//!
//! | method | what is done |
//! |---|---|
//! | getUpdates | answered as the Bot API does; an offset confirms no update that came late |
//! | deleteWebhook, and setWebhook without a URL | true: the webhook is ringhook's and stays |
//! | setWebhook, logOut | 400: the updates would end |
//! | getWebhookInfo | no URL, and how many updates are not confirmed |
//! | close | true |
//! | all others, and files | streamed to the Bot API and back |
//!
//! | file | what is in it |
//! |---|---|
//! | `mod` | the handle |
//! | `settings`, `listener` | what is set: bounds, and where clients connect |
//! | `run` | the thread: what it waits for, and how it ends |
//! | `server` | connections of clients |
//! | `service` | what is done with each request |
//! | `address`, `params` | what a request asks for |
//! | `answer` | answers in the form of the Bot API |
//! | `pass` | requests on their way to the Bot API |
//! | `hub` | all queues, and the polls that wait for them |
//! | `queue`, `numbers` | what waits for one consumer, what is handed out, what is confirmed |
//! | `item` | one update, and the others of its album |
//! | `status` | what is counted |

mod address;
mod answer;
mod hub;
mod item;
mod listener;
mod numbers;
mod params;
mod pass;
mod queue;
mod run;
mod server;
mod service;
mod settings;
mod status;

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
use tokio::sync::{
    mpsc::{UnboundedSender, unbounded_channel},
    watch,
};

use self::{hub::Hub, pass::Pass, run::Command, service::Service, status::Counters};
pub use self::{
    listener::{Place, PollListener},
    settings::GetUpdatesSettings,
    status::{ConsumerStatus, GetUpdatesStatus},
};
use crate::client::{BotTerms, authorities, terms::Bots};

/// The name of the thread.
const THREAD_NAME: &str = "ringhook-getupdates";
/// The most updates of one chat that are not settled: as many as an answer has.
const RUN: usize = 100;
/// How long the thread may take to end when the handle is dropped.
const DROP_WAIT: Duration = Duration::from_secs(1);
/// How long the thread may take beyond the time that its requests have.
const END_WAIT: Duration = Duration::from_secs(1);

/// Answers getUpdates with a server's updates, until the server stops.
///
/// To drop it ends the thread, and the stream with it, which is a failure of a server that runs.
pub struct GetUpdates {
    bots: Arc<Bots>,
    commands: UnboundedSender<Command>,
    counters: Arc<Counters>,
    hub: Arc<Hub>,
    listener: PollListener,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    handle: JoinHandle<()>,
    /// Its other side is dropped when the thread ends.
    end: Receiver<()>,
}

impl GetUpdates {
    /// What `updates` has to be before its server starts: read
    /// [directly](Updates::direct), in runs.
    #[must_use]
    pub fn prepare(updates: Updates) -> Updates {
        updates.direct().runs_of(RUN)
    }

    /// Starts the thread, which takes clients from `listener`. The stream has to be
    /// [prepared](Self::prepare).
    ///
    /// # Errors
    /// A setting is wrong, or the thread could not be started.
    pub fn start(
        updates: Updates,
        listener: PollListener,
        settings: GetUpdatesSettings,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let tls = match &settings.tls {
            Some(config) => Arc::clone(config),
            None => authorities()?,
        };
        let counters = Arc::<Counters>::default();
        let hub = Arc::new(Hub::new(&settings, &counters));
        let bots = Arc::<Bots>::default();
        bots.set(settings.bots)?;
        let service = Arc::new(Service {
            bots: Arc::clone(&bots),
            consumers: settings.consumers,
            counters: Arc::clone(&counters),
            hub: Arc::clone(&hub),
            pass: Pass::new(tls, settings.connect_timeout, settings.timeout),
        });
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
        let (commands, asked) = unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let accepting = {
            let _entered = runtime.enter();
            listener.accepting().map_err(failed)?
        };
        let (connections, quiet) = (settings.connections, settings.quiet);
        let (ends, end) = channel();
        let work = move || {
            let _ends: std::sync::mpsc::Sender<()> = ends;
            runtime.spawn(server::accept(accepting, Arc::clone(&service), connections, stopped));
            // As a task of its own: what this thread itself wakes must not cost a system call, as
            // the future does that the runtime blocks on.
            let run = runtime.spawn(run::run(service, updates, quiet, asked, stop));
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
        let thread = Mutex::new(Some(Thread { handle, end }));
        Ok(Self { bots, commands, counters, hub, listener, thread })
    }

    /// Where it listens.
    #[must_use]
    pub fn listener(&self) -> &PollListener {
        &self.listener
    }

    /// What has been counted, and what there is for each consumer.
    #[must_use]
    pub fn status(&self) -> GetUpdatesStatus {
        let name = |id| self.bots.get(id).map(|terms| terms.name.clone());
        self.counters.status(self.hub.view(name, Instant::now()))
    }

    /// Replaces the bots. Requests that begin after it need the new tokens.
    ///
    /// # Errors
    /// A setting is wrong; then nothing has changed.
    pub fn set_bots(&self, bots: Vec<BotTerms>) -> Result<(), Error> {
        self.bots.set(bots)
    }

    /// To be called right before [`Server::stop`](ringhook::Server::stop), with the
    /// [state](ringhook::Server::outputs) of the output.
    ///
    /// The stop then waits, up to its drain timeout, while clients ask for updates. Once none has
    /// asked for two seconds, the output is left: what is not confirmed stays in the journal, or is
    /// counted as abandoned where there is none.
    pub fn drain(&self, output: Arc<OutputState>) {
        let _ = self.commands.send(Command::Drain(output));
    }

    /// Ends the thread: polls that wait get an empty answer, and other requests that are under way
    /// have `within` to end. What is not confirmed goes back to the server. False where the thread
    /// did not end in time, one second later at the latest.
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

    /// Begins to end the thread where another destination has taken its output's place, as
    /// [`stop`](Self::stop) does. To be called after
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

impl Drop for GetUpdates {
    fn drop(&mut self) {
        let _ = self.stop(DROP_WAIT);
    }
}

impl fmt::Debug for GetUpdates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetUpdates").field("status", &self.status()).finish_non_exhaustive()
    }
}
