//! Whether the server is healthy, and whether it takes updates: the answers to probes.
//!
//! No lock is taken that a thread could hold while it hangs.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{
    control::{
        Control, Heartbeat, OutputState,
        operation::{Operation, Severity, Step},
    },
    io::listener::Name,
    journal::{Journal, RecoveryProgress},
};

/// Time without a sign of life after which a shard counts as stuck for good. It gives one each
/// second, and a machine may be busy.
const STUCK: Duration = Duration::from_secs(30);

/// What a server can report of itself at any time between its start and its end.
#[derive(Debug)]
pub(crate) struct Health {
    control: Arc<Control>,
    journal: OnceLock<Arc<Journal>>,
    /// The names of the Unix sockets.
    names: boxcar::Vec<Arc<Name>>,
    /// Those of all threads.
    operations: boxcar::Vec<Arc<Operation>>,
    outputs: boxcar::Vec<Arc<OutputState>>,
    phase: Mutex<Phase>,
    heartbeats: boxcar::Vec<Arc<Heartbeat>>,
    /// How many of the operations are workers'.
    workers: AtomicUsize,
}

/// How far the server has come. Whether it stops is in [`Control`].
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It has begun.
    Starting,
    /// It reads the journal.
    Recovering(RecoveryProgress),
    /// It accepts connections.
    Serving,
}

/// A step that some threads have been in for too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hanging {
    pub(crate) step: Step,
    pub(crate) count: usize,
    pub(crate) longest: Duration,
}

