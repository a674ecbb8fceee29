//! Standing for election as soon as the leader's store is known to be lost.
//!
//! openraft's followers wait for the lease to run out and then for an election timeout besides, each for a time drawn by
//! lot, so that they seldom stand at once. A store knows more: it asks the others whether they live, once for all ranges,
//! and the voters of a range have an order of succession. So the first heir stands when the lease is over, the second a
//! moment later, and what openraft would do by itself remains for whatever this does not see.
//!
//! It is safe at any time: the candidate asks first whether it would be voted for, and neither it nor whoever it asks agrees
//! before the lease that it gave the leader has run out by its own clock.

use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::ids::{ReplicaId, StoreId};
use holdfast_common::net::Lane;
use holdfast_common::proto::hibernation::AreYouThere;
use holdfast_common::proto::{self, method};

use super::Replica;
use crate::hibernate;

impl Replica {
    /// The store of the leader that it follows, and its place among the heirs; nothing for who leads or follows nobody.
    pub(crate) fn follows(&self) -> Option<(StoreId, u32)> {
        let leader = self.leader().filter(|leader| *leader != self.id)?;
        Some((self.store_of(leader)?, self.rank(leader)))
    }

    /// Whether another replica's store was, as far as is known, started so lately that it does not vote yet.
    pub(crate) fn is_just_started(&self, other: ReplicaId) -> bool {
        let liveness = &self.site.dormitory.liveness;
        let grace = self.site.terms.grace();
        let now = clock::now();
        self.store_of(other)
            .is_some_and(|store| liveness.was_reborn_within(store, grace, now))
    }

    /// Whether another replica's store says within `patience` that it lives.
    pub(crate) async fn answers(&self, other: ReplicaId, patience: Duration) -> bool {
        let Some(store) = self.store_of(other) else {
            return false;
        };
        let Some(address) = self.site.addresses.get(store) else {
            return false;
        };
        let (asked, body) = (clock::now(), proto::encode(&AreYouThere {}));
        let peer = self.site.client.peer(&address, Lane::Fast);
        let answer = peer.call(method::STORE_ALIVE, body, asked + patience).await;
        let incarnation = hibernate::incarnation(store, answer);
        if let Some(incarnation) = incarnation {
            let liveness = &self.site.dormitory.liveness;
            liveness.want(store, asked);
            liveness.heard(store, incarnation, asked);
        }
        incarnation.is_some()
    }

    /// A store is back: what its replica lacks is sent at once, and not after the pause that came of failing for long.
    pub(crate) fn send_at_once(&self, store: StoreId) {
        let membership = self.stored_membership();
        let others = membership.membership().nodes().filter(|(id, _)| **id != self.id);
        let there: Vec<_> = others
            .filter(|(_, node)| node.store == store)
            .map(|(id, _)| *id)
            .collect();
        if there.is_empty() || !self.leads() {
            return;
        }
        let raft = self.raft.clone();
        // A group that has just ended has nothing to send.
        tokio::spawn(async move { raft.trigger().reset_backoff(there).await.ok() });
    }

    /// The stores of the others of its group.
    pub(crate) fn fellow_stores(&self) -> Vec<StoreId> {
        let membership = self.stored_membership();
        let others = membership.membership().nodes().filter(|(id, _)| **id != self.id);
        others.map(|(_, node)| node.store).collect()
    }

    /// Stands for election, if a majority would have it. Asked again, it asks them again.
    pub(crate) fn stand(&self) {
        tracing::debug!(range = %self.range, replica = %self.id, "the leader's store is lost: it stands for election");
        let raft = self.raft.clone();
        // A group that has just ended needs no leader.
        tokio::spawn(async move { raft.trigger().elect(true).await.ok() });
    }
}
