//! Spreads load over the stores: takes from stores of which more than their share is asked.
//!
//! A leadership moves first: it takes the load along and no data. If no voter of the store's ranges is on a store that has
//! little to do, a follower's replica moves to such a store, and the leadership after it at a later look. A change must
//! leave the giver with clearly more than the taker had before it and gets, so that the two come closer by more than
//! measurements vary; and the taker is one that has less than its share. So each one lowers the sum of the squares of the loads by a least amount, and there is an end to it.
//! What a change can't better is left alone and said: mostly a range that is too large a piece, which `split_by_load`
//! divides if there is a place for it, or one key.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::range::{Descriptor, Role};

use super::burden::{Burden, future_leader, units};
use super::placing::{heirs, neighbours};
use super::{Idea, Scheduler};
use crate::operator::Kind;
use crate::settings::Settings;
use crate::view::{RangeHealth, View};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Hot;

/// Its name.
pub(super) const NAME: &str = "hot";

/// Most changes begun at a look.
const CHANGES: usize = 4;

/// A change must move so much of what the giver has too much...
const WORTH: f64 = 0.1;

/// ...unless it is made of many that do not, and that have so much of it together.
const WORTH_TOGETHER: f64 = 0.5;

/// By how much of the mean the giver must then have more than the taker had before, at least.
const MARGIN: f64 = 0.1;

impl Scheduler for Hot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        settings.schedulers.hot
    }

    fn propose(&self, view: &View<'_>) -> Vec<Idea> {
        let mut plan = Plan::of(view);
        let mut ideas = Vec::new();
        let mut stuck = BTreeSet::new();
        while ideas.len() < CHANGES
            && let Some((from, load)) = plan.next_giver(&stuck)
        {
            match plan.relief(from, load) {
                Some(relief) => ideas.push(plan.take(from, load, &relief)),
                None => {
                    stuck.insert(from);
                    ideas.extend(plan.lament(from, load));
                }
            }
        }
        ideas
    }
}

/// The stores that have more than their share and that no move would relieve.
pub(super) fn stuck(view: &View<'_>) -> BTreeSet<StoreId> {
    let plan = Plan::of(view);
    let overloaded = plan.burden.overloaded().into_iter();
    let stuck = overloaded.filter(|(store, load)| plan.relief(*store, *load).is_none());
    stuck.map(|(store, _)| store).collect()
}

/// A change that would help.
struct Relief<'a> {
    range: &'a Descriptor,
    units: f64,
    /// Who will lead the range.
    to: StoreId,
    change: Kind,
    /// What the busier of the two stores will have.
    busier: f64,
}

struct Plan<'a> {
    view: &'a View<'a>,
    burden: Burden,
    /// The ranges with something to do that each store leads, and will.
    led: BTreeMap<StoreId, Vec<(f64, &'a Descriptor)>>,
    taken: BTreeSet<RangeId>,
}

