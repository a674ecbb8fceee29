//! The state machine of a range, as openraft drives it: a thin shell around [`apply`].
//!
//! Each entry becomes one engine batch that carries its rows and the range's row with the applied position. The batch is
//! visible when [`Engine::write`] returns; then [`SharedRange`] is updated, then the proposer is answered. Whatever goes
//! wrong here is this store's failure, never a write's: the error ends the group, and the process with it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use holdfast_common::clock;
use holdfast_common::failpoint::{self, Step};
use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::raft::log::GroupLog;
use holdfast_common::raft::types::{
    self, LogId, Membership, Payload, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig,
};
use holdfast_common::range::Descriptor;
use openraft::storage::{EntryResponder, RaftLogReader, RaftStateMachine};

use crate::apply::{self, BIRTH_INDEX, ChildSeed, Effect, split_outcomes_row};
use crate::command::{Absorb, Command};
use crate::damage::Damage;
use crate::engine::{Batch, Engine, Replacement, View};
use crate::keys;
use crate::metrics;
use crate::row::{self, RangeRow};
use crate::sessions::Sessions;
use crate::shared::{RangeView, SharedRange};
use crate::snapshot::{self, SnapshotTaker};
use crate::state::{Identity, RangeState};
use crate::tokens::Tokens;

/// What a replica needs from the store that it lives on.
pub trait RangeHost: Send + Sync + 'static {
    /// Called before the child's rows are written: stops an uninitialised replica of that id, if one runs, so that it
    /// can be started anew from them. When this returns no Raft task of it is left. False when the child must not be born
    /// here: the range has moved on, and a later replica of it was created on this store.
    fn before_split<'a>(&'a self, child: &'a ChildSeed) -> BoxFuture<'a, io::Result<bool>>;

    /// Called when the child's rows are visible: starts it. Must not block.
    fn after_split(&self, child: ChildSeed);

    /// Called before a neighbour is taken over: ends its replica on this store, and tells what it was when it froze. When
    /// this returns no Raft task of it is left, and its state is durable.
    fn take_over<'a>(&'a self, absorb: &'a Absorb) -> BoxFuture<'a, io::Result<RangeState>>;

    /// Called when the neighbour's rows are this range's: buries its replica. Must not block.
    fn taken_over(&self, source: RangeId);

    /// Whether this replica was destroyed on this store and must never come back.
    fn buried(&self, replica: ReplicaId) -> bool;

    /// Another initialised replica on this store, or one whose rows are still being deleted, that holds part of `span`.
    fn overlaps(&self, me: ReplicaId, span: &Span) -> Option<RangeId>;

    /// Called after the range's bounds or members have changed. Must not block.
    fn changed(&self, range: RangeId);

    /// Called before the entry of a check shows as applied. Must not block.
    fn check_begins(&self, _me: Identity, _check: u64) {}

    /// Called when exactly the entries up to that of a check have been applied: the time to look at what they have made.
    fn check<'a>(&'a self, _me: Identity, _check: u64) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Where a group born of a split begins, and the cluster's first one: for `LogEngine::group`, and what its replicas have applied at first.
pub fn birth_log_id() -> LogId {
    LogId::new_term_index(0, BIRTH_INDEX)
}

/// Why a replica does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
    /// Its rows do not decode.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The range's rows belong to another replica.
    #[error("the rows of range {range} belong to replica {found}, not to {expected}")]
    OtherReplica {
        /// The range.
        range: RangeId,
        /// The replica that was to be opened.
        expected: ReplicaId,
        /// The one whose rows they are.
        found: ReplicaId,
    },
}

impl OpenError {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_damage(),
            Self::Damaged(_) => true,
            Self::OtherReplica { .. } => false,
        }
    }
}

