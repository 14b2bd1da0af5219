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

/// Puts the next line into `line`: the update alone, where the line tells its bot beside it.
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
            unwrap(line);
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}

/// Leaves of a line as ringhook's sink writes it where there are several bots,
/// `{"bot":...,"update":{...}}`, the update.
fn unwrap(line: &mut Vec<u8>) {
    const UPDATE: &[u8] = br#","update":"#;
    // Within a string its quotes would have backslashes.
    let place = line.windows(UPDATE.len()).position(|part| part == UPDATE);
    if let Some(place) = place.filter(|_| line.starts_with(b"{\"bot\":") && line.ends_with(b"}}")) {
        line.truncate(line.len() - 1);
        line.drain(..place + UPDATE.len());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_line_that_tells_its_bot_is_an_update_as_well() {
        for (written, update) in [
            (
                r#"{"bot":"a","update_id":1,"kind":"message","received":"x","update":{"update_id":1}}"#,
                r#"{"update_id":1}"#,
            ),
            (
                r#"{"bot":"\",\"update\":","kind":"x","update":{"update_id":1}}"#,
                r#"{"update_id":1}"#,
            ),
            (r#"{"update_id":1,"update":{}}"#, r#"{"update_id":1,"update":{}}"#),
        ] {
            let mut line = Vec::new();
            assert_eq!(read_line(&mut written.as_bytes(), &mut line).unwrap(), Line::Whole);
            assert_eq!(String::from_utf8(line).unwrap(), update);
        }
    }

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
