//! Quantities as people read them.

use std::{fmt, time::Duration};

/// A duration with three digits and the unit that suits it.
#[derive(Clone, Copy, Debug)]
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_nanos() as f64 / 1e3;
        let (value, unit) = match micros {
            _ if micros < 999.5 => (micros, "us"),
            _ if micros < 999_500.0 => (micros / 1e3, "ms"),
            _ => (micros / 1e6, "s"),
        };
        f.pad(&format!("{} {unit}", three_digits(value)))
    }
}

/// A number of bytes with three digits and the unit that suits it.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        let (value, unit) = match bytes {
            _ if bytes < 1e3 => return f.pad(&format!("{} B", self.0)),
            _ if bytes < 999.5e3 => (bytes / 1e3, "kB"),
            _ if bytes < 999.5e6 => (bytes / 1e6, "MB"),
            _ => (bytes / 1e9, "GB"),
        };
        f.pad(&format!("{} {unit}", three_digits(value)))
    }
}

/// Reads a share as `2%` or `0.02`.
#[must_use]
pub fn share(text: &str) -> Option<f64> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    Some(number.trim().parse::<f64>().ok()? / whole)
}

fn three_digits(value: f64) -> String {
    match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (nanos, text) in [
            (0, "0.00 us"),
            (1_234, "1.23 us"),
            (99_960, "100 us"),
            (999_600, "1.00 ms"),
            (45_670_000, "45.7 ms"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(Short(Duration::from_nanos(nanos)).to_string(), text);
        }
        for (bytes, text) in [(999, "999 B"), (1_500, "1.50 kB"), (123_456_789, "123 MB")] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