/// A replica's state machine.
pub struct RangeMachine {
    identity: Identity,
    engine: Engine,
    host: Arc<dyn RangeHost>,
    shared: SharedRange,
    /// None until the replica has had its first snapshot.
    state: Option<RangeState>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

/// A range's state, from its row and from those that remember writes.
///
/// # Errors
/// Something does not read back, or does not fit together.
pub(crate) fn rebuild(
    view: &View,
    range: RangeId,
    row: RangeRow,
    store: StoreId,
) -> Result<RangeState, OpenError> {
    let mut outcomes = Vec::new();
    for stored in view.rows(&keys::all_outcomes(range)) {
        let (key, value) = stored?;
        let index = keys::index_of_outcomes(&key).ok_or_else(|| Damage::new("outcome row", "not its key"))?;
        outcomes.push((index, value));
    }
    let sessions = Sessions::rebuild(row.floors.iter().copied(), outcomes)?;
    let tokens: Vec<_> = view.rows(&keys::tokens(&row.span)).collect::<Result<_, _>>()?;
    let tokens = Tokens::rebuild(tokens)?;
    let state = row.into_state(range, store, sessions, tokens);
    state.validate().map_err(|why| Damage::new("range state", why))?;
    Ok(state)
}

impl RangeMachine {
    /// Opens a replica from its rows. Without any it is uninitialised: it applies nothing but a snapshot.
    ///
    /// Its rows are synced first: openraft takes what has been applied when it starts for a snapshot, and may purge the log
    /// up to there.
    pub async fn open(
        identity: Identity,
        engine: Engine,
        host: Arc<dyn RangeHost>,
    ) -> Result<Self, OpenError> {
        let mut machine = Self {
            identity,
            engine,
            host,
            shared: SharedRange::default(),
            state: None,
            applied: None,
            membership: StoredMembership::default(),
        };
        machine.engine.persist().await?;
        let view = machine.engine.view().await?;
        machine.load(&view)?;
        Ok(machine)
    }

    /// What others may see of it.
    pub fn shared(&self) -> SharedRange {
        self.shared.clone()
    }

    fn load(&mut self, view: &View) -> Result<(), OpenError> {
        let range = self.identity.range;
        let Some(stored) = view.get(&keys::range_row(range))? else {
            return Ok(());
        };
        let row = RangeRow::decode(stored)?;
        if row.replica != self.identity.replica {
            let (expected, found) = (self.identity.replica, row.replica);
            return Err(OpenError::OtherReplica {
                range,
                expected,
                found,
            });
        }
        self.applied = row.applied;
        self.membership = row.membership.clone();
        let state = rebuild(view, range, row, self.identity.store)?;
        self.shared.set(view_of(&state, self.applied));
        self.state = Some(state);
        Ok(())
    }

    async fn apply_entry(&mut self, (entry, responder): EntryResponder<TypeConfig>) -> io::Result<()> {
        let log_id = entry.log_id;
        let begun = clock::now();
        self.engine.admit().await;
        let answer = match entry.payload {
            Payload::Blank => {
                self.finish(log_id, Batch::with_capacity(1))?;
                Bytes::new()
            }
            Payload::Membership(membership) => {
                self.apply_membership(log_id, membership)?;
                Bytes::new()
            }
            Payload::Normal(types::Command(command)) => {
                self.shared.count_log_bytes(command.len());
                let command = Command::decode(&command)?;
                let answer = self.apply_command(log_id, &command).await?;
                if responder.is_some() {
                    answer.encode()
                } else {
                    Bytes::new()
                }
            }
        };
        failpoint::reached(Step::EntryApplied);
        let took = begun.elapsed();
        metrics::applied(took);
        if let Some(responder) = responder {
            responder.send(types::Answer(answer, took));
        }
        Ok(())
    }

