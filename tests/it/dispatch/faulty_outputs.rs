//! A model of outputs that refuse, fail, hang and forget: sinks, a handler and a stream, over
//! restarts.
//!
//! What hangs does so until the model releases it. A server that stops does not wait for it: what
//! is released after the end of its server may still reach the output, and comes again.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use futures_core::Stream as _;
use proptest::prelude::*;
use ringhook::{
    Ack, Bot, Dispatch, Error, Journal, Limits, Outcome, Output, OutputRouter, OutputSet, Refused,
    Server, Sink, SinkWriter, Update, Updates,
};

use crate::support::{update_of, valve::chat, wait_until};

const OUTPUTS: usize = 4;
const CHATS: i64 = 5;

/// What an output does with what comes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Mode {
    #[default]
    Take,
    /// Takes nothing now.
    Fail,
    /// Takes none of it, ever.
    Refuse,
    /// Does not return until the mode changes or the server has ended.
    Hang,
    /// Takes it, and does not say so.
    Forget,
}

const MODES: [Mode; 5] = [Mode::Take, Mode::Fail, Mode::Refuse, Mode::Hang, Mode::Forget];

/// What has become of updates.
enum Fate {
    Taken,
    NotNow,
    Never,
    Forgotten,
}

/// An output of all servers, one after the other.
#[derive(Clone, Default)]
struct Place(Arc<(Mutex<Known>, Condvar)>);

#[derive(Default)]
struct Known {
    mode: Mode,
    /// The number of the server that runs.
    life: usize,
    refused: HashSet<i64>,
    /// Chat and id, in the order in which they were taken.
    taken: Vec<(i64, i64)>,
}

impl Place {
    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn know<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.0.0.lock().unwrap())
    }

    /// Brings updates there by the server of `life`.
    fn meet(&self, updates: &[(i64, i64)], life: usize) -> Fate {
        let (known, changed) = &*self.0;
        let mut known = known.lock().unwrap();
        if known.life != life {
            return Fate::NotNow;
        }
        let hangs = |known: &mut Known| known.mode == Mode::Hang && known.life == life;
        known = changed.wait_while(known, hangs).unwrap();
        if known.life != life {
            // What was on its way arrives, and the server does not hear of it.
            known.taken.extend(updates);
            return Fate::NotNow;
        }
        match known.mode {
            Mode::Take => known.taken.extend(updates),
            Mode::Fail => return Fate::NotNow,
            Mode::Refuse => {
                known.refused.extend(updates.iter().map(|(_, id)| *id));
                return Fate::Never;
            }
            Mode::Hang | Mode::Forget => {
                known.taken.extend(updates);
                return Fate::Forgotten;
            }
        }
        Fate::Taken
    }

    /// The updates that it has nothing more to do with.
    fn settled(&self) -> HashSet<i64> {
        self.know(|known| {
            known.taken.iter().map(|(_, id)| *id).chain(known.refused.iter().copied()).collect()
        })
    }
}

/// A place as one server has it.
#[derive(Clone)]
struct Seat {
    place: Place,
    life: usize,
    batch: Vec<(i64, i64)>,
}

impl Seat {
    fn meet(&self, update: &Update) -> Fate {
        self.place.meet(&[(chat(update), update.id().get())], self.life)
    }

