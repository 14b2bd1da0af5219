//! Small files of text that operators write: settings, tokens, passwords.

use std::{
    io::{self, Read as _},
    path::Path,
};

use zeroize::Zeroizing;

use crate::files::{self, How};

/// The longest one that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// All of the file at `path`.
///
/// # Errors
/// Where it cannot be read, has more than 1 MiB, or is not in UTF-8 (UTF-16 is named as such), or
/// where it has no end, as a pipe or a device.
pub fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = files::open(path, How::ReadFile)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("a pipe, socket or device, and not a file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    if file.take(FILE_MAX + 1).read_to_end(&mut bytes)? as u64 > FILE_MAX {
        return Err(io::Error::other("longer than 1 MiB, so it is not the right file"));
    }
    decode(&bytes).map(|text| Zeroizing::new(text.to_owned()))
}

/// The text in `bytes`, without the byte order mark that some editors put in front.
fn decode(bytes: &[u8]) -> io::Result<&str> {
    let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let is_wide = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    match str::from_utf8(bytes) {
        _ if is_wide || bytes.contains(&0) => {
            invalid("in UTF-16, or no text at all: save it as UTF-8, without a byte order mark")
        }
        Ok(text) => Ok(text.trim_start_matches('\u{feff}')),
        Err(_) => invalid("not text in UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_a_short_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let error = |path: &Path| read(path).unwrap_err().to_string();
        fs::write(&path, "text\n").unwrap();
        assert_eq!(*read(&path).unwrap(), "text\n");
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1 << 20);
        fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(error(&path).contains("longer than 1 MiB"));
        fs::write(&path, [0xff]).unwrap();
        assert!(error(&path).contains("UTF-8"));
        for (bytes, outcome) in [
            (&b"\xef\xbb\xbfuser:pass\n"[..], Ok("user:pass\n")),
            (b"\xef\xbb\xbf\xef\xbb\xbfx", Ok("x")),
            (b"\xff\xfeu\0s\0", Err("UTF-16")),
            (b"\xfe\xff\0u\0s", Err("UTF-16")),
            (b"u\0s\0", Err("UTF-16")),
        ] {
            fs::write(&path, bytes).unwrap();
            match outcome {
                Ok(text) => assert_eq!(*read(&path).unwrap(), text),
                Err(word) => assert!(error(&path).contains(word), "{}", error(&path)),
            }
        }
        let fifo = dir.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(error(&fifo).contains("a pipe, socket or device"));
        assert!(error(Path::new("/dev/zero")).contains("a pipe, socket or device"));
        assert_eq!(read(dir.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}
