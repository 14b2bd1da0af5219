//! The files that updates are written to: renamed and removed while they are written, named by two
//! settings, and what a line tells.

use std::{
    borrow::Cow,
    fs,
    io::Read as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
    time::Duration,
};

use ringhook::{Bot, Config, Outcome, Server, Update};
use serde_json::Value;

use crate::{
    binary::{
        process::{ringhook, run},
        service::Service,
    },
    support::{PATH, PATIENCE, SECRET, client::Client, request_to, wait_until},
};

fn post(client: &mut Client, path: &str, id: u32) {
    let body = format!("{{\"update_id\":{id},\"message\":{{\"chat\":{{\"id\":1}}}}}}");
    client.send(&request_to(path, SECRET, &body));
    assert_eq!(client.response().status, 200);
}

/// The ids in the whole lines of the file at `path`, where there is one.
fn ids(path: &Path) -> Vec<i64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["update_id"].as_i64();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.map(|line| id(line).unwrap()).collect()
}

fn wait_ids(path: &Path, expected: &[i64]) {
    wait_until(&format!("{expected:?} are in {}", path.display()), || {
        let ids = ids(path);
        expected.iter().all(|id| ids.contains(id))
    });
}

#[test]
fn a_file_that_is_rotated_or_removed_loses_no_update() {
    for ack in ["written", "synced"] {
        let service = Service::new("", &["--output", "ndjson:out", "--ack", ack]);
        let at = |name: &str| service.pki.dir().join(name);
        let server = service.start();
        let mut client = service.connect();
        post(&mut client, PATH, 1);
        wait_ids(&at("out"), &[1]);
        // As logrotate does it.
        fs::rename(at("out"), at("out.1")).unwrap();
        server.signal("HUP");
        wait_until("the file is made anew", || at("out").exists());
        post(&mut client, PATH, 2);
        wait_ids(&at("out"), &[2]);
        assert_eq!(ids(&at("out.1")), [1]);
        // Without a word.
        fs::rename(at("out"), at("out.2")).unwrap();
        post(&mut client, PATH, 3);
        wait_ids(&at("out"), &[3]);
        fs::remove_file(at("out")).unwrap();
        post(&mut client, PATH, 4);
        wait_ids(&at("out"), &[4]);
        // As copytruncate does it.
        fs::copy(at("out"), at("out.3")).unwrap();
        fs::OpenOptions::new().write(true).truncate(true).open(at("out")).unwrap();
        post(&mut client, PATH, 5);
        wait_ids(&at("out"), &[5]);
        assert_eq!(ids(&at("out")), [5]);
        assert!(server.terminate().status.success());
    }
}

#[test]
fn what_cannot_be_made_anew_waits_until_it_can() {
    let service = Service::new("", &["--output", "ndjson:logs/out"]);
    let at = |name: &str| service.pki.dir().join(name);
    fs::create_dir(at("logs")).unwrap();
    let server = service.start();
    let mut client = service.connect();
    post(&mut client, PATH, 1);
    wait_ids(&at("logs/out"), &[1]);
    fs::rename(at("logs"), at("old")).unwrap();
    post(&mut client, PATH, 2);
    let is_told = |line: &String| line.contains("was renamed or removed and cannot be opened anew");
    wait_until("it is logged", || server.stderr().iter().any(is_told));
    fs::create_dir(at("logs")).unwrap();
    wait_ids(&at("logs/out"), &[2]);
    assert!(server.terminate().status.success());
}

#[test]
fn dead_letters_are_rotated_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut config = Config::default();
    config.dispatch.dead_letters = Some(at("letters"));
    config.dispatch.max_attempts = 1;
    let server = Server::builder()
        .config(config)
        .without_listeners()
        .bot(Bot::without_secret("shop", "/"))
        .handler(|_: &Update| Outcome::Failed(Cow::Borrowed("no")))
        .start()
        .unwrap();
    let bring = |id: u32| {
        assert_eq!(server.deliver("shop", &[format!("{{\"update_id\":{id}}}")]), Ok(1));
    };
    bring(1);
    wait_ids(&at("letters"), &[1]);
    fs::rename(at("letters"), at("letters.1")).unwrap();
    server.reopen();
    wait_until("the file is made anew", || at("letters").exists());
    bring(2);
    wait_ids(&at("letters"), &[2]);
    fs::remove_file(at("letters")).unwrap();
    bring(3);
    wait_ids(&at("letters"), &[3]);
    assert_eq!(ids(&at("letters.1")), [1]);
}

