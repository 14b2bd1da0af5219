//! Axes: where a value lies, which values are marked, and how they are written.

/// From values to places between 0 and 1.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    /// From 0.
    Linear {
        /// Its end, above 0.
        max: f64,
    },
    /// Each step of the same length is the same factor.
    Log {
        /// Its begin, above 0.
        min: f64,
        /// Its end, above `min`.
        max: f64,
    },
}

impl Scale {
    /// From 0 to the next round number above `max`.
    #[must_use]
    pub fn linear(max: f64) -> Self {
        let step = step_of(max.max(1e-9));
        Self::Linear { max: (max.max(1e-9) / step).ceil() * step }
    }

    /// From 0 to `max` itself.
    #[must_use]
    pub fn linear_to(max: f64) -> Self {
        Self::Linear { max: max.max(1e-9) }
    }

    /// From the round number below the least of `values` to the one above the largest: powers of
    /// ten and their doubles and fivefolds.
    #[must_use]
    pub fn log(values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
            (least, most) = (least.min(value), most.max(value));
        }
        if most == 0.0 {
            return Self::Log { min: 1.0, max: 10.0 };
        }
        let round = |value: f64, up: bool| {
            let decade = 10_f64.powf(value.log10().floor());
            let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
            if up {
                steps.into_iter().find(|step| *step >= value * 0.999_999).unwrap_or(value)
            } else {
                steps.into_iter().rev().find(|step| *step <= value * 1.000_001).unwrap_or(value)
            }
        };
        let (min, max) = (round(least, false), round(most, true));
        Self::Log { min, max: if max > min { max } else { min * 10.0 } }
    }

    /// From 1 to `max` itself: so many in one.
    #[must_use]
    pub fn one_in(max: f64) -> Self {
        Self::Log { min: 1.0, max: max.max(10.0) }
    }

    /// Where `value` lies; values beyond the ends lie at the ends.
    #[must_use]
    pub fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { max } => value / max,
            Self::Log { min, max } => (value.max(min) / min).ln() / (max / min).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    /// The values to be marked, about `wanted` of them at the most.
    #[must_use]
    pub fn ticks(self, wanted: usize) -> Vec<f64> {
        match self {
            Self::Linear { max } => {
                let mut step = step_of(max);
                while max / step > wanted as f64 {
                    step = next_step(step);
                }
                let count = (max / step * 1.000_001) as usize;
                (0..=count).map(|index| index as f64 * step).collect()
            }
            Self::Log { min, max } => {
                let steps: &[f64] = match (max / min).log10() * 3.0 {
                    dense if dense <= wanted as f64 => &[1.0, 2.0, 5.0],
                    _ => &[1.0],
                };
                let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
                let stride = ((max / min).log10() / wanted.max(1) as f64).ceil().max(1.0) as usize;
                let decades = (first..=last).step_by(stride);
                let decades = decades.map(|exponent| 10_f64.powi(exponent));
                let values = decades.flat_map(|decade| steps.iter().map(move |step| step * decade));
                values.filter(|it| (min * 0.999_999..=max * 1.000_001).contains(it)).collect()
            }
        }
    }
}

/// A round distance of which a tenth to a quarter goes into `max`.
fn step_of(max: f64) -> f64 {
    let decade = 10_f64.powf(max.log10().floor());
    match max / decade {
        share if share < 2.0 => decade / 5.0,
        share if share < 5.0 => decade / 2.0,
        _ => decade,
    }
}

fn next_step(step: f64) -> f64 {
    let decade = 10_f64.powf((step * 1.000_001).log10().floor());
    match step / decade {
        share if share < 1.5 => decade * 2.0,
        share if share < 3.0 => decade * 5.0,
        _ => decade * 10.0,
    }
}

/// A duration of so many microseconds, with three digits.
#[must_use]
pub fn duration(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{}\u{a0}µs", digits(us)),
        us if us < 999_500.0 => format!("{}\u{a0}ms", digits(us / 1e3)),
        us => format!("{}\u{a0}s", digits(us / 1e6)),
    }
}

/// Three digits, or all before the point.
#[must_use]
pub fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 99.95 => format!("{value:.0}"),
        middle if middle >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The same for marks on an axis: no zeros behind the point.
#[must_use]
pub fn tick(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{} {unit}", plain((value * 1e3).round() / 1e3))
}

/// As short as it is exact.
#[must_use]
pub fn plain(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

/// A number with thin spaces between its thousands.
#[must_use]
pub fn grouped(value: u64) -> String {
    let text = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in text.chars().enumerate() {
        if index > 0 && (text.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A point of a run, for an axis that is `max` seconds long.
#[must_use]
pub fn time(seconds: f64, max: f64) -> String {
    match max {
        max if max <= 180.0 => format!("{} s", plain(seconds)),
        max if max <= 3.0 * 3600.0 => format!("{} min", plain((seconds / 6.0).round() / 10.0)),
        _ => format!("{} h", plain((seconds / 360.0).round() / 10.0)),
    }
}

/// A size in bytes.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 {
        format!("{} MiB", digits(mib))
    } else {
        format!("{} GiB", digits(mib / 1024.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(
            Scale::linear(1037.0).ticks(6),
            [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0]
        );
        assert_eq!(Scale::linear_to(30.0).ticks(6), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
        let log = Scale::log([120.0, 4_400.0].into_iter());
        assert_eq!(log.ticks(9), [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]);
        assert_eq!(log.ticks(3), [100.0, 1000.0]);
        let wide = Scale::log([0.1, 1e6].into_iter());
        assert_eq!(wide.ticks(4), [0.1, 10.0, 1000.0, 100_000.0]);
        assert_eq!(Scale::one_in(50_000.0).ticks(6), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        for max in [0.0, 1e-3, 0.7, 3.0, 59.0, 86_400.0, 1e9] {
            let ticks = Scale::linear(max).ticks(6);
            assert!((2..=12).contains(&ticks.len()), "{max}: {ticks:?}");
        }
    }

    #[test]
    fn places_are_within_the_axis() {
        let log = Scale::log([10.0, 1000.0].into_iter());
        assert!((log.place(100.0) - 0.5).abs() < 1e-9);
        assert_eq!((log.place(0.0), log.place(1e9)), (0.0, 1.0));
        let none = Scale::log(std::iter::empty());
        assert!(none.place(5.0).is_finite());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(duration(0.0), "0\u{a0}µs");
        assert_eq!(duration(146.2), "146\u{a0}µs");
        assert_eq!(duration(999.7), "1.00\u{a0}ms");
        assert_eq!(duration(3_162.0), "3.16\u{a0}ms");
        assert_eq!(duration(12_345_678.0), "12.3\u{a0}s");
        assert_eq!(tick(500.0), "500 µs");
        assert_eq!(tick(2e6), "2 s");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(time(90.0, 600.0), "1.5 min");
    }
}
