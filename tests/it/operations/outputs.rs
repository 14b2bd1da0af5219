//! Outputs that are added to a running server, get another destination and are taken out.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use futures_util::StreamExt as _;
use proptest::prelude::*;
use ringhook::{
    Ack, Bot, Error, ErrorKind, Journal, Limits, Outcome, Output, OutputRouter, OutputSet, Refused,
    Server, Sink, SinkWriter, Update,
};

use crate::support::{
    update_of,
    valve::{Valve, chat},
    wait_until,
};

/// What an output has taken, whatever its destination was: chat and id.
type Taken = Arc<Mutex<Vec<(i64, i64)>>>;

/// Leads all updates to the outputs that are set, and remembers what went where.
#[derive(Default)]
struct Live {
    outputs: AtomicU64,
    routed: Mutex<HashMap<i64, OutputSet>>,
}

impl Live {
    fn set(&self, numbers: impl IntoIterator<Item = usize>) {
        self.outputs.store(numbers.into_iter().fold(0, |bits, number| bits | 1 << number), SeqCst);
    }
}

impl OutputRouter for Live {
    fn outputs(&self, update: &Update) -> OutputSet {
        let mut routed = self.routed.lock().unwrap();
        let bits = self.outputs.load(SeqCst);
        let outputs = (0..OutputSet::MAX).filter(|number| bits >> number & 1 == 1).collect();
        routed.insert(update.id().get(), outputs);
        outputs
    }
}

/// A sink that may take nothing.
#[derive(Clone)]
struct Place {
    batch: Vec<(i64, i64)>,
    is_down: Arc<AtomicBool>,
    taken: Taken,
}

impl Sink for Place {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl SinkWriter for Place {
    fn write(&mut self, update: &Update) {
        self.batch.push((chat(update), update.id().get()));
    }

    fn pending_bytes(&self) -> usize {
        self.batch.len()
    }

    fn commit(&mut self, _: &mut Refused) -> io::Result<()> {
        if self.is_down.load(SeqCst) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.taken.lock().unwrap().append(&mut self.batch);
        Ok(())
    }
}

/// The output `name` by another destination each time, which `taken` is the same for.
fn output(name: &str, kind: u8, taken: &Taken, is_down: &Arc<AtomicBool>) -> Output {
    let taken = Arc::clone(taken);
    let output = match kind % 3 {
        0 => {
            let is_down = Arc::clone(is_down);
            Output::sink(name, Place { batch: Vec::new(), is_down, taken })
        }
        1 => Output::handler(name, move |update: &Update| {
            taken.lock().unwrap().push((chat(update), update.id().get()));
            Outcome::Done
        }),
        _ => {
            let (output, mut updates) = Output::stream(name, 8);
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    while let Some(update) = updates.next().await {
                        taken.lock().unwrap().push((chat(&update), update.id().get()));
                        update.done();
                    }
                });
            });
            output
        }
    };
    output.workers(2)
}

fn start(outputs: Vec<Output>, router: &Arc<Live>, dir: Option<&Path>, limits: Limits) -> Server {
    let mut server = Server::builder()
        .without_listeners()
        .bot(Bot::without_secret("test", "/webhook"))
        .limits(limits)
        .router(Arc::<Live>::clone(router));
    if let Some(dir) = dir {
        server = server.journal(Journal::at(dir, Ack::Written));
    }
    outputs.into_iter().fold(server, |server, output| server.output(output)).start().unwrap()
}

fn names(server: &Server) -> Vec<String> {
    server.outputs().map(|output| output.name().to_owned()).collect()
}

