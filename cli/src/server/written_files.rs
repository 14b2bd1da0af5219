//! The files that are written to: no two of them are one, and none is one that is read.

use std::{
    fs::{self, Metadata},
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use super::{output::OutputSpec, setup::Setup};
use ringhook::{Error, ErrorKind};

/// Links that are followed, as the kernel does it.
const LINKS_MAX: u32 = 40;

/// What is at a path, or would be made there.
#[derive(Debug)]
pub(crate) struct Place {
    /// Device and inode, of what is there.
    id: Option<(u64, u64)>,
    /// Without links, where that can be said.
    path: PathBuf,
}

impl Place {
    /// `None` for a device: what is written to /dev/null or a terminal is kept in no file.
    pub(crate) fn new(path: &Path) -> Option<Self> {
        let path = resolved(path);
        match fs::metadata(&path) {
            Ok(metadata) => Self::from_metadata(&metadata, path),
            Err(_) => Some(Self { id: None, path }),
        }
    }

    /// Standard output's.
    fn stdout() -> Option<Self> {
        let output = io::stdout().as_fd().try_clone_to_owned().ok()?;
        Self::from_metadata(&fs::File::from(output).metadata().ok()?, PathBuf::new())
    }

    fn from_metadata(metadata: &Metadata, path: PathBuf) -> Option<Self> {
        let kind = metadata.file_type();
        let is_kept = !kind.is_char_device() && !kind.is_block_device();
        is_kept.then(|| Self { id: Some((metadata.dev(), metadata.ino())), path })
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self.id, other.id) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.path == other.path,
            _ => false,
        }
    }
}

/// Checks what a server of `setup` writes to.
///
/// # Errors
/// Where two are one file, or one is read as well; the message names both.
pub(crate) fn check(setup: &Setup, report: Option<&Path>, inputs: &[PathBuf]) -> Result<(), Error> {
    let file = &setup.file;
    let written = setup.outputs.iter().map(|(section, spec)| {
        let place = match spec {
            OutputSpec::NdjsonFile(path) => Place::new(path),
            OutputSpec::NdjsonStdout => Place::stdout(),
            OutputSpec::Broker(_)
            | OutputSpec::GetUpdates(_)
            | OutputSpec::Http(_)
            | OutputSpec::Null => None,
        };
        (format!("output.to = {spec} of {:?}", section.name), place)
    });
    let place = |path: Option<&Path>| path.and_then(Place::new);
    let letters = file.dispatch.dead_letters.as_deref();
    let profile = setup.profile_dir();
    let named = |name: &str, path: Option<&Path>| {
        format!("{name} = {}", path.unwrap_or("".as_ref()).display())
    };
    let others = [
        (named("dispatch.dead_letters", letters), place(letters)),
        (named("--report", report), place(report)),
        (named("profile.dir", profile), place(profile)),
    ];
    let outputs = written.chain(others);
    let outputs: Vec<_> = outputs.filter_map(|(name, place)| Some((name, place?))).collect();
    for (index, (name, place)) in outputs.iter().enumerate() {
        if let Some((other, _)) = outputs.iter().take(index).find(|(_, other)| place.is_same(other))
        {
            let message =
                format!("{name} and {other} are one file: expected a file of its own for each");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let is_input = |input: &&PathBuf| Place::new(input).is_some_and(|it| it.is_same(place));
        if let Some(input) = inputs.iter().find(is_input) {
            let input = input.display();
            let message = format!(
                "{name} is {input}, which is read: expected a file of its own to be written to"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    let journal = resolved(&file.server.journal_dir());
    let is_in_journal =
        |place: &Place| !place.path.as_os_str().is_empty() && place.path.starts_with(&journal);
    match outputs.iter().find(|(_, place)| is_in_journal(place)) {
        Some((name, _)) => {
            let message = format!("{name} is in the journal's directory: expected another one");
            Err(Error::new(ErrorKind::Config, message))
        }
        None => Ok(()),
    }
}

/// `path` without links, `.` and `..`, also where its last parts are not there yet.
fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Ok(whole) = fs::canonicalize(&path) {
            return whole;
        }
        // A link to what is not there makes that.
        let Ok(target) = fs::read_link(&path) else { break };
        let dir = path.parent().map(Path::to_owned).unwrap_or_default();
        path = dir.join(target);
    }
    let mut behind = Vec::new();
    let mut there = path.as_path();
    loop {
        let dir = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        if let Ok(whole) = fs::canonicalize(dir) {
            return behind.into_iter().rev().fold(whole, |whole, name| whole.join(name));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                behind.push(name);
                there = parent;
            }
            _ => return std::path::absolute(&path).unwrap_or(path),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::ConfigFile;

    #[test]
    fn one_file_is_found_by_any_name_also_before_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        symlink("sub", at("dir-link")).unwrap();
        symlink("out", at("link")).unwrap();
        symlink("link", at("link-to-link")).unwrap();
        symlink(at("out"), at("whole-link")).unwrap();
        let said = |sink: &str, letters: &str, report: Option<&str>, inputs: &[&str]| {
            let text = format!(
                "[server]\ndata_dir={:?}\n[[output]]\nname='out'\nto='ndjson:{}'\n[dispatch]\ndead_letters={:?}\n\
                 [[bot]]\nname='a'\npath='/a'\nauth='none'\n",
                at("data"),
                at(sink).display(),
                at(letters)
            );
            let setup = Setup::new(text.parse::<ConfigFile>().unwrap()).unwrap();
            let inputs: Vec<_> = inputs.iter().map(|name| at(name)).collect();
            let report = report.map(at);
            check(&setup, report.as_deref(), &inputs).err().map(|error| error.to_string())
        };
        for is_there in [false, true] {
            if is_there {
                fs::write(at("out"), "").unwrap();
                fs::hard_link(at("out"), at("hard")).unwrap();
            }
            for other in ["out", "./out", "sub/../out", "link", "link-to-link", "whole-link"] {
                for (sink, letters) in [("out", other), (other, "out")] {
                    let said = said(sink, letters, None, &[]).unwrap();
                    assert!(said.contains("output.to = ndjson:"), "{said}");
                    assert!(said.contains("dispatch.dead_letters = "), "{said}");
                }
                assert!(said("a", "b", Some(other), &["out"]).unwrap().contains("which is read"));
                assert!(said("a", "out", Some(other), &[]).unwrap().starts_with("--report = "));
            }
            assert_eq!(said("out", "other", Some("third"), &["config"]), None);
            assert_eq!(said("sub/out", "out", None, &[]), None);
            assert!(said("sub/out", "dir-link/out", None, &[]).is_some());
        }
        assert!(said("hard", "out", None, &[]).is_some());
        assert!(
            said("data/journal/out", "out", None, &[]).unwrap().contains("journal's directory")
        );
        symlink("/dev/null", at("null")).unwrap();
        assert_eq!(said("null", "null", None, &[]), None);
    }
}
