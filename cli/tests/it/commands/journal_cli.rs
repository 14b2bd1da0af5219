//! `ringhook journal`: what a person sees of the journal, and gets out of it without a server.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader},
    os::unix::fs::{FileExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::{
    binary::process::{Process, ringhook, run},
    support::{
        client::{self, Client},
        request_to, update, wait_until,
    },
};

const CONFIG: &str = r#"
[server]
shards = 1
workers = 1
[journal]
segment_bytes = "1MiB"
[[output]]
name = 'out'
to = "ndjson:out"
[[bot]]
name = "shop"
path = "/shop"
secret_token = "token-of-the-shop"
[[bot]]
name = "news"
path = "/news"
secret_token = "token-of-the-news"
"#;

/// A sink that takes nothing: what a server gets stays unsettled.
const FULL: &[&str] = &["--config", "config", "--output", "ndjson:/dev/full"];

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config"), CONFIG).unwrap();
    dir
}

fn connect(server: &Process, dir: &Path) -> Client {
    let cert = fs::read_to_string(dir.join("ringhook-data/cert.pem")).unwrap();
    Client::connect_with(server.addr, client::trusting(&cert, rustls::ALL_VERSIONS))
}

#[track_caller]
fn post(client: &mut Client, bot: &str, body: &str) {
    let token = format!("token-of-the-{bot}");
    client.send(&request_to(&format!("/{bot}"), &token, body));
    assert_eq!(client.response().status, 200);
}

/// A server that settles nothing gets the updates 0 to 9, the odd ones for another bot, and is
/// killed.
fn killed(dir: &Path) {
    let mut server = Process::serve(dir, FULL);
    let mut client = connect(&server, dir);
    for id in 0..10 {
        post(&mut client, if id % 2 == 0 { "shop" } else { "news" }, &update(id));
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

/// `ringhook journal` with `args`: exit code, stdout, stderr.
fn journal(dir: &Path, args: &[&str]) -> (i32, String, String) {
    run(dir, &[&["journal"], args].concat())
}

/// What `ringhook journal` with `args` prints where all is well.
#[track_caller]
fn printed(dir: &Path, args: &[&str]) -> String {
    let (code, out, said) = journal(dir, args);
    assert_eq!(code, 0, "{said}");
    out
}

#[track_caller]
fn json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&printed(dir, args)).unwrap()
}

/// The ids in lines of updates, with or without what the sink tells beside them.
fn ids(lines: &str) -> Vec<i64> {
    let id = |line| {
        let line = serde_json::from_str::<Value>(line).unwrap();
        line.get("update").unwrap_or(&line)["update_id"].as_i64().unwrap()
    };
    lines.lines().map(id).collect()
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("ringhook-data/journal/0000000001.journal")
}

/// Changes the bit at `offset` of the segment.
fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[track_caller]
fn offset_of(dir: &Path, id: i64) -> u64 {
    let lines =
        printed(dir, &["cat", "--meta", "--from", &id.to_string(), "--to", &id.to_string()]);
    serde_json::from_str::<Value>(&lines).unwrap()["offset"].as_u64().unwrap()
}

