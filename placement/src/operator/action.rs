//! The steps of operators: what to tell which store, and by what a step is seen to be done.

use std::time::Duration;

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::proto::placement::{Step, VoterChange};
use holdfast_common::proto::recovery::Recover;
use holdfast_common::range::{Descriptor, Replica, Role};
use serde::{Deserialize, Serialize};

use crate::view::{Health, View};

/// Entries that a learner may lack and still become a voter: it then catches up within the change.
const CAUGHT_UP_ENTRIES: u64 = 256;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Create the first range.
    CreateFirst {
        /// Its only replica.
        replica: Replica,
    },
    /// Create an empty replica on its store.
    CreateReplica {
        /// The replica.
        replica: Replica,
    },
    /// Let the leader replicate to it.
    AddLearner {
        /// The replica.
        replica: Replica,
    },
    /// Wait until it has (nearly) all that the leader has.
    CatchUp {
        /// The replica.
        replica: Replica,
    },
    /// Make learners voters and drop other replicas, in one joint change. A leader that is to go hands the leadership over
    /// before: the change is asked of a leader that stays.
    ChangeVoters(VoterChange),
    /// Hand over the leadership.
    TransferLeader {
        /// The voter that takes it.
        to: Replica,
    },
    /// Split the range.
    Split {
        /// The bounds version that the split starts from.
        bounds: u64,
        /// The first key of the right part, or the middle of the data.
        at: Option<Key>,
        /// The id of the right part.
        right: RangeId,
        /// The replicas of the right part.
        replicas: Vec<(StoreId, ReplicaId)>,
    },
    /// Destroy a replica that left the range.
    DestroyReplica {
        /// The replica.
        replica: Replica,
    },
    /// Give the range to its left neighbour, which lies on the same stores.
    Merge {
        /// The bounds version that the merge starts from.
        bounds: u64,
    },
    /// Go on with one survivor alone.
    Recover {
        /// The survivor's store.
        store: StoreId,
        /// What it is told.
        order: Box<Recover>,
    },
}

impl Action {
    /// Its name in the admin API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateFirst { .. } => "create_first",
            Self::CreateReplica { .. } => "create_replica",
            Self::AddLearner { .. } => "add_learner",
            Self::CatchUp { .. } => "catch_up",
            Self::ChangeVoters { .. } => "change_voters",
            Self::TransferLeader { .. } => "transfer_leader",
            Self::Split { .. } => "split",
            Self::DestroyReplica { .. } => "destroy_replica",
            Self::Merge { .. } => "merge",
            Self::Recover { .. } => "recover",
        }
    }

    /// How long it may take; none for as long as it takes.
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            // Another try on another store could make a second first range.
            Self::CreateFirst { .. } => None,
            // Another try with another survivor could make a second group.
            Self::Recover { .. } => None,
            Self::TransferLeader { .. } => Some(Duration::from_secs(15)),
            Self::CreateReplica { .. }
            | Self::AddLearner { .. }
            | Self::ChangeVoters { .. }
            | Self::Split { .. } => Some(Duration::from_secs(60)),
            Self::DestroyReplica { .. } => Some(Duration::from_secs(120)),
            // Its leaders end by themselves what they have begun, and nothing else should change the ranges meanwhile.
            Self::Merge { .. } => Some(Duration::from_secs(10 * 60)),
            // A whole range travels, perhaps behind others.
            Self::CatchUp { .. } => Some(Duration::from_secs(30 * 60)),
        }
    }

    /// Whether this replica may come or go by the step.
    pub fn names(&self, id: ReplicaId) -> bool {
        match self {
            Self::CreateFirst { replica }
            | Self::CreateReplica { replica }
            | Self::AddLearner { replica }
            | Self::CatchUp { replica }
            | Self::DestroyReplica { replica } => replica.id == id,
            // Only a member takes the leadership. One that its store lacks has to be created meanwhile, or never will lead.
            Self::TransferLeader { .. } => false,
            Self::ChangeVoters(change) => change.promote.contains(&id) || change.remove.contains(&id),
            Self::Split { replicas, .. } => replicas.iter().any(|(_, replica)| *replica == id),
            Self::Merge { .. } => false,
            Self::Recover { order, .. } => order.to == id,
        }
    }

    /// Whether the map and the reports show that the step is done.
    pub fn is_done(&self, range: RangeId, view: &View<'_>) -> bool {
        let descriptor = view.state.map.get(range);
        let member = |id| descriptor.and_then(|descriptor| descriptor.replica(id));
        let is_voter = |id| member(id).is_some_and(|replica| replica.role == Role::Voter);
        match self {
            Self::CreateFirst { .. } => descriptor.is_some(),
            Self::CreateReplica { replica } => {
                member(replica.id).is_some() || view.reports.has(replica.store, replica.id)
            }
            Self::AddLearner { replica } => member(replica.id).is_some(),
            Self::CatchUp { replica } => is_voter(replica.id) || is_caught_up(range, replica.id, view),
            Self::ChangeVoters(change) => {
                change.promote.iter().all(|id| is_voter(*id))
                    && change.remove.iter().all(|id| member(*id).is_none())
                    && descriptor.is_some_and(|descriptor| !descriptor.is_joint())
            }
            Self::TransferLeader { to } => view.leader(range).is_some_and(|leader| leader.replica == to.id),
            Self::Split { bounds, right, .. } => {
                descriptor.is_some_and(|left| left.epoch.bounds > *bounds)
                    && view.state.map.get(*right).is_some()
            }
            Self::Merge { .. } => descriptor.is_none(),
            // A store that is away is told once it is back: see `corrections`.
            Self::DestroyReplica { replica } => match view.health(replica.store) {
                Health::Up => view.reports.lacks(replica.store, replica.id),
                Health::Suspect => false,
                Health::Down => true,
            },
            Self::Recover { order, .. } => member(order.to).is_some(),
        }
    }

    /// What to tell which store now, if anything.
    pub fn due(&self, range: RangeId, view: &View<'_>) -> Option<(StoreId, Step)> {
        let to_leader = |step| view.leader(range).map(|leader| (leader.store, step));
        match self {
            Self::CreateFirst { replica } => Some((
                replica.store,
                Step::CreateFirst {
                    range,
                    replica: replica.id,
                },
            )),
            Self::CreateReplica { replica } => Some((
                replica.store,
                Step::CreateReplica {
                    range,
                    replica: replica.id,
                },
            )),
            Self::AddLearner { replica } => to_leader(Step::AddLearner {
                range,
                replica: *replica,
            }),
            Self::CatchUp { .. } => None,
            Self::ChangeVoters(change) => change_voters(range, change, view),
            Self::TransferLeader { to } => to_leader(Step::TransferLeader { range, to: to.id }),
            Self::Split {
                bounds,
                at,
                right,
                replicas,
            } => {
                let (bounds, at, right, replicas) = (*bounds, at.clone(), *right, replicas.clone());
                to_leader(Step::Split {
                    range,
                    bounds,
                    at,
                    right,
                    replicas,
                })
            }
            Self::DestroyReplica { replica } => Some((
                replica.store,
                Step::DestroyReplica {
                    range,
                    replica: replica.id,
                },
            )),
            Self::Merge { bounds } => to_leader(Step::Merge {
                range,
                bounds: *bounds,
            }),
            Self::Recover { store, order } => Some((
                *store,
                Step::Recover {
                    range,
                    order: order.clone(),
                },
            )),
        }
    }

    /// Why the step has become pointless, if it has: trying on would only hold up a better plan.
    pub fn hopeless(&self, range: RangeId, view: &View<'_>) -> Option<String> {
        match self {
            Self::CreateReplica { replica } | Self::AddLearner { replica } | Self::CatchUp { replica }
                if view.health(replica.store) == Health::Down =>
            {
                Some(format!("store {} is down", replica.store))
            }
            Self::TransferLeader { to } if view.health(to.store) == Health::Down => {
                Some(format!("store {} is down", to.store))
            }
            Self::Merge { bounds } => merge_hopeless(view.state.map.get(range)?, *bounds, view),
            Self::ChangeVoters(change) => view
                .state
                .map
                .get(range)
                .filter(|descriptor| !descriptor.is_joint() && voters(descriptor) != change.from)
                .map(|_| "other replicas vote than when it was planned".to_owned()),
            _ => None,
        }
    }
}

