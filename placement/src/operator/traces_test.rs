//! Operators from beginning to end, as the steps that the stores are told.

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::proto::placement::{Step, VoterChange};
use holdfast_common::range::Role;

use super::judge::{Verdict, judge};
use super::*;
use crate::command::Command;
use crate::world::World;

fn three() -> World {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.replicate(&[2, 3]);
    world
}

fn stores_of(world: &World, range: u64) -> Vec<u64> {
    let range = world.state.map.get(RangeId(range)).unwrap();
    let mut stores: Vec<u64> = range.voters().map(|voter| voter.store.0).collect();
    stores.sort_unstable();
    stores
}

#[test]
fn the_first_store_creates_the_first_range() {
    let world = World::new(&["a"]);
    let first = world.operator(OperatorId(1));
    assert_eq!(
        (first.intent.kind.name(), &first.status),
        ("create_first", &Status::Done)
    );
    assert_eq!(stores_of(&world, 1), [1]);
}

#[test]
fn a_replica_is_added_by_way_of_a_learner() {
    let mut world = World::new(&["a", "b"]);
    let id = world.start(1, Kind::AddReplica { to: StoreId(2) }).unwrap();
    assert_eq!(
        world.run(),
        [
            "store 2: create replica 3 of range 1",
            "store 1: add learner 3 on store 2",
            "store 1: promote [(3)], remove []"
        ]
    );
    assert_eq!(world.operator(id).status, Status::Done);
    assert_eq!(stores_of(&world, 1), [1, 2]);
}

#[test]
fn a_replica_moves_in_one_joint_change() {
    let mut world = three();
    let id = world
        .start(
            1,
            Kind::MoveReplica {
                from: StoreId(2),
                to: StoreId(4),
            },
        )
        .unwrap();
    assert_eq!(
        world.run(),
        [
            "store 4: create replica 5 of range 1",
            "store 1: add learner 5 on store 4",
            "store 1: promote [(5)], remove [(3)]",
            "store 2: destroy replica 3",
        ]
    );
    assert_eq!(world.operator(id).status, Status::Done);
    assert_eq!(stores_of(&world, 1), [1, 3, 4]);
}

#[test]
fn a_leader_that_moves_hands_over_first() {
    let mut world = three();
    world
        .start(
            1,
            Kind::MoveReplica {
                from: StoreId(1),
                to: StoreId(4),
            },
        )
        .unwrap();
    assert_eq!(
        world.run(),
        [
            "store 4: create replica 5 of range 1",
            "store 1: add learner 5 on store 4",
            "store 1: hand the leadership to 3",
            "store 2: promote [(5)], remove [(2)]",
            "store 1: destroy replica 2",
        ]
    );
    assert_eq!(stores_of(&world, 1), [2, 3, 4]);
}

#[test]
fn the_only_voter_moves_in_two_changes() {
    let mut world = World::new(&["a", "b"]);
    world
        .start(
            1,
            Kind::MoveReplica {
                from: StoreId(1),
                to: StoreId(2),
            },
        )
        .unwrap();
    assert_eq!(
        world.run(),
        [
            "store 2: create replica 3 of range 1",
            "store 1: add learner 3 on store 2",
            "store 1: promote [(3)], remove []",
            "store 1: hand the leadership to 3",
            "store 2: promote [], remove [(2)]",
            "store 1: destroy replica 2",
        ]
    );
    assert_eq!(stores_of(&world, 1), [2]);
}

#[test]
fn a_learner_is_not_promoted_before_it_has_caught_up() {
    let mut world = three();
    world.stores.truth(RangeId(1)).lag = 100_000;
    let id = world
        .start(
            1,
            Kind::MoveReplica {
                from: StoreId(2),
                to: StoreId(4),
            },
        )
        .unwrap();
    world.run();
    assert_eq!(world.operator(id).action().map(Action::name), Some("catch_up"));
    assert_eq!(stores_of(&world, 1), [1, 2, 3]);
    world.stores.truth(RangeId(1)).lag = 0;
    world.run();
    assert_eq!(world.operator(id).status, Status::Done);
}

