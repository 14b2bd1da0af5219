//! The listeners of a config file.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use crate::{
    binary::process,
    support::{
        SECRET,
        raw::{Raw, tcp, unix},
        update, wait_until,
    },
};

/// Runs `ringhook serve` until it is ready, and gives what it said and where.
fn greeted(dir: &Path, config: &str, test: impl FnOnce(&str)) -> String {
    let bot = format!("[[bot]]\nname='test'\npath='/webhook'\nsecret_token='{SECRET}'\n");
    fs::write(dir.join("ringhook.toml"), format!("{config}\n{bot}")).unwrap();
    let mut command = process::ringhook(dir);
    command.args(["serve", "--config", "ringhook.toml", "--output", "ndjson:updates"]);
    if let Ok(driver) = std::env::var("RINGHOOK_TEST_DRIVER") {
        command.args(["--driver", &driver]);
    }
    command.stdout(Stdio::null()).stderr(fs::File::create(dir.join("said")).unwrap());
    let mut child = command.spawn().unwrap();
    let said = || fs::read_to_string(dir.join("said")).unwrap();
    wait_until("it is ready", || {
        assert_eq!(child.try_wait().unwrap(), None, "{}", said());
        said().lines().any(|line| line.starts_with("ready "))
    });
    test(&said());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success(), "{}", said());
    said()
}

#[test]
fn a_plain_server_makes_no_certificate_and_says_what_it_listens_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[listener]]\naddress = 'unix:hook.sock'\ntls = false\nmode = '0600'\n\
                  [[listener]]\naddress = '0.0.0.0:0'\ntls = false";
    let said = greeted(dir.path(), config, |said| {
        let socket = dir.path().join("hook.sock");
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Raw::new(unix(&socket)).post(&update(1)).status, 200);
        let also = said.lines().find_map(|line| line.trim().strip_prefix("also on")).unwrap();
        let addr = also.trim().strip_prefix("http://").unwrap().parse().unwrap();
        assert_eq!(tcp(addr).post(&update(2)).status, 200);
    });
    assert!(said.contains("ready http+unix:hook.sock:/webhook\n"), "{said}");
    let notice = |line: &str| line.contains("notice") && line.contains("speaks plain HTTP");
    assert!(said.lines().any(|line| notice(line) && line.contains("0.0.0.0:")), "{said}");
    let tried = |line: &str| line.contains("try") && line.contains("curl --unix-socket hook.");
    assert!(said.lines().any(tried), "{said}");
    assert!(!dir.path().join("ringhook-data/cert.pem").exists());
    assert!(!dir.path().join("hook.sock").exists());
    let updates = fs::read_to_string(dir.path().join("updates")).unwrap();
    assert_eq!(updates.lines().count(), 2);
}

#[test]
fn a_printed_config_has_the_listeners() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[listener]]\naddress = 'unix:hook.sock'\nallow = ['telegram']\n\
                  [[bot]]\nname='a'\npath='/a'\nauth='none'\nallow=['10.0.0.0/8']\n";
    fs::write(dir.path().join("ringhook.toml"), config).unwrap();
    let print = |args: &[&str]| {
        let args = [&["serve", "--config", "ringhook.toml", "--print-config"], args].concat();
        let (code, printed, said) = process::run(dir.path(), &args);
        assert_eq!(code, 0, "{said}");
        printed
    };
    let printed = print(&[]);
    for line in ["mode = \"0660\"", "tls = true", "reuse_port = false"] {
        assert!(printed.lines().any(|it| it == line), "{line}: {printed}");
    }
    assert!(!printed.contains("listen = "), "{printed}");
    let printed = print(&["--listen", "fd:https", "--reuse-port"]);
    for line in ["listen = \"fd:https\"", "reuse_port = true"] {
        assert!(printed.lines().any(|it| it == line), "{line}: {printed}");
    }
    fs::write(dir.path().join("ringhook.toml"), &printed).unwrap();
    assert_eq!(print(&[]), printed);
}
