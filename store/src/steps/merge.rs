//! Going into the left neighbour: the source's part of a merge, driven by the source's leader (`docs/split-merge.md`).
//!
//! What to do next is a function of how far the range has come ([`Merge`]) and of whether this leader began it. So whoever
//! leads a range that is frozen, or has yielded, can go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::ids::StoreId;
use holdfast_common::net::Lane;
use holdfast_common::proto::merge::Absorb as Request;
use holdfast_common::proto::placement::StepError;
use holdfast_common::proto::{self, method};
use openraft::async_runtime::watch::WatchReceiver;

use super::absorb::stores;
use crate::apply::MergeAnswer;
use crate::command::Command;
use crate::metrics;
use crate::replica::Replica;
use crate::state::Merge;

/// How long the range may be frozen while a replica lacks the freeze.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Most entries that a replica may lack when the range is frozen.
const MAX_LAG: u64 = 256;

/// How long one store is asked.
const ASK: Duration = Duration::from_secs(5);

/// Pause between two rounds of asking for the target's leader; jittered.
const PAUSE: Duration = Duration::from_millis(50);

impl Replica {
    /// Gives the range to its left neighbour, and returns when that has taken it over.
    pub(super) async fn merge(self: &Arc<Self>, bounds: u64) -> Result<(), StepError> {
        let driver = tokio::spawn(self.clone().drive_merge(Some(bounds)));
        let ended = driver.await;
        // Whatever state it left the range in is looked at again.
        self.merging.notify_one();
        ended.unwrap_or_else(|_| Err(StepError::Busy("the merge was interrupted".to_owned())))
    }

    /// Goes on with a merge that this replica finds begun, if it leads: called whenever it may have come to lead, or the
    /// range to be in a merge.
    pub(crate) fn resume_merge(self: &Arc<Self>) {
        if self.shared.merge() == Merge::No || !self.leads() || self.driving.load(Ordering::Acquire) {
            return;
        }
        let replica = self.clone();
        tokio::spawn(async move {
            if let Err(error) = replica.clone().drive_merge(None).await {
                tracing::info!(range = %replica.range, %error, "a merge was not finished here");
                clock::sleep(clock::jittered(PAUSE)).await;
            }
            replica.merging.notify_one();
        });
    }

    /// `begin`: the bounds version from which to begin a merge, rather than go on with one.
    async fn drive_merge(self: Arc<Self>, begin: Option<u64>) -> Result<(), StepError> {
        let _driving = Driving::begin(&self.driving)?;
        let term = self.standing().term;
        match (self.shared.merge(), begin) {
            (Merge::No, Some(bounds)) => self.begin_merge(bounds, term).await,
            (Merge::No, None) => Ok(()),
            // Begun by an earlier leader, or by this one and given up: nobody knows what other replicas have.
            (Merge::Frozen { .. }, _) => self.thaw(term, "its leader changed").await,
            (Merge::Yielded { frozen }, _) => self.be_absorbed(frozen).await,
        }
    }

    async fn begin_merge(self: &Arc<Self>, bounds: u64, term: u64) -> Result<(), StepError> {
        let _slot = self.begin_step()?;
        let descriptor = self.descriptor().ok_or(StepError::NoSuchRange(self.range))?;
        if descriptor.epoch.bounds != bounds {
            return Err(StepError::Refused(format!(
                "the bounds are at version {}, the merge was meant for {bounds}",
                descriptor.epoch.bounds
            )));
        }
        let behind = self.peers().into_iter().find(|peer| {
            let near = peer.lag.is_some_and(|lag| lag <= MAX_LAG);
            !(peer.live && near)
        });
        if let Some(peer) = behind {
            return Err(StepError::Busy(format!(
                "replica {} is not live or far behind",
                peer.id
            )));
        }
        self.ask(None).await?;
        let begun = clock::now();
        let (frozen, answer) = self
            .propose_in::<MergeAnswer>(term, &Command::Freeze { bounds }, || {})
            .await?;
        answer.map_err(|refused| StepError::Refused(refused.to_string()))?;
        if clock::timeout(CATCH_UP, self.everyone_has(frozen)).await != Ok(true) {
            self.thaw(term, "a replica did not get the freeze in time")
                .await?;
            return Err(StepError::Busy(
                "a replica did not keep up; the range was thawed".to_owned(),
            ));
        }
        let give_up = Command::Yield { bounds: bounds + 1 };
        let (_, answer) = self.propose_in::<MergeAnswer>(term, &give_up, || {}).await?;
        answer.map_err(|refused| StepError::Busy(refused.to_string()))?;
        self.be_absorbed(frozen).await?;
        tracing::info!(range = %self.range, frozen_ms = begun.elapsed().as_millis() as u64, "the range was merged away");
        Ok(())
    }

