//! A latency histogram with one writer and any number of readers, without a lock.
//!
//! The buckets are those of HdrHistogram with two significant digits: a bucket is at most 1/128 of
//! its value wide, so a percentile is off by less than 0.8 %. Readers copy the counts into a
//! [`hdrhistogram::Histogram`], which does all the arithmetic.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;

/// Values below this many nanoseconds have a bucket each.
const SUB_BUCKETS: u64 = 256;
/// Buckets that each doubling of the value adds.
const HALF: u64 = SUB_BUCKETS / 2;
/// Bits of a value that fall into the first `SUB_BUCKETS`.
const SUB_BUCKET_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// The largest value that can be distinguished from a larger one: 2^40 - 1 ns, about 18 minutes.
const MAX_NS: u64 = (1 << MAX_BITS) - 1;
const MAX_BITS: u32 = 40;
/// All buckets: the first `SUB_BUCKETS`, then `HALF` for each further bit; 34 KiB of counters.
pub(super) const BUCKETS: usize =
    (SUB_BUCKETS + (MAX_BITS - SUB_BUCKET_BITS) as u64 * HALF) as usize;

/// Counters at either end that are not used: two cache lines, which CPUs fetch in pairs. So no
/// thread writes to a line that another one uses.
const EDGE: usize = 16;

/// Counts of durations in nanoseconds, from 0 to 18 minutes; longer ones count as the longest.
#[derive(Debug)]
pub(crate) struct LatencyHistogram {
    /// Those of the buckets between two edges.
    counts: Box<[AtomicU64]>,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { counts: (0..BUCKETS + 2 * EDGE).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl LatencyHistogram {
    /// Counts one duration of `ns` nanoseconds. Only one thread may call this; it costs an index
    /// and one plain increment.
    #[inline]
    pub(crate) fn record(&self, ns: u64) {
        if let Some(count) = self.counts.get(EDGE + bucket_of(ns.min(MAX_NS))) {
            count.store(count.load(Relaxed) + 1, Relaxed);
        }
    }

    /// Adds everything counted so far to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Histogram<u64>) {
        add_counts(self.buckets().iter().map(|count| count.load(Relaxed)), sum);
    }

    /// The same, bucket by bucket.
    pub(super) fn add_counts_to(&self, sums: &mut [u64]) {
        for (sum, count) in sums.iter_mut().zip(self.buckets()) {
            *sum += count.load(Relaxed);
        }
    }

    /// The counters that are used.
    pub(super) fn buckets(&self) -> &[AtomicU64] {
        self.counts.get(EDGE..EDGE + BUCKETS).unwrap_or_default()
    }
}

/// Adds the counts of all buckets in their order to `sum`, which is one of [`empty`]: its range
/// holds every bucket's value.
pub(super) fn add_counts(counts: impl Iterator<Item = u64>, sum: &mut Histogram<u64>) {
    for (bucket, count) in counts.enumerate().filter(|(_, count)| *count > 0) {
        sum.saturating_record_n(value_of(bucket), count);
    }
}

/// A histogram of the crate's own kind, with the same buckets and no counts.
///
/// # Errors
/// None in practice: the bounds are constants that HdrHistogram takes.
pub(crate) fn empty() -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    Histogram::new_with_bounds(1, MAX_NS, 2)
}

/// HdrHistogram's index: the leading eight bits of a value choose the bucket.
#[inline]
fn bucket_of(ns: u64) -> usize {
    let shift = (u64::BITS - (ns | (SUB_BUCKETS - 1)).leading_zeros()) - SUB_BUCKET_BITS;
    (u64::from(shift) * HALF + (ns >> shift)) as usize
}

/// The lowest value that falls into `bucket`.
pub(super) fn value_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB_BUCKETS {
        return bucket;
    }
    let shift = bucket / HALF - 1;
    (bucket % HALF + HALF) << shift
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_contiguous_and_invertible() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(MAX_NS), BUCKETS - 1);
        for bucket in 0..BUCKETS {
            let value = value_of(bucket);
            assert_eq!(bucket_of(value), bucket);
            assert!(value == 0 || bucket_of(value - 1) == bucket - 1);
        }
    }

    #[test]
    fn values_beyond_the_range_count_as_the_longest() {
        let histogram = LatencyHistogram::default();
        histogram.record(u64::MAX);
        let mut sum = empty().unwrap();
        histogram.add_to(&mut sum);
        assert_eq!(sum.len(), 1);
        assert!(sum.max() >= MAX_NS - MAX_NS / 128);
    }

    proptest! {
        /// The same percentiles as HdrHistogram's own recording with the same precision.
        #[test]
        fn agrees_with_hdrhistogram(values in prop::collection::vec(
            prop_oneof![0..1000u64, 0..10_000_000u64, 0..MAX_NS], 1..200)) {
            let ours = LatencyHistogram::default();
            let mut reference = empty().unwrap();
            for value in &values {
                ours.record(*value);
                reference.record(*value).unwrap();
            }
            let mut sum = empty().unwrap();
            ours.add_to(&mut sum);
            prop_assert_eq!(sum.len(), reference.len());
            for percentile in [0.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
                prop_assert_eq!(
                    sum.value_at_percentile(percentile),
                    reference.value_at_percentile(percentile)
                );
            }
        }
    }
}
