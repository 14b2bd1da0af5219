//! How many durations of a stage are within given bounds, as monitoring systems ask for them.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{LatencyHistogram, histogram::value_of};

/// The durations of one stage since the server's start, counted by upper bounds.
///
/// A bound is met within 0.8 %, as the percentiles of the report are, and so is the sum.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StageBuckets {
    /// How many durations are within each bound, those within a smaller one included.
    pub within: Vec<u64>,
    /// All durations.
    pub count: u64,
    /// Their sum. Those longer than 18 minutes are in it as 18 minutes.
    pub sum: Duration,
}

impl StageBuckets {
    /// Sums `histograms`; `bounds` are in ascending order.
    pub(crate) fn new(histograms: &[&LatencyHistogram], bounds: &[Duration]) -> Self {
        let bounds: Vec<u64> = bounds
            .iter()
            .map(|bound| u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX))
            .collect();
        // By the first bound that they are within, and behind it those above all bounds.
        let mut counts = vec![0_u64; bounds.len() + 1];
        let mut nanos = 0_u128;
        for histogram in histograms {
            let mut place = 0;
            for (bucket, count) in histogram.buckets().iter().enumerate() {
                let count = count.load(Relaxed);
                if count == 0 {
                    continue;
                }
                // The middle of the values that are counted together.
                let middle = value_of(bucket) + (value_of(bucket + 1) - 1 - value_of(bucket)) / 2;
                while bounds.get(place).is_some_and(|bound| middle > *bound) {
                    place += 1;
                }
                if let Some(sum) = counts.get_mut(place) {
                    *sum += count;
                }
                nanos += u128::from(middle) * u128::from(count);
            }
        }
        let mut count = 0;
        for sum in &mut counts {
            count += *sum;
            *sum = count;
        }
        counts.pop();
        let sum = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Self { within: counts, count, sum }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_cumulative_and_near_the_bounds(
            values in prop::collection::vec(0..20_000_000_000_u64, 1..200),
        ) {
            let (one, two) = (LatencyHistogram::default(), LatencyHistogram::default());
            for (index, value) in values.iter().enumerate() {
                if index % 2 == 0 { &one } else { &two }.record(*value);
            }
            let bounds = [50_000, 1_000_000, 500_000_000, 10_000_000_000_u64];
            let durations = bounds.map(Duration::from_nanos);
            let buckets = StageBuckets::new(&[&one, &two], &durations);
            prop_assert_eq!(buckets.count, values.len() as u64);
            for (index, bound) in bounds.into_iter().enumerate() {
                let least = values.iter().filter(|it| **it <= bound - bound / 128).count() as u64;
                let most = values.iter().filter(|it| **it <= bound + bound / 128).count() as u64;
                prop_assert!((least..=most).contains(&buckets.within[index]));
            }
            let sum: u64 = values.iter().sum();
            let off = buckets.sum.as_nanos().abs_diff(u128::from(sum));
            prop_assert!(off <= u128::from(sum / 128) + values.len() as u128);
        }
    }
}
