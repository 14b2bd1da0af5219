//! Disks that are full, broken, read-only or gone under the journal: requests get 503
//! until the disk works again, and no acknowledged update is lost.
//!
//! What needs a mount or a device is skipped, with the reason, where these are not to be had;
//! `RINGHOOK_TEST_DISKS=1` makes that a failure.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::{
    binary::{
        process::{Process, ringhook},
        sender::{LENGTH, SMALL_SEGMENTS, Sender, end_in_peace, on, start},
        service::Service,
    },
    support::{
        disk::{BlockDisk, Disk, ReadOnly, with_mounts},
        external::{Said, talk},
        long,
        port::Port,
        request,
        sunk::{BATCH, Sunk, Tap},
        update_of, wait_until,
    },
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[track_caller]
fn assert_failures_are_counted(service: &Service, refused: u64) {
    let report = service.report();
    assert!(report["journal"]["failed_batches"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["requests_rejected"]["503"], refused, "{report:#}");
    assert_eq!(report["journal"]["lag_records"], 0, "{report:#}");
    assert_eq!(report["updates_abandoned"], 0, "{report:#}");
}

// A disk that is full

/// Nothing is read from the sink, so it is the journal that has to keep it all.
fn fill(disk: &Disk, service: &Service) {
    let (server, tap) = start(service);
    let mut sender = Sender::new(service);
    sender.post_all(10);
    let ballast = disk.fill_up_to(4 << 20);
    sender.until_refused();
    assert!(sender.acknowledged.len() > 100, "{} got in", sender.acknowledged.len());
    drop(ballast);
    sender.until_taken();
    sender.post_all(50);
    let mut sunk = Sunk::default();
    end_in_peace(server, tap, &mut sunk, &sender);
    assert_failures_are_counted(service, sender.refused);
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    with_mounts(|| {
        for ack in ["written", "synced"] {
            let disk = Disk::in_memory(16);
            fill(&disk, &on(disk.path(), ack));
        }
    });
}

#[test]
fn a_full_ext4_refuses_until_there_is_room() {
    with_mounts(|| {
        for ack in ["written", "synced"] {
            let Some(disk) = BlockDisk::ext4(16, &[], "errors=remount-ro") else { return };
            fill(&disk.fs, &on(disk.fs.path(), ack));
        }
    });
}

/// The next server finds the disk as full as it was, and has to make room by itself: by handing on
/// what fills it.
#[test]
fn a_server_killed_on_a_full_disk_starts_there_and_empties_it() {
    with_mounts(|| {
        let disk = Disk::in_memory(16);
        let service = on(disk.path(), "written");
        let (server, tap) = start(&service);
        let mut sender = Sender::new(&service);
        let _ballast = disk.fill_up_to(4 << 20);
        sender.until_refused();
        let mut sunk = Sunk::default();
        server.kill();
        tap.end_life(&mut sunk);
        let (server, mut tap) = start(&service);
        sender.reconnect();
        // All of a batch goes out before anything is settled.
        let left = sender.acknowledged.difference(&sunk.updates()).count();
        assert!(left > BATCH, "only {left} are left");
        tap.take(left);
        sender.until_taken();
        sender.post_all(20);
        end_in_peace(server, tap, &mut sunk, &sender);
    });
}

/// A limit that any user may set: files get no longer than it says.
#[test]
fn a_limit_on_the_size_of_files_refuses_until_it_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let service = on(dir.path(), "written");
    let (server, tap) = start(&service);
    let mut sender = Sender::new(&service);
    sender.post_all(10);
    let pid = Pid::from_child(&server.child);
    let unlimited = getrlimit(Resource::Fsize);
    let limit = |current| {
        let limit = Rlimit { current, ..unlimited };
        prlimit(Some(pid), Resource::Fsize, limit).unwrap();
    };
    limit(Some(4096));
    sender.until_refused();
    limit(unlimited.current);
    sender.until_taken();
    sender.post_all(50);
    let mut sunk = Sunk::default();
    server.kill();
    tap.end_life(&mut sunk);
    let (server, tap) = start(&service);
    end_in_peace(server, tap, &mut sunk, &sender);
}

