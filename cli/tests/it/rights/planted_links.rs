//! A service's user plants links in its own directory; what root does there leaves all of root's
//! files as they are.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    binary::process::{Process, ringhook},
    support::{
        bot_api::{FakeBotApi, TOKEN},
        external::{program, talk},
        pki,
    },
};

/// A user and a group that no machine has a name for.
const UID: u32 = 4_000_000_001;
const GID: u32 = 4_000_000_002;

/// A directory of root's, `etc`, with a file in it, and one of the service's, `svc`.
struct Scene {
    before: Vec<(PathBuf, u32, u32, u32, String)>,
    dir: tempfile::TempDir,
}

impl Scene {
    /// `None` where this test is not run by root, which must be so where `RINGHOOK_TEST_ROOT` is
    /// set.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("RINGHOOK_TEST_ROOT").is_none(), "root is required");
            eprintln!("skipped: only root has anything to lose");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let scene = |name: &str| dir.path().join(name);
        fs::create_dir(scene("etc")).unwrap();
        fs::set_permissions(scene("etc"), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, text) in [("shadow", "root:hash\n"), ("token", "token_of_root_0123456789")] {
            let path = scene("etc").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::create_dir(scene("svc")).unwrap();
        fs::set_permissions(scene("svc"), fs::Permissions::from_mode(0o700)).unwrap();
        chown(scene("svc"), Some(UID), Some(GID)).unwrap();
        let mut made = Self { before: Vec::new(), dir };
        made.before = made.look();
        Some(made)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Owner, group, mode and content of all that is root's.
    fn look(&self) -> Vec<(PathBuf, u32, u32, u32, String)> {
        let mut paths = vec![self.at("etc")];
        paths.extend(fs::read_dir(self.at("etc")).unwrap().map(|entry| entry.unwrap().path()));
        paths.sort();
        let look = |path: PathBuf| {
            let found = fs::symlink_metadata(&path).unwrap();
            let text = fs::read_to_string(&path).unwrap_or_default();
            (path, found.uid(), found.gid(), found.mode(), text)
        };
        paths.into_iter().map(look).collect()
    }

    /// Makes a directory of the service's.
    fn folder(&self, name: &str) -> &Self {
        fs::create_dir(self.at(name)).unwrap();
        chown(self.at(name), Some(UID), Some(GID)).unwrap();
        self
    }

    /// Has the service's user make a link to root's `target`.
    fn plant(&self, link: &str, target: &str) -> &Self {
        let _ = fs::remove_file(self.at(link));
        symlink(self.at(target), self.at(link)).unwrap();
        std::os::unix::fs::lchown(self.at(link), Some(UID), Some(GID)).unwrap();
        self
    }

    #[track_caller]
    fn check(&self, what: &str) {
        assert_eq!(self.look(), self.before, "{what}");
    }

    fn owner(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.at(name)).unwrap().uid()
    }

    /// Runs a command of root's to its end.
    fn run(&self, args: &[&str]) -> (bool, String) {
        self.finish(ringhook(self.dir.path()).args(args))
    }

    fn finish(&self, command: &mut Command) -> (bool, String) {
        // One that serves, where it should not, is ended in the end.
        let said = talk(command, b"");
        (said.status.success(), said.stderr)
    }

    /// A start that must be refused, as `serve --user` with `args`.
    #[track_caller]
    fn refuses(&self, args: &[&str]) {
        let (uid, gid) = (UID.to_string(), GID.to_string());
        let user = ["serve", "--listen", "127.0.0.1:0", "--user", &uid, "--group", &gid];
        let (is_ready, stderr) = self.run(&[&user[..], args].concat());
        assert!(!is_ready && !stderr.contains("ready "), "{args:?}: {stderr}");
        self.check(&format!("{args:?}: {stderr}"));
    }

