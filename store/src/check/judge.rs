//! What the sums of a range's replicas say. Pure.

use holdfast_common::ids::ReplicaId;
use holdfast_common::proto::check::{Member, Sum, Verdict};

/// Judges by what each replica of a range holds at one entry.
pub(super) fn judge(replicas: &[Member]) -> Verdict {
    let known: Vec<(ReplicaId, Sum)> = replicas
        .iter()
        .filter_map(|member| Some((member.replica, *member.found.as_ref().ok()?)))
        .collect();
    let same = |sum: &Sum| known.iter().filter(|(_, other)| other == sum).count();
    if known.iter().all(|(_, sum)| same(sum) == known.len()) {
        return if !known.is_empty() && known.len() == replicas.len() {
            Verdict::Agree
        } else {
            Verdict::Open
        };
    }
    let major = known
        .iter()
        .map(|(_, sum)| *sum)
        .find(|sum| 2 * same(sum) > replicas.len());
    let others = known.iter().filter(|(_, sum)| Some(*sum) != major);
    Verdict::Differ {
        suspects: match major {
            Some(_) => others.map(|(replica, _)| *replica).collect(),
            None => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::ids::StoreId;
    use holdfast_common::proto::raft::LogId;
    use holdfast_common::range::Epoch;

    use super::*;

    fn members(sums: &[Option<u128>]) -> Vec<Member> {
        let member = |(place, sum): (usize, &Option<u128>)| Member {
            replica: ReplicaId(place as u64 + 1),
            store: StoreId(place as u64 + 1),
            found: sum
                .map(|checksum| Sum {
                    applied: LogId { term: 1, index: 9 },
                    epoch: Epoch::default(),
                    rows: 1,
                    bytes: 1,
                    checksum,
                })
                .ok_or_else(|| "away".to_owned()),
        };
        sums.iter().enumerate().map(member).collect()
    }

    fn suspects(ids: &[u64]) -> Verdict {
        Verdict::Differ {
            suspects: ids.iter().copied().map(ReplicaId).collect(),
        }
    }

    #[test]
    fn the_majority_is_of_all_replicas_and_silence_proves_nothing() {
        let (a, b, c) = (Some(1), Some(2), Some(3));
        for (sums, expected) in [
            (&[a, a, a][..], Verdict::Agree),
            (&[a], Verdict::Agree),
            (&[], Verdict::Open),
            (&[None, None, None], Verdict::Open),
            (&[a, a, None], Verdict::Open),
            (&[a, None, None], Verdict::Open),
            (&[a, a, b], suspects(&[3])),
            (&[b, a, a], suspects(&[1])),
            (&[a, b, c], suspects(&[])),
            (&[a, b, None], suspects(&[])),
            (&[a, b], suspects(&[])),
            (&[a, a, b, None, None], suspects(&[])),
            (&[a, a, a, b, None], suspects(&[4])),
            (&[a, a, a, b, c], suspects(&[4, 5])),
        ] {
            assert_eq!(judge(&members(sums)), expected, "{sums:?}");
        }
    }

    #[test]
    fn equal_checksums_of_other_rows_or_at_another_entry_differ() {
        let mut replicas = members(&[Some(1), Some(1), Some(1)]);
        if let Ok(sum) = &mut replicas[1].found {
            sum.rows += 1;
        }
        assert_eq!(judge(&replicas), suspects(&[2]));
        let mut replicas = members(&[Some(1), Some(1), Some(1)]);
        if let Ok(sum) = &mut replicas[2].found {
            sum.applied.term += 1;
        }
        assert_eq!(judge(&replicas), suspects(&[3]));
    }
}
