//! What groups, purges, truncations and local records do, across restarts.

use std::collections::BTreeSet;

use openraft::storage::RaftLogStorage;

use super::*;
use crate::raft::log::database::Row;
use crate::raft::log::keys::{self, GroupId, GroupRow};
use crate::raft::log::{Error, LocalWrite, LogBounds, MAX_LOCAL_KEY_BYTES};
use crate::raft::types::Vote;

/// Indices that the database itself has for a group, purged or not.
fn on_disk(engine: &LogEngine, n: u64) -> Vec<u64> {
    let id = GroupId {
        range: RangeId(n),
        replica: ReplicaId(n + 1000),
    };
    engine
        .shared
        .database
        .indices(id, 0, u64::MAX)
        .collect::<Result<_, _>>()
        .expect("readable")
}

/// Waits until a group's purged entries are gone from the database, one batch after the other.
async fn until_swept(engine: &LogEngine, n: u64, expected: &[u64]) {
    while on_disk(engine, n) != expected {
        engine
            .local_commit(vec![LocalWrite::Delete(Bytes::from_static(b"turn"))])
            .await
            .expect("committed");
    }
}

#[tokio::test]
async fn groups_do_not_touch_each_other() {
    let dir = directory();
    let engine = open(dir.path());
    let mut logs: Vec<_> = (0..5).map(|n| group(&engine, n)).collect();
    for (n, log) in (0..).zip(&mut logs) {
        append_range(log, n + 1, 0..=9).await;
        log.save_vote(&Vote::new(n + 1, ReplicaId(n)))
            .await
            .expect("saved");
    }
    logs[1].truncate_after(Some(id(2, 3))).await.expect("truncated");
    logs[2].purge(id(3, 6)).await.expect("purged");
    engine
        .drop_group(RangeId(3), ReplicaId(1003))
        .await
        .expect("dropped");
    drop((logs, engine));

    let engine = open(dir.path());
    assert_eq!(read(&group(&engine, 0), 0..99).await, span(1, 0..=9));
    assert_eq!(read(&group(&engine, 1), 0..99).await, span(2, 0..=3));
    assert_eq!(read(&group(&engine, 2), 0..99).await, span(3, 7..=9));
    assert_eq!(bounds(&group(&engine, 3)).await, (None, None));
    let bounds = engine.log_bounds(RangeId(4), ReplicaId(1004)).expect("loaded");
    let vote = Some(Vote::new(5, ReplicaId(4)));
    assert_eq!(
        bounds,
        LogBounds {
            purged: None,
            last: Some(id(5, 9)),
            vote
        }
    );
    let ranges: Vec<_> = engine
        .groups()
        .expect("listed")
        .into_iter()
        .map(|(range, _)| range.0)
        .collect();
    assert_eq!(ranges, [0, 1, 2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_groups_share_an_fsync() {
    let dir = directory();
    let engine = open(dir.path());
    let before = engine.commits();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let mut log = group(&engine, n);
        tasks.spawn(async move {
            for index in 0..20 {
                append(&mut log, vec![entry(1, index)]).await;
            }
        });
    }
    tasks.join_all().await;
    let commits = engine.commits() - before;
    assert!(commits < 64 * 20 / 4, "{commits} commits for {} appends", 64 * 20);
    for n in 0..64 {
        assert_eq!(read(&group(&engine, n), 0..99).await, span(1, 0..=19));
    }
}

#[tokio::test]
async fn purged_entries_disappear_from_the_disk() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=999).await;
    log.purge(id(1, 899)).await.expect("purged");
    assert_eq!(bounds(&log).await, (Some(id(1, 899)), Some(id(1, 999))));
    assert_eq!(read(&log, 0..9999).await, span(1, 900..=999));
    until_swept(&engine, 1, &(900..=999).collect::<Vec<_>>()).await;
    assert_eq!(read(&log, 0..9999).await, span(1, 900..=999));
}

