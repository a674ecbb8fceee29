//! What is asked of each range, as far as it has been measured: pure, and part of the reports.
//!
//! A leader's rates say nothing in its first seconds. Until they do, what the leader before it measured counts: else a range
//! would seem idle whenever its leadership moves, and everything would be moved to where it went. When a range's bounds
//! change, what was known of it is void.

use std::collections::HashMap;

use holdfast_common::ids::RangeId;
use holdfast_common::load::Load;
use holdfast_common::proto::placement::ReplicaReport;

/// The last measured load of each range, with the bounds version that it is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads(HashMap<RangeId, (u64, Load)>);

impl Loads {
    /// Takes what a leader says of its range.
    pub(crate) fn learn(&mut self, report: &ReplicaReport) {
        let (range, bounds) = (report.descriptor.id, report.descriptor.epoch.bounds);
        match &report.leading {
            Some(leading) if leading.is_measured => {
                self.0.insert(range, (bounds, leading.load()));
            }
            Some(_) if self.0.get(&range).is_some_and(|known| known.0 < bounds) => {
                self.0.remove(&range);
            }
            _ => {}
        }
    }

    /// What is asked of a range; none while it is not known.
    pub(crate) fn get(&self, range: RangeId) -> Option<Load> {
        self.0.get(&range).map(|known| known.1)
    }

    /// Forgets the ranges that are no more.
    pub(crate) fn retain(&mut self, exists: impl Fn(RangeId) -> bool) {
        self.0.retain(|range, _| exists(*range));
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::ids::ReplicaId;
    use holdfast_common::key::Span;
    use holdfast_common::proto::placement::Leading;
    use holdfast_common::range::{Descriptor, Epoch};

    use super::*;

    fn report(bounds: u64, reads: f64, is_measured: bool) -> ReplicaReport {
        let epoch = Epoch {
            bounds,
            membership: 1,
        };
        ReplicaReport {
            replica: ReplicaId(1),
            descriptor: Descriptor {
                id: RangeId(1),
                span: Span::everything(),
                epoch,
                replicas: Vec::new(),
            },
            term: 1,
            leading: Some(Leading {
                size_bytes: 0,
                keys: 0,
                reads_per_second: reads,
                writes_per_second: 0.0,
                peers: Vec::new(),
                read_bytes_per_second: 0.0,
                written_bytes_per_second: 0.0,
                is_measured,
                hot: None,
            }),
        }
    }

    fn reads(loads: &Loads) -> Option<f64> {
        loads.get(RangeId(1)).map(|load| load.reads)
    }

    #[test]
    fn a_new_leader_inherits_what_was_measured_until_it_has_measured_itself() {
        let mut loads = Loads::default();
        loads.learn(&report(1, 7.0, false));
        assert_eq!(reads(&loads), None);
        loads.learn(&report(1, 100.0, true));
        loads.learn(&report(1, 0.0, false));
        assert_eq!(reads(&loads), Some(100.0));
        loads.learn(&report(1, 90.0, true));
        assert_eq!(reads(&loads), Some(90.0));
    }

    #[test]
    fn other_bounds_are_another_range() {
        let mut loads = Loads::default();
        loads.learn(&report(1, 100.0, true));
        loads.learn(&report(2, 0.0, false));
        assert_eq!(reads(&loads), None);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut loads = Loads::default();
        loads.learn(&report(1, 100.0, true));
        loads.retain(|_| false);
        assert_eq!(reads(&loads), None);
    }
}
