//! The schedulers that move replicas and leaderships, on a cluster whose stores obey at once.

use std::collections::BTreeMap;

use holdfast_common::ids::StoreId;
use holdfast_common::key::Key;
use holdfast_common::range::{Descriptor, Role};

use super::departure::{Departure, departure};
use super::{Balance, BalanceLeaders, Evacuate, Idea, MergeSmall, Repair, Scheduler, SplitBySize};
use crate::command::{Command, Outcome};
use crate::operator::{Kind, Status};
use crate::state::StoreIntent;
use crate::world::{World, register};

/// Starts what a scheduler wants, lets it happen, and looks again, until it wants nothing. Returns how many changes it took.
pub(super) fn settle(world: &mut World, scheduler: &dyn Scheduler) -> usize {
    let mut changes = 0;
    for _ in 0..200 {
        let ideas: Vec<Idea> = scheduler.propose(&world.view());
        let wanted: Vec<_> = ideas
            .into_iter()
            .filter_map(|idea| Some((idea.range, idea.change?)))
            .collect();
        if wanted.is_empty() {
            return changes;
        }
        for (range, change) in wanted {
            let id = world.start(range.0, change).unwrap();
            changes += 1;
            assert_eq!(world.operator(id).status, Status::Running);
        }
        world.run();
    }
    panic!("{} never comes to rest", scheduler.name());
}

/// A cluster of three stores with `ranges` ranges of three voters each, and `more` stores that came later.
pub(super) fn cluster(zones: &[&str], ranges: usize, more: &[&str]) -> World {
    let mut world = World::new(zones);
    settle(&mut world, &Repair);
    for number in 1..ranges {
        let at = Key::new(format!("{number:04}").into_bytes()).unwrap();
        let last = world.state.map.iter().last().unwrap().id;
        world.start(last.0, Kind::Split { at: Some(at) }).unwrap();
        world.run();
    }
    for (i, zone) in more.iter().enumerate() {
        let number = (zones.len() + i + 1) as u64;
        let store = register(number, zone);
        world.apply(Command::Register { store, now_ms: 0 });
        world.stores.holds.insert(StoreId(number), BTreeMap::new());
    }
    world.heartbeats();
    world
}

pub(super) fn replicas(world: &World) -> Vec<usize> {
    let count = |store: &StoreId| {
        let ranges = world.state.map.iter();
        ranges.filter(|range| range.replica_on(*store).is_some()).count()
    };
    world.state.stores.keys().map(count).collect()
}

pub(super) fn leaders(world: &World) -> Vec<usize> {
    let counts = world.reports.leaders_by_store();
    let stores = world.state.stores.keys();
    stores
        .map(|store| counts.get(store).copied().unwrap_or(0))
        .collect()
}

fn retire(world: &mut World, store: u64, intent: StoreIntent) -> bool {
    let store = StoreId(store);
    world.apply(Command::Retire { store, intent }) == Outcome::Found(true)
}

fn has_three_voters(world: &World) -> bool {
    let voters = |range: &Descriptor| {
        let replicas = range.replicas.iter();
        replicas.filter(|replica| replica.role == Role::Voter).count() == 3
    };
    world.state.map.iter().all(voters)
}

#[test]
fn new_stores_take_their_share_and_then_all_is_still() {
    let mut world = cluster(&["a", "a", "a"], 60, &["a", "a"]);
    assert_eq!(replicas(&world), [60, 60, 60, 0, 0]);
    let moves = settle(&mut world, &Balance);
    assert!(replicas(&world).iter().all(|count| (35..=37).contains(count)));
    assert!(moves <= 72, "no move is in vain: {moves}");
    assert!(has_three_voters(&world));
    settle(&mut world, &BalanceLeaders);
    assert!(leaders(&world).iter().all(|count| (11..=13).contains(count)));
    assert_eq!(settle(&mut world, &Balance), 0);
    assert_eq!(settle(&mut world, &BalanceLeaders), 0);
}