    /// A start that must go well, and its end.
    #[track_caller]
    fn serves(&self, args: &[&str]) {
        let (uid, gid) = (UID.to_string(), GID.to_string());
        let process =
            Process::serve(self.dir.path(), &[&["--user", &uid, "--group", &gid], args].concat());
        let ended = process.terminate();
        assert!(ended.status.success(), "{:?}", ended.stderr);
        self.check(&format!("{args:?}"));
    }
}

/// A way to have root open `svc/dir/file`, and whether it makes what is not there.
fn files() -> [(&'static str, Vec<&'static str>); 2] {
    let null = ["--ack", "memory", "--data-dir", "svc/data"];
    let with = |more: &[&'static str]| [&null[..], more].concat();
    [
        ("report", with(&["--output", "null", "--report", "svc/dir/file"])),
        ("sink", with(&["--output", "ndjson:svc/dir/file"])),
    ]
}

#[test]
fn what_is_named_on_the_command_line_is_opened_with_the_users_rights() {
    for (what, args) in files() {
        let Some(scene) = Scene::new() else { return };
        scene.folder("svc/dir").serves(&args);
        assert_eq!(scene.owner("svc/dir/file"), UID, "{what}");
        // Again, with the file there.
        scene.serves(&args);
        for target in ["etc/shadow", "etc/ld.so.preload"] {
            scene.plant("svc/dir/file", target).refuses(&args);
        }
        fs::remove_file(scene.at("svc/dir/file")).unwrap();
        fs::hard_link(scene.at("etc/shadow"), scene.at("svc/dir/file")).unwrap();
        scene.refuses(&args);
        fs::remove_file(scene.at("svc/dir/file")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, scene.at("svc/dir/file"), fifo, mode, 0).unwrap();
        chown(scene.at("svc/dir/file"), Some(UID), Some(GID)).unwrap();
        scene.refuses(&args);
        // A link in the middle.
        fs::remove_dir_all(scene.at("svc/dir")).unwrap();
        scene.plant("svc/dir", "etc").refuses(&args);
    }
}

#[test]
fn what_root_alone_may_make_is_made_and_what_is_there_is_not_given_away() {
    let Some(scene) = Scene::new() else { return };
    fs::create_dir(scene.at("root")).unwrap();
    fs::write(scene.at("root/old"), "").unwrap();
    let args = ["--ack", "memory", "--data-dir", "root/state/data", "--report", "root/report"];
    scene.serves(&[&args[..], &["--output", "ndjson:root/old"]].concat());
    scene.serves(&[&args[..], &["--output", "ndjson:root/new"]].concat());
    let owners = ["root", "root/old", "root/new", "root/report", "root/state", "root/state/data"];
    assert_eq!(owners.map(|name| scene.owner(name)), [0, 0, UID, UID, UID, UID]);
}

#[test]
fn the_data_directory_is_made_by_no_link() {
    let Some(scene) = Scene::new() else { return };
    let null = ["--ack", "memory", "--output", "null", "--data-dir"];
    for (link, target, data) in [
        ("svc/data", "etc", "svc/data"),
        ("svc/data", "etc/data", "svc/data"),
        ("svc/sub", "etc", "svc/sub/data"),
        ("svc/sub", "etc", "svc/sub/../sub/data"),
    ] {
        scene.plant(link, target).refuses(&[&null[..], &[data]].concat());
        fs::remove_file(scene.at(link)).unwrap();
    }
    scene.folder("svc/data");
    for name in ["secret-token", "key.pem"] {
        scene.plant(&format!("svc/data/{name}"), "etc/new");
        scene.refuses(&[&null[..], &["svc/data"]].concat());
        fs::remove_file(scene.at("svc/data").join(name)).unwrap();
    }
    // A secret of root's is not taken for the service's.
    scene.plant("svc/data/secret-token", "etc/token");
    scene.refuses(&[&null[..], &["svc/data"]].concat());
    fs::remove_file(scene.at("svc/data/secret-token")).unwrap();
    scene.serves(&[&null[..], &["svc/data"]].concat());
}

#[test]
fn the_file_of_a_unix_socket_is_made_by_no_link() {
    let Some(scene) = Scene::new() else { return };
    let config = "[server]\ndata_dir = 'svc/data'\n[journal]\nack = 'memory'\n[[output]]\nname = 'out'\nto = 'null'\n\
                  [[listener]]\naddress = 'unix:svc/run/hook.sock'\nmode = '0666'\ntls = false\n";
    fs::write(scene.at("c.toml"), config).unwrap();
    let args = ["--config", "c.toml"];
    scene.plant("svc/run", "etc").refuses(&args);
    fs::remove_file(scene.at("svc/run")).unwrap();
    scene.folder("svc/run").plant("svc/run/hook.sock.new", "etc/shadow").serves(&args);
    let (uid, gid) = (UID.to_string(), GID.to_string());
    let user = ["--config", "c.toml", "--user", &uid, "--group", &gid];
    let process = Process::serve(scene.dir.path(), &user);
    let found = fs::symlink_metadata(scene.at("svc/run/hook.sock")).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (UID, GID, 0o666));
    drop(process);
    // Without --user it is the directory's owner whose rights are taken.
    scene.plant("svc/run/link", "etc");
    fs::write(scene.at("c.toml"), config.replace("run/hook", "run/link/hook")).unwrap();
    let args = ["serve", "--listen", "127.0.0.1:0", "--config", "c.toml"];
    let (is_ready, stderr) = scene.run(&args);
    assert!(!is_ready, "{stderr}");
    scene.check("without --user");
}

