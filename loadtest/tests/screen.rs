//! The live view on a terminal, and what is left when it is gone.
#![cfg(feature = "screen")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    fs::File,
    io::Read,
    os::fd::{FromRawFd, OwnedFd},
    process::{Command, ExitStatus},
    ptr,
};

use support::{OK, Reply, Server, UNAVAILABLE};

/// Both ends of a pseudo-terminal of 80 columns and 24 rows.
fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the numbers and the size outlive the call; the others may be null.
    let made = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, ptr::null_mut(), ptr::null(), &raw const size)
    };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both are new, so nothing else owns them.
    unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

struct Seen {
    /// The last frame of the live view; none if there was no such view.
    frame: Option<String>,
    /// The terminal as it is left.
    after: vt100::Parser,
    status: ExitStatus,
}

/// Runs the program on a terminal.
fn watch(arguments: &[&str], term: &str) -> Seen {
    let (ours, theirs) = pseudo_terminal();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments).env("TERM", term);
    command.stdin(theirs.try_clone().unwrap());
    command.stdout(theirs.try_clone().unwrap());
    command.stderr(theirs);
    let mut child = command.spawn().unwrap();
    // Its ends are the child's alone now, so ours ends with it.
    drop(command);
    let (rows, columns) = (24.try_into().unwrap(), 80.try_into().unwrap());
    let mut terminal = vt100::Parser::new(rows, columns, 0);
    let (mut ours, mut bytes) = (File::from(ours), [0; 4096]);
    let mut frame = None;
    while let Ok(count @ 1..) = ours.read(&mut bytes) {
        for byte in &bytes[..count] {
            let shown = terminal.screen().alternate_screen();
            let contents = shown.then(|| terminal.screen().contents());
            terminal.process(&[*byte]);
            if shown && !terminal.screen().alternate_screen() {
                frame = contents;
            }
        }
    }
    Seen { frame, after: terminal, status: child.wait().unwrap() }
}

/// A frame without its numbers, and without what depends on them.
fn masked(frame: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in frame.lines() {
        let mut words: Vec<String> = Vec::new();
        for word in line.split_whitespace() {
            let plain: String = word
                .chars()
                .map(|letter| if letter.is_ascii_digit() { '0' } else { letter })
                .collect();
            let mut short = plain.replace('.', "0");
            while short.contains("00") {
                short = short.replace("00", "0");
            }
            match short.as_str() {
                "us" | "ms" | "s" => words.push("T".to_owned()),
                _ if short.chars().any(|letter| "░▒▓█".contains(letter)) => {}
                _ => words.push(short),
            }
        }
        lines.push(words.join(" "));
    }
    lines
}

#[test]
fn a_terminal_shows_the_run_and_gets_the_table_in_the_end() {
    let server = Server::plain(|number| Reply::Write(if number == 20 { UNAVAILABLE } else { OK }));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let seen =
        watch(&["run", "--target", &target, "--rate", "200", "--duration", "2500ms"], "xterm");
    assert_eq!(seen.status.code(), Some(1));
    let frame = seen.frame.expect("no live view");
    let lines = masked(&frame);
    let expected = [
        "loadtest http://0270000:0/ 0 T",
        "",
        "rate 0/s asked 0/s answered 0 in flight",
        "sent 0",
        "answers 0: 0 0: 0",
        "errors",
        "",
        "from due p0 p0 p0 max",
        "last second 0 T 0 T 0 T 0 T",
        "in all 0 T 0 T 0 T 0 T",
        "",
        "longer",
        "<= 0 T",
        "<= 0 T",
        "<= 0 T",
        "<= 0 T",
        "<= 0 T",
        "<= 0 T",
        "<= 0 T",
        "<= 0 T",
    ];
    assert_eq!(lines[1..], expected[1..], "{frame}");
    assert!(frame.starts_with(&format!("loadtest {target}  ")), "{frame}");
    assert!(frame.contains('█') || frame.contains('▓') || frame.contains('▒'), "{frame}");

    let screen = seen.after.screen();
    assert!(!screen.hide_cursor());
    let text = screen.contents();
    assert!(text.contains("answered 2xx    499  [200: 499]  [503: 1]"), "{text}");
    assert!(text.contains("expect.lost FAILED"), "{text}");
}

#[test]
fn a_dumb_terminal_gets_a_line_and_quiet_gets_none() {
    let server = Server::plain(|_| Reply::Write(OK));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let arguments = ["--target", &target, "--rate", "100", "--duration", "1200ms"];
    let seen = watch(&arguments, "dumb");
    assert_eq!((seen.status.code(), seen.frame), (Some(0), None));
    let quiet = [&arguments[..], &["--quiet"]].concat();
    let seen = watch(&quiet, "xterm");
    assert_eq!((seen.status.code(), seen.frame), (Some(0), None));
    assert!(seen.after.screen().contents().starts_with("planned"));
}
