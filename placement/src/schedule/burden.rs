//! How much is asked of each store: the load of the ranges that it leads, as it will be once what is under way is done. Pure.
//!
//! It is one number, in units of work a second (`common::load`): the schedulers decide by it, the decisions show it as a
//! share of the mean, and `placement_store_score` exports it. Followers' work is not in it: reads go to leaders, and what
//! writes cost followers is spread with the replicas.
//!
//! Three schedulers go by it, and none undoes what another does: `hot` takes only from stores that are *overloaded*, and each
//! of its changes brings two stores closer; `balance_leaders` gives a leadership only to a store that stays well below that
//! ([`Burden::admits`]); `balance` leaves alone the replica that leads a range with much to do. So counts and bytes are
//! levelled with what the loads leave free, and an overloaded store only ever becomes less so.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::range::Descriptor;

use super::Score;
use super::placing::{as_f64, is_at_home, sort};
use crate::operator::Kind;
use crate::view::View;

/// Below this mean, in units a second, nothing is done for the sake of load.
const MIN_MEAN: f64 = 50.0;

/// Below this mean, nothing is left undone for its sake: less than [`MIN_MEAN`], or a load about there would be now one and
/// now the other.
const FORGETTABLE_MEAN: f64 = 25.0;

/// A store is overloaded from this multiple of the mean on.
const OVERLOADED: f64 = 1.2;

/// Up to this multiple of the mean, a store may be given leaderships for other reasons.
const ADMITTED: f64 = 1.1;

/// A range with more than this part of the mean is worth to be left where it is.
const SIGNIFICANT: f64 = 0.02;

/// A range with less than this part of the mean may go anywhere.
const NEGLIGIBLE: f64 = 0.001;

/// The stores that take part in the balance, and their loads.
#[derive(Clone, Debug)]
pub(super) struct Burden {
    loads: BTreeMap<StoreId, f64>,
    /// Stores that lead a range that has not been measured yet.
    unknown: BTreeSet<StoreId>,
    mean: f64,
}

impl Burden {
    /// The stores as they will be.
    pub(super) fn of(view: &View<'_>) -> Self {
        let stores = view.state.stores.keys().filter(|store| is_at_home(**store, view));
        let mut loads: BTreeMap<StoreId, f64> = stores.map(|store| (*store, 0.0)).collect();
        let (mut unknown, mut total) = (BTreeSet::new(), 0.0);
        for range in view.state.map.iter() {
            let Some(leader) = future_leader(range, view) else {
                continue;
            };
            match view.reports.load(range.id) {
                Some(load) => {
                    total += load.units();
                    if let Some(sum) = loads.get_mut(&leader) {
                        *sum += load.units();
                    }
                }
                None => drop(unknown.insert(leader)),
            }
        }
        let mean = total / as_f64(loads.len().max(1));
        Self { loads, unknown, mean }
    }

    /// Whether so much is asked of the cluster that it matters where.
    pub(super) fn matters(&self) -> bool {
        self.mean >= MIN_MEAN && self.loads.len() > 1
    }

    /// What is asked of a store on average.
    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// What is asked of a store; none when it takes no part, or is not known.
    pub(super) fn known(&self, store: StoreId) -> Option<f64> {
        let known = self.loads.get(&store)?;
        (!self.unknown.contains(&store)).then_some(*known)
    }

    /// The stores with more than their share, the most loaded first. Such a store certainly has that much, whatever else it
    /// leads that is not known.
    pub(super) fn overloaded(&self) -> Vec<(StoreId, f64)> {
        if !self.matters() {
            return Vec::new();
        }
        let over = self.loads.iter().filter(|(store, _)| self.is_overloaded(**store));
        let mut over: Vec<(StoreId, f64)> = over.map(|(store, load)| (*store, *load)).collect();
        over.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        over
    }

    /// Whether a store has more than its share.
    pub(super) fn is_overloaded(&self, store: StoreId) -> bool {
        self.matters()
            && self
                .loads
                .get(&store)
                .is_some_and(|load| *load > OVERLOADED * self.mean)
    }

    /// Whether a range's load is such that it moves something.
    pub(super) fn is_noticeable(&self, units: f64) -> bool {
        units > NEGLIGIBLE * self.mean
    }

    /// Whether a range should stay where it is led.
    pub(super) fn is_significant(&self, units: f64) -> bool {
        self.mean >= FORGETTABLE_MEAN && units > SIGNIFICANT * self.mean
    }

    /// Whether a store can be given a leadership for another reason than load.
    pub(super) fn admits(&self, store: StoreId, units: f64) -> bool {
        let load = self.loads.get(&store).copied().unwrap_or(0.0);
        self.mean < FORGETTABLE_MEAN
            || units <= NEGLIGIBLE * self.mean
            || load + units <= ADMITTED * self.mean
    }

    /// Counts a change that was chosen.
    pub(super) fn shift(&mut self, from: StoreId, to: StoreId, units: f64) {
        for (store, change) in [(from, -units), (to, units)] {
            if let Some(load) = self.loads.get_mut(&store) {
                *load += change;
            }
        }
    }

    /// A load as a multiple of the mean.
    pub(super) fn share(&self, units: f64) -> f64 {
        units / self.mean.max(f64::MIN_POSITIVE)
    }

    /// Every store's share, the least loaded first.
    pub(super) fn scores(&self) -> Vec<Score> {
        let scores = self.loads.iter().map(|(store, load)| Score {
            store: *store,
            score: self.share(*load),
        });
        let mut scores: Vec<Score> = scores.collect();
        sort(&mut scores);
        scores
    }
}

/// What is asked of a range, or nothing while it is not known.
pub(super) fn units(range: RangeId, view: &View<'_>) -> f64 {
    view.reports.load(range).map_or(0.0, |load| load.units())
}

/// Who leads a range once what is under way there is done.
pub(super) fn future_leader(range: &Descriptor, view: &View<'_>) -> Option<StoreId> {
    let leads = view.leader(range.id).map(|leader| leader.store)?;
    let under_way = view.state.operators.on_range(range.id);
    match under_way.map(|operator| &operator.intent) {
        Some(intent) => match &intent.kind {
            Kind::TransferLeader { to } => Some(*to),
            // A replica is moved for the load so that it can lead.
            Kind::MoveReplica { to, .. } if intent.source == super::hot::NAME => Some(*to),
            Kind::MoveReplica { from, to } if *from == leads && range.voters().count() == 1 => Some(*to),
            _ => Some(leads),
        },
        None => Some(leads),
    }
}

/// What the leading member asks leaders to sample above, in units a second: what a range must have before it could be split
/// for its load, by either rule of `split_by_load`.
pub fn sample_above(view: &View<'_>) -> u64 {
    let settings = &view.state.settings;
    let burden = Burden::of(view);
    let absolute = settings
        .split_operations_per_second
        .min(settings.split_bytes_per_second / holdfast_common::load::UNIT_BYTES);
    let relative = (burden.mean() * super::split_load::COARSE / 2.0).max(MIN_MEAN);
    // Rates are well below 2⁵³.
    absolute.min(relative as u64)
}

/// What is asked of each store now, in units a second.
pub fn store_loads(view: &View<'_>) -> BTreeMap<StoreId, f64> {
    let mut loads = BTreeMap::new();
    for range in view.state.map.iter() {
        if let Some(leader) = view.leader(range.id) {
            *loads.entry(leader.store).or_insert(0.0) += units(range.id, view);
        }
    }
    loads
}
