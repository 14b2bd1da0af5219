//! What root does where a service's user could plant a link, by the kernel's own word: strace tells
//! of all calls that take a path, and none that root's rights are used for follows a link there.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    binary::process::Process,
    support::{
        bot_api::{FakeBotApi, TOKEN},
        external::program,
        wait_until,
    },
};

/// A user and a group that no machine has a name for.
const UID: u32 = 4_000_000_001;
const GID: u32 = 4_000_000_002;

const CALLS: &str = "trace=open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,\
                     renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,chown,lchown,\
                     fchownat,chmod,fchmodat,truncate,bind,setuid,setreuid,setresuid,setfsuid,\
                     clone,clone3,fork,vfork";

/// A call that takes no link for what it leads to, whatever its flags.
const NEVER_FOLLOW: [&str; 16] = [
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "lchown",
    "bind",
];

/// strace in front of the binary, which is the child still; `None` where it or root is missing.
fn traced(dir: &Path, trace: &Path) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("RINGHOOK_TEST_ROOT").is_none(), "root is required");
        eprintln!("skipped: only root has anything to lose");
        return None;
    }
    let mut command = program("strace")?;
    command.args(["-D", "-f", "-y", "-s", "4096", "-e", CALLS, "-o"]).arg(trace);
    command.arg(env!("CARGO_BIN_EXE_ringhook")).current_dir(dir);
    Some(command)
}

/// The uses of root's rights in `trace` by which a link of another user's could have been followed,
/// and the number of calls that were looked at.
fn followed(dir: &Path, trace: &str) -> (Vec<String>, usize) {
    let mut users: HashMap<&str, u32> = HashMap::new();
    let (mut cloning, mut found, mut calls) = (0, Vec::new(), 0);
    for line in trace.lines() {
        let (thread, line) = line.split_once(char::is_whitespace).expect("a thread and its call");
        let line = line.trim_start();
        // One that has just begun is who has begun it.
        let user = *users.entry(thread).or_insert(cloning);
        let Some((name, rest)) = line.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            continue;
        }
        match name {
            "clone" | "clone3" | "fork" | "vfork" => cloning = user,
            "setuid" | "setreuid" | "setresuid" | "setfsuid" if !line.contains("= -1") => {
                let ids: Vec<_> = rest.split([',', ')', ' ']).filter(|id| !id.is_empty()).collect();
                let id = if name == "setresuid" || name == "setreuid" { ids[1] } else { ids[0] };
                if id != "-1" {
                    users.insert(thread, id.parse().expect("a number"));
                }
            }
            _ if user == 0 => {
                calls += 1;
                if paths(name, rest).iter().any(|(base, path)| {
                    leads_through_anothers(dir, name, line, base.as_deref(), path)
                }) {
                    found.push(line.to_owned());
                }
            }
            _ => {}
        }
    }
    (found, calls)
}

/// The paths among the arguments of a call, each with the directory from which it is seen.
fn paths(call: &str, args: &str) -> Vec<(Option<PathBuf>, PathBuf)> {
    let mut paths = Vec::new();
    let mut base = None;
    let mut rest = args;
    while let Some((before, after)) = rest.split_once('"') {
        // A descriptor with its path; AT_FDCWD has one as well.
        if call != "bind"
            && let Some((_, dir)) = before.rsplit_once('<')
        {
            base = dir.split_once('>').map(|(dir, _)| PathBuf::from(dir));
        }
        let (path, after) = after.split_once('"').expect("the end of a string");
        paths.push((base.clone(), PathBuf::from(path)));
        rest = after;
    }
    if call.starts_with("symlink") {
        // The text of a link is none that is followed.
        paths.remove(0);
    }
    paths
}

fn leads_through_anothers(
    dir: &Path,
    call: &str,
    line: &str,
    base: Option<&Path>,
    path: &Path,
) -> bool {
    let mut at = base.unwrap_or(dir).to_owned();
    if path.is_absolute() {
        at = PathBuf::from("/");
    }
    let steps: Vec<_> = path.components().collect();
    for (number, step) in steps.iter().enumerate() {
        let is_anothers = fs::metadata(&at).is_ok_and(|at| at.is_dir() && at.uid() != 0);
        let is_last = number + 1 == steps.len();
        let is_followed = !(NEVER_FOLLOW.contains(&call)
            || line.contains("NOFOLLOW")
            || (line.contains("O_CREAT") && line.contains("O_EXCL"))
            || step.as_os_str() == ".");
        if is_anothers && (!is_last || is_followed) {
            return true;
        }
        at.push(step);
    }
    false
}

