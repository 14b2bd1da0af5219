//! Times and numbers as people read them.

use std::time::{Duration, SystemTime};

/// A span with its two largest units, or one.
pub(super) fn ago(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes @ 0..10, seconds) => format!("{minutes} min {seconds} s"),
        (0, 0, minutes, _) => format!("{minutes} min"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

/// How long ago `then` was.
pub(super) fn since(then: SystemTime, now: SystemTime) -> String {
    ago(now.duration_since(then).unwrap_or_default())
}

/// A moment in UTC, to the second.
pub(super) fn clock(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// The time of a day in UTC, to the millisecond.
pub(super) fn time_of_day(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_millis(time).to_string();
    text.split_once('T').map_or(text.clone(), |(_, time)| time.trim_end_matches('Z').to_owned())
}

/// A size.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => pagecharts::scale::bytes(bytes),
    }
}

/// A share of one.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        small if small < 9.95 => format!("{small:.1} %"),
        large => format!("{large:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let shown = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(shown(0), "0 s");
        assert_eq!(shown(61), "1 min 1 s");
        assert_eq!(shown(1800), "30 min");
        assert_eq!(shown(3660), "1 h 1 min");
        assert_eq!(shown(400 * 86_400 + 7200), "400 d 2 h");
        assert_eq!(time_of_day(SystemTime::UNIX_EPOCH), "00:00:00.000");
        assert_eq!(clock(SystemTime::UNIX_EPOCH), "1970-01-01 00:00:00 UTC");
        assert_eq!((bytes(5), bytes(2048)), ("5 B".to_owned(), "2.0 KiB".to_owned()));
        assert_eq!((percent(0.123), percent(0.0123)), ("12 %".to_owned(), "1.2 %".to_owned()));
    }
}
