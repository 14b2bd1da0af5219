//! Imports of the library run one way: a room imports only rooms that stand above it in the table
//! of `ARCHITECTURE.md`, and within a room no circle of files imports itself. The table of files in
//! a folder's header is complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The names of a module's path, from the crate's root.
type ModulePath = Vec<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rooms by `ARCHITECTURE.md`, the lowest first; those of one row have one rank.
fn ranks() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| room of `src/`"));
    let rows = rows.skip(2).take_while(|line| line.starts_with("| "));
    let mut ranks = BTreeMap::new();
    for (rank, row) in rows.enumerate() {
        let rooms = row.split('|').nth(1).unwrap();
        for room in rooms.split('`').skip(1).step_by(2) {
            let name = room.trim_end_matches(".rs").trim_end_matches('/');
            assert!(ranks.insert(name.to_owned(), rank).is_none(), "{name} has two rows");
        }
    }
    ranks
}

/// All files below `src/` that are product code.
fn sources() -> Vec<PathBuf> {
    sources_of("src")
}

/// The same of another folder of the workspace.
fn sources_of(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![root().join(folder)]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                dirs.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                found.push(path);
            }
        }
    }
    found
}

/// The module that a file is.
fn module_of(path: &Path) -> ModulePath {
    let below = path.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut names: ModulePath =
        below.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|name| name == "mod" || name == "lib") {
        names.pop();
    }
    names
}

/// The code of a file: without comments, and without tests behind it.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let uncommented = text.lines().map(|line| line.split("//").next().unwrap());
    uncommented.collect::<Vec<_>>().join("\n")
}

/// The paths of a use tree, such as `crate::{a::B, c}`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<ModulePath>) {
    let tree = tree.trim();
    let (head, rest) = tree.split_once('{').unwrap_or((tree, ""));
    let mut path = prefix.to_vec();
    let head = head.split(" as ").next().unwrap();
    path.extend(head.split("::").map(str::trim).filter(|name| !name.is_empty()).map(Into::into));
    if !tree.contains('{') {
        if path.len() > prefix.len() {
            paths.push(path);
        }
        return;
    }
    let (mut depth, mut begin) = (0, 0);
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inner[begin..at], &path, paths);
                begin = at + 1;
            }
            _ => {}
        }
    }
    expand(&inner[begin..], &path, paths);
}

/// What the code of module `own` names of the library, as paths from its root.
fn named(code: &str, own: &[String]) -> Vec<ModulePath> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let is_word = rest[..at].ends_with(|letter: char| letter.is_whitespace()) || at == 0;
        rest = &rest[at + 4..];
        if is_word {
            let end = rest.find(';').unwrap_or(rest.len());
            expand(&rest[..end], &[], &mut paths);
        }
    }
    // Paths within the code.
    for (at, _) in code.match_indices("crate::") {
        let path =
            code[at..].split(|letter: char| !(letter.is_alphanumeric() || "_:".contains(letter)));
        expand(path.into_iter().next().unwrap(), &[], &mut paths);
    }
    let resolved = paths.iter().filter_map(|path| resolve(path, own));
    resolved.filter(|path| !path.is_empty()).collect()
}

/// A path from the library's root; `None` for what is another crate's.
fn resolve(path: &[String], own: &[String]) -> Option<ModulePath> {
    let mut names = path.iter().peekable();
    let mut base = match names.next()?.as_str() {
        "crate" => Vec::new(),
        "self" => own.to_vec(),
        "super" => own.split_last()?.1.to_vec(),
        _ => return None,
    };
    while names.next_if(|name| *name == "super").is_some() {
        base.pop();
    }
    base.extend(names.cloned());
    Some(base)
}

