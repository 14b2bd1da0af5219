//! Latency profiles in the files that HdrHistogram's own tools read.
//!
//! * [`IntervalLog`] writes `.hlog` files (log format 1.3): a histogram for each interval and tag.
//! * [`read_log`] reads them back.
//! * [`write_percentiles`] writes `.hgrm` files: one histogram's percentile distribution, as
//!   `outputPercentileDistribution` of the Java original prints it.
//!
//! Values are nanoseconds throughout. The server and the load generator share this crate, so that
//! their profiles can be laid over each other.

mod interval_log;
mod percentiles;
mod read;

pub use hdrhistogram::Histogram;

pub use self::{
    interval_log::IntervalLog,
    percentiles::{TICKS_PER_HALF_DISTANCE, write_percentiles},
    read::{Interval, Log, ReadError, read_log},
};
