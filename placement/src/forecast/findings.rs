//! How stores are loaded, and which rules are broken.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::range::{Descriptor, Role};

use crate::view::View;

/// One part in how many of a disk should stay free.
const SPARE: u64 = 20;

/// The label by which stores fail together.
const ZONE: &str = "zone";

/// What a store has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Replicas.
    pub replicas: usize,
    /// Ranges that it leads.
    pub leaders: usize,
    /// Bytes of its replicas, about.
    pub bytes: u64,
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A range that nobody can lead: it neither reads nor writes.
    NoMajority(RangeId),
    /// A range with fewer voters on stores that are not down than it should have.
    UnderReplicated(RangeId),
    /// A range with two voters in one zone, although there are zones enough.
    SharedZone(RangeId),
    /// A store with too little left of its disk.
    DiskNearlyFull(StoreId),
    /// Fewer stores than every range is to have replicas.
    TooFewStores {
        /// Stores that hold replicas.
        stores: usize,
        /// Replicas wanted.
        wanted: usize,
    },
}

impl Violation {
    /// Its name, in the admin API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoMajority(_) => "no_majority",
            Self::UnderReplicated(_) => "under_replicated",
            Self::SharedZone(_) => "shared_zone",
            Self::DiskNearlyFull(_) => "disk_nearly_full",
            Self::TooFewStores { .. } => "too_few_stores",
        }
    }
}

/// What every store that has not left has.
pub(super) fn loads(view: &View<'_>) -> BTreeMap<StoreId, Load> {
    let mut loads: BTreeMap<StoreId, Load> = view
        .state
        .present_stores()
        .map(|store| (store.id, Load::default()))
        .collect();
    for range in view.state.map.iter() {
        let leading = view.reports.leading(range.id);
        let bytes = leading.map_or(0, |leading| leading.size_bytes);
        for replica in &range.replicas {
            if let Some(load) = loads.get_mut(&replica.store) {
                load.replicas += 1;
                load.bytes += bytes;
            }
        }
        if let Some(load) = view
            .leader(range.id)
            .and_then(|leader| loads.get_mut(&leader.store))
        {
            load.leaders += 1;
        }
    }
    loads
}

/// Every rule that is broken.
pub(super) fn violations(view: &View<'_>) -> Vec<Violation> {
    let mut found = BTreeSet::new();
    let zones: BTreeSet<&String> = view
        .state
        .present_stores()
        .filter(|store| super::is_up(store.id, view))
        .filter_map(|store| store.labels.get(ZONE))
        .collect();
    for range in view.state.map.iter() {
        if view.leader(range.id).is_none() {
            found.insert(Violation::NoMajority(range.id));
        }
        if view.is_under_replicated(range) {
            found.insert(Violation::UnderReplicated(range.id));
        }
        if shares_zone(range, zones.len(), view) {
            found.insert(Violation::SharedZone(range.id));
        }
    }
    for (store, report) in view.reports.stores() {
        let capacity = report.capacity;
        if super::is_up(store, view) && capacity.total > 0 && capacity.available < capacity.total / SPARE {
            found.insert(Violation::DiskNearlyFull(store));
        }
    }
    let (stores, wanted) = (
        view.state.wanted_voters(),
        usize::from(view.state.settings.replication_factor),
    );
    if stores < wanted {
        found.insert(Violation::TooFewStores { stores, wanted });
    }
    found.into_iter().collect()
}

/// Whether two voters are in one zone while another zone has none.
fn shares_zone(range: &Descriptor, zones: usize, view: &View<'_>) -> bool {
    let voters = range
        .replicas
        .iter()
        .filter(|replica| replica.role == Role::Voter);
    let labelled: Vec<&String> = voters
        .filter_map(|voter| view.state.stores.get(&voter.store)?.labels.get(ZONE))
        .collect();
    let distinct: BTreeSet<&String> = labelled.iter().copied().collect();
    distinct.len() < labelled.len().min(zones)
}