/// Why a range can't go into its neighbour. Frozen bounds are one version on, those of a range that has thawed again two.
fn merge_hopeless(range: &Descriptor, bounds: u64, view: &View<'_>) -> Option<String> {
    if range.epoch.bounds > bounds + 1 {
        return Some("the range was frozen, and thawed again: not every replica kept up".to_owned());
    }
    let mut replicas = range.replicas.iter();
    let down = replicas.find(|replica| view.health(replica.store) == Health::Down);
    down.filter(|_| range.epoch.bounds == bounds)
        .map(|replica| format!("store {} is down", replica.store))
}

/// The change itself, or, while one that is to leave leads, a transfer of the leadership to one that stays.
pub fn change_voters(range: RangeId, change: &VoterChange, view: &View<'_>) -> Option<(StoreId, Step)> {
    let leader = view.leader(range)?;
    if !change.remove.contains(&leader.replica) {
        let change = change.clone();
        return Some((leader.store, Step::ChangeVoters { range, change }));
    }
    let successor = successor(view.state.map.get(range)?, &change.remove, view)?;
    Some((leader.store, Step::TransferLeader { range, to: successor }))
}

/// Those that vote in a range, in order, as a [`VoterChange`] names them.
pub fn voters(range: &Descriptor) -> Vec<ReplicaId> {
    let mut voters: Vec<_> = range.voters().map(|voter| voter.id).collect();
    voters.sort_unstable();
    voters
}

/// The voter that should lead once those of `leaving` are gone: the one that lacks the least among those on healthy stores.
fn successor(descriptor: &Descriptor, leaving: &[ReplicaId], view: &View<'_>) -> Option<ReplicaId> {
    let staying = descriptor
        .replicas
        .iter()
        .filter(|replica| replica.role == Role::Voter && !leaving.contains(&replica.id));
    let healthy = staying.filter(|replica| view.health(replica.store) == Health::Up);
    let lag = |replica: &&Replica| {
        let progress = view
            .progress(descriptor.id, replica.id)
            .filter(|progress| progress.live);
        (
            progress
                .and_then(|progress| progress.lag_entries)
                .unwrap_or(u64::MAX),
            replica.id,
        )
    };
    healthy.min_by_key(lag).map(|replica| replica.id)
}

fn is_caught_up(range: RangeId, replica: ReplicaId, view: &View<'_>) -> bool {
    let progress = view.progress(range, replica);
    progress.is_some_and(|progress| {
        progress.live && progress.lag_entries.is_some_and(|lag| lag <= CAUGHT_UP_ENTRIES)
    })
}
