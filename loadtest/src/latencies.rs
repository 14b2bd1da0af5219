//! Durations in a histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::clock::{Nanos, nanos};

/// Many durations, each kept to three digits, up to an hour.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// One hour in nanoseconds.
    const HIGHEST: Nanos = 3_600_000_000_000;

    pub(crate) fn new() -> Self {
        // These bounds are valid, so it cannot fail; and if it did, one without bounds does.
        let histogram = Histogram::new_with_bounds(1, Self::HIGHEST, 3);
        Self(histogram.unwrap_or_else(|_| unreachable!("the bounds are constants")))
    }

    /// Takes a duration; longer ones count as an hour.
    pub(crate) fn record(&mut self, duration: Nanos) {
        self.0.saturating_record(duration);
    }

    /// Becomes a copy of `other`, in the memory that it has.
    pub(crate) fn set_to(&mut self, other: &Self) {
        // Both have the same bounds, so it cannot fail.
        let _ = self.0.set_to(&other.0);
    }

    /// What has come since these durations were those of `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut new = self.clone();
        // For the same reason.
        let _ = new.0.subtract(&earlier.0);
        new
    }

    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// How many durations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// How many are longer than `limit`, to three digits.
    #[must_use]
    pub fn count_above(&self, limit: Duration) -> u64 {
        self.0.count_between(nanos(limit).saturating_add(1), u64::MAX)
    }

    /// The duration that a share `quantile` (0 to 1) of them does not exceed; zero if there is
    /// none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    /// The shortest; zero if there is none.
    #[must_use]
    pub fn min(&self) -> Duration {
        Duration::from_nanos(self.0.min())
    }

    /// The longest; zero if there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The average; zero if there is none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.0.mean() as u64)
    }

    /// The values that a report shows, in the order of [`Latencies::COLUMNS`].
    #[must_use]
    pub fn summary(&self) -> [Duration; 7] {
        let at = |quantile| self.quantile(quantile);
        [self.min(), self.mean(), at(0.5), at(0.9), at(0.99), at(0.999), self.max()]
    }

    /// What [`Latencies::summary`] holds.
    pub const COLUMNS: [&str; 7] = ["min", "mean", "p50", "p90", "p99", "p99.9", "max"];
}

impl Latencies {
    /// Points of the curve of percentiles: a share from 0 to 1, and the microseconds that it does
    /// not exceed. They lie the closer the nearer they are to 1: five for each halving of the rest.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let points = self.0.iter_quantiles(5);
        points
            .map(|point| (point.quantile_iterated_to(), point.value_iterated_to() as f64 / 1e3))
            .collect()
    }
}

/// Numbers of microseconds, the count, and the curve.
impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Latencies", 9)?;
        fields.serialize_field("count", &self.count())?;
        for (name, value) in Self::COLUMNS.into_iter().zip(self.summary()) {
            fields.serialize_field(name, &(value.as_nanos() as f64 / 1000.0))?;
        }
        fields.serialize_field("curve", &self.curve())?;
        fields.end()
    }
}
