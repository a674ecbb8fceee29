//! What a watcher has not been told yet. Pure.
//!
//! A watcher's differ keeps a print of each thing as it was last told, not the thing: eight bytes a range. What is told is
//! made from the view as it is then, so many changes become one, and a slow watcher costs no memory. Figures count as
//! changed when a person would see it: their prints are coarse.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use holdfast_common::ids::{OperatorId, RangeId, StoreId};

use crate::operator::Operator;
use crate::schedule::decision::{Decision, Decisions, Verdict};
use crate::state::Store;
use crate::view::View;

/// Most ranges told at once: the rest follows in the next event.
pub(super) const MAX_RANGES: usize = 1_000;

/// What a watcher was told.
#[derive(Default)]
pub(super) struct Differ {
    stores: HashMap<StoreId, u64>,
    ranges: HashMap<RangeId, u64>,
    operators: HashMap<OperatorId, u64>,
    decisions: HashMap<u64, u64>,
    has_begun: bool,
}

/// What to tell a watcher.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// The watcher knows nothing yet.
    pub(super) is_first: bool,
    /// There is more to tell at once.
    pub(super) has_more: bool,
    pub(super) stores: Vec<StoreId>,
    pub(super) stores_gone: Vec<StoreId>,
    pub(super) ranges: Vec<RangeId>,
    pub(super) ranges_gone: Vec<RangeId>,
    pub(super) operators: Vec<OperatorId>,
    pub(super) operators_gone: Vec<OperatorId>,
    pub(super) decisions: Vec<u64>,
    pub(super) decisions_gone: Vec<u64>,
}

impl Differ {
    /// What changed since it was asked last.
    pub(super) fn news(&mut self, view: &View<'_>, decisions: &Decisions) -> News {
        let leaders = view.reports.leaders_by_store();
        let led = |store: StoreId| leaders.get(&store).copied().unwrap_or(0);
        let stores = view.state.stores.values();
        let (stores, stores_gone, _) = changed(
            &mut self.stores,
            stores.map(|store| (store.id, store_print(store, led(store.id), view))),
            usize::MAX,
        );
        let ranges = view.state.map.iter();
        let (ranges, ranges_gone, has_more) = changed(
            &mut self.ranges,
            ranges.map(|range| (range.id, range_print(range.id, view))),
            MAX_RANGES,
        );
        let all = view.state.operators.running().chain(view.state.operators.ended());
        let (operators, operators_gone, _) = changed(
            &mut self.operators,
            all.map(|operator| (operator.id, operator_print(operator))),
            usize::MAX,
        );
        let (decisions, decisions_gone, _) = changed(
            &mut self.decisions,
            decisions
                .iter()
                .map(|decision| (decision.id, decision_print(decision))),
            usize::MAX,
        );
        News {
            is_first: !std::mem::replace(&mut self.has_begun, true),
            has_more,
            stores,
            stores_gone,
            ranges,
            ranges_gone,
            operators,
            operators_gone,
            decisions,
            decisions_gone,
        }
    }
}

/// The first `most` things that are new or look other than they did, those that are gone, and whether there are more.
fn changed<K: Copy + Eq + Hash + Ord>(
    told: &mut HashMap<K, u64>,
    now: impl Iterator<Item = (K, u64)>,
    most: usize,
) -> (Vec<K>, Vec<K>, bool) {
    let (mut news, mut present, mut has_more) = (Vec::new(), Vec::new(), false);
    for (id, print) in now {
        present.push(id);
        if told.get(&id) == Some(&print) {
            continue;
        }
        if news.len() < most {
            told.insert(id, print);
            news.push(id);
        } else {
            has_more = true;
        }
    }
    let mut gone = Vec::new();
    // Whatever was told and is not there any more makes the two differ in number, unless something new has yet to be told.
    if told.len() != present.len() || has_more {
        present.sort_unstable();
        told.retain(|id, _| {
            let stays = present.binary_search(id).is_ok();
            if !stays {
                gone.push(*id);
            }
            stays
        });
    }
    (news, gone, has_more)
}