#[tokio::test]
async fn an_interrupted_sweep_goes_on_when_the_log_opens() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=999).await;
    // What a crash leaves when it comes after the bounds and the first chunk.
    let group = GroupId {
        range: RangeId(1),
        replica: ReplicaId(1001),
    };
    let mut rows: Vec<_> = (0..=300).map(|index| Row::no_entry(group, index)).collect();
    rows.push(Row::raft(
        &keys::group_row(group, GroupRow::Purged),
        Some(records::encode_purged(Some(id(1, 600)))),
    ));
    rows.push(Row::raft(
        &keys::group_row(group, GroupRow::Swept),
        Some(records::encode_swept(300)),
    ));
    engine.shared.write(rows, true, None).await.expect("written");
    drop((log, engine));

    let engine = open(dir.path());
    let log = super::group(&engine, 1);
    assert_eq!(bounds(&log).await, (Some(id(1, 600)), Some(id(1, 999))));
    assert_eq!(read(&log, 0..9999).await, span(1, 601..=999));
    until_swept(&engine, 1, &(601..=999).collect::<Vec<_>>()).await;
    drop((log, engine));

    let engine = open(dir.path());
    assert_eq!(
        bounds(&super::group(&engine, 1)).await,
        (Some(id(1, 600)), Some(id(1, 999)))
    );
}

#[tokio::test]
async fn a_purge_beyond_the_log_survives_a_restart() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=9).await;
    log.purge(id(4, 1_000_000)).await.expect("purged");
    append_range(&mut log, 4, 1_000_001..=1_000_003).await;
    drop((log, engine));

    let engine = open(dir.path());
    let log = group(&engine, 1);
    assert_eq!(
        bounds(&log).await,
        (Some(id(4, 1_000_000)), Some(id(4, 1_000_003)))
    );
    assert_eq!(read(&log, 0..u64::MAX).await, span(4, 1_000_001..=1_000_003));
    until_swept(&engine, 1, &[1_000_001, 1_000_002, 1_000_003]).await;
}

#[tokio::test]
async fn a_rewritten_tail_is_the_one_that_is_kept() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=9).await;
    // All of this is likely to share a batch: the last write to each index must win.
    let queued = begin_append(&mut log, (10..=14).map(|index| entry(1, index)).collect()).await;
    log.truncate_after(Some(id(1, 5))).await.expect("truncated");
    let rewritten = begin_append(&mut log, (6..=11).map(|index| entry(2, index)).collect()).await;
    log.truncate_after(Some(id(2, 9))).await.expect("truncated");
    queued.await.expect("appended");
    rewritten.await.expect("appended");
    append_range(&mut log, 3, 10..=10).await;
    let expected = [span(1, 0..=5), span(2, 6..=9), span(3, 10..=10)].concat();
    assert_eq!(read(&log, 0..99).await, expected);
    assert_eq!(on_disk(&engine, 1), (0..=10).collect::<Vec<_>>());
    drop((log, engine));

    let engine = open(dir.path());
    assert_eq!(read(&group(&engine, 1), 0..99).await, expected);
}

#[tokio::test]
async fn a_truncated_index_stays_away_through_tables_and_restarts() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    for term in 1..=6 {
        append_range(&mut log, term, 0..=50).await;
        engine.shared.database.rotate().expect("flushed");
        log.truncate_after(None).await.expect("truncated");
    }
    append_range(&mut log, 9, 0..=3).await;
    drop((log, engine));

    let engine = open(dir.path());
    assert_eq!(read(&group(&engine, 1), 0..99).await, span(9, 0..=3));
    assert_eq!(on_disk(&engine, 1), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_group_begins_behind_its_origin_for_ever() {
    let dir = directory();
    let engine = open(dir.path());
    let (range, replica, origin) = (RangeId(7), ReplicaId(70), Some(id(0, 5)));
    let mut log = engine.group(range, replica, origin);
    assert_eq!(bounds(&log).await, (origin, origin));
    assert_eq!(engine.groups().expect("listed"), []);
    log.save_vote(&Vote::new(1, replica)).await.expect("saved");
    drop((log, engine));

    let engine = open(dir.path());
    let mut log = engine.group(range, replica, None);
    assert_eq!(
        bounds(&log).await,
        (origin, origin),
        "a vote alone must not lose the origin"
    );
    append_range(&mut log, 1, 6..=8).await;
    drop((log, engine));

    let engine = open(dir.path());
    let log = engine.group(range, replica, Some(id(9, 99)));
    assert_eq!(bounds(&log).await, (origin, Some(id(1, 8))));
}

#[tokio::test]
async fn handles_of_a_group_share_it() {
    let dir = directory();
    let engine = open(dir.path());
    let mut one = group(&engine, 1);
    let other = group(&engine, 1);
    append_range(&mut one, 1, 0..=4).await;
    assert_eq!(read(&other, 0..9).await, span(1, 0..=4));
    drop((one, other));
    assert!(
        engine.shared.groups.lock().is_empty(),
        "a group without handles is forgotten"
    );
    assert_eq!(read(&group(&engine, 1), 0..9).await, span(1, 0..=4));
}

#[tokio::test]
async fn a_half_dropped_group_is_listed_and_can_be_dropped_again() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=2999).await;
    log.save_vote(&Vote::new(1, ReplicaId(1))).await.expect("saved");
    // What a crash leaves when it comes after the intent.
    let id = GroupId {
        range: RangeId(1),
        replica: ReplicaId(1001),
    };
    let intent = Row::raft(
        &keys::group_row(id, GroupRow::Dropping),
        Some(records::DROPPING.to_vec()),
    );
    engine
        .shared
        .write(vec![intent], true, None)
        .await
        .expect("written");
    drop((log, engine));

    let engine = open(dir.path());
    assert_eq!(engine.groups().expect("listed"), [(id.range, id.replica)]);
    assert_eq!(engine.log_bounds(id.range, id.replica), Err(Error::Dropped(id)));
    assert!(
        group(&engine, 1).get_log_state().await.is_err(),
        "it must not come back to life"
    );
    engine.drop_group(id.range, id.replica).await.expect("dropped");
    assert_eq!(engine.groups().expect("listed"), []);
    assert_eq!(on_disk(&engine, 1), [0; 0]);
    drop(engine);

    let engine = open(dir.path());
    assert_eq!(engine.groups().expect("listed"), []);
    engine
        .drop_group(id.range, id.replica)
        .await
        .expect("dropping nothing is no error");
}

