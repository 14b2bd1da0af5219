//! A run: the plan carried out, and what must be true after each step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use rustls::ClientConfig;

use super::{
    ledger::Ledger,
    output::Output,
    place::{BOTS, DRAIN, Place},
    plan::{Fault, Net, Plan, Strike},
    proxy::Proxy,
    sender::{Senders, TEXT},
    server::Server,
};

use crate::support::{client, sunk::BATCH};

/// Updates a second of each bot.
const RATE: u32 = 80;
/// How long a server may take until it is well again, on a machine that has other things to do.
const RECOVERY: Duration = Duration::from_secs(60);
/// How long a stop may take beyond its drain. Its bound is a second; the machine may be busy.
const STOP: Duration = Duration::from_secs(15);
/// Resident memory that no server of a run may need, in MiB.
const MEMORY: usize = 512;

pub(crate) struct Run {
    pub(crate) place: Place,
    pub(crate) proxy: Proxy,
    pub(crate) senders: Senders,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) output: Output,
    pub(crate) server: Server,
    pub(crate) config: Arc<ClientConfig>,
    workers: usize,
    /// What a server that is left alone has of everything.
    census: Option<BTreeMap<String, usize>>,
    /// The disk is frozen: it has to be thawed whatever happens.
    pub(crate) frozen: bool,
    plan: Plan,
    start: Instant,
    /// What was done, and when.
    done: Vec<String>,
    /// The longest time that each thing took.
    longest: BTreeMap<&'static str, Duration>,
    skipped: BTreeSet<&'static str>,
}

impl Run {
    pub(crate) fn begin(plan: Plan, has_mounts: bool) -> Self {
        let fakes_time = plan.events.iter().any(|event| event.fault == Fault::Clock);
        let place = Place::new(&plan.terms, has_mounts, fakes_time);
        let ledger = Arc::<Ledger>::default();
        let config = client::trusting(&place.authority.cert, rustls::ALL_VERSIONS);
        let proxy = Proxy::to(place.addr(), plan.seed);
        let bots = BOTS.map(|(_, path, secret)| (path, secret));
        let senders =
            Senders::start(&bots, RATE, proxy.addr, Arc::clone(&config), Arc::clone(&ledger));
        let server = Server::start(place.command(), place.admin_beside(None), &secrets());
        let mut run = Self {
            output: Output::at(&place.output()),
            workers: plan.terms.workers as usize,
            place,
            proxy,
            senders,
            ledger,
            server,
            config,
            census: None,
            frozen: false,
            plan,
            start: Instant::now(),
            done: Vec::new(),
            longest: BTreeMap::new(),
            skipped: BTreeSet::new(),
        };
        run.await_ready();
        // What is made for the first update is there before anything is counted.
        run.senders.pause(false);
        run.senders.make(true);
        run.await_progress("at first");
        run
    }

    /// Carries the plan out until it ends, or its time is over.
    pub(crate) fn carry_out(&mut self, length: Duration) {
        for event in self.plan.events.clone() {
            if self.start.elapsed() > length + length / 4 {
                break;
            }
            thread::sleep(event.after);
            let line = format!("{:8.3} s  {event}", self.start.elapsed().as_secs_f64());
            eprintln!("{line}");
            self.done.push(line);
            self.proxy.set(event.net);
            self.perform(&event);
            self.proxy.set(Net::Clear);
            if event.fault != Fault::Calm {
                self.recover();
            }
        }
        self.finish();
    }

    /// Says once that a fault is left out, and why.
    pub(crate) fn skip(&mut self, fault: Fault, why: &str) {
        if self.skipped.insert(fault.name()) {
            crate::support::disk::skip(&format!("{}: {why}", fault.name()));
        }
    }

    /// Starts a server beside the one that runs, or in its place.
    pub(crate) fn spawn(&self) -> Server {
        let admin = self.place.admin_beside(Some(self.server.admin()));
        Server::start(self.place.command(), admin, &secrets())
    }

    /// Takes note of how long something took.
    pub(crate) fn took(&mut self, what: &'static str, since: Instant) {
        let longest = self.longest.entry(what).or_default();
        *longest = (*longest).max(since.elapsed());
    }

