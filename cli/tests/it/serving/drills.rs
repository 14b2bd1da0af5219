//! Bots behind HTTP that are slow, or gone, while updates come.
//!
//! What is said of time is printed, not asserted. `RINGHOOK_DRILL_SECONDS` makes the drills last so
//! long, at 1,000 updates a second, for figures.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering::Relaxed,
    time::Instant,
};

use loadtest::{ChatKey, chat_of};

use super::backend::{Backends, Does};
use crate::{
    binary::{process::resident, service::Service},
    support::{
        crowd::room_for, drill::under_load, load::Load, update_of, wait_going_on, wait_until,
    },
};

/// How long the drills last, if that was asked for.
fn seconds() -> Option<u64> {
    std::env::var("RINGHOOK_DRILL_SECONDS").ok().map(|text| text.parse().unwrap())
}

/// Asserts that each update came once, and each chat's in their order.
#[track_caller]
fn assert_once_and_in_order(load: &Load, got: &[(usize, u64)]) {
    let mut newest: BTreeMap<ChatKey, u64> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (_, id) in got {
        assert!(ids.insert(*id), "{id} came again");
        if let Some(before) = newest.insert(chat_of(&load.payload, *id), *id) {
            assert!(before < *id, "{id} comes after {before} in its chat");
        }
    }
}

/// A request that waits for its answer costs a connection and some memory, and nothing else.
#[test]
fn a_bot_that_is_slow_in_3000_chats_delays_neither_other_chats_nor_the_sender() {
    let chats = room_for(3000, 1);
    let is_slow = move |id| id <= chats as u64;
    let mut bot =
        Backends::new(1, move |id| if is_slow(id) { Does::Hold } else { Does::Answer(200) });
    bot.start(0);
    let config =
        format!("[[output]]\nname = 'bot'\nto = {}\nconnections = {}\n", bot.to(), chats + 64);
    let service = Service::new(&config, &[]);
    let server = service.start();
    let before = resident(server.child.id());
    let mut client = service.connect();
    for id in 1..=chats as i64 {
        assert_eq!(client.post(&update_of(id, id)).status, 200);
    }
    wait_going_on("all requests are under way at once", || (bot.held() == chats, bot.held()));
    let waiting = resident(server.child.id());
    eprintln!(
        "{chats} requests wait: VmRSS {} KiB before, {} KiB with them, {} bytes for each",
        before / 1024,
        waiting / 1024,
        waiting.saturating_sub(before) / chats,
    );
    // The next ones of the slow chats, and others.
    for id in 1..=chats as i64 {
        assert_eq!(client.post(&update_of(id, id + chats as i64)).status, 200);
    }
    let mut load = service.load(1000);
    if let Some(seconds) = seconds() {
        load = service.load(1000 * seconds);
        load.rate = Some(1000.0);
    }
    let others = load.updates;
    load.first_update_id = 1_000_000;
    load.has_copies = false;
    let (sent, ()) = under_load(&load, || {
        wait_going_on("the others reach the bot", || {
            let taken = bot.taken_count();
            (taken as u64 == others, taken)
        });
    });
    eprintln!("{sent:?}");
    eprintln!("VmRSS {} KiB after that", resident(server.child.id()) / 1024);
    assert_eq!((bot.held(), bot.got().len() as u64), (chats, chats as u64 + others));
    bot.release();
    let all = 2 * chats as u64 + others;
    wait_going_on("the bot has all", || {
        let taken = bot.taken_count();
        (taken as u64 == all, taken)
    });
    assert!(server.terminate().status.success());
    let report = service.report();
    let forward = &report["forwards"]["bot"];
    assert_eq!(
        (&forward["delivered"], &forward["retried"]),
        (&all.into(), &0.into()),
        "{report:#}"
    );
    assert_eq!(report["journal"]["lag_records"], 0, "{report:#}");
    let others = bot.got().into_iter().filter(|(_, id)| *id >= load.first_update_id);
    assert_once_and_in_order(&load, &others.collect::<Vec<_>>());
}

/// So many connections that all of them are there soon: none is being made when the bot ends, which
/// would be an attempt.
const CONNECTIONS: usize = 8;

