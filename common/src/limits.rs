//! Bounds on everything that comes from outside, checked where it enters and relied upon behind that.

use std::time::Duration;

/// Longest user key, bytes. The shortest is one byte.
pub const MAX_KEY_BYTES: usize = 4096;

/// Longest value, bytes.
pub const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes of commands that one Raft entry carries; a single larger write travels alone.
pub const MAX_ENTRY_BYTES: usize = 1024 * 1024;

/// Most writes that one Raft entry carries.
pub const MAX_ENTRY_WRITES: usize = 1024;

/// Longest name that a client may give a write, with what the router adds to it, bytes.
pub const MAX_TOKEN_BYTES: usize = 256;

/// Most operations of one batch.
pub const MAX_BATCH_OPS: usize = 1_024;

/// Most conditions and actions of one transaction.
pub const MAX_TXN_ITEMS: usize = 256;

/// Most bytes of keys and values in one transaction, and most that it may read.
pub const MAX_TXN_BYTES: usize = MAX_VALUE_BYTES;

/// Most bytes of keys and values in one page of a scan between router and store.
pub const MAX_SCAN_PAGE_BYTES: usize = 1024 * 1024;

/// Most rows in one page of a scan between router and store.
pub const MAX_SCAN_PAGE_ROWS: usize = 10_000;

/// Most rows that one scan request of a client may ask for.
pub const MAX_SCAN_LIMIT: usize = 1_000_000;

/// Rows that a scan answers when the client names no limit.
pub const DEFAULT_SCAN_LIMIT: usize = 1_000;

/// Longest time a client may give an operation.
pub const MAX_DEADLINE: Duration = Duration::from_secs(60);

/// Time an operation has when the client names none.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

// A value, its key and the envelope around them must fit a frame and an entry of their own.
const _: () = assert!(MAX_VALUE_BYTES + MAX_KEY_BYTES + 4096 < 16 * 1024 * 1024);

/// Entries of a log that something waits for, or keeps; other ones in a simulation, whose plays are short.
pub const fn log_entries(entries: u64, simulated: u64) -> LogEntries {
    LogEntries { entries, simulated }
}

/// See [`log_entries`].
#[derive(Clone, Copy, Debug)]
pub struct LogEntries {
    entries: u64,
    #[cfg_attr(not(feature = "simulation"), expect(dead_code))]
    simulated: u64,
}

impl LogEntries {
    /// How many.
    pub fn get(self) -> u64 {
        #[cfg(feature = "simulation")]
        if crate::simulation::is_on() {
            return self.simulated;
        }
        self.entries
    }
}
