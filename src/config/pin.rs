//! Which CPUs the threads are pinned to, as an operator says it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

/// What a list of CPUs can be.
const EXPECTED: &str = "CPUs like \"0-7\", \"0,2,4\" or \"0-14:2\"";
/// Numbers of CPUs end below this: that many fit into the C library's `cpu_set_t`.
const CPUS: usize = libc::CPU_SETSIZE as usize;

/// The CPUs that shards and workers are pinned to; what is `None` is chosen.
///
/// As text: `shards=0-7,workers=8-15`, either part may be missing. A comma goes on with the list
/// that it is in, until a name begins the other one: `shards=0,2,workers=1` is CPU 0 and 2 for the
/// shards.
///
/// ```
/// use ringhook::{CpuList, Pin};
///
/// let pin: Pin = "shards=0-3,workers=4-7".parse()?;
/// assert_eq!(pin.shards, Some(CpuList::new(0..4)?));
/// # Ok::<(), ringhook::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(default, deny_unknown_fields)]
pub struct Pin {
    /// The CPUs of the shards: one shard for each. Without it the first of those that the process
    /// may use.
    pub shards: Option<CpuList>,
    /// The CPUs of the workers: one worker for each, or more where `server.workers` says so.
    /// Without it those that are left.
    pub workers: Option<CpuList>,
}

impl Pin {
    /// Whether the numbers of threads go with the lists.
    pub(super) fn validate(
        &self,
        shards: Option<usize>,
        workers: Option<usize>,
    ) -> Result<(), Error> {
        // Two shards on one CPU would only wait for each other, and a CPU of the list without one
        // would be kept for nothing.
        if let (Some(cpus), Some(count)) = (&self.shards, shards)
            && count != cpus.len()
        {
            let expected = format!("{}, one for each CPU of server.pin.shards", cpus.len());
            return Err(Error::config("server.shards", count, &expected));
        }
        // Workers may wait for something else than a CPU, so more of them make sense.
        if let (Some(cpus), Some(count)) = (&self.workers, workers)
            && count < cpus.len()
        {
            let expected =
                format!("{} or more, one for each CPU of server.pin.workers", cpus.len());
            return Err(Error::config("server.workers", count, &expected));
        }
        Ok(())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("shards", &self.shards), ("workers", &self.workers)];
        let parts = parts.iter().filter_map(|(name, cpus)| Some((name, cpus.as_ref()?)));
        for (index, (name, cpus)) in parts.enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{name}={cpus}")?;
        }
        Ok(())
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || {
            let expected = "like \"shards=0-7,workers=8-15\": each name once, and a list of CPUs";
            Error::config("server.pin", format!("{text:?}"), expected)
        };
        let mut lists: Vec<(&str, String)> = Vec::new();
        for item in text.split(',') {
            match (item.split_once('='), lists.last_mut()) {
                (Some((name, first)), _) => lists.push((name, first.to_owned())),
                (None, Some((_, list))) => {
                    list.push(',');
                    list.push_str(item);
                }
                (None, None) => return Err(error()),
            }
        }
        let mut pin = Self::default();
        for (name, list) in lists {
            let part = match name {
                "shards" => &mut pin.shards,
                "workers" => &mut pin.workers,
                _ => return Err(error()),
            };
            let cpus = list.parse().map_err(|_| error())?;
            if part.replace(cpus).is_some() {
                return Err(error());
            }
        }
        Ok(pin)
    }
}

/// Numbers of CPUs, in the order in which threads get them: at least one, each of them once.
///
/// As text it is what `taskset --cpu-list` takes: `0-7`, `0,2,4`, `0-14:2`, and mixtures of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// A list of `cpus`.
    ///
    /// # Errors
    /// There is none, one of them is there twice, or one is 1,024 or higher. Whether the machine
    /// has them is seen at the start.
    pub fn new(cpus: impl IntoIterator<Item = usize>) -> Result<Self, Error> {
        let mut seen = [false; CPUS];
        let mut list = Vec::new();
        for cpu in cpus {
            let is_seen = seen.get_mut(cpu).map(|seen| std::mem::replace(seen, true));
            if is_seen != Some(false) {
                let expected = format!("numbers below {CPUS}, each of them once");
                return Err(Error::config("CPU", cpu, &expected));
            }
            list.push(cpu);
        }
        if list.is_empty() {
            return Err(Error::config("CPU", "(none)", "at least one"));
        }
        Ok(Self(list))
    }

    /// The numbers.
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Runs of neighbours as ranges, everything else one by one.
impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ranges(&self.0, ",", f)
    }
}

/// Writes `cpus` with runs of neighbours as ranges.
pub(crate) fn write_ranges(
    cpus: &[usize],
    separator: &str,
    f: &mut impl fmt::Write,
) -> fmt::Result {
    let runs = cpus.chunk_by(|cpu, next| *next == cpu + 1);
    for (index, run) in runs.enumerate() {
        let separator = if index > 0 { separator } else { "" };
        match run {
            [first, .., last] => write!(f, "{separator}{first}-{last}")?,
            [cpu] => write!(f, "{separator}{cpu}")?,
            [] => {}
        }
    }
    Ok(())
}

