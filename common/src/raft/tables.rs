//! What a database's tables tell of its background work. Fjall counts neither the bytes that it writes out nor those that
//! it merges; but every table has an id of its own and never changes, so two looks at the tables show what was done between
//! them: one that is new in the first level was flushed, one that is new below it came of a merge, and one that is gone went
//! into a merge. What came and went between two looks is missed.

use std::collections::HashMap;

use fjall::AbstractTree;

use crate::raft::lsm::{self, Keyspace};
use crate::telemetry::disk;

/// Runs in the first level from which on fjall merges them (its default).
const L0_RUNS: usize = 4;

/// Size that the second level is kept to, and by how much each level is larger than the one above (fjall's defaults).
const LEVEL_BASE_BYTES: u64 = 4 * 64 * 1024 * 1024;
const LEVEL_RATIO: u64 = 10;

/// A table by its id: its level, and its size in bytes.
type Tables = HashMap<u64, (usize, u64)>;

/// Remembers the tables of a keyspace, and the counts of its cache.
#[derive(Debug)]
pub struct TableWatch {
    tables: Tables,
    blocks: Blocks,
}

/// Blocks of tables that were asked for over the life of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Blocks {
    cached: u64,
    loaded: u64,
    loaded_bytes: u64,
}

/// What was done between two looks, and what is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes that memtables, and ingested rows, were written out as.
    pub flushed: u64,
    /// Bytes of tables that were merged.
    pub merge_read: u64,
    /// Bytes of tables that came of merging.
    pub merge_written: u64,
    /// Blocks that the cache had.
    pub blocks_cached: u64,
    /// Blocks that it did not have.
    pub blocks_loaded: u64,
    /// Bytes of those.
    pub loaded_bytes: u64,
    /// Bytes that are to be merged, about, now.
    pub pending_bytes: u64,
}

impl TableWatch {
    /// Begins with what there is.
    pub fn new(keyspace: &Keyspace) -> Self {
        Self {
            tables: look(keyspace).0,
            blocks: blocks(keyspace),
        }
    }

    /// What was done since the last call.
    pub fn observe(&mut self, keyspace: &Keyspace) -> Work {
        let (tables, pending_bytes) = look(keyspace);
        let blocks = blocks(keyspace);
        let mut work = between(&self.tables, &tables);
        work.blocks_cached = blocks.cached - self.blocks.cached;
        work.blocks_loaded = blocks.loaded - self.blocks.loaded;
        work.loaded_bytes = blocks.loaded_bytes - self.blocks.loaded_bytes;
        work.pending_bytes = pending_bytes;
        (self.tables, self.blocks) = (tables, blocks);
        work
    }
}

impl Work {
    /// Adds its bytes to the process's counters.
    pub fn count(&self) {
        disk::written(disk::Kind::Flush, self.flushed);
        disk::read(disk::Kind::Compaction, self.merge_read);
        disk::written(disk::Kind::Compaction, self.merge_written);
        disk::read(disk::Kind::Foreground, self.loaded_bytes);
    }
}

/// The tables, and the bytes of them that are to be merged.
fn look(keyspace: &Keyspace) -> (Tables, u64) {
    let Some(keyspace) = lsm::fjalls(keyspace) else {
        return (Tables::default(), 0);
    };
    let version = keyspace.tree.current_version();
    let mut tables = Tables::with_capacity(version.table_count());
    let mut pending = 0;
    for (at, level) in version.iter_levels().enumerate() {
        let found = level.iter().flat_map(|run| run.iter());
        tables.extend(found.map(|table| (table.id(), (at, table.metadata.file_size))));
        pending += due(at, level.run_count(), level.size());
    }
    (tables, pending)
}

fn blocks(keyspace: &Keyspace) -> Blocks {
    let Some(keyspace) = lsm::fjalls(keyspace) else {
        return Blocks::default();
    };
    let metrics = keyspace.metrics();
    Blocks {
        cached: metrics.block_load_cached_count() as u64,
        loaded: metrics.block_load_io_count() as u64,
        loaded_bytes: metrics.block_io(),
    }
}

/// What of a level is to be merged into the next one: all of the first when it has too many runs, else what is too much.
fn due(level: usize, runs: usize, bytes: u64) -> u64 {
    match level {
        0 if runs >= L0_RUNS => bytes,
        0 => 0,
        below => {
            let steps = u32::try_from(below - 1).unwrap_or(u32::MAX);
            let target = LEVEL_BASE_BYTES.saturating_mul(LEVEL_RATIO.saturating_pow(steps));
            bytes.saturating_sub(target)
        }
    }
}

fn between(before: &Tables, after: &Tables) -> Work {
    let mut work = Work::default();
    for (_, (level, bytes)) in after.iter().filter(|(id, _)| !before.contains_key(id)) {
        if *level == 0 {
            work.flushed += bytes;
        } else {
            work.merge_written += bytes;
        }
    }
    let gone = before.iter().filter(|(id, _)| !after.contains_key(id));
    work.merge_read = gone.map(|(_, (_, bytes))| bytes).sum();
    if work.merge_read == 0 {
        // Nothing went into them: they were flushed, and have been moved down as they are since.
        work.flushed += std::mem::take(&mut work.merge_written);
    }
    work
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_and_gone_tables_show_what_was_done() {
        let before = Tables::from([(1, (0, 10)), (2, (0, 20)), (3, (6, 100)), (4, (6, 7))]);
        // 1 and 3 became 6; 2 moved as it is; 5 was flushed.
        let after = Tables::from([(2, (6, 20)), (5, (0, 30)), (6, (6, 105)), (4, (6, 7))]);
        let expected = Work {
            flushed: 30,
            merge_read: 110,
            merge_written: 105,
            ..Work::default()
        };
        assert_eq!(between(&before, &after), expected);
        assert_eq!(between(&after, &after), Work::default());
    }

    #[test]
    fn what_is_over_a_levels_size_is_due() {
        assert_eq!((due(0, 3, 900), due(0, 4, 900)), (0, 900));
        assert_eq!(due(1, 1, LEVEL_BASE_BYTES), 0);
        assert_eq!(due(1, 1, LEVEL_BASE_BYTES + 5), 5);
        assert_eq!(due(2, 1, LEVEL_BASE_BYTES * 10 + 5), 5);
    }

    #[test]
    fn a_flush_and_a_merge_are_seen_in_a_database() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = lsm::open(dir.path(), |builder| builder).expect("a database");
        let keyspace = db
            .keyspace("rows", fjall::KeyspaceCreateOptions::default)
            .expect("a keyspace");
        let mut watch = TableWatch::new(&keyspace);
        keyspace.insert(&b"a"[..], vec![7; 4096]).expect("written");
        keyspace.rotate_memtable_and_wait().expect("flushed");
        let flush = watch.observe(&keyspace);
        assert!(flush.flushed > 0 && flush.merge_read == 0, "{flush:?}");
        keyspace.insert(&b"a"[..], vec![8; 4096]).expect("written");
        keyspace.rotate_memtable_and_wait().expect("flushed");
        let fjalls = lsm::fjalls(&keyspace).expect("fjall's");
        fjalls.major_compact().expect("merged");
        let merge = watch.observe(&keyspace);
        assert!(
            merge.merge_read >= flush.flushed && merge.merge_written > 0,
            "{merge:?}"
        );
        keyspace.get(b"a").expect("read");
        let read = watch.observe(&keyspace);
        assert!(read.blocks_cached + read.blocks_loaded > 0, "{read:?}");
    }
}
