//! Routes: what `routes explain` says, and a reload that changes them.

use std::fs;

use crate::{
    binary::{process::run, service::Service},
    support::{PATH, SECRET, client::Client, request_to, update_of, wait_until},
};

const OUTPUTS: &str = "[[output]]\nname = 'one'\nto = 'ndjson:one'\n\
                       [[output]]\nname = 'two'\nto = 'ndjson:two'\n";

#[track_caller]
fn accept(client: &mut Client, id: i64) {
    client.send(&request_to(PATH, SECRET, &update_of(7, id)));
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_reload_changes_routes_and_what_is_wrong_with_them_changes_nothing() {
    let service = Service::new(OUTPUTS, &[]);
    let at = |name: &str| service.pki.dir().join(name);
    let base = fs::read_to_string(at("ringhook.toml")).unwrap();
    let server = service.start();
    let says = |what: &str| server.stderr().iter().filter(|line| line.contains(what)).count();
    let lines = |name: &str| {
        let text = fs::read_to_string(at(name)).unwrap_or_default();
        text.lines().count()
    };
    let mut client = service.connect();
    accept(&mut client, 1);
    wait_until("the first output has it", || lines("one") == 1);

    fs::write(at("ringhook.toml"), format!("{base}[[route]]\nkind = 'message'\nto = 'two'\n"))
        .unwrap();
    server.signal("HUP");
    wait_until("it is told", || says("config reloaded: changed: route") == 1);
    accept(&mut client, 2);
    wait_until("the second output has it", || lines("two") == 1);

    for (wrong, told) in [
        ("kind = 'mesage'\nto = 'two'", "route 1: kind = \"mesage\": expected "),
        ("to = 'three'", "route 1: to = \"three\": expected "),
    ] {
        fs::write(at("ringhook.toml"), format!("{base}[[route]]\n{wrong}\n")).unwrap();
        server.signal("HUP");
        wait_until("the mistake is told", || says(told) >= 1);
    }
    accept(&mut client, 3);
    wait_until("the routes before are in force", || lines("two") == 2);

    fs::write(at("ringhook.toml"), format!("{base}[[route]]\nto = ['one', 'two']\n")).unwrap();
    server.signal("HUP");
    wait_until("it is told", || says("config reloaded: changed: route") == 2);
    accept(&mut client, 4);
    wait_until("both have it", || (lines("one"), lines("two")) == (2, 3));
    assert!(server.terminate().status.success());
}

#[test]
fn explain_tells_which_route_takes_an_update_and_why_not_those_before() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "{OUTPUTS}[[bot]]\nname = 'shop'\npath = '/a'\nauth = 'none'\n\
         [[bot]]\nname = 'other'\npath = '/b'\nauth = 'none'\noutput = 'two'\n\
         [[route]]\nkind = 'callback_query'\nto = 'two'\n\
         [[route]]\nname = 'starts'\nbot = 'shop'\nchat = 7\nto = ['one', 'two']\n"
    );
    fs::write(dir.path().join("c.toml"), config).unwrap();
    fs::write(dir.path().join("update.json"), update_of(7, 1)).unwrap();
    let explain = |args: &[&str]| {
        let args = [&["routes", "explain", "update.json", "--config", "c.toml"], args].concat();
        let (code, stdout, stderr) = run(dir.path(), &args);
        assert_eq!((code, &*stderr), (0, ""), "{stdout}");
        stdout
    };
    let told = explain(&[]);
    assert!(told.contains("route 1 does not take it: the kind is message\n"), "{told}");
    assert!(told.contains("takes it: to one and two"), "{told}");
    assert!(!told.contains("hello"), "no text of the update: {told}");
    let told = explain(&["--bot", "other"]);
    assert!(told.contains("the bot is other"), "{told}");
    assert!(told.contains("no route takes it: to two"), "{told}");
    let json: serde_json::Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    assert_eq!(json["outputs"], serde_json::json!(["one", "two"]));

    let (code, _, stderr) = run(dir.path(), &["routes", "explain", "c.toml", "--config", "c.toml"]);
    assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
    assert!(stderr.contains("c.toml is no update"), "{stderr}");
}

#[test]
fn auto_asks_for_the_kinds_that_the_routes_have_use_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[output]]\nname = 'one'\nto = 'null'\n\
                  [[route]]\nkind = ['message', 'callback_query']\nto = 'one'\n\
                  [[route]]\nto = 'drop'\n\
                  [[bot]]\nname = 'a'\npath = '/a'\nauth = 'none'\nallowed_updates = 'auto'\n";
    fs::write(dir.path().join("c.toml"), config).unwrap();
    let (code, printed, stderr) =
        run(dir.path(), &["serve", "--config", "c.toml", "--print-config"]);
    assert_eq!((code, &*stderr), (0, ""));
    let printed: toml::Table = printed.parse().unwrap();
    let kinds = printed["bot"][0]["allowed_updates"].as_array().unwrap();
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str().unwrap()).collect();
    assert_eq!(kinds, ["message", "callback_query"]);
}
