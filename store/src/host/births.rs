//! How replicas come to be on the driver's order.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_common::failpoint;
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::key::Span;
use holdfast_common::proto::placement::StepError;
use holdfast_common::proto::recovery::Recover;
use holdfast_common::raft::log::{self, LocalWrite, LogEngine};
use holdfast_common::raft::types::{LogId, StoredMembership};
use holdfast_common::range::{Descriptor, Epoch, Replica as Member, Role};
use holdfast_common::revision::Revision;

use super::{Error, Host, Turn};
use crate::apply::BIRTH_INDEX;
use crate::engine::Batch;
use crate::keys;
use crate::replica::Replica;
use crate::row;
use crate::sessions::Sessions;
use crate::state::{Identity, Merge, RangeState};
use crate::tokens::Tokens;

/// Prefix of the records of [`Births`].
const CREATED: &[u8] = b"created/";

/// Remembers, in the log's database, the replicas that were created empty, so that one that nothing was sent to yet is
/// there again after a restart.
pub(crate) struct Births(LogEngine);

impl Births {
    pub(crate) fn new(log: LogEngine) -> Self {
        Self(log)
    }

    /// Every replica that was created empty and is neither destroyed nor forgotten. Records that don't read are passed
    /// over: the driver creates such a replica again.
    pub(super) fn all(&self) -> Result<Vec<(RangeId, ReplicaId)>, log::Error> {
        let id = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
        let read = |(key, value): (Bytes, Bytes)| {
            Some((RangeId(id(&value)?), ReplicaId(id(&key[CREATED.len()..])?)))
        };
        Ok(self.0.local_scan(CREATED)?.into_iter().filter_map(read).collect())
    }

    /// Whether a replica was created empty here that came to its range after `replica`: ids grow, and those of a split were
    /// given out before any that joined the range later.
    ///
    /// # Errors
    /// The log failed.
    pub(crate) fn has_later(&self, range: RangeId, replica: ReplicaId) -> Result<bool, log::Error> {
        let mut all = self.all()?.into_iter();
        Ok(all.any(|(of, created)| of == range && created > replica))
    }

    async fn record(&self, range: RangeId, replica: ReplicaId) -> Result<(), log::Error> {
        let value = Bytes::copy_from_slice(&range.0.to_be_bytes());
        self.0
            .local_commit(vec![LocalWrite::Put(key(replica), value)])
            .await
    }

    pub(super) async fn forget(&self, replica: ReplicaId) -> Result<(), log::Error> {
        self.0.local_commit(vec![LocalWrite::Delete(key(replica))]).await
    }
}

fn key(replica: ReplicaId) -> Bytes {
    [CREATED, &replica.0.to_be_bytes()].concat().into()
}

impl Host {
    /// Creates the cluster's first range, over the whole key space, with this store as its only member.
    pub(crate) async fn create_first(
        self: &Arc<Self>,
        range: RangeId,
        replica: ReplicaId,
    ) -> Result<(), StepError> {
        let turn = self.turn(range).await;
        if self.runs_already(range, replica)? {
            return Ok(());
        }
        if let Some(other) = self.site.ranges.overlaps(replica, &Span::everything()) {
            return Err(StepError::Refused(format!(
                "range {other} holds data on this store already"
            )));
        }
        let epoch = Epoch {
            bounds: 1,
            membership: BIRTH_INDEX,
        };
        self.found(&turn, range, replica, Span::everything(), epoch)
            .await?;
        tracing::info!(%range, %replica, "the first range was created");
        Ok(())
    }

    /// Begins a range anew of which nothing is left, with this store as its only member.
    pub(super) async fn begin_anew(
        self: &Arc<Self>,
        range: RangeId,
        order: Recover,
    ) -> Result<(), StepError> {
        let turn = self.turn(range).await;
        if self.runs_already(range, order.to)? {
            return Ok(());
        }
        let (replica, span) = (order.to, order.span);
        let overlapping = self.site.ranges.overlaps(replica, &span);
        if let Some(other) = overlapping.or_else(|| self.ledger.destroying_overlaps(&span)) {
            return Err(StepError::Busy(format!(
                "range {other} holds part of {span} on this store"
            )));
        }
        self.found(&turn, range, replica, span, order.epoch).await?;
        tracing::warn!(%range, %replica, "the range begins anew, empty: nothing was left of it");
        Ok(())
    }

