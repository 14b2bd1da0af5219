//! A named pipe whose reader has stopped, as a disk that does not answer.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use rustix::fs::{CWD, FileType, Mode};

use super::wait_until;

/// A named pipe that is never read.
pub(crate) struct StuckPipe(File);

impl StuckPipe {
    pub(crate) fn make(path: &Path) -> Self {
        let (kind, mode) = (FileType::Fifo, Mode::RWXU);
        rustix::fs::mknodat(CWD, path, kind, mode, 0).unwrap();
        // Opened for reading and writing, so that no end is waited for.
        Self(OpenOptions::new().read(true).write(true).open(path).unwrap())
    }

    /// An answer to getUpdates with an update that goes to the dead letters, and is longer than
    /// what a pipe holds.
    pub(crate) fn unreadable_answer(id: u32) -> String {
        let text = "x".repeat(256 * 1024);
        let update =
            format!("{{\"update_id\":{id},\"message\":{{\"text\":\"{text}\",\"x\":tru}}}}");
        format!("{{\"ok\":true,\"result\":[{update}]}}")
    }

    /// Waits until a writer has begun, who can never end.
    pub(crate) fn wait_until_stuck(&self) {
        wait_until("the pipe is written to", || rustix::io::ioctl_fionread(&self.0).unwrap() > 0);
    }
}
