//! Whether the server is well, and whether it takes updates: what probes ask for.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{
    control::Control,
    journal::{Journal, Progress},
};

/// Time without a sign of life after which a shard counts as stuck. It gives one each second, and a
/// machine may be busy.
const STUCK: Duration = Duration::from_secs(30);

/// A shard's sign of life, given by its sweep.
#[derive(Debug)]
pub(crate) struct Pulse {
    epoch: Instant,
    /// Since the epoch; `u64::MAX` before the first one and after the end.
    millis: AtomicU64,
}

impl Pulse {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { epoch, millis: AtomicU64::new(u64::MAX) }
    }

    /// To be called by the shard, now and then.
    pub(crate) fn beat(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.epoch).as_millis();
        self.millis.store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
    }

    /// To be called where the shard ends as it should.
    pub(crate) fn end(&self) {
        self.millis.store(u64::MAX, Relaxed);
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let last = Some(self.millis.load(Relaxed)).filter(|millis| *millis != u64::MAX);
        let last = last.and_then(|millis| self.epoch.checked_add(Duration::from_millis(millis)));
        last.is_some_and(|last| now.saturating_duration_since(last) > STUCK)
    }
}

/// What a server can say of itself at any time between its start and its end.
#[derive(Debug)]
pub(crate) struct Health {
    control: Arc<Control>,
    journal: OnceLock<Arc<Journal>>,
    phase: Mutex<Phase>,
    pulses: Mutex<Vec<Arc<Pulse>>>,
}

/// How far the server has come. Whether it stops is [`Control`]'s to say.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It has begun.
    Starting,
    /// It reads the journal.
    Recovering(Progress),
    /// It accepts connections.
    Serving,
}

impl Health {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            journal: OnceLock::new(),
            phase: Mutex::new(Phase::Starting),
            pulses: Mutex::default(),
        }
    }

    /// The reading of the journal has come so far.
    pub(crate) fn recovering(&self, progress: Progress) {
        self.enter(Phase::Recovering(progress));
    }

    /// Connections are accepted from now on.
    pub(crate) fn serving(&self) {
        self.enter(Phase::Serving);
    }

    /// From now on the state of `journal` counts.
    pub(crate) fn watch_journal(&self, journal: &Arc<Journal>) {
        let _ = self.journal.set(Arc::clone(journal));
    }

    /// From now on one more shard has to give signs of life.
    pub(crate) fn watch_shard(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.push(Arc::clone(&pulse));
        pulse
    }

    /// Why the server is broken for good, in one line; `None` where it is not.
    pub(crate) fn failure(&self, now: Instant) -> Option<String> {
        if let Some(failure) = self.control.failure() {
            return Some(format!("failed: {failure}"));
        }
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let stuck = pulses.iter().position(|pulse| pulse.is_stuck(now))?;
        Some(format!("failed: shard {stuck} has given no sign of life for {} s", STUCK.as_secs()))
    }

    /// Why the server takes no updates now, each reason in one line; empty where it does.
    pub(crate) fn obstacles(&self, now: Instant) -> Vec<String> {
        let mut obstacles = Vec::from_iter(self.failure(now));
        if self.control.is_stopping() {
            obstacles.push("stopping".to_owned());
        } else {
            match *self.phase.lock().unwrap_or_else(PoisonError::into_inner) {
                Phase::Starting => obstacles.push("starting".to_owned()),
                Phase::Recovering(Progress { bytes, of, .. }) => {
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
        match self.control.waiting_for_disk() {
            0 => {}
            waiting => obstacles.push(format!(
                "sink: {waiting} worker(s) wait for a file or pipe that takes nothing"
            )),
        }
        obstacles
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
        health.recovering(Progress { bytes: 3, of: 9, records: 1 });
        assert_eq!(health.obstacles(now), ["starting: 3 of 9 bytes of the journal read"]);
        health.serving();
        assert!(health.obstacles(now).is_empty());
        let waiting = control.wait_for_disk();
        assert_eq!(
            health.obstacles(now),
            ["sink: 1 worker(s) wait for a file or pipe that takes nothing"]
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
    fn a_shard_without_a_sign_of_life_is_a_failure() {
        let health = Health::new(Arc::new(Control::new(None)));
        let (one, two) = (health.watch_shard(), health.watch_shard());
        let start = Instant::now();
        let late = start + 10 * STUCK;
        assert_eq!(health.failure(late), None, "they have not begun");
        one.beat(start);
        two.beat(start);
        assert_eq!(health.failure(start + STUCK / 2), None);
        one.beat(late);
        let failure = health.failure(late).unwrap_or_default();
        assert_eq!(failure, "failed: shard 1 has given no sign of life for 30 s");
        two.end();
        assert_eq!(health.failure(late), None, "one that has ended is not stuck");
    }
}