#[test]
fn a_trace_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    if chown(&theirs, Some(UID), Some(GID)).is_err() {
        return eprintln!("skipped: only root gives a directory away");
    }
    let at = theirs.display();
    let calls = [
        (true, format!("openat(AT_FDCWD</>, \"{at}/x\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3")),
        (true, format!("openat(AT_FDCWD</>, \"{at}/x/y\", O_RDONLY|O_NOFOLLOW) = 3")),
        (true, format!("openat(7<{at}>, \"x\", O_RDONLY <unfinished ...>")),
        (true, format!("mkdir(\"{at}/x/y\", 0700) = 0")),
        (true, format!("chown(\"{at}/x\", 1, 1) = 0")),
        (true, format!("rename(\"/x\", \"{at}/x/y\") = 0")),
        (false, format!("openat(7<{at}>, \"x\", O_PATH|O_NOFOLLOW) = 3")),
        (false, format!("openat(AT_FDCWD</>, \"{at}\", O_RDONLY) = 3")),
        (false, format!("unlink(\"{at}/x\") = 0")),
        (false, format!("lchown(\"{at}/x\", 1, 1) = 0")),
    ];
    for (is_told, call) in calls {
        let trace = format!("7 {call}\n");
        assert_eq!(followed(dir.path(), &trace).0.len(), usize::from(is_told), "{call}");
        let as_user = format!("7 setresuid(-1, 5, -1) = 0\n7 {call}\n");
        assert!(followed(dir.path(), &as_user).0.is_empty(), "{call}");
        let in_child = format!("7 setresuid(-1, 5, -1) = 0\n7 clone3({{}}) = 8\n8 {call}\n");
        assert!(followed(dir.path(), &in_child).0.is_empty(), "{call}");
    }
}

#[test]
fn no_call_of_roots_follows_a_link_in_a_directory_of_another_user() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let at = |name: &str| dir.path().join(name);
    let command = |trace: &str| traced(dir.path(), &at(trace));
    let Some(mut first) = command("serve") else { return };
    fs::create_dir(at("svc")).unwrap();
    chown(at("svc"), Some(UID), Some(GID)).unwrap();
    let config = format!(
        "[server]\nuser = '{UID}'\ngroup = '{GID}'\nlisten = 'unix:svc/hook.sock'\n\
         reuse_port = true\ndata_dir = 'svc/data'\n[journal]\nlock_wait = '60s'\n\
         [[output]]\nname = 'out'\nto = 'ndjson:svc/out'\n[dispatch]\ndead_letters = 'svc/dead'\n\
         [profile]\ndir = 'svc/profile'\n[webhook]\nport = 443\n[[listener]]\naddress = '127.0.0.1:0'\n\
         [[bot]]\nname = 'shop'\npath = '/shop'\nhost = 'bot.example.com'\n\
         secret_token_file = 'svc/data/secret-token'\n"
    );
    fs::write(at("c.toml"), config).unwrap();
    let serve = ["serve", "--config", "c.toml", "--report", "svc/report"];
    first.args(serve);
    let first = Process::start(first);
    first.signal("HUP");
    wait_until("a reload", || first.stderr().iter().any(|line| line.contains("reloaded")));
    let mut second = command("takeover").unwrap();
    second.args(serve);
    // It waits for the journal until the first one lets go of it.
    let second = std::thread::spawn(move || Process::start(second));
    let socket = fs::metadata(at("svc/hook.sock")).unwrap().ino();
    wait_until("the socket is taken over", || {
        fs::metadata(at("svc/hook.sock")).is_ok_and(|now| now.ino() != socket)
    });
    assert!(first.terminate().status.success());
    assert!(second.join().unwrap().terminate().status.success());

    let api = FakeBotApi::start();
    let root = api.url();
    let once: [&[&str]; 8] = [
        &["webhook", "set", "--config", "c.toml", "--api-root", &root],
        &["webhook", "delete", "--config", "c.toml", "--api-root", &root],
        &["journal", "replay", "--data-dir", "svc/data", "--output", "ndjson:svc/replayed"],
        &["journal", "ls", "--data-dir", "svc/data"],
        &["journal", "verify", "--data-dir", "svc/data"],
        &["cert", "new", "--name", "bot.example.com", "--out", "svc/pki"],
        &["cert", "csr", "--name", "bot.example.com", "--out", "svc/csr"],
        &["dead-letters", "replay", "svc/dead", "--output", "ndjson:svc/again"],
    ];
    let mut traces = vec!["serve".to_owned(), "takeover".to_owned()];
    for (number, args) in once.iter().enumerate() {
        let trace = number.to_string();
        let mut command = command(&trace).unwrap();
        let output = command.args(*args).env("TELEGRAM_BOT_TOKEN", TOKEN).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        traces.push(trace);
    }
    for trace in traces {
        let text = || fs::read_to_string(at(&trace)).unwrap();
        // strace is still writing when the traced process is gone.
        wait_until("the end of the trace", || {
            let text = text();
            let first = text.split_whitespace().next().unwrap_or_default().to_owned();
            text.lines()
                .any(|line| line.starts_with(&format!("{first} ")) && line.contains("+++ exited"))
        });
        let (found, calls) = followed(dir.path(), &text());
        assert!(calls > 10, "{trace}: only {calls} calls of root's");
        assert!(found.is_empty(), "{trace}: {found:#?}");
    }
}
