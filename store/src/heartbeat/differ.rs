//! What a heartbeat has to say that the one before did not: pure.
//!
//! The driver keeps what it was told. A heartbeat carries the replicas that are new or whose report changed, and the ids
//! of those that are gone. It is full when it is the first, when the driver asks for it, and after one whose answer never
//! came, since what the driver has of that is not known.

use std::collections::HashMap;

use holdfast_common::ids::{ReplicaId, StoreId};
use holdfast_common::proto::placement::{Capacity, Heartbeat, ReplicaReport};

/// What the driver has been told.
#[derive(Debug)]
pub(super) struct Differ {
    store: StoreId,
    incarnation: u64,
    sequence: u64,
    full: bool,
    told: HashMap<ReplicaId, ReplicaReport>,
}

impl Differ {
    /// Nothing was told yet. `incarnation` is random, one per start of the process.
    pub(super) fn new(store: StoreId, incarnation: u64) -> Self {
        Self {
            store,
            incarnation,
            sequence: 0,
            full: true,
            told: HashMap::new(),
        }
    }

    /// The next heartbeat of a store whose replicas are all of `reports`.
    pub(super) fn next(&mut self, capacity: Capacity, reports: Vec<ReplicaReport>) -> Heartbeat {
        self.sequence += 1;
        let full = std::mem::take(&mut self.full);
        let mut before = std::mem::take(&mut self.told);
        let mut replicas = Vec::new();
        for report in reports {
            let known = before.remove(&report.replica);
            if full || known.as_ref() != Some(&report) {
                replicas.push(report.clone());
            }
            self.told.insert(report.replica, report);
        }
        let mut gone: Vec<ReplicaId> = if full {
            Vec::new()
        } else {
            before.into_keys().collect()
        };
        gone.sort_unstable();
        Heartbeat {
            store: self.store,
            incarnation: self.incarnation,
            sequence: self.sequence,
            full,
            capacity,
            replicas,
            gone,
        }
    }

    /// The next heartbeat says everything: the driver asked for it, or the last one went unanswered.
    pub(super) fn start_over(&mut self) {
        self.full = true;
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::ids::RangeId;
    use holdfast_common::key::Span;
    use holdfast_common::range::{Descriptor, Epoch};

    use super::*;

    fn report(replica: u64, term: u64) -> ReplicaReport {
        let descriptor = Descriptor {
            id: RangeId(1),
            span: Span::everything(),
            epoch: Epoch::default(),
            replicas: Vec::new(),
        };
        ReplicaReport {
            replica: ReplicaId(replica),
            descriptor,
            term,
            leading: None,
        }
    }

    fn told(heartbeat: &Heartbeat) -> (u64, bool, Vec<u64>, Vec<u64>) {
        let ids = heartbeat.replicas.iter().map(|report| report.replica.0).collect();
        (
            heartbeat.sequence,
            heartbeat.full,
            ids,
            heartbeat.gone.iter().map(|id| id.0).collect(),
        )
    }

    #[test]
    fn only_what_changed_is_said_again() {
        let mut differ = Differ::new(StoreId(1), 9);
        let capacity = Capacity::default();
        assert_eq!(
            told(&differ.next(capacity, vec![report(1, 1), report(2, 1)])),
            (1, true, vec![1, 2], vec![])
        );
        assert_eq!(
            told(&differ.next(capacity, vec![report(1, 1), report(2, 1)])),
            (2, false, vec![], vec![])
        );
        assert_eq!(
            told(&differ.next(capacity, vec![report(1, 2), report(3, 1)])),
            (3, false, vec![1, 3], vec![2])
        );
        assert_eq!(
            told(&differ.next(capacity, vec![report(1, 2), report(3, 1)])),
            (4, false, vec![], vec![])
        );
    }

    #[test]
    fn after_a_silence_everything_is_said() {
        let mut differ = Differ::new(StoreId(1), 9);
        let capacity = Capacity::default();
        differ.next(capacity, vec![report(1, 1), report(2, 1)]);
        differ.start_over();
        assert_eq!(
            told(&differ.next(capacity, vec![report(1, 1)])),
            (2, true, vec![1], vec![])
        );
        assert_eq!(
            told(&differ.next(capacity, vec![report(1, 1)])),
            (3, false, vec![], vec![])
        );
    }
}