/// What happens while updates come.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// An output gets another destination.
    Replace(usize, u8),
    /// An output is taken out, or added where it is not there.
    Toggle(usize, u8),
    /// The sinks of an output take nothing, or do again.
    Down(usize, bool),
    /// So many updates go by.
    Wait(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (0..3_usize, 0..3_u8).prop_map(|(output, kind)| Happening::Replace(output, kind)),
        3 => (0..3_usize, 0..3_u8).prop_map(|(output, kind)| Happening::Toggle(output, kind)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(output, down)| Happening::Down(output, down)),
        3 => (1..60_u8).prop_map(Happening::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Nothing is lost and nothing comes twice: each output has each update that was led to it, in
    /// the order of its chat, whatever its destination was when the update came.
    #[test]
    fn changes_under_load_lose_nothing_and_keep_the_order_of_each_chat(
        happenings in prop::collection::vec(happening(), 1..16),
        has_journal in any::<bool>(),
    ) {
        const NAMES: [&str; 3] = ["a", "b", "c"];
        const MOST: i64 = 3000;
        let dir = tempfile::tempdir().unwrap();
        let taken = <[Taken; 3]>::default();
        let down = <[Arc<AtomicBool>; 3]>::default();
        let router = Arc::<Live>::default();
        router.set([0]);
        // What waits is in the journal, or there is room for it.
        let mut limits = Limits::default();
        (limits.queue_updates, limits.chat_updates) =
            if has_journal { (60, 20) } else { (10_000, 10_000) };
        let first = output(NAMES[0], 0, &taken[0], &down[0]);
        let dir = has_journal.then(|| dir.path());
        let server = Arc::new(start(vec![first], &router, dir, limits));
        let (next, is_over) = (Arc::<AtomicI64>::default(), Arc::<AtomicBool>::default());
        let sender = thread::spawn({
            let (server, next, is_over) = (Arc::clone(&server), Arc::clone(&next), Arc::clone(&is_over));
            move || while !is_over.load(SeqCst) && next.load(SeqCst) < MOST {
                let id = next.load(SeqCst);
                assert_eq!(server.deliver("test", &[update_of(id % 7, id)]), Ok(1));
                next.store(id + 1, SeqCst);
            }
        });
        // Of each number its output; of each output its number, while it is there.
        let mut owners = vec![0];
        let mut numbers = [Some(0), None, None];
        let mut change = |numbers: &mut [Option<usize>; 3], index: usize, kind| {
            let output = output(NAMES[index], kind, &taken[index], &down[index]);
            let prepared = server.prepare_outputs(vec![output]).unwrap();
            let number = prepared.numbers()[0];
            if number == owners.len() {
                owners.push(index);
            }
            assert_eq!(owners[number], index);
            numbers[index] = Some(number);
            router.set(numbers.iter().flatten().copied());
            prepared.apply();
        };
        for happening in happenings {
            match happening {
                Happening::Replace(index, kind) if numbers[index].is_some() => {
                    change(&mut numbers, index, kind);
                }
                Happening::Toggle(index, kind) if numbers[index].is_none() => {
                    change(&mut numbers, index, kind);
                }
                Happening::Toggle(index, _) => {
                    numbers[index] = None;
                    router.set(numbers.iter().flatten().copied());
                    prop_assert!(server.retire_output(NAMES[index]));
                }
                Happening::Down(index, is_down) => down[index].store(is_down, SeqCst),
                Happening::Replace(..) => {}
                Happening::Wait(updates) => {
                    let until = next.load(SeqCst) + i64::from(updates);
                    wait_until("updates go by", || next.load(SeqCst) >= until.min(MOST));
                }
            }
        }
        is_over.store(true, SeqCst);
        sender.join().unwrap();
        down.iter().for_each(|down| down.store(false, SeqCst));
        let all = next.load(SeqCst);
        let server = Arc::into_inner(server).unwrap();
        wait_until("all are led on", || router.routed.lock().unwrap().len() as i64 == all);
        let expected = |index: usize| {
            let routed = router.routed.lock().unwrap();
            let is_for = |outputs: &OutputSet| outputs.iter().any(|number| owners[number] == index);
            let mut ids: Vec<_> =
                routed.iter().filter(|(_, outputs)| is_for(outputs)).map(|(id, _)| *id).collect();
            ids.sort_unstable();
            ids
        };
        for (index, taken) in taken.iter().enumerate() {
            let expected = expected(index);
            wait_until("the output has all of its own", || {
                taken.lock().unwrap().len() >= expected.len()
            });
            let taken = taken.lock().unwrap().clone();
            for chat in 0..7 {
                let ids = taken.iter().filter(|(of, _)| *of == chat).map(|(_, id)| *id);
                let of_chat = expected.iter().copied().filter(|id| id % 7 == chat);
                prop_assert_eq!(ids.collect::<Vec<_>>(), of_chat.collect::<Vec<_>>());
            }
        }
        let in_force: Vec<_> = numbers.iter().flatten().copied().collect();
        wait_until("those that were taken out end", || server.outputs().count() == in_force.len());
        if let Some(journal) = server.report().journal {
            prop_assert_eq!(journal.lag_records, 0);
        }
        let report = server.stop();
        prop_assert_eq!((report.updates_abandoned, report.updates_failed), (0, 0));
    }
}

/// A handler that holds its updates until `valve` lets them pass.
fn held(name: &str, valve: &Valve, taken: &Taken) -> Output {
    let (valve, taken) = (valve.clone(), Arc::clone(taken));
    let handle = move |update: &Update| {
        valve.pass();
        taken.lock().unwrap().push((chat(update), update.id().get()));
        Outcome::Done
    };
    Output::handler(name, handle).workers(1)
}

#[test]
fn what_an_output_that_is_taken_out_has_is_delivered_to_it_and_told_of_until_then() {
    for has_journal in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (valve, router) = (Valve::default(), Arc::<Live>::default());
        let [old, new] = <[Taken; 2]>::default();
        let mut limits = Limits::default();
        (limits.queue_updates, limits.chat_updates) = (50, 50);
        let dir = has_journal.then(|| dir.path());
        router.set([0]);
        let server = start(vec![held("old", &valve, &old)], &router, dir, limits);
        let deliver = |ids: std::ops::Range<i64>| {
            ids.for_each(|id| assert_eq!(server.deliver("test", &[update_of(id % 5, id)]), Ok(1)));
        };
        deliver(0..40);
        wait_until("all are led on", || router.routed.lock().unwrap().len() == 40);
        let open = Valve::default();
        open.open();
        let prepared = server.prepare_outputs(vec![held("new", &open, &new)]).unwrap();
        assert_eq!(prepared.numbers(), [1]);
        router.set([1]);
        prepared.apply();
        assert!(server.retire_output("old"));
        assert!(!server.retire_output("old"), "twice");
        deliver(40..90);
        wait_until("the new one has all of its own", || new.lock().unwrap().len() == 50);
        assert_eq!(old.lock().unwrap().len(), 0);
        let told = || server.outputs().map(|output| output.to_string()).collect::<Vec<_>>();
        wait_until("it is told", || told()[0] == "output old: removed, 40 update(s) left");
        let report = server.report();
        assert_eq!(
            report.outputs[0].down.as_deref(),
            Some("output old: removed, 40 update(s) left")
        );
        valve.open();
        wait_until("it ends", || names(&server) == ["new"]);
        assert_eq!(old.lock().unwrap().len(), 40);
        // Another one under its name has another number.
        let prepared = server.prepare_outputs(vec![held("old", &open, &old)]).unwrap();
        assert_eq!(prepared.numbers(), [2]);
        drop(prepared);
        wait_until("it is not there", || names(&server) == ["new"]);
        let report = server.stop();
        assert_eq!((report.updates_handled, report.updates_abandoned), (90, 0));
    }
}

