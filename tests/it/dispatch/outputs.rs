//! Several outputs: each gets what is routed to it, whatever the others do.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use ringhook::{
    Ack, Bot, Dispatch, Error, Journal, Limits, Output, OutputRouter, OutputSet, Refused, Server,
    Sink, SinkWriter, Update,
};

use crate::support::{update_of, valve::chat, wait_until};

/// What an output does with a batch.
#[derive(Clone, Copy)]
enum Mode {
    Take,
    /// Takes nothing now.
    Fail,
    /// Takes none of it, ever.
    Refuse,
    /// Its reader is gone.
    Gone,
}

/// An output whose mode can be changed, and what it has taken: chat and id.
#[derive(Clone, Default)]
struct Place {
    batch: Vec<(i64, i64)>,
    mode: Arc<AtomicU8>,
    refused: Arc<Mutex<HashSet<i64>>>,
    taken: Arc<Mutex<Vec<(i64, i64)>>>,
}

impl Place {
    fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    fn taken(&self) -> Vec<(i64, i64)> {
        self.taken.lock().unwrap().clone()
    }

    /// The ids of a chat in the order of their first arrival.
    fn of(&self, chat: i64) -> Vec<i64> {
        let mut seen = HashSet::new();
        let taken = self.taken().into_iter().filter(|(of, _)| *of == chat).map(|(_, id)| id);
        taken.filter(|id| seen.insert(*id)).collect()
    }
}

impl Sink for Place {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(Self { batch: Vec::new(), ..self.clone() }))
    }
}

impl SinkWriter for Place {
    fn write(&mut self, update: &Update) {
        self.batch.push((chat(update), update.id().get()));
    }

    fn pending_bytes(&self) -> usize {
        self.batch.len()
    }

    fn commit(&mut self, refused: &mut Refused) -> io::Result<()> {
        match self.mode.load(Ordering::SeqCst) {
            mode if mode == Mode::Fail as u8 => return Err(io::ErrorKind::TimedOut.into()),
            mode if mode == Mode::Gone as u8 => return Err(io::ErrorKind::BrokenPipe.into()),
            mode if mode == Mode::Refuse as u8 => {
                for (index, (_, id)) in self.batch.iter().enumerate() {
                    refused.push(index, "never");
                    self.refused.lock().unwrap().insert(*id);
                }
            }
            _ => self.taken.lock().unwrap().extend(&self.batch),
        }
        self.batch.clear();
        Ok(())
    }
}

/// Sends an update to the outputs whose bits are set in its id.
struct ById;

impl OutputRouter for ById {
    fn outputs(&self, update: &Update) -> OutputSet {
        let id = update.id().get();
        (0..3).filter(|output| id >> output & 1 == 1).fold(OutputSet::NONE, OutputSet::with)
    }
}

fn is_for(output: usize, id: i64) -> bool {
    id >> output & 1 == 1
}

/// A server with `places` and the journal in `dir`, or without one.
fn start(places: &[Place], dir: Option<&Path>, limits: Limits) -> Server {
    let mut server = Server::builder()
        .without_listeners()
        .bot(Bot::without_secret("test", "/webhook"))
        .workers(2)
        .limits(limits)
        .drain_timeout(Duration::from_millis(100))
        .dispatch(Dispatch::default())
        .router(Arc::new(ById));
    for (index, place) in places.iter().enumerate() {
        server = server.output(Output::sink(&format!("place-{index}"), place.clone()).workers(2));
    }
    if let Some(dir) = dir {
        server = server.journal(Journal::at(dir, Ack::Written));
    }
    server.start().unwrap()
}

fn deliver(server: &Server, ids: impl Iterator<Item = i64>) {
    for id in ids {
        assert_eq!(server.deliver("test", &[update_of(id % 5, id)]), Ok(1), "{id}");
    }
}

fn lag(server: &Server) -> u64 {
    server.report().journal.unwrap().lag_records
}

fn few(updates: usize) -> Limits {
    let mut limits = Limits::default();
    (limits.queue_updates, limits.chat_updates) = (updates, updates);
    limits
}

/// What a place has of `ids`, by chat, is all that is for it, in order.
#[track_caller]
fn assert_has(places: &[Place], ids: std::ops::Range<i64>) {
    for (output, place) in places.iter().enumerate() {
        for chat in 0..5 {
            let expected: Vec<_> =
                ids.clone().filter(|id| id % 5 == chat && is_for(output, *id)).collect();
            let refused = place.refused.lock().unwrap();
            let expected: Vec<_> =
                expected.into_iter().filter(|id| !refused.contains(id)).collect();
            let has: Vec<_> =
                place.of(chat).into_iter().filter(|id| !refused.contains(id)).collect();
            assert_eq!(has, expected, "output {output}, chat {chat}");
        }
    }
}

