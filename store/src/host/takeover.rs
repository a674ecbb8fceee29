//! Taking a range over on this store, and making way for snapshots over what was taken over elsewhere: see
//! [`takeover`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::ids::{RangeId, ReplicaId};
use tokio_util::task::TaskTracker;

use super::effects::Effects;
use super::{Host, Turn};
use crate::command::Absorb;
use crate::destroy;
use crate::machine::RangeHost;
use crate::replica::Replica;
use crate::snapshot::Header;
use crate::state::RangeState;
use crate::takeover::{self, Site};

/// How long another store may take to say whether a replica of this one is up to date.
const PATIENCE: Duration = Duration::from_secs(1);

/// A replica that was taken over and is not buried yet.
pub(super) struct Ended {
    replica: ReplicaId,
    turn: Turn,
}

impl Host {
    /// Ends the source's replica on this store and keeps its turn for [`taken_over`](Self::taken_over).
    pub(super) async fn take_over(&self, absorb: &Absorb) -> io::Result<RangeState> {
        let range = absorb.source;
        let turn = self.turn(range).await;
        if let Some(running) = self.replica(range) {
            self.stop(&turn, &running).await;
        }
        let host: Arc<dyn RangeHost> = Arc::new(Effects::new(self.me.clone(), &TaskTracker::new()));
        let site = Site {
            engine: &self.site.engine,
            log: &self.log,
            ledger: &self.ledger,
            store: self.site.store,
        };
        let state = takeover::conclude(site, host, absorb).await?;
        let replica = state.identity.replica;
        self.ended.insert(range, Ended { replica, turn });
        Ok(state)
    }

    /// Buries the source's replica, whose rows are the target's now.
    pub(super) fn taken_over(self: &Arc<Self>, source: RangeId) {
        if let Some((_, Ended { replica, turn })) = self.ended.remove(&source) {
            tracing::info!(range = %source, %replica, "the range went into its left neighbour");
            self.burials.spawn(self.clone().bury(source, replica, turn));
        }
    }

    async fn bury(self: Arc<Self>, range: RangeId, replica: ReplicaId, turn: Turn) {
        let (engine, log, ledger) = (&self.site.engine, &self.log, &self.ledger);
        let buried = async {
            takeover::bury(engine, log, ledger, range, replica).await?;
            Ok::<_, destroy::Error>(self.births.forget(replica).await?)
        };
        if let Err(error) = buried.await {
            self.site
                .alarm
                .raise(format!("burying replica {replica} of range {range}: {error}"));
        }
        drop(turn);
        self.site.changed.notify_one();
    }

    /// Destroys a replica that stands in the way of a snapshot, if its range is known to be no more: the snapshot's range
    /// holds its first key under larger bounds, which only a merge brings about. Not while a replica of this store ends
    /// where it begins and may have to take it over. One whose bounds are as large as the snapshot's has done with that, for the bounds that
    /// come of a merge are larger than both ranges' before; and so has one that has missed no change of its bounds until now.
    /// What makes way may lead what is left of its group, if that is only itself.
    pub(super) fn make_way(&self, dead: RangeId, snapshot: &Header) {
        let Some(replica) = self.replica(dead) else { return };
        let Some(held) = replica.descriptor() else { return };
        let start = held.span.start();
        let is_dead = snapshot.row.span.contains(start) && snapshot.row.bounds > held.epoch.bounds;
        if !is_dead {
            return;
        }
        let Some(host) = self.me.upgrade() else { return };
        let (start, bounds, by) = (start.clone(), snapshot.row.bounds, snapshot.range);
        self.burials.spawn(async move {
            let mut done = Vec::new();
            for left in host.ending_at(&start, bounds, by) {
                if !left.has_current_bounds(PATIENCE).await {
                    return;
                }
                done.push(left.id);
            }
            // Another may have come meanwhile.
            let came = host.ending_at(&start, bounds, by);
            if came.iter().any(|left| !done.contains(&left.id)) {
                return;
            }
            tracing::info!(range = %dead, replica = %replica.id, %by, "a replica of a range that was merged away makes way");
            if let Err(error) = host.fence(dead, replica.id).await {
                tracing::warn!(range = %dead, %error, "a dead replica could not be destroyed");
            }
        });
    }

    /// The replicas of this store, but for one of `except`, that end at `key` under bounds below `bounds`.
    fn ending_at(&self, key: &Bytes, bounds: u64, except: RangeId) -> Vec<Arc<Replica>> {
        let others = self.replicas.iter().filter(|other| other.range != except);
        let ends_there = |other: &Replica| {
            let held = other.descriptor();
            held.is_some_and(|held| !key.is_empty() && held.span.end() == key && held.epoch.bounds < bounds)
        };
        others
            .filter(|other| ends_there(other))
            .map(|other| other.value().clone())
            .collect()
    }

    /// Wakes a replica whose range is in the middle of a merge.
    pub(super) fn look_at_merge(&self, range: RangeId) {
        if let Some(replica) = self.replica(range) {
            replica.merging.notify_one();
        }
    }
}