impl Health {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            journal: OnceLock::new(),
            names: boxcar::Vec::new(),
            operations: boxcar::Vec::new(),
            outputs: boxcar::Vec::new(),
            phase: Mutex::new(Phase::Starting),
            heartbeats: boxcar::Vec::new(),
            workers: AtomicUsize::new(0),
        }
    }

    /// The reading of the journal has come so far.
    pub(crate) fn recovering(&self, progress: RecoveryProgress) {
        self.enter(Phase::Recovering(progress));
    }

    /// Connections are accepted from now on.
    pub(crate) fn serving(&self) {
        self.enter(Phase::Serving);
    }

    /// From now on it counts what `operation` says.
    pub(crate) fn watch(&self, operation: &Arc<Operation>) {
        self.operations.push(Arc::clone(operation));
    }

    /// The same of one more worker's.
    pub(crate) fn watch_worker(&self, operation: &Arc<Operation>) {
        self.watch(operation);
        self.workers.fetch_add(1, Relaxed);
    }

    /// So many workers more, or fewer, are there to be held up.
    pub(crate) fn count_workers(&self, change: isize) {
        self.workers.fetch_add(change.cast_unsigned(), Relaxed);
    }

    /// From now on the state of an output counts.
    pub(crate) fn watch_output(&self, output: &Arc<OutputState>) {
        self.outputs.push(Arc::clone(output));
    }

    /// All outputs, by their numbers.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &Arc<OutputState>> {
        self.outputs.iter().map(|(_, output)| output)
    }

    /// Those that were not taken out.
    fn outputs_in_force(&self) -> impl Iterator<Item = &Arc<OutputState>> {
        self.outputs().filter(|output| !output.is_over() && output.removed().is_none())
    }

    /// Has the committer do what a program that reads a stream directly was asked for and has not
    /// looked at since: 200s must not wait for a program.
    pub(super) fn release_commits(&self) {
        if let Some(journal) = self.journal.get().filter(|it| it.helpers().are_asked()) {
            journal.wake_committer();
        }
    }

    /// From now on the state of `journal` counts.
    pub(crate) fn watch_journal(&self, journal: &Arc<Journal>) {
        journal.operations().for_each(|operation| self.watch(operation));
        let _ = self.journal.set(Arc::clone(journal));
    }

    /// From now on it counts whether `name` leads here.
    pub(crate) fn watch_name(&self, name: &Arc<Name>) {
        self.names.push(Arc::clone(name));
    }

    /// From now on one more shard has to give signs of life.
    pub(crate) fn watch_shard(&self) -> Arc<Heartbeat> {
        let heartbeat = Arc::new(Heartbeat::new());
        self.watch(heartbeat.operation());
        self.heartbeats.push(Arc::clone(&heartbeat));
        heartbeat
    }

    /// Since when each shard has given no sign of life, as of `now`; `None` for one that has ended.
    pub(crate) fn shards_silent_for(&self, now: Instant) -> Vec<Option<Duration>> {
        self.heartbeats.iter().map(|(_, heartbeat)| heartbeat.silent_for(now)).collect()
    }

    /// Why the server is broken for good, in one line; `None` where it is not.
    pub(crate) fn failure(&self, now: Instant) -> Option<String> {
        if let Some(failure) = self.control.failure() {
            return Some(format!("failed: {failure}"));
        }
        let (stuck, _) = self
            .heartbeats
            .iter()
            .find(|(_, heartbeat)| heartbeat.silent_for(now).is_some_and(|time| time > STUCK))?;
        Some(format!("failed: shard {stuck} has given no sign of life for {} s", STUCK.as_secs()))
    }

    /// What hangs at `now`, in the order of the steps.
    pub(crate) fn hanging(&self, now: Instant) -> Vec<Hanging> {
        let mut hanging = Vec::<Hanging>::new();
        for (_, operation) in &self.operations {
            let Some((step, since)) = operation.under_way(now) else { continue };
            if since < step.limit() {
                continue;
            }
            match hanging.iter_mut().find(|it| it.step == step) {
                Some(known) => {
                    known.count += 1;
                    known.longest = known.longest.max(since);
                }
                None => hanging.push(Hanging { step, count: 1, longest: since }),
            }
        }
        hanging.sort_by_key(|it| it.step as u8);
        hanging
    }

    /// Why the server takes no updates now, each reason in one line; empty where it does.
    pub(crate) fn obstacles(&self, now: Instant) -> Vec<String> {
        let mut obstacles = Vec::from_iter(self.failure(now));
        if self.control.is_stopping() {
            obstacles.push("stopping".to_owned());
        } else {
            match *self.phase.lock().unwrap_or_else(PoisonError::into_inner) {
                Phase::Starting => obstacles.push("starting".to_owned()),
                Phase::Recovering(RecoveryProgress { bytes, of, .. }) => {
                    obstacles.push(format!("starting: {bytes} of {of} bytes of the journal read"));
                }
                Phase::Serving => {}
            }
        }
        if let Some(journal) = self.journal.get() {
            if journal.is_full() {
                obstacles.push("journal: full (journal.max_bytes)".to_owned());
            }
            if journal.is_lost() {
                let lost = "journal: its directory was replaced or is another server's: stop this \
                            server, or start it again";
                obstacles.push(lost.to_owned());
            } else if journal.is_failing(now) {
                obstacles.push("journal: its disk takes nothing".to_owned());
            }
        }
        if self.needs_every_output() {
            obstacles.extend(self.idle_outputs());
        }
        let hanging = self.hanging(now).into_iter().filter(|it| self.is_obstacle(it));
        obstacles.extend(hanging.map(|it| it.to_string()));
        obstacles.extend(self.names.iter().filter_map(|(_, name)| name.trouble()));
        obstacles
    }

    /// What hangs, or takes nothing, although updates are taken, each in one line.
    pub(crate) fn asides(&self, now: Instant) -> Vec<String> {
        let removed = self.outputs().filter(|it| !it.is_over() && it.removed().is_some());
        let mut asides: Vec<_> = removed.map(ToString::to_string).collect();
        if !self.needs_every_output() {
            asides.extend(self.idle_outputs());
        }
        let hanging = self.hanging(now).into_iter().filter(|it| !self.is_obstacle(it));
        asides.extend(hanging.map(|it| it.to_string()));
        asides
    }

    /// What the outputs do not take, each in one line.
    fn idle_outputs(&self) -> impl Iterator<Item = String> {
        let down = self.outputs_in_force().filter(|output| output.down().is_some());
        let down = down.map(ToString::to_string);
        let waiting = self.control.waiting_for_disk();
        let line = format!("dead letters: {waiting} worker(s) wait for a file that takes nothing");
        down.chain((waiting > 0).then_some(line))
    }

    /// Whether no updates are taken where one output takes nothing: there is no journal that keeps
    /// updates meanwhile, and no other output that takes its own.
    fn needs_every_output(&self) -> bool {
        self.journal.get().is_none() && self.has_one_output()
    }

    fn has_one_output(&self) -> bool {
        self.outputs_in_force().count() <= 1
    }

    fn is_obstacle(&self, hanging: &Hanging) -> bool {
        match hanging.step.severity() {
            Severity::Aside => false,
            Severity::Obstacle => true,
            // With a journal, too: an output that is down is tried again by itself, and a call that
            // does not return may need its owner.
            Severity::OfOutput => self.has_one_output(),
            Severity::OfAllWorkers => {
                self.journal.get().is_none() && hanging.count >= self.workers.load(Relaxed)
            }
        }
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn each_obstacle_is_named_and_goes_when_it_is_gone() {
        let control = Arc::new(Control::new(None));
        let health = Health::new(Arc::clone(&control));
        let now = Instant::now();
        assert_eq!(health.obstacles(now), ["starting"]);
        health.recovering(RecoveryProgress { bytes: 3, of: 9, records: 1 });
        assert_eq!(health.obstacles(now), ["starting: 3 of 9 bytes of the journal read"]);
        health.serving();
        assert!(health.obstacles(now).is_empty());
        let waiting = control.wait_for_disk();
        assert_eq!(
            health.obstacles(now),
            ["dead letters: 1 worker(s) wait for a file that takes nothing"]
        );
        drop(waiting);
        assert!(health.obstacles(now).is_empty() && health.failure(now).is_none());
        control.stop();
        assert_eq!(health.obstacles(now), ["stopping"]);
        assert_eq!(health.failure(now), None);
        control.fail(&Error::new(ErrorKind::Sink, "gone"));
        control.fail(&Error::new(ErrorKind::Sink, "gone again"));
        assert_eq!(health.failure(now).as_deref(), Some("failed: gone"));
        assert_eq!(health.obstacles(now), ["failed: gone", "stopping"]);
    }

    #[test]
    fn a_shard_without_a_sign_of_life_is_named_and_then_a_failure() {
        let health = Health::new(Arc::new(Control::new(None)));
        health.serving();
        let start = Instant::now();
        let (one, two) = (health.watch_shard(), health.watch_shard());
        let named = |at| health.obstacles(at);
        assert_eq!(health.failure(start + STUCK / 2), None);
        let short = start + Duration::from_secs(7);
        one.beat(short);
        assert_eq!(named(short), ["shard: a round has not returned for 6 s"], "since its start");
        one.beat(start + 2 * STUCK);
        let failure = health.failure(start + 2 * STUCK).unwrap_or_default();
        assert_eq!(failure, "failed: shard 1 has given no sign of life for 30 s");
        two.beat(start + 2 * STUCK);
        assert_eq!(named(start + 2 * STUCK), [""; 0]);
        let late = start + 10 * STUCK;
        one.beat(late);
        let failure = health.failure(late).unwrap_or_default();
        assert_eq!(failure, "failed: shard 1 has given no sign of life for 30 s");
        two.end();
        assert_eq!(health.failure(late), None, "one that has ended is not stuck");
    }

    #[test]
    fn what_hangs_is_an_obstacle_where_it_keeps_updates_out() {
        let health = Health::new(Arc::new(Control::new(None)));
        health.serving();
        let [one, two, watcher] = [(); 3].map(|()| Arc::<Operation>::default());
        health.watch_worker(&one);
        health.watch_worker(&two);
        health.watch(&watcher);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let said = |seconds| (health.obstacles(at(seconds)), health.asides(at(seconds)));
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();

        // A handler may take its time, as long as another worker handles the other chats.
        one.begin(Step::Handler, at(0));
        assert_eq!(said(50), (vec![], vec![]));
        let handler = "handler: a call has not returned for 70 s";
        assert_eq!(said(70), (vec![], lines(&[handler])));
        two.begin(Step::Stream, at(0));
        assert_eq!(said(70).0, [""; 0], "of each kind there is one");
        two.begin(Step::Handler, at(1));
        assert_eq!(said(70), (lines(&[&format!("{handler} (2 threads)")]), vec![]));
        one.end();
        two.begin(Step::Sink, at(70));
        watcher.begin(Step::Watch, at(70));
        assert_eq!(said(74), (vec![], vec![]));
        let sink = "output: a write has not returned for 6 s";
        let watch = "watcher: a look at files has not returned for 6 s";
        assert_eq!(said(76), (lines(&[sink]), lines(&[watch])));
    }

    #[test]
    fn an_output_that_takes_nothing_is_an_obstacle_where_it_is_the_only_one() {
        let health = Health::new(Arc::new(Control::new(None)));
        health.serving();
        let [audit, bot] = ["audit", "bot"].map(|name| Arc::new(OutputState::new(name)));
        let worker = Arc::<Operation>::default();
        health.watch_worker(&worker);
        health.watch_output(&audit);
        audit.set_down("no storage space");
        let start = Instant::now();
        worker.begin(Step::Sink, start);
        let assert_named = |lines: Vec<String>| {
            let [down, hangs] = <[String; 2]>::try_from(lines).unwrap_or_default();
            assert!(down.starts_with("output audit: down since "), "{down}");
            assert_eq!(hangs, "output: a write has not returned for 6 s");
        };
        let late = start + Duration::from_secs(6);
        assert!(health.asides(late).is_empty());
        assert_named(health.obstacles(late));
        health.watch_output(&bot);
        assert!(health.obstacles(late).is_empty());
        assert_named(health.asides(late));
    }
}
