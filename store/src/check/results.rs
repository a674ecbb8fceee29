//! What this store's replicas told at their last checks. Bounded, and in memory: after a restart nothing is known. Pure.

use std::collections::{HashMap, VecDeque};

use holdfast_common::ids::ReplicaId;
use holdfast_common::proto::check::Told;

/// Most replicas whose last result is remembered.
const MAX_RESULTS: usize = 1_024;

/// The last result of each replica.
#[derive(Debug, Default)]
pub(super) struct Results {
    last: HashMap<ReplicaId, (u64, Told)>,
    /// In the order in which they were first noted.
    order: VecDeque<ReplicaId>,
}

impl Results {
    /// Notes where a replica stands with a check; an earlier check's result goes.
    pub(super) fn note(&mut self, replica: ReplicaId, check: u64, told: Told) {
        if self.last.insert(replica, (check, told)).is_some() {
            return;
        }
        self.order.push_back(replica);
        if self.order.len() > MAX_RESULTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.last.remove(&oldest);
        }
    }

    /// Notes the end of a check, unless another has begun meanwhile.
    pub(super) fn finish(&mut self, replica: ReplicaId, check: u64, told: Told) {
        if let Some(known) = self.last.get_mut(&replica).filter(|known| known.0 == check) {
            known.1 = told;
        }
    }

    /// What a replica tells about a check, if it has met it lately.
    pub(super) fn get(&self, replica: ReplicaId, check: u64) -> Option<Told> {
        let (of, told) = self.last.get(&replica)?;
        (*of == check).then(|| told.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(why: &str) -> Told {
        Told::Nothing(why.to_owned())
    }

    #[test]
    fn the_last_check_of_a_replica_is_the_one_that_counts() {
        let (mut results, replica) = (Results::default(), ReplicaId(7));
        results.note(replica, 1, Told::Underway);
        results.note(replica, 2, Told::Underway);
        results.finish(replica, 1, nothing("late"));
        assert_eq!(results.get(replica, 1), None);
        assert_eq!(results.get(replica, 2), Some(Told::Underway));
        results.finish(replica, 2, nothing("done"));
        assert_eq!(results.get(replica, 2), Some(nothing("done")));
        assert_eq!(results.get(ReplicaId(8), 2), None);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut results = Results::default();
        for replica in 0..=MAX_RESULTS as u64 {
            results.note(ReplicaId(replica), 1, Told::Underway);
        }
        assert_eq!(
            (results.last.len(), results.order.len()),
            (MAX_RESULTS, MAX_RESULTS)
        );
        assert_eq!(results.get(ReplicaId(0), 1), None, "the oldest goes");
        assert!(results.get(ReplicaId(MAX_RESULTS as u64), 1).is_some());
    }
}
