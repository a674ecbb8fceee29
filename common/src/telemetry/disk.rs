//! Bytes that the process reads from its files and writes to them, by what for.

use std::sync::LazyLock;

use metrics::{Counter, counter};

use super::catalogue::{Label, Metric};

/// The counters of this module.
pub const METRICS: &[Metric] = &[Metric::counter(
    NAME,
    &[Label::one_of("dir", &DIRS), Label::one_of("kind", &KINDS)],
    "Bytes read from files and written to them. `wal`: the Raft log's journal and that of the data; `flush`: tables that \
     memtables, and snapshots that are installed, became; `compaction`: tables that were merged, and what they were merged \
     into; `snapshot`: the files in which snapshots travel; `foreground`: blocks of tables that a read needed and the cache \
     did not have. What the system's page cache answers is counted too.",
)];

const NAME: &str = "holdfast_disk_io_bytes_total";
const DIRS: [&str; 2] = ["read", "write"];
const KINDS: [&str; 5] = ["wal", "flush", "compaction", "snapshot", "foreground"];

/// What is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Journals.
    Wal,
    /// Tables that memtables became.
    Flush,
    /// Tables that were merged, or came of merging.
    Compaction,
    /// Snapshots in transit.
    Snapshot,
    /// What a request waits for.
    Foreground,
}

static HANDLES: LazyLock<[[Counter; 5]; 2]> =
    LazyLock::new(|| DIRS.map(|dir| KINDS.map(|kind| counter!(NAME, "dir" => dir, "kind" => kind))));

/// Makes every series exist, at zero.
pub fn init() {
    LazyLock::force(&HANDLES);
}

/// So many bytes were read.
pub fn read(kind: Kind, bytes: u64) {
    HANDLES[0][kind as usize].increment(bytes);
}

/// So many bytes were written.
pub fn written(kind: Kind, bytes: u64) {
    HANDLES[1][kind as usize].increment(bytes);
}