    async fn apply_command(&mut self, log_id: LogId, command: &Command) -> io::Result<apply::Answer> {
        if self.engine.is_slow() {
            let keys = command.keys().map(|key| keys::record(key.as_bytes()));
            self.engine.fetch(keys.collect()).await;
        }
        let state = self.state.as_mut().ok_or_else(|| uninitialised(self.identity))?;
        let applied = apply::apply(state, log_id.index, command, &self.engine).map_err(io::Error::other)?;
        let mut effects = applied.effects.into_iter();
        match effects.next() {
            None => self.finish(log_id, applied.rows)?,
            Some(Effect::Split(child)) => self.split(log_id, applied.rows, *child).await?,
            Some(Effect::Absorb(absorb)) => self.absorb(log_id, &absorb).await?,
            Some(Effect::Check(check)) => {
                self.host.check_begins(self.identity, check);
                self.finish(log_id, applied.rows)?;
                self.host.check(self.identity, check).await;
            }
        }
        if matches!(applied.answer, apply::Answer::Merge(Ok(()))) {
            failpoint::reached(Step::MergeApplied);
            self.host.changed(self.identity.range);
        }
        Ok(applied.answer)
    }

    /// The neighbour's end and this range's new bounds go into one batch. The records stay where they are.
    async fn absorb(&mut self, log_id: LogId, absorb: &Absorb) -> io::Result<()> {
        let source = self.host.take_over(absorb).await?;
        let state = self.state.as_mut().ok_or_else(|| uninitialised(self.identity))?;
        let applied = apply::merge::absorb(state, log_id.index, &source).ok_or_else(|| {
            let (left, right) = (&state.descriptor.span, &source.descriptor.span);
            io::Error::other(format!(
                "range {} {left} can't take over range {} {right}: they do not touch",
                self.identity.range, absorb.source
            ))
        })?;
        self.finish(log_id, applied.rows)?;
        failpoint::reached(Step::TakenOver);
        self.host.taken_over(absorb.source);
        Ok(())
    }

    /// Applies the log up to the entry at `last` without its group, which has ended.
    pub(crate) async fn replay(&mut self, log: &mut GroupLog, last: u64) -> io::Result<()> {
        loop {
            let next = self.applied.map_or(0, |applied| applied.index + 1);
            if next > last {
                return Ok(());
            }
            let entries = log.limited_get_log_entries(next, last + 1).await?;
            if entries.first().is_none_or(|entry| entry.log_id.index != next) {
                return Err(io::Error::other(format!(
                    "the log of range {} lacks entry {next}, needed to reach entry {last}",
                    self.identity.range
                )));
            }
            for entry in entries {
                self.apply_entry((entry, None)).await?;
            }
        }
    }

    /// What the replica was, once it is done with.
    pub(crate) fn into_state(self) -> Option<RangeState> {
        self.state
    }

    fn apply_membership(&mut self, log_id: LogId, membership: Membership) -> io::Result<()> {
        let state = self.state.as_mut().ok_or_else(|| uninitialised(self.identity))?;
        let mut descriptor = Descriptor::clone(&state.descriptor);
        descriptor.replicas = row::replicas(&membership);
        descriptor.epoch.membership = log_id.index;
        state.descriptor = Arc::new(descriptor);
        self.membership = StoredMembership::new(Some(log_id), membership);
        self.finish(log_id, Batch::with_capacity(1))?;
        failpoint::reached(Step::MembersApplied);
        self.host.changed(self.identity.range);
        Ok(())
    }

    /// Both ranges' rows go into one batch, so that no crash can leave a gap or an overlap between them.
    async fn split(&mut self, log_id: LogId, mut rows: Batch, child: ChildSeed) -> io::Result<()> {
        let replica = child.replica().filter(|replica| !self.host.buried(*replica));
        let state = child.state.as_ref().filter(|_| replica.is_some());
        let born = match state {
            Some(state) if self.host.before_split(&child).await? => Some(state),
            _ => None,
        };
        let Some(state) = born else {
            // Of what is written for the child nothing stays. The rest is written again if a crash comes between.
            self.engine.write(rows);
            return self.split_without_child(log_id, &child).await;
        };
        failpoint::reached(Step::SplitPrepared);
        let born = birth_log_id();
        let membership = StoredMembership::new(Some(born), row::membership_of(&state.descriptor.replicas));
        rows.put(
            range_row_key(child.descriptor.id),
            row::encode(state, Some(born), &membership),
        );
        if let Some((key, outcomes)) = split_outcomes_row(state) {
            rows.put(Bytes::copy_from_slice(&key), outcomes);
        }
        self.finish(log_id, rows)?;
        failpoint::reached(Step::SplitApplied);
        self.host.changed(self.identity.range);
        self.host.after_split(child);
        Ok(())
    }

