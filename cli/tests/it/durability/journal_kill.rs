//! The drill: a server that is killed in the middle of its work, again and again, loses nothing
//! that it has acknowledged, keeps every chat's order and doubles no more than was in its hands.
//!
//! Moments are drawn at random; a run prints its `RINGHOOK_TEST_SEED`, and takes the one that is
//! set.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use loadtest::Expected;

use crate::{
    binary::{process::Ended, sender::SMALL_SEGMENTS, service::Service},
    support::{
        self,
        chance::Chance,
        drill::{lines_of_a_life, under_load},
        long,
        sunk::{SinkFile, Sunk, Tap},
        update_of, wait_going_on,
    },
};

const KILLS: usize = 10;
/// Workers of each server, more than shards.
const WORKERS: usize = 3;
/// Several threads of each sort, whatever the machine has.
const THREADS: [&str; 4] = ["--shards", "2", "--workers", "3"];
/// Queues that are always full: nearly everything is left in the journal and read back, and many
/// chats have more waiting than they may.
const TIGHT: &str = "[limits]\nqueue_updates = 200\nchat_updates = 4\n";

/// What must be true of a server that has ended as it was told to.
#[track_caller]
fn assert_clean(ended: &Ended, service: &Service) {
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
    let report = service.report();
    let journal = &report["journal"];
    for (key, expected) in [("lag_records", 0), ("corrupt_records", 0), ("failed_batches", 0)] {
        assert_eq!(journal[key], expected, "{key}: {report:#}");
    }
    assert_eq!(report["updates_abandoned"], 0, "{report:#}");
}

/// Kills servers whose sink keeps pace: mostly in the middle of a commit.
fn drill(ack: &str) {
    const UPDATES: u64 = 20_000;
    let mut chance = Chance::new();
    let args = [&["--ack", ack, "--output", "ndjson:sunk"][..], &THREADS].concat();
    let service = Service::new(SMALL_SEGMENTS, &args);
    let mut file = SinkFile::at(&service.pki.dir().join("sunk"));
    let mut sunk = Sunk::default();
    let load = service.load(UPDATES);
    let first = service.start();
    let (sent, last) = under_load(&load, || {
        let mut server = first;
        for kill in 0..KILLS {
            let left = UPDATES - sunk.updates().len() as u64;
            let lines = lines_of_a_life(&mut chance, left, KILLS - kill);
            wait_going_on("so many lines are there", || {
                let there = file.lines();
                (there >= lines, there)
            });
            if chance.between(0, 3) == 0 {
                // An operator who stops a service does not always wait.
                server.signal("TERM");
            }
            server.kill();
            file.end_life(&mut sunk);
            server = service.start();
        }
        server
    });
    let ended = last.terminate();
    file.end_life(&mut sunk);
    let doubled = sunk.check(load.expected(), WORKERS);
    eprintln!("{ack}: came again after each kill {doubled:?}, lines torn {}", sunk.torn);
    eprintln!("{sent:?}");
    assert_clean(&ended, &service);
    assert!(sent.failed > 0, "no kill was noticed: {sent:?}");
    // All is settled, so the journal has shrunk again.
    let bytes = bytes_in(&service);
    assert!(bytes < 8 << 20, "{bytes} bytes are left in the journal");
}