#[test]
fn two_outputs_are_never_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[dispatch]\ndead_letters = 'sub/../out'\n\
                  [[bot]]\nname = 'a'\npath = '/a'\nauth = 'none'\n";
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("config"), config).unwrap();
    let refused = |args: &[&str]| {
        let (code, _, said) = run(dir.path(), args);
        assert_eq!((code, said.lines().count()), (2, 1), "{said}");
        said
    };
    let serve = ["serve", "--listen", "127.0.0.1:0", "--config", "config", "--output"];
    let said = refused(&[&serve[..], &["ndjson:out"]].concat());
    assert!(
        said.contains("dispatch.dead_letters = sub/../out and output.to = ndjson:out of"),
        "{said}"
    );
    let said = refused(&[&serve[..], &["ndjson:x", "--report", "./x"]].concat());
    assert!(
        said.contains("--report = ./x and output.to = ndjson:x of \"default\" are one file"),
        "{said}"
    );
    let said = refused(&[&serve[..], &["ndjson:config"]].concat());
    assert!(
        said.contains("output.to = ndjson:config of \"default\" is config, which is read"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(dir.path().join("config")).unwrap(), config);
    fs::write(dir.path().join("letters"), "").unwrap();
    let said = refused(&["dead-letters", "replay", "letters", "--output", "ndjson:./letters"]);
    assert!(said.contains("another file than letters"), "{said}");
}

#[test]
fn a_socket_as_standard_output_is_written_to_by_its_path_too() {
    for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let service = Service::new("", &["--output", &format!("ndjson:{path}")]);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let server = service.start_with_stdout(Stdio::from(OwnedFd::from(theirs)));
        post(&mut service.connect(), PATH, 7);
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = [0; 14];
        ours.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"{\"update_id\":7");
        assert!(server.terminate().status.success());
    }
    // One that is no descriptor of standard output.
    let dir = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let output = ringhook(dir.path())
        .args(["serve", "--listen", "127.0.0.1:0", "--output", "ndjson:socket"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("write ndjson:-"), "{said}");
}