#[test]
fn imports_run_down() {
    let ranks = ranks();
    let rooms: BTreeSet<_> =
        sources().iter().filter_map(|path| module_of(path).into_iter().next()).collect();
    let stated: BTreeSet<_> = ranks.keys().cloned().collect();
    assert_eq!(rooms, stated, "the rooms of src/, and the table in ARCHITECTURE.md");
    let mut upward = Vec::new();
    for path in sources() {
        let own = module_of(&path);
        let Some(room) = own.first() else { continue };
        for target in named(&code_of(&path), &own) {
            let Some(other) = target.first().filter(|other| ranks.contains_key(*other)) else {
                continue;
            };
            let is_down = other == room || ranks[other] < ranks[room];
            if !is_down {
                upward.push(format!("{}: {}", own.join("::"), target.join("::")));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn no_circle_of_files_imports_itself() {
    let mut edges = BTreeMap::<(String, String), BTreeSet<String>>::new();
    let all: BTreeSet<ModulePath> = sources().iter().map(|path| module_of(path)).collect();
    for path in sources() {
        let own = module_of(&path);
        let [room, file, ..] = &own[..] else { continue };
        for target in named(&code_of(&path), &own) {
            let [other, name, ..] = &target[..] else { continue };
            let is_module = all.contains(&vec![other.clone(), name.clone()]);
            if other == room && name != file && is_module {
                edges.entry((room.clone(), file.clone())).or_default().insert(name.clone());
            }
        }
    }
    // What imports nothing that is left goes, until nothing does.
    loop {
        let left: BTreeSet<_> = edges.keys().cloned().collect();
        edges.retain(|(room, _), targets| {
            targets.retain(|name| left.contains(&(room.clone(), name.clone())));
            !targets.is_empty()
        });
        if edges.len() == left.len() {
            break;
        }
    }
    assert!(edges.is_empty(), "{edges:#?}");
}

#[test]
fn a_use_tree_is_read_as_the_compiler_does() {
    let own: ModulePath = ["io", "shard"].map(String::from).to_vec();
    let code = "use crate::{a::{B, c::{self, D}}, e};\nuse super::f::G as H;\nuse std::io;\n\
                fn x() { crate::i::j(); }";
    let paths: Vec<_> = named(code, &own).iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["a::B", "a::c::self", "a::c::D", "e", "io::f::G", "i::j"]);
}

/// The names in the table of files, modules or folders of a header; `None` where it has none.
fn table_of(text: &str) -> Option<BTreeSet<&str>> {
    let header = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let is_head = |line: &&str| {
        ["| file |", "| module |", "| folder |"].iter().any(|head| line.starts_with(head))
    };
    let mut rows = header.skip_while(|line| !is_head(line));
    rows.next()?;
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    Some(cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect())
}

/// The files and folders that a module declares, its tests left out.
fn declared(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with(' '));
    let names = lines.filter_map(|line| line.strip_suffix(';')?.split_once("mod "));
    let modules = names.filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
    modules.map(|(_, name)| name).filter(|name| *name != "tests").collect()
}

#[test]
fn a_table_of_files_is_complete() {
    let folders = ["src", "cli/src", "loadtest/src"];
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for path in folders.into_iter().flat_map(sources_of) {
        if !path.ends_with("mod.rs") && !path.ends_with("lib.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let Some(table) = table_of(&text) else { continue };
        checked += 1;
        let shown = path.strip_prefix(root()).unwrap().display();
        let declared = declared(&text);
        for name in declared.difference(&table) {
            wrong.push(format!("{shown}: {name} is not in its table"));
        }
        for name in &table {
            let file = path.with_file_name(format!("{name}.rs"));
            let folder = path.with_file_name(name).join("mod.rs");
            if !file.is_file() && !folder.is_file() {
                wrong.push(format!("{shown}: there is no {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 30, "only {checked} tables were found");
}

#[test]
fn a_header_is_read_as_it_is_shown() {
    let text = "//! A room.\n//!\n//! | file | what |\n//! |---|---|\n//! | `a`, `b` | x |\n//!\n\
                //! | key | what |\n//! |---|---|\n//! | `c` | y |\n\nmod a;\n\
                #[cfg(test)]\nmod tests;\npub(crate) mod d;\nmod inline {\n    mod e;\n}\n";
    assert_eq!(table_of(text), Some(BTreeSet::from(["a", "b"])));
    assert_eq!(declared(text), BTreeSet::from(["a", "d"]));
    assert_eq!(table_of("//! A room.\nmod a;\n"), None);
}