#[test]
fn a_move_fails_when_its_target_goes_down_and_nothing_is_removed() {
    let mut world = three();
    world.stores.truth(RangeId(1)).lag = 100_000;
    let id = world
        .start(
            1,
            Kind::MoveReplica {
                from: StoreId(2),
                to: StoreId(4),
            },
        )
        .unwrap();
    world.tick();
    world.stores.holds.remove(&StoreId(4));
    world.run();
    assert!(
        matches!(&world.operator(id).status, Status::Failed(reason) if reason.contains("store 4 is down"))
    );
    assert_eq!(stores_of(&world, 1), [1, 2, 3]);
}

#[test]
fn a_split_is_done_when_both_sides_are_known() {
    let mut world = three();
    let id = world
        .start(
            1,
            Kind::Split {
                at: Some(Key::new("g").unwrap()),
            },
        )
        .unwrap();
    assert_eq!(world.run(), ["store 1: split off 5 at g"]);
    assert_eq!(world.operator(id).status, Status::Done);
    assert_eq!(stores_of(&world, 5), [1, 2, 3]);
    assert_eq!(world.state.map.holes(), []);
}

#[test]
fn a_split_where_a_range_begins_is_refused() {
    let mut world = three();
    world
        .start(
            1,
            Kind::Split {
                at: Some(Key::new("g").unwrap()),
            },
        )
        .unwrap();
    world.run();
    let again = world.start(
        5,
        Kind::Split {
            at: Some(Key::new("g").unwrap()),
        },
    );
    assert!(matches!(again, Err(Refusal::Conflict(_))), "{again:?}");
}

#[test]
fn the_leadership_is_transferred_to_a_voter_only() {
    let mut world = three();
    assert!(matches!(
        world.start(1, Kind::TransferLeader { to: StoreId(4) }),
        Err(Refusal::Conflict(_))
    ));
    assert!(matches!(
        world.start(1, Kind::TransferLeader { to: StoreId(9) }),
        Err(Refusal::NoSuchStore(_))
    ));
    world.start(1, Kind::TransferLeader { to: StoreId(3) }).unwrap();
    assert_eq!(world.run(), ["store 1: hand the leadership to 4"]);
}

#[test]
fn a_range_has_one_operator_at_a_time() {
    let mut world = three();
    let first = world.start(1, Kind::TransferLeader { to: StoreId(3) }).unwrap();
    let second = world.start(
        1,
        Kind::MoveReplica {
            from: StoreId(2),
            to: StoreId(4),
        },
    );
    assert_eq!(second, Err(Refusal::RangeBusy(RangeId(1), first)));
}

#[test]
fn a_step_that_takes_too_long_ends_the_operator() {
    let mut world = three();
    let id = world.start(1, Kind::TransferLeader { to: StoreId(3) }).unwrap();
    let judged = |since| judge(world.operator(id), since, &world.view());
    assert_eq!(judged(world.now - 15_000), Verdict::Wait);
    assert!(matches!(
        judged(world.now - 15_001),
        Verdict::End(Status::TimedOut(_))
    ));
}

#[test]
fn steps_and_ends_that_are_said_twice_count_once() {
    let mut world = three();
    let id = world
        .start(
            1,
            Kind::MoveReplica {
                from: StoreId(2),
                to: StoreId(4),
            },
        )
        .unwrap();
    for _ in 0..2 {
        world.apply(Command::Advance {
            id,
            step: 0,
            now_ms: world.now,
        });
    }
    assert_eq!(world.operator(id).current, 1);
    for end in [Status::Cancelled("by hand".into()), Status::Done] {
        world.apply(Command::End {
            id,
            status: end,
            now_ms: world.now,
        });
    }
    assert_eq!(world.operator(id).status.name(), "cancelled");
}

