//! What others may know about a replica while it applies: the host checks epochs and spans against it, heartbeats report
//! it. Updated after an entry's rows are visible and before anyone is answered.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_common::raft::types::LogId;
use holdfast_common::range::Descriptor;
use holdfast_common::revision::Revision;
use parking_lot::{RwLock, RwLockReadGuard};

use crate::state::Merge;

/// A replica as of the last entry that it applied. Cheap to clone; all clones see the same.
#[derive(Clone, Default)]
pub struct SharedRange(Arc<Inner>);

#[derive(Default)]
struct Inner {
    view: RwLock<RangeView>,
    log_bytes: AtomicU64,
    snapshot_sent: AtomicU64,
}

/// See [`SharedRange`].
#[derive(Clone, Debug, Default)]
pub struct RangeView {
    /// The range; none until the replica has had its first snapshot.
    pub descriptor: Option<Arc<Descriptor>>,
    /// The last applied entry.
    pub applied: Option<LogId>,
    /// The largest revision that the range has given. Nothing expires before its milliseconds, whatever the clock says.
    pub last_revision: Revision,
    /// Bytes of keys and records, about.
    pub size_bytes: u64,
    /// Rows, about.
    pub keys: u64,
    /// Whether it is about to go into its left neighbour: then it serves nothing.
    pub merge: Merge,
}

impl SharedRange {
    /// The present state, for a check that takes no time: applying waits while the guard is held, so never hold it across
    /// an await.
    pub fn read(&self) -> RwLockReadGuard<'_, RangeView> {
        self.0.view.read()
    }

    /// A copy of the present state.
    pub fn get(&self) -> RangeView {
        self.0.view.read().clone()
    }

    /// The range; none until the replica has had its first snapshot.
    pub fn descriptor(&self) -> Option<Arc<Descriptor>> {
        self.0.view.read().descriptor.clone()
    }

    /// Whether the range is about to go into its left neighbour.
    pub(crate) fn merge(&self) -> Merge {
        self.0.view.read().merge
    }

    /// Bytes of the entries applied since the process began.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.0.log_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn count_log_bytes(&self, bytes: usize) {
        self.0.log_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Position of the newest snapshot taken for another replica, 0 for none.
    pub(crate) fn snapshot_sent(&self) -> u64 {
        self.0.snapshot_sent.load(Ordering::Acquire)
    }

    pub(crate) fn snapshot_taken(&self, position: u64) {
        self.0.snapshot_sent.fetch_max(position, Ordering::AcqRel);
    }

    pub(crate) fn set(&self, view: RangeView) {
        *self.0.view.write() = view;
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut RangeView)) {
        change(&mut self.0.view.write());
    }
}

impl fmt::Debug for SharedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.view.read().fmt(f)
    }
}
