//! The journal under all threads at once: everything as small as it may be, handlers that ask for
//! retries, fail and panic, senders that never rest, and one server after the other on the same
//! files in one process.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use ringhook::{Ack, FeedError, Journal, Limits, Outcome, Update};
use rustls::ClientConfig;

use crate::support::{
    TestServer,
    client::{self, Client},
    long, request,
    valve::chat,
    wait_until,
};

/// Senders, and chats of each.
const CLIENTS: i64 = 6;
const CHATS: i64 = 8;
/// The chat of what is fed in, and one whose handler is slow.
const FED: i64 = 1000;
const SLOW: i64 = 3;
/// Ids of one chat follow each other.
const IDS: i64 = 1 << 20;

/// What the handlers of all lives have done.
#[derive(Default)]
struct Ledger {
    calls: HashMap<i64, u32>,
    /// By chat: the ids whose handler was called, in that order.
    begun: BTreeMap<i64, Vec<i64>>,
    /// By chat: the ids that were settled: done, failed or panicked over.
    settled: BTreeMap<i64, Vec<i64>>,
}

type Shared = Arc<Mutex<Ledger>>;

fn handle(ledger: &Shared, update: &Update) -> Outcome {
    let (chat, id) = (chat(update), update.id().get());
    let mut all = ledger.lock().unwrap();
    let calls = all.calls.entry(id).or_default();
    *calls += 1;
    let is_first = *calls == 1;
    all.begun.entry(chat).or_default().push(id);
    if is_first && id % 13 == 5 {
        return Outcome::Retry(Duration::from_millis(id as u64 % 4));
    }
    drop(all);
    // Handlers are as slow as this.
    if chat == SLOW {
        thread::sleep(Duration::from_millis(4));
    } else if id % 7 == 0 {
        thread::sleep(Duration::from_micros(300));
    }
    ledger.lock().unwrap().settled.entry(chat).or_default().push(id);
    match id % 97 {
        1 => Outcome::Failed("as it was told".into()),
        // Without a message: the panic itself is what is wanted.
        2 => std::panic::resume_unwind(Box::new(())),
        _ => Outcome::Done,
    }
}

/// Where senders find the server of the moment.
type Address = Arc<Mutex<Option<(SocketAddr, Arc<ClientConfig>)>>>;