/// Bytes that the journal takes on the disk.
fn bytes_in(service: &Service) -> u64 {
    let files = fs::read_dir(service.journal()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn ten_kills_lose_nothing_that_was_written() {
    drill("written");
}

#[test]
fn ten_kills_lose_nothing_that_was_synced() {
    drill("synced");
}

/// Most is acknowledged long before it is handled, so each server takes over thousands of updates
/// from the one before and ends with most of them.
#[test]
fn a_backlog_outlives_ten_kills_in_its_order() {
    drill_with_tight_queues(7000, Some(1000.0));
}

/// Single chats fall behind and catch up again all the time.
#[test]
fn chats_with_too_many_waiting_outlive_ten_kills_in_their_order() {
    drill_with_tight_queues(0, None);
}

/// Kills servers of which `ahead` updates are more than their sink has taken, while others come.
/// One server is not killed, but stopped: what it has handed on, it has noted.
fn drill_with_tight_queues(ahead: u64, rate: Option<f64>) {
    const UPDATES: u64 = 12_000;
    const PEACE: usize = KILLS / 2;
    let mut chance = Chance::new();
    let config = [SMALL_SEGMENTS, TIGHT].concat();
    let service = Service::new(&config, &[&["--output", "ndjson:-"][..], &THREADS].concat());
    let mut sunk = Sunk::default();
    let (tap, stdout) = Tap::new();
    let first = service.start_with_stdout(stdout);
    // Nothing is read from the sink meanwhile.
    under_load(&service.load(ahead), || ());
    let mut load = service.load(UPDATES - ahead);
    load.first_update_id = ahead + 1;
    load.rate = rate;
    let (_, (mut tap, last)) = under_load(&load, || {
        let (mut tap, mut server) = (tap, first);
        for end in 0..=KILLS {
            let left = UPDATES - sunk.updates().len() as u64;
            tap.take(lines_of_a_life(&mut chance, left, KILLS - end));
            server.signal(if end == PEACE { "TERM" } else { "KILL" });
            tap.end_life(&mut sunk);
            let ended = server.wait();
            if end == PEACE {
                assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
                let report = service.report();
                let taken_over = report["journal"]["recovered_records"].as_u64().unwrap();
                assert!(taken_over >= ahead / 10, "little was left to take over: {report:#}");
            }
            let stdout;
            (tap, stdout) = Tap::new();
            server = service.start_with_stdout(stdout);
        }
        (tap, server)
    });
    tap.take_all(&(1..=UPDATES).collect(), &sunk);
    last.signal("TERM");
    tap.end_life(&mut sunk);
    let ended = last.wait();
    let expected = Expected { first_update_id: 1, updates: UPDATES, ..load.expected() };
    let doubled = sunk.check(expected, WORKERS);
    eprintln!("came again after each life {doubled:?}, lines torn {}", sunk.torn);
    assert_eq!(doubled[PEACE], 0, "doubled by a stop");
    assert_clean(&ended, &service);
}

/// Kills servers on their first steps, when they have read half of what the one before has left, or
/// tidied up half of it. What they have handed on by then is found in their pipes.
#[test]
fn kills_during_recovery_lose_nothing_either() {
    const UPDATES: u64 = 5000;
    let mut chance = Chance::new();
    let config = [SMALL_SEGMENTS, TIGHT].concat();
    let service = Service::new(&config, &[&["--output", "ndjson:-"][..], &THREADS].concat());
    let mut sunk = Sunk::default();
    let (tap, stdout) = Tap::new();
    let first = service.start_with_stdout(stdout);
    // stdout is not read, so all but a pipe's worth stays in the journal.
    let load = service.load(UPDATES);
    let (_, first) = under_load(&load, || first);
    first.kill();
    tap.end_life(&mut sunk);
    let out = sunk.updates().len();
    assert!(out < 1000, "{out} are not in the journal any more");
    let (tap, stdout) = Tap::new();
    let start = Instant::now();
    let server = service.start_with_stdout(stdout);
    let whole = start.elapsed();
    server.kill();
    tap.end_life(&mut sunk);
    for _ in 0..2 * KILLS {
        let (tap, stdout) = Tap::new();
        let mut command = service.command();
        let mut server = command.stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
        drop(command);
        // Not to wait for anything: it is the moment that is drawn, up to a little after the start.
        let most = whole.as_micros() as u64 * 3 / 2;
        thread::sleep(Duration::from_micros(chance.between(0, most)));
        server.kill().unwrap();
        server.wait().unwrap();
        tap.end_life(&mut sunk);
    }
    let (mut tap, stdout) = Tap::new();
    let last = service.start_with_stdout(stdout);
    tap.take_all(&(1..=UPDATES).collect(), &sunk);
    last.signal("TERM");
    tap.end_life(&mut sunk);
    let ended = last.wait();
    let doubled = sunk.check(load.expected(), WORKERS);
    eprintln!("came again after each life {doubled:?}, lines torn {}", sunk.torn);
    assert_clean(&ended, &service);
}

/// Asserts that the server that runs answers 200 to each of these updates of chat 1.
#[track_caller]
fn post_all(service: &Service, ids: impl IntoIterator<Item = i64>) {
    let mut client = service.connect();
    for id in ids {
        assert_eq!(client.post(&update_of(1, id)).status, 200, "{id}");
    }
}

/// The sender has not seen the 200 of what the server has taken: it comes again, perhaps while the
/// record of the first time is still being replayed.
#[test]
fn what_was_accepted_before_a_kill_is_a_duplicate_after_it() {
    for ack in ["written", "synced"] {
        let args = [&["--ack", ack, "--output", "ndjson:sunk"][..], &THREADS].concat();
        let service = Service::new("", &args);
        let mut file = SinkFile::at(&service.pki.dir().join("sunk"));
        let mut sunk = Sunk::default();
        let mut lives = Vec::new();
        // Killed at once, killed when it has seen all of them again, and ended in peace.
        for kill in [true, true, false, false] {
            let server = service.start();
            post_all(&service, 1..=300);
            if kill {
                server.kill()
            } else {
                server.terminate()
            };
            file.end_life(&mut sunk);
            lives = sunk.ids();
        }
        let all: Vec<u64> = (1..=300).collect();
        for (life, ids) in lives.iter().enumerate() {
            assert!(ids.is_sorted_by(|a, b| a < b), "{ack}, life {life}: {ids:?}");
        }
        assert_eq!(lives.concat().into_iter().collect::<BTreeSet<_>>(), all.into_iter().collect());
        assert_eq!(lives[3], [0; 0], "all were handled in life 2 at the latest");
        // One chat is one worker's.
        for (life, pair) in lives.windows(2).enumerate() {
            let again = pair[1].iter().filter(|id| pair[0].contains(id)).count();
            assert!(again <= support::sunk::BATCH, "{ack}: {again} come again after life {life}");
        }
    }
}

/// A kill may come between two halves of a line. What follows is not to be glued to the first one:
/// that would spoil a line that has been handled, and does not come again.
#[test]
fn half_a_line_in_the_file_spoils_no_other() {
    let service = Service::new("", &["--output", "ndjson:sunk"]);
    let path = service.pki.dir().join("sunk");
    let half = &update_of(1, 1)[..40].replace('\n', "");
    fs::write(&path, format!("{{\"update_id\":0}}\n{half}")).unwrap();
    let server = service.start();
    post_all(&service, [1, 2]);
    assert_eq!(server.terminate().status.code(), Some(0));
    let text = fs::read_to_string(&path).unwrap();
    let whole: Vec<i64> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .map(|update| update["update_id"].as_i64().unwrap())
        .collect();
    assert_eq!(whole, [0, 1, 2], "{text}");

    // A file of whole lines is left as it is, and so is an empty one.
    let server = service.start();
    post_all(&service, [3]);
    assert_eq!(server.terminate().status.code(), Some(0));
    let longer = fs::read_to_string(&path).unwrap();
    assert!(longer.starts_with(&text) && longer.lines().count() == text.lines().count() + 1);
    assert!(longer.lines().all(|line| !line.is_empty()), "{longer}");
}

/// The longest update is longer than a segment of the smallest size.
#[test]
fn updates_of_every_length_outlive_a_kill() {
    let service = Service::new(SMALL_SEGMENTS, &["--output", "ndjson:-"]);
    let (tap, stdout) = Tap::new();
    let server = service.start_with_stdout(stdout);
    let mut client = service.connect();
    let lengths = [200, 1 << 20, 3000, 1 << 20, (1 << 20) - 1, 500_000, 600_000, 200];
    for (id, length) in (1..).zip(lengths) {
        assert_eq!(client.post(&long(1, id, length)).status, 200, "{length}");
    }
    let mut sunk = Sunk::default();
    server.kill();
    tap.end_life(&mut sunk);
    let (mut tap, stdout) = Tap::new();
    let server = service.start_with_stdout(stdout);
    tap.take_all(&(1..=lengths.len() as u64).collect(), &sunk);
    server.signal("TERM");
    tap.end_life(&mut sunk);
    assert_clean(&server.wait(), &service);
}

/// Behind the records there may be one that was being written at the kill, or whatever a power cut
/// has left. It was not acknowledged; what was is not to suffer from it.
#[test]
fn rubbish_behind_the_records_is_passed_over() {
    for rubbish in [&b"half of something"[..], b"\0\0\0\x01", &[0xff; 5000]] {
        let service = Service::new("", &["--output", "ndjson:-"]);
        let mut sunk = Sunk::default();
        let (tap, stdout) = Tap::new();
        let server = service.start_with_stdout(stdout);
        post_all(&service, 1..=5);
        server.kill();
        tap.end_life(&mut sunk);
        for entry in fs::read_dir(service.journal()).unwrap() {
            spoil(&entry.unwrap().path(), rubbish);
        }
        let (mut tap, stdout) = Tap::new();
        let server = service.start_with_stdout(stdout);
        post_all(&service, [6]);
        tap.take_all(&(1..=6).collect(), &sunk);
        server.signal("TERM");
        tap.end_life(&mut sunk);
        assert_eq!(server.wait().status.code(), Some(0));
        assert_eq!(sunk.updates(), (1..=6).collect());
    }
}

/// Writes `rubbish` behind what is in a file of the journal, the room for more of which is empty.
fn spoil(path: &Path, rubbish: &[u8]) {
    let end = fs::read(path).unwrap().iter().rposition(|byte| *byte != 0);
    let Some(end) = end.filter(|_| path.extension().is_some_and(|it| it == "journal")) else {
        return;
    };
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(rubbish, end as u64 + 1).unwrap();
}