/// With one attempt for each update: one that is counted would be the last.
#[test]
fn a_bot_that_is_down_under_load_loses_nothing_and_no_attempt_counts() {
    const BEFORE: usize = 1000;
    let down = 1000 * seconds().unwrap_or(2);
    let updates = BEFORE as u64 + down + 1000;
    let mut bot = Backends::new(1, |_| Does::Answer(200));
    bot.start(0);
    let config = format!(
        "[dispatch]\nmax_attempts = 1\ndead_letters = 'dead'\n\
         [[output]]\nname = 'bot'\nto = {}\nconnections = {CONNECTIONS}\n",
        bot.to()
    );
    let service = Service::new(&config, &[]);
    let server = service.start();
    let mut load = service.load(updates);
    load.rate = Some(1000.0);
    load.has_copies = false;
    let (sent, ()) = under_load(&load, || {
        let acknowledged = || load.acknowledged.load(Relaxed);
        wait_going_on("some are delivered", || {
            let taken = bot.taken_count();
            (taken >= BEFORE && bot.connected() == CONNECTIONS, taken)
        });
        bot.stop(0);
        wait_going_on("as many are acknowledged as come in that time", || {
            let wanted = (bot.taken_count() as u64 + down).min(updates);
            (acknowledged() >= wanted, acknowledged())
        });
        let says = |what: &str| server.stderr().iter().any(|line| line.contains(what));
        wait_until("it is told", || says("output bot: down since "));
        let (waited, taken) = (acknowledged() as usize, bot.taken_count());
        bot.start(0);
        let back_at = Instant::now();
        wait_until("the bot is tried again", || bot.got().len() > taken);
        let tried_after = back_at.elapsed();
        wait_going_on("it has what waited", || (bot.taken_count() >= waited, bot.taken_count()));
        eprintln!(
            "{} had waited: the first came {tried_after:?} after the bot was back, all {:?} after",
            waited - taken,
            back_at.elapsed()
        );
    });
    eprintln!("{sent:?}");
    wait_going_on("the bot has all", || (bot.taken_count() as u64 == updates, bot.taken_count()));
    assert!(server.terminate().status.success());
    assert_once_and_in_order(&load, &bot.got());
    let report = service.report();
    let forward = &report["forwards"]["bot"];
    eprintln!("{forward:#}");
    assert_eq!(forward["retried"], 0, "{report:#}");
    assert_eq!(forward["delivered"], updates, "{report:#}");
    assert!(forward["failed"]["connect"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(
        (&report["updates_failed"], &report["updates_handled"]),
        (&0.into(), &updates.into())
    );
    assert_eq!(report["journal"]["lag_records"], 0, "{report:#}");
    let dead = std::fs::read(service.pki.dir().join("dead")).unwrap_or_default();
    assert!(dead.is_empty(), "{} bytes of dead letters", dead.len());
}

/// The target of three that goes.
const GONE: usize = 1;

/// Sends updates to a bot of three processes, one of which ends in the middle; gives what each has
/// got in the order of all. Without `moves` it comes back in the end.
fn one_of_three_is_down(moves: bool) {
    const UPDATES: u64 = 6000;
    let mut bots = Backends::new(3, |_| Does::Answer(200));
    (0..3).for_each(|number| bots.start(number));
    let move_after = if moves { "move_after = '100ms'\n" } else { "" };
    let config = format!(
        "[dispatch]\nmax_attempts = 1\n[[output]]\nname = 'bot'\nto = {}\n\
         connections = {CONNECTIONS}\n{move_after}",
        bots.to()
    );
    let service = Service::new(&config, &[]);
    let server = service.start();
    let mut load = service.load(UPDATES);
    load.has_copies = false;
    let chat = |id: u64| chat_of(&load.payload, id);
    let owners = |got: &[(usize, u64)]| {
        got.iter().map(|(bot, id)| (chat(*id), *bot)).collect::<BTreeMap<_, _>>()
    };
    let (_, before) = under_load(&load, || {
        let acknowledged = || load.acknowledged.load(Relaxed);
        wait_going_on("some are delivered to each", || {
            let connected = bots.connected();
            (bots.taken_count() > 1000 && connected == 3 * CONNECTIONS, bots.taken_count())
        });
        bots.stop(GONE);
        let before = bots.got();
        wait_going_on("all are acknowledged", || (acknowledged() == UPDATES, acknowledged()));
        before
    });
    let owner = owners(&before);
    let of = |bot: usize| owner.values().filter(|owner| **owner == bot).count();
    eprintln!("chats of each: {:?}", [of(0), of(1), of(2)]);
    assert!((0..3).all(|bot| of(bot) > 0), "{owner:?}");
    if !moves {
        let unharmed =
            (1..=UPDATES).filter(|id| owner.get(&chat(*id)).is_some_and(|it| *it != GONE));
        let unharmed: BTreeSet<_> = unharmed.collect();
        wait_going_on("the chats of the others go on", || {
            let taken: BTreeSet<_> = bots.taken().into_iter().map(|(_, id)| id).collect();
            (unharmed.is_subset(&taken), taken.len())
        });
        let waiting = UPDATES - bots.taken_count() as u64;
        eprintln!("{waiting} wait for the one that is down");
        assert!(waiting > 0);
        bots.start(GONE);
    }
    wait_going_on("all are delivered", || {
        (bots.taken_count() as u64 == UPDATES, bots.taken_count())
    });
    let ended = server.terminate();
    assert!(ended.status.success(), "{:#?}", ended.stderr);
    let got = bots.got();
    assert_once_and_in_order(&load, &got);
    let moved: BTreeSet<_> = got
        .iter()
        .filter(|(bot, id)| owner.get(&chat(*id)).is_some_and(|owner| owner != bot))
        .map(|(_, id)| chat(*id))
        .collect();
    assert!(moved.iter().all(|chat| owner[chat] == GONE), "chats of the others have moved");
    assert_eq!(moves, !moved.is_empty(), "{moved:?} have moved");
    let report = service.report();
    assert_eq!(report["forwards"]["bot"]["retried"], 0, "{report:#}");
    assert_eq!(report["updates_failed"], 0, "{report:#}");
    assert_eq!(report["journal"]["lag_records"], 0, "{report:#}");
}

#[test]
fn chats_of_a_target_that_is_down_wait_and_those_of_the_others_do_not() {
    one_of_three_is_down(false);
}

#[test]
fn chats_of_a_target_that_is_down_move_in_their_order_and_no_others_do() {
    one_of_three_is_down(true);
}
