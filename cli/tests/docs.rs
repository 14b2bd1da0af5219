//! The documents agree with each other and with the program: links, the table of contents, lengths,
//! words, and the commands of their shell blocks.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

/// Words for persons, where a document means a peer, a client, a thread or an operator.
const PERSONS: [&str; 5] = ["nobody", "somebody", "anybody", "whoever", "someone"];

/// The documents by their paths below the root.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "contrib/README.md"].map(PathBuf::from).into();
    paths.extend(
        files_below("docs").into_iter().filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(root().join(path)).unwrap()))
        .collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// All files below a directory of the root, by their paths below the root.
fn files_below(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(root()).unwrap().to_path_buf());
            }
        }
    }
    found
}

/// The lines of a text: outside of blocks of code, and inside with the block's language.
fn lines(text: &str) -> impl Iterator<Item = (Option<&str>, &str)> {
    let mut block = None;
    text.lines().filter_map(move |line| match line.trim_start().strip_prefix("```") {
        Some(language) => {
            block = if block.is_some() { None } else { Some(language) };
            None
        }
        None => Some((block, line)),
    })
}

/// The text without its inline code, and the inline code.
fn prose_and_code(text: &str) -> (String, Vec<String>) {
    let prose: Vec<_> =
        lines(text).filter(|(block, _)| block.is_none()).map(|(_, line)| line).collect();
    let prose = prose.join("\n");
    let parts = prose.split('`').enumerate();
    let (code, text): (Vec<_>, Vec<_>) = parts.partition(|(n, _)| n % 2 == 1);
    let text: Vec<_> = text.into_iter().map(|(_, part)| part).collect();
    (text.join(""), code.into_iter().map(|(_, part)| part.replace('\n', " ")).collect())
}

/// The targets of a text's links.
fn links(text: &str) -> Vec<String> {
    let (prose, _) = prose_and_code(text);
    prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
}

/// The anchors of a text's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (block, line) in lines(text) {
        let title = line.trim_start_matches('#').trim();
        if block.is_some() || !line.starts_with('#') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let slug: String = title.to_lowercase().chars().filter(kept).collect();
        assert!(anchors.insert(slug.replace(' ', "-")), "two headings are called {title:?}");
    }
    anchors
}

