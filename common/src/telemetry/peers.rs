//! The label that names another store. Stores come and go over the years, and each leaves its series behind: so only the
//! first that a process meets get their own.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::ids::StoreId;

/// Peers with series of their own.
const MAX_PEERS: usize = 64;

static PEERS: Mutex<BTreeSet<StoreId>> = Mutex::new(BTreeSet::new());

/// The value of a label `peer_store`: the store's id, or `other` when there are too many already.
pub fn peer_label(store: StoreId) -> String {
    label(&mut PEERS.lock(), store)
}

fn label(known: &mut BTreeSet<StoreId>, store: StoreId) -> String {
    if known.contains(&store) || (known.len() < MAX_PEERS && known.insert(store)) {
        store.to_string()
    } else {
        "other".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_beyond_the_bound_share_a_label() {
        let mut known = BTreeSet::new();
        for store in 1..=MAX_PEERS as u64 {
            assert_eq!(label(&mut known, StoreId(store)), store.to_string());
        }
        assert_eq!(label(&mut known, StoreId(1_000)), "other");
        assert_eq!(label(&mut known, StoreId(1)), "1");
        assert_eq!(known.len(), MAX_PEERS);
    }
}
