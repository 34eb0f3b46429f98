//! What the kernel programs refused, by guarded cgroup and reason.

use std::collections::BTreeMap;

use aya::maps::{Map, MapData, PerCpuHashMap, PerCpuValues};
use gateway_ebpf::{Reason, Refusals, maps::REFUSED};

use super::InterceptError;
use crate::workload::CgroupId;

/// How often each reason refused something; those that never did are left out.
pub type Refused = BTreeMap<&'static str, u64>;

/// The key of what the programs cannot tell apart by cgroup.
pub(super) const EVERYBODY: CgroupId = CgroupId(0);

/// The counts, which are pinned: they go on over gateways.
pub(super) struct Counts(PerCpuHashMap<MapData, u64, Refusals>);

impl Counts {
    /// Of the pinned map.
    pub(super) fn open(path: &std::path::Path) -> Result<Self, InterceptError> {
        let data = MapData::from_pin(path).map_err(InterceptError::map(REFUSED))?;
        Ok(Self(PerCpuHashMap::try_from(Map::PerCpuHashMap(data)).map_err(InterceptError::map(REFUSED))?))
    }

    /// From now on `cgroup` has counts of its own. One that has some keeps them.
    pub(super) fn begin(&mut self, CgroupId(cgroup): CgroupId) -> Result<(), InterceptError> {
        if self.0.get(&cgroup, 0).is_ok() {
            return Ok(());
        }
        let processors = aya::util::nr_cpus().map_or(1, |count| count);
        let none = PerCpuValues::try_from(vec![Refusals::default(); processors])
            .map_err(|error| InterceptError::map(REFUSED)(error.into()))?;
        self.0.insert(cgroup, none, 0).map_err(InterceptError::map(REFUSED))
    }

    /// Forgets all that are not `wanted`.
    pub(super) fn keep(&mut self, wanted: &[CgroupId]) {
        let keys: Vec<u64> = self.0.keys().filter_map(Result::ok).collect();
        for key in keys.into_iter().filter(|key| *key != EVERYBODY.0 && !wanted.contains(&CgroupId(*key))) {
            let _gone_already = self.0.remove(&key);
        }
    }

    /// Those of `cgroup`, over all processors.
    pub(super) fn of(&self, CgroupId(cgroup): CgroupId) -> Refused {
        let Ok(values) = self.0.get(&cgroup, 0) else { return Refused::new() };
        let sum = |reason: Reason| values.iter().map(|refusals| refusals.count[reason as usize]).sum();
        Reason::ALL.into_iter().map(|reason| (word(reason), sum(reason))).filter(|(_, count)| *count > 0).collect()
    }
}

const fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Rule => "rule",
        Reason::NotTcp => "not_tcp",
        Reason::Full => "full",
        Reason::Port => "gateway_port",
        Reason::Socket => "socket",
        Reason::Unix => "unix",
        Reason::Unanswered => "unanswered",
        Reason::Packet => "packet",
    }
}