#[test]
fn a_note_about_the_webhook_is_left_by_no_link() {
    let Some(scene) = Scene::new() else { return };
    let api = FakeBotApi::start();
    let delete = || {
        let mut command = ringhook(scene.dir.path());
        command.args(["webhook", "delete", "--data-dir", "svc", "--api-root", &api.url()]);
        scene.finish(command.env("TELEGRAM_BOT_TOKEN", TOKEN))
    };
    scene.plant("svc/webhook", "etc");
    let (_, stderr) = delete();
    assert!(stderr.contains("nothing is kept"), "{stderr}");
    scene.check("the directory");
    scene.plant("svc/webhook", "etc/made");
    delete();
    scene.check("the directory, dangling");
    fs::remove_file(scene.at("svc/webhook")).unwrap();
    let id = TOKEN.split(':').next().unwrap();
    scene.folder("svc/webhook");
    for name in [format!("svc/webhook/{id}.new"), format!("svc/webhook/{id}.json")] {
        scene.plant(&name, "etc/shadow");
        let (is_done, stderr) = delete();
        assert!(is_done, "{stderr}");
        scene.check(&name);
    }
    // And the note is there, for the service to read.
    let note = fs::symlink_metadata(scene.at(&format!("svc/webhook/{id}.json"))).unwrap();
    assert!(note.is_file());
    assert_eq!((note.uid(), note.gid()), (UID, GID));
}

#[test]
fn secrets_are_made_and_read_by_no_link() {
    let Some(scene) = Scene::new() else { return };
    let api = FakeBotApi::start();
    let made = pki::self_signed(&pki::params("bot.example.com", &["bot.example.com"], &[]));
    fs::write(scene.at("cert.pem"), made.cert).unwrap();
    fs::write(scene.at("key.pem"), made.key).unwrap();
    let config = "[tls]\ncert = 'cert.pem'\nkey = 'key.pem'\n[[bot]]\nname = 'shop'\npath = '/shop'\n\
                  host = 'bot.example.com'\nsecret_token_file = 'svc/dir/token'\n\
                  [server]\ndata_dir = 'svc'\n";
    fs::write(scene.at("c.toml"), config).unwrap();
    let set = || {
        let mut command = ringhook(scene.dir.path());
        command.args(["webhook", "set", "--config", "c.toml", "--api-root", &api.url()]);
        scene.finish(command.env("TELEGRAM_BOT_TOKEN", TOKEN))
    };
    scene.plant("svc/dir", "etc/no");
    assert!(!set().0);
    scene.check("made in a directory that is a link to none");
    fs::create_dir(scene.at("etc/no")).unwrap();
    assert!(!set().0);
    fs::remove_dir(scene.at("etc/no")).expect("nothing is in it");
    fs::remove_file(scene.at("svc/dir")).unwrap();
    // Telegram is told no secret of root's, which the service's user would be sent then.
    scene.folder("svc/dir").plant("svc/dir/token", "etc/token");
    let (is_set, stderr) = set();
    assert!(!is_set && !stderr.contains("token_of_root"), "{stderr}");
    scene.plant("svc/dir/token", "etc/new");
    assert!(!set().0);
    scene.check("the secret token");
    fs::remove_file(scene.at("svc/dir/token")).unwrap();
    let (is_set, stderr) = set();
    assert!(is_set, "{stderr}");
    assert_eq!(scene.owner("svc/dir/token"), UID);
}

