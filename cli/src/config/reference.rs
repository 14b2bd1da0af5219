//! `docs/reference/settings.md`, made from the sections' own documentation, types and defaults.
//!
//! `RINGHOOK_BLESS=1 cargo test settings_reference` writes it again.

use std::{collections::HashSet, env, fmt::Write as _, fs, path::PathBuf};

use bytesize::ByteSize;

use super::{ConfigFile, Secrets};

/// A bot without which no config is good, for what is tried.
const BOT: &str = "\n[[bot]]\nname = 'a'\npath = '/a'\nauth = 'none'\n";
const HEAD: &str = "\
# Settings

Every key of `ringhook.toml`, the config file of `ringhook serve` and of the commands that take
`--config`. A flag wins over the file. An unknown key, or a value of another type or outside its
bounds, is refused by an error with line and key. `ringhook serve --print-config` prints what is in
force.

A duration is text such as `\"500ms\"`, `\"10s\"` or `\"1m 30s\"`. A size is text such as `\"64KiB\"` or a
number of bytes; its bounds are in bytes. A key without a default may be left out, unless it says
that it is required.

This page is made from `src/config` and `cli/src/config` by
`RINGHOOK_BLESS=1 cargo test settings_reference`.
";

/// A section of the file and the struct that it is read into.
struct Section {
    name: &'static str,
    is_array: bool,
    source: &'static str,
    of: &'static str,
}

const SECTIONS: [Section; 13] = [
    Section::table("server", "src/config/server.rs", "ServerSection"),
    Section::array("listener", "src/config/listener.rs", "ListenerSection"),
    Section::table("admin", "../src/config/admin.rs", "Admin"),
    Section::table("log", "src/config/log.rs", "LogSection"),
    Section::table("tls", "src/config/tls.rs", "TlsSection"),
    Section::array("bot", "src/config/bot.rs", "BotSection"),
    Section::table("webhook", "src/config/webhook.rs", "WebhookSection"),
    Section::table("limits", "../src/config/limits.rs", "Limits"),
    Section::table("dispatch", "../src/config/dispatch.rs", "Dispatch"),
    Section::table("journal", "../src/config/journal.rs", "Journal"),
    Section::array("output", "src/config/output.rs", "OutputSection"),
    Section::array("route", "../outputs/src/routes/section.rs", "RouteSection"),
    Section::table("profile", "src/config/profile.rs", "ProfileSection"),
];

impl Section {
    const fn table(name: &'static str, source: &'static str, of: &'static str) -> Self {
        Self { name, is_array: false, source, of }
    }

    const fn array(name: &'static str, source: &'static str, of: &'static str) -> Self {
        Self { name, is_array: true, source, of }
    }

    fn fields(&self) -> (String, Vec<Field>) {
        let (meaning, fields) = read_struct(self.source, self.of);
        // A table in a table: its keys are those of its own struct.
        let fields = fields.into_iter().flat_map(|field| {
            let source = match field.of.as_str() {
                "Pin" => "../src/config/pin.rs",
                "RotateTable" => self.source,
                _ => return vec![field],
            };
            let inner = read_struct(source, &field.of).1.into_iter();
            let name = field.name;
            let is_required = field.is_required;
            let inner = inner.map(|inner| Field {
                name: format!("{name}.{}", inner.name),
                is_required,
                ..inner
            });
            inner.collect()
        });
        (meaning, fields.collect())
    }

    /// What the parser or the checks say of `value` for `key`; `None` where it is good.
    fn error(&self, key: &str, value: &str) -> Option<String> {
        let text = format!("[{}]\n{key} = {value}\n{BOT}", self.name);
        let config = text.parse::<ConfigFile>().and_then(|file| file.to_config(Secrets::Leave));
        config.err().map(|error| error.to_string())
    }

    /// The range that the checks name for a value that is too small or too large.
    fn bounds(&self, field: &Field) -> String {
        let tried = match &*field.kind(self) {
            "number" | "size" => ["0", "9223372036854775807"],
            "duration" => ["'0s'", "'1000000000s'"],
            _ => return String::new(),
        };
        if self.is_array {
            return String::new();
        }
        let said = tried.iter().filter_map(|value| self.error(&field.name, value));
        let named = format!("{}.{} = ", self.name, field.name);
        let mut own = said.filter(|error| error.starts_with(&named));
        let range = own.find_map(|error| Some(error.split_once(": expected ")?.1.to_owned()));
        range.unwrap_or_default()
    }
}

