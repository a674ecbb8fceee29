//! The metrics of the placement driver, one function for each thing that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_common::raft;
use holdfast_common::telemetry::catalogue;
use metrics::{counter, gauge, histogram};
use parking_lot::Mutex;

use crate::operator::{Kind, Operator, Status};
use crate::schedule::burden::store_loads;
use crate::state::StoreIntent;
use crate::view::{Health, RangeHealth, View};

mod table;

pub use table::METRICS;

const LEADER: &str = "holdfast_placement_leader";
const STORES: &str = "holdfast_placement_stores";
const RANGES: &str = "holdfast_placement_ranges";
const OPERATORS: &str = "holdfast_placement_operators_total";
const OPERATOR_SECONDS: &str = "holdfast_placement_operator_duration_seconds";
const PENDING: &str = "holdfast_placement_operators_pending";
const HEARTBEAT_AGE: &str = "holdfast_placement_heartbeat_age_seconds";
const STORE_SCORE: &str = "holdfast_placement_store_score";
const HOT_RANGES: &str = "holdfast_placement_hot_range_ops_per_second";

/// The places of the busiest ranges that are shown.
const RANKS: [&str; 20] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19",
    "20",
];
const DIRECTIONS: [&str; 2] = ["read", "write"];
/// What a store is measured by.
const SCORES: [&str; 3] = ["replicas", "leaders", "load"];

/// Every state that a store can be in.
const STORE_STATES: [&str; 7] = [
    "up",
    "suspect",
    "down",
    "draining",
    "decommissioning",
    "lost",
    "removed",
];

/// Describes every metric, and makes each series exist.
pub fn describe() {
    catalogue::describe(METRICS);
    raft::metrics::init();
    leads(false);
    forget();
    for kind in Kind::NAMES {
        for end in Status::ENDS {
            counter!(OPERATORS, "type" => kind, "state" => end).absolute(0);
        }
        let _ = histogram!(OPERATOR_SECONDS, "type" => kind);
    }
}

/// Whether this member leads.
pub fn leads(leads: bool) {
    gauge!(LEADER).set(if leads { 1.0 } else { 0.0 });
}

/// An operator ended.
pub fn operator_ended(operator: &Operator, status: &Status, took: Duration) {
    let kind = operator.intent.kind.name();
    counter!(OPERATORS, "type" => kind, "state" => status.name()).increment(1);
    histogram!(OPERATOR_SECONDS, "type" => kind).record(took.as_secs_f64());
}

/// What only a leading member knows is known no more.
pub fn forget() {
    STORE_STATES
        .iter()
        .for_each(|state| gauge!(STORES, "state" => *state).set(0.0));
    RangeHealth::ALL
        .iter()
        .for_each(|health| gauge!(RANGES, "health" => health.name()).set(0.0));
    Kind::NAMES
        .iter()
        .for_each(|kind| gauge!(PENDING, "type" => *kind).set(0.0));
    for rank in RANKS {
        for direction in DIRECTIONS {
            gauge!(HOT_RANGES, "rank" => rank, "direction" => direction).set(0.0);
        }
    }
    forget_stores(&BTreeSet::new());
}

/// The cluster as the leading member sees it.
pub fn observe(view: &View<'_>) {
    let states = view
        .state
        .stores
        .values()
        .map(|store| store_state(store.intent, view.health(store.id)));
    let states = counted(states);
    for state in STORE_STATES {
        gauge!(STORES, "state" => state).set(amount(states.get(state)));
    }
    // A new leading member knows of no leader before it is told: that is no news about the ranges.
    if view.is_settled() {
        let health = counted(view.state.map.iter().map(|range| view.range_health(range).name()));
        for kind in RangeHealth::ALL {
            gauge!(RANGES, "health" => kind.name()).set(amount(health.get(kind.name())));
        }
    }
    let pending = counted(
        view.state
            .operators
            .running()
            .map(|operator| operator.intent.kind.name()),
    );
    for kind in Kind::NAMES {
        gauge!(PENDING, "type" => kind).set(amount(pending.get(kind)));
    }
    stores(view);
    hot_ranges(view);
}

/// Stores that have series.
static SHOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn stores(view: &View<'_>) {
    let (leaders, loads) = (view.reports.leaders_by_store(), store_loads(view));
    let mut present = BTreeSet::new();
    for store in view.state.living_stores() {
        let id = store.id.to_string();
        let silence = Duration::from_millis(view.silence(store.id));
        let load = loads.get(&store.id).copied().unwrap_or(0.0);
        let scores = [
            amount(Some(&view.replicas_on(store.id))),
            amount(leaders.get(&store.id)),
            load,
        ];
        show_store(&id, silence, scores);
        present.insert(id);
    }
    forget_stores(&present);
}

fn show_store(id: &str, silence: Duration, scores: [f64; 3]) {
    gauge!(HEARTBEAT_AGE, "store" => id.to_owned()).set(silence.as_secs_f64());
    for (kind, score) in SCORES.into_iter().zip(scores) {
        gauge!(STORE_SCORE, "store" => id.to_owned(), "kind" => kind).set(score);
    }
}

/// Those that are not there any more, or not known of any more, hold nothing and are not waited for.
fn forget_stores(present: &BTreeSet<String>) {
    let mut shown = SHOWN.lock();
    for gone in shown.difference(present) {
        show_store(gone, Duration::ZERO, [0.0; 3]);
    }
    shown.clone_from(present);
}

fn hot_ranges(view: &View<'_>) {
    let led: Vec<_> = view
        .state
        .map
        .iter()
        .filter_map(|range| view.reports.leading(range.id))
        .collect();
    let reads = led.iter().map(|leading| leading.reads_per_second).collect();
    let writes = led.iter().map(|leading| leading.writes_per_second).collect();
    for (direction, mut rates) in [("read", reads), ("write", writes)] as [(&str, Vec<f64>); 2] {
        rates.sort_by(|a, b| b.total_cmp(a));
        rates.resize(RANKS.len(), 0.0);
        for (rank, rate) in RANKS.into_iter().zip(rates) {
            gauge!(HOT_RANGES, "rank" => rank, "direction" => direction).set(rate);
        }
    }
}

/// The state of a store as the admin API and the metrics name it: what is to become of it, else whether it is there.
pub fn store_state(intent: StoreIntent, health: Health) -> &'static str {
    match (intent, health) {
        (StoreIntent::Removed, _) => "removed",
        (StoreIntent::Lost, _) => "lost",
        (_, Health::Down) => "down",
        (StoreIntent::Draining, _) => "draining",
        (StoreIntent::Decommissioning, _) => "decommissioning",
        (StoreIntent::Active, Health::Suspect) => "suspect",
        (StoreIntent::Active, Health::Up) => "up",
    }
}

fn counted<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn amount(count: Option<&usize>) -> f64 {
    count.map_or(0.0, |count| {
        u32::try_from(*count).map_or(f64::from(u32::MAX), f64::from)
    })
}
