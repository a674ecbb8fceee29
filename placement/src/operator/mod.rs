//! Operators: planned changes to a range, each a list of steps. Pure.
//!
//! An operator is planned when it is started ([`plan`]), in the replicated state, so that ids are minted with it and a new
//! leading member goes on where the last one stopped. Each [`Action`] knows what to tell which store, and by what it is
//! seen to be done ([`action`]); nothing is taken as done because it was sent. [`judge`] decides, from what the stores
//! report, whether an operator stays, goes on or ends.

pub mod action;
pub mod judge;
pub mod plan;
pub mod recover;

use std::collections::{BTreeMap, VecDeque};

use holdfast_common::ids::{OperatorId, RangeId, ReplicaId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::range::{Descriptor, Replica, Role};
use serde::{Deserialize, Serialize};

pub use self::action::Action;
pub use self::plan::Refusal;
pub use self::recover::Recovery;

/// Ended operators that are remembered.
pub const MAX_HISTORY: usize = 500;

/// A planned change to a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Its number; never reused.
    pub id: OperatorId,
    /// What is wanted, of which range, and why.
    pub intent: Intent,
    /// How to get there.
    pub steps: Vec<Action>,
    /// Which of the steps is being taken; all are done when this is their number.
    pub current: usize,
    /// Where it stands.
    pub status: Status,
    /// Wall time of its start, milliseconds since the Unix epoch: for people only.
    pub created_ms: u64,
    /// Wall time of its end, once it ended.
    pub ended_ms: Option<u64>,
}

/// What an operator is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The range.
    pub range: RangeId,
    /// The change.
    pub kind: Kind,
    /// Who wants it: `admin`, or the name of a scheduler.
    pub source: String,
    /// Why, for people.
    pub why: String,
}

impl Intent {
    /// Every range that it changes.
    pub fn ranges(&self) -> impl Iterator<Item = RangeId> + use<> {
        let other = match self.kind {
            Kind::Merge { into } => Some(into),
            _ => None,
        };
        std::iter::once(self.range).chain(other)
    }
}

/// The changes there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Create the first range on the first store.
    CreateFirst {
        /// The store.
        on: StoreId,
    },
    /// Split the range, at this key or at the middle of its data.
    Split {
        /// The first key of the right part.
        at: Option<Key>,
    },
    /// Replace the voter on one store by one on another.
    MoveReplica {
        /// The store that gives it up.
        from: StoreId,
        /// The store that takes it.
        to: StoreId,
    },
    /// Add a voter.
    AddReplica {
        /// The store that takes it.
        to: StoreId,
    },
    /// Remove a voter or a learner.
    RemoveReplica {
        /// The replica.
        replica: ReplicaId,
    },
    /// Hand the leadership to the voter on another store.
    TransferLeader {
        /// That store.
        to: StoreId,
    },
    /// Give the range to its left neighbour, once its replicas are where that one's are.
    Merge {
        /// The left neighbour.
        into: RangeId,
    },
    /// Go on with one survivor alone, the majority being lost for good.
    Recover(Box<Recovery>),
    /// Replace voters by others elsewhere, one after the other, and then let one lead.
    Scatter {
        /// The voters that go, and where to; each store at most once.
        moves: Vec<Relocation>,
        /// The store that is to lead in the end.
        leader: StoreId,
    },
}

/// A voter's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocation {
    /// The store that gives it up.
    pub from: StoreId,
    /// The store that takes it.
    pub to: StoreId,
}

impl Kind {
    /// Its name, in the admin API and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateFirst { .. } => "create_first",
            Self::Split { .. } => "split",
            Self::MoveReplica { .. } => "move_replica",
            Self::AddReplica { .. } => "add_replica",
            Self::RemoveReplica { .. } => "remove_replica",
            Self::TransferLeader { .. } => "transfer_leader",
            Self::Merge { .. } => "merge",
            Self::Recover(_) => "recover",
            Self::Scatter { .. } => "scatter",
        }
    }

    /// Every name, so that metrics exist from the start.
    pub const NAMES: [&str; 9] = [
        "create_first",
        "split",
        "move_replica",
        "add_replica",
        "remove_replica",
        "transfer_leader",
        "merge",
        "recover",
        "scatter",
    ];
}

/// Where an operator stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Steps are being taken.
    Running,
    /// All steps are done.
    Done,
    /// A step can't be taken.
    Failed(String),
    /// Somebody took it back.
    Cancelled(String),
    /// A step took too long.
    TimedOut(String),
}

