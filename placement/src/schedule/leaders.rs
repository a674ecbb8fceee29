//! Spreads leaderships over the stores: a leader does most of a range's work.
//!
//! Where the settings prefer stores with certain labels for leaders (`leader_preference`), a leadership goes to a voter's store
//! that is preferred to the one that leads, and among the others the balance is kept within those that are equally wanted.
//!
//! A leadership goes from the store that leads most to the voter's store that leads least, if they differ by two at least,
//! and by more than a twentieth of the mean, and if the one that takes it has load to spare ([`Burden`]): spreading load
//! comes before spreading numbers. Counts include what is under way, so a look never repeats the last one.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::range::Descriptor;

use super::burden::{Burden, units};
use super::placing::{as_f64, heirs, is_at_home, leaderships, preference, sort};
use super::{Idea, Scheduler, Score};
use crate::operator::Kind;
use crate::settings::Settings;
use crate::view::View;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct BalanceLeaders;

/// Most transfers begun at a look.
const TRANSFERS: usize = 16;

/// Stores must differ by more than one part in this many of the mean.
const TOLERANCE: usize = 20;

impl Scheduler for BalanceLeaders {
    fn name(&self) -> &'static str {
        "balance_leaders"
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        settings.schedulers.balance_leaders
    }

    fn propose(&self, view: &View<'_>) -> Vec<Idea> {
        let mut counts = leaderships(view);
        counts.retain(|store, _| is_at_home(*store, view));
        for store in view.state.stores.keys().filter(|store| is_at_home(**store, view)) {
            counts.entry(*store).or_default();
        }
        let mut led: BTreeMap<StoreId, Vec<&Descriptor>> = BTreeMap::new();
        let idle = view.idle_ranges();
        for range in idle {
            if let Some(leader) = view.leader(range.id) {
                led.entry(leader.store).or_default().push(range);
            }
        }
        let (mut ideas, mut taken) = (Vec::new(), BTreeSet::new());
        let mut burden = Burden::of(view);
        for range in led.values().flatten() {
            if ideas.len() < TRANSFERS
                && let Some((from, to)) = preferred(range, &counts, view)
            {
                *counts.entry(from).or_default() -= 1;
                *counts.entry(to).or_default() += 1;
                burden.shift(from, to, units(range.id, view));
                taken.insert(range.id);
                ideas.push(preference_idea(range, from, to));
            }
        }
        while ideas.len() < TRANSFERS
            && let Some(idea) = best_transfer(&counts, &burden, &led, &taken, view)
        {
            let (from, to) = idea.1;
            burden.shift(from, to, units(idea.0.range, view));
            *counts.entry(from).or_default() -= 1;
            *counts.entry(to).or_default() += 1;
            taken.insert(idea.0.range);
            ideas.push(idea.0);
        }
        ideas
    }
}

/// From where to where a leadership has to go for a more wanted store to have it.
fn preferred(
    range: &Descriptor,
    counts: &BTreeMap<StoreId, usize>,
    view: &View<'_>,
) -> Option<(StoreId, StoreId)> {
    let from = view.leader(range.id)?.store;
    let here = preference(from, view);
    // A store that is to be emptied is `evacuate`'s.
    let wanted = heirs(range, view)
        .into_iter()
        .map(|heir| heir.store)
        .filter(|store| preference(*store, view) < here && counts.contains_key(&from));
    let leads = |store: &StoreId| counts.get(store).copied().unwrap_or(0);
    let to = wanted.min_by_key(|store| (preference(*store, view), leads(store), *store))?;
    Some((from, to))
}

fn preference_idea(range: &Descriptor, from: StoreId, to: StoreId) -> Idea {
    Idea {
        range: range.id,
        change: Some(Kind::TransferLeader { to }),
        why: format!("leader_preference wants store {to} rather than store {from}"),
        scores: Vec::new(),
    }
}

fn best_transfer(
    counts: &BTreeMap<StoreId, usize>,
    burden: &Burden,
    led: &BTreeMap<StoreId, Vec<&Descriptor>>,
    taken: &BTreeSet<RangeId>,
    view: &View<'_>,
) -> Option<(Idea, (StoreId, StoreId))> {
    let mean = counts.values().sum::<usize>() / counts.len().max(1);
    let least_gap = (mean / TOLERANCE).max(1);
    let mut order: Vec<(usize, StoreId)> = counts.iter().map(|(store, count)| (*count, *store)).collect();
    order.sort_unstable_by_key(|(count, store)| (std::cmp::Reverse(*count), *store));
    for (most, from) in order {
        let ranges = led.get(&from).into_iter().flatten();
        let choices = ranges
            .filter(|range| !taken.contains(&range.id))
            .filter_map(|range| {
                let (heirs, units) = (heirs(range, view).into_iter(), units(range.id, view));
                let stores = heirs
                    .map(|heir| heir.store)
                    .filter(|store| burden.admits(*store, units))
                    .filter(|store| preference(*store, view) <= preference(from, view));
                let least = stores.min_by_key(|store| (counts.get(store).copied().unwrap_or(0), *store))?;
                Some((counts.get(&least).copied().unwrap_or(0), *range, least))
            });
        let Some((fewest, range, to)) = choices.min_by_key(|(count, range, _)| (*count, range.id)) else {
            continue;
        };
        if most.saturating_sub(fewest) > least_gap {
            let mut scores: Vec<Score> = counts
                .iter()
                .map(|(store, count)| Score {
                    store: *store,
                    score: as_f64(*count),
                })
                .collect();
            sort(&mut scores);
            let idea = Idea {
                range: range.id,
                change: Some(Kind::TransferLeader { to }),
                why: format!("store {from} leads {most} ranges, store {to} {fewest}"),
                scores,
            };
            return Some((idea, (from, to)));
        }
    }
    None
}
