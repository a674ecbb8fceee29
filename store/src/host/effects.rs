//! What applying an entry asks of the store: see [`RangeHost`].

use std::io;
use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;
use holdfast_common::failpoint::{self, Step};
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::key::Span;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Host, Turn};
use crate::apply::ChildSeed;
use crate::check;
use crate::command::Absorb;
use crate::machine::RangeHost;
use crate::shared::SharedRange;
use crate::state::{Identity, RangeState};

/// The store, as one state machine sees it. It does not keep the host alive, which keeps the machine.
pub(super) struct Effects {
    host: Weak<Host>,
    /// Goes when the machine goes.
    _machine: TaskTrackerToken,
}

impl Effects {
    /// For a machine that `machines` is to count for as long as it lives.
    pub(super) fn new(host: Weak<Host>, machines: &TaskTracker) -> Self {
        Self {
            host,
            _machine: machines.token(),
        }
    }
}

impl RangeHost for Effects {
    fn before_split<'a>(&'a self, child: &'a ChildSeed) -> BoxFuture<'a, io::Result<bool>> {
        async {
            let host = self
                .host
                .upgrade()
                .ok_or_else(|| io::Error::other("the store is stopping"))?;
            host.before_split(child).await
        }
        .boxed()
    }

    fn after_split(&self, child: ChildSeed) {
        if let Some(host) = self.host.upgrade() {
            host.after_split(child);
        }
    }

    fn take_over<'a>(&'a self, absorb: &'a Absorb) -> BoxFuture<'a, io::Result<RangeState>> {
        async {
            let host = self
                .host
                .upgrade()
                .ok_or_else(|| io::Error::other("the store is stopping"))?;
            host.take_over(absorb).await
        }
        .boxed()
    }

    fn taken_over(&self, source: RangeId) {
        if let Some(host) = self.host.upgrade() {
            host.taken_over(source);
        }
    }

    fn buried(&self, replica: ReplicaId) -> bool {
        self.host
            .upgrade()
            .is_some_and(|host| host.ledger.buried(replica))
    }

    fn overlaps(&self, me: ReplicaId, span: &Span) -> Option<RangeId> {
        let host = self.host.upgrade()?;
        host.site
            .ranges
            .overlaps(me, span)
            .or_else(|| host.ledger.destroying_overlaps(span))
    }

    fn check_begins(&self, me: Identity, check: u64) {
        if let Some(host) = self.host.upgrade() {
            check::begin(&host.site, me, check);
        }
    }

    fn check<'a>(&'a self, me: Identity, check: u64) -> BoxFuture<'a, ()> {
        async move {
            // Not the host: applying may wait for the engine, and whoever stops the host for what applies.
            let site = self.host.upgrade().map(|host| host.site.clone());
            if let Some(site) = site {
                check::at_entry(&site, me, check).await;
            }
        }
        .boxed()
    }

    fn changed(&self, range: RangeId) {
        if let Some(host) = self.host.upgrade() {
            // If a snapshot was being let in, it is installed now.
            host.site.ranges.release(range);
            host.site.changed.notify_one();
            host.look_at_merge(range);
        }
    }
}

impl Host {
    /// Takes the child's turn, which [`after_split`](Self::after_split) passes on to its start, and stops a replica that
    /// waits for a snapshot of it. False when the range has a later replica here, which is not to be replaced by the child's.
    async fn before_split(&self, child: &ChildSeed) -> io::Result<bool> {
        let range = child.descriptor.id;
        let turn = self.turn(range).await;
        if let Some(replica) = child.replica()
            && self.births.has_later(range, replica).map_err(io::Error::other)?
        {
            tracing::info!(%range, %replica, "the child of a split has a successor here already, and is not born");
            return Ok(false);
        }
        if let Some(running) = self.replica(range) {
            if running.descriptor().is_some() {
                return Err(io::Error::other(format!(
                    "range {range}, about to be born, has data here already"
                )));
            }
            self.stop(&turn, &running).await;
        }
        self.splitting.insert(range, turn);
        Ok(true)
    }

    /// Starts the child. On the store that leads the parent it campaigns at once, so that the new range is without a
    /// leader for a moment only.
    fn after_split(self: &Arc<Self>, child: ChildSeed) {
        let range = child.descriptor.id;
        let Some((_, turn)) = self.splitting.remove(&range) else {
            return;
        };
        let leads_parent = self.replicas.iter().any(|replica| {
            let ends_there = |span: &Span| span.end() == child.descriptor.span.start();
            replica
                .descriptor()
                .is_some_and(|parent| ends_there(&parent.span))
                && replica.leads()
        });
        let Some(replica) = child.replica() else { return };
        // Known at once, so that whoever asks the parent for what it lost learns where that is.
        let shared = SharedRange::default();
        shared.update(|view| view.descriptor = Some(child.descriptor.clone()));
        self.site.ranges.insert(range, replica, shared);
        tokio::spawn(self.clone().bear(turn, range, replica, leads_parent));
    }

    async fn bear(self: Arc<Self>, turn: Turn, range: RangeId, replica: ReplicaId, campaign: bool) {
        let fresh = self.is_fresh(range, replica);
        let started = self.start(&turn, range, replica, fresh).await;
        failpoint::reached(Step::ChildStarted);
        match started {
            Ok(child) if campaign => {
                if child.raft.trigger().elect(false).await.is_err() {
                    tracing::warn!(%range, %replica, "the range stopped before it could campaign");
                }
            }
            Ok(_) => {}
            Err(error) => drop(self.start_failed(range, &error)),
        }
    }
}