#[test]
fn one_that_is_still_there_is_taken_back_with_what_it_has() {
    let (valve, router) = (Valve::default(), Arc::<Live>::default());
    let taken = Taken::default();
    router.set([0]);
    let other = held("other", &valve, &Taken::default());
    let server = start(vec![other, held("it", &valve, &taken)], &router, None, Limits::default());
    router.set([1]);
    for id in 0..10 {
        assert_eq!(server.deliver("test", &[update_of(1, id)]), Ok(1));
    }
    router.set([0]);
    assert!(server.retire_output("it"));
    let open = Valve::default();
    open.open();
    let prepared = server.prepare_outputs(vec![held("it", &open, &taken)]).unwrap();
    assert_eq!(prepared.numbers(), [1]);
    router.set([1]);
    prepared.apply();
    assert_eq!(server.deliver("test", &[update_of(1, 10)]), Ok(1));
    // The one that is under way ends where it began; the others go by the new handler.
    assert!(taken.lock().unwrap().is_empty());
    valve.admit(1);
    wait_until("all are handled", || taken.lock().unwrap().len() == 11);
    assert_eq!(*taken.lock().unwrap(), (0..11).map(|id| (1, id)).collect::<Vec<_>>());
    assert!(server.outputs().all(|output| output.removed().is_none()));
    valve.open();
    server.stop();
}

