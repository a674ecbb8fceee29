//! Reading entries back: from memory, from the disk, and while the log changes.

use futures::StreamExt;
use openraft::RaftLogReader;
use openraft::storage::{LeaderBoundedStreamError, RaftLogStorage};

use super::*;
use crate::raft::types::Vote;

#[tokio::test]
async fn evicted_entries_are_read_from_the_disk() {
    let dir = directory();
    let options = Options {
        group_cache_bytes: 8 << 10,
        ..Options::default()
    };
    let engine = LogEngine::open(dir.path(), options).expect("opened");
    let mut log = group(&engine, 1);
    for index in 0..100 {
        append(&mut log, vec![entry_of(1, index, 1000)]).await;
    }
    let cached = log.group.state.lock().cache.first().expect("something is cached");
    assert!(cached > 80, "cached from {cached}");
    assert_eq!(read(&log, 0..100).await, span(1, 0..=99));
    assert_eq!(read(&log, 10..20).await, span(1, 10..=19));
    assert_eq!(
        read(&log, cached - 2..cached + 2).await,
        span(1, cached - 2..=cached + 1)
    );
    assert_eq!(read(&log, 500..600).await, []);

    log.truncate_after(Some(id(1, 49))).await.expect("truncated");
    append_range(&mut log, 2, 50..=55).await;
    assert_eq!(
        read(&log, 48..99).await,
        [span(1, 48..=49), span(2, 50..=55)].concat()
    );
}

#[tokio::test]
async fn a_limited_read_keeps_to_its_bytes_and_returns_something() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append(&mut log, vec![entry_of(1, 0, 3 << 20)]).await;
    append(
        &mut log,
        (1..=10).map(|index| entry_of(1, index, 300 << 10)).collect(),
    )
    .await;
    let lengths = |entries: Vec<Entry>| entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>();
    for _ in ["from the cache", "from the disk"] {
        assert_eq!(
            lengths(log.limited_get_log_entries(0, 11).await.expect("read")),
            [0]
        );
        assert_eq!(
            lengths(log.limited_get_log_entries(1, 11).await.expect("read")),
            [1, 2, 3, 4]
        );
        assert_eq!(
            lengths(log.limited_get_log_entries(9, 11).await.expect("read")),
            [9, 10]
        );
        log.group.state.lock().cache.truncate_from(0);
    }
    let streamed: Vec<_> = log.entries_stream(0..11).await.collect().await;
    assert_eq!(streamed.len(), 11);
}

#[tokio::test]
async fn a_stream_ends_when_the_leader_changes() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append(
        &mut log,
        (0..=9).map(|index| entry_of(1, index, 400 << 10)).collect(),
    )
    .await;
    let vote = Vote::new_committed(1, ReplicaId(1));
    log.save_vote(&vote).await.expect("saved");
    let mut reader = log.get_log_reader().await;
    let mut stream = Box::pin(reader.leader_bounded_stream(vote.leader_id, 0..10).await);
    let first = stream.next().await.expect("an entry").expect("the leader leads");
    assert_eq!(first.log_id, id(1, 0));
    log.save_vote(&Vote::new(2, ReplicaId(2))).await.expect("saved");
    let rest: Vec<_> = stream.collect().await;
    assert!(rest.len() < 9, "what was not read yet must not be read any more");
    assert!(matches!(
        rest.last(),
        Some(Err(LeaderBoundedStreamError::LeaderChanged(_)))
    ));
}

/// Nothing is cached once it is stored, so that every read goes to the disk, where tails are being rewritten and heads
/// deleted. Each read must still see one log: consecutive, and every entry as it was appended.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn reads_see_one_log_while_it_is_truncated_and_purged() {
    let dir = directory();
    let options = Options {
        group_cache_bytes: 0,
        total_cache_bytes: 0,
        ..Options::default()
    };
    let engine = LogEngine::open(dir.path(), options).expect("opened");
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=30).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (log, stopped) = (log.clone(), stopped.clone());
        readers.spawn(async move {
            let mut reads = 0;
            while !*stopped.borrow() {
                let entries = read(&log, 0..u64::MAX).await;
                assert!(!entries.is_empty(), "the log is never empty");
                assert!(
                    entries.is_sorted_by(|a, b| a.0 <= b.0 && a.1 + 1 == b.1),
                    "{entries:?}"
                );
                reads += 1;
                tokio::task::yield_now().await;
            }
            reads
        });
    }
    let mut end = 31;
    for term in 2..300 {
        end -= term % 7;
        log.truncate_after(Some(id(log_term(&log, end - 1).await, end - 1)))
            .await
            .expect("truncated");
        append_range(&mut log, term, end..=end + 9).await;
        end += 10;
        let purged = end - 25;
        log.purge(id(log_term(&log, purged).await, purged))
            .await
            .expect("purged");
    }
    stop.send_replace(true);
    let reads: u64 = readers.join_all().await.into_iter().sum();
    assert!(reads > 0);
    assert_eq!(*engine.failure().borrow(), None);
}

/// The term of the entry at an index.
async fn log_term(log: &GroupLog, index: u64) -> u64 {
    read(log, index..index + 1).await[0].0
}