#[test]
fn a_line_tells_its_bot_where_there_is_more_than_one() {
    let other = format!("[[bot]]\nname = 'other'\npath = '/other'\nsecret_token = '{SECRET}'\n");
    let lines = |config: &str, args: &[&str], paths: &[&str]| {
        let service = Service::new(config, &[&["--output", "ndjson:out"][..], args].concat());
        let server = service.start();
        let mut client = service.connect();
        for (path, id) in paths.iter().zip(1..) {
            post(&mut client, path, id);
        }
        assert!(server.terminate().status.success());
        let text = fs::read_to_string(service.pki.dir().join("out")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let told = lines(&other, &[], &["/other", PATH]);
    let bot_of = |id: i64| {
        let line = told.iter().find(|line| line["update"]["update_id"] == id).unwrap();
        (line["bot"].clone(), line["kind"].clone())
    };
    assert_eq!(bot_of(1), ("other".into(), "message".into()));
    assert_eq!(bot_of(2), ("test".into(), "message".into()));
    let keys = ["bot", "update_id", "kind", "received", "update"];
    for line in &told {
        assert_eq!(line["update_id"], line["update"]["update_id"]);
        assert_eq!(line.as_object().unwrap().len(), keys.len());
        keys.iter().for_each(|key| assert!(line.get(key).is_some(), "{key}: {line}"));
    }
    let received = humantime::parse_rfc3339(told[0]["received"].as_str().unwrap()).unwrap();
    assert!(received.elapsed().unwrap() < Duration::from_secs(3600));
    assert_eq!(lines("", &[], &[PATH])[0]["update_id"], 1);
    assert_eq!(lines("", &["--meta"], &[PATH])[0]["bot"], "test");
    assert_eq!(lines(&other, &["--meta=false"], &[PATH])[0]["update_id"], 1);
    let without = format!("[[output]]\nname = 'out'\nto = 'ndjson:-'\nmeta = false\n{other}");
    assert_eq!(lines(&without, &[], &[PATH])[0]["update_id"], 1);
}

/// Values of the update by path, as the JSON that they are.
#[test]
fn a_line_has_its_fields_beside_the_update() {
    const FIELDS: &str = "[output.fields]\ncommand = 'message.text'\nid = 'message.message_id'\n\
                          bot = 'message.from.is_bot'\nchat = 'message.chat'\n";
    let config = format!("[[output]]\nname = 'out'\nto = 'ndjson:out'\n{FIELDS}");
    let service = Service::new(&config, &[]);
    let server = service.start();
    let mut client = service.connect();
    let full = "{\"update_id\":1,\"message\":{\"message_id\":7,\"from\":{\"is_bot\":false},\
                \"chat\":{\"id\":1},\"text\":\"/start \\\"\\n\\u0416\"}}";
    for body in [full, "{\"update_id\":2,\"message\":{\"chat\":{\"id\":1},\"text\":null}}"] {
        client.send(&request_to(PATH, SECRET, body));
        assert_eq!(client.response().status, 200);
    }
    assert!(server.terminate().status.success());
    let at = |name: &str| service.pki.dir().join(name);
    let text = fs::read_to_string(at("out")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = |line: &Value| line["fields"].clone();
    let (chat, command) = (serde_json::json!({"id": 1}), "/start \"\n\u{416}");
    let expected = serde_json::json!({"bot": false, "chat": chat, "command": command, "id": 7});
    assert_eq!(fields(&lines[0]), expected);
    assert_eq!(fields(&lines[1]), serde_json::json!({"chat": chat}));
    assert_eq!((&lines[0]["bot"], &lines[0]["kind"]), (&"test".into(), &"message".into()));
    assert_eq!(lines[0]["update"], serde_json::from_str::<Value>(full).unwrap());

    // A replay to the same output has them, too; one to another output, or without meta, has not.
    let letter = format!("{{\"bot\":\"test\",\"update\":{full}}}\n");
    fs::write(at("letters"), letter).unwrap();
    let replay = |args: &[&str]| {
        let all = ["dead-letters", "replay", "letters", "--config", "ringhook.toml"];
        let (code, _, stderr) = run(service.pki.dir(), &[&all[..], args].concat());
        assert_eq!(code, 0, "{stderr}");
    };
    fs::remove_file(at("out")).unwrap();
    let first = |name: &str| {
        let text = fs::read_to_string(at(name)).unwrap();
        serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()
    };
    replay(&[]);
    assert_eq!(fields(&first("out")), expected);
    replay(&["--output", "ndjson:other"]);
    assert_eq!(first("other")["update_id"], 1);
    fs::remove_file(at("out")).unwrap();
    replay(&["--meta=false"]);
    assert!(first("out").get("fields").is_none());

    // One line for each mistake.
    for (wrong, says) in [
        (
            config.replace("[output.", "meta = false\n[output."),
            "output.meta = false: expected true",
        ),
        (config.replace("command =", "'X-Command' ="), "letters, digits and _"),
        (config.replace("message.text", "message..text"), "fields.\"command\""),
    ] {
        fs::write(at("wrong.toml"), wrong).unwrap();
        let args = ["serve", "--config", "wrong.toml", "--listen", "127.0.0.1:0"];
        let (code, _, stderr) = run(service.pki.dir(), &args);
        assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}

/// The form of the lines follows the bots, and the setting where there is one.
#[test]
fn a_reload_that_adds_a_bot_has_lines_tell_theirs() {
    let service = Service::new("[[output]]\nname = 'out'\nto = 'ndjson:out'\n", &[]);
    let at = |name: &str| service.pki.dir().join(name);
    let one = fs::read_to_string(at("ringhook.toml")).unwrap();
    let other = format!("[[bot]]\nname = 'other'\npath = '/other'\nsecret_token = '{SECRET}'\n");
    let server = service.start();
    // The line that tells of the reload.
    let reload = |config: &str| {
        let told = || {
            let lines = server.stderr().into_iter();
            lines.filter(|line| line.contains("config reloaded")).collect::<Vec<_>>()
        };
        let before = told().len();
        fs::write(at("ringhook.toml"), config).unwrap();
        server.signal("HUP");
        wait_until("the reload is told of", || told().len() > before);
        told().pop().unwrap()
    };
    let mut client = service.connect();
    let line_of = |id: u32| {
        wait_ids(&at("out"), &[id.into()]);
        let text = fs::read_to_string(at("out")).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let line = lines.find(|line| line["update_id"] == id).unwrap();
        line.get("bot").map(|bot| bot.as_str().unwrap().to_owned())
    };
    post(&mut client, PATH, 1);
    assert_eq!(line_of(1), None);
    let said = reload(&format!("{one}{other}"));
    assert!(said.contains("other") && !said.contains("restart"), "{said}");
    wait_until("the other bot is there", || {
        let body = "{\"update_id\":2,\"message\":{\"chat\":{\"id\":1}}}";
        client.send(&request_to("/other", SECRET, body));
        client.response().status == 200
    });
    assert_eq!(line_of(2).as_deref(), Some("other"));
    post(&mut client, PATH, 3);
    assert_eq!(line_of(3).as_deref(), Some("test"));
    let said = reload(&one);
    assert!(!said.contains("restart"), "{said}");
    post(&mut client, PATH, 4);
    assert_eq!(line_of(4), None);
    let said = reload(&one.replace("to = 'ndjson:out'", "to = 'ndjson:out'\nmeta = true"));
    assert!(said.contains("changed: output") && !said.contains("restart"), "{said}");
    post(&mut client, PATH, 5);
    assert_eq!(line_of(5).as_deref(), Some("test"));
    assert!(server.terminate().status.success());
}
