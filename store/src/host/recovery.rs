//! Bringing a range back from one survivor: see [`recovery`].

use std::sync::Arc;

use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::proto::placement::StepError;
use holdfast_common::proto::recovery::{LogEnd, MAX_SURVEYED, Recover, Survivor};
use holdfast_common::raft::log;
use holdfast_common::range::Descriptor;
use tokio_util::task::TaskTracker;

use super::effects::Effects;
use super::{Host, Turn};
use crate::ledger::Succession;
use crate::machine::RangeHost;
use crate::read::lease::Lease;
use crate::recovery;
use crate::replica::Replica;

impl Host {
    /// What the replicas of these ranges hold.
    pub(crate) fn survey(&self, ranges: &[RangeId]) -> Result<Vec<Survivor>, log::Error> {
        let here = ranges
            .iter()
            .take(MAX_SURVEYED)
            .filter_map(|range| self.replica(*range));
        here.map(|replica| self.examine(&replica)).collect()
    }

    #[cfg(test)]
    pub(crate) fn ledger_for_tests(&self) -> crate::ledger::Ledger {
        self.ledger.clone()
    }

    fn examine(&self, replica: &Replica) -> Result<Survivor, log::Error> {
        let membership = replica.membership();
        let descriptor = replica.descriptor();
        let descriptor = descriptor.map_or_else(
            || Descriptor::unknown(replica.range),
            |descriptor| (*descriptor).clone(),
        );
        Ok(Survivor {
            replica: replica.id,
            descriptor,
            last: self.log_end(replica.range, replica.id)?,
            configs: membership
                .get_joint_config()
                .iter()
                .map(|config| config.iter().copied().collect())
                .collect(),
            members: membership.nodes().map(|(id, node)| (*id, node.store)).collect(),
            has_majority: replica.lease() == Lease::Held,
        })
    }

    fn log_end(&self, range: RangeId, replica: ReplicaId) -> Result<LogEnd, log::Error> {
        let last = self.log.log_bounds(range, replica)?.last;
        Ok(last.map_or(LogEnd::default(), |last| LogEnd {
            term: last.leader_id.term,
            index: last.index,
        }))
    }

    /// Goes on with this store's replica alone. Refused, with nothing changed, unless the survivor is as it was when it was
    /// chosen; from the moment that the intent is recorded it is done, whatever happens.
    pub(crate) async fn recover(self: &Arc<Self>, range: RangeId, order: Recover) -> Result<(), StepError> {
        if !order.from.is_some() {
            return self.begin_anew(range, order).await;
        }
        let turn = self.turn(range).await;
        let survivor = match self.replica(range) {
            Some(running) if running.id == order.to => return Ok(()),
            Some(running) if running.id == order.from => running,
            _ => return Err(refused(format!("replica {} is not here", order.from))),
        };
        check(&survivor, &order)?;
        self.stop(&turn, &survivor).await;
        let last = self
            .log_end(range, order.from)
            .map_err(|error| self.log_failed(&error))?;
        if last != order.last {
            let restarted = self.start(&turn, range, order.from, false).await;
            restarted.map_err(|error| self.start_failed(range, &error))?;
            return Err(refused(format!(
                "its log ended with {} when it was chosen, and ends with {last} now: its group is not dead",
                order.last
            )));
        }
        let succession = Succession {
            from: order.from,
            to: order.to,
            epoch: order.epoch,
            span: order.span,
        };
        let succeeded = self.succeed(&turn, range, succession).await;
        succeeded.map_err(|error| {
            self.site
                .alarm
                .raise(format!("bringing range {range} back: {error}"));
            StepError::Busy("the store has failed".to_owned())
        })
    }

    async fn succeed(
        self: &Arc<Self>,
        turn: &Turn,
        range: RangeId,
        succession: Succession,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (from, to) = (succession.from, succession.to);
        self.ledger.begin_recovery(range, succession.clone()).await?;
        let machines = TaskTracker::new();
        let effects: Arc<dyn RangeHost> = Arc::new(Effects::new(self.me.clone(), &machines));
        recovery::carry_out(
            &self.site.engine,
            &self.log,
            &self.ledger,
            self.site.store,
            effects,
            range,
            &succession,
        )
        .await?;
        self.births.forget(from).await?;
        let successor = self.start(turn, range, to, true).await?;
        tracing::warn!(%range, %from, %to, "the range goes on with this replica alone: what only the lost ones held is gone");
        // It is alone: it is elected at once.
        if successor.raft.trigger().elect(false).await.is_err() {
            tracing::warn!(%range, replica = %to, "the range stopped before it could campaign");
        }
        Ok(())
    }
}

fn check(survivor: &Replica, order: &Recover) -> Result<(), StepError> {
    let Some(descriptor) = survivor.descriptor() else {
        return Err(refused("it waits for its first snapshot".to_owned()));
    };
    if survivor.lease() == Lease::Held {
        return Err(refused("it leads, and a majority answers it".to_owned()));
    }
    if !descriptor.span.overlaps(&order.span) {
        return Err(refused(format!("nothing of {} is here", order.span)));
    }
    if !order.epoch.is_at_least(descriptor.epoch) || order.epoch.generation() <= descriptor.epoch.generation()
    {
        return Err(refused(format!("epoch {} is not a later one", order.epoch)));
    }
    Ok(())
}

fn refused(why: String) -> StepError {
    StepError::Refused(why)
}