/// One key, as its struct has it.
#[derive(Default)]
struct Field {
    name: String,
    /// The type, without `Option`.
    of: String,
    is_required: bool,
    is_size: bool,
    meaning: String,
}

impl Field {
    /// What can be typed.
    fn kind(&self, section: &Section) -> String {
        match self.of.as_str() {
            "bool" => "true or false",
            "Duration" => "duration",
            "ByteSize" => "size",
            _ if self.is_size => "size",
            "usize" | "u16" | "u32" | "u64" => "number",
            "String" => "text",
            "PathBuf" => "path",
            "Hidden" => "secret text",
            "Vec<String>" => "list of addresses and networks",
            "ListenAddress" => "address to listen on",
            "SocketAddr" => "IP:PORT",
            "IpAddr" => "IP address",
            "CpuList" => "CPUs such as `\"0-7\"`, `\"0,2,4\"` or `\"0-14:2\"`",
            "Mode" => "text in octal",
            "Moment" => "time such as `\"2027-01-31T12:00:00Z\"`",
            "ApiRoot" => "URL",
            "AllowedUpdates" => "`\"all\"`, `\"auto\"` or a list of texts",
            "OneOf<String>" => "text or list of texts",
            "OneOf<i64>" => "number or list of numbers",
            "BTreeMap<String, String>" => "table of texts",
            "BTreeMap<String, WhereTest>" => "table of values and tests",
            "DriverChoice" | "LogFormat" | "LogLevel" | "Ack" | "Order" | "Fallback" | "Auth" => {
                return self.variants(section);
            }
            other => {
                panic!("{}.{} has the type {other}: how is it typed?", section.name, self.name)
            }
        }
        .to_owned()
    }

    /// The words that are taken, which the parser names where it gets another one.
    fn variants(&self, section: &Section) -> String {
        let Section { name, is_array, .. } = section;
        let text = match is_array {
            true => format!("[[{name}]]\nname = 'a'\n{} = '?'", self.name),
            false => format!("[{name}]\n{} = '?'", self.name),
        };
        let error = text.parse::<ConfigFile>().unwrap_err().to_string();
        let words = error.split_once("expected ").unwrap().1;
        let words: Vec<_> = words.split('`').skip(1).step_by(2).collect();
        format!("`\"{}\"`", words.join("\"`, `\""))
    }
}

/// The documentation of struct `name` and its fields, from a source as rustfmt leaves it.
fn read_struct(source: &str, name: &str) -> (String, Vec<Field>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(source);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{source}: {error}"));
    let opening = format!("struct {name} {{");
    let (before, rest) = text.split_once(&opening).unwrap_or_else(|| panic!("{source}: {name}"));
    let own: Vec<_> = before.lines().rev().take_while(|line| !line.is_empty()).collect();
    let docs: Vec<_> = own.into_iter().rev().filter_map(|l| l.strip_prefix("/// ")).collect();
    let mut fields = Vec::new();
    let (mut field, mut is_skipped, mut lines) = (Field::default(), false, Vec::new());
    for line in rest.lines().take_while(|line| *line != "}").map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            lines.push(doc.trim());
        } else if line.starts_with('#') {
            is_skipped |= line.contains("serde(skip)");
            field.is_size |= line.contains("\"size\"");
            if line.contains("with = \"media_groups\"") {
                ".wait".clone_into(&mut field.name);
            }
        } else if let Some((name, of)) = line.trim_end_matches(',').split_once(": ") {
            if line.starts_with("//") {
                continue;
            }
            let name = name.rsplit(' ').next().unwrap().trim_start_matches("r#");
            let inner = of.strip_prefix("Option<").and_then(|of| of.strip_suffix('>'));
            field.name.insert_str(0, name);
            field.is_required =
                matches!((name, of), ("name", "String") | ("address" | "size" | "to", _));
            inner.unwrap_or(of).clone_into(&mut field.of);
            field.meaning = plain(&lines.join(" "));
            assert!(!field.meaning.is_empty(), "{source}: {name} has no documentation");
            let done = std::mem::take(&mut field);
            if !std::mem::take(&mut is_skipped) {
                fields.push(done);
            }
            lines.clear();
        }
    }
    assert!(!fields.is_empty(), "{source}: {name} has no fields");
    (plain(&docs.join(" ")), fields)
}

/// Documentation without rustdoc's links: ``[`Ack::Memory`]`` is the word that is typed.
fn plain(docs: &str) -> String {
    let mut text = String::new();
    let mut rest = docs;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else { break };
        let word = name.rsplit("::").next().unwrap_or(name);
        let _ = write!(text, "{before}`{}`", word.to_lowercase());
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').map_or(after, |(_, after)| after),
            None => after,
        };
    }
    (text + rest).replace('|', "\\|")
}