    /// Waits until every member has the entry at `index` in its synced log; false when this replica leads no more.
    async fn everyone_has(&self, index: u64) -> bool {
        let mut metrics = self.raft.metrics();
        loop {
            let all = {
                let now = metrics.borrow_watched();
                let Some(replication) = &now.replication else {
                    return false;
                };
                let members = now.membership_config.membership().nodes();
                let mut others = members.map(|(id, _)| id).filter(|id| **id != self.id);
                others.all(|id| {
                    let matched = replication.get(id).cloned().flatten();
                    matched.is_some_and(|matched| matched.index >= index)
                })
            };
            if all {
                return true;
            }
            if metrics.changed().await.is_err() {
                return false;
            }
        }
    }

    async fn thaw(&self, term: u64, why: &str) -> Result<(), StepError> {
        let descriptor = self.descriptor().ok_or(StepError::NoSuchRange(self.range))?;
        let thaw = Command::Thaw {
            bounds: descriptor.epoch.bounds,
        };
        let (_, answer) = self.propose_in::<MergeAnswer>(term, &thaw, || {}).await?;
        answer.map_err(|refused| StepError::Busy(refused.to_string()))?;
        metrics::thawed();
        tracing::warn!(range = %self.range, why, "a merge was taken back");
        Ok(())
    }

    /// Asks the left neighbour to take the range over until it has, then waits for this replica's end.
    async fn be_absorbed(&self, frozen: u64) -> Result<(), StepError> {
        loop {
            match self.ask(Some(frozen)).await {
                Ok(()) => break,
                Err(error) if !self.leads() || self.is_stopped() => return Err(error),
                Err(error) => tracing::debug!(range = %self.range, %error, "not taken over yet"),
            }
            clock::sleep(clock::jittered(PAUSE)).await;
        }
        // The neighbour's replica here may still have to apply it.
        let _ = clock::timeout(ASK, self.stopped()).await;
        Ok(())
    }

    /// Asks whoever leads the left neighbour, which lies on the same stores.
    async fn ask(&self, frozen: Option<u64>) -> Result<(), StepError> {
        let descriptor = self.descriptor().ok_or(StepError::NoSuchRange(self.range))?;
        let request = Request {
            source: self.range,
            bounds: descriptor.epoch.bounds,
            start: descriptor.span.start().clone(),
            stores: stores(&descriptor),
            frozen,
        };
        let mut last = StepError::Busy("nobody leads the left neighbour".to_owned());
        let mut order = request.stores.clone();
        order.sort_by_key(|store| *store != self.site.store);
        for store in order {
            match self.ask_store(store, &request).await {
                Ok(()) => return Ok(()),
                Err(StepError::NotLeader(_) | StepError::NoSuchRange(_)) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_store(&self, store: StoreId, request: &Request) -> Result<(), StepError> {
        let unreachable = || StepError::Busy(format!("store {store} can't be reached"));
        let address = self.site.addresses.get(store).ok_or_else(unreachable)?;
        let deadline = clock::now() + ASK;
        let call = self.site.client.call(
            &address,
            Lane::Fast,
            method::STORE_ABSORB,
            proto::encode(request),
            deadline,
        );
        let answer = call.await.map_err(|_| unreachable())?;
        proto::decode(&answer).map_err(|error| StepError::Busy(error.to_string()))?
    }
}

/// Held by the one task that drives a range's merge.
struct Driving<'a>(&'a AtomicBool);

impl<'a> Driving<'a> {
    fn begin(driving: &'a AtomicBool) -> Result<Self, StepError> {
        if driving.swap(true, Ordering::AcqRel) {
            return Err(StepError::Busy("the merge is under way".to_owned()));
        }
        Ok(Self(driving))
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
