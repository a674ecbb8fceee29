use holdfast_common::ids::StoreId;

use super::*;
use crate::world::World;

fn changes(world: &World) -> Vec<Option<Kind>> {
    Repair
        .propose(&world.view())
        .into_iter()
        .map(|idea| idea.change)
        .collect()
}

fn add(to: u64) -> Vec<Option<Kind>> {
    vec![Some(Kind::AddReplica { to: StoreId(to) })]
}

/// Lets a store be silent for `seconds`.
fn silence(world: &mut World, store: u64, seconds: u64) {
    world.stores.holds.remove(&StoreId(store));
    for _ in 0..seconds {
        world.heartbeats();
    }
}

#[test]
fn a_range_gets_as_many_voters_as_there_are_stores_for() {
    let mut world = World::new(&["a"]);
    assert_eq!(changes(&world), []);
    world = World::new(&["a", "b"]);
    assert_eq!(changes(&world), add(2));
    world.replicate(&[2]);
    assert_eq!(changes(&world), []);
}

#[test]
fn another_zone_comes_before_an_emptier_store() {
    let mut world = World::new(&["a", "a", "b"]);
    assert_eq!(changes(&world), add(3));
    world.replicate(&[3]);
    assert_eq!(changes(&world), add(2), "zones are spent");
}

#[test]
fn of_equal_zones_the_emptier_store_is_taken() {
    let mut world = World::new(&["a", "b", "b"]);
    world.replicate(&[2]);
    world.start(1, Kind::Split { at: None }).unwrap();
    world.run();
    let scores = |world: &World| Repair.propose(&world.view()).remove(0).scores;
    assert_eq!(
        scores(&world)
            .iter()
            .map(|score| score.store.0)
            .collect::<Vec<_>>(),
        [3]
    );
    assert_eq!(Repair.propose(&world.view()).len(), 2, "both halves lack a voter");
}

#[test]
fn a_store_that_is_away_for_a_moment_is_not_replaced() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.replicate(&[2, 3]);
    silence(&mut world, 3, 100);
    assert_eq!(changes(&world), []);
    silence(&mut world, 3, 600);
    assert_eq!(
        changes(&world),
        [Some(Kind::MoveReplica {
            from: StoreId(3),
            to: StoreId(4)
        })]
    );
    let why = &Repair.propose(&world.view())[0].why;
    assert!(why.starts_with("store 3 has been down for"), "{why}");
}

#[test]
fn without_a_store_to_go_to_nothing_can_be_done_and_that_is_said() {
    let mut world = World::new(&["a", "b", "c"]);
    world.replicate(&[2, 3]);
    silence(&mut world, 3, 700);
    let ideas = Repair.propose(&world.view());
    assert_eq!(ideas.len(), 1);
    assert_eq!(ideas[0].change, None);
    assert!(
        ideas[0].why.contains("no store can take a replica"),
        "{}",
        ideas[0].why
    );
}

#[test]
fn a_full_store_takes_nothing() {
    let mut world = World::new(&["a", "b"]);
    world.stores.truth(holdfast_common::ids::RangeId(1)).size_bytes = 600 << 30;
    world.heartbeats();
    assert_eq!(changes(&world), [None]);
}

#[test]
fn a_surplus_voter_goes_from_the_fullest_store_but_never_the_leader() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.replicate(&[2, 3]);
    world.state.settings.replication_factor = 2;
    let leader = world.stores.ranges[&holdfast_common::ids::RangeId(1)].leader;
    let [Some(Kind::RemoveReplica { replica })] = changes(&world)[..] else {
        panic!()
    };
    assert_ne!(Some(replica), leader);
}

#[test]
fn a_surplus_is_not_removed_while_live_voters_are_few() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.replicate(&[2, 3]);
    silence(&mut world, 3, 100);
    world.state.settings.replication_factor = 2;
    // The one that is down goes; the two that live stay.
    let down = world
        .state
        .map
        .iter()
        .next()
        .unwrap()
        .replica_on(StoreId(3))
        .unwrap()
        .id;
    assert_eq!(changes(&world), [Some(Kind::RemoveReplica { replica: down })]);
    world.state.settings.replication_factor = 3;
    assert_eq!(changes(&world), []);
}

#[test]
fn a_learner_left_behind_is_removed_before_anything_else() {
    let mut world = World::new(&["a", "b", "c"]);
    let learner = Replica {
        id: holdfast_common::ids::ReplicaId(2),
        store: StoreId(2),
        role: Role::Learner,
    };
    world.apply(crate::command::Command::AllocateIds { count: 5 });
    let stray = Replica {
        id: holdfast_common::ids::ReplicaId(5),
        ..learner
    };
    world
        .stores
        .change(holdfast_common::ids::RangeId(1), |members| members.push(stray));
    world.heartbeats();
    assert_eq!(changes(&world), [Some(Kind::RemoveReplica { replica: stray.id })]);
}
