//! What is there after a crash at any moment. `common/tests/raft_log_kill.rs` kills real processes.
use openraft::storage::RaftLogStorage;

use super::*;
use crate::raft::log::LocalWrite;
use crate::raft::types::Vote;

#[tokio::test]
async fn every_crash_copy_holds_what_was_acknowledged() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    // The term at each index, of all that was ever kept.
    let mut model: Vec<u64> = Vec::new();
    let (mut purged, mut term) = (None, 1);
    for round in 0..24_u64 {
        let first = model.len() as u64;
        model.resize(model.len() + 41, term);
        append_range(&mut log, term, first..=first + 40).await;
        match round % 4 {
            1 => {
                purged = Some(id(term, first + 30));
                log.purge(id(term, first + 30)).await.expect("purged");
            }
            2 => {
                log.truncate_after(Some(id(term, first + 20)))
                    .await
                    .expect("truncated");
                term += 1;
                model.truncate(model.len() - 20);
                model.resize(model.len() + 5, term);
                append_range(&mut log, term, first + 21..=first + 25).await;
            }
            3 => {
                engine.shared.database.rotate().expect("flushed");
                log.save_vote(&Vote::new(term, ReplicaId(round)))
                    .await
                    .expect("saved");
            }
            _ => {}
        }
        // An entry on its way when the crash comes may or may not be there.
        let acknowledged = model.len() as u64 - 1;
        model.push(term);
        let queued = begin_append(&mut log, vec![entry(term, acknowledged + 1)]).await;
        let copy = crash_copy(dir.path());
        queued.await.expect("appended");

        let crashed = open(copy.path());
        let after = group(&crashed, 1);
        let (purged_after, last) = bounds(&after).await;
        let last = last.expect("a log").index;
        assert!(
            last == acknowledged || last == acknowledged + 1,
            "round {round}: ends at {last}"
        );
        assert!(purged_after <= purged, "round {round}");
        let begin = purged_after.map_or(0, |purged| purged.index + 1);
        let expected: Vec<_> = (begin..=last)
            .map(|index| (model[index as usize], index))
            .collect();
        assert_eq!(read(&after, 0..u64::MAX).await, expected, "round {round}");
    }
}

#[tokio::test]
async fn a_log_goes_on_after_each_of_many_crashes() {
    let mut dir = directory();
    for life in 0..12_u64 {
        let engine = open(dir.path());
        let mut log = group(&engine, 1);
        let end = bounds(&log).await.1.map_or(0, |last| last.index + 1);
        assert_eq!(end, life * 30, "life {life}");
        append_range(&mut log, life + 1, end..=end + 29).await;
        if life % 3 == 2 {
            engine.shared.database.rotate().expect("flushed");
        }
        // Never closed: the next life finds what a crash leaves.
        dir = crash_copy(dir.path());
    }
    let engine = open(dir.path());
    let expected: Vec<_> = (0..360).map(|index| (index / 30 + 1, index)).collect();
    assert_eq!(read(&group(&engine, 1), 0..u64::MAX).await, expected);
}

#[tokio::test]
async fn votes_and_appends_survive_in_order() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    for term in 1..=30 {
        let queued = begin_append(&mut log, vec![entry(term, term - 1)]).await;
        log.save_vote(&Vote::new(term, ReplicaId(1)))
            .await
            .expect("saved");
        let crashed = open(crash_copy(dir.path()).path());
        let bounds = crashed.log_bounds(RangeId(1), ReplicaId(1001)).expect("loaded");
        assert_eq!(bounds.vote, Some(Vote::new(term, ReplicaId(1))));
        assert_eq!(
            bounds.last,
            Some(id(term, term - 1)),
            "what was queued before the vote is there with it"
        );
        queued.await.expect("appended");
    }
}

#[tokio::test]
async fn local_records_survive_a_crash() {
    let dir = directory();
    let engine = open(dir.path());
    for n in 0..10_u8 {
        let put = |key: &'static [u8]| LocalWrite::Put(Bytes::from_static(key), Bytes::from(vec![n]));
        engine
            .local_commit(vec![put(b"one"), put(b"two")])
            .await
            .expect("committed");
        let crashed = open(crash_copy(dir.path()).path());
        let values: Vec<_> = crashed
            .local_scan(b"")
            .expect("scanned")
            .into_iter()
            .map(|(_, value)| value[0])
            .collect();
        assert_eq!(values, [n, n]);
    }
}

#[tokio::test]
async fn the_size_of_memtables_is_that_of_the_last_opening() {
    let dir = directory();
    for (memtable_bytes, is_written_out) in [(32 << 20, false), (64 << 10, true)] {
        let options = Options {
            memtable_bytes,
            ..Options::default()
        };
        let engine = LogEngine::open(dir.path(), options).expect("opened");
        let database = engine.shared.database.clone();
        let mut log = group(&engine, 1);
        log.truncate_after(None).await.expect("truncated");
        append(&mut log, vec![entry_of(1, 0, 100 << 10)]).await;
        drop(log);
        engine.close().await;
        let [_, entries] = database.keyspaces();
        let written = entries.table_count() + entries.sealed_memtable_count();
        assert_eq!(written > 0, is_written_out, "with {memtable_bytes} bytes");
    }
}