#[tokio::test]
async fn a_dropped_groups_handles_fail() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=9).await;
    log.purge(id(1, 8)).await.expect("purged");
    engine
        .drop_group(RangeId(1), ReplicaId(1001))
        .await
        .expect("dropped");
    assert!(begin_append(&mut log, vec![entry(1, 10)]).await.await.is_err());
    assert!(log.save_vote(&Vote::new(9, ReplicaId(9))).await.is_err());
    drop((log, engine));
    let engine = open(dir.path());
    assert_eq!(
        engine.groups().expect("listed"),
        [],
        "no sweep may bring a row back"
    );
}

#[tokio::test]
async fn a_refused_append_tells_its_callback() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=2).await;
    let (sender, durable) = TypeConfig::oneshot();
    assert!(
        log.append(vec![entry(1, 5)], IOFlushed::signal(sender))
            .await
            .is_err()
    );
    assert!(durable.await.expect("called").is_err());
    assert_eq!(read(&log, 0..9).await, span(1, 0..=2));
}

#[tokio::test]
async fn local_records_are_atomic_and_last() {
    let dir = directory();
    let engine = open(dir.path());
    let put =
        |key: &str, value: &str| LocalWrite::Put(Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    engine
        .local_commit(vec![
            put("a/1", "x"),
            put("a/2", "y"),
            put("b", "z"),
            put("", "root"),
        ])
        .await
        .expect("committed");
    let delete = LocalWrite::Delete(Bytes::from_static(b"a/1"));
    engine
        .local_commit(vec![put("a/1", "old"), delete, put("b", "1"), put("b", "2")])
        .await
        .expect("committed");
    let long = LocalWrite::Delete(Bytes::from(vec![b'k'; MAX_LOCAL_KEY_BYTES + 1]));
    let refused = engine.local_commit(vec![put("c", "1"), long]).await;
    assert_eq!(refused, Err(Error::LocalKeyTooLong(MAX_LOCAL_KEY_BYTES + 1)));
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=1).await;
    drop((log, engine));

    let engine = open(dir.path());
    assert_eq!(engine.local_get(b"a/1"), Ok(None));
    assert_eq!(engine.local_get(b"b").expect("read").as_deref(), Some(&b"2"[..]));
    assert_eq!(engine.local_get(b"c"), Ok(None));
    let keys = |prefix: &[u8]| {
        let records = engine.local_scan(prefix).expect("scanned");
        records.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>()
    };
    assert_eq!(keys(b"a/").into_iter().collect::<Vec<_>>(), [&b"a/2"[..]]);
    assert_eq!(keys(b"").len(), 3, "no group's rows among them");
}

#[tokio::test]
async fn closing_commits_what_is_queued() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    let queued = begin_append(&mut log, (0..500).map(|index| entry(1, index)).collect()).await;
    engine.clone().close().await;
    queued.await.expect("appended");
    assert!(begin_append(&mut log, vec![entry(1, 500)]).await.await.is_err());
    assert!(
        matches!(try_open(dir.path()), Err(OpenError::Locked { .. })),
        "a handle is still there"
    );
    drop((log, engine));
    assert_eq!(read(&group(&open(dir.path()), 1), 0..999).await, span(1, 0..=499));
}
