//! Where the other stores are.
//!
//! The placement driver's map says; what it said is kept on disk, because a store that starts while the driver is away must
//! still find its peers.

use std::collections::HashMap;

use bytes::Bytes;
use holdfast_common::ids::StoreId;
use holdfast_common::proto::placement::StoreRoute;
use holdfast_common::raft::log::{self, LocalWrite, LogEngine};
use holdfast_common::raft::network::Resolve;
use parking_lot::RwLock;

/// Prefix of the records in the log's database: store id (8 bytes, big endian) → address.
const ADDRESS: &[u8] = b"address/";

/// The address book of a store.
#[derive(Debug, Default)]
pub(crate) struct Addresses(RwLock<HashMap<StoreId, String>>);

impl Addresses {
    /// What was known before the process started. Records that don't read are passed over: the map will tell again.
    pub(crate) fn load(log: &LogEngine) -> Result<Self, log::Error> {
        let read = |(key, value): (Bytes, Bytes)| {
            let store = StoreId(u64::from_be_bytes(key[ADDRESS.len()..].try_into().ok()?));
            Some((store, String::from_utf8(value.into()).ok()?))
        };
        let known = log.local_scan(ADDRESS)?.into_iter().filter_map(read).collect();
        Ok(Self(RwLock::new(known)))
    }

    /// The address of a store, if it is known.
    pub(crate) fn get(&self, store: StoreId) -> Option<String> {
        self.0.read().get(&store).cloned()
    }

    /// Learns addresses, and keeps those that are new. They count at once, and after a restart when this has returned.
    pub(crate) async fn learn(&self, log: &LogEngine, stores: Vec<StoreRoute>) -> Result<(), log::Error> {
        let mut writes = Vec::new();
        for StoreRoute { id, rpc_address } in stores {
            if self.0.read().get(&id) != Some(&rpc_address) {
                let key = [ADDRESS, &id.0.to_be_bytes()].concat().into();
                writes.push(LocalWrite::Put(
                    key,
                    Bytes::copy_from_slice(rpc_address.as_bytes()),
                ));
                self.0.write().insert(id, rpc_address);
            }
        }
        if writes.is_empty() {
            Ok(())
        } else {
            log.local_commit(writes).await
        }
    }
}

impl Resolve for Addresses {
    fn address(&self, store: StoreId) -> Option<String> {
        self.get(store)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::raft::log::Options;

    use super::*;

    fn route(id: u64, address: &str) -> StoreRoute {
        StoreRoute {
            id: StoreId(id),
            rpc_address: address.to_owned(),
        }
    }

    #[tokio::test]
    async fn what_was_learned_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogEngine::open(dir.path(), Options::default()).unwrap();
        let addresses = Addresses::load(&log).unwrap();
        addresses
            .learn(&log, vec![route(1, "a:1"), route(2, "b:1")])
            .await
            .unwrap();
        addresses.learn(&log, vec![route(2, "b:2")]).await.unwrap();
        log.close().await;

        let log = LogEngine::open(dir.path(), Options::default()).unwrap();
        let addresses = Addresses::load(&log).unwrap();
        assert_eq!(addresses.get(StoreId(1)).as_deref(), Some("a:1"));
        assert_eq!(addresses.get(StoreId(2)).as_deref(), Some("b:2"));
        assert_eq!(addresses.get(StoreId(3)), None);
        log.close().await;
    }
}
