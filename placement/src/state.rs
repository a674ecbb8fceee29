//! The replicated state of the placement driver: what every member agrees on. Pure.
//!
//! It changes only by [`State::apply`], in [`command`](crate::command). What changes by the second (who leads which range,
//! how large it is, who is alive) is not here: the leading member gathers it from heartbeats in
//! [`Reports`](crate::reports::Reports).

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{ClusterId, MemberId, ReplicaId, StoreId};
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::operator::Operators;
use crate::range_map::{self, RangeMap};
use crate::settings::Settings;

/// Everything that the members agree on.
///
/// Invariants, checked by [`State::validate`]: no id at or above its counter is in use; no two living stores and no two
/// members share a name or a directory; at most one operator is under way for a range; the map's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The cluster; none until its first command.
    pub cluster: Option<ClusterId>,
    /// The members of the placement driver, by number.
    pub members: BTreeMap<MemberId, Member>,
    /// Numbers of members that were removed: never used again.
    pub retired: BTreeSet<MemberId>,
    /// The stores, present and past.
    pub stores: BTreeMap<StoreId, Store>,
    /// What is known of the ranges.
    pub map: RangeMap,
    /// Planned changes.
    pub operators: Operators,
    /// Live settings.
    pub settings: Settings,
    /// Raised with every change of the settings.
    pub settings_version: u64,
    /// The next ids to mint.
    pub next: Counters,
    /// Who may do what. On disk it stands beside the state: see [`Image`](crate::snapshot::Image).
    #[serde(skip)]
    pub access: Access,
}

/// The next ids to mint. They only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Of stores.
    pub store: u64,
    /// Of ranges and replicas, which share one sequence.
    pub range_or_replica: u64,
    /// Of operators.
    pub operator: u64,
}

/// A member of the placement driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Random, minted with its data directory: another directory is another member.
    pub directory: u64,
    /// What to dial for RPC.
    pub rpc_address: String,
    /// Where it serves the admin API.
    pub http_address: String,
    /// Whether it has come back with its number, so that its replica runs: only then is there somebody to replicate to.
    pub is_running: bool,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Its id.
    pub id: StoreId,
    /// Its name.
    pub name: String,
    /// Random, minted with its data directory.
    pub directory: u64,
    /// What to dial for RPC.
    pub rpc_address: String,
    /// Where it serves health, metrics and debug.
    pub http_address: String,
    /// Labels such as zone=a.
    pub labels: BTreeMap<String, String>,
    /// What is to become of it.
    pub intent: StoreIntent,
}

/// What is to become of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreIntent {
    /// It holds replicas and leads.
    Active,
    /// It gives its leaderships away.
    Draining,
    /// It gives everything away.
    Decommissioning,
    /// It has left, and its name is free.
    Removed,
    /// Its data is damaged: it never comes back, and others get its replicas. Its name is free.
    Lost,
}

impl Store {
    /// Whether it goes as soon as it holds nothing.
    pub fn is_leaving(&self) -> bool {
        matches!(self.intent, StoreIntent::Decommissioning | StoreIntent::Lost)
    }

    /// Whether it may still be heard of.
    pub fn is_alive(&self) -> bool {
        !matches!(self.intent, StoreIntent::Removed | StoreIntent::Lost)
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            cluster: None,
            members: BTreeMap::new(),
            retired: BTreeSet::new(),
            stores: BTreeMap::new(),
            map: RangeMap::default(),
            operators: Operators::default(),
            settings: Settings::default(),
            settings_version: 0,
            access: Access::default(),
            next: Counters {
                store: 1,
                range_or_replica: 1,
                operator: 1,
            },
        }
    }
}

/// What is wrong with a state; only a bug can cause it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// An id was not minted, or is to be minted again.
    #[error("{0} is in use and was never minted")]
    NeverMinted(String),
    /// Two stores or members can't be told apart.
    #[error("{0} is used twice")]
    Twice(String),
    /// The map.
    #[error(transparent)]
    Map(#[from] range_map::Inconsistency),
}

impl State {
    /// The stores that have not left.
    pub fn present_stores(&self) -> impl Iterator<Item = &Store> {
        self.stores
            .values()
            .filter(|store| store.intent != StoreIntent::Removed)
    }

    /// Those of them that may still be heard of.
    pub fn living_stores(&self) -> impl Iterator<Item = &Store> {
        self.stores.values().filter(|store| store.is_alive())
    }

    /// Voters that a range should have: the replication factor, or as many as there are stores for them.
    pub fn wanted_voters(&self) -> usize {
        // One that was lost counts until its replicas have gone to another: that there are too few stores is not to be hidden.
        let staying =
            |store: &&Store| !matches!(store.intent, StoreIntent::Decommissioning | StoreIntent::Removed);
        usize::from(self.settings.replication_factor).min(self.stores.values().filter(staying).count())
    }

    /// Whether no operator that could still make this replica a member of its range is, or will be, under way. Ids are
    /// minted when an operator starts, so one that was minted and is in no running plan is in no plan ever again.
    pub fn is_out_of_plans(&self, replica: ReplicaId) -> bool {
        replica.0 < self.next.range_or_replica
            && !self.operators.running().any(|operator| operator.names(replica))
    }

    /// Checks the invariants.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn validate(&self) -> Result<(), Inconsistency> {
        self.map.validate()?;
        self.validate_counters()?;
        let mut once = BTreeSet::new();
        let mut check = |what: String| {
            if once.insert(what.clone()) {
                Ok(())
            } else {
                Err(Inconsistency::Twice(what))
            }
        };
        for store in self.living_stores() {
            check(format!("store name {}", store.name))?;
            check(format!("store directory {}", store.directory))?;
        }
        for member in self.members.values() {
            check(format!("member name {}", member.name))?;
            check(format!("member directory {}", member.directory))?;
        }
        for operator in self.operators.running() {
            for range in operator.ranges() {
                check(format!("range {range} under operators"))?;
            }
        }
        Ok(())
    }

    fn validate_counters(&self) -> Result<(), Inconsistency> {
        let check = |fine: bool, what: String| {
            if fine {
                Ok(())
            } else {
                Err(Inconsistency::NeverMinted(what))
            }
        };
        for id in self.stores.keys() {
            check(id.0 < self.next.store, format!("store {id}"))?;
        }
        for range in self.map.iter() {
            check(
                range.id.0 < self.next.range_or_replica,
                format!("range {}", range.id),
            )?;
            for replica in &range.replicas {
                check(
                    replica.id.0 < self.next.range_or_replica,
                    format!("replica {}", replica.id),
                )?;
            }
        }
        for operator in self.operators.running() {
            check(
                operator.id.0 < self.next.operator,
                format!("operator {}", operator.id),
            )?;
        }
        Ok(())
    }
}