#[test]
fn the_journal_is_worked_on_with_its_owners_rights() {
    let Some(scene) = Scene::new() else { return };
    scene.serves(&["--data-dir", "svc/data", "--output", "null"]);
    let replay = || scene.run(&["journal", "replay", "--data-dir", "svc/data", "--output", "null"]);
    let (is_done, stderr) = replay();
    assert!(is_done, "{stderr}");
    for entry in fs::read_dir(scene.at("svc/data/journal")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid(), UID);
    }
    scene.plant("svc/data/journal/lock", "etc/shadow");
    let (_, stderr) = replay();
    scene.check(&format!("the lock: {stderr}"));
    scene.plant("svc/data/journal/lock", "etc/lock");
    let (_, stderr) = replay();
    scene.check(&format!("the lock, dangling: {stderr}"));
    for command in ["ls", "cat", "verify"] {
        let (is_done, stderr) = scene.run(&["journal", command, "--data-dir", "svc/data"]);
        assert!(is_done, "{command}: {stderr}");
    }
    fs::rename(scene.at("svc/data/journal"), scene.at("svc/data/away")).unwrap();
    scene.plant("svc/data/journal", "etc");
    replay();
    scene.check("the directory");
    // The sink is the operator's, wherever it is.
    fs::rename(scene.at("svc/data/away"), scene.at("svc/journal")).unwrap();
    let _ = fs::remove_file(scene.at("svc/journal/lock"));
    let sinks = ["ndjson:out", "ndjson:svc/link"];
    scene.plant("svc/link", "etc/shadow");
    let outcomes = sinks
        .map(|sink| scene.run(&["journal", "replay", "--data-dir", "svc", "--output", sink]).0);
    assert_eq!(outcomes, [true, false]);
    scene.check("the sink");
}

#[test]
fn certificates_are_written_by_no_link() {
    let Some(scene) = Scene::new() else { return };
    let new = |out: &str| {
        scene.run(&["cert", "new", "--name", "bot.example.com", "--force", "--out", out])
    };
    for (link, target, out) in [
        ("svc/pki", "etc", "svc/pki"),
        ("svc/pki", "etc/pki", "svc/pki"),
        ("svc/pki", "etc", "svc/pki/sub"),
    ] {
        let (is_made, stderr) = {
            scene.plant(link, target);
            new(out)
        };
        assert!(!is_made, "{stderr}");
        scene.check(out);
    }
    fs::remove_file(scene.at("svc/pki")).unwrap();
    scene.folder("svc/pki").plant("svc/pki/key.pem", "etc/shadow");
    let (is_made, stderr) = new("svc/pki");
    assert!(is_made, "{stderr}");
    scene.check("a link is replaced");
    for name in ["svc/pki/key.pem", "svc/pki/cert.pem"] {
        assert_eq!(scene.owner(name), UID, "{name}");
    }
}

