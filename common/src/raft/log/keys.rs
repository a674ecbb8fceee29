//! The one table of on-disk keys. Tags are never reused; integers are big endian, so that keys sort as their numbers do.
//!
//! | keyspace | key | value ([`records`](super::records)) |
//! |---|---|---|
//! | `raft` | `"\0seal"` | [`Seal`](crate::raft::journal::Seal) of the last batch |
//! | `raft` | `0x10`, caller's key | caller's value |
//! | `raft` | `0x20`, range, replica, `1` | vote |
//! | `raft` | `0x20`, range, replica, `2` | purged log id, or that nothing is purged; the first row a group ever gets |
//! | `raft` | `0x20`, range, replica, `3` | index up to which purged entries are deleted |
//! | `raft` | `0x20`, range, replica, `4` | that the group is being destroyed |
//! | `log` | `0x01` | number of the batch that wrote it, now and then |
//! | `log` | `0x20`, range, replica, index | entry |

use std::fmt;
use std::ops::RangeInclusive;

use crate::ids::{RangeId, ReplicaId};

/// The keyspace of votes, bounds and local records.
pub(super) const RAFT_KEYSPACE: &str = "raft";
/// The keyspace of entries.
pub(super) const LOG_KEYSPACE: &str = "log";

/// The row of the `log` keyspace that keeps it from idling.
pub(super) const PULSE: &[u8] = &[0x01];

const LOCAL: u8 = 0x10;
const GROUP: u8 = 0x20;
const ENTRY: u8 = 0x20;

/// Length of an entry's key, in bytes.
pub(super) const ENTRY_KEY_BYTES: usize = 25;
const GROUP_KEY_BYTES: usize = 18;

/// A Raft group's log on this process: one replica of one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The range.
    pub range: RangeId,
    /// Its replica here.
    pub replica: ReplicaId,
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range {} replica {}", self.range, self.replica)
    }
}

/// A group's rows in the `raft` keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum GroupRow {
    Vote = 1,
    Purged = 2,
    Swept = 3,
    Dropping = 4,
}

impl GroupRow {
    /// Every row, in key order.
    pub(super) const ALL: [Self; 4] = [Self::Vote, Self::Purged, Self::Swept, Self::Dropping];
}

/// The key of one of a group's rows.
pub(super) fn group_row(group: GroupId, row: GroupRow) -> [u8; GROUP_KEY_BYTES] {
    let mut key = [GROUP; GROUP_KEY_BYTES];
    key[1..9].copy_from_slice(&group.range.0.to_be_bytes());
    key[9..17].copy_from_slice(&group.replica.0.to_be_bytes());
    key[17] = row as u8;
    key
}

/// What all groups' rows begin with.
pub(super) const GROUP_PREFIX: &[u8] = &[GROUP];

/// The group that a key of the `raft` keyspace belongs to.
pub(super) fn group_of(key: &[u8]) -> Option<GroupId> {
    let (&[GROUP, ..], fields) = (key, key.get(1..17)?) else {
        return None;
    };
    let (words, _) = fields.as_chunks::<8>();
    let &[range, replica] = words else { return None };
    Some(GroupId {
        range: RangeId(u64::from_be_bytes(range)),
        replica: ReplicaId(u64::from_be_bytes(replica)),
    })
}

/// The key of an entry.
pub(super) fn entry(group: GroupId, index: u64) -> [u8; ENTRY_KEY_BYTES] {
    let mut key = [ENTRY; ENTRY_KEY_BYTES];
    key[1..9].copy_from_slice(&group.range.0.to_be_bytes());
    key[9..17].copy_from_slice(&group.replica.0.to_be_bytes());
    key[17..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The keys of a group's entries from index `first` to `last`, both inclusive.
pub(super) fn entries(group: GroupId, first: u64, last: u64) -> RangeInclusive<[u8; ENTRY_KEY_BYTES]> {
    entry(group, first)..=entry(group, last)
}

/// The index in an entry's key.
pub(super) fn index_of(key: &[u8]) -> Option<u64> {
    match key.len() {
        ENTRY_KEY_BYTES => key.last_chunk().map(|index| u64::from_be_bytes(*index)),
        _ => None,
    }
}

/// The key of a local record; of all that begin with `key`, the common prefix.
pub(super) fn local(key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(LOCAL);
    full.extend_from_slice(key);
    full
}

/// The caller's key in the key of a local record.
pub(super) fn local_of(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&[LOCAL])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(range: u64, replica: u64) -> GroupId {
        GroupId {
            range: RangeId(range),
            replica: ReplicaId(replica),
        }
    }

    proptest! {
        #[test]
        fn entries_sort_by_group_and_index(a: (u64, u64, u64), b: (u64, u64, u64)) {
            let key = |(range, replica, index)| entry(group(range, replica), index);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(index_of(&key(a)), Some(a.2));
        }

        #[test]
        fn group_rows_read_back(range: u64, replica: u64) {
            for row in GroupRow::ALL {
                prop_assert_eq!(group_of(&group_row(group(range, replica), row)), Some(group(range, replica)));
            }
        }

        #[test]
        fn local_keys_read_back(key in prop::collection::vec(any::<u8>(), 0..300)) {
            let stored = local(&key);
            prop_assert_eq!(local_of(&stored), Some(key.as_slice()));
            prop_assert_eq!(group_of(&stored), None);
        }
    }
}
