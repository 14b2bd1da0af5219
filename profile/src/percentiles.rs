//! Writing `.hgrm` files.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// How finely the percentiles are told apart: so many lines until the distance to 100 % has halved.
/// It is what HdrHistogram's tools use.
pub const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Writes the percentile distribution of `histogram` as HdrHistogram's tools do, to be plotted by
/// them. `unit` is what values are divided by: 1e3 makes microseconds of nanoseconds.
///
/// # Errors
/// Those of `out`.
pub fn write_percentiles(
    histogram: &Histogram<u64>,
    unit: f64,
    out: &mut impl Write,
) -> io::Result<()> {
    let scaled = |value: u64| value as f64 / unit;
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        let quantile = step.quantile_iterated_to();
        total += step.count_since_last_iteration();
        write!(out, "{:12.3} {quantile:2.12} {total:10}", scaled(step.value_iterated_to()))?;
        // At 100 % there is no such number, and HdrHistogram leaves it out.
        if quantile < 1.0 {
            write!(out, " {:14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(out)?;
    }
    let (mean, deviation) = (histogram.mean() / unit, histogram.stdev() / unit);
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    let (max, count) = (scaled(histogram.max()), histogram.len());
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {count:12}]")?;
    let sub_buckets = 2_u64 << sub_bucket_half_bits(histogram.sigfig());
    writeln!(
        out,
        "#[Buckets = {:12}, SubBuckets     = {sub_buckets:12}]",
        buckets(histogram, sub_buckets)
    )
}

/// log2 of half the sub-buckets that HdrHistogram needs for so many digits.
fn sub_bucket_half_bits(digits: u8) -> u32 {
    let largest_with_single_unit = 2 * 10_u64.pow(u32::from(digits));
    largest_with_single_unit.next_power_of_two().trailing_zeros() - 1
}

/// How many doublings there are from the sub-buckets to the largest value.
fn buckets(histogram: &Histogram<u64>, sub_buckets: u64) -> u32 {
    let lowest_bits = 63 - histogram.low().max(1).leading_zeros();
    let mut untrackable = u128::from(sub_buckets) << lowest_bits;
    let mut buckets = 1;
    while untrackable <= u128::from(histogram.high()) {
        untrackable <<= 1;
        buckets += 1;
    }
    buckets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn text(histogram: &Histogram<u64>) -> String {
        let mut out = Vec::new();
        write_percentiles(histogram, 1e3, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn is_the_form_that_hdrhistogram_prints() {
        // A histogram up to an hour with three digits has 2048 sub-buckets, as the Java original's.
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
        for value in 1..=1000 {
            histogram.record(value * 1000).unwrap();
        }
        let text = text(&histogram);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines.first_chunk::<3>().unwrap(),
            &[
                "       Value     Percentile TotalCount 1/(1-Percentile)",
                "",
                "       1.000 0.000000000000          1           1.00",
            ]
        );
        assert!(lines.contains(&"     500.223 0.500000000000        500           2.00"), "{text}");
        let last = lines.last_chunk::<4>().unwrap();
        assert_eq!(last.first().unwrap(), &"    1000.447 1.000000000000       1000");
        assert_eq!(
            last.get(2).unwrap(),
            &"#[Max     =     1000.447, Total count    =         1000]"
        );
        assert_eq!(
            last.last().unwrap(),
            &"#[Buckets =           32, SubBuckets     =         2048]"
        );
    }

    #[test]
    fn an_empty_one_has_head_and_trailer() {
        let histogram = Histogram::new_with_bounds(1, 1000, 2).unwrap();
        let text = text(&histogram);
        assert!(text.contains("Total count    =            0]"), "{text}");
    }
}
