//! Re-places a range at random among the stores that hold least: for ranges that were split off one place and are about to be
//! written to all at once. Asked for by people, not a scheduler. Pure.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::StoreId;
use holdfast_common::range::{Descriptor, Replica, Role};

use super::Score;
use super::placing::{destinations, is_at_home, leaderships, neighbours, preference, score, sort};
use crate::operator::{Kind, Relocation};
use crate::view::View;

/// How many replicas more than the least a store may hold and still be chosen.
const SLACK: f64 = 1.5;

/// Chooses new places for the voters of a range and one of them to lead. `pick` gives a number below the one that it is given.
pub fn scatter(range: &Descriptor, view: &View<'_>, pick: &mut dyn FnMut(usize) -> usize) -> Kind {
    let mut voters: Vec<Replica> = range
        .replicas
        .iter()
        .filter(|replica| replica.role == Role::Voter)
        .copied()
        .collect();
    for i in (1..voters.len()).rev() {
        voters.swap(i, pick(i + 1));
    }
    let mut placed: BTreeSet<StoreId> = range.replicas.iter().map(|replica| replica.store).collect();
    let mut moves = Vec::new();
    // As the range will be: zones are counted with what was chosen before.
    let mut becoming = range.clone();
    for voter in voters {
        let Some(to) = place(&becoming, voter, &placed, view, pick) else {
            continue;
        };
        placed.insert(to);
        for replica in becoming.replicas.iter_mut().filter(|known| known.id == voter.id) {
            replica.store = to;
        }
        moves.push(Relocation {
            from: voter.store,
            to,
        });
    }
    let leader = lead(&becoming, view, pick);
    Kind::Scatter { moves, leader }
}

/// A store for a voter among those that would hold least; none when that is where it is, which counts as a place like the others.
fn place(
    range: &Descriptor,
    voter: Replica,
    placed: &BTreeSet<StoreId>,
    view: &View<'_>,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Option<StoreId> {
    let mut scores: Vec<Score> = destinations(range, Some(voter), view);
    scores.retain(|score| !placed.contains(&score.store));
    let here = view.state.stores.get(&voter.store);
    scores.extend(here.filter(|here| is_at_home(here.id, view)).map(|here| {
        let others = view.replicas_on(here.id).saturating_sub(1);
        Score {
            store: here.id,
            score: score(neighbours(range, Some(voter), here, view), others),
        }
    }));
    sort(&mut scores);
    let least = scores.first()?.score;
    scores.retain(|score| score.score <= least + SLACK);
    let chosen = scores[pick(scores.len()).min(scores.len() - 1)].store;
    (chosen != voter.store).then_some(chosen)
}

/// One of the voters' stores that lead least.
fn lead(range: &Descriptor, view: &View<'_>, pick: &mut dyn FnMut(usize) -> usize) -> StoreId {
    let counts: BTreeMap<StoreId, usize> = leaderships(view);
    let leads = |store: &StoreId| counts.get(store).copied().unwrap_or(0);
    let voters = range
        .replicas
        .iter()
        .filter(|replica| replica.role == Role::Voter);
    let stores: Vec<StoreId> = voters
        .map(|voter| voter.store)
        .filter(|store| is_at_home(*store, view))
        .collect();
    let rank = |store: &StoreId| (preference(*store, view), leads(store));
    let least = stores.iter().map(rank).min();
    let best: Vec<StoreId> = stores
        .into_iter()
        .filter(|store| Some(rank(store)) == least)
        .collect();
    match best.len() {
        0 => view.leader(range.id).map_or(StoreId::NONE, |leader| leader.store),
        count => best[pick(count).min(count - 1)],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holdfast_common::key::Key;

    use super::*;
    use crate::operator::Status;
    use crate::schedule::{Repair, Scheduler};
    use crate::world::World;

    /// Numbers that look like chance and are the same every time.
    fn dice() -> impl FnMut(usize) -> usize {
        let mut state = 7u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap_or(0) % below.max(1)
        }
    }

    /// Six stores in three zones; all ranges on the first three, led by the first.
    fn crowded(ranges: usize) -> World {
        let mut world = World::new(&["a", "b", "c", "a", "b", "c"]);
        world.replicate(&[2, 3]);
        for number in 1..ranges {
            let at = Key::new(format!("{number:04}").into_bytes()).unwrap();
            let last = world.state.map.iter().last().unwrap().id;
            world.start(last.0, Kind::Split { at: Some(at) }).unwrap();
            world.run();
        }
        assert_eq!(Repair.propose(&world.view()), []);
        world
    }

    #[test]
    fn ranges_that_were_crowded_are_all_over_the_place() {
        let mut world = crowded(24);
        let mut pick = dice();
        for range in world.state.map.iter().cloned().collect::<Vec<_>>() {
            let range = world.state.map.get(range.id).unwrap().clone();
            let change = scatter(&range, &world.view(), &mut pick);
            let id = world.start(range.id.0, change).unwrap();
            world.run();
            world.heartbeats();
            assert_eq!(world.operator(id).status, Status::Done);
        }
        let (mut replicas, mut leaders) = (BTreeMap::new(), BTreeMap::new());
        for range in world.state.map.iter() {
            let mut zones = BTreeSet::new();
            assert_eq!(range.replicas.len(), 3);
            for replica in &range.replicas {
                assert_eq!(replica.role, Role::Voter);
                *replicas.entry(replica.store).or_insert(0) += 1;
                zones.insert(world.state.stores[&replica.store].labels["zone"].clone());
            }
            assert_eq!(zones.len(), 3, "zones come first");
            let leader = world.view().leader(range.id).unwrap().store;
            *leaders.entry(leader).or_insert(0) += 1;
        }
        assert!(
            replicas.len() == 6 && replicas.values().all(|held| (8..=16).contains(held)),
            "{replicas:?}"
        );
        assert!(
            leaders.len() == 6 && leaders.values().all(|led| (2..=7).contains(led)),
            "{leaders:?}"
        );
    }

    #[test]
    fn where_there_is_no_other_place_only_the_leader_may_change() {
        let mut world = World::new(&["a", "b", "c"]);
        world.replicate(&[2, 3]);
        let range = world.state.map.iter().next().unwrap().clone();
        let Kind::Scatter { moves, .. } = scatter(&range, &world.view(), &mut dice()) else {
            panic!("not a scatter");
        };
        assert_eq!(moves, []);
    }
}