/// The default that documentation names behind a semicolon at the end of a sentence, as it is
/// typed; and the documentation without it.
fn without_default(meaning: &str) -> (Option<String>, String) {
    for (index, _) in meaning.match_indices("; ") {
        let (before, after) = meaning.split_at(index);
        let (value, rest) = match after.split_once(". ") {
            Some((value, rest)) => (value, format!(" {rest}")),
            None => (after.trim_end_matches('.'), String::new()),
        };
        let value = value.trim_start_matches("; ");
        let typed = match value {
            "true" | "false" => value.to_owned(),
            _ if value.parse::<ByteSize>().is_ok_and(|_| value.ends_with('B')) => {
                format!("\"{value}\"")
            }
            _ => match (value.replace(',', ""), value.replace(' ', "")) {
                (number, _) if number.parse::<u64>().is_ok() => number,
                (_, time) if humantime::parse_duration(&time).is_ok() => format!("\"{time}\""),
                _ => continue,
            },
        };
        return (Some(typed), format!("{before}.{rest}"));
    }
    (None, meaning.to_owned())
}

/// The page as it is to be.
fn page() -> String {
    let defaults: toml::Table = ConfigFile::default().to_toml().unwrap().parse().unwrap();
    let flags = crate::commands::setting_flags();
    let mut used = HashSet::new();
    let mut page = HEAD.to_owned();
    for section in &SECTIONS {
        let (meaning, fields) = section.fields();
        let title = match section.is_array {
            true => format!("[[{}]]", section.name),
            false => format!("[{}]", section.name),
        };
        let _ = writeln!(page, "\n## `{title}`\n\n{meaning}\n");
        page += "| key | type | default | bounds | flag | meaning |\n|---|---|---|---|---|---|\n";
        for field in fields {
            let parts = format!("{}.{}", section.name, field.name);
            let default = parts.split('.').try_fold(None, |found: Option<&toml::Value>, part| {
                let table = match found {
                    None => Some(&defaults),
                    Some(value) => value.as_table(),
                };
                table.and_then(|table| table.get(part)).map(Some)
            });
            // A default is named in one column, so it is not in the meaning as well.
            let (said, meaning) = without_default(&field.meaning);
            let default = match (default.flatten(), said) {
                (Some(value), _) => format!("`{}`", value.to_string().replace(".0 ", " ")),
                (None, _) if field.is_required => "required".to_owned(),
                (None, Some(said)) => format!("`{said}`"),
                (None, None) => String::new(),
            };
            // A flag may be about a table of the file.
            let is_own = |key: &str| {
                parts.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let flag = flags.iter().find(|(key, _)| is_own(key)).map(|(key, flag)| {
                used.insert(key);
                format!("`--{flag}`")
            });
            let flag = flag.unwrap_or_default();
            let _ = writeln!(
                page,
                "| `{}` | {} | {default} | {} | {flag} | {} |",
                field.name,
                field.kind(section),
                section.bounds(&field),
                meaning
            );
        }
    }
    let unused: Vec<_> = flags.iter().filter(|(key, _)| !used.contains(key)).collect();
    assert!(unused.is_empty(), "flags for keys that are not there: {unused:?}");
    page
}

#[test]
fn settings_reference() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/settings.md");
    let page = page();
    if env::var_os("RINGHOOK_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differing = page.lines().zip(written.lines()).find(|(is, was)| is != was);
    let again = "RINGHOOK_BLESS=1 cargo test settings_reference writes it again";
    assert!(page == written, "{} is out of date: {differing:?}; {again}", path.display());
}

/// Each key of the file has a line: what is printed for a whole config is in the page.
#[test]
fn every_key_has_a_line() {
    let page = page();
    let whole: toml::Table = super::tests::WHOLE.parse().unwrap();
    for (section, keys) in whole {
        let first = keys.as_array().and_then(|tables| tables.first()).unwrap_or(&keys);
        let title = if keys.is_array() { format!("[[{section}]]") } else { format!("[{section}]") };
        let (_, after) = page.split_once(&format!("## `{title}`")).unwrap();
        let own = after.split("\n## ").next().unwrap();
        for key in first.as_table().unwrap().keys().filter(|key| *key != "pin") {
            assert!(own.contains(&format!("\n| `{key}` |")), "{section}.{key}");
        }
    }
}