/// Sends the updates of some chats, several at once but of each chat one after the other, each
/// until it gets a 200; how many got one, by chat.
fn send(first_chat: i64, address: &Address, is_over: &AtomicBool, refused: &AtomicU64) -> Vec<i64> {
    let mut taken = vec![0; CHATS as usize];
    'connections: while !is_over.load(SeqCst) {
        // Between two runs no server listens, and the sender has to retry.
        let Some((addr, config)) = address.lock().unwrap().clone() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let Ok(mut client) = Client::try_connect(addr, config) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        while !is_over.load(SeqCst) {
            let mut requests = Vec::new();
            for (chat, next) in (first_chat..).zip(&taken) {
                let id = chat * IDS + next;
                requests.extend(request(&long(chat, id, 300 + (id % 11) as usize * 400)));
            }
            if client.stream.write_all(&requests).and_then(|()| client.stream.flush()).is_err() {
                continue 'connections;
            }
            let mut pause = false;
            for next in &mut taken {
                match status(&mut client) {
                    Some(200) => *next += 1,
                    Some(503) => {
                        refused.fetch_add(1, SeqCst);
                        pause = true;
                    }
                    Some(other) => panic!("status {other}"),
                    None => continue 'connections,
                }
            }
            // As it was asked to.
            if pause {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
    taken
}

/// The status of the next answer, all of which have no body; `None` where the connection ends.
fn status(client: &mut Client) -> Option<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    std::str::from_utf8(&head).unwrap()[9..12].parse().ok()
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Drained,
    Hurried,
    Timed(u64),
}

#[test]
fn nothing_is_lost_doubled_or_overtaken_whatever_the_threads_do() {
    let start = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let (ledger, address) = (Shared::default(), Address::default());
    let (is_over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (address, is_over, refused) = (address.clone(), is_over.clone(), refused.clone());
            thread::spawn(move || send(client * CHATS, &address, &is_over, &refused))
        })
        .collect();
    let open = |ack, drain_timeout| {
        let ledger = ledger.clone();
        let mut journal = Journal::at(dir.path().join("journal"), ack);
        journal.segment_bytes = 1 << 20;
        journal.max_bytes = 3 << 20;
        journal.sync_interval = Duration::from_millis(5);
        let mut limits = Limits::default();
        limits.queue_updates = 64;
        limits.chat_updates = 4;
        TestServer::try_with(|server| {
            let server = server.shards(2).workers(2).limits(limits).journal(journal);
            server
                .drain_timeout(drain_timeout)
                .handler(move |update: &Update| handle(&ledger, update))
        })
    };
    let ends = [
        End::Timed(0),
        End::Drained,
        End::Timed(0),
        End::Timed(30),
        End::Hurried,
        End::Timed(0),
        End::Drained,
    ];
    let (mut fed, mut left, mut segments, mut was_hurried) = (0, 0, 0, false);
    for (life, end) in ends.into_iter().enumerate() {
        let ack = if life % 3 == 2 { Ack::Synced } else { Ack::Written };
        let drain_timeout = match end {
            End::Timed(ms) => Duration::from_millis(ms),
            End::Drained | End::Hurried => Duration::from_secs(60),
        };
        let mut server = open(ack, drain_timeout);
        if was_hurried {
            // Such a stop does not wait long for the last sync, until which the directory is
            // locked.
            wait_until("the directory is free", || {
                if server.is_err() {
                    server = open(ack, drain_timeout);
                }
                server.is_ok()
            });
        }
        let server = server.unwrap_or_else(|error| panic!("life {life}: {error}"));
        let config = client::config(&server.pki, rustls::ALL_VERSIONS);
        *address.lock().unwrap() = Some((server.handle.local_addr().unwrap(), config));
        let until = Instant::now() + Duration::from_millis(600 + 150 * (life as u64 % 3));
        while Instant::now() < until {
            match server.handle.feed("test", long(FED, FED * IDS + fed, 700).as_bytes()) {
                Ok(()) => fed += 1,
                Err(FeedError::Full) => {}
                Err(error) => panic!("life {life}: {error}"),
            }
            // The pace of what is fed in.
            thread::sleep(Duration::from_millis(1));
        }
        *address.lock().unwrap() = None;
        was_hurried = matches!(end, End::Hurried);
        if was_hurried {
            server.handle.shutdown_handle().force();
        }
        let (report, _) = server.stop();
        let journal = report.journal.expect("a journal");
        let failures: u64 = journal.failures.values().sum();
        assert_eq!((failures, journal.corrupt_records), (0, 0), "life {life}: {journal:?}");
        left += journal.left_records;
        segments = journal.segments.max(segments);
    }
    is_over.store(true, SeqCst);
    let taken: Vec<i64> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();

    // What is left is handled while no client sends.
    let server = open(Ack::Written, Duration::from_secs(60)).expect("the last life");
    wait_until("all is settled", || {
        server.handle.report().journal.is_some_and(|journal| journal.lag_records == 0)
    });
    let (report, _) = server.stop();
    assert_eq!(report.journal.expect("a journal").lag_records, 0);

    let ledger = ledger.lock().unwrap();
    let total: i64 = taken.iter().sum();
    eprintln!(
        "{total} sent and {fed} fed in {:?}, {left} left in the journal, {} refused, {segments} \
         segments",
        start.elapsed(),
        refused.load(SeqCst)
    );
    for (chat, ids) in &ledger.begun {
        assert!(ids.is_sorted(), "chat {chat} was not in order: {:?}", break_of(ids));
    }
    for (chat, taken) in (0..).zip(taken).chain([(FED, fed)]) {
        let ids = ledger.settled.get(&chat).cloned().unwrap_or_default();
        let first = chat * IDS;
        // The last one may have been taken without the sender being told.
        let expected: Vec<_> = (first..first + taken.max(ids.len() as i64)).collect();
        assert!(
            ids == expected,
            "chat {chat}: {taken} taken, {:?} and {} in all",
            break_of(&ids),
            ids.len()
        );
        assert!(ids.len() as i64 <= taken + 1, "chat {chat}: {} of {taken}", ids.len());
    }
}

/// The place where ids do not follow each other.
fn break_of(ids: &[i64]) -> Option<&[i64]> {
    ids.windows(2).find(|pair| pair[0] + 1 != pair[1])
}
