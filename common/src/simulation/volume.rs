//! Disks in memory, which lose what was not synced when the power goes.
//!
//! A volume is what an LSM database looks like from above: keyspaces of ordered rows, changed by whole batches, each a record of one
//! journal. A sync makes every batch so far last. A crash keeps what was synced and, of the batches behind it, as many from
//! the first on as chance has it: the journal's pages reach the disk in order or not at all, and half a batch is none.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;

/// Rows of one keyspace.
pub type Rows = Arc<BTreeMap<Bytes, Bytes>>;

/// Keyspaces by name.
type Keyspaces = BTreeMap<String, Rows>;

/// A row of a batch: keyspace, key, and the value or its removal.
pub type Change = (String, Bytes, Option<Bytes>);

/// A database's disk.
#[derive(Debug, Default)]
pub struct Volume {
    now: Keyspaces,
    synced: Keyspaces,
    /// Batches behind what was synced; so many of them have left the process.
    unsynced: Vec<Vec<Change>>,
    flushed: usize,
    seqno: u64,
    /// Syncs over the life of the volume.
    syncs: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It was killed: what it had given to the operating system is there.
    Process,
    /// The machine lost its power.
    Power,
}

/// Every disk of a world.
#[derive(Default)]
pub struct Volumes(HashMap<PathBuf, Arc<Mutex<Volume>>>);

impl Volumes {
    /// The disk of a directory; an empty one at first.
    pub fn of(&mut self, dir: &Path) -> Arc<Mutex<Volume>> {
        self.0.entry(dir.to_owned()).or_default().clone()
    }

    /// Whoever used the disks below `dir` has crashed. The disks that the dead process held are not these any more.
    pub fn crash(&mut self, dir: &Path, crash: Crash, random: &mut impl Rng) {
        let mut below: Vec<_> = self
            .0
            .keys()
            .filter(|path| path.starts_with(dir))
            .cloned()
            .collect();
        below.sort();
        for path in below {
            let Some(volume) = self.0.get_mut(&path) else {
                continue;
            };
            let left = volume.lock().after(crash, random);
            *volume = Arc::new(Mutex::new(left));
        }
    }

    /// The disks below `dir` are replaced by empty ones.
    pub fn wipe(&mut self, dir: &Path) {
        self.0.retain(|path, _| !path.starts_with(dir));
    }
}

impl Volume {
    /// The rows of a keyspace now.
    pub fn rows(&self, keyspace: &str) -> Rows {
        self.now.get(keyspace).cloned().unwrap_or_default()
    }

    /// The rows of every keyspace now: a snapshot.
    pub fn all(&self) -> BTreeMap<String, Rows> {
        self.now.clone()
    }

    /// The number that the next batch will have.
    pub fn seqno(&self) -> u64 {
        self.seqno
    }

    /// How often it was synced.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Writes a batch, which is not synced.
    pub fn commit(&mut self, batch: Vec<Change>) {
        apply(&mut self.now, &batch);
        self.unsynced.push(batch);
        self.seqno += 1;
    }

    /// Gives what was written to the operating system.
    pub fn flush(&mut self) {
        self.flushed = self.unsynced.len();
    }

    /// Makes what was written last.
    pub fn sync(&mut self) {
        // Not a copy of all: what shares its rows with a copy is copied whole by the next change.
        for batch in self.unsynced.drain(..) {
            apply(&mut self.synced, &batch);
        }
        self.flushed = 0;
        self.syncs += 1;
    }

    fn after(&self, crash: Crash, random: &mut impl Rng) -> Self {
        let least = match crash {
            Crash::Process => self.flushed,
            Crash::Power => 0,
        };
        let kept = random.random_range(least..=self.unsynced.len());
        let mut left = self.synced.clone();
        for batch in &self.unsynced[..kept] {
            apply(&mut left, batch);
        }
        Self {
            now: left.clone(),
            synced: left,
            unsynced: Vec::new(),
            flushed: 0,
            seqno: self.seqno,
            syncs: self.syncs,
        }
    }
}

fn apply(keyspaces: &mut Keyspaces, batch: &[Change]) {
    for (keyspace, key, value) in batch {
        let rows = Arc::make_mut(keyspaces.entry(keyspace.clone()).or_default());
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn put(key: &'static str) -> Vec<Change> {
        vec![("rows".to_owned(), Bytes::from(key), Some(Bytes::from(key)))]
    }

    fn keys(volume: &Volume) -> Vec<Bytes> {
        volume.rows("rows").keys().cloned().collect()
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let mut volume = Volume::default();
        volume.commit(put("a"));
        volume.sync();
        volume.commit(put("b"));
        volume.flush();
        volume.commit(put("c"));
        let mut random = StdRng::seed_from_u64(1);
        let mut seen = BTreeMap::new();
        for _ in 0..100 {
            *seen
                .entry(keys(&volume.after(Crash::Power, &mut random)))
                .or_insert(0) += 1;
        }
        let all: Vec<_> = seen.into_keys().collect();
        assert_eq!(all, [vec!["a"], vec!["a", "b"], vec!["a", "b", "c"]]);
        for _ in 0..100 {
            assert!(keys(&volume.after(Crash::Process, &mut random)).len() >= 2);
        }
    }
}