/// A sink that cannot be opened.
struct Closed;

impl Sink for Closed {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Err(Error::new(ErrorKind::Sink, "closed"))
    }
}

#[test]
fn all_of_a_change_is_made_or_none_of_it() {
    let (open, router, taken) = (Valve::default(), Arc::<Live>::default(), Taken::default());
    open.open();
    router.set([0]);
    let server = start(vec![held("a", &open, &taken)], &router, None, Limits::default());
    let refused = |outputs: Vec<Output>| server.prepare_outputs(outputs).err().unwrap().to_string();
    let added = || held("b", &open, &taken);
    let another = || Output::handler("a", |_: &Update| Outcome::Failed("not this one".into()));
    assert!(refused(vec![another(), added(), Output::sink("c", Closed)]).contains("closed"));
    assert!(refused(vec![another(), Output::sink("a", Closed)]).contains("a name of its own"));
    assert!(refused(vec![another(), Output::sink("a", Closed)]).contains("output.name"));
    assert!(refused(vec![added().workers(0)]).contains("output.workers"));
    let many = (0..64).map(|number| held(&number.to_string(), &open, &taken)).collect();
    assert!(refused(many).contains("no more than 64 outputs since the start"));
    // Prepared, and not applied.
    drop(server.prepare_outputs(vec![another(), added()]).unwrap());
    wait_until("the others are gone", || names(&server) == ["a"]);
    assert_eq!(server.deliver("test", &[update_of(1, 1)]), Ok(1));
    wait_until("it is as it was", || taken.lock().unwrap().len() == 1);
    assert!(!server.retire_output("b"));
    let report = server.stop();
    assert_eq!((report.updates_handled, report.updates_failed), (1, 0));
}

/// What a restart finds of an output that was taken out goes where the routes of then lead.
#[test]
fn a_restart_loses_nothing_that_waited_for_an_output_that_was_taken_out() {
    let dir = tempfile::tempdir().unwrap();
    let (router, down) = (Arc::<Live>::default(), Arc::new(AtomicBool::new(true)));
    let [old, new] = <[Taken; 2]>::default();
    router.set([0]);
    let sink = |name: &str, down: &Arc<AtomicBool>, taken: &Taken| output(name, 0, taken, down);
    let mut limits = Limits::default();
    (limits.queue_updates, limits.chat_updates) = (30, 30);
    let server = start(vec![sink("old", &down, &old)], &router, Some(dir.path()), limits);
    let up = Arc::<AtomicBool>::default();
    let prepared = server.prepare_outputs(vec![sink("new", &up, &new)]).unwrap();
    router.set([0, 1]);
    prepared.apply();
    let deliver = |ids: std::ops::Range<i64>| {
        ids.for_each(|id| assert_eq!(server.deliver("test", &[update_of(id % 5, id)]), Ok(1)));
    };
    deliver(0..50);
    wait_until("one of them has all", || new.lock().unwrap().len() == 50);
    router.set([0]);
    deliver(50..100);
    wait_until("all are led on", || router.routed.lock().unwrap().len() == 100);
    router.set([1]);
    assert!(server.retire_output("old"));
    wait_until("it is told", || {
        let mut told = server.outputs().map(|output| output.to_string());
        told.any(|line| line.starts_with("output old: removed, 100 update(s) left"))
    });
    // As a crash leaves it: nothing is drained.
    server.shutdown_handle().force();
    server.stop();
    assert!(old.lock().unwrap().is_empty());
    router.set([0]);
    let server = start(vec![sink("new", &up, &new)], &router, Some(dir.path()), limits);
    wait_until("what only the other had got is here", || new.lock().unwrap().len() == 100);
    wait_until("all is settled", || server.report().journal.unwrap().lag_records == 0);
    let mut ids: Vec<_> = new.lock().unwrap().iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    server.stop();
}