/// The operator's own limit is as good as a full disk.
#[test]
fn a_journal_as_large_as_it_may_be_refuses_until_something_is_handled() {
    let config = "[journal]\nsegment_bytes = '1MiB'\nmax_bytes = '4MiB'\n";
    let service = Service::new(config, &["--output", "ndjson:-"]);
    let (server, mut tap) = start(&service);
    let mut sender = Sender::new(&service);
    sender.until_refused();
    let bytes = sender.acknowledged.len() * LENGTH;
    assert!((3 << 20..6 << 20).contains(&bytes), "{bytes} bytes got in");
    // Three of four segments.
    tap.take(sender.acknowledged.len() * 3 / 4);
    sender.until_taken();
    let mut sunk = Sunk::default();
    end_in_peace(server, tap, &mut sunk, &sender);
}

// A disk that fails

/// Each sync of the blocks that a full device could not take fails once; asked again, the kernel
/// says that all is well. What was acknowledged then must be on the device all the same, and the
/// device alone counts: it is mounted again before the next server reads it.
#[test]
fn what_was_synced_after_a_failed_sync_is_on_the_device() {
    with_mounts(|| {
        let flags = ["-O", "^has_journal"];
        let Some(disk) = BlockDisk::ext4(32, &flags, "errors=continue") else { return };
        let service = on(disk.fs.path(), "synced");
        let (server, tap) = start(&service);
        let mut sender = Sender::new(&service);
        sender.post_all(20);
        for _ in 0..3 {
            disk.give_back_unused_blocks();
            let ballast = disk.below.fill_up_to(0);
            sender.until_refused();
            drop(ballast);
            sender.until_taken();
            sender.post_all(100);
        }
        let mut sunk = Sunk::default();
        server.kill();
        tap.end_life(&mut sunk);
        disk.mount_again();
        let (server, tap) = start(&service);
        end_in_peace(server, tap, &mut sunk, &sender);
    });
}

/// What `/readyz` of the server says.
fn ready(admin: SocketAddr) -> String {
    let mut socket = TcpStream::connect(admin).unwrap();
    socket.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// As NFS, or a controller that resets: no error, the calls stay. A thread that does not wait for
/// the disk reports it, and nothing is lost.
#[test]
fn a_disk_that_does_not_answer_is_named_until_it_does() {
    with_mounts(|| {
        let Some(disk) = BlockDisk::ext4(32, &[], "errors=remount-ro") else { return };
        let admin = Port::reserve();
        let config = format!("{SMALL_SEGMENTS}[admin]\nlisten = '{}'\n", admin.addr);
        let service = Service::new(&config, &["--ack", "synced", "--output", "ndjson:-"])
            .with_data_in(&disk.fs.path().join("data"));
        let (server, tap) = start(&service);
        let mut sender = Sender::new(&service);
        // No more than the sink's pipe holds, or the sink would be named as well.
        sender.post_all(3);
        assert_eq!(ready(admin.addr), "ok\n");
        let frozen = disk.freeze();
        let mut client = service.connect();
        // Whether it is answered in time or not, it comes again.
        client.send(&request(&long(4, 4, LENGTH)));
        let commit = "journal: a write or sync of updates";
        wait_until("the disk is named", || {
            ready(admin.addr).contains(&format!("{commit} has not returned for "))
        });
        let lines = |text: &str| server.stderr().iter().filter(|it| it.contains(text)).count();
        wait_until("a line says it", || lines(&format!("{commit} has not returned for ")) == 1);
        drop(frozen);
        wait_until("it is ready again", || ready(admin.addr) == "ok\n");
        wait_until("a line says that", || lines(&format!("{commit} goes on again")) == 1);
        sender.post_all(2);
        assert_eq!(lines(&format!("{commit} has not returned for ")), 1, "told once");
        let mut sunk = Sunk::default();
        end_in_peace(server, tap, &mut sunk, &sender);
        assert_eq!(service.report()["hangs"]["commit"], 1);
    });
}

/// As a kernel does it that finds a file system broken: not even open files can be written. A
/// person mounts it again, and starts the server again.
#[test]
fn a_file_system_that_turns_read_only_refuses_and_keeps_what_was_synced() {
    with_mounts(|| {
        let Some(disk) = BlockDisk::ext4(32, &[], "errors=remount-ro") else { return };
        let service = on(disk.fs.path(), "synced");
        let (server, tap) = start(&service);
        let mut sender = Sender::new(&service);
        sender.post_all(200);
        disk.break_down();
        sender.until_refused();
        let mut sunk = Sunk::default();
        server.kill();
        tap.end_life(&mut sunk);
        disk.mount_again();
        let (server, tap) = start(&service);
        sender.reconnect();
        sender.post_all(20);
        end_in_peace(server, tap, &mut sunk, &sender);
    });
}

/// The segment that is open can still be written; no other can be begun.
#[test]
fn a_directory_that_turns_read_only_refuses_until_it_is_writable() {
    with_mounts(|| {
        let dir = tempfile::tempdir().unwrap();
        let service = on(dir.path(), "written");
        let (server, tap) = start(&service);
        let mut sender = Sender::new(&service);
        sender.post_all(10);
        let Some(read_only) = ReadOnly::make(&service.journal()) else { return };
        sender.until_refused();
        drop(read_only);
        sender.until_taken();
        sender.post_all(300);
        let mut sunk = Sunk::default();
        server.kill();
        tap.end_life(&mut sunk);
        let (server, tap) = start(&service);
        sender.reconnect();
        sender.post_all(10);
        end_in_peace(server, tap, &mut sunk, &sender);
    });
}

// A directory that is removed

/// Removes the journal, in which the server may be making a file just then.
fn remove(journal: &Path) {
    wait_until("the journal is gone", || match fs::remove_dir_all(journal) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => false,
        Ok(()) | Err(_) => true,
    });
}

