//! Is every batch committed and returned, and every connection told, whichever side ends first?

#[path = "../../../src/journal/batch.rs"]
mod batch;
#[path = "../../../src/journal/hand_over.rs"]
mod hand_over;
#[path = "../../../src/journal/intake.rs"]
mod intake;
mod record;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use loom::{
    future::block_on,
    sync::atomic::Ordering::{Acquire, Release},
    thread,
};

use self::{
    batch::{Batch, Staged},
    hand_over::{BatchReturn, CommitRequest, CommitterThread, Next, Turns, gather, serve},
    intake::Intake,
};
use crate::{
    bots::BotKey,
    dispatch::parker::{WorkerParker, published},
    proto::update::Update,
    sync::{AtomicBool, AtomicWaker, Receiver, Sender, bounded},
};

/// As much of the journal as the hand-over needs.
#[derive(Debug, Default)]
struct Journal {
    committer: CommitterThread,
    request: CommitRequest,
    /// Where a worker sleeps, if there is one.
    worker: WorkerParker,
}

impl Journal {
    fn is_full(&self) -> bool {
        false
    }

    fn key_of(&self, bot: BotKey) -> BotKey {
        bot
    }

    fn wake_committer(&self) {
        self.committer.wake();
    }

    fn ask_for_commit(&self, _: Instant) {
        let wake = || {
            published();
            self.worker.wake()
        };
        if !self.request.make(wake) {
            self.wake_committer();
        }
    }
}

fn now_us() -> i64 {
    0
}

/// The channels of a journal with so many shards.
struct Channels {
    journal: Arc<Journal>,
    gathered: Receiver<Batch>,
    returns: Vec<BatchReturn>,
    shards: Vec<Box<dyn FnOnce() -> Intake + Send>>,
}

impl Channels {
    fn new(shards: usize) -> Self {
        let journal = Arc::<Journal>::default();
        let (batches, gathered) = bounded(shards);
        let mut channels = Self { journal, gathered, returns: Vec::new(), shards: Vec::new() };
        for home in 0..shards {
            let (back, returned) = bounded(1);
            let waker = Arc::<AtomicWaker>::default();
            let (journal, batches) = (Arc::clone(&channels.journal), Sender::clone(&batches));
            channels.returns.push(BatchReturn {
                batches: back,
                recycled: None,
                waker: Arc::clone(&waker),
            });
            channels
                .shards
                .push(Box::new(move || Intake::new(journal, home, batches, returned, waker)));
        }
        channels
    }
}

fn submit(intake: &Intake, id: u32) -> Pin<Box<dyn Future<Output = bool> + '_>> {
    let staged = intake.stage(b"{}").unwrap();
    let ticket = intake.submit(&staged, Update(id));
    Box::pin(intake.committed(ticket))
}

/// Runs the intake's task and these connections until all of them know what became of their update.
fn wait_for(intake: &Intake, waiting: Vec<Pin<Box<dyn Future<Output = bool> + '_>>>) -> Vec<bool> {
    let mut waiting: Vec<_> = waiting.into_iter().map(|it| (it, None)).collect();
    block_on(poll_fn(|context| {
        intake.poll(context, drop);
        for (connection, outcome) in &mut waiting {
            if outcome.is_none()
                && let Poll::Ready(is_committed) = connection.as_mut().poll(context)
            {
                *outcome = Some(is_committed);
            }
        }
        waiting
            .iter()
            .map(|(_, outcome)| *outcome)
            .collect::<Option<_>>()
            .map_or(Poll::Pending, Poll::Ready)
    }))
}

/// The committer of a disk that takes everything.
struct Committer {
    batches: Receiver<Batch>,
    /// The ids in its order.
    committed: Vec<u32>,
    gathered: Vec<Batch>,
    returns: Vec<BatchReturn>,
}

impl Committer {
    fn turns(batches: Receiver<Batch>, returns: Vec<BatchReturn>) -> Turns<Self> {
        Turns::new(Self { batches, committed: Vec::new(), gathered: Vec::new(), returns })
    }

