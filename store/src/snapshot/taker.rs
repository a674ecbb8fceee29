//! Taking snapshots, as openraft asks for them.

use std::io;
use std::sync::Arc;

use holdfast_common::failpoint::{self, Step};
use holdfast_common::ids::RangeId;
use holdfast_common::raft::types::{Snapshot, SnapshotData, SnapshotMeta, TypeConfig};
use openraft::storage::RaftSnapshotBuilder;

use super::spool::ViewSpool;
use crate::engine::Engine;
use crate::keys;
use crate::row::RangeRow;

/// Builds the snapshots that let openraft purge the log.
pub struct SnapshotTaker {
    engine: Engine,
    range: RangeId,
}

impl SnapshotTaker {
    pub(crate) fn new(engine: Engine, range: RangeId) -> Self {
        Self { engine, range }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotTaker {
    type SnapshotData = SnapshotData;

    /// Nothing is copied: the data itself is the snapshot. But it must be on disk before the log behind it may go, and
    /// that the sync is for.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let snapshot = take(&self.engine, self.range).await?;
        failpoint::reached(Step::SnapshotTaken);
        self.engine.persist().await?;
        snapshot.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nothing has been applied yet"))
    }
}

/// The range as of now. Position and content come from the same view, so they agree.
pub(crate) async fn take(engine: &Engine, range: RangeId) -> io::Result<Option<Snapshot>> {
    let view = engine.view().await?;
    let Some(stored) = view.get(&keys::range_row(range))? else {
        return Ok(None);
    };
    let row = RangeRow::decode(stored.clone())?;
    if row.applied.is_none() {
        return Ok(None);
    }
    let meta = SnapshotMeta {
        last_log_id: row.applied,
        last_membership: row.membership.clone(),
    };
    let spool = ViewSpool::new(view, range, stored, row.span);
    Ok(Some(Snapshot {
        meta,
        snapshot: SnapshotData::Local(Arc::new(spool)),
    }))
}