impl Status {
    /// Its name, in the admin API and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Cancelled(_) => "cancelled",
            Self::TimedOut(_) => "timed_out",
        }
    }

    /// Every name of an end, so that metrics exist from the start.
    pub const ENDS: [&str; 4] = ["done", "failed", "cancelled", "timed_out"];

    /// Why it ended as it did, unless all went well.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Running | Self::Done => None,
            Self::Failed(reason) | Self::Cancelled(reason) | Self::TimedOut(reason) => Some(reason),
        }
    }
}

impl Operator {
    /// The step being taken, while it runs.
    pub fn action(&self) -> Option<&Action> {
        self.steps
            .get(self.current)
            .filter(|_| self.status == Status::Running)
    }

    /// The range that it changes: its steps are about this one.
    pub fn range(&self) -> RangeId {
        self.intent.range
    }

    /// Every range that nothing else may change meanwhile.
    pub fn ranges(&self) -> impl Iterator<Item = RangeId> {
        self.intent.ranges()
    }

    /// Whether this replica may come or go by any of its steps.
    pub fn names(&self, replica: ReplicaId) -> bool {
        self.steps.iter().any(|step| step.names(replica))
    }

    /// A range as it will be once this is done: with the replicas that the steps create, as voters, and without those that
    /// they destroy.
    pub fn outcome(&self, range: &Descriptor) -> Descriptor {
        let mut range = range.clone();
        let steps = self.steps.iter().filter(|_| self.range() == range.id);
        for step in steps {
            match *step {
                Action::CreateReplica { replica } => {
                    range.replicas.retain(|known| known.id != replica.id);
                    let role = Role::Voter;
                    range.replicas.push(Replica { role, ..replica });
                }
                Action::DestroyReplica { replica } => range.replicas.retain(|known| known.id != replica.id),
                _ => {}
            }
        }
        range
    }

    /// The stores that it moves data to or from.
    pub fn stores(&self) -> impl Iterator<Item = StoreId> {
        self.steps.iter().filter_map(|step| match step {
            Action::CreateReplica { replica } | Action::DestroyReplica { replica } => Some(replica.store),
            _ => None,
        })
    }
}

/// The operators under way, and the last ones that ended.
///
/// At most one operator is under way for a range; a merge is under way for both of its ranges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operators {
    running: BTreeMap<OperatorId, Operator>,
    /// In the order in which they ended; at most [`MAX_HISTORY`].
    ended: VecDeque<Operator>,
}

impl Operators {
    /// Those under way, oldest first.
    pub fn running(&self) -> impl Iterator<Item = &Operator> {
        self.running.values()
    }

    /// How many are under way.
    pub fn running_len(&self) -> usize {
        self.running.len()
    }

    /// The last ones that ended, latest first.
    pub fn ended(&self) -> impl Iterator<Item = &Operator> {
        self.ended.iter().rev()
    }

    /// One of either.
    pub fn get(&self, id: OperatorId) -> Option<&Operator> {
        self.running
            .get(&id)
            .or_else(|| self.ended().find(|ended| ended.id == id))
    }

    /// The one under way for this range.
    pub fn on_range(&self, range: RangeId) -> Option<&Operator> {
        self.running()
            .find(|operator| operator.ranges().any(|changed| changed == range))
    }

    /// Adds one that was planned.
    pub fn start(&mut self, operator: Operator) {
        self.running.insert(operator.id, operator);
    }

    /// Step `step` of an operator is done; the operator ends with its last one. A repeated word changes nothing.
    pub fn advance(&mut self, id: OperatorId, step: usize, now_ms: u64) -> bool {
        let Some(operator) = self
            .running
            .get_mut(&id)
            .filter(|operator| operator.current == step)
        else {
            return false;
        };
        operator.current += 1;
        if operator.current >= operator.steps.len() {
            return self.end(id, Status::Done, now_ms);
        }
        true
    }

    /// Ends an operator. A repeated word changes nothing.
    pub fn end(&mut self, id: OperatorId, status: Status, now_ms: u64) -> bool {
        let Some(mut operator) = self.running.remove(&id) else {
            return false;
        };
        (operator.status, operator.ended_ms) = (status, Some(now_ms));
        self.ended.push_back(operator);
        if self.ended.len() > MAX_HISTORY {
            self.ended.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod traces_test;
