//! When a keyspace's memtable is written out.
//!
//! Fjall goes by a size that it notes when it makes a keyspace and never asks for again, so whoever opens the directory with other memory
//! to spend would be held to the old size. Here the one who writes looks after each batch, and fjall's own size is out of the way.

use std::thread::{self, JoinHandle};

use fjall::{AbstractTree as _, KeyspaceCreateOptions};

use super::{Keyspace, fjalls};

/// What fjall is told, bytes. A [`MemtableBound`] of less comes first; of a larger one this is what holds.
const FJALLS_OWN: u64 = 1 << 30;

/// Options of a keyspace whose memtable is kept within a [`MemtableBound`].
#[must_use]
pub fn bounded_elsewhere() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(FJALLS_OWN)
}

/// Has a keyspace's memtable written out when it has grown past a bound.
pub struct MemtableBound {
    keyspace: Keyspace,
    bytes: u64,
    /// Puts a new memtable in place of the full one: too slow for a thread that others wait for.
    rotation: Option<JoinHandle<fjall::Result<bool>>>,
}

impl MemtableBound {
    /// A bound of so many bytes.
    #[must_use]
    pub fn new(keyspace: &Keyspace, bytes: u64) -> Self {
        Self {
            keyspace: keyspace.clone(),
            bytes,
            rotation: None,
        }
    }

    /// To be called after each batch. A memtable past the bound is replaced in the background, and grows until that is done.
    ///
    /// # Errors
    /// The last replacement's: what is in the database can't be relied upon any more.
    pub fn keep(&mut self) -> fjall::Result<()> {
        let Some(keyspace) = fjalls(&self.keyspace) else {
            return Ok(());
        };
        if let Some(rotation) = self.rotation.take_if(|rotation| rotation.is_finished()) {
            outcome(rotation)?;
        }
        if self.rotation.is_some() || keyspace.tree.active_memtable().size() <= self.bytes {
            return Ok(());
        }
        let full = keyspace.clone();
        let thread = thread::Builder::new().name("memtable".to_owned());
        match thread.spawn(move || replace(&full)) {
            Ok(rotation) => self.rotation = Some(rotation),
            // Slow is better than not at all.
            Err(_) => drop(replace(keyspace)?),
        }
        Ok(())
    }
}

impl Drop for MemtableBound {
    /// The directory is free for another process only once nobody holds the keyspace.
    fn drop(&mut self) {
        if let Some(Err(error)) = self.rotation.take().map(outcome) {
            tracing::warn!(%error, "a memtable was not replaced");
        }
    }
}

/// Waits first for a merge, or another memtable, that is just being put into place: its files go to disk before that. Fjall would wait
/// for it with the journal locked, and who commits for both.
fn replace(keyspace: &fjall::Keyspace) -> fjall::Result<bool> {
    drop(keyspace.tree.get_version_history_lock());
    keyspace.rotate_memtable()
}

fn outcome(rotation: JoinHandle<fjall::Result<bool>>) -> fjall::Result<bool> {
    rotation.join().unwrap_or(Err(fjall::Error::Poisoned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::lsm::{self, OwnedWriteBatch};

    #[test]
    fn a_memtable_past_the_bound_of_now_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        for (bytes, tables) in [(1 << 20, 0), (64 << 10, 1)] {
            let db = lsm::open(dir.path(), |builder| builder.worker_threads(1)).expect("a database");
            let keyspace = db.keyspace("rows", bounded_elsewhere).expect("a keyspace");
            let mut bound = MemtableBound::new(&keyspace, bytes);
            for key in 0..3_u8 {
                let mut batch = OwnedWriteBatch::with_capacity(db.clone(), 1);
                batch.insert(&keyspace, [key], vec![key; 40 << 10]);
                batch.commit().expect("committed");
                bound.keep().expect("kept");
            }
            drop(bound); // Waits for what it began.
            let fjalls = lsm::fjalls(&keyspace).expect("fjall's");
            let left = fjalls.tree.active_memtable().size();
            assert!(left < 2 * bytes, "{left} bytes in memory of {bytes}");
            let written = keyspace.table_count() + keyspace.sealed_memtable_count();
            assert!(written >= tables, "{written} tables beyond {bytes} bytes");
        }
    }
}
