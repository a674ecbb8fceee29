//! Where a replica can go, and where a leadership can. Pure.

use std::collections::BTreeMap;

use holdfast_common::ids::StoreId;
use holdfast_common::range::{Descriptor, Replica, Role};

use super::Score;
use crate::operator::Kind;
use crate::state::{Store, StoreIntent};
use crate::view::{Health, View};

/// The label by which stores fail together.
const ZONE: &str = "zone";

/// What another replica in the same zone counts, in replicas: more than any store has, so that zones come first.
const SAME_ZONE: f64 = 1e6;

/// Entries that a voter may lack and still be handed the leadership.
const NEARLY_THERE: u64 = 1_000;

/// The stores that a replica could go to, best first: other zones before zones that have a replica already (one that is
/// being replaced does not count), then the fewest replicas.
pub(super) fn destinations(range: &Descriptor, leaving: Option<Replica>, view: &View<'_>) -> Vec<Score> {
    let mut scores: Vec<Score> = view
        .candidates(range)
        .map(|store| {
            let neighbours = neighbours(range, leaving, store, view);
            Score {
                store: store.id,
                score: score(neighbours, view.replicas_on(store.id)),
            }
        })
        .collect();
    sort(&mut scores);
    scores
}

/// How well a store suits that has so many of the range's other replicas in its zone, and so many replicas.
pub(super) fn score(neighbours: usize, replicas: usize) -> f64 {
    SAME_ZONE * as_f64(neighbours) + as_f64(replicas)
}

/// As [`destinations`], with the replicas that each store was `given` at this look counted, or all would go to the same one.
pub(super) fn destinations_beside(
    range: &Descriptor,
    leaving: Replica,
    given: &BTreeMap<StoreId, usize>,
    view: &View<'_>,
) -> Vec<Score> {
    let mut scores = destinations(range, Some(leaving), view);
    for score in &mut scores {
        score.score += as_f64(given.get(&score.store).copied().unwrap_or(0));
    }
    sort(&mut scores);
    scores
}

/// How many other replicas of the range are in a store's zone; one that leaves does not count.
pub(super) fn neighbours(
    range: &Descriptor,
    leaving: Option<Replica>,
    store: &Store,
    view: &View<'_>,
) -> usize {
    let Some(zone) = zone(store) else { return 0 };
    let staying = range
        .replicas
        .iter()
        .filter(|replica| leaving.is_none_or(|leaving| leaving.id != replica.id));
    staying
        .filter(|replica| {
            let other = view.state.stores.get(&replica.store);
            replica.store != store.id && other.and_then(self::zone) == Some(zone)
        })
        .count()
}

fn zone(store: &Store) -> Option<&String> {
    store.labels.get(ZONE)
}

/// The voters that could lead a range in place of the one that does: on stores that are up and are not to be emptied, with
/// (nearly) everything in their log.
pub(super) fn heirs(range: &Descriptor, view: &View<'_>) -> Vec<Replica> {
    let Some(leader) = view.leader(range.id) else {
        return Vec::new();
    };
    let able = |replica: &&Replica| {
        replica.role == Role::Voter
            && replica.id != leader.replica
            && is_at_home(replica.store, view)
            && view.progress(range.id, replica.id).is_some_and(|progress| {
                progress.live && progress.lag_entries.is_some_and(|lag| lag <= NEARLY_THERE)
            })
    };
    range.replicas.iter().filter(able).copied().collect()
}

/// Whether a store takes part in the balance: it is up, and it is not to be emptied.
pub(super) fn is_at_home(store: StoreId, view: &View<'_>) -> bool {
    let known = view.state.stores.get(&store);
    known.is_some_and(|known| known.intent == StoreIntent::Active) && view.health(store) == Health::Up
}

/// How many ranges each store leads, and will once the transfers under way are done.
pub(super) fn leaderships(view: &View<'_>) -> BTreeMap<StoreId, usize> {
    let mut counts = BTreeMap::new();
    for range in view.state.map.iter() {
        let under_way = view.state.operators.on_range(range.id);
        let leads = match under_way.map(|operator| &operator.intent.kind) {
            Some(Kind::TransferLeader { to } | Kind::Scatter { leader: to, .. }) => Some(*to),
            _ => view.leader(range.id).map(|leader| leader.store),
        };
        if let Some(store) = leads {
            *counts.entry(store).or_default() += 1;
        }
    }
    counts
}

/// How much a store is wanted for leaders, by the settings: the place of the first preferred label that it has, from zero.
pub(super) fn preference(store: StoreId, view: &View<'_>) -> usize {
    let wanted = &view.state.settings.leader_preference;
    let has = |label: &String| {
        let labels = view.state.stores.get(&store).map(|store| &store.labels);
        let pair = label.split_once('=');
        pair.is_some_and(|(name, value)| {
            labels
                .and_then(|labels| labels.get(name))
                .is_some_and(|known| known == value)
        })
    };
    wanted.iter().position(has).unwrap_or(wanted.len())
}

/// Best first.
pub(super) fn sort(scores: &mut [Score]) {
    scores.sort_by(|a, b| a.score.total_cmp(&b.score).then(a.store.cmp(&b.store)));
}

/// Exact up to 2³².
pub(super) fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
