//! Checking a sink takes the same memory whatever its size.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../../tests/support/allocator.rs"]
mod allocator;

use std::io::{self, BufReader, Read};

use allocator::peak_of;
use loadtest::{Expected, PayloadGenerator, PayloadOptions, verify};

/// A file of updates that is written while it is read; a third of it is wrong in some way.
struct Sink {
    updates: PayloadGenerator,
    next: u64,
    end: u64,
    line: Vec<u8>,
    read: usize,
}

impl Sink {
    fn write_line(&mut self) {
        self.line.clear();
        self.read = 0;
        if self.next == self.end {
            return;
        }
        let id = match self.next % 60 {
            1 => self.next - 1,
            2 => self.next + 300,
            _ => self.next,
        };
        self.updates.write(&mut self.line, id);
        let newline = self.line.iter().position(|byte| *byte == b'\n');
        self.line.remove(newline.unwrap());
        if self.next % 60 == 3 {
            self.line.truncate(40);
        }
        self.line.push(b'\n');
        self.next += 1;
    }
}

impl Read for Sink {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.line.len() {
            self.write_line();
        }
        let count = (self.line.len() - self.read).min(buffer.len());
        buffer[..count].copy_from_slice(&self.line[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// The most memory that was held at once while a sink of so many lines was checked, in bytes.
fn peak(lines: u64) -> isize {
    let payload = PayloadOptions { chats: 5000, ..Default::default() };
    let updates = PayloadGenerator::new(&payload);
    let sink = Sink { updates, next: 1, end: lines + 1, line: Vec::with_capacity(16_384), read: 0 };
    let expected = Expected { updates: lines, ..Expected::new(payload) };
    let (peak, verified) = peak_of(|| verify(&expected, BufReader::new(sink)).unwrap());
    assert_eq!(verified.lines, lines);
    assert!(!verified.ok && verified.missing.count > lines / 30, "{verified}");
    assert!(verified.reordered.count > 0 && verified.unreadable.count > 0, "{verified}");
    assert_eq!(verified.altered.count, 0, "{verified}");
    peak
}

#[test]
fn two_hundred_thousand_updates_take_as_much_memory_as_twenty_thousand() {
    let (small, large) = (peak(20_000), peak(200_000));
    // A bit per update, and the chats that did not come before: far less than an id per update.
    assert!(large < small + 256 * 1024, "{small} and {large} bytes");
    assert!(large < 8 * 1024 * 1024, "{large} bytes");
}
