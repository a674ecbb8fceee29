use holdfast_common::ids::StoreId;
use holdfast_common::key::Span;
use holdfast_common::raft::types::{LogId as RaftLogId, Membership, Node, StoredMembership};
use holdfast_common::revision::Revision;

use super::*;
use crate::engine::{Batch, Engine, Options};
use crate::state::Merge;

const RANGE: RangeId = RangeId(3);

fn row(replica: u64) -> RangeRow {
    let voters = [ReplicaId(1), ReplicaId(2)].into();
    let node = |store| Node {
        store: StoreId(store),
    };
    let nodes = [(ReplicaId(1), node(1)), (ReplicaId(2), node(2))];
    let membership = Membership::new(vec![voters], std::collections::BTreeMap::from(nodes)).unwrap();
    RangeRow {
        replica: ReplicaId(replica),
        applied: Some(RaftLogId::new_term_index(4, 90)),
        membership: StoredMembership::new(Some(RaftLogId::new_term_index(1, 6)), membership),
        bounds: 2,
        span: Span::new("b", "m").unwrap(),
        last_revision: Revision(77),
        size_bytes: 5,
        keys: 5,
        floors: Vec::new(),
        merge: Merge::No,
    }
}

fn record(key: &str) -> Bytes {
    [&[keys::RECORD], key.as_bytes()].concat().into()
}

fn rows_of(replica: u64) -> Vec<(Bytes, Bytes)> {
    let value = Bytes::from_static(b"value");
    vec![
        (keys::range_row(RANGE).to_vec().into(), row(replica).encode()),
        (record("b"), value.clone()),
        (record("c"), value.clone()),
        (record("lzz"), value.clone()),
        (keys::outcomes(RANGE, 90).to_vec().into(), value.clone()),
        (keys::token(b"c", b"name"), value),
    ]
}

/// The sum of a database with these rows, made in pieces of so many bytes.
async fn sum(rows: &[(Bytes, Bytes)], piece: u64) -> (Sum, u32) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), Options::default()).unwrap();
    let mut batch = Batch::default();
    for (key, value) in rows {
        batch.put(key.clone(), value.clone());
    }
    engine.write(batch);
    let mut adder = Adder::new(engine.view().await.unwrap(), RANGE).unwrap();
    let mut pieces = 1;
    let sum = loop {
        match adder.advance(piece).unwrap() {
            Some(sum) => break sum,
            None => pieces += 1,
        }
    };
    drop(adder);
    engine.close().await;
    (sum, pieces)
}

#[tokio::test]
async fn it_is_the_same_for_every_replica_and_in_any_pieces() {
    let (first, _) = sum(&rows_of(1), u64::MAX).await;
    assert_eq!((first.rows, first.applied.index, first.epoch.bounds), (6, 90, 2));
    let (second, pieces) = sum(&rows_of(2), 1).await;
    assert_eq!(first, second);
    assert!(pieces > 4, "{pieces}");
}

#[tokio::test]
async fn what_is_not_the_ranges_own_does_not_count() {
    let (alone, _) = sum(&rows_of(1), u64::MAX).await;
    let mut rows = rows_of(1);
    let value = Bytes::from_static(b"other");
    rows.extend([
        (record("a"), value.clone()),
        (record("m"), value.clone()),
        (keys::outcomes(RangeId(2), 90).to_vec().into(), value.clone()),
        (keys::token(b"m", b"name"), value),
    ]);
    assert_eq!(sum(&rows, u64::MAX).await.0, alone);
}

#[tokio::test]
async fn whatever_else_differs_shows() {
    let (sound, _) = sum(&rows_of(1), u64::MAX).await;
    let put = |key: Bytes, value: &'static [u8]| {
        let mut rows = rows_of(1);
        rows.retain(|(known, _)| *known != key);
        rows.push((key, Bytes::from_static(value)));
        rows
    };
    let changed = [
        put(record("c"), b"walue"),
        put(record("d"), b""),
        put(keys::outcomes(RANGE, 90).to_vec().into(), b"walue"),
        put(keys::token(b"c", b"name"), b"walue"),
        put(keys::token(b"c", b"mane"), b"value"),
        rows_of(1)
            .into_iter()
            .filter(|(key, _)| *key != record("lzz"))
            .collect(),
    ];
    for rows in changed {
        assert_ne!(sum(&rows, u64::MAX).await.0.checksum, sound.checksum, "{rows:?}");
    }
    let other_rows = [
        RangeRow {
            last_revision: Revision(78),
            ..row(1)
        },
        RangeRow {
            merge: Merge::Frozen { at: 7 },
            ..row(1)
        },
        RangeRow { keys: 6, ..row(1) },
    ];
    for row in other_rows {
        let mut rows = rows_of(1);
        rows[0].1 = row.encode();
        assert_ne!(sum(&rows, u64::MAX).await.0, sound, "{row:?}");
    }
}

#[tokio::test]
async fn the_same_bytes_cut_elsewhere_are_other_rows() {
    let with = |key: &str, value: &'static [u8]| {
        let mut rows = rows_of(1);
        rows.push((record(key), Bytes::from_static(value)));
        rows
    };
    let (one, _) = sum(&with("dx", b"y"), u64::MAX).await;
    let (other, _) = sum(&with("d", b"xy"), u64::MAX).await;
    assert_eq!((one.rows, one.bytes), (other.rows, other.bytes));
    assert_ne!(one.checksum, other.checksum);
}
