//! What must hold after a run.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{Error, Latencies, Report, units::Short};

/// Bounds that a report is held against. What has none always holds, but for [`Expect::lost`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    /// The longest latency of half of the answers, from due time.
    pub p50: Option<Duration>,
    /// The same of 90 %.
    pub p90: Option<Duration>,
    /// The same of 99 %.
    pub p99: Option<Duration>,
    /// The same of 99.9 %.
    pub p999: Option<Duration>,
    /// The longest latency of all.
    pub max: Option<Duration>,
    /// How many updates may end without a 2xx; 0 if there is no number.
    pub lost: Option<u64>,
    /// How many requests may be answered otherwise than with 2xx, or not at all.
    pub errors: Option<u64>,
    /// The share, 0 to 1, of the asked rate that must be reached.
    pub rate: Option<f64>,
}

/// An expectation and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expectation {
    /// Its key in a plan, as `p99`.
    pub name: &'static str,
    /// What was expected, as `at most 5.00 ms`.
    pub bound: String,
    /// What was found.
    pub value: String,
    /// Whether it holds.
    pub ok: bool,
}

impl Expect {
    /// Every key with what it takes.
    pub const KEYS: &[(&str, &str)] = &[
        ("errors", "a number"),
        ("lost", "a number"),
        ("max", "a duration as in 5ms"),
        ("p50", "a duration as in 5ms"),
        ("p90", "a duration as in 5ms"),
        ("p99", "a duration as in 5ms"),
        ("p99.9", "a duration as in 5ms"),
        ("rate", "a share of the asked rate as in 99% or 0.99"),
    ];

    /// Sets the expectation called `key`.
    ///
    /// # Errors
    /// [`Error::Option`] that names key, value and what was expected instead.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let Some((_, expected)) = Self::KEYS.iter().find(|(known, _)| *known == key) else {
            let keys: Vec<&str> = Self::KEYS.iter().map(|(key, _)| *key).collect();
            let expected = format!("one of {}", keys.join(", "));
            return Err(Error::key("expect", key, &expected));
        };
        let wrong = || Error::key(&format!("expect.{key}"), value, expected);
        let place = match key {
            "p50" => &mut self.p50,
            "p90" => &mut self.p90,
            "p99" => &mut self.p99,
            "p99.9" => &mut self.p999,
            "max" => &mut self.max,
            "rate" => {
                let share = crate::units::share(value).filter(|share| (0.0..=1.0).contains(share));
                self.rate = Some(share.ok_or_else(wrong)?);
                return Ok(());
            }
            _ => {
                let place = if key == "lost" { &mut self.lost } else { &mut self.errors };
                *place = Some(value.parse().map_err(|_| wrong())?);
                return Ok(());
            }
        };
        *place = Some(humantime::parse_duration(value).map_err(|_| wrong())?);
        Ok(())
    }

    /// Holds a report against the bounds.
    #[must_use]
    pub fn check(&self, report: &Report) -> Vec<Expectation> {
        let mut list = Vec::new();
        let latency = &report.latency_us;
        for (name, bound, quantile) in [
            ("p50", self.p50, 0.5),
            ("p90", self.p90, 0.9),
            ("p99", self.p99, 0.99),
            ("p99.9", self.p999, 0.999),
            ("max", self.max, 1.0),
        ] {
            list.extend(bound.map(|bound| within(name, bound, latency, quantile)));
        }
        let mut at_most = |name, bound, value: u64| {
            let ok = value <= bound;
            let bound = format!("at most {bound}");
            list.push(Expectation { name, bound, value: value.to_string(), ok });
        };
        at_most("lost", self.lost.unwrap_or(0), report.planned.saturating_sub(report.acknowledged));
        if let Some(bound) = self.errors {
            let answered: u64 = report.statuses.values().sum();
            let refused = answered - report.acknowledged;
            at_most("errors", bound, refused + report.failures.total());
        }
        if let (Some(bound), Some(asked)) = (self.rate, report.rate_asked_per_s) {
            let reached = report.acknowledged as f64 / report.duration_s.max(1e-9);
            list.push(Expectation {
                name: "rate",
                bound: format!(
                    "at least {:.1}/s ({} % of {asked:.1}/s)",
                    bound * asked,
                    bound * 1e2
                ),
                value: format!("{reached:.1}/s"),
                ok: reached >= bound * asked,
            });
        }
        list
    }
}

fn within(name: &'static str, bound: Duration, latency: &Latencies, quantile: f64) -> Expectation {
    let value = latency.quantile(quantile);
    // Nothing was measured, so nothing is known to hold.
    let ok = latency.count() > 0 && value <= bound;
    let value =
        if latency.count() == 0 { "no answer".to_owned() } else { Short(value).to_string() };
    Expectation { name, bound: format!("at most {}", Short(bound)), value, ok }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bound, value, ok } = self;
        let verdict = if *ok { "holds" } else { "FAILED" };
        write!(f, "expect.{name} {verdict}: {value}, expected {bound}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn mistakes_name_key_value_and_expectation() {
        for (key, value, message) in [
            ("p99", "fast", "expect.p99 = fast: expected a duration as in 5ms"),
            ("lost", "-1", "expect.lost = -1: expected a number"),
            ("rate", "101%", "expect.rate = 101%: expected a share of the asked rate"),
            ("p98", "5ms", "expect = p98: expected one of errors, lost, max, p50"),
        ] {
            let error = Expect::default().set(key, value).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
            assert!(error.is_usage());
        }
    }
}