    /// The child's replica here came and went before this replica got to the split, has a successor, or was never meant to be: the right
    /// part's rows have no owner on this store. They go together with the change of bounds.
    async fn split_without_child(&mut self, log_id: LogId, child: &ChildSeed) -> io::Result<()> {
        let (key, row) = self.row_at(log_id)?;
        let intervals = vec![
            keys::range_row_interval(self.identity.range),
            keys::records(&child.descriptor.span),
            keys::tokens(&child.descriptor.span),
        ];
        let rows = Box::new(std::iter::once(Ok((key, row))));
        self.engine.replace(Replacement { intervals, rows }).await?;
        self.publish(log_id);
        self.host.changed(self.identity.range);
        Ok(())
    }

    /// Writes an entry's rows with the range's own, and makes the new state known.
    fn finish(&mut self, log_id: LogId, mut rows: Batch) -> io::Result<()> {
        let (key, row) = self.row_at(log_id)?;
        rows.put(key, row);
        self.engine.write(rows);
        self.publish(log_id);
        Ok(())
    }

    fn row_at(&self, log_id: LogId) -> io::Result<(Bytes, Bytes)> {
        let state = self.state.as_ref().ok_or_else(|| uninitialised(self.identity))?;
        Ok((
            range_row_key(self.identity.range),
            row::encode(state, Some(log_id), &self.membership),
        ))
    }

    fn publish(&mut self, log_id: LogId) {
        self.applied = Some(log_id);
        if let Some(state) = &self.state {
            self.shared.update(|view| refresh(view, state, log_id));
        }
    }
}

impl RaftStateMachine<TypeConfig> for RangeMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotTaker;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Entries>(&mut self, mut entries: Entries) -> Result<(), io::Error>
    where
        Entries: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some(entry) = entries.next().await {
            self.apply_entry(entry?).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotTaker {
        SnapshotTaker::new(self.engine.clone(), self.identity.range)
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        let SnapshotData::Staged(path) = data else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a snapshot is installed from a file",
            ));
        };
        let old_span = self.state.as_ref().map(|state| state.descriptor.span.clone());
        snapshot::install(&self.engine, &*self.host, self.identity, meta, &path, old_span).await?;
        let view = self.engine.view().await?;
        self.load(&view).map_err(io::Error::other)?;
        self.host.changed(self.identity.range);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshot = snapshot::take(&self.engine, self.identity.range).await?;
        if let Some(position) = snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id) {
            self.shared.snapshot_taken(position.index);
        }
        Ok(snapshot)
    }
}

fn range_row_key(range: RangeId) -> Bytes {
    Bytes::copy_from_slice(&keys::range_row(range))
}

fn view_of(state: &RangeState, applied: Option<LogId>) -> RangeView {
    RangeView {
        descriptor: Some(state.descriptor.clone()),
        applied,
        last_revision: state.last_revision,
        size_bytes: state.size_bytes,
        keys: state.keys,
        merge: state.merge,
    }
}

/// As [`view_of`], without touching what has not changed.
fn refresh(view: &mut RangeView, state: &RangeState, applied: LogId) {
    if !view
        .descriptor
        .as_ref()
        .is_some_and(|known| Arc::ptr_eq(known, &state.descriptor))
    {
        view.descriptor = Some(state.descriptor.clone());
    }
    view.applied = Some(applied);
    view.last_revision = state.last_revision;
    view.size_bytes = state.size_bytes;
    view.keys = state.keys;
    view.merge = state.merge;
}

fn uninitialised(identity: Identity) -> io::Error {
    let Identity {
        range,
        replica,
        store: StoreId(_),
    } = identity;
    io::Error::other(format!(
        "replica {replica} of range {range} has an entry to apply and no snapshot"
    ))
}

#[cfg(test)]
#[path = "machine_test.rs"]
mod tests;
