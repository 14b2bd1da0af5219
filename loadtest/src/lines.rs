//! Reads lines without ever holding more than one, nor a very long one.

use std::io::{self, BufRead};

/// The longest line, in bytes. An update has 512 KiB at most.
const BYTES_MAX: usize = 1024 * 1024;

/// What is next in a file.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// Nothing.
    End,
    /// A line, without its end.
    Whole,
    /// One longer than any update; it was skipped.
    TooLong,
}

/// Puts the next line into `line`.
pub(crate) fn read_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let mut too_long = false;
    let mut empty = true;
    loop {
        let bytes = match source.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() && empty {
            return Ok(Line::End);
        }
        empty = false;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        too_long |= line.len() + part.len() > BYTES_MAX;
        if !too_long {
            line.extend_from_slice(part);
        }
        let (taken, last) = (part.len() + usize::from(end.is_some()), bytes.is_empty());
        source.consume(taken);
        if end.is_some() || last {
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_buffer_holds() {
        let long = "x".repeat(BYTES_MAX + 1);
        let text = format!("one\n\n{long}\ntwo\r\nthree");
        for capacity in [1, 2, 7, 1 << 20] {
            let mut source = BufReader::with_capacity(capacity, text.as_bytes());
            let mut line = Vec::new();
            let mut lines = Vec::new();
            loop {
                match read_line(&mut source, &mut line).unwrap() {
                    Line::End => break,
                    Line::Whole => lines.push(String::from_utf8(line.clone()).unwrap()),
                    Line::TooLong => lines.push("(long)".to_owned()),
                }
                assert!(line.len() <= BYTES_MAX);
            }
            assert_eq!(lines, ["one", "", "(long)", "two\r", "three"]);
        }
    }
}
