//! Splitting a range: where, and safely.

use std::sync::Arc;

use holdfast_common::blocking;
use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::proto::placement::StepError;
use holdfast_common::range::Descriptor;

use crate::apply::SplitAnswer;
use crate::command::{Command, Split};
use crate::engine;
use crate::metrics;
use crate::middle::{self, Middle};
use crate::replica::Replica;

/// A split that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The bounds version that it starts from.
    pub bounds: u64,
    /// The first key of the right part; none for the middle of the data.
    pub at: Option<Key>,
    /// The id of the right part.
    pub right: RangeId,
    /// Replica ids of the right part, by store.
    pub replicas: Vec<(StoreId, ReplicaId)>,
    /// Whether the store decided it without the driver.
    pub alone: bool,
}

impl Replica {
    /// Splits the range, and returns when this replica has applied the split.
    pub(crate) async fn split(self: &Arc<Self>, order: Order) -> Result<(), StepError> {
        let descriptor = self.descriptor().ok_or(StepError::NoSuchRange(self.range))?;
        if descriptor.epoch.bounds > order.bounds {
            // Done, or overtaken by another.
            return Ok(());
        }
        let middle = self.find_cut(&descriptor, order.at).await?;
        let (at, alone) = (middle.at.clone(), order.alone);
        let split = Split {
            bounds: order.bounds,
            at: middle.at,
            right: order.right,
            replicas: order.replicas,
            right_size: middle.right_size,
            right_keys: middle.right_keys,
        };
        self.propose_split(split).await?;
        metrics::split(alone);
        tracing::info!(range = %self.range, right = %order.right, %at, alone, "the range was split");
        Ok(())
    }

    /// As [`split`](Self::split), unless another step is under way.
    pub(crate) async fn split_alone(self: &Arc<Self>, order: Order) -> Result<(), StepError> {
        let _slot = self.begin_step()?;
        self.split(order).await
    }

    /// The cut, with what lies on both sides of it. Reads all of the range, on a thread that may block.
    async fn find_cut(&self, descriptor: &Descriptor, at: Option<Key>) -> Result<Middle, StepError> {
        let failed = |error: engine::Error| {
            self.engine_failed(error);
            StepError::Busy("the store has failed".to_owned())
        };
        let view = self.site.engine.view().await.map_err(failed)?;
        let span = descriptor.span.clone();
        let found = blocking::run(move || match at {
            Some(at) => middle::sizes_at(&view, &span, &at),
            None => middle::middle(&view, &span),
        });
        let found = found
            .await
            .map_err(|_| StepError::Busy("looking for the cut was interrupted".to_owned()))?;
        found
            .map_err(failed)?
            .ok_or_else(|| StepError::Refused("there is no such cut inside the range".to_owned()))
    }

    async fn propose_split(self: &Arc<Self>, split: Split) -> Result<(), StepError> {
        let standing = self.standing();
        if !standing.leads {
            return Err(StepError::NotLeader(self.range));
        }
        if !self.fence.raise(standing.term, split.at.clone()) {
            return Err(StepError::Busy(
                "the outcome of another split is not known yet".to_owned(),
            ));
        }
        let replica = self.clone();
        // Lowered only then: when nobody waits any more, or no outcome comes, the fence must stand on. In another term it
        // would not hold.
        let lower = move || replica.fence.lower();
        let (_, answer) = self
            .propose_in::<SplitAnswer>(standing.term, &Command::Split(split), lower)
            .await?;
        answer.map_err(|refused| StepError::Refused(refused.to_string()))
    }
}