#[test]
fn a_removed_leader_hands_over_to_the_voter_that_lacks_the_least() {
    let mut world = three();
    let leader = world.stores.ranges[&RangeId(1)].leader.unwrap();
    world.stores.holds.remove(&StoreId(2));
    for _ in 0..10 {
        world.heartbeats();
    }
    let due = Action::ChangeVoters(VoterChange {
        from: Vec::new(),
        promote: Vec::new(),
        remove: vec![leader],
    })
    .due(RangeId(1), &world.view());
    let to_store_3 = Step::TransferLeader {
        range: RangeId(1),
        to: ReplicaId(4),
    };
    assert_eq!(due, Some((StoreId(1), to_store_3)));
    assert!(
        world
            .state
            .map
            .get(RangeId(1))
            .unwrap()
            .replicas
            .iter()
            .all(|replica| replica.role == Role::Voter)
    );
}

/// Ranges 1 and 5, which meet at `m`; the replicas of the right one are on stores 1, 3 and 4.
fn apart() -> World {
    let mut world = three();
    let at = Some(Key::new("m").unwrap());
    world.start(1, Kind::Split { at }).unwrap();
    world.run();
    let (from, to) = (StoreId(2), StoreId(4));
    world.start(5, Kind::MoveReplica { from, to }).unwrap();
    world.run();
    assert_eq!(
        (stores_of(&world, 1), stores_of(&world, 5)),
        (vec![1, 2, 3], vec![1, 3, 4])
    );
    world
}

#[test]
fn a_range_moves_to_its_neighbours_stores_and_then_goes_into_it() {
    let mut world = apart();
    let into = RangeId(1);
    let id = world.start(5, Kind::Merge { into }).unwrap();
    assert!(world.view().is_busy(RangeId(1)) && world.view().is_busy(RangeId(5)));
    assert_eq!(
        world.run(),
        [
            "store 2: create replica 10 of range 5",
            "store 1: add learner 10 on store 2",
            "store 1: promote [(10)], remove [(9)]",
            "store 4: destroy replica 9",
            "store 1: merge range 5 into its left neighbour",
        ]
    );
    assert_eq!(world.operator(id).status, Status::Done);
    assert!(world.state.map.get(RangeId(5)).is_none());
    assert_eq!(world.state.map.holes(), []);
    assert_eq!(world.state.map.at(b"z").unwrap().id, RangeId(1));
}

#[test]
fn neither_side_of_a_merge_is_changed_meanwhile_and_strangers_are_not_merged() {
    let mut world = apart();
    let at = Some(Key::new("t").unwrap());
    world.start(5, Kind::Split { at }).unwrap();
    world.run();
    let last = world.state.map.iter().last().unwrap().id;
    let into = RangeId(1);
    let far = world.start(last.0, Kind::Merge { into });
    assert!(matches!(far, Err(Refusal::Conflict(_))), "{far:?}");
    world.start(5, Kind::Merge { into }).unwrap();
    for (range, kind) in [
        (1, Kind::TransferLeader { to: StoreId(2) }),
        (5, Kind::TransferLeader { to: StoreId(3) }),
        (last.0, Kind::Merge { into: RangeId(5) }),
    ] {
        let refused = world.start(range, kind);
        assert!(matches!(refused, Err(Refusal::RangeBusy(..))), "{refused:?}");
    }
}

#[test]
fn a_merge_that_was_taken_back_or_that_a_store_is_missing_for_ends() {
    let mut world = apart();
    world
        .start(
            5,
            Kind::MoveReplica {
                from: StoreId(4),
                to: StoreId(2),
            },
        )
        .unwrap();
    world.run();
    let merge = Kind::Merge { into: RangeId(1) };
    let taken_back = world.start(5, merge.clone()).unwrap();
    world.stores.truth(RangeId(5)).descriptor.epoch.bounds += 2;
    world.run();
    assert!(matches!(world.operator(taken_back).status, Status::Failed(_)));

    let missing = world.start(5, merge).unwrap();
    world.stores.sleep(StoreId(3));
    world.now += world.state.settings.store_down_after_ms;
    world.run();
    assert!(matches!(world.operator(missing).status, Status::Failed(_)));
}
