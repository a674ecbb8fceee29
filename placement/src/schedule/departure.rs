//! What it would take for a store to leave, and whether it can. Pure.

use std::collections::BTreeMap;

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::range::Role;

use super::placing::{as_f64, destinations, heirs, sort};
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
    let mut departure = Departure::default();
    let mut untold = 0;
    let mut blame = |problems: &mut Vec<String>, problem: String| {
        if problems.len() < MAX_TOLD {
            problems.push(problem);
        } else {
            untold += 1;
        }
    };
    if intent == StoreIntent::Decommissioning {
        let others = view.state.stores.values().filter(|other| {
            other.id != store.id && matches!(other.intent, StoreIntent::Active | StoreIntent::Draining)
        });
        let (others, wanted) = (
            others.count(),
            usize::from(view.state.settings.replication_factor),
        );
        if others < wanted && !view.state.map.is_empty() {
            let problem =
                format!("{others} stores would be left, and every range is to have {wanted} replicas");
            blame(&mut departure.problems, problem);
        }
    }
    let mut taken: BTreeMap<StoreId, (usize, u64)> = BTreeMap::new();
    for range in view.state.map.iter() {
        let Some(replica) = range.replica_on(store.id).copied() else {
            continue;
        };
        let bytes = view
            .reports
            .leading(range.id)
            .map_or(0, |leading| leading.size_bytes);
        departure.ranges += 1;
        departure.bytes += bytes;
        let leads = view
            .leader(range.id)
            .is_some_and(|leader| leader.store == store.id);
        departure.leaders += usize::from(leads);
        if intent == StoreIntent::Draining && leads && heirs(range, view).is_empty() {
            let problem = format!("range {}: no other voter can lead", range.id);
            blame(&mut departure.problems, problem);
        }
        if intent != StoreIntent::Decommissioning || replica.role != Role::Voter {
            continue;
        }
        let mut scores = destinations(range, Some(replica), view);
        scores.retain(|score| has_room_for(score.store, taken.get(&score.store), bytes, view));
        for score in &mut scores {
            score.score += as_f64(taken.get(&score.store).map_or(0, |(count, _)| *count));
        }
        sort(&mut scores);
        let Some(best) = scores.first() else {
            let problem = format!("range {}: no store can take its replica", range.id);
            blame(&mut departure.problems, problem);
            continue;
        };
        let to = best.store;
        let (count, sum) = taken.entry(to).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes);
        let destination = view.state.stores.get(&to);
        let shares =
            destination.is_some_and(|to| super::placing::neighbours(range, Some(replica), to, view) > 0);
        departure.shared_zones += usize::from(shares);
        departure.moves.push(Move {
            range: range.id,
            to,
            bytes,
        });
    }
    if untold > 0 {
        departure.problems.push(format!("and {untold} more"));
    }
    departure
}

/// Whether a store has room for one more range beside those that it was given already.
fn has_room_for(store: StoreId, given: Option<&(usize, u64)>, bytes: u64, view: &View<'_>) -> bool {
    let Some(report) = view.reports.store(store) else {
        return false;
    };
    let spare = report.capacity.total / 20;
    let needed = given.map_or(0, |(_, given)| *given).saturating_add(bytes);
    report.capacity.total == 0 || report.capacity.available > spare.saturating_add(needed)
}