#[test]
fn a_server_of_roots_follows_no_link_to_profile_and_dead_letters() {
    let Some(scene) = Scene::new() else { return };
    let serve = |args: &[&str]| {
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--ack", "memory", "--output", "null"];
        scene.run(&[&fixed[..], args].concat())
    };
    scene.plant("svc/profile", "etc");
    assert!(!serve(&["--profile", "svc/profile"]).0);
    scene.check("the profile");
    let config = "[dispatch]\ndead_letters = 'svc/dead'\n";
    fs::write(scene.at("c.toml"), config).unwrap();
    for target in ["etc/shadow", "etc/new"] {
        scene.plant("svc/dead", target);
        assert!(!serve(&["--config", "c.toml"]).0);
        scene.check("dead letters");
    }
    fs::remove_file(scene.at("svc/profile")).unwrap();
    let links: &[&Path] =
        &[&scene.at("svc/profile/server.hlog"), &scene.at("svc/profile/server.json")];
    scene.folder("svc/profile");
    for link in links {
        symlink(scene.at("etc/shadow"), link).unwrap();
    }
    let args = ["--ack", "memory", "--output", "null", "--profile", "svc/profile"];
    assert!(Process::serve(scene.dir.path(), &args).terminate().status.success());
    scene.check("files of the profile");
    assert_eq!(scene.owner("svc/profile/server.json"), UID);
}

#[test]
fn a_process_of_roots_makes_its_journal_by_no_link() {
    let Some(scene) = Scene::new() else { return };
    let api = FakeBotApi::start();
    // Needs nothing in the data directory but the journal.
    let poll = |data: &str| {
        let mut command = ringhook(scene.dir.path());
        let args = ["poll", "--output", "null", "--api-root", &api.url(), "--data-dir", data];
        command.args(args).env("TELEGRAM_BOT_TOKEN", TOKEN);
        command
    };
    fs::create_dir(scene.at("etc/there")).unwrap();
    let before = scene.look();
    scene.folder("svc/data");
    for (link, target, data) in [
        ("svc/link", "etc/there", "svc/link"),
        ("svc/link", "etc", "svc/link/there"),
        ("svc/data/journal", "etc/there", "svc/data"),
        ("svc/data/journal", "etc/new", "svc/data"),
    ] {
        let (is_done, stderr) = scene.plant(link, target).finish(&mut poll(data));
        assert!(!is_done && !stderr.contains("ready "), "{link} to {target}: {stderr}");
        assert_eq!(scene.look(), before, "{link} to {target}: {stderr}");
        assert_eq!(fs::read_dir(scene.at("etc/there")).unwrap().count(), 0, "{link} to {target}");
        fs::remove_file(scene.at(link)).unwrap();
    }
    assert!(Process::start(poll("svc/data")).terminate().status.success());
    for name in ["svc/data/journal", "svc/data/journal/lock"] {
        assert_eq!(scene.owner(name), UID, "{name}");
    }
}

/// As root of a container with few capabilities.
#[test]
fn where_root_cannot_act_as_another_no_link_is_followed_at_all() {
    let Some(scene) = Scene::new() else { return };
    let run = |args: &[&str]| {
        let mut command = program("setpriv")?;
        command.args(["--bounding-set", "-setuid,-setgid", env!("CARGO_BIN_EXE_ringhook")]);
        Some(scene.finish(command.args(args).current_dir(scene.dir.path())))
    };
    let new = ["cert", "new", "--name", "bot.example.com", "--out"];
    let Some((is_made, stderr)) = run(&[&new[..], &["svc/new"]].concat()) else { return };
    assert!(is_made, "{stderr}");
    for target in ["etc", "etc/no"] {
        scene.plant("svc/link", target);
        assert!(!run(&[&new[..], &["svc/link/sub"]].concat()).unwrap().0);
        assert!(!run(&[&new[..], &["svc/link"]].concat()).unwrap().0);
        scene.check(target);
    }
    let check = |path: &str| run(&["cert", "check", path]).unwrap().1;
    scene.plant("svc/file", "etc/shadow");
    assert!(check("svc/file").contains("cannot act as user"), "{}", check("svc/file"));
    assert!(!check("svc/new/cert.pem").contains("cannot act"), "{}", check("svc/new/cert.pem"));
}
