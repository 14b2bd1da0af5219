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
};

use loom::{future::block_on, thread};

use self::{
    batch::{Batch, Staged},
    hand_over::{BatchReturn, CommitterThread, receive},
    intake::Intake,
};
use crate::{
    bots::BotKey,
    proto::update::Update,
    sync::{AtomicWaker, Receiver, Sender, bounded},
};

/// As much of the journal as the hand-over needs.
#[derive(Debug, Default)]
struct Journal(CommitterThread);

impl Journal {
    fn is_full(&self) -> bool {
        false
    }

    fn key_of(&self, bot: BotKey) -> BotKey {
        bot
    }

    fn wake_committer(&self) {
        self.0.wake();
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

/// The committer of a disk that takes everything; the ids in its order.
fn commit_all(journal: &Journal, gathered: &Receiver<Batch>, returns: &[BatchReturn]) -> Vec<u32> {
    let mut committed = Vec::new();
    journal.0.attach();
    receive(gathered, |batches| {
        for mut batch in batches.drain(..) {
            batch.is_committed = true;
            let updates = batch.entries.iter_mut().filter_map(|entry| entry.update.take());
            committed.extend(updates.map(|update| update.id()));
            returns.get(batch.batch_return).unwrap().give_back(batch);
        }
    });
    committed
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
        let committer = thread::spawn(move || commit_all(&journal, &gathered, &returns));
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
        let committer = thread::spawn(move || commit_all(&journal, &gathered, &returns));
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
        let committer = thread::spawn(move || commit_all(&journal, &gathered, &returns));
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
        let committer = thread::spawn(move || commit_all(&journal, &gathered, &returns));
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
            journal.0.attach();
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
