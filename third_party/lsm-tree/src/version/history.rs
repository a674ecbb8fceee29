// Copyright (c) 2026, the Holdfast authors
// This source code is licensed under both the Apache 2.0 and MIT License
// (found in the LICENSE-* files in the repository)

//! Super versions, which are read while a change of them goes to disk.

use super::{persist_version, SuperVersion, SuperVersions};
use crate::{SeqNo, SequenceNumberCounter};
use std::{
    fmt,
    ops::{Deref, DerefMut},
    path::Path,
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// All super versions. Changes come one after the other; readers wait for none that leaves the data as they are.
pub struct VersionHistory {
    /// Held throughout a change. Taken before `versions`.
    changes: Mutex<()>,
    versions: RwLock<SuperVersions>,
}

/// A thread ended in the middle of a change.
#[derive(Debug)]
pub struct Poisoned;

impl fmt::Display for Poisoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("version history is poisoned")
    }
}

impl VersionHistory {
    pub fn new(versions: SuperVersions) -> Self {
        Self {
            changes: Mutex::new(()),
            versions: RwLock::new(versions),
        }
    }

    /// Waits for exclusive changes, and for the installation of others.
    pub fn read(&self) -> Result<RwLockReadGuard<'_, SuperVersions>, Poisoned> {
        self.versions.read().map_err(|_| Poisoned)
    }

    /// Begins a change that leaves the data as they are.
    pub fn change(&self) -> Result<Change<'_>, Poisoned> {
        Ok(Change {
            _change: self.changes.lock().map_err(|_| Poisoned)?,
            history: self,
        })
    }

    /// Begins a change of what is read. Nobody reads until it is over.
    pub fn write(&self) -> Result<Exclusive<'_>, Poisoned> {
        let change = self.changes.lock().map_err(|_| Poisoned)?;
        Ok(Exclusive {
            versions: self.versions.write().map_err(|_| Poisoned)?,
            _change: change,
        })
    }
}

/// A change that leaves the data as they are: what was read before it, is read after it, from other tables.
pub struct Change<'a> {
    history: &'a VersionHistory,
    _change: MutexGuard<'a, ()>,
}

impl Change<'_> {
    #[expect(clippy::expect_used, reason = "lock is expected to not be poisoned")]
    fn read(&self) -> RwLockReadGuard<'_, SuperVersions> {
        self.history.read().expect("lock is poisoned")
    }

    #[expect(clippy::expect_used, reason = "lock is expected to not be poisoned")]
    fn write(&self) -> RwLockWriteGuard<'_, SuperVersions> {
        self.history.versions.write().expect("lock is poisoned")
    }

    pub fn latest_version(&self) -> SuperVersion {
        self.read().latest_version()
    }

    pub fn memtable_size_sum(&self) -> u64 {
        self.read().memtable_size_sum()
    }

    /// As [`SuperVersions::upgrade_version`], but that readers wait neither for `f` nor for the disk.
    ///
    /// Writers go on as well, and what they write is newer than the new version. It reads the same through the version before:
    /// both have the same memtables, as rotating them is a change, too.
    pub(crate) fn upgrade_version<F: FnOnce(&SuperVersion) -> crate::Result<SuperVersion>>(
        &mut self,
        tree_path: &Path,
        f: F,
        seqno: &SequenceNumberCounter,
        visible_seqno: &SequenceNumberCounter,
    ) -> crate::Result<()> {
        let seqno = seqno.next();
        let mut next_version = f(&self.latest_version())?;
        next_version.seqno = seqno;

        persist_version(tree_path, &next_version.version)?;
        self.write().append_version(next_version);

        visible_seqno.fetch_max(seqno + 1);

        Ok(())
    }

    /// As [`SuperVersions::maintenance`], but that readers don't wait for files to be removed.
    pub fn maintenance(&mut self, folder: &Path, gc_watermark: SeqNo) -> crate::Result<()> {
        // Held until the lock is free again: tables remove their files with the last version that has them.
        let outdated = self.read().outdated(gc_watermark);

        for head in &outdated {
            log::trace!(
                "Removing version #{} (seqno={})",
                head.version.id(),
                head.seqno,
            );
            super::super_version::remove_file(folder, head)?;
        }

        if !outdated.is_empty() {
            self.write().forget(outdated.len());
        }

        Ok(())
    }
}

/// A change of what is read.
pub struct Exclusive<'a> {
    versions: RwLockWriteGuard<'a, SuperVersions>,
    _change: MutexGuard<'a, ()>,
}

impl Deref for Exclusive<'_> {
    type Target = SuperVersions;

    fn deref(&self) -> &Self::Target {
        &self.versions
    }
}

impl DerefMut for Exclusive<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.versions
    }
}