#[test]
fn what_is_under_way_is_not_moved_again() {
    let mut world = cluster(&["a", "a", "a"], 12, &["a"]);
    let first = Balance.propose(&world.view());
    assert_eq!(first.len(), 9, "a quarter of 36 replicas");
    for idea in first {
        world.start(idea.range.0, idea.change.unwrap()).unwrap();
    }
    assert_eq!(Balance.propose(&world.view()), []);
}

#[test]
fn zones_come_before_balance() {
    // Two stores in c share what the stores in a and b have each: every range needs a replica in each zone.
    let mut world = cluster(&["a", "b", "c"], 12, &["c"]);
    settle(&mut world, &Balance);
    assert_eq!(replicas(&world), [12, 12, 6, 6]);
}

#[test]
fn a_store_that_is_drained_leads_nothing_and_keeps_its_replicas() {
    let mut world = cluster(&["a", "a", "a"], 12, &[]);
    settle(&mut world, &BalanceLeaders);
    assert!(retire(&mut world, 2, StoreIntent::Draining));
    settle(&mut world, &Evacuate);
    assert_eq!(settle(&mut world, &BalanceLeaders), 0, "nothing is given back");
    assert_eq!(leaders(&world), [6, 0, 6]);
    assert_eq!(replicas(&world), [12, 12, 12]);
    assert!(retire(&mut world, 2, StoreIntent::Active));
    settle(&mut world, &BalanceLeaders);
    assert_eq!(leaders(&world), [4, 4, 4]);
}

#[test]
fn a_decommissioned_store_is_emptied_and_can_be_removed_only_then() {
    let mut world = cluster(&["a", "a", "a"], 12, &["a"]);
    settle(&mut world, &Balance);
    assert!(!retire(&mut world, 2, StoreIntent::Removed), "it is in service");
    assert!(retire(&mut world, 2, StoreIntent::Decommissioning));
    assert!(!retire(&mut world, 2, StoreIntent::Removed), "it is not empty");
    settle(&mut world, &Evacuate);
    assert_eq!(replicas(&world), [12, 0, 12, 12]);
    assert!(has_three_voters(&world));
    assert!(retire(&mut world, 2, StoreIntent::Removed));
    assert!(
        !retire(&mut world, 2, StoreIntent::Active),
        "it does not come back"
    );
}

#[test]
fn of_a_range_with_a_voter_too_many_the_one_that_leaves_simply_goes() {
    let mut world = cluster(&["a", "a", "a"], 1, &[]);
    assert!(retire(&mut world, 3, StoreIntent::Decommissioning));
    // Two stores stay, so two voters are wanted.
    let idea = Evacuate.propose(&world.view()).remove(0);
    assert!(
        matches!(idea.change, Some(Kind::RemoveReplica { .. })),
        "{idea:?}"
    );
}

fn departure_of(world: &World, store: u64, intent: StoreIntent) -> Departure {
    departure(&world.state.stores[&StoreId(store)], intent, &world.view())
}

#[test]
fn a_departure_names_every_move_or_what_is_in_the_way() {
    let world = cluster(&["a", "a", "a"], 4, &[]);
    let stuck = departure_of(&world, 3, StoreIntent::Decommissioning);
    // Too few stores, and four ranges with nowhere to go.
    assert_eq!((stuck.moves.len(), stuck.problems.len()), (0, 5), "{stuck:?}");

    let world = cluster(&["a", "a", "a"], 4, &["a", "a"]);
    let free = departure_of(&world, 3, StoreIntent::Decommissioning);
    assert_eq!(free.problems, Vec::<String>::new());
    assert_eq!((free.ranges, free.moves.len(), free.shared_zones), (4, 4, 4));
    let to = |store| free.moves.iter().filter(|way| way.to == StoreId(store)).count();
    assert_eq!((to(4), to(5)), (2, 2), "what was given already counts");

    let drained = departure_of(&world, 1, StoreIntent::Draining);
    assert_eq!((drained.leaders, drained.moves.len()), (4, 0));
    assert_eq!(drained.problems, Vec::<String>::new());
}

