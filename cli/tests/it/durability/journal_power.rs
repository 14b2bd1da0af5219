//! A disk that takes only what is synced, when the power fails; and syncs that fail.
//!
//! What needs FUSE is skipped, with the reason, where it is not to be had; `RINGHOOK_TEST_DISKS=1`
//! makes that a failure.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    binary::{
        sender::{SMALL_SEGMENTS, Sender, end_in_peace, on, start},
        service::Service,
    },
    support::{
        chance::Chance,
        disk::with_mounts,
        drill::{lines_of_a_life, under_load},
        faulty::Faulty,
        sunk::Sunk,
        wait_until,
    },
};

/// Whether a file of this name has records in it, and is not kept for some that are to come.
fn is_segment(name: &str) -> bool {
    name.strip_suffix(".journal").is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Some pages of what was not synced are on the disk, and some names; others are not. It makes no
/// difference to what was acknowledged, nor to its order, nor to what comes behind it.
#[test]
fn power_cuts_take_nothing_that_was_synced() {
    const UPDATES: u64 = 6000;
    const CUTS: usize = 10;
    with_mounts(|| {
        let mut chance = Chance::new();
        let Some(disk) = Faulty::new() else { return };
        let service = on(disk.path(), "synced");
        let mut sunk = Sunk::default();
        let load = service.load(UPDATES);
        let (first, tap) = start(&service);
        let (_, (mut tap, last)) = under_load(&load, || {
            let (mut tap, mut server) = (tap, first);
            for cut in 0..CUTS {
                let left = UPDATES - sunk.updates().len() as u64;
                tap.take(lines_of_a_life(&mut chance, left, CUTS - cut));
                server.kill();
                tap.end_life(&mut sunk);
                disk.cut_power(&mut chance);
                (server, tap) = start(&service);
            }
            (tap, server)
        });
        tap.take_all(&(1..=UPDATES).collect(), &sunk);
        last.signal("TERM");
        tap.end_life(&mut sunk);
        assert_eq!(last.wait().status.code(), Some(0));
        // What was handled shortly before a cut comes again, since that is noted without a sync.
        let doubled = sunk.check(load.expected(), usize::MAX);
        eprintln!("came again after each cut {doubled:?}");
    });
}

/// The next sync says that all is well, and what the one before should have brought is gone.
#[test]
fn a_sync_that_fails_refuses_those_who_waited_for_it_and_no_other() {
    with_mounts(|| {
        let mut chance = Chance::new();
        let Some(disk) = Faulty::new() else { return };
        let service = on(disk.path(), "synced");
        let (mut server, mut tap) = start(&service);
        let mut sender = Sender::new(&service);
        let mut sunk = Sunk::default();
        for _ in 0..5 {
            for _ in 0..chance.between(1, 4) {
                sender.post_all(chance.between(0, 40) as usize);
                disk.fail_syncs(1, ".journal");
                assert!(!sender.post(), "it was taken without a sync");
                sender.until_taken();
            }
            sender.post_all(chance.between(0, 40) as usize);
            server.kill();
            tap.end_life(&mut sunk);
            disk.cut_power(&mut chance);
            (server, tap) = start(&service);
            sender.reconnect();
        }
        end_in_peace(server, tap, &mut sunk, &sender);
    });
}

/// Syncs that go on failing are tried with new files, of which no heap is left.
#[test]
fn syncs_that_fail_for_a_while_refuse_until_they_succeed() {
    with_mounts(|| {
        let mut chance = Chance::new();
        let Some(disk) = Faulty::new() else { return };
        let service = on(disk.path(), "synced");
        let (server, tap) = start(&service);
        let mut sender = Sender::new(&service);
        sender.post_all(20);
        disk.fail_syncs(usize::MAX, ".journal");
        sender.until_refused();
        let files = fs::read_dir(service.journal()).unwrap().count();
        assert!(files < 40, "{files} files");
        disk.fail_syncs(0, "");
        sender.until_taken();
        sender.post_all(20);
        let mut sunk = Sunk::default();
        server.kill();
        tap.end_life(&mut sunk);
        disk.cut_power(&mut chance);
        let (server, tap) = start(&service);
        end_in_peace(server, tap, &mut sunk, &sender);
    });
}

/// In the background, but soon.
#[test]
fn what_was_written_is_synced_as_well() {
    with_mounts(|| {
        let mut chance = Chance::new();
        let Some(disk) = Faulty::new() else { return };
        let service = on(disk.path(), "written");
        let (server, tap) = start(&service);
        let mut sender = Sender::new(&service);
        for _ in 0..3 {
            sender.post_all(200);
            wait_until("everything is on the disk", || disk.has(is_segment));
        }
        let mut sunk = Sunk::default();
        server.kill();
        tap.end_life(&mut sunk);
        disk.cut_power(&mut chance);
        let (server, tap) = start(&service);
        end_in_peace(server, tap, &mut sunk, &sender);
    });
}

/// What was acknowledged last may be lost then. What was on the disk is not, nothing is invented,
/// and the journal goes on behind it.
#[test]
fn a_power_cut_under_unsynced_records_spoils_nothing_else() {
    with_mounts(|| {
        let mut chance = Chance::new();
        let Some(disk) = Faulty::new() else { return };
        let service = on(disk.path(), "written");
        let (mut server, mut tap) = start(&service);
        let mut sender = Sender::new(&service);
        let mut sunk = Sunk::default();
        let mut known = BTreeSet::new();
        for _ in 0..5 {
            // Not what an earlier cut may have taken.
            sender.acknowledged.clear();
            sender.post_all(100);
            wait_until("everything is on the disk", || disk.has(is_segment));
            let safe = sender.acknowledged.clone();
            sender.post_all(chance.between(1, 200) as usize);
            known.append(&mut sender.acknowledged.clone());
            server.kill();
            tap.end_life(&mut sunk);
            disk.cut_power(&mut chance);
            (server, tap) = start(&service);
            tap.take_all(&safe, &sunk);
            sender.reconnect();
        }
        server.kill();
        tap.end_life(&mut sunk);
        let invented = &sunk.updates() - &known;
        assert!(invented.is_empty(), "{invented:?}");
    });
}

/// Not even what is open can be written, as after an error that the kernel has found; and then it
/// can again.
#[test]
fn a_disk_that_turns_read_only_refuses_until_it_is_writable() {
    with_mounts(|| {
        for ack in ["written", "synced"] {
            let Some(disk) = Faulty::new() else { return };
            let service = on(disk.path(), ack);
            let (server, tap) = start(&service);
            let mut sender = Sender::new(&service);
            for _ in 0..3 {
                sender.post_all(50);
                disk.set_read_only(true);
                assert!(!sender.post());
                sender.until_refused();
                disk.set_read_only(false);
                sender.until_taken();
            }
            let mut sunk = Sunk::default();
            server.kill();
            tap.end_life(&mut sunk);
            let (server, tap) = start(&service);
            sender.reconnect();
            sender.post_all(10);
            end_in_peace(server, tap, &mut sunk, &sender);
        }
    });
}

/// The ids of the whole lines in a file in which a power cut may have left something else as well.
fn ids_in(path: &Path) -> BTreeSet<u64> {
    let bytes = fs::read(path).unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok()?["update_id"].as_u64())
        .collect()
}

