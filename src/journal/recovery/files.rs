//! The files of a journal, by segment, as their names say.

use std::{collections::BTreeMap, io};

use crate::journal::storage::Storage;

/// The files of a segment that are there.
#[derive(Debug, Default)]
pub(in crate::journal) struct Files {
    /// Names of files that are kept for an operator to look at.
    pub(in crate::journal) damaged: Vec<String>,
    pub(in crate::journal) ids: bool,
    /// Ids that were not all written.
    pub(in crate::journal) new_ids: bool,
    pub(in crate::journal) journal: bool,
    pub(in crate::journal) settled: bool,
}

/// The files of each segment, by its number.
pub(in crate::journal) fn list(storage: &dyn Storage) -> io::Result<BTreeMap<u32, Files>> {
    let mut files = BTreeMap::<u32, Files>::new();
    for name in storage.names()? {
        let Some((number, kind)) = name.split_once('.') else { continue };
        let is_number = number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit());
        let Some(number) = number.parse().ok().filter(|_| is_number) else { continue };
        // A file with another name is not the journal's.
        match kind {
            "ids" => files.entry(number).or_default().ids = true,
            "ids.new" => files.entry(number).or_default().new_ids = true,
            "journal" => files.entry(number).or_default().journal = true,
            "settled" => files.entry(number).or_default().settled = true,
            _ if kind.starts_with("damaged") || kind.starts_with("ids.damaged") => {
                files.entry(number).or_default().damaged.push(name);
            }
            _ => {}
        }
    }
    Ok(files)
}