#[test]
fn a_departure_counts_on_what_is_under_way() {
    let (from, to) = (StoreId(2), StoreId(4));
    let mut world = cluster(&["a", "a", "a"], 1, &["a"]);
    let range = world.state.map.iter().next().unwrap().id;
    let ways = |world: &World, store| {
        let plan = departure_of(world, store, StoreIntent::Decommissioning);
        assert_eq!(plan.problems, Vec::<String>::new(), "store {store}");
        plan.moves.iter().map(|way| way.to.0).collect::<Vec<u64>>()
    };
    let id = world.start(range.0, Kind::MoveReplica { from, to }).unwrap();
    let mut looks = 0;
    while world.operator(id).status == Status::Running {
        // The only store without a replica is being given one, and the one that gives it up will have none.
        assert_eq!(ways(&world, 1), [2]);
        assert_eq!(
            ways(&world, 4),
            [2],
            "what is on its way there will have to leave again"
        );
        assert!(ways(&world, 2).is_empty(), "it is leaving already");
        world.tick();
        world.heartbeats();
        looks += 1;
    }
    assert!(looks > 4, "it was seen at every step: {looks}");
    assert_eq!(world.operator(id).status, Status::Done);
    assert_eq!(ways(&world, 1), [2]);
}

#[test]
fn small_neighbours_merge_once_their_bounds_are_old_and_large_ones_never() {
    let mut world = cluster(&["a", "a", "a"], 40, &["a"]);
    settle(&mut world, &Balance);
    assert_eq!(settle(&mut world, &MergeSmall), 0, "their bounds are new");
    world.state.settings.merge_after_ms = 30_000;
    let large = world.state.map.iter().nth(20).unwrap().id;
    world.stores.truth(large).size_bytes = 90 << 20;
    for _ in 0..40 {
        // What has merged waits again.
        settle(&mut world, &MergeSmall);
        (0..31).for_each(|_| world.heartbeats());
    }
    let left: Vec<_> = world.state.map.iter().map(|range| range.id).collect();
    assert_eq!(
        left.len(),
        3,
        "what is left and right of the large one, and that: {left:?}"
    );
    assert!(left.contains(&large));
    assert_eq!(settle(&mut world, &SplitBySize), 0, "nothing is split again");
    assert!(has_three_voters(&world));
}

#[test]
fn leaders_are_where_the_settings_want_them_and_then_all_is_still() {
    let mut world = cluster(&["a", "b", "c"], 12, &[]);
    settle(&mut world, &BalanceLeaders);
    assert_eq!(leaders(&world), [4, 4, 4]);
    let prefer = |world: &mut World, labels: &[&str]| {
        let mut settings = world.state.settings.clone();
        settings.leader_preference = labels.iter().map(|label| (*label).to_owned()).collect();
        let from = world.state.settings_version;
        world.apply(Command::Configure { from, settings });
        settle(world, &BalanceLeaders)
    };
    assert_eq!(prefer(&mut world, &["zone=b"]), 8);
    assert_eq!(leaders(&world), [0, 12, 0]);
    assert_eq!(settle(&mut world, &BalanceLeaders), 0, "still");
    // The most wanted is away: the next takes its place, and gives it back.
    world.stores.sleep(StoreId(2));
    for _ in 0..40 {
        world.heartbeats();
    }
    prefer(&mut world, &["zone=b", "zone=c"]);
    assert_eq!(leaders(&world)[2], 12);
    world.stores.wake(StoreId(2));
    world.heartbeats();
    settle(&mut world, &BalanceLeaders);
    assert_eq!(leaders(&world), [0, 12, 0]);
    prefer(&mut world, &[]);
    assert_eq!(
        leaders(&world),
        [4, 4, 4],
        "without a preference they are spread again"
    );
}
