//! Requests to the stores made of thin air: so many reads a second of each key, and what leaders say of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::key::Key;
use holdfast_common::proto::placement::{HotKey, HotSpot, LoadCut};

use super::stores::Truth;

/// Heartbeats until a leader's rates say something.
const MEASURED_AFTER: u32 = 5;

/// Reads a second of each key, and since when each leader has counted them.
#[derive(Default)]
pub(crate) struct Traffic {
    /// Reads a second, by key.
    pub(crate) reads: BTreeMap<Key, f64>,
    /// The leader and the bounds version that each range is counted under, and for how many heartbeats.
    counted: BTreeMap<RangeId, ((Option<ReplicaId>, u64), u32)>,
}

impl Traffic {
    /// A heartbeat's time has gone by.
    pub(crate) fn pass(&mut self, ranges: &BTreeMap<RangeId, Truth>) {
        for (range, truth) in ranges {
            let now = (truth.leader, truth.descriptor.epoch.bounds);
            let counted = self.counted.entry(*range).or_insert((now, 0));
            *counted = if counted.0 == now {
                (now, counted.1 + 1)
            } else {
                (now, 0)
            };
        }
    }

    pub(crate) fn reads_of(&self, truth: &Truth) -> f64 {
        self.within(truth).map(|(_, reads)| reads).sum()
    }

    pub(crate) fn is_measured(&self, range: RangeId) -> bool {
        self.for_heartbeats(range) >= MEASURED_AFTER
    }

    fn for_heartbeats(&self, range: RangeId) -> u32 {
        self.counted.get(&range).map_or(0, |counted| counted.1)
    }

    fn within<'a>(&'a self, truth: &'a Truth) -> impl Iterator<Item = (&'a Key, f64)> {
        let span = &truth.descriptor.span;
        let end = match span.end() {
            end if end.is_empty() => Bound::Unbounded,
            end => Bound::Excluded(&end[..]),
        };
        let within = self
            .reads
            .range::<[u8], _>((Bound::Included(&span.start()[..]), end));
        within.map(|(key, reads)| (key, *reads))
    }

    /// What an exact sample would say.
    pub(crate) fn hot_spot(&self, truth: &Truth) -> Option<Box<HotSpot>> {
        let total = self.reads_of(truth);
        let percent = |part: f64| (100.0 * part / total).round() as u8;
        let hottest = self.within(truth).max_by(|a, b| a.1.total_cmp(&b.1))?;
        let mut left = 0.0;
        let mut cuts = Vec::new();
        for (key, reads) in self.within(truth) {
            cuts.push((left, key));
            left += reads;
        }
        let busier = |left: f64| left.max(total - left);
        let cut = cuts
            .into_iter()
            .min_by(|a, b| busier(a.0).total_cmp(&busier(b.0)))?;
        let range = truth.descriptor.id;
        Some(Box::new(HotSpot {
            for_seconds: self.for_heartbeats(range).saturating_sub(MEASURED_AFTER),
            is_conclusive: true,
            cut: (busier(cut.0) <= 0.7 * total).then(|| LoadCut {
                at: cut.1.clone(),
                left_percent: percent(cut.0),
                right_percent: percent(total - cut.0),
            }),
            key: (hottest.1 >= 0.5 * total).then(|| HotKey {
                key: hottest.0.clone(),
                percent: percent(hottest.1),
            }),
        }))
    }
}
