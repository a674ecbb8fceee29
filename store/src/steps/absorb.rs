//! Taking over the right neighbour: the target's part of a merge (`docs/split-merge.md`).

use std::sync::Arc;

use holdfast_common::clock;
use holdfast_common::ids::StoreId;
use holdfast_common::proto::merge::Absorb as Request;
use holdfast_common::proto::placement::{Step, StepError};
use holdfast_common::range::Descriptor;

use super::STEP_TIMEOUT;
use crate::apply::MergeAnswer;
use crate::apply::merge::has_voters_only;
use crate::command::{Absorb, Command};
use crate::host::Host;
use crate::metrics;
use crate::replica::Replica;
use crate::state::Merge;

impl Host {
    /// Has the range left of the request's first key take over what begins there, or asks it whether it would. Done when
    /// it has applied that.
    ///
    /// # Errors
    /// It has not, or its leader is not here.
    pub(crate) async fn absorb(self: &Arc<Self>, request: Request) -> Result<(), StepError> {
        if self.has_later(&request) {
            return Ok(());
        }
        let target = self
            .left_of(&request)
            .ok_or(StepError::NoSuchRange(request.source))?;
        if !target.leads() {
            return Err(StepError::NotLeader(target.range));
        }
        // What ends where the source begins may have taken it over long ago, and have given those keys away again since.
        if request.frozen.is_some() && self.replica(request.source).is_none() {
            return Err(StepError::Busy(
                "nothing is here of what is to be taken over".to_owned(),
            ));
        }
        let absorbing = clock::timeout(STEP_TIMEOUT, target.absorb(&request));
        let absorbed = absorbing.await;
        absorbed.unwrap_or_else(|_| Err(StepError::Busy("it takes long".to_owned())))
    }

    /// Whether a replica here holds the source's first key under later bounds: the source has been taken over. One that holds it
    /// under older bounds has not applied the split that gave it away.
    fn has_later(&self, request: &Request) -> bool {
        let is_later =
            |range: &Descriptor| range.span.contains(&request.start) && range.epoch.bounds > request.bounds;
        self.other_than(request, is_later).is_some()
    }

    /// The replica that ends where the source begins.
    fn left_of(&self, request: &Request) -> Option<Arc<Replica>> {
        self.other_than(request, |range| range.span.end() == &request.start)
    }

    fn other_than(&self, request: &Request, is_it: impl Fn(&Descriptor) -> bool) -> Option<Arc<Replica>> {
        let replicas = self.replicas().into_iter();
        let mut others = replicas.filter(|other| other.range != request.source);
        others.find(|other| other.descriptor().is_some_and(|range| is_it(&range)))
    }

    /// Whether a step may be taken beside a merge: while a range is frozen, who holds it or its left neighbour must not
    /// change, for each store needs a replica of both.
    pub(super) fn may_change(&self, replica: &Replica, step: &Step) -> Result<(), StepError> {
        if !matches!(
            step,
            Step::AddLearner { .. } | Step::ChangeVoters { .. } | Step::TransferLeader { .. }
        ) {
            return Ok(());
        }
        let merging = || Err(StepError::Busy("the range is being merged".to_owned()));
        if matches!(replica.shared.merge(), Merge::Frozen { .. }) {
            return merging();
        }
        let Some(descriptor) = replica.descriptor() else {
            return Ok(());
        };
        let end = descriptor.span.end();
        let is_next = |other: &Replica| {
            let begins_there = other.descriptor().is_some_and(|range| range.span.start() == end);
            !end.is_empty() && begins_there
        };
        let next = self.replicas().into_iter().find(|other| is_next(other));
        match next.map(|next| next.shared.merge()) {
            None | Some(Merge::No) => Ok(()),
            Some(_) if matches!(step, Step::TransferLeader { .. }) => Ok(()),
            Some(_) => merging(),
        }
    }
}

impl Replica {
    async fn absorb(self: &Arc<Self>, request: &Request) -> Result<(), StepError> {
        let Some(frozen) = request.frozen else {
            self.fits(request)?;
            let confirmed = self.confirm().await;
            return confirmed.map_err(|error| StepError::Busy(error.to_string()));
        };
        let _slot = self.begin_step()?;
        let term = self.standing().term;
        let descriptor = self.fits(request)?;
        let absorb = Absorb {
            bounds: descriptor.epoch.bounds,
            membership: descriptor.epoch.membership,
            source: request.source,
            frozen,
        };
        let (_, answer) = self
            .propose_in::<MergeAnswer>(term, &Command::Absorb(absorb), || {})
            .await?;
        answer.map_err(|refused| StepError::Busy(refused.to_string()))?;
        metrics::merged();
        tracing::info!(range = %self.range, source = %request.source, "the range took over its right neighbour");
        Ok(())
    }

    /// Whether this range, as applied here, can take over the source.
    fn fits(&self, request: &Request) -> Result<Arc<Descriptor>, StepError> {
        let busy = |why: &str| Err(StepError::Busy(why.to_owned()));
        let Some(descriptor) = self.descriptor() else {
            return Err(StepError::NoSuchRange(self.range));
        };
        if descriptor.span.end() != &request.start {
            return busy("the left neighbour has changed its bounds");
        }
        if self.shared.merge() != Merge::No {
            return busy("the left neighbour is being merged itself");
        }
        if !has_voters_only(&descriptor) || stores(&descriptor) != request.stores {
            return busy("the left neighbour does not lie on the same stores");
        }
        Ok(descriptor)
    }
}

/// The stores of a range, ascending.
pub(super) fn stores(descriptor: &Descriptor) -> Vec<StoreId> {
    let mut stores: Vec<_> = descriptor.replicas.iter().map(|replica| replica.store).collect();
    stores.sort_unstable();
    stores
}