impl<'a> Plan<'a> {
    fn of(view: &'a View<'a>) -> Self {
        let burden = Burden::of(view);
        let mut led: BTreeMap<StoreId, Vec<(f64, &Descriptor)>> = BTreeMap::new();
        if burden.matters() {
            for range in view.state.map.iter() {
                let units = units(range.id, view);
                if let Some(leader) = future_leader(range, view).filter(|_| burden.is_noticeable(units)) {
                    led.entry(leader).or_default().push((units, range));
                }
            }
        }
        for ranges in led.values_mut() {
            ranges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.id.cmp(&b.1.id)));
        }
        Self {
            view,
            burden,
            led,
            taken: BTreeSet::new(),
        }
    }

    fn next_giver(&self, stuck: &BTreeSet<StoreId>) -> Option<(StoreId, f64)> {
        let overloaded = self.burden.overloaded().into_iter();
        overloaded.into_iter().find(|(store, _)| !stuck.contains(store))
    }

    /// The ranges that a store could give away now, those left out that would change next to nothing: where one range is
    /// too much, to send all the others away costs as many changes and helps little.
    fn givable(&self, from: StoreId, load: f64) -> impl Iterator<Item = (f64, &'a Descriptor)> {
        let excess = load - self.burden.mean();
        let led = self.led.get(&from).into_iter().flatten().copied();
        let worth = WORTH * excess;
        let crumbs: f64 = led
            .clone()
            .map(|(units, _)| units)
            .filter(|units| *units < worth)
            .sum();
        let least = if crumbs >= WORTH_TOGETHER * excess {
            0.0
        } else {
            worth
        };
        led.filter(move |(units, range)| {
            *units >= least
                && self.view.reports.is_load_measured(range.id)
                && !self.taken.contains(&range.id)
                && !self.view.is_busy(range.id)
                && !range.is_joint()
        })
    }

    /// What the busier of the two would have, if `to` taking so much from a store with `load` brings them closer.
    fn busier(&self, load: f64, units: f64, to: StoreId) -> Option<f64> {
        let taker = self.burden.known(to)?;
        let is_closer = load - units - taker >= MARGIN * self.burden.mean();
        (is_closer && taker < self.burden.mean()).then(|| (load - units).max(taker + units))
    }

    fn relief(&self, from: StoreId, load: f64) -> Option<Relief<'a>> {
        self.best_transfer(from, load)
            .or_else(|| self.best_move(from, load))
    }

    fn best_transfer(&self, from: StoreId, load: f64) -> Option<Relief<'a>> {
        let reliefs = self.givable(from, load).flat_map(|(units, range)| {
            let heirs = heirs(range, self.view).into_iter();
            heirs.filter_map(move |heir| {
                let to = heir.store;
                Some(Relief {
                    range,
                    units,
                    to,
                    change: Kind::TransferLeader { to },
                    busier: self.busier(load, units, to)?,
                })
            })
        });
        best(reliefs)
    }

    fn best_move(&self, from: StoreId, load: f64) -> Option<Relief<'a>> {
        let healthy = self
            .givable(from, load)
            .filter(|(_, range)| self.view.range_health(range) == RangeHealth::Ok);
        let reliefs = healthy.flat_map(|(units, range)| {
            self.view.candidates(range).filter_map(move |store| {
                let to = store.id;
                Some(Relief {
                    range,
                    units,
                    to,
                    busier: self.busier(load, units, to)?,
                    change: Kind::MoveReplica {
                        from: self.displaced(range, from, to)?,
                        to,
                    },
                })
            })
        });
        best(reliefs)
    }

    /// The store whose replica makes room for one on `to`: the busiest that does not lead, if the zones are no worse for it.
    fn displaced(&self, range: &Descriptor, leader: StoreId, to: StoreId) -> Option<StoreId> {
        let voters = range
            .replicas
            .iter()
            .filter(|replica| replica.role == Role::Voter);
        let is_alone = voters.clone().count() == 1;
        let stores = &self.view.state.stores;
        let suits = voters.filter(|replica| {
            let leaving = Some(**replica);
            let known = stores.get(&replica.store).zip(stores.get(&to));
            (is_alone || replica.store != leader)
                && known.is_some_and(|(old, new)| {
                    neighbours(range, leaving, new, self.view) <= neighbours(range, leaving, old, self.view)
                })
        });
        let load = |store| self.burden.known(store).unwrap_or(0.0);
        suits
            .map(|replica| replica.store)
            .max_by(|a, b| load(*a).total_cmp(&load(*b)).then(a.cmp(b)))
    }

    fn take(&mut self, from: StoreId, load: f64, relief: &Relief<'_>) -> Idea {
        let share = |units| self.burden.share(units);
        let taker = self.burden.known(relief.to).unwrap_or(0.0);
        let idea = Idea {
            range: relief.range.id,
            change: Some(relief.change.clone()),
            why: format!(
                "store {from} takes {:.2} times its share of the load, store {} {:.2}, this range {:.2}",
                share(load),
                relief.to,
                share(taker),
                share(relief.units)
            ),
            scores: self.burden.scores(),
        };
        self.taken.insert(relief.range.id);
        self.burden.shift(from, relief.to, relief.units);
        idea
    }

    /// That a store has too much and nothing can be moved, and why.
    fn lament(&self, from: StoreId, load: f64) -> Option<Idea> {
        let (units, range) = self.led.get(&from)?.first().copied()?;
        if self.view.is_busy(range.id) {
            return None;
        }
        let hot = self.view.reports.leading(range.id)?.hot.as_ref();
        let because = match hot.and_then(|hot| hot.key.as_ref()) {
            Some(key) => format!(", {} % of it for the one key \"{}\"", key.percent, key.key),
            None => String::new(),
        };
        Some(Idea {
            range: range.id,
            change: None,
            why: format!(
                "store {from} takes {:.2} times its share of the load and no move would better that: this range alone is \
                 {:.2}{because}",
                self.burden.share(load),
                self.burden.share(units)
            ),
            scores: self.burden.scores(),
        })
    }
}

/// The one that levels most; of those alike, the one that moves least.
fn best<'a>(reliefs: impl Iterator<Item = Relief<'a>>) -> Option<Relief<'a>> {
    reliefs.min_by(|a, b| {
        let order = a.busier.total_cmp(&b.busier).then(a.units.total_cmp(&b.units));
        order.then(a.range.id.cmp(&b.range.id)).then(a.to.cmp(&b.to))
    })
}