#[test]
fn a_journal_that_is_removed_is_made_anew_and_nothing_is_lost_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let service = on(dir.path(), "written");
    let (server, tap) = start(&service);
    let mut sender = Sender::new(&service);
    for _ in 0..3 {
        sender.post_all(300);
        remove(&service.journal());
        sender.until_taken();
        assert_eq!(mode(&service.journal()), 0o700);
    }
    sender.post_all(300);
    let mut sunk = Sunk::default();
    end_in_peace(server, tap, &mut sunk, &sender);
}

/// What was in the directory is gone with it. What was acknowledged since has a new one.
#[test]
fn what_is_acknowledged_after_a_removal_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let service = on(dir.path(), "written");
    let (server, tap) = start(&service);
    let mut sender = Sender::new(&service);
    sender.post_all(300);
    remove(&service.journal());
    sender.acknowledged.clear();
    sender.until_taken();
    sender.post_all(300);
    let mut sunk = Sunk::default();
    server.kill();
    tap.end_life(&mut sunk);
    let (server, mut tap) = start(&service);
    tap.take_all(&sender.acknowledged, &sunk);
    drop(server);
    // And it is the owner's alone, as the first one was.
    let server = service.start();
    assert_second_is_refused(&service);
    server.terminate();
}

/// Everything in it is gone, the lock as well, but not the directory itself.
#[test]
fn a_journal_that_is_emptied_keeps_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let service = on(dir.path(), "written");
    let (server, tap) = start(&service);
    let mut sender = Sender::new(&service);
    sender.post_all(20);
    for file in fs::read_dir(service.journal()).unwrap() {
        // The server may have moved one meanwhile.
        let _ = fs::remove_file(file.unwrap().path());
    }
    sender.until_taken();
    assert_second_is_refused(&service);
    let mut sunk = Sunk::default();
    end_in_peace(server, tap, &mut sunk, &sender);
}

/// What is open is found in the new place; what is begun next, in the old one.
#[test]
fn a_journal_that_is_moved_away_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let service = on(dir.path(), "written");
    let (server, tap) = start(&service);
    let mut sender = Sender::new(&service);
    sender.post_all(20);
    fs::rename(service.journal(), dir.path().join("away")).unwrap();
    wait_until("there is another journal", || {
        sender.post();
        service.journal().exists()
    });
    sender.until_taken();
    sender.post_all(300);
    assert_second_is_refused(&service);
    let mut sunk = Sunk::default();
    end_in_peace(server, tap, &mut sunk, &sender);
}

