//! The sending side: openraft's network factory and clients.
//!
//! One [`Outbound`] serves the process. A group has a [`GroupNetwork`], which makes a [`PeerReplica`] for every use that
//! openraft has for a peer: replication, heartbeats, votes, a snapshot.

mod failure;
mod heartbeats;
mod hush;
mod news;
mod peer;
mod pipeline;
mod snapshot;

use std::sync::Arc;

use openraft::network::RaftNetworkFactory;

pub use self::hush::Hush;
pub use self::news::Patience;
pub use self::peer::PeerReplica;
use super::metrics::Sent;
use super::{RaftTimings, Staging};
use crate::ids::{RangeId, ReplicaId, StoreId};
use crate::net;
use crate::proto::raft::Route;
use crate::raft::types::{Node, TypeConfig};

/// Knows where processes can be reached at this moment.
pub trait Resolve: Send + Sync + 'static {
    /// What to dial for a store (or member); `None` while that is not known. Asked for every message, so it must be cheap.
    fn address(&self, store: StoreId) -> Option<String>;
}

/// Sends the Raft messages of all groups of a process. Clones share everything.
#[derive(Clone)]
pub struct Outbound(Arc<Shared>);

/// What all senders of a process share.
struct Shared {
    client: net::Client,
    resolve: Arc<dyn Resolve>,
    staging: Arc<Staging>,
    timings: RaftTimings,
    sent: Sent,
    heartbeats: heartbeats::Links,
}

impl Outbound {
    /// Call it in a tokio runtime, after the metrics recorder is installed.
    pub fn new(
        client: net::Client,
        resolve: Arc<dyn Resolve>,
        staging: Arc<Staging>,
        timings: RaftTimings,
    ) -> Self {
        let (sent, heartbeats) = (Sent::new(), heartbeats::Links::default());
        Self(Arc::new(Shared {
            client,
            resolve,
            staging,
            timings,
            sent,
            heartbeats,
        }))
    }

    /// The network of one group's replica here. `may_wait` says which commands' commits followers may hear of late.
    pub fn group(&self, range: RangeId, replica: ReplicaId, may_wait: Patience) -> GroupNetwork {
        GroupNetwork {
            shared: self.0.clone(),
            range,
            replica,
            may_wait,
            hush: Hush::default(),
        }
    }
}

/// The network of one replica: what openraft takes.
pub struct GroupNetwork {
    shared: Arc<Shared>,
    range: RangeId,
    replica: ReplicaId,
    may_wait: Patience,
    hush: Hush,
}

impl GroupNetwork {
    /// The hold on this replica's heartbeats.
    pub fn hush(&self) -> Hush {
        self.hush.clone()
    }

    fn route(&self, to: ReplicaId) -> Route {
        Route {
            range: self.range,
            from: self.replica,
            to,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for GroupNetwork {
    type Network = PeerReplica;

    async fn new_client(&mut self, target: ReplicaId, node: &Node) -> PeerReplica {
        PeerReplica::new(self.shared.clone(), self.route(target), node.store, self.may_wait)
    }

    async fn new_heartbeat_client(&mut self, target: ReplicaId, node: &Node) -> PeerReplica {
        PeerReplica::for_heartbeats(
            self.shared.clone(),
            self.route(target),
            node.store,
            self.hush.clone(),
        )
    }
}