impl FromStr for CpuList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::config("CPU list", format!("{text:?}"), EXPECTED);
        // Digits alone: the standard library takes a plus sign as well.
        let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse::<usize>().ok().filter(|cpu| *cpu < CPUS),
            false => None,
        };
        let mut cpus = Vec::new();
        for item in text.split(',') {
            let (range, step) = item.split_once(':').unwrap_or((item, "1"));
            let (first, last) = match range.split_once('-') {
                Some(ends) => ends,
                // A step needs a range.
                None if item.contains(':') => return Err(error()),
                None => (range, range),
            };
            let numbers = number(first).zip(number(last)).zip(number(step));
            let Some(((first, last), step)) = numbers else { return Err(error()) };
            if first > last || step == 0 {
                return Err(error());
            }
            cpus.extend((first..=last).step_by(step));
            // The same CPU again and again must not fill the memory.
            if cpus.len() > CPUS {
                return Err(error());
            }
        }
        Self::new(cpus)
    }
}

impl<'de> Deserialize<'de> for CpuList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            de::Error::custom(format!(
                "{text:?} is no list of CPUs, each of them once, expected {EXPECTED}"
            ))
        })
    }
}

impl Serialize for CpuList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Vec<usize> {
        text.parse::<CpuList>().unwrap().as_slice().to_vec()
    }

    #[test]
    fn lists_are_those_of_taskset() {
        assert_eq!(list("3"), [3]);
        assert_eq!(list("0-3"), [0, 1, 2, 3]);
        assert_eq!(list("0,2,4"), [0, 2, 4]);
        assert_eq!(list("0-14:2"), [0, 2, 4, 6, 8, 10, 12, 14]);
        assert_eq!(list("0-5:2"), [0, 2, 4]);
        assert_eq!(list("8,0-2,10-12:2,7-7"), [8, 0, 1, 2, 10, 12, 7], "in the order typed");
        assert_eq!(list("1023"), [1023]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            ",",
            "0,",
            ",0",
            "a",
            "-1",
            "1-",
            "-",
            "3-1",
            "0-3:0",
            "0-3:",
            "0:2",
            "0-1-2",
            "+1",
            "0-+3",
            " 1",
            "1 ",
            "0x1",
            "1024",
            "0-1024",
            "0,0",
            "0-3,2",
            "99999999999999999999",
            "0-1023,0-1023,0-1023",
            "0-3:1:1",
            "0;1",
            "1.5",
            "٣",
        ] {
            let error = text.parse::<CpuList>().unwrap_err();
            assert!(error.is_usage(), "{text:?}: {error}");
        }
        assert!(CpuList::new([]).is_err() && CpuList::new([1, 1]).is_err());
        assert!(CpuList::new([CPUS]).is_err());
    }

    #[test]
    fn a_comma_goes_on_with_its_list_until_a_name_begins_the_other() {
        let pin = |text: &str| {
            let pin: Pin = text.parse().unwrap();
            let list = |cpus: Option<CpuList>| cpus.map(|cpus| cpus.to_string());
            (list(pin.shards), list(pin.workers))
        };
        let both =
            |shards: &str, workers: &str| (Some(shards.to_owned()), Some(workers.to_owned()));
        assert_eq!(pin("shards=0-7,workers=8-15"), both("0-7", "8-15"));
        assert_eq!(pin("shards=0,2,workers=1"), both("0,2", "1"));
        assert_eq!(pin("workers=1,3,5-6,shards=0,2"), both("0,2", "1,3,5-6"));
        assert_eq!(pin("shards=0-14:2,workers=1-15:2").0.unwrap(), "0,2,4,6,8,10,12,14");
        assert_eq!(pin("shards=4"), (Some("4".to_owned()), None));
        assert_eq!(pin("workers=4,5"), (None, Some("4-5".to_owned())));
    }

    #[test]
    fn what_says_nothing_or_too_much_is_refused() {
        for text in [
            "",
            "0-7",
            "shards",
            "shards=",
            "shards=0,",
            "shards=0,shards=1",
            "cores=0",
            "=0",
            "shards=0,workers",
            "shards=0 workers=1",
            "shards=0,,workers=1",
            "Shards=0",
            "shards=0,0",
            "shards==0",
            "0,shards=1",
            "shards=0;workers=1",
        ] {
            let error = text.parse::<Pin>().unwrap_err();
            assert!(error.is_usage(), "{text:?}");
            assert!(error.to_string().starts_with("server.pin = \""), "{error}");
        }
    }

    #[test]
    fn numbers_of_threads_have_to_go_with_the_lists() {
        let pin: Pin = "shards=0-3,workers=4,5".parse().unwrap();
        pin.validate(None, None).unwrap();
        pin.validate(Some(4), Some(2)).unwrap();
        pin.validate(Some(4), Some(16)).unwrap();
        let error = |shards, workers| pin.validate(shards, workers).unwrap_err().to_string();
        let expected = "4, one for each CPU of server.pin.shards";
        for shards in [1, 5] {
            let said = error(Some(shards), None);
            assert_eq!(said, format!("server.shards = {shards}: expected {expected}"));
        }
        let expected = "2 or more, one for each CPU of server.pin.workers";
        assert_eq!(error(None, Some(1)), format!("server.workers = 1: expected {expected}"));
        Pin::default().validate(Some(1), Some(1)).unwrap();
    }

    proptest! {
        #[test]
        fn lists_round_trip(cpus in prop::collection::hash_set(0..CPUS, 1..40)) {
            let list = CpuList::new(cpus).unwrap();
            let pin = Pin { shards: Some(list.clone()), workers: Some(list.clone()) };
            prop_assert_eq!(list.to_string().parse::<CpuList>().unwrap(), list);
            prop_assert_eq!(pin.to_string().parse::<Pin>().unwrap(), pin);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9,:=a-z ]{0,40}") {
            drop(text.parse::<Pin>());
            drop(text.parse::<CpuList>());
        }
    }
}