fn print(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn store_print(store: &Store, led: usize, view: &View<'_>) -> u64 {
    let report = view.reports.store(store.id);
    let (silence, interval) = (view.silence(store.id), view.state.settings.heartbeat_interval_ms);
    let is_unusual = silence >= interval * 5 / 2;
    print((
        (
            &store.name,
            &store.rpc_address,
            &store.http_address,
            &store.labels,
        ),
        (store.intent as u8, view.health(store.id) as u8, led),
        (
            view.moving_on(store.id),
            report.map(|report| report.replicas.len()),
        ),
        report.map(|report| {
            (
                report.capacity.total,
                coarse(report.capacity.used),
                coarse(report.capacity.available),
            )
        }),
        // How long a silent store has been so is told by the second.
        is_unusual.then_some(silence / 1_000),
    ))
}

fn range_print(id: RangeId, view: &View<'_>) -> u64 {
    let Some(range) = view.state.map.get(id) else {
        return 0;
    };
    let span = view.state.map.effective_span(range);
    let mut hasher = DefaultHasher::new();
    (
        span.start(),
        span.end(),
        range.epoch.bounds,
        range.epoch.membership,
    )
        .hash(&mut hasher);
    for replica in &range.replicas {
        (replica.id, replica.store, replica.role as u8).hash(&mut hasher);
    }
    let operator = view.state.operators.on_range(id).map(|operator| operator.id);
    (
        view.leader(id).map(|leader| leader.store),
        view.range_health(range) as u8,
        operator,
    )
        .hash(&mut hasher);
    if let Some(leading) = view.reports.leading(id) {
        (coarse(leading.size_bytes), coarse(leading.keys)).hash(&mut hasher);
        (rate(leading.reads_per_second), rate(leading.writes_per_second)).hash(&mut hasher);
        for peer in &leading.peers {
            (peer.replica, peer.live, peer.lag_entries.map(coarse)).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn operator_print(operator: &Operator) -> u64 {
    print((operator.current, operator.status.name(), operator.ended_ms))
}

fn decision_print(decision: &Decision) -> u64 {
    let is_taken = matches!(decision.verdict, Verdict::Taken(_));
    // What can't be done is found again every moment.
    print((coarse(decision.times), decision.at_ms / 5_000, is_taken))
}

/// A number without what is below one part in 64 of it.
fn coarse(number: u64) -> u64 {
    let kept = 64 - number.leading_zeros().min(64);
    let dropped = kept.saturating_sub(6);
    (number >> dropped) << dropped
}

/// A rate in steps of about a tenth.
fn rate(per_second: f64) -> i64 {
    if per_second < 0.05 {
        return i64::MIN;
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a logarithm of a finite number is small"
    )]
    let step = (per_second.ln() * 10.0).round() as i64;
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    fn news(differ: &mut Differ, world: &World) -> News {
        differ.news(&world.view(), &Decisions::default())
    }

    #[test]
    fn everything_is_told_once_and_then_only_what_changed() {
        let mut world = World::new(&["a", "b", "c"]);
        let mut differ = Differ::default();
        let first = news(&mut differ, &world);
        assert!(first.is_first && !first.has_more);
        assert_eq!((first.stores.len(), first.ranges.len()), (3, 1));
        assert_eq!(news(&mut differ, &world), News::default());
        world.now += 5_000;
        let silent = news(&mut differ, &world);
        assert_eq!((silent.stores.len(), silent.ranges.len()), (3, 0), "{silent:?}");
        world.heartbeats();
        assert_eq!(news(&mut differ, &world).stores.len(), 3);
    }

    #[test]
    fn many_changes_come_in_parts_and_none_is_lost() {
        let mut told = HashMap::from([(7_u64, 1)]);
        let now = || (0..5_u64).map(|id| (id, id));
        assert_eq!(changed(&mut told, now(), 2), (vec![0, 1], vec![7], true));
        assert_eq!(changed(&mut told, now(), 2), (vec![2, 3], vec![], true));
        assert_eq!(changed(&mut told, now(), 2), (vec![4], vec![], false));
        assert_eq!(changed(&mut told, now(), 2), (vec![], vec![], false));
        assert_eq!(
            changed(&mut told, (1..6_u64).map(|id| (id, id)), 2),
            (vec![5], vec![0], false)
        );
    }

    #[test]
    fn figures_change_when_a_person_would_see_it() {
        assert_eq!(coarse(1_000_000), coarse(1_000_100));
        assert_ne!(coarse(1_000_000), coarse(1_100_000));
        assert_eq!((coarse(0), coarse(63)), (0, 63));
        assert_eq!(rate(100.0), rate(101.0));
        assert_ne!(rate(100.0), rate(150.0));
        assert_eq!(rate(0.0), rate(0.01));
    }
}
