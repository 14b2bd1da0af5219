//! Writing of families: a head and the series below it.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::SystemTime};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// A label and its value.
pub(super) type Label<'a> = (&'static str, Cow<'a, str>);

/// One label.
pub(super) fn label<'a>(name: &'static str, value: impl Into<Cow<'a, str>>) -> [Label<'a>; 1] {
    [(name, value.into())]
}

/// The counts of all that there can be, by name, the missing ones as 0: a counter that begins above
/// 0 has no rate.
pub(super) fn counts<K: Copy + Ord>(
    name: &'static str,
    all: impl IntoIterator<Item = K>,
    counts: &BTreeMap<K, u64>,
    word: fn(K) -> &'static str,
) -> impl Iterator<Item = ([Label<'static>; 1], u64)> {
    let count = move |key| counts.get(&key).copied().unwrap_or(0);
    all.into_iter().map(move |key| (label(name, word(key)), count(key)))
}

/// Seconds since 1970.
pub(super) fn timestamp(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

/// A family's name without prefix, unit and `_total`; its help; its unit.
#[derive(Clone, Copy)]
pub(super) struct Head {
    name: &'static str,
    help: &'static str,
    unit: BaseUnit,
}

/// What a family's values are in.
#[derive(Clone, Copy)]
enum BaseUnit {
    Bytes,
    /// Numbers of things, which the name says.
    Number,
    Seconds,
}

pub(super) const fn head(name: &'static str, help: &'static str) -> Head {
    Head { name, help, unit: BaseUnit::Number }
}

impl Head {
    pub(super) fn seconds(mut self) -> Self {
        self.unit = BaseUnit::Seconds;
        self
    }

    pub(super) fn bytes(mut self) -> Self {
        self.unit = BaseUnit::Bytes;
        self
    }

    const fn unit(self) -> Option<Unit> {
        match self.unit {
            BaseUnit::Bytes => Some(Unit::Bytes),
            BaseUnit::Number => None,
            BaseUnit::Seconds => Some(Unit::Seconds),
        }
    }
}

/// Where families are written to.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    /// A counter with these series. A head is written without any as well, so that what there can
    /// be is seen.
    pub(super) fn counters<'l, V: EncodeCounterValue, const N: usize>(
        &mut self,
        head: Head,
        series: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        let (Head { name, help, .. }, unit) = (head, head.unit());
        let mut family =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in series {
            let mut series = family.encode_family(&labels)?;
            series.encode_counter::<NoLabelSet, V, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A counter without labels.
    pub(super) fn counter(
        &mut self,
        head: Head,
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        let (Head { name, help, .. }, unit) = (head, head.unit());
        let mut family =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A gauge with these series.
    pub(super) fn gauges<'l, V: EncodeGaugeValue, const N: usize>(
        &mut self,
        head: Head,
        series: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        let (Head { name, help, .. }, unit) = (head, head.unit());
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, head: Head, value: impl EncodeGaugeValue + Copy) -> fmt::Result {
        let (Head { name, help, .. }, unit) = (head, head.unit());
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        family.encode_gauge(&value)
    }

    /// What does not change, as labels.
    pub(super) fn info<const N: usize>(
        &mut self,
        head: Head,
        labels: &[Label<'_>; N],
    ) -> fmt::Result {
        let Head { name, help, .. } = head;
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        family.encode_info(labels)
    }

    /// Histograms of seconds: sum, count, and the counts between the bounds, the last of which is
    /// infinite.
    pub(super) fn histograms<'l>(
        &mut self,
        head: Head,
        series: impl IntoIterator<Item = ([Label<'l>; 1], f64, u64, Vec<(f64, u64)>)>,
    ) -> fmt::Result {
        let (Head { name, help, .. }, unit) = (head, head.unit());
        let mut family =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        for (labels, sum, count, buckets) in series {
            let mut series = family.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