    fn work(&mut self) -> Next {
        let is_over = gather(&self.batches, &mut self.gathered);
        let next = match (self.gathered.is_empty(), is_over) {
            (false, _) => Next::Look,
            (true, true) => Next::End,
            (true, false) => Next::Sleep,
        };
        for mut batch in self.gathered.drain(..) {
            batch.is_committed = true;
            let updates = batch.entries.iter_mut().filter_map(|entry| entry.update.take());
            self.committed.extend(updates.map(|update| update.id()));
            self.returns.get(batch.batch_return).unwrap().give_back(batch);
        }
        next
    }
}

/// The committer's thread; the ids that were committed, by whomever.
fn commit_with(journal: &Journal, turns: &Turns<Committer>) -> Vec<u32> {
    journal.committer.attach();
    let wake = || journal.wake_committer();
    serve(turns, wake, Committer::work);
    loop {
        if let Some(ids) = turns.take(wake, |committer| std::mem::take(&mut committer.committed)) {
            return ids;
        }
        // A worker has looked in vain.
        thread::park();
    }
}

fn commit_all(journal: &Journal, batches: Receiver<Batch>, returns: Vec<BatchReturn>) -> Vec<u32> {
    commit_with(journal, &Committer::turns(batches, returns))
}

/// A worker that sleeps once, commits if it is asked to, and ends.
fn work_once(journal: &Journal, turns: &Turns<Committer>, is_stopping: &AtomicBool, leaves: bool) {
    let wake = || journal.wake_committer();
    journal.worker.attach();
    journal.worker.prepare_park(u64::MAX);
    if !journal.request.is_made() && !is_stopping.load(Acquire) {
        thread::park();
    }
    journal.worker.cancel_park();
    if journal.request.take() {
        let _ = turns.take(wake, |committer| match leaves {
            // It is not quick.
            true => journal.wake_committer(),
            false => drop(committer.work()),
        });
    }
    // It ends, and may have been woken for more.
    journal.wake_committer();
}

/// Explores what so many switches of threads at a bad moment can do.
fn model(switches: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(switches);
    model.check(check);
}

#[test]
fn a_batch_is_committed_and_its_connections_are_woken() {
    model(3, || {
        let Channels { journal, gathered, returns, mut shards } = Channels::new(1);
        let committer = thread::spawn(move || commit_all(&journal, gathered, returns));
        let intake = shards.pop().unwrap()();
        let first = submit(&intake, 1);
        assert_eq!(wait_for(&intake, vec![first]), [true]);
        intake.close();
        assert_eq!(committer.join().unwrap(), [1]);
    });
}

#[test]
fn what_gathers_while_a_batch_is_out_follows_it() {
    model(3, || {
        let Channels { journal, gathered, returns, mut shards } = Channels::new(1);
        let committer = thread::spawn(move || commit_all(&journal, gathered, returns));
        let intake = shards.pop().unwrap()();
        let first = submit(&intake, 1);
        intake.work(drop);
        let second = submit(&intake, 2);
        assert_eq!(wait_for(&intake, vec![first, second]), [true, true]);
        intake.close();
        assert_eq!(committer.join().unwrap(), [1, 2]);
    });
}

#[test]
fn two_shards_do_not_hold_up_each_other() {
    model(1, || {
        let Channels { journal, gathered, returns, mut shards } = Channels::new(2);
        let other = shards.pop().unwrap();
        let shard = thread::spawn(move || {
            let intake = other();
            let update = submit(&intake, 2);
            assert_eq!(wait_for(&intake, vec![update]), [true]);
            intake.close();
        });
        let mine = shards.pop().unwrap();
        let committer = thread::spawn(move || commit_all(&journal, gathered, returns));
        let intake = mine();
        let update = submit(&intake, 1);
        assert_eq!(wait_for(&intake, vec![update]), [true]);
        intake.close();
        shard.join().unwrap();
        let mut committed = committer.join().unwrap();
        committed.sort_unstable();
        assert_eq!(committed, [1, 2]);
    });
}