#[test]
fn an_output_that_takes_nothing_holds_up_no_other_and_gets_all_of_it_later() {
    let dir = tempfile::tempdir().unwrap();
    let places = <[Place; 3]>::default();
    places[1].set(Mode::Fail);
    // Far more than the queue of the one that takes nothing.
    let server = start(&places, Some(dir.path()), few(50));
    deliver(&server, 0..1000);
    let expected = |output| (0..1000).filter(|id| is_for(output, *id)).count();
    for output in [0, 2] {
        wait_until("the others have all of theirs", || {
            places[output].taken().len() == expected(output)
        });
    }
    assert_eq!(places[1].taken(), []);
    wait_until("all but what the one has not taken is settled", || {
        lag(&server) == expected(1) as u64
    });
    let down = || server.outputs().map(|output| output.down().is_some()).collect::<Vec<_>>();
    assert_eq!(down(), [false, true, false]);
    let told = server.report().outputs;
    assert_eq!((told[1].name.as_str(), told[1].handled), ("place-1", 0));
    assert!(told[1].down.as_ref().unwrap().starts_with("output place-1: down since "));
    assert_eq!((told[2].handled, told[2].down.as_ref()), (expected(2) as u64, None));
    places[1].set(Mode::Take);
    wait_until("all is settled", || lag(&server) == 0);
    assert_eq!(down(), [false; 3]);
    assert_has(&places, 0..1000);
    assert!(places.iter().zip(0..).all(|(place, output)| place.taken().len() == expected(output)));
    let report = server.stop();
    assert_eq!(report.updates_dropped, 125, "of no output");
    let multiplied: usize = (0..3).map(expected).sum::<usize>() - 875;
    assert_eq!(report.updates_multiplied, multiplied as u64);
    assert_eq!(report.updates_handled, (875 + multiplied) as u64);
}

#[test]
fn an_output_whose_reader_is_gone_is_down_and_the_server_has_not_failed() {
    let places = <[Place; 3]>::default();
    places[1].set(Mode::Gone);
    let server = start(&places, None, few(50));
    deliver(&server, 0..40);
    wait_until("it is down", || server.outputs().any(|output| output.down().is_some()));
    assert!(server.is_healthy());
    // A stop lets the others have what is theirs.
    let report = server.stop();
    let expected = |output| (0..40).filter(|id| is_for(output, *id)).count();
    assert_eq!([0, 2].map(|output| places[output].taken().len()), [0, 2].map(expected));
    assert_eq!(report.updates_abandoned, expected(1) as u64);
}

#[test]
fn without_a_journal_only_what_the_full_output_would_get_is_refused() {
    let places = <[Place; 3]>::default();
    places[1].set(Mode::Fail);
    let server = start(&places, None, few(20));
    let mut taken = Vec::new();
    for id in 0..400 {
        let outcome = server.deliver("test", &[update_of(id % 5, id)]);
        if outcome.is_ok() {
            taken.push(id);
        } else {
            assert!(is_for(1, id), "{id}: {outcome:?}");
        }
        // The others take what is theirs at once, also of what the full one refuses.
        for output in [0, 2] {
            let theirs = (0..=id).filter(|id| is_for(output, *id)).count();
            wait_until("they have it", || places[output].taken().len() == theirs);
        }
    }
    assert!((0..400).filter(|id| !is_for(1, *id)).all(|id| taken.contains(&id)));
    assert!(taken.iter().filter(|id| is_for(1, **id)).count() <= 20);
    places[1].set(Mode::Take);
    wait_until("it has what was taken", || {
        taken.iter().filter(|id| is_for(1, **id)).all(|id| places[1].of(id % 5).contains(id))
    });
    let report = server.stop();
    assert_eq!(report.updates_abandoned, 0);
}

/// What happens in a run of the model.
#[derive(Clone, Debug)]
enum Happening {
    Deliver(u8),
    Mode(usize, u8),
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1..80_u8).prop_map(Happening::Deliver),
        3 => (0..3_usize, 0..3_u8).prop_map(|(output, mode)| Happening::Mode(output, mode)),
        1 => Just(Happening::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Each update reaches every output of its route, or is refused by it, and each chat keeps its
    /// order in each output; nothing comes twice, whatever others have not taken at a restart.
    #[test]
    fn every_output_gets_what_is_routed_to_it_in_order_over_restarts(
        happenings in prop::collection::vec(happening(), 1..14),
        room in 5..200_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let places = <[Place; 3]>::default();
        let mut server = start(&places, Some(dir.path()), few(room));
        let mut next = 0;
        for happening in happenings {
            match happening {
                Happening::Deliver(count) => {
                    deliver(&server, next..next + i64::from(count));
                    next += i64::from(count);
                }
                Happening::Mode(output, mode) => {
                    places[output].set([Mode::Take, Mode::Fail, Mode::Refuse][mode as usize]);
                }
                Happening::Restart => {
                    server.stop();
                    server = start(&places, Some(dir.path()), few(room));
                }
            }
        }
        places.iter().for_each(|place| place.set(Mode::Take));
        wait_until("all is settled", || lag(&server) == 0);
        assert_has(&places, 0..next);
        let mut times: BTreeMap<(usize, i64), usize> = BTreeMap::new();
        for (output, place) in places.iter().enumerate() {
            for (_, id) in place.taken() {
                prop_assert!(is_for(output, id));
                *times.entry((output, id)).or_default() += 1;
            }
        }
        prop_assert!(times.values().all(|times| *times == 1), "{times:?}");
        server.stop();
    }
}