/// A server runs on in whose place another one has started: it takes nothing more, and what the
/// other one has acknowledged is not touched by it.
#[test]
fn a_successor_keeps_what_it_has_acknowledged() {
    type Take<'a> = &'a dyn Fn(&Path);

    let empty = |journal: &Path| {
        for file in fs::read_dir(journal).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    };
    let move_away = |journal: &Path| fs::rename(journal, journal.with_file_name("away")).unwrap();
    let ways: [(&str, Take<'_>); 3] =
        [("removed", &remove), ("emptied", &empty), ("moved", &move_away)];
    for (way, take) in ways {
        eprintln!("{way}");
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (on(dir.path(), "synced"), on(dir.path(), "synced"));
        let (first, first_tap) = start(&one);
        let mut sender = Sender::new(&one);
        sender.post_all(300);
        take(&one.journal());
        let (second, second_tap) = start(&other);
        let mut later = Sender::new(&other);
        later.post_all(400);
        sender.until_refused();
        let told = first.stderr().join("\n");
        assert!(told.contains("the journal's directory was replaced"), "{told}");
        // What it has acknowledged it hands on, and lets go of it as if it were its own.
        let mut sunk = Sunk::default();
        end_in_peace(first, first_tap, &mut sunk, &sender);
        later.post_all(100);
        let mut sunk = Sunk::default();
        second.kill();
        second_tap.end_life(&mut sunk);
        let (third, tap) = start(&other);
        later.reconnect();
        later.post_all(10);
        end_in_peace(third, tap, &mut sunk, &later);
    }
}

/// With a limit on the size of files below that of a segment, segments are smaller.
#[test]
fn a_limit_on_the_size_of_files_leaves_room_for_small_segments() {
    let dir = tempfile::tempdir().unwrap();
    let service = on(dir.path(), "written");
    let mut command = Command::new("sh");
    // In blocks of 512 bytes.
    command.current_dir(service.pki.dir()).args(["-c", "ulimit -f 600; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_ringhook"));
    service.arguments(&mut command);
    let (tap, stdout) = Tap::new();
    let server = Process::start_with_stdout(command, stdout);
    let mut sender = Sender::new(&service);
    sender.post_all(100);
    let mut sunk = Sunk::default();
    end_in_peace(server, tap, &mut sunk, &sender);
}

// Whose it is

/// Asserts that no other process can have the journal of `service`, whose server runs.
#[track_caller]
fn assert_second_is_refused(service: &Service) {
    let data = service.journal().parent().unwrap().to_str().unwrap().to_owned();
    let mut second = ringhook(service.pki.dir());
    second.args(["serve", "--listen", "127.0.0.1:0", "--config", "ringhook.toml"]);
    second.args(["--cert", "cert.pem", "--key", "key.pem", "--data-dir", &data]);
    let Said { status, stdout, stderr } = talk(&mut second, b"");
    assert_eq!((status.code(), &*stdout), (Some(1), ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&data), "{stderr}");
}

#[test]
fn a_second_process_on_the_same_directory_is_refused_by_name() {
    let service = Service::new("", &["--output", "null"]);
    let server = service.start();
    assert_second_is_refused(&service);
    // The first one has not noticed.
    assert_eq!(service.connect().post(&update_of(1, 1)).status, 200);
    assert_eq!(server.terminate().status.code(), Some(0));
    // A killed process releases it as well.
    service.start().kill();
    assert_eq!(service.start().terminate().status.code(), Some(0));
}

#[test]
fn the_journal_is_its_owners_alone() {
    let service = Service::new(SMALL_SEGMENTS, &["--output", "null"]);
    let mut command = Command::new("sh");
    // Whatever the operator has set: for people in general, everything is allowed here.
    command.current_dir(service.pki.dir()).args(["-c", "umask 0; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_ringhook"));
    service.arguments(&mut command);
    let server = Process::start(command);
    let mut sender = Sender::new(&service);
    // Several segments, and what is beside them.
    sender.post_all(400);
    let check = || {
        assert_eq!(mode(&service.journal()), 0o700);
        let files = fs::read_dir(service.journal()).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            // Some go while we look.
            let mode = fs::metadata(&file).map(|file| file.permissions().mode() & 0o777);
            assert!(mode.as_ref().is_ok_and(|mode| *mode == 0o600) || !file.exists(), "{file:?}");
        }
    };
    check();
    server.kill();
    check();
    let server = service.start();
    check();
    assert_eq!(server.terminate().status.code(), Some(0));
    check();
}