/// A service whose sink is a file on `disk`, as its data are, in a directory that is there.
fn with_a_file(disk: &Faulty) -> (Service, PathBuf) {
    let dir = disk.path().join("sink");
    fs::create_dir(&dir).unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    let file = dir.join("sunk");
    let sink = format!("ndjson:{}", file.display());
    let service = Service::new(SMALL_SEGMENTS, &["--ack", "synced", "--output", &sink]);
    (service.with_data_in(&disk.path().join("data")), file)
}

/// What is in the file has left the journal, so it has to be as safe there.
#[test]
fn power_cuts_take_nothing_from_a_file_that_is_synced() {
    with_mounts(|| {
        let mut chance = Chance::new();
        let Some(disk) = Faulty::new() else { return };
        let (service, file) = with_a_file(&disk);
        let mut server = service.start();
        let mut sender = Sender::new(&service);
        for _ in 0..8 {
            sender.post_all(chance.between(1, 200) as usize);
            if chance.between(0, 1) == 1 {
                server.kill()
            } else {
                server.terminate()
            };
            disk.cut_power(&mut chance);
            server = service.start();
            sender.reconnect();
        }
        let wanted = &sender.acknowledged;
        wait_until("all that was acknowledged is there", || wanted.is_subset(&ids_in(&file)));
        assert_eq!(server.terminate().status.code(), Some(0));
        assert_eq!(ids_in(&file), *wanted, "something was invented");
    });
}

/// The kernel tells of lost lines once. They have to be written again, not only synced again.
#[test]
fn lines_whose_sync_has_failed_are_written_again() {
    with_mounts(|| {
        let mut chance = Chance::new();
        let Some(disk) = Faulty::new() else { return };
        let (service, file) = with_a_file(&disk);
        let server = service.start();
        let mut sender = Sender::new(&service);
        for _ in 0..3 {
            sender.post_all(10);
            disk.fail_syncs(2, "sunk");
            sender.post_all(10);
            wait_until("the syncs have failed", || disk.failing_syncs() == 0);
        }
        let ended = server.terminate();
        assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.stderr);
        assert_eq!(service.report()["journal"]["lag_records"], 0);
        disk.cut_power(&mut chance);
        let lost = &sender.acknowledged - &ids_in(&file);
        assert!(lost.is_empty(), "{lost:?}");
    });
}