#[test]
fn a_batch_that_is_out_when_its_shard_closes_is_committed() {
    model(3, || {
        let Channels { journal, gathered, returns, mut shards } = Channels::new(1);
        let committer = thread::spawn(move || commit_all(&journal, gathered, returns));
        let intake = shards.pop().unwrap()();
        let first = submit(&intake, 1);
        intake.work(drop);
        intake.close();
        assert_eq!(committer.join().unwrap(), [1]);
        drop(first);
    });
}

/// The committer commits one batch at the most and ends as after a panic. A connection is told the
/// truth where it is told `true`.
#[test]
fn the_committers_end_is_told_to_all_that_wait() {
    model(3, || {
        let Channels { journal, gathered, returns, mut shards } = Channels::new(1);
        let committer = thread::spawn(move || {
            journal.committer.attach();
            let mut committed = false;
            if let Ok(mut batch) = gathered.try_recv() {
                committed = true;
                batch.is_committed = true;
                returns.first().unwrap().give_back(batch);
            }
            returns.into_iter().for_each(BatchReturn::end);
            drop(gathered);
            committed
        });
        let intake = shards.pop().unwrap()();
        let first = submit(&intake, 1);
        intake.work(drop);
        let second = submit(&intake, 2);
        let told = wait_for(&intake, vec![first, second]);
        let committed = committer.join().unwrap();
        assert_eq!(told, [committed, false]);
    });
}

/// Whichever thread is asked, and finds that it is another's turn: nothing stays behind.
#[test]
fn a_worker_commits_in_the_committers_place() {
    for leaves in [false, true] {
        model(2, move || {
            let Channels { journal, gathered, returns, mut shards } = Channels::new(1);
            let turns = Arc::new(Committer::turns(gathered, returns));
            let is_stopping = Arc::new(AtomicBool::new(false));
            let worker = {
                let (journal, turns) = (Arc::clone(&journal), Arc::clone(&turns));
                let is_stopping = Arc::clone(&is_stopping);
                thread::spawn(move || work_once(&journal, &turns, &is_stopping, leaves))
            };
            let committer = {
                let journal = Arc::clone(&journal);
                thread::spawn(move || commit_with(&journal, &turns))
            };
            let intake = shards.pop().unwrap()();
            let first = submit(&intake, 1);
            assert_eq!(wait_for(&intake, vec![first]), [true]);
            intake.close();
            is_stopping.store(true, Release);
            journal.worker.wake_now();
            worker.join().unwrap();
            assert_eq!(committer.join().unwrap(), [1]);
        });
    }
}

/// One shard's batch is being committed while that of the other comes.
#[test]
fn two_shards_find_a_worker_or_the_committer() {
    model(1, || {
        let Channels { journal, gathered, returns, mut shards } = Channels::new(2);
        let turns = Arc::new(Committer::turns(gathered, returns));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let worker = {
            let (journal, turns) = (Arc::clone(&journal), Arc::clone(&turns));
            let is_stopping = Arc::clone(&is_stopping);
            thread::spawn(move || work_once(&journal, &turns, &is_stopping, false))
        };
        let committer = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || commit_with(&journal, &turns))
        };
        // Both shards are on this thread, which costs loom less.
        let (mine, other) = (shards.pop().unwrap()(), shards.pop().unwrap()());
        let (one, two) = (submit(&mine, 1), submit(&other, 2));
        other.work(drop);
        assert_eq!(wait_for(&mine, vec![one]), [true]);
        assert_eq!(wait_for(&other, vec![two]), [true]);
        mine.close();
        other.close();
        is_stopping.store(true, Release);
        journal.worker.wake_now();
        worker.join().unwrap();
        let mut committed = committer.join().unwrap();
        committed.sort_unstable();
        assert_eq!(committed, [1, 2]);
    });
}
