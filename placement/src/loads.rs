//! What is asked of each range, as far as it has been measured: pure, and part of the reports.
//!
//! A leader's rates say nothing in its first seconds. Until they do, what the leader before it measured counts: else a range
//! would seem idle whenever its leadership moves, and everything would be moved to where it went. And when a range is split,
//! each part is taken to have half until it has been measured: else the cluster would seem to have that much less to do.

use std::collections::HashMap;

use bytes::Bytes;
use holdfast_common::ids::RangeId;
use holdfast_common::load::Load;
use holdfast_common::proto::placement::ReplicaReport;

/// Parts of splits that are remembered until their ranges are heard of; more are taken to be idle until they are measured.
const MAX_BORN: usize = 1_024;

/// The load of each range.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads {
    known: HashMap<RangeId, Known>,
    /// What right parts of splits should have, by where they begin: the left part may be heard of before them.
    born: HashMap<Bytes, Load>,
}

#[derive(Clone, Debug)]
struct Known {
    /// The bounds version that it is about.
    bounds: u64,
    /// Where the range ended then.
    end: Bytes,
    load: Load,
    is_measured: bool,
}

impl Loads {
    /// Takes what a leader says of its range.
    pub(crate) fn learn(&mut self, report: &ReplicaReport) {
        let Some(leading) = &report.leading else { return };
        let (range, span) = (report.descriptor.id, &report.descriptor.span);
        let bounds = report.descriptor.epoch.bounds;
        let now = |load, is_measured| Known {
            bounds,
            end: span.end().clone(),
            load,
            is_measured,
        };
        if leading.is_measured {
            self.known.insert(range, now(leading.load(), true));
            return;
        }
        match self.known.get(&range) {
            Some(known) if known.bounds < bounds && is_before(span.end(), &known.end) => {
                let half = half(&known.load);
                if self.born.len() >= MAX_BORN {
                    self.born.clear();
                }
                self.born.insert(span.end().clone(), half);
                self.known.insert(range, now(half, false));
            }
            // Merged: it has at least what it had.
            Some(known) if known.bounds < bounds => {
                let load = known.load;
                self.known.insert(range, now(load, false));
            }
            Some(_) => {}
            None => {
                if let Some(load) = self.born.remove(span.start()) {
                    self.known.insert(range, now(load, false));
                }
            }
        }
    }

    /// What is asked of a range; none while it is not known.
    pub(crate) fn get(&self, range: RangeId) -> Option<Load> {
        self.known.get(&range).map(|known| known.load)
    }

    /// Whether what is known of a range was measured with the bounds that it has.
    pub(crate) fn is_measured(&self, range: RangeId) -> bool {
        self.known.get(&range).is_some_and(|known| known.is_measured)
    }

    /// Forgets the ranges that are no more.
    pub(crate) fn retain(&mut self, exists: impl Fn(RangeId) -> bool) {
        self.known.retain(|range, _| exists(*range));
    }
}

/// Whether one end of a range lies before another; the empty one is the end of the key space.
fn is_before(one: &Bytes, other: &Bytes) -> bool {
    !one.is_empty() && (other.is_empty() || one < other)
}

fn half(load: &Load) -> Load {
    Load {
        reads: load.reads / 2.0,
        writes: load.writes / 2.0,
        read_bytes: load.read_bytes / 2.0,
        written_bytes: load.written_bytes / 2.0,
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
        about(1, Span::everything(), bounds, reads, is_measured)
    }

    fn about(range: u64, span: Span, bounds: u64, reads: f64, is_measured: bool) -> ReplicaReport {
        let epoch = Epoch {
            bounds,
            membership: 1,
        };
        ReplicaReport {
            replica: ReplicaId(1),
            descriptor: Descriptor {
                id: RangeId(range),
                span,
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
    fn the_parts_of_a_split_have_half_each_until_they_are_measured() {
        let mut loads = Loads::default();
        loads.learn(&report(1, 100.0, true));
        let (left, right) = (Span::new("", "m").unwrap(), Span::new("m", "").unwrap());
        loads.learn(&about(1, left.clone(), 2, 0.0, false));
        assert_eq!(reads(&loads), Some(50.0));
        assert!(!loads.is_measured(RangeId(1)));
        loads.learn(&about(9, right.clone(), 1, 0.0, false));
        assert_eq!(loads.get(RangeId(9)).unwrap().reads, 50.0);
        loads.learn(&about(9, right, 1, 70.0, true));
        assert_eq!(loads.get(RangeId(9)).unwrap().reads, 70.0);
        assert!(loads.is_measured(RangeId(9)));
        // Said again, it is not halved again.
        loads.learn(&about(1, left, 2, 0.0, false));
        assert_eq!(reads(&loads), Some(50.0));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut loads = Loads::default();
        loads.learn(&report(1, 100.0, true));
        loads.retain(|_| false);
        assert_eq!(reads(&loads), None);
    }
}
