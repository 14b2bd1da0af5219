//! Whether the clock is right: certificates, expiry of updates and the log depend on it.

use std::time::{Duration, SystemTime};

use super::step::Finding;

/// What the way of an answer may take, and the whole seconds of its date.
const SLACK: Duration = Duration::from_secs(5);
/// From here on updates that live for seconds (inline queries: 30 s) are taken for expired.
const TOO_FAR: Duration = Duration::from_secs(30);

/// What the kernel knows of the clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Synced {
    No,
    Unknown,
    Yes,
}

/// Compares this machine's time, `now`, with `date` of the Bot API's answer, or says why there is
/// none.
pub(super) fn look(now: SystemTime, date: Result<SystemTime, String>, synced: Synced) -> Finding {
    let fix = "let the clock be set: timedatectl set-ntp true, or install chrony";
    match date {
        Ok(date) => {
            let (word, by) = match now.duration_since(date) {
                Ok(ahead) => ("ahead of", ahead),
                Err(behind) => ("behind", behind.duration()),
            };
            let what = format!("the clock is {} s {word} the Bot API's", by.as_secs());
            match by {
                by if by > TOO_FAR => Finding::fail(what, fix),
                by if by > SLACK => Finding::warn(what, fix),
                _ if synced == Synced::No => Finding::warn(
                    "the clock agrees with the Bot API's, but nothing keeps it so",
                    fix,
                ),
                _ => Finding::ok("the clock agrees with the Bot API's"),
            }
        }
        Err(why) => match synced {
            Synced::Yes => Finding::ok(format!("the clock is kept by NTP (not compared: {why})")),
            Synced::No => Finding::warn("nothing keeps the clock right", fix)
                .and(format!("it could not be compared with the Bot API's: {why}")),
            Synced::Unknown => Finding::skip(format!("nothing to compare with: {why}")),
        },
    }
}

/// Whether something keeps the kernel's clock right.
pub(super) fn synced() -> Synced {
    // SAFETY: all-zero bytes are a valid `timex`: it has integers only.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is ours and lives through the call; no mode is set, so nothing is changed.
    match unsafe { libc::adjtimex(&raw mut timex) } {
        -1 => Synced::Unknown,
        _ if timex.status & libc::STA_UNSYNC != 0 => Synced::No,
        _ => Synced::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::step::Verdict;

    #[test]
    fn seconds_count_and_so_does_who_keeps_it() {
        let now = SystemTime::now();
        let verdict = |seconds: u64, synced| {
            let ahead = look(now + Duration::from_secs(seconds), Ok(now), synced);
            let behind = look(now, Ok(now + Duration::from_secs(seconds)), synced);
            assert_eq!(ahead.verdict, behind.verdict);
            ahead.verdict
        };
        assert_eq!(verdict(1, Synced::Yes), Verdict::Ok);
        assert_eq!(verdict(1, Synced::Unknown), Verdict::Ok);
        assert_eq!(verdict(1, Synced::No), Verdict::Warn);
        assert_eq!(verdict(10, Synced::Yes), Verdict::Warn);
        assert_eq!(verdict(100, Synced::Yes), Verdict::Fail);
        let alone = |synced| look(now, Err("unreachable".to_owned()), synced).verdict;
        assert_eq!(alone(Synced::Yes), Verdict::Ok);
        assert_eq!(alone(Synced::No), Verdict::Warn);
        assert_eq!(alone(Synced::Unknown), Verdict::Skip);
        let said = look(now, Ok(now + Duration::from_secs(100)), Synced::Yes).what;
        assert_eq!(said, "the clock is 100 s behind the Bot API's");
    }
}
