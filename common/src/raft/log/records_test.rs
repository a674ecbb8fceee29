use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn votes() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, replica, committed)| match committed {
        true => Vote::new_committed(term, ReplicaId(replica)),
        false => Vote::new(term, ReplicaId(replica)),
    })
}

fn memberships() -> impl Strategy<Value = Membership> {
    let voters = prop::collection::btree_set(any::<u64>(), 1..7);
    let configs = prop::collection::vec(voters, 1..3);
    let learners = prop::collection::btree_map(any::<u64>(), any::<u64>(), 0..5);
    (configs, learners).prop_map(|(configs, learners)| {
        let configs: Vec<BTreeSet<_>> = configs
            .into_iter()
            .map(|voters| voters.into_iter().map(ReplicaId).collect())
            .collect();
        let mut nodes: BTreeMap<_, _> = learners
            .into_iter()
            .map(|(replica, store)| {
                (
                    ReplicaId(replica),
                    Node {
                        store: StoreId(store),
                    },
                )
            })
            .collect();
        for &voter in configs.iter().flatten() {
            nodes.entry(voter).or_insert(Node {
                store: StoreId(voter.0 ^ 7),
            });
        }
        Membership::new(configs, nodes).expect("every voter has a node")
    })
}

fn payloads() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Blank),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| Payload::Normal(Command(bytes.into()))),
        memberships().prop_map(Payload::Membership),
        Just(Payload::Membership(Membership::default())),
    ]
}

proptest! {
    #[test]
    fn votes_read_back(vote in votes()) {
        prop_assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
    }

    #[test]
    fn bounds_read_back(term: u64, index: u64) {
        let purged = Some(log_id(term, index));
        prop_assert_eq!(decode_purged(&encode_purged(purged)), Ok(purged));
        prop_assert_eq!(decode_purged(&encode_purged(None)), Ok(None));
        prop_assert_eq!(decode_swept(&encode_swept(index)), Ok(index));
    }

    #[test]
    fn entries_read_back(term: u64, index: u64, payload in payloads()) {
        let entry = Entry { log_id: log_id(term, index), payload };
        let mut row = Vec::new();
        encode_entry(&entry, &mut row);
        prop_assert_eq!(row.len(), entry_bytes(&entry));
        let read = decode_entry(index, &Bytes::from(row)).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(read.log_id, entry.log_id);
        prop_assert!(read.payload == entry.payload);
    }

    #[test]
    fn a_shorter_record_is_refused(vote in votes(), term: u64, index: u64, cut in 0..17_usize) {
        prop_assert!(decode_vote(&encode_vote(&vote)[..cut]).is_err());
        prop_assert!(decode_purged(&encode_purged(Some(log_id(term, index)))[..cut]).is_err());
        prop_assert!(decode_swept(&encode_swept(index)[..cut / 2]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = decode_vote(&bytes);
        let _ = decode_purged(&bytes);
        let _ = decode_swept(&bytes);
        let _ = decode_entry(1, &Bytes::from(bytes));
    }
}

#[test]
fn another_version_is_refused() {
    let mut row = encode_swept(7);
    row[0] = 2;
    assert_eq!(decode_swept(&row), Err(Malformed("a record of unknown version")));
}

/// The bytes are a promise to data directories that already exist.
#[test]
fn the_encoding_is_stable() {
    let entry = Entry {
        log_id: log_id(3, 9),
        payload: Payload::Normal(Command(Bytes::from_static(b"x"))),
    };
    let mut row = Vec::new();
    encode_entry(&entry, &mut row);
    assert_eq!(row, [1, 1, 0, 0, 0, 0, 0, 0, 0, 3, b'x']);
    assert_eq!(
        encode_vote(&Vote::new_committed(2, ReplicaId(5)))[..],
        [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 1]
    );
    assert_eq!(encode_purged(None), [1, 0]);
}
