//! Whether a replica's bounds are those that its range has now: it has applied every split and merge.
//!
//! Each of them raises the version of the bounds. So a leader that answers a linearizable read under the version that this
//! replica has says that it has missed none.

use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::key::Key;
use holdfast_common::net::client::Lane;
use holdfast_common::proto::kv::{self, Consistency, GetAnswer, GetRequest, Target};
use holdfast_common::proto::{self, method};

use super::Replica;

impl Replica {
    /// Whether this replica has applied every split and merge of its range that was done before the call. False also when that
    /// can't be learnt within `patience`.
    pub(crate) async fn has_current_bounds(&self, patience: Duration) -> bool {
        let Some(held) = self.descriptor() else {
            return false;
        };
        let bounds = held.epoch.bounds;
        if self.leads() {
            let confirmed = clock::timeout(patience, self.confirm()).await;
            let now = self.descriptor().map(|now| now.epoch.bounds);
            return matches!(confirmed, Ok(Ok(()))) && now == Some(bounds);
        }
        let (range, start) = (self.range, held.span.start());
        let first = if start.is_empty() { &[0] } else { &start[..] };
        let Ok(key) = Key::new(first.to_vec()) else {
            return false;
        };
        let request = GetRequest {
            target: Target { range, bounds },
            consistency: Consistency::Linearizable,
            key,
        };
        self.leader_answers(&request, patience).await
    }

    /// Whether the leader answers a read.
    async fn leader_answers(&self, request: &GetRequest, patience: Duration) -> bool {
        let leader = self.leader().filter(|leader| *leader != self.id);
        let store = leader.and_then(|leader| self.store_of(leader));
        let Some(address) = store.and_then(|store| self.site.addresses.get(store)) else {
            return false;
        };
        let deadline = clock::now() + patience;
        let peer = self.site.client.peer(&address, Lane::Bulk);
        let answer = peer.call(method::KV_GET, proto::encode(request), deadline).await;
        let answer = answer
            .ok()
            .and_then(|answer| proto::decode::<Result<GetAnswer, kv::Error>>(&answer).ok());
        matches!(answer, Some(Ok(_)))
    }
}