    /// Settles the updates of a stream, of which it holds as many as come while it hangs.
    fn consume(&self, mut updates: Updates) {
        let mut held = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut updates).poll_next(&mut context) {
                Poll::Ready(Some(pending)) => held.push(pending),
                Poll::Ready(None) => return,
                Poll::Pending if self.place.know(|known| known.mode == Mode::Hang) => {
                    thread::sleep(Duration::from_millis(1));
                }
                Poll::Pending => {
                    for pending in held.drain(..) {
                        match self.meet(&pending) {
                            Fate::Taken => pending.done(),
                            Fate::NotNow => pending.postpone(Duration::from_millis(1)),
                            Fate::Never => pending.failed("never"),
                            Fate::Forgotten => drop(pending),
                        }
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }
}

impl Sink for Seat {
    fn writer(&self) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl SinkWriter for Seat {
    fn write(&mut self, update: &Update) {
        self.batch.push((chat(update), update.id().get()));
    }

    fn pending_bytes(&self) -> usize {
        self.batch.len()
    }

    fn commit(&mut self, refused: &mut Refused) -> io::Result<()> {
        match self.place.meet(&self.batch, self.life) {
            Fate::Taken => {}
            Fate::NotNow | Fate::Forgotten => return Err(io::ErrorKind::TimedOut.into()),
            Fate::Never => (0..self.batch.len()).for_each(|index| refused.push(index, "never")),
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
        (0..OUTPUTS).filter(|output| is_for(*output, id)).fold(OutputSet::NONE, OutputSet::with)
    }
}

fn is_for(output: usize, id: i64) -> bool {
    id >> output & 1 == 1
}

/// The server of `life`, with two sinks, a handler and a stream.
fn start(places: &[Place; OUTPUTS], dir: &Path, room: usize, life: usize) -> Server {
    let mut limits = Limits::default();
    (limits.queue_updates, limits.chat_updates) = (room, room);
    let mut dispatch = Dispatch::default();
    dispatch.max_attempts = 1_000_000;
    let seats = places.clone().map(|place| {
        place.change(|known| known.life = life);
        Seat { place, life, batch: Vec::new() }
    });
    let [one, two, handler, stream] = seats;
    let handle = move |update: &Update| match handler.meet(update) {
        Fate::Taken => Outcome::Done,
        Fate::NotNow | Fate::Forgotten => Outcome::Retry(Duration::from_millis(1)),
        Fate::Never => Outcome::Failed("never".into()),
    };
    let (streamed, updates) = Output::stream("stream", room);
    thread::spawn(move || stream.consume(updates));
    let server = Server::builder()
        .without_listeners()
        .bot(Bot::without_secret("test", "/webhook"))
        .limits(limits)
        .drain_timeout(Duration::from_millis(100))
        .dispatch(dispatch)
        .router(Arc::new(ById))
        .journal(Journal::at(dir, Ack::Written))
        .output(Output::sink("one", one).workers(2))
        .output(Output::sink("two", two).workers(1))
        .output(Output::handler("handler", handle).workers(2))
        .output(streamed.workers(1));
    server.start().unwrap()
}

fn lag(server: &Server) -> usize {
    server.report().journal.unwrap().lag_records as usize
}

/// How many of the updates below `next` some output has still to take.
fn unsettled(places: &[Place; OUTPUTS], next: i64) -> usize {
    let settled = places.each_ref().map(Place::settled);
    let is_open = |id: &i64| {
        settled.iter().enumerate().any(|(output, has)| is_for(output, *id) && !has.contains(id))
    };
    (0..next).filter(is_open).count()
}

/// What happens in a run of the model.
#[derive(Clone, Debug)]
enum Happening {
    Deliver(u8),
    Mode(usize, Mode),
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    let mode = prop::sample::select(&MODES[..]);
    prop_oneof![
        4 => (1..80_u8).prop_map(Happening::Deliver),
        4 => (0..OUTPUTS, mode).prop_map(|(output, mode)| Happening::Mode(output, mode)),
        1 => Just(Happening::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Each update reaches every output of its route, or is refused by it, and each chat keeps its
    /// order in each output. At no time is an update settled that an output has still to take.
    #[test]
    fn what_hangs_and_forgets_gets_all_of_its_route_in_order_and_nothing_is_settled_before(
        happenings in prop::collection::vec(happening(), 1..16),
        room in 5..200_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let places = <[Place; OUTPUTS]>::default();
        let mut life = 0;
        let mut server = start(&places, dir.path(), room, life);
        let mut next = 0;
        for happening in happenings {
            match happening {
                Happening::Deliver(count) => {
                    for id in next..next + i64::from(count) {
                        let outcome = server.deliver("test", &[update_of(id % CHATS, id)]);
                        prop_assert_eq!(outcome, Ok(1), "{}", id);
                    }
                    next += i64::from(count);
                }
                Happening::Mode(output, mode) => places[output].change(|known| known.mode = mode),
                Happening::Restart => {
                    server.stop();
                    life += 1;
                    server = start(&places, dir.path(), room, life);
                }
            }
            // In this order: what is taken in between is at most too few for the assertion.
            let left = lag(&server);
            let open = unsettled(&places, next);
            prop_assert!(left >= open, "{open} are not taken, and only {left} not settled");
        }
        places.iter().for_each(|place| place.change(|known| known.mode = Mode::Take));
        wait_until("all is settled", || lag(&server) == 0);
        prop_assert_eq!(unsettled(&places, next), 0);
        for (output, place) in places.iter().enumerate() {
            place.know(|known| {
                let mut seen = HashSet::new();
                let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
                for (chat, id) in known.taken.iter().filter(|(_, id)| !known.refused.contains(id)) {
                    assert!(is_for(output, *id), "output {output} has {id}");
                    if seen.insert(*id)
                        && let Some(before) = newest.insert(*chat, *id)
                    {
                        assert!(before < *id, "output {output}: {id} comes after {before}");
                    }
                }
            });
        }
        server.stop();
    }
}
