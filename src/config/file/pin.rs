//! `server.pin`: which CPUs the threads are pinned to.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::{CpuList, EXPECTED_CPUS, Pin};

/// As typed: see [`Pin`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinSection {
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<Cpus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<Cpus>,
}

impl PinSection {
    /// Writes what `pin` says over what is here.
    pub(crate) fn take(&mut self, pin: &Pin) {
        for (flag, setting) in [(&pin.shards, &mut self.shards), (&pin.workers, &mut self.workers)]
        {
            if let Some(cpus) = flag {
                *setting = Some(Cpus(cpus.clone()));
            }
        }
    }

    pub(super) fn to_pin(&self) -> Pin {
        let list = |cpus: &Option<Cpus>| cpus.as_ref().map(|Cpus(cpus)| cpus.clone());
        Pin { shards: list(&self.shards), workers: list(&self.workers) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_none() && self.workers.is_none()
    }
}

/// A list of CPUs as typed.
#[derive(Clone, Debug)]
struct Cpus(CpuList);

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            de::Error::custom(format!(
                "{text:?} is no list of CPUs, each of them once, expected {EXPECTED_CPUS}"
            ))
        })
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
