//! Why a journal cannot be used.

use std::io;

/// Why a journal cannot be used.
#[derive(Debug)]
pub enum RecoveryError {
    /// The directory, or this file in it, cannot be read or changed.
    Io(Option<String>, io::Error),
    /// This file's number is so high that no segment can come after it.
    Number(String),
    /// A later ringhook wrote this file, in this version of the format.
    Version(String, u32),
}

impl From<io::Error> for RecoveryError {
    fn from(error: io::Error) -> Self {
        Self::Io(None, error)
    }
}
