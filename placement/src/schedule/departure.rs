//! What it would take for a store to leave, and whether it can. Pure.

use std::collections::BTreeMap;

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::range::{Descriptor, Replica, Role};

use super::Score;
use super::placing::{destinations_beside, heirs, neighbours};
use crate::operator::Kind;
use crate::state::{Store, StoreIntent};
use crate::view::View;

/// Problems that are told; of more, only the number.
const MAX_TOLD: usize = 8;

/// What is left on a store that leaves, and where it would go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Departure {
    /// Ranges that it leads.
    pub leaders: usize,
    /// Replicas that it holds.
    pub ranges: usize,
    /// Bytes of them, about.
    pub bytes: u64,
    /// Where each would go; empty for a drain.
    pub moves: Vec<Move>,
    /// Replicas that would end in a zone where their range has another.
    pub shared_zones: usize,
    /// Why it can't leave; empty when it can.
    pub problems: Vec<String>,
}

/// A replica's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of which range.
    pub range: RangeId,
    /// To which store.
    pub to: StoreId,
    /// Bytes, about.
    pub bytes: u64,
}

/// Looks at what would become of a store's replicas and leaderships, were its intent `intent`.
pub fn departure(store: &Store, intent: StoreIntent, view: &View<'_>) -> Departure {
    let mut survey = Survey {
        view,
        departure: Departure::default(),
        given: BTreeMap::new(),
        given_bytes: BTreeMap::new(),
        untold: 0,
    };
    if intent == StoreIntent::Decommissioning {
        survey.count_who_stays(store);
    }
    for range in view.state.map.iter() {
        if let Some(replica) = range.replica_on(store.id).copied() {
            survey.examine(range, replica, intent);
        }
        if intent == StoreIntent::Decommissioning
            && let Some(range) = outcome(range, view)
            && let Some(replica) = range.replica_on(store.id).copied()
        {
            survey.place(&range, replica);
        }
    }
    survey.end()
}

/// A range as it will be when what is under way or half done is over, or none if it will be part of its neighbour: a replica
/// that is on its way from here to there has a place, and stands in nobody's.
fn outcome(range: &Descriptor, view: &View<'_>) -> Option<Descriptor> {
    let under_way = view.state.operators.on_range(range.id);
    let merges = under_way.is_some_and(|operator| {
        operator.range() == range.id && matches!(operator.intent.kind, Kind::Merge { .. })
    });
    if merges {
        return None;
    }
    let mut outcome = under_way.map_or_else(|| range.clone(), |operator| operator.outcome(range));
    // Learners that were left behind are removed.
    outcome.replicas.retain(|replica| replica.role == Role::Voter);
    Some(outcome)
}

/// A departure while the ranges are gone through.
struct Survey<'a> {
    view: &'a View<'a>,
    departure: Departure,
    /// Replicas that each store was given so far, and their bytes.
    given: BTreeMap<StoreId, usize>,
    given_bytes: BTreeMap<StoreId, u64>,
    /// Problems beyond those that are told.
    untold: usize,
}

impl Survey<'_> {
    fn count_who_stays(&mut self, store: &Store) {
        let state = self.view.state;
        let stays = |other: &&Store| {
            other.id != store.id && matches!(other.intent, StoreIntent::Active | StoreIntent::Draining)
        };
        let others = state.stores.values().filter(stays).count();
        let wanted = self.wanted_voters();
        if others < wanted && !state.map.is_empty() {
            self.blame(format!(
                "{others} stores would be left, and every range is to have {wanted} replicas"
            ));
        }
    }

    fn wanted_voters(&self) -> usize {
        usize::from(self.view.state.settings.replication_factor)
    }

    fn size(&self, range: RangeId) -> u64 {
        let leading = self.view.reports.leading(range);
        leading.map_or(0, |leading| leading.size_bytes)
    }

    fn examine(&mut self, range: &Descriptor, replica: Replica, intent: StoreIntent) {
        let leader = self.view.leader(range.id);
        let leads = leader.is_some_and(|leader| leader.store == replica.store);
        self.departure.ranges += 1;
        self.departure.bytes += self.size(range.id);
        self.departure.leaders += usize::from(leads);
        if intent == StoreIntent::Draining && leads && heirs(range, self.view).is_empty() {
            self.blame(format!("range {}: no other voter can lead", range.id));
        }
    }

    /// Finds a store for a replica, unless its range has a voter too many and it may simply go.
    fn place(&mut self, range: &Descriptor, replica: Replica) {
        if range.voters().count() > self.wanted_voters() {
            return;
        }
        let bytes = self.size(range.id);
        let scores = destinations_beside(range, replica, &self.given, self.view);
        let fits = |score: &&Score| self.has_room_for(score.store, bytes);
        let Some(to) = scores.iter().find(fits).map(|best| best.store) else {
            return self.blame(format!("range {}: no store can take its replica", range.id));
        };
        *self.given.entry(to).or_default() += 1;
        *self.given_bytes.entry(to).or_default() += bytes;
        let destination = self.view.state.stores.get(&to);
        let shares = destination.is_some_and(|to| neighbours(range, Some(replica), to, self.view) > 0);
        self.departure.shared_zones += usize::from(shares);
        let range = range.id;
        self.departure.moves.push(Move { range, to, bytes });
    }

    /// Whether a store has room for one more range beside those that it was given already.
    fn has_room_for(&self, store: StoreId, bytes: u64) -> bool {
        let Some(report) = self.view.reports.store(store) else {
            return false;
        };
        let spare = report.capacity.total / 20;
        let given = self.given_bytes.get(&store).copied().unwrap_or(0);
        report.capacity.total == 0
            || report.capacity.available > spare.saturating_add(given.saturating_add(bytes))
    }

    fn blame(&mut self, problem: String) {
        if self.departure.problems.len() < MAX_TOLD {
            self.departure.problems.push(problem);
        } else {
            self.untold += 1;
        }
    }

    fn end(mut self) -> Departure {
        if self.untold > 0 {
            self.departure.problems.push(format!("and {} more", self.untold));
        }
        self.departure
    }
}
