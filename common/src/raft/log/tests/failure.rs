//! What happens when the disk gives up.

use std::sync::atomic::Ordering;

use openraft::storage::RaftLogStorage;

use super::*;
use crate::raft::log::{Error, LocalWrite};
use crate::raft::types::Vote;

#[tokio::test]
async fn a_failed_fsync_stops_everything() {
    let dir = directory();
    let engine = open(dir.path());
    let mut failure = engine.failure();
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=4).await;
    assert_eq!(*failure.borrow_and_update(), None);

    engine
        .shared
        .database
        .fail_next_sync
        .store(true, Ordering::Relaxed);
    let refused = begin_append(&mut log, vec![entry(1, 5)]).await.await;
    assert!(refused.is_err(), "the callback gets the error");
    failure.changed().await.expect("announced");
    assert!(matches!(*failure.borrow(), Some(Error::Failed(_))));

    // The disk is fine again, and still nothing may succeed: what it holds is not known.
    engine
        .shared
        .database
        .fail_next_sync
        .store(false, Ordering::Relaxed);
    assert!(begin_append(&mut log, vec![entry(1, 6)]).await.await.is_err());
    assert!(log.save_vote(&Vote::new(2, ReplicaId(2))).await.is_err());
    assert!(log.truncate_after(None).await.is_err());
    assert!(log.purge(id(1, 3)).await.is_err());
    assert!(log.get_log_state().await.is_err());
    assert!(log.try_get_log_entries(0..5).await.is_err());
    assert!(
        engine
            .local_commit(vec![LocalWrite::Delete(Bytes::from_static(b"k"))])
            .await
            .is_err()
    );
    assert!(engine.local_get(b"k").is_err());
    assert!(engine.groups().is_err());
    assert!(engine.drop_group(RangeId(1), ReplicaId(1001)).await.is_err());
    drop((log, engine));

    // After a restart everything that was acknowledged is there.
    let read = read(&group(&open(dir.path()), 1), 0..5).await;
    assert_eq!(read, span(1, 0..=4));
}

#[tokio::test]
async fn everyone_in_the_batch_and_behind_it_hears_of_a_failure() {
    let dir = directory();
    let engine = open(dir.path());
    engine
        .shared
        .database
        .fail_next_sync
        .store(true, Ordering::Relaxed);
    let mut waiting = Vec::new();
    for n in 0..20 {
        let mut log = group(&engine, n);
        waiting.push(begin_append(&mut log, vec![entry(1, 0)]).await);
    }
    for durable in waiting {
        assert!(durable.await.is_err());
    }
}

#[tokio::test]
async fn a_directory_is_open_once() {
    let dir = directory();
    let engine = open(dir.path());
    assert!(matches!(try_open(dir.path()), Err(OpenError::Locked { .. })));
    drop(engine);
    open(dir.path());
}

#[tokio::test]
async fn a_directory_of_another_format_is_refused_untouched() {
    let dir = directory();
    drop(open(dir.path()));
    std::fs::write(dir.path().join("FORMAT"), "holdfast raft log 2\n").expect("written");
    let before = std::fs::read(dir.path().join("acknowledged")).expect("read");
    let error = try_open(dir.path()).err().expect("refused");
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(
        std::fs::read(dir.path().join("acknowledged")).expect("read"),
        before
    );
}
