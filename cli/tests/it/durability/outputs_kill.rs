//! A server with several outputs that is killed again and again, while one output fails at random
//! and another one is not read: each has all of its route in the end.
//!
//! Moments and faults are drawn at random; a run prints its `RINGHOOK_TEST_SEED`, and takes the one
//! that is set.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Mutex,
};

use loadtest::{ChatKey, PayloadOptions, UpdateKind, chat_of, kind_of};
use serde_json::Value;

use crate::{
    binary::{sender::SMALL_SEGMENTS, service::Service},
    serving::backend::{Backends, Does},
    support::{
        chance::Chance,
        drill::{lines_of_a_life, under_load},
        sunk::{SinkFile, Sunk, Tap},
        wait_going_on,
    },
};

const KILLS: usize = 6;
const UPDATES: u64 = 4000;

/// Of each update the same: which outputs it is for.
const ROUTES: &str = "[[route]]\nkind = 'message'\nto = ['bot', 'audit', 'pipe']\n\
                      [[route]]\nkind = 'callback_query'\nto = ['pipe', 'bot']\n\
                      [[route]]\nto = ['audit', 'bot']\n";

fn is_for(output: &str, payload: &PayloadOptions, id: u64) -> bool {
    match kind_of(payload, id) {
        UpdateKind::Message => true,
        UpdateKind::CallbackQuery => output != "audit",
        _ => output != "pipe",
    }
}

/// What an output is to have in the end.
fn expected(output: &str, payload: &PayloadOptions) -> BTreeSet<u64> {
    (1..=UPDATES).filter(|id| is_for(output, payload, *id)).collect()
}

/// Asserts that the first time of each update is in its chat's order, and that all of them are
/// there. Gives how many came again.
#[track_caller]
fn check(output: &str, payload: &PayloadOptions, ids: impl IntoIterator<Item = u64>) -> usize {
    let (mut seen, mut again) = (BTreeSet::new(), 0);
    let mut newest: BTreeMap<ChatKey, u64> = BTreeMap::new();
    for id in ids {
        if !seen.insert(id) {
            again += 1;
        } else if let Some(before) = newest.insert(chat_of(payload, id), id) {
            assert!(before < id, "{output}: {id} comes after {before} in its chat");
        }
    }
    let expected = expected(output, payload);
    let lost: Vec<_> = expected.difference(&seen).collect();
    assert!(lost.is_empty(), "{output}: {} are lost: {lost:?}", lost.len());
    assert_eq!(seen, expected, "{output} has what is not for it");
    again
}

/// The updates whose whole lines are in a file.
fn written(path: &Path) -> BTreeSet<u64> {
    let text = fs::read_to_string(path).unwrap();
    let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    whole.filter_map(|line| line["update_id"].as_u64()).collect()
}

#[test]
fn each_output_has_all_of_its_route_after_kills_whatever_the_others_do() {
    let mut chance = Chance::new();
    let faults = Mutex::new(Chance::from_seed(chance.between(0, u64::MAX)));
    // Most is taken, so that no update fails ten times.
    let mut bot = Backends::new(1, move |_| match faults.lock().unwrap().between(0, 99) {
        0..3 => Does::Answer(500),
        3..6 => Does::HangUp,
        6..8 => Does::Hold,
        _ => Does::Answer(200),
    });
    bot.start(0);
    let config = format!(
        "{SMALL_SEGMENTS}\n[limits]\nqueue_updates = 200\nchat_updates = 4\n\
         [[output]]\nname = 'bot'\nto = {}\ntimeout = '300ms'\n\
         [[output]]\nname = 'audit'\nto = 'ndjson:audit'\n\
         [[output]]\nname = 'pipe'\nto = 'ndjson:-'\n{ROUTES}",
        bot.to()
    );
    let service = Service::new(&config, &["--shards", "2", "--workers", "3"]);
    let path = service.pki.dir().join("audit");
    let mut file = SinkFile::at(&path);
    let (mut audit, mut pipe) = (Sunk::default(), Sunk::default());
    let load = service.load(UPDATES);
    let payload = &load.payload;
    let in_all = expected("audit", payload).len() as u64;
    let (tap, stdout) = Tap::new();
    let first = service.start_with_stdout(stdout);
    let (sent, (last, mut tap)) = under_load(&load, || {
        let (mut server, mut tap) = (first, tap);
        for kill in 0..KILLS {
            let left = in_all - audit.updates().len() as u64;
            let lines = lines_of_a_life(&mut chance, left, KILLS - kill);
            wait_going_on("so many lines are there", || {
                let there = file.lines();
                (there >= lines, (there, bot.got().len()))
            });
            let is_bot_killed = chance.between(0, 1) == 0;
            if is_bot_killed {
                bot.kill(0);
            }
            server.kill();
            file.end_life(&mut audit);
            // It was not read while the server lived.
            tap.end_life(&mut pipe);
            let stdout;
            (tap, stdout) = Tap::new();
            server = service.start_with_stdout(stdout);
            if is_bot_killed {
                bot.start(0);
            }
        }
        (server, tap)
    });
    tap.take_all(&expected("pipe", payload), &pipe);
    let all = expected("audit", payload);
    wait_going_on("the others have all", || {
        let taken: BTreeSet<_> = bot.taken().into_iter().map(|(_, id)| id).collect();
        let has_all = taken.len() as u64 == UPDATES && all.is_subset(&written(&path));
        (has_all, (bot.got().len(), file.lines()))
    });
    last.signal("TERM");
    tap.end_life(&mut pipe);
    let ended = last.wait();
    file.end_life(&mut audit);
    assert!(ended.status.success(), "{:#?}", ended.stderr);
    let again = [
        check("audit", payload, audit.ids().concat()),
        check("pipe", payload, pipe.ids().concat()),
        // What it got and did not answer counts for the order.
        check("bot", payload, bot.got().into_iter().map(|(_, id)| id)),
    ];
    let taken: BTreeSet<_> = bot.taken().into_iter().map(|(_, id)| id).collect();
    assert_eq!(taken, expected("bot", payload), "it has got some and not taken them");
    eprintln!("came again to audit, pipe and bot: {again:?}");
    eprintln!("{sent:?}");
    let report = service.report();
    assert_eq!(report["journal"]["lag_records"], 0, "{report:#}");
    assert_eq!(report["updates_failed"], 0, "{report:#}");
}
