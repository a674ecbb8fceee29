use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_common::ids::StoreId;
use holdfast_common::key::Key;
use holdfast_common::raft::log::Options as LogOptions;
use holdfast_common::raft::types::{StoredMembership, Vote};
use holdfast_common::range::{Descriptor, Epoch};
use holdfast_common::revision::Revision;
use openraft::storage::RaftLogStorage;
use tempfile::TempDir;

use super::*;
use crate::engine::{Batch, Options};
use crate::row;
use crate::sessions::Sessions;
use crate::state::{Identity, Merge, RangeState};

struct Disks {
    engine: Engine,
    log: LogEngine,
    ledger: Ledger,
    dir: TempDir,
}

impl Disks {
    fn new() -> Self {
        Self::open(TempDir::new().unwrap())
    }

    fn open(dir: TempDir) -> Self {
        let engine = Engine::open(&dir.path().join("data"), Options::default()).unwrap();
        let log = LogEngine::open(&dir.path().join("raft"), LogOptions::default()).unwrap();
        let ledger = Ledger::open(log.clone()).unwrap();
        Self {
            engine,
            log,
            ledger,
            dir,
        }
    }

    /// A restart after a kill.
    async fn killed(&self) -> Self {
        drop(self.engine.view().await.unwrap());
        let left = TempDir::new().unwrap();
        copy(self.dir.path(), left.path());
        Self::open(left)
    }

    async fn recover(&self) -> Result<Found, Error> {
        recover(&self.engine, &self.log, &self.ledger).await
    }

    /// Writes a range's row and a record for every key.
    fn range(&self, range: u64, span: Span, applied: u64, keys: &[&str]) {
        let mut batch = Batch::default();
        let applied = LogId::new_term_index(1, applied);
        let row = row::encode(&state(range, span), Some(applied), &StoredMembership::default());
        batch.put(Bytes::copy_from_slice(&keys::range_row(RangeId(range))), row);
        batch.put(
            Bytes::copy_from_slice(&keys::outcomes(RangeId(range), 3)),
            Bytes::from_static(&[1]),
        );
        for key in keys {
            batch.put(
                Bytes::copy_from_slice(keys::RecordKey::new(key.as_bytes()).as_ref()),
                Bytes::from_static(b"v"),
            );
        }
        self.engine.write(batch);
    }

    async fn vote(&self, range: u64, replica: u64, origin: Option<LogId>) {
        let mut group = self.log.group(RangeId(range), ReplicaId(replica), origin);
        group.save_vote(&Vote::new(3, ReplicaId(replica))).await.unwrap();
    }

    async fn rows(&self) -> usize {
        self.engine.view().await.unwrap().range(b"\x01", b"\xff").count()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            drop(std::fs::copy(entry.path(), to))
        }
    }
}

fn replica_of(range: u64) -> ReplicaId {
    ReplicaId(range + 100)
}

fn state(range: u64, span: Span) -> RangeState {
    let epoch = Epoch {
        bounds: 1,
        membership: 0,
    };
    RangeState {
        identity: Identity {
            range: RangeId(range),
            replica: replica_of(range),
            store: StoreId(1),
        },
        descriptor: Arc::new(Descriptor {
            id: RangeId(range),
            span,
            epoch,
            replicas: Vec::new(),
        }),
        last_revision: Revision::ZERO,
        size_bytes: 0,
        keys: 0,
        sessions: Sessions::default(),
        merge: Merge::No,
        tokens: Default::default(),
    }
}

fn halves() -> (Span, Span) {
    Span::everything().split_at(&Key::new("m").unwrap()).unwrap()
}

