//! Which ranges have replicas that differ, by all that this store knows. Pure.
//!
//! A note stands until a later check finds that all agree, or until the replicas that differ are members of the range no
//! more: ids of replicas are never used again, so who takes their place is somebody else.

use std::collections::BTreeMap;

use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::proto::check::{MAX_FINDINGS, Member, Report, Verdict};
use holdfast_common::range::Descriptor;

/// See the module. At most [`MAX_FINDINGS`]: beyond, those of the largest range ids are left out.
#[derive(Debug, Default)]
pub(super) struct Notes {
    differ: BTreeMap<RangeId, Report>,
}

impl Notes {
    /// Takes what came of a check; whether it is news that the range's replicas differ.
    pub(super) fn learn(&mut self, report: &Report) -> bool {
        let known = self.differ.get(&report.range);
        if known.is_some_and(|known| known.index > report.index) {
            return false;
        }
        match &report.verdict {
            Verdict::Agree => {
                self.differ.remove(&report.range);
                false
            }
            Verdict::Open => false,
            Verdict::Differ { .. } => {
                let is_news = known.is_none_or(|known| known.check != report.check);
                self.differ.insert(report.range, report.clone());
                if self.differ.len() > MAX_FINDINGS {
                    self.differ.pop_last();
                }
                is_news
            }
        }
    }

    /// Whether replicas of a range are believed to differ.
    pub(super) fn has(&self, range: RangeId) -> bool {
        self.differ.contains_key(&range)
    }

    /// Drops what is not so any more: `range` gives a range as it is here, if it is here.
    pub(super) fn retain(&mut self, range: impl Fn(RangeId) -> Option<std::sync::Arc<Descriptor>>) {
        self.differ
            .retain(|id, report| range(*id).is_some_and(|now| still_differ(report, &now)));
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Report> {
        self.differ.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.differ.len()
    }
}

/// Whether a range still has replicas that differed.
fn still_differ(report: &Report, now: &Descriptor) -> bool {
    let stays = |replica: ReplicaId| now.replica(replica).is_some();
    match &report.verdict {
        Verdict::Differ { suspects } if !suspects.is_empty() => {
            suspects.iter().any(|suspect| stays(*suspect))
        }
        Verdict::Differ { .. } => {
            let left = report.replicas.iter().filter(|member| stays(member.replica));
            let mut sums = left.filter_map(|Member { found, .. }| found.as_ref().ok());
            let first = sums.next();
            sums.any(|sum| Some(sum) != first)
        }
        Verdict::Agree | Verdict::Open => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use holdfast_common::ids::StoreId;
    use holdfast_common::proto::check::Sum;
    use holdfast_common::proto::raft::LogId;
    use holdfast_common::range::{Epoch, Replica, Role};

    use super::*;
    use crate::check::judge::judge;

    fn report(index: u64, sums: &[u128]) -> Report {
        let member = |(place, checksum): (usize, &u128)| Member {
            replica: ReplicaId(place as u64 + 1),
            store: StoreId(place as u64 + 1),
            found: Ok(Sum {
                applied: LogId { term: 1, index },
                epoch: Epoch::default(),
                rows: 1,
                bytes: 1,
                checksum: *checksum,
            }),
        };
        let replicas: Vec<_> = sums.iter().enumerate().map(member).collect();
        Report {
            range: RangeId(1),
            check: index,
            index,
            verdict: judge(&replicas),
            replicas,
        }
    }

    fn range(replicas: &[u64]) -> Option<Arc<Descriptor>> {
        let replica = |id: &u64| Replica {
            id: ReplicaId(*id),
            store: StoreId(*id),
            role: Role::Voter,
        };
        Some(Arc::new(Descriptor {
            replicas: replicas.iter().map(replica).collect(),
            ..Descriptor::unknown(RangeId(1))
        }))
    }

    #[test]
    fn a_note_stands_until_a_later_check_finds_that_all_agree() {
        let mut notes = Notes::default();
        assert!(notes.learn(&report(5, &[1, 1, 2])));
        assert!(!notes.learn(&report(5, &[1, 1, 2])), "said again");
        assert!(!notes.learn(&report(4, &[1, 1, 1])));
        assert!(notes.has(RangeId(1)), "an earlier check says nothing of later");
        assert!(notes.learn(&report(6, &[1, 1, 2])), "found again");
        notes.learn(&report(7, &[1, 1, 1]));
        assert!(!notes.has(RangeId(1)));
    }

    #[test]
    fn a_note_goes_with_the_replicas_that_differ() {
        for (sums, members, stays) in [
            (&[1, 1, 2][..], &[1, 2, 3][..], true),
            (&[1, 1, 2], &[1, 3, 4], true),
            (&[1, 1, 2], &[1, 2, 4], false),
            (&[1, 2, 3], &[1, 2, 3], true),
            (&[1, 2, 3], &[2, 3, 4], true),
            (&[1, 2, 3], &[3, 4, 5], false),
            (&[1, 2], &[2, 4], false),
        ] {
            let mut notes = Notes::default();
            notes.learn(&report(5, sums));
            notes.retain(|_| range(members));
            assert_eq!(notes.has(RangeId(1)), stays, "{sums:?}, {members:?}");
        }
        let mut notes = Notes::default();
        notes.learn(&report(5, &[1, 2]));
        notes.retain(|_| None);
        assert_eq!(notes.len(), 0, "the range is not here any more");
    }
}
