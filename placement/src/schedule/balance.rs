//! Spreads replicas over the stores, by bytes: moves them from stores that hold much to stores that hold little.
//!
//! A range weighs its bytes and a little for being there, so that empty ranges are spread too. A move is worth it only if the
//! store that gives still holds at least as much as the one that takes, and if they differ by more than a twentieth of
//! the mean. So every move brings the two closer, none can be undone by the next look, and a balanced cluster is left
//! alone. The replica that leads a range with much to do stays: `hot` says where load goes.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::range::{Descriptor, Role};

use super::burden::{Burden, units};
use super::placing::{is_at_home, neighbours, sort};
use super::{Idea, Scheduler, Score};
use crate::operator::Kind;
use crate::settings::Settings;
use crate::view::{RangeHealth, View};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Balance;

/// What a range weighs for being there: this part of the size at which ranges are split.
const EMPTY_SHARE: u64 = 16;

/// Most moves begun at a look.
const MOVES: usize = 16;

/// Stores must differ by more than one part in this many of the mean.
const TOLERANCE: u64 = 20;

impl Scheduler for Balance {
    fn name(&self) -> &'static str {
        "balance"
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        settings.schedulers.balance
    }

    fn propose(&self, view: &View<'_>) -> Vec<Idea> {
        let mut plan = Plan::of(view);
        let mut ideas = Vec::new();
        while ideas.len() < MOVES
            && let Some(idea) = plan.best_move()
        {
            ideas.push(idea);
        }
        ideas
    }
}

/// The stores as they will be once what is under way, and what was chosen so far, is done.
struct Plan<'a> {
    view: &'a View<'a>,
    loads: BTreeMap<StoreId, u64>,
    /// The ranges that may be moved off each store, the heaviest first.
    movable: BTreeMap<StoreId, Vec<(u64, &'a Descriptor)>>,
    moved: BTreeSet<RangeId>,
}

impl<'a> Plan<'a> {
    fn of(view: &'a View<'a>) -> Self {
        let stores = view.state.stores.keys().filter(|store| is_at_home(**store, view));
        let mut loads: BTreeMap<StoreId, u64> = stores.map(|store| (*store, 0)).collect();
        let burden = Burden::of(view);
        let mut movable: BTreeMap<StoreId, Vec<(u64, &Descriptor)>> = BTreeMap::new();
        for range in view.state.map.iter() {
            let weight = weight(range, view);
            let under_way = view.state.operators.on_range(range.id);
            let outcome = under_way.map(|operator| operator.outcome(range));
            for replica in &outcome.as_ref().unwrap_or(range).replicas {
                if let Some(load) = loads.get_mut(&replica.store) {
                    *load += weight;
                }
            }
            let rests = under_way.is_none() && !range.is_joint();
            let is_busy = burden.is_significant(units(range.id, view)) && range.voters().count() > 1;
            let leader = view.leader(range.id).map(|leader| leader.store);
            if rests && view.range_health(range) == RangeHealth::Ok {
                for replica in range
                    .replicas
                    .iter()
                    .filter(|replica| replica.role == Role::Voter)
                    .filter(|replica| !is_busy || leader != Some(replica.store))
                {
                    movable.entry(replica.store).or_default().push((weight, range));
                }
            }
        }
        for ranges in movable.values_mut() {
            ranges.sort_by_key(|(weight, range)| (std::cmp::Reverse(*weight), range.id));
        }
        Self {
            view,
            loads,
            movable,
            moved: BTreeSet::new(),
        }
    }

    fn mean(&self) -> u64 {
        let stores = u64::try_from(self.loads.len().max(1)).unwrap_or(u64::MAX);
        self.loads.values().sum::<u64>() / stores
    }

    fn best_move(&mut self) -> Option<Idea> {
        let slack = self.mean() / TOLERANCE;
        let mut order: Vec<(u64, StoreId)> = self.loads.iter().map(|(store, load)| (*load, *store)).collect();
        order.sort_unstable();
        for (heavy, from) in order.iter().rev() {
            for (light, to) in &order {
                let gap = heavy.saturating_sub(*light);
                if gap <= slack {
                    break;
                }
                if let Some((weight, range)) = self.heaviest(*from, *to, gap / 2) {
                    return Some(self.take(range, weight, (*from, *heavy), (*to, *light)));
                }
            }
        }
        None
    }

    /// The heaviest range up to `most` that may move, one that is not led on `from` before one that is.
    fn heaviest(&self, from: StoreId, to: StoreId, most: u64) -> Option<(u64, &'a Descriptor)> {
        let fits = |(weight, range): &&(u64, &Descriptor)| {
            *weight <= most && !self.moved.contains(&range.id) && self.suits(range, from, to)
        };
        let led_here = |range: &Descriptor| {
            self.view
                .leader(range.id)
                .is_some_and(|leader| leader.store == from)
        };
        let ranges = self.movable.get(&from)?;
        let first = ranges.iter().find(fits)?;
        let heavy_enough = |(weight, _): &&(u64, &Descriptor)| *weight >= first.0 / 2;
        let mut others = ranges.iter().filter(fits).take_while(heavy_enough);
        Some(*others.find(|(_, range)| !led_here(range)).unwrap_or(first))
    }

    fn suits(&self, range: &Descriptor, from: StoreId, to: StoreId) -> bool {
        let (Some(old), Some(replica)) = (self.view.state.stores.get(&from), range.replica_on(from)) else {
            return false;
        };
        let mut candidates = self.view.candidates(range);
        candidates.find(|store| store.id == to).is_some_and(|new| {
            let leaving = Some(*replica);
            neighbours(range, leaving, new, self.view) <= neighbours(range, leaving, old, self.view)
        })
    }

    fn take(
        &mut self,
        range: &Descriptor,
        weight: u64,
        (from, heavy): (StoreId, u64),
        (to, light): (StoreId, u64),
    ) -> Idea {
        let mean = self.mean().max(1);
        let scores = self.loads.iter().map(|(store, load)| Score {
            store: *store,
            score: ratio(*load, mean),
        });
        let mut scores: Vec<Score> = scores.collect();
        sort(&mut scores);
        self.moved.insert(range.id);
        self.loads.insert(from, heavy - weight);
        self.loads.insert(to, light + weight);
        Idea {
            range: range.id,
            change: Some(Kind::MoveReplica { from, to }),
            why: format!(
                "store {from} holds {:.2} of the mean, store {to} {:.2}",
                ratio(heavy, mean),
                ratio(light, mean)
            ),
            scores,
        }
    }
}

fn weight(range: &Descriptor, view: &View<'_>) -> u64 {
    let size = view
        .reports
        .leading(range.id)
        .map_or(0, |leading| leading.size_bytes);
    size + view.state.settings.split_bytes / EMPTY_SHARE
}

/// For people, so that lost digits don't matter.
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