    /// Creates an empty replica, which waits for a snapshot.
    pub(crate) async fn create_empty(
        self: &Arc<Self>,
        range: RangeId,
        replica: ReplicaId,
    ) -> Result<(), StepError> {
        let turn = self.turn(range).await;
        if self.runs_already(range, replica)? {
            return Ok(());
        }
        self.births
            .record(range, replica)
            .await
            .map_err(|error| self.log_failed(&error))?;
        failpoint::reached(failpoint::Step::ReplicaNoted);
        let fresh = self.is_fresh(range, replica);
        let created = self.start(&turn, range, replica, fresh).await;
        created.map_err(|error| self.start_failed(range, &error))?;
        tracing::info!(%range, %replica, "an empty replica was created");
        Ok(())
    }

    /// Whether nothing is known of a replica's ever having run here.
    pub(super) fn is_fresh(&self, range: RangeId, replica: ReplicaId) -> bool {
        self.log
            .log_bounds(range, replica)
            .is_ok_and(|bounds| bounds.vote.is_none())
    }

    /// A replica that can't be started leaves the store without a part of its state.
    pub(super) fn start_failed(&self, range: RangeId, error: &Error) -> StepError {
        self.site.alarm.raise(format!("starting range {range}: {error}"));
        StepError::Busy("the store has failed".to_owned())
    }

    /// Whether the step that creates this replica is done; refused when it must never be.
    fn runs_already(&self, range: RangeId, replica: ReplicaId) -> Result<bool, StepError> {
        match self.replica(range) {
            Some(running) if running.id == replica => Ok(true),
            Some(running) => Err(StepError::Busy(format!(
                "replica {} of the range is here",
                running.id
            ))),
            None if self.ledger.buried(replica) => Err(StepError::Refused(format!(
                "replica {replica} was destroyed on this store"
            ))),
            None => Ok(false),
        }
    }

    /// Writes the row of a range that has nothing yet, starts it and has it elected. It is born as the child of a split is,
    /// behind a log position that no leader wrote: so whoever joins it later gets a snapshot, and with it the bounds, which
    /// no entry of a log carries.
    async fn found(
        &self,
        turn: &Turn,
        range: RangeId,
        replica: ReplicaId,
        span: Span,
        epoch: Epoch,
    ) -> Result<(), StepError> {
        let created = self.write_and_start(turn, range, replica, span, epoch).await;
        let created = created.map_err(|error| self.start_failed(range, &error))?;
        // It is alone: it is elected at once.
        let elected = created.raft.trigger().elect(false).await;
        elected.map_err(|_| StepError::Busy("the replica is stopping".to_owned()))
    }

    async fn write_and_start(
        &self,
        turn: &Turn,
        range: RangeId,
        replica: ReplicaId,
        span: Span,
        epoch: Epoch,
    ) -> Result<Arc<Replica>, Error> {
        let store = self.site.store;
        let members = vec![Member {
            id: replica,
            store,
            role: Role::Voter,
        }];
        let born = LogId::new_term_index(0, epoch.membership);
        let membership = StoredMembership::new(Some(born), row::membership_of(&members));
        let state = RangeState {
            identity: Identity {
                range,
                replica,
                store,
            },
            descriptor: Arc::new(Descriptor {
                id: range,
                span,
                epoch,
                replicas: members,
            }),
            last_revision: Revision::ZERO,
            size_bytes: 0,
            keys: 0,
            sessions: Sessions::default(),
            merge: Merge::No,
            tokens: Tokens::default(),
        };
        let mut batch = Batch::with_capacity(1);
        let key = Bytes::copy_from_slice(&keys::range_row(range));
        batch.put(key, row::encode(&state, Some(born), &membership));
        self.site.engine.write(batch);
        self.site.engine.persist().await?;
        failpoint::reached(failpoint::Step::RangeFounded);
        let fresh = self.is_fresh(range, replica);
        self.start(turn, range, replica, fresh).await
    }
}