/// `path` without its `..`; none where it leads out of the root.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => normal.pop().then_some(())?,
            part => normal.push(part),
        }
    }
    Some(normal)
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let documents = documents();
    let mut wrong = Vec::new();
    for (path, text) in &documents {
        for link in links(text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => Some(path.clone()),
                file => normal(&path.with_file_name("").join(file)),
            };
            let exists = target.as_deref().is_some_and(|target| root().join(target).exists());
            // A book is built of docs alone.
            let stays = !path.starts_with("docs")
                || target.as_deref().is_some_and(|t| t.starts_with("docs"));
            let has_anchor = anchor.is_empty()
                || target
                    .and_then(|t| documents.get(&t))
                    .is_some_and(|text| anchors(text).contains(anchor));
            if !(exists && stays && has_anchor) {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere, or out of the book: {wrong:#?}");
}

#[test]
fn the_table_of_contents_lists_each_page_once() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut listed: Vec<_> =
        links(&summary).iter().map(|link| Path::new("docs").join(link)).collect();
    let mut pages: Vec<_> =
        documents().into_keys().filter(|path| path.starts_with("docs")).collect();
    pages.retain(|path| !path.ends_with("SUMMARY.md"));
    listed.sort();
    assert_eq!(listed, pages);
    let book = fs::read_to_string(root().join("book.toml")).unwrap();
    assert!(book.contains("src = \"docs\""), "{book}");
}

#[test]
fn the_overviews_are_short() {
    let documents = documents();
    for (path, most) in [("README.md", 250), ("ARCHITECTURE.md", 200)] {
        let lines = documents[Path::new(path)].lines().count();
        assert!(lines <= most, "{path} has {lines} lines, at most {most} are allowed");
    }
}

#[test]
fn documents_speak_of_peers_and_operators() {
    let mut found = Vec::new();
    for (path, text) in documents() {
        for (number, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            let mut words = line.split(|c: char| !c.is_alphabetic());
            if let Some(word) = words.find(|word| PERSONS.contains(word)) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The tests of the library, the program, the outputs and the status pages, by their paths: a file
/// without its extension, or the folder that a `mod.rs` or a `main.rs` is in.
fn tests() -> Vec<PathBuf> {
    let helpers = ["tests/support", "tests/fuzz", "outputs/tests/it/support"];
    let mut files = files_below("tests");
    files.extend(files_below("cli/tests"));
    files.extend(files_below("outputs/tests"));
    files.extend(files_below("status/tests"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.retain(|path| !helpers.iter().any(|folder| path.starts_with(folder)));
    let name = |path: PathBuf| match path.file_name().and_then(|name| name.to_str()) {
        Some("mod.rs" | "main.rs") => path.with_file_name(""),
        _ => path.with_extension(""),
    };
    files.into_iter().map(name).collect()
}

/// What is wrong with the name of a test: it has to be the end of the path of one test.
fn check_test(name: &str, tests: &[PathBuf]) -> Result<(), String> {
    let found: Vec<_> = tests.iter().filter(|path| path.ends_with(name)).collect();
    match found.len() {
        0 => Err(format!("no test {name}")),
        1 => Ok(()),
        _ => Err(format!("the test {name} is one of {found:?}")),
    }
}

#[test]
fn promises_name_tests_that_exist() {
    let tests = tests();
    let text = fs::read_to_string(root().join("docs/promises.md")).unwrap();
    let (_, table) = text.split_once("| promise | test |\n|---|---|\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    for row in table.lines() {
        let named = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        assert!(!named.is_empty(), "a promise without a test: {row}");
        for name in named.split('`').skip(1).step_by(2) {
            assert_eq!(check_test(name, &tests), Ok(()), "{row}");
        }
    }
}

#[test]
fn documents_name_files_that_exist() {
    let folders =
        ["benches/", "cli/", "contrib/", "docs/", "examples/", "outputs/", "src/", "tests/"];
    let mut named = 0;
    let mut missing = Vec::new();
    for (path, text) in documents() {
        let (_, code) = prose_and_code(&text);
        let is_file = |name: &&String| folders.iter().any(|folder| name.starts_with(folder));
        for name in code.iter().filter(is_file) {
            named += 1;
            if !root().join(name).exists() {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named > 40, "{named}");
}

/// The names in "test `name`", and those in `cargo test --test name`.
fn named_tests(text: &str) -> (Vec<String>, Vec<String>) {
    let outside: Vec<_> =
        lines(text).filter(|(block, _)| block.is_none()).map(|(_, line)| line.trim()).collect();
    let outside = outside.join(" ");
    let files = outside.split("test `").skip(1).map(|rest| rest.split('`').next().unwrap());
    let scripts = scripts(text).join("\n");
    let calls = scripts.lines().filter_map(|line| line.split_once("cargo test "));
    let mut targets = Vec::new();
    for (_, call) in calls {
        let words: Vec<_> = call.split_whitespace().collect();
        let chosen = words.windows(2).filter(|pair| pair[0] == "--test");
        targets.extend(chosen.map(|pair| pair[1].to_owned()));
    }
    (files.map(str::to_owned).collect(), targets)
}

#[test]
fn documents_name_tests_that_exist() {
    let (tests, mut wrong, mut checked) = (tests(), Vec::new(), 0);
    let is_target = |name: &str| {
        ["tests", "cli/tests", "loadtest/tests"].iter().any(|folder| {
            let path = root().join(folder).join(name);
            path.with_extension("rs").is_file() || path.join("main.rs").is_file()
        })
    };
    for (path, text) in documents() {
        let (files, targets) = named_tests(&text);
        checked += files.len() + targets.len();
        let missing = targets.iter().filter(|name| !is_target(name));
        let missing = missing.map(|name| format!("no target {name} of cargo test"));
        let named = files.iter().filter_map(|name| check_test(name, &tests).err());
        wrong.extend(missing.chain(named).map(|what| format!("{}: {what}", path.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 10, "only {checked} names were found");
}

#[test]
fn tests_are_found_where_a_line_ends_within_their_names() {
    let text = "the test\n`layers` and `cargo test --test\nquiet -- --nocapture`, (`cargo test\n\
                --test allocations`)\n```sh\ncargo test --test chaos\n```\n";
    let (files, targets) = named_tests(text);
    assert_eq!(files, ["layers"]);
    assert_eq!(targets, ["chaos", "quiet", "allocations"]);
    let tests = tests();
    assert_eq!(check_test("serving/limits", &tests), Ok(()));
    assert!(check_test("limits", &tests).is_err(), "the library has one as well");
    assert!(check_test("cli_quiet", &tests).is_err());
}

/// The program that the documents are about.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ringhook"))
}

/// What the program says to `--help` after each of the words that were looked at.
#[derive(Default)]
struct Help(BTreeMap<String, String>);

impl Help {
    fn of(&mut self, words: &[&str]) -> &str {
        self.0.entry(words.join(" ")).or_insert_with(|| {
            let output = Command::new(program()).args(words).arg("--help").output().unwrap();
            assert!(output.status.success(), "{words:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// What is wrong with the words after `ringhook`.
    fn check(&mut self, words: &[&str]) -> Result<(), String> {
        let mut commands = Vec::new();
        for word in words.iter().take_while(|word| !word.starts_with('-')) {
            let help = self.of(&commands);
            if !help.contains("\nCommands:\n") {
                break;
            }
            if !has_command(help, word) {
                return Err(format!("no command {word} after {commands:?}"));
            }
            commands.push(*word);
        }
        let help = self.of(&commands);
        let flags = words.iter().filter(|word| word.starts_with("--"));
        for flag in flags.map(|word| word.split('=').next().unwrap()) {
            if !has_flag(help, flag) {
                return Err(format!("no flag {flag} of {commands:?}"));
            }
        }
        Ok(())
    }
}

/// Whether `help` lists this command.
fn has_command(help: &str, name: &str) -> bool {
    let (_, commands) = help.split_once("\nCommands:\n").unwrap_or_default();
    let names = commands.lines().take_while(|line| !line.is_empty());
    names.filter_map(|line| line.split_whitespace().next()).any(|command| command == name)
}

/// Whether `help` describes this flag.
fn has_flag(help: &str, flag: &str) -> bool {
    let mut lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines.any(|line| line.split([' ', ',', '[']).any(|word| word == flag))
}

/// What is said to ringhook in a script: for each call the words after its name.
fn calls(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ").replace("cargo run --release -- ", "ringhook ");
    let lines = script.lines().map(|line| line.split(" #").next().unwrap());
    let commands = lines.flat_map(|line| line.split(['|', ';', '&', '>', '(', ')']));
    let mut calls = Vec::new();
    for command in commands {
        let words: Vec<_> = command.split_whitespace().collect();
        let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        // It is also a user, a group and a service.
        let is_call = |n: &usize| {
            let next = words.get(n + 1).filter(|word| !word.starts_with('-'));
            words[*n] == "ringhook" && (*n == 0 || next.is_some_and(is_name))
        };
        if let Some(n) = (0..words.len()).find(is_call) {
            calls.push(words[n + 1..].iter().map(|word| (*word).to_owned()).collect());
        }
    }
    calls
}

/// The scripts in a document: its blocks of shell, what is typed in its blocks of text, and its
/// inline code.
fn scripts(text: &str) -> Vec<String> {
    let mut shell = String::new();
    for (block, line) in lines(text) {
        let typed = match block {
            Some("sh") => Some(line),
            Some("text") => line.strip_prefix("$ "),
            _ => None,
        };
        shell.extend(typed.into_iter().flat_map(|line| [line, "\n"]));
    }
    let (_, inline) = prose_and_code(text);
    // A word in capitals stands for one of the reader's.
    let inline = inline.into_iter().filter(|code| !code.contains("ringhook COMMAND"));
    [shell].into_iter().chain(inline).collect()
}

#[test]
fn the_commands_and_flags_of_the_documents_exist() {
    let (mut help, mut wrong, mut checked) = (Help::default(), Vec::new(), 0);
    for (path, text) in documents() {
        for call in scripts(&text).iter().flat_map(|script| calls(script)) {
            checked += 1;
            if let Err(what) = help.check(&call.iter().map(String::as_str).collect::<Vec<_>>()) {
                wrong.push(format!("{}: {call:?}: {what}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 50, "only {checked} calls were found");
}

#[test]
fn a_call_is_distinguished_from_a_user_and_a_service() {
    let script = "$ A=b ringhook serve \\\n --ack written | head # ringhook poll\n\
        systemctl reload ringhook\nchgrp -R ringhook /etc\ncargo run --release -- send";
    let script = script.trim_start_matches("$ ");
    assert_eq!(calls(script), [vec!["serve", "--ack", "written"], vec!["send"]]);
    let mut help = Help::default();
    assert_eq!(help.check(&["serve", "--ack=memory"]), Ok(()));
    assert!(help.check(&["serve", "--acks"]).is_err());
    assert!(help.check(&["webhook", "sets"]).is_err());
}