#[tokio::test]
async fn a_start_finds_its_replicas() {
    let disks = Disks::new();
    let (left, right) = halves();
    disks.range(5, left.clone(), 7, &["a"]);
    disks.range(6, right.clone(), 9, &["x"]);
    disks.vote(5, 105, None).await;
    disks.vote(8, 108, None).await;
    disks.vote(9, 109, Some(birth_log_id())).await;
    let found = disks.killed().await.recover().await.unwrap();
    let stored = |range: u64, applied, span| Stored {
        range: RangeId(range),
        replica: replica_of(range),
        applied: Some(LogId::new_term_index(1, applied)),
        span,
    };
    assert_eq!(found.stored, [stored(5, 7, left), stored(6, 9, right)]);
    assert_eq!(found.empty, [(RangeId(8), ReplicaId(108))]);
    assert_eq!(found.unborn, [(RangeId(9), ReplicaId(109))]);
}

#[tokio::test]
async fn data_older_than_the_log_is_not_started() {
    let disks = Disks::new();
    disks.range(5, Span::everything(), 7, &[]);
    let mut group = disks.log.group(RangeId(5), replica_of(5), None);
    group.purge(LogId::new_term_index(1, 7)).await.unwrap();
    disks.vote(5, 105, None).await;
    disks.recover().await.unwrap();
    group.purge(LogId::new_term_index(1, 8)).await.unwrap();
    disks.vote(5, 105, None).await;
    let refused = disks.recover().await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Rewound {
                applied: 7,
                purged: 8,
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_log_without_its_data_is_not_started() {
    let disks = Disks::new();
    let mut group = disks.log.group(RangeId(5), replica_of(5), None);
    group.purge(LogId::new_term_index(1, 7)).await.unwrap();
    disks.vote(5, 105, None).await;
    assert!(matches!(
        disks.recover().await.unwrap_err(),
        Error::Rewound {
            applied: 0,
            purged: 7,
            ..
        }
    ));
}

#[tokio::test]
async fn overlapping_ranges_are_not_started() {
    let disks = Disks::new();
    disks.range(5, halves().0, 7, &[]);
    disks.range(6, Span::everything(), 7, &[]);
    assert!(matches!(disks.recover().await.unwrap_err(), Error::Overlap(_, _)));
}

#[tokio::test]
async fn a_destroyed_replica_leaves_its_tombstone() {
    let disks = Disks::new();
    let (left, right) = halves();
    let keys: Vec<String> = (0..10_000).map(|at| format!("a{at:05}")).collect();
    disks.range(
        5,
        left.clone(),
        7,
        &keys.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    disks.range(6, right, 7, &["x", "y"]);
    disks.vote(5, 105, None).await;
    destroy::destroy(
        &disks.engine,
        &disks.log,
        &disks.ledger,
        RangeId(5),
        replica_of(5),
    )
    .await
    .unwrap();
    assert_eq!(disks.rows().await, 4, "the neighbour's are all that is left");
    assert!(disks.ledger.buried(replica_of(5)));
    assert_eq!(disks.ledger.destroying(), []);
    assert_eq!(disks.ledger.destroying_overlaps(&left), None);

    let again = disks.killed().await;
    assert!(again.ledger.buried(replica_of(5)) && !again.ledger.buried(replica_of(6)));
    let found = again.recover().await.unwrap();
    assert_eq!((found.stored.len(), found.empty), (1, vec![]));
}

#[tokio::test]
async fn a_replica_that_never_was_is_buried_too() {
    let disks = Disks::new();
    disks.range(5, Span::everything(), 7, &["a"]);
    destroy::destroy(
        &disks.engine,
        &disks.log,
        &disks.ledger,
        RangeId(5),
        ReplicaId(999),
    )
    .await
    .unwrap();
    assert_eq!(
        disks.rows().await,
        3,
        "the rows of the range's present replica are not touched"
    );
    assert!(disks.killed().await.ledger.buried(ReplicaId(999)));
}

/// Stops at every point of the destruction, restarts, and finds the rest done.
#[tokio::test]
async fn a_destruction_is_resumed_from_wherever_it_stopped() {
    for stop in 0..4 {
        let disks = Disks::new();
        let (left, right) = halves();
        disks.range(5, left.clone(), 7, &["a", "b"]);
        disks.range(6, right, 7, &["x"]);
        disks.vote(5, 105, None).await;
        disks
            .ledger
            .begin(RangeId(5), replica_of(5), Some(left.clone()))
            .await
            .unwrap();
        if stop >= 1 {
            let mut batch = Batch::default();
            batch.delete(Bytes::copy_from_slice(&keys::range_row(RangeId(5))));
            disks.engine.write(batch);
        }
        if stop >= 2 {
            let mut batch = Batch::default();
            batch.delete(Bytes::copy_from_slice(keys::RecordKey::new(b"a").as_ref()));
            disks.engine.write(batch);
        }
        if stop >= 3 {
            disks.log.drop_group(RangeId(5), replica_of(5)).await.unwrap();
        }
        let again = disks.killed().await;
        assert_eq!(
            again.ledger.destroying_overlaps(&left),
            Some(RangeId(5)),
            "stopped at {stop}"
        );
        let found = again.recover().await.unwrap();
        assert_eq!(
            found.stored.iter().map(|stored| stored.range).collect::<Vec<_>>(),
            [RangeId(6)]
        );
        assert_eq!((found.empty, found.unborn), (vec![], vec![]));
        assert_eq!(again.rows().await, 3, "stopped at {stop}");
        assert_eq!(again.ledger.destroying(), []);
        assert!(again.killed().await.ledger.buried(replica_of(5)));
    }
}

#[tokio::test]
async fn rows_of_a_buried_replica_that_came_back_go_again() {
    let disks = Disks::new();
    destroy::destroy(
        &disks.engine,
        &disks.log,
        &disks.ledger,
        RangeId(5),
        replica_of(5),
    )
    .await
    .unwrap();
    disks.range(5, Span::everything(), 7, &["a"]);
    assert_eq!(disks.killed().await.recover().await.unwrap(), Found::default());
}

/// The takeover of range 6 by range 5 was begun; `written` tells whether the batch that carries it out is there.
async fn begun_takeover(written: bool, tombstone: bool) -> Disks {
    let disks = Disks::new();
    let (left, right) = halves();
    disks.range(5, left, 7, &["a"]);
    disks.range(6, right, 9, &["x"]);
    disks.vote(6, 106, Some(birth_log_id())).await;
    disks.engine.persist().await.unwrap();
    disks
        .ledger
        .begin_takeover(RangeId(6), replica_of(6))
        .await
        .unwrap();
    if written {
        let mut batch = Batch::default();
        for key in [&keys::range_row(RangeId(6))[..], &keys::outcomes(RangeId(6), 3)] {
            batch.delete(Bytes::copy_from_slice(key));
        }
        disks.engine.write(batch);
        disks.range(5, Span::everything(), 8, &[]);
    }
    if tombstone {
        let begun = disks.ledger.begin(RangeId(6), replica_of(6), None).await;
        begun.unwrap();
    }
    disks.killed().await
}

#[tokio::test]
async fn a_takeover_whose_batch_is_lost_leaves_the_range_as_it_was() {
    let again = begun_takeover(false, false).await;
    let found = again.recover().await.unwrap();
    let ranges: Vec<_> = found.stored.iter().map(|stored| stored.range).collect();
    assert_eq!(ranges, [RangeId(5), RangeId(6)]);
    assert_eq!(again.ledger.takeovers(), []);
    assert!(!again.ledger.buried(replica_of(6)));
}

#[tokio::test]
async fn a_takeover_whose_batch_is_there_is_finished() {
    for tombstone in [false, true] {
        let again = begun_takeover(true, tombstone).await;
        let found = again.recover().await.unwrap();
        let ranges: Vec<_> = found.stored.iter().map(|stored| stored.range).collect();
        assert_eq!(ranges, [RangeId(5)], "tombstone: {tombstone}");
        assert_eq!((found.empty, found.unborn), (vec![], vec![]));
        assert_eq!(again.ledger.takeovers(), []);
        assert!(again.killed().await.ledger.buried(replica_of(6)));
    }
}