#[test]
fn what_a_killed_server_leaves_is_listed_and_shown() {
    let dir = dir();
    let dir = dir.path();
    killed(dir);
    let before = fs::read(segment(dir)).unwrap();

    let table = printed(dir, &["ls"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("segment             created"), "{table}");
    let cells: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!((cells[0], cells[3], cells[4], cells[5]), ("0000000001.journal", "10", "0", "10"));
    assert_eq!(*cells.last().unwrap(), "active");
    assert!(lines[2].starts_with("total               1 segment(s)"), "{table}");
    assert!(lines[3].starts_with("ids: 0 file(s), 0 bytes"), "{table}");
    let listing = json(dir, &["ls", "--json"]);
    let row = &listing["segments"][0];
    assert_eq!(row["unsettled"], 10);
    assert_eq!(row["file_bytes"], 1 << 20);
    assert!(row["unsettled_bytes"].as_u64() < row["bytes"].as_u64());
    assert!(row["oldest_unsettled_seconds"].as_f64().unwrap() < 600.0);
    assert_eq!(listing["total"]["unsettled"], 10);

    let sent = |ids: &[i64]| -> Vec<Value> {
        ids.iter().map(|id| serde_json::from_str(&update(*id)).unwrap()).collect()
    };
    let shown = |args: &[&str]| -> Vec<Value> {
        let lines = printed(dir, &[&["cat"], args].concat());
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(shown(&[]), sent(&(0..10).collect::<Vec<_>>()));
    assert_eq!(shown(&["--bot", "news", "--unsettled"]), sent(&[1, 3, 5, 7, 9]));
    assert_eq!(shown(&["--from", "3", "--to", "5"]), sent(&[3, 4, 5]));
    assert_eq!(shown(&["--kind", "poll"]), sent(&[]));
    assert_eq!(shown(&["--kind", "poll", "--kind", "message", "--to", "-1"]), sent(&[]));
    assert_eq!(shown(&["--kind", "message", "--to", "0"]), sent(&[0]));
    let line = &shown(&["--meta", "--from", "4", "--to", "4"])[0];
    assert_eq!(
        (&line["segment"], &line["bot"], &line["update_id"]),
        (&1.into(), &"shop".into(), &4.into())
    );
    assert_eq!((&line["settled"], &line["update"]), (&false.into(), &sent(&[4])[0]));
    let received = line["received"].as_str().unwrap();
    assert!(received.len() == 27 && received.starts_with("20") && received.ends_with('Z'));

    let verdict = json(dir, &["verify", "--json"]);
    assert_eq!((&verdict["records"], &verdict["segments"]), (&10.into(), &1.into()));
    assert!(printed(dir, &["verify"]).ends_with(": no damage\n"));
    assert_eq!(fs::read(segment(dir)).unwrap(), before, "who only looks changes nothing");
}

#[test]
fn a_replay_settles_what_the_sink_has_taken() {
    let dir = dir();
    let dir = dir.path();
    killed(dir);
    let said = journal(dir, &["replay", "--dry-run", "--config", "config"]).2;
    assert_eq!(said, "10 update(s) to be replayed, 0 duplicate(s) left out\n");
    assert!(!dir.join("out").exists());

    // Of a sink that takes nothing, nothing is settled.
    let (code, _, said) = journal(dir, &["replay", "--output", "ndjson:/dev/full"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.starts_with("0 update(s) replayed, 0 duplicate(s) left out\nringhook: the output ")
    );
    assert!(said.contains("waits in the journal"), "{said}");
    assert_eq!(json(dir, &["ls", "--json"])["total"]["unsettled"], 10);

    let out = || fs::read_to_string(dir.join("out")).unwrap();
    let (code, _, said) = journal(dir, &["replay", "--config", "config", "--bot", "news"]);
    assert_eq!((code, &*said), (0, "5 update(s) replayed, 0 duplicate(s) left out\n"));
    assert_eq!(ids(&out()), [1, 3, 5, 7, 9]);
    assert_eq!(ids(&printed(dir, &["cat", "--unsettled"])), [0, 2, 4, 6, 8]);
    let meta = printed(dir, &["cat", "--meta", "--to", "1"]);
    let settled = |line: &str| serde_json::from_str::<Value>(line).unwrap()["settled"].clone();
    assert_eq!(meta.lines().map(settled).collect::<Vec<_>>(), [false, true]);

    let again = journal(dir, &["replay", "--all", "--output", "ndjson:-", "--to", "3"]);
    assert_eq!(ids(&again.1), [0, 1, 2, 3]);
    assert_eq!(
        again.2,
        "4 update(s) replayed, 2 of them settled before, 0 duplicate(s) left out\n"
    );

    // A server delivers what is left, and only that.
    fs::remove_file(dir.join("out")).unwrap();
    let server = Process::serve(dir, &["--config", "config"]);
    wait_until("the rest is delivered", || {
        fs::read_to_string(dir.join("out")).is_ok_and(|text| ids(&text).len() >= 3)
    });
    assert_eq!(server.terminate().status.code(), Some(0));
    assert_eq!(ids(&out()), [4, 6, 8]);
}

#[test]
fn after_a_replay_of_everything_a_server_delivers_nothing() {
    let dir = dir();
    let dir = dir.path();
    killed(dir);
    let (code, out, said) = journal(dir, &["replay"]);
    assert_eq!((code, ids(&out)), (0, (0..10).collect()), "{said}");
    assert_eq!(journal(dir, &["replay"]).2, "0 update(s) replayed, 0 duplicate(s) left out\n");
    let server = Process::serve(dir, &["--config", "config"]);
    // It knows them all the same.
    let mut client = connect(&server, dir);
    for id in [0, 10] {
        post(&mut client, "shop", &update(id));
    }
    assert_eq!(server.terminate().status.code(), Some(0));
    assert_eq!(ids(&fs::read_to_string(dir.join("out")).unwrap()), [10]);
    assert_eq!(json(dir, &["ls", "--json"])["total"]["unsettled"], 0);
}

#[test]
fn an_update_that_came_twice_is_replayed_once() {
    let dir = dir();
    let dir = dir.path();
    killed(dir);
    // The next server knows the ids, and keeps what comes again until it has looked at it.
    let mut server = Process::serve(dir, FULL);
    let mut client = connect(&server, dir);
    for id in 0..10 {
        post(&mut client, if id % 2 == 0 { "shop" } else { "news" }, &update(id));
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let listing = json(dir, &["ls", "--json"]);
    assert_eq!(listing["total"]["records"], 20);
    let states = listing["segments"].as_array().unwrap().iter().map(|row| &row["state"]);
    assert_eq!(states.collect::<Vec<_>>(), ["sealed", "active"]);
    let duplicates = listing["total"]["unsettled"].as_u64().unwrap() - 10;
    let (code, out, said) = journal(dir, &["replay"]);
    assert_eq!((code, ids(&out)), (0, (0..10).collect()), "{said}");
    assert_eq!(said, format!("10 update(s) replayed, {duplicates} duplicate(s) left out\n"));
    assert_eq!(json(dir, &["ls", "--json"])["total"]["unsettled"], 0);
}

#[test]
fn damage_is_found_with_file_and_offset_and_takes_nothing_else_with_it() {
    let dir = dir();
    let dir = dir.path();
    killed(dir);
    let (third, seventh) = (offset_of(dir, 3), offset_of(dir, 7));
    let len = offset_of(dir, 4) - third;
    flip(&segment(dir), third + 45);
    flip(&segment(dir), seventh + 5);
    let (code, out, said) = journal(dir, &["verify"]);
    assert_eq!(code, 1, "{out}");
    let line = format!("damaged: 0000000001.journal: {len} bytes at offset {third}: no record");
    assert!(out.contains(&line), "{out}");
    assert!(out.contains(&format!("at offset {seventh}: ")), "{out}");
    assert!(said.starts_with("ringhook: the journal in ringhook-data/journal is damaged in 2"));
    let (code, out, _) = journal(dir, &["verify", "--json"]);
    let verdict: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, verdict["damages"].as_array().unwrap().len()), (1, 2));
    assert_eq!((&verdict["records"], &verdict["damages"][0]["offset"]), (&8.into(), &third.into()));

    let (code, out, said) = journal(dir, &["cat"]);
    assert_eq!((code, ids(&out)), (0, vec![0, 1, 2, 4, 5, 6, 8, 9]));
    assert!(said.starts_with(&format!("0000000001.journal: {len} bytes at offset {third} are")));
    assert!(!said.contains("hello"), "{said}");
    assert!(printed(dir, &["ls"]).contains("active, damaged ("));
    let (code, _, said) = journal(dir, &["replay", "--output", "null"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with(
        "8 update(s) replayed, 0 duplicate(s) left out, 2 damaged part(s) passed over\n"
    ));

    // A server puts the damaged file aside.
    assert_eq!(Process::serve(dir, &["--config", "config"]).terminate().status.code(), Some(0));
    let kept = json(dir, &["ls", "--json"])["kept"].clone();
    assert_eq!(kept[0]["file"], "0000000001.damaged");
    assert!(printed(dir, &["ls"]).contains("kept: 0000000001.damaged, "));
    assert!(printed(dir, &["verify"]).contains("kept: 0000000001.damaged: "));
}

#[test]
fn a_torn_end_is_no_damage_and_damaged_notes_are() {
    let dir = dir();
    let dir = dir.path();
    killed(dir);
    let last = offset_of(dir, 9);
    let file = OpenOptions::new().write(true).open(segment(dir)).unwrap();
    file.set_len(last + 50).unwrap();
    let out = printed(dir, &["verify"]);
    let line = format!("unfinished: 0000000001.journal: at offset {last}: a record was begun");
    assert!(out.contains(&line), "{out}");
    assert!(out.contains(" 9 record(s), "), "{out}");
    assert!(printed(dir, &["ls"]).contains("active, unfinished"));

    assert_eq!(journal(dir, &["replay", "--output", "null"]).0, 0);
    let notes = dir.join("ringhook-data/journal/0000000001.settled");
    assert_eq!(fs::metadata(&notes).unwrap().len(), 9 * 8);
    let bytes = fs::read(&notes).unwrap();
    let whole = (0..8).find(|entry| bytes[entry * 8 + 7] > 1).unwrap() as u64;
    flip(&notes, whole * 8 + 1);
    let (code, out, _) = journal(dir, &["verify"]);
    let line = format!("damaged: 0000000001.settled: 8 bytes at offset {}: ", whole * 8);
    assert!(code == 1 && out.contains(&line), "{out}");
    assert_eq!(json(dir, &["ls", "--json"])["total"]["unsettled"], 1);
}

#[test]
fn a_running_server_can_be_looked_into_and_not_be_replayed() {
    let dir = dir();
    let dir = dir.path();
    let server = Process::serve(dir, &["--config", "config"]);
    let mut client = connect(&server, dir);
    // Several segments come and go meanwhile.
    let text = "x".repeat(100_000);
    for id in 0..60 {
        post(
            &mut client,
            "shop",
            &format!("{{\"update_id\":{id},\"message\":{{\"text\":\"{text}\"}}}}"),
        );
        if id % 4 == 0 {
            for args in
                [&["ls"][..], &["verify"], &["cat", "--unsettled"], &["replay", "--dry-run"]]
            {
                let (code, out, said) = journal(dir, args);
                assert_eq!(code, 0, "{args:?}: {said}");
                assert!(!out.contains("damaged"), "{out}");
            }
        }
    }
    let (code, out, said) = journal(dir, &["replay"]);
    assert_eq!((code, &*out, said.lines().count()), (1, "", 1), "{said}");
    assert!(said.contains("belongs to another process that runs: stop it"), "{said}");
    assert_eq!(server.terminate().status.code(), Some(0));
    let listing = json(dir, &["ls", "--json"]);
    assert_eq!(listing["total"]["unsettled"], 0);
    assert!(listing["ids"].as_array().unwrap().len() > 1, "{listing}");
    assert_eq!(json(dir, &["verify", "--json"])["damages"], Value::Array(vec![]));

    // Ids of a segment that has gone are nowhere else.
    let ids = listing["ids"][0]["file"].as_str().unwrap();
    flip(&dir.join("ringhook-data/journal").join(ids), 30);
    let (code, out, _) = journal(dir, &["verify"]);
    assert!(code == 1 && out.contains(&format!("damaged: {ids}: at offset 0: ")), "{out}");
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let dir = dir();
    let dir = dir.path();
    let mut server = Process::serve(dir, FULL);
    let mut client = connect(&server, dir);
    let text = "x".repeat(100_000);
    for id in 0..20 {
        let chat = format!("{{\"chat\":{{\"id\":{id}}},\"text\":\"{text}\"}}");
        post(&mut client, "shop", &format!("{{\"update_id\":{id},\"message\":{chat}}}"));
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let mut cat = ringhook(dir);
    let cat = cat.args(["journal", "cat"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut cat = cat.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(cat.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(ids(&first), [0]);
    let ended = cat.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn mistakes_are_told_in_a_line() {
    let dir = dir();
    let dir = dir.path();
    for command in ["ls", "cat", "verify", "replay"] {
        let (code, out, said) = journal(dir, &[command]);
        assert_eq!((code, &*out, said.lines().count()), (2, "", 1), "{said}");
        assert!(said.starts_with("ringhook: there is no journal at ringhook-data/journal: name"));
        assert!(!dir.join("ringhook-data").exists());
    }
    killed(dir);
    for (args, text) in [
        (&["cat", "--bot", "shp"][..], "--bot = shp: expected one of: news, shop"),
        (&["cat", "--from", "2", "--to", "1"], "--from = 2: expected 1 or less"),
        (&["replay", "--output", "nowhere"], "output.to = nowhere: expected ndjson:-"),
        (&["ls", "--config", "missing"], "config missing: No such file"),
    ] {
        let (code, out, said) = journal(dir, args);
        assert_eq!((code, &*out, said.lines().count()), (2, "", 1), "{said}");
        assert!(said.starts_with(&format!("ringhook: {text}")), "{said}");
    }
    assert_eq!(journal(dir, &["cat", "--kind", "mesage"]).0, 2);
    // The name of a bot that no head and no config knows is the hex of its key.
    assert_eq!(printed(dir, &["cat", "--bot", "0123abcd"]), "");

    // A later version's journal is left alone.
    let file = OpenOptions::new().read(true).write(true).open(segment(dir)).unwrap();
    let mut head = [0; 16];
    file.read_exact_at(&mut head, 0).unwrap();
    let len = u32::from_le_bytes(head[12..].try_into().unwrap()) as usize;
    let mut head = vec![0; len];
    file.read_exact_at(&mut head, 0).unwrap();
    head[8] = 9;
    let crc = crc32c(&head[..len - 4]);
    head[len - 4..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&head, 0).unwrap();
    for command in ["ls", "cat", "verify", "replay"] {
        let (code, _, said) = journal(dir, &[command]);
        assert_eq!((code, said.lines().count()), (1, 1), "{said}");
        assert!(said.contains("is of version 9 of the format"), "{said}");
    }
}

/// CRC32C bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn help_fits_a_hundred_columns() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["--help"][..], &["ls", "--help"], &["cat", "-h"], &["replay", "--help"]] {
        let text = printed(dir.path(), command);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

/// A segment that is not what its name says is told by all that look at it, and stays.
#[test]
fn a_renamed_segment_is_told_and_kept() {
    let dir = dir();
    let dir = dir.path();
    killed(dir);
    let file = |name: &str| dir.join("ringhook-data/journal").join(name);
    fs::rename(segment(dir), file("0000000007.journal")).unwrap();
    let before = fs::read(file("0000000007.journal")).unwrap();
    let (code, out, _) = journal(dir, &["verify"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("damaged: 0000000007.journal: "), "{out}");
    assert!(out.contains("it is segment 1 under another name"), "{out}");
    let server = Process::serve(dir, &["--config", "config"]);
    let told = server.stderr().join("\n");
    assert!(told.contains("0000000007.journal is segment 1 under another name"), "{told}");
    assert!(told.contains("kept as 0000000007.damaged"), "{told}");
    assert_eq!(server.terminate().status.code(), Some(0));
    assert_eq!(fs::read(file("0000000007.damaged")).unwrap(), before);
    // As it was told.
    fs::rename(file("0000000007.damaged"), segment(dir)).unwrap();
    let server = Process::serve(dir, &["--config", "config"]);
    let out = dir.join("out");
    wait_until("all are there", || {
        fs::read_to_string(&out).is_ok_and(|out| out.lines().count() >= 10)
    });
    assert_eq!(server.terminate().status.code(), Some(0));
    assert_eq!(ids(&fs::read_to_string(&out).unwrap()), (0..10).collect::<Vec<_>>());
}

/// Who may write to the journal's directory cannot have `replay` write elsewhere.
#[test]
fn a_replay_follows_no_link() {
    let dir = dir();
    let dir = dir.path();
    killed(dir);
    let (target, lock) = (dir.join("target"), dir.join("ringhook-data/journal/lock"));
    fs::write(&target, "precious").unwrap();
    fs::remove_file(&lock).unwrap();
    symlink(&target, &lock).unwrap();
    let (code, _, said) = journal(dir, &["replay", "--output", "null"]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    fs::remove_file(&lock).unwrap();
    let settled = dir.join("ringhook-data/journal/0000000001.settled");
    fs::remove_file(&settled).unwrap();
    symlink(&target, &settled).unwrap();
    let (code, _, said) = journal(dir, &["replay", "--output", "null"]);
    assert!(code == 1 && said.contains("0000000001.settled"), "{said}");
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}