    /// Waits until `condition` holds; what it says meanwhile is told where it does not.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        what: &str,
        time: Duration,
        mut condition: impl FnMut(&mut Self) -> Result<(), String>,
    ) {
        let start = Instant::now();
        while let Err(why) = condition(self) {
            assert!(start.elapsed() < time, "not within {time:?}: {what}: {why}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub(crate) fn await_ready(&mut self) {
        let start = Instant::now();
        self.until("/readyz says 200", RECOVERY, |run| {
            if let Some(status) = run.server.ended() {
                panic!("the server has ended by itself: {status}");
            }
            match run.server.readyz() {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        self.took("until ready", start);
    }

    /// Waits until an update of each bot that was sent after now is taken.
    #[track_caller]
    pub(crate) fn await_progress(&mut self, when: &str) {
        let start = Instant::now();
        self.until(&format!("updates of each bot are taken {when}"), RECOVERY, |run| {
            let entries = run.ledger.entries();
            let is_late = |bot: &usize| entries.last.get(bot).is_none_or(|last| *last < start);
            let late: Vec<_> = (0..run.senders.bots()).filter(is_late).collect();
            drop(entries);
            match late.is_empty() {
                true => Ok(()),
                false => Err(format!("none of {late:?}; readyz: {:?}", run.server.readyz())),
            }
        });
        self.took("until taken again", start);
    }

    /// Sees that all is as before.
    #[track_caller]
    fn recover(&mut self) {
        self.await_ready();
        self.await_progress("again");
        self.senders.excuse(None);
        self.check_conduct();
    }

    /// Sees that nothing was said or answered that must not be.
    #[track_caller]
    fn check_conduct(&mut self) {
        assert!(!self.senders.broken(), "a sender has met something that is no HTTP");
        let complaints = std::mem::take(&mut self.ledger.entries().complaints);
        assert!(complaints.is_empty(), "{complaints:#?}");
        let bad = self.server.bad_lines();
        assert!(bad.is_empty(), "the log has {bad:#?}");
    }

    /// Lines that the workers write at once at the most.
    pub(crate) fn in_one_go(&self) -> usize {
        BATCH * self.workers
    }

    /// Where lines may come again when the process dies now.
    pub(crate) fn in_hand(&mut self) -> usize {
        self.output.look().saturating_sub(self.in_one_go())
    }

    /// Ends the server as a machine does that has no memory left.
    #[track_caller]
    pub(crate) fn kill(&mut self, from: usize) {
        let start = Instant::now();
        self.server.signal(Signal::KILL);
        let status = self.server.wait(RECOVERY);
        assert!(status.is_some(), "a killed server does not end");
        self.took("until killed", start);
        let to = self.output.look();
        self.output.lines.excuse(from, to);
    }

    /// Ends the server as an operator does. Where its disks take nothing it may leave lines of
    /// which it could not note that they are settled.
    #[track_caller]
    pub(crate) fn terminate(&mut self, excused_from: Option<usize>) {
        let start = Instant::now();
        self.server.signal(Signal::TERM);
        let Some(status) = self.server.wait(DRAIN + STOP) else {
            panic!("not ended {:?} after SIGTERM", start.elapsed());
        };
        self.took("until stopped", start);
        assert_eq!(status.code(), Some(0), "the end of a server: {status}");
        self.check_conduct();
        if let Some(from) = excused_from {
            let to = self.output.look();
            self.output.lines.excuse(from, to);
        }
    }

    /// Ends the server as an operator does who has no patience: what it has in its hands comes
    /// again.
    #[track_caller]
    pub(crate) fn force(&mut self, from: usize) {
        self.server.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(5));
        self.server.signal(Signal::TERM);
        let status = self.server.wait(STOP);
        let code = status.and_then(|status| status.code());
        // It may have ended at the first signal.
        assert!(matches!(code, Some(0 | 1)), "after two signals: {status:?}");
        self.check_conduct();
        let to = self.output.look();
        self.output.lines.excuse(from, to);
    }

    /// Starts a server in the place of one that has ended.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        self.server = self.spawn();
    }

    /// Does to the process what is to be done in the middle of something else; whether it has to be
    /// started once that is over.
    #[track_caller]
    pub(crate) fn strike(
        &mut self,
        strike: Strike,
        from: usize,
        is_hung: bool,
        has_disk: bool,
    ) -> bool {
        match strike {
            Strike::Hangup => self.server.signal(Signal::HUP),
            Strike::Pause => {
                self.server.signal(Signal::STOP);
                thread::sleep(Duration::from_millis(300));
                self.server.signal(Signal::CONT);
            }
            // The kernel does not let go of a process that waits for a disk.
            Strike::Kill if is_hung => self.server.signal(Signal::KILL),
            Strike::Term if is_hung => self.server.signal(Signal::TERM),
            Strike::Kill => {
                self.kill(from);
                self.start();
            }
            Strike::Term => {
                self.terminate(has_disk.then_some(from));
                self.start();
            }
        }
        is_hung && matches!(strike, Strike::Kill | Strike::Term)
    }

    /// Waits until everything is acknowledged and put out, looks at all that came, and counts what
    /// the server has.
    #[track_caller]
    pub(crate) fn calm(&mut self) {
        self.senders.make(false);
        self.senders.pause(false);
        self.until("everything is acknowledged", 2 * RECOVERY, |run| match run.senders.waiting() {
            0 => Ok(()),
            waiting => Err(format!("{waiting} wait; readyz: {:?}", run.server.readyz())),
        });
        self.senders.pause(true);
        self.until("no request is under way", RECOVERY, |run| match run.senders.busy() {
            0 => Ok(()),
            busy => Err(format!("{busy} connections")),
        });
        self.await_output();
        self.check_output();
        self.check_census();
        self.check_conduct();
        self.output.tidy();
        self.senders.pause(false);
        self.senders.make(true);
    }

    /// Waits until all that is acknowledged is put out.
    #[track_caller]
    pub(crate) fn await_output(&mut self) {
        self.until("nothing is lost", RECOVERY, |run| {
            run.output.look();
            let lost = run.ledger.lost(&run.output.lines);
            match lost.is_empty() {
                true => Ok(()),
                false => Err(format!(
                    "{} are missing, such as {:?}",
                    lost.len(),
                    &lost[..lost.len().min(20)]
                )),
            }
        });
    }

    #[track_caller]
    fn check_output(&mut self) {
        let lines = &self.output.lines;
        let wrong = self.ledger.out_of_order(lines);
        assert!(
            wrong.is_empty(),
            "{} out of order: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(20)]
        );
        let copies = lines.copies();
        let some = &copies[..copies.len().min(20)];
        assert!(copies.is_empty(), "{} copies that nothing explains: {some:#?}", copies.len());
        let invented = lines.invented(|bot| self.senders.made(bot));
        assert!(invented.is_empty(), "never made: {invented:?}");
        assert_eq!(lines.torn_without_excuse(), 0, "lines are torn: {:?}", lines.torn);
    }

    /// Compares what the server has with what the first one had.
    #[track_caller]
    fn check_census(&mut self) {
        if self.census.is_none() {
            // Its last connections may still be closing.
            thread::sleep(Duration::from_secs(3));
            self.census = Some(self.server.census());
        }
        self.until("no thread and no descriptor is left", RECOVERY, |run| {
            let now = run.server.census();
            let before = run.census.as_ref().unwrap();
            let keys: BTreeSet<_> = now.keys().chain(before.keys()).collect();
            let count = |of: &BTreeMap<String, usize>, key| of.get(key).copied().unwrap_or(0);
            let differences: Vec<_> = keys
                .into_iter()
                .map(|key| (key, count(before, key), count(&now, key)))
                .filter(|(_, before, now)| before != now)
                .collect();
            match differences.is_empty() {
                true => Ok(()),
                false => Err(format!("what, before, now: {differences:?}")),
            }
        });
        let resident = self.server.resident();
        assert!(resident < MEMORY, "{resident} MiB");
    }

    /// Ends the last server, and sees that nothing is left for the next one.
    #[track_caller]
    fn finish(&mut self) {
        self.calm();
        self.senders.make(false);
        self.until("everything is acknowledged", 2 * RECOVERY, |run| match run.senders.waiting() {
            0 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        });
        self.senders.pause(true);
        self.terminate(None);
        self.start();
        self.await_ready();
        self.await_output();
        self.check_output();
        let lines = self.output.lines.len();
        thread::sleep(Duration::from_millis(500));
        self.terminate(None);
        assert_eq!(self.output.look(), lines, "what was settled comes again");
        self.check_files();
    }

    /// Sees that the journal is whole and empty, and that there are no other files than those that
    /// are known.
    #[track_caller]
    fn check_files(&self) {
        let data = self.place.data();
        let data = data.to_str().unwrap();
        for (command, is_silent) in [("verify", false), ("cat", true)] {
            let args = ["journal", command, "--data-dir", data];
            let output = self.place.ringhook(&args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "journal {command}: {said}");
            assert!(!is_silent || output.stdout.is_empty(), "the journal has something left");
        }
        for (path, _) in self.place.files() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            let is_known = ["lock", "report", "clock"].contains(&&*name)
                || ["journal", "settled", "ids", "pem", "toml", "ndjson"].contains(&&*ending)
                || ending.parse::<u32>().is_ok();
            assert!(is_known, "{} is left behind", path.display());
        }
    }
}

/// What must be in no log.
fn secrets() -> Vec<String> {
    BOTS.iter().map(|(.., secret)| (*secret).to_owned()).chain([TEXT.to_owned()]).collect()
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.frozen {
            self.thaw();
        }
        eprintln!("RINGHOOK_CHAOS_SEED={} {:?}", self.plan.seed, self.plan.terms);
        let entries = self.ledger.entries();
        eprintln!(
            "{} acknowledged, {} lines, {} of them again, {} torn; answers: {:?}",
            entries.acknowledged.len(),
            self.output.lines.len(),
            self.output.lines.repeated(),
            self.output.lines.torn.len(),
            entries.outcomes
        );
        drop(entries);
        eprintln!("the longest: {:?}", self.longest);
        if thread::panicking() {
            eprintln!("what was done:");
            self.done.iter().for_each(|line| eprintln!("{line}"));
            eprintln!("the server said at last: {:#?}", self.server.log());
            eprintln!("what it has: {:?}", self.server.census());
            for (path, length) in self.place.files() {
                eprintln!("{length:10} {}", path.display());
            }
        }
    }
}
