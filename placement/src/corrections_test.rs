use holdfast_common::ids::OperatorId;
use holdfast_common::key::Key;

use super::*;
use crate::command::Command;
use crate::operator::{Kind, Status};
use crate::world::World;

fn three() -> World {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.replicate(&[2, 3]);
    world
}

/// What is due to a store once the grace has passed.
fn due(world: &mut World, store: u64) -> Vec<Step> {
    let mut corrections = Corrections::default();
    for _ in 0..GRACE_MS / 1_000 {
        corrections.review(&world.view());
        assert_eq!(corrections.due(StoreId(store)), [], "not at once");
        world.heartbeats();
    }
    corrections.review(&world.view());
    corrections.due(StoreId(store)).to_vec()
}

#[test]
fn a_healthy_cluster_needs_none() {
    let mut world = three();
    for store in 1..=4 {
        assert_eq!(due(&mut world, store), []);
    }
}

#[test]
fn what_a_cancelled_move_left_is_destroyed() {
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
    world.tick();
    world.heartbeats();
    assert_eq!(due(&mut world, 4), [], "it is in a plan");
    world.apply(Command::End {
        id,
        status: Status::Cancelled("by hand".into()),
        now_ms: world.now,
    });
    assert_eq!(
        due(&mut world, 4),
        [Step::DestroyReplica {
            range: RangeId(1),
            replica: ReplicaId(5)
        }]
    );
}

#[test]
fn a_replica_that_was_removed_while_its_store_was_away_is_destroyed() {
    let mut world = three();
    let away = world.stores.holds.remove(&StoreId(2)).unwrap();
    world.stores.change(RangeId(1), |members| {
        members.retain(|member| member.store != StoreId(2))
    });
    world.heartbeats();
    world.stores.holds.insert(StoreId(2), away);
    assert_eq!(
        due(&mut world, 2),
        [Step::DestroyReplica {
            range: RangeId(1),
            replica: ReplicaId(3)
        }]
    );
}

#[test]
fn a_replica_newer_than_the_map_is_left_alone() {
    let mut world = three();
    // The leader has admitted a replica that the map has not heard of: the map lacks it, and is not newer.
    let next = world.state.next.range_or_replica;
    world.apply(Command::AllocateIds { count: 1 });
    let report = world.reports.replica(StoreId(1), ReplicaId(2)).unwrap().clone();
    let stranger = ReplicaReport {
        replica: ReplicaId(next),
        leading: None,
        ..report
    };
    let store = world.reports.store(StoreId(4)).unwrap();
    assert!(!is_orphan(&stranger, store, &world.view()));
}

/// What the third store is told when it lacks its replica.
const CREATED: [Step; 1] = [Step::CreateReplica {
    range: RangeId(1),
    replica: ReplicaId(4),
}];

#[test]
fn a_voter_that_its_store_never_got_is_created() {
    let mut world = three();
    world.stores.holds.get_mut(&StoreId(3)).unwrap().clear();
    world.heartbeats();
    assert_eq!(due(&mut world, 3), CREATED);
}

#[test]
fn it_is_created_while_it_is_to_take_the_leadership_too() {
    let mut world = three();
    world.stores.holds.get_mut(&StoreId(3)).unwrap().clear();
    world.start(1, Kind::TransferLeader { to: StoreId(3) }).unwrap();
    world.heartbeats();
    assert_eq!(due(&mut world, 3), CREATED);
}

#[test]
fn a_change_left_half_done_is_completed_by_a_leader_that_stays() {
    let mut world = three();
    world.stores.change(RangeId(1), |members| {
        members
            .iter_mut()
            .filter(|member| member.store == StoreId(1))
            .for_each(|member| member.role = Role::Outgoing);
    });
    assert!(world.state.operators.get(OperatorId(9)).is_none());
    world.heartbeats();
    // The leader is the one that leaves.
    assert_eq!(
        due(&mut world, 1),
        [Step::TransferLeader {
            range: RangeId(1),
            to: ReplicaId(3)
        }]
    );
    world.stores.truth(RangeId(1)).leader = Some(ReplicaId(3));
    world.heartbeats();
    let complete = Step::ChangeVoters {
        range: RangeId(1),
        change: VoterChange {
            from: vec![ReplicaId(2), ReplicaId(3), ReplicaId(4)],
            promote: Vec::new(),
            remove: vec![ReplicaId(2)],
        },
    };
    assert_eq!(due(&mut world, 2), [complete]);
}

#[test]
fn what_is_left_of_a_range_that_was_merged_away_is_destroyed() {
    let mut world = three();
    let at = Some(Key::new("m").unwrap());
    world.start(1, Kind::Split { at }).unwrap();
    world.run();
    let (left, right) = (RangeId(1), RangeId(5));
    let of = |range: RangeId, world: &World| {
        let replicas = world.state.map.get(range).unwrap().replicas.clone();
        let on_third = replicas
            .iter()
            .find(|replica| replica.store == StoreId(3))
            .unwrap()
            .id;
        let report = world.stores.report(on_third, range);
        ReplicaReport {
            leading: None,
            ..report
        }
    };
    let before = [of(left, &world), of(right, &world)];
    world.start(5, Kind::Merge { into: left }).unwrap();
    world.run();
    assert!(world.state.map.get(right).is_none());

    // Store 3 has yet to apply the merge: its replica of the left range needs what it has of the right one.
    world.stores.behind.insert(StoreId(3), before.to_vec());
    assert_eq!(due(&mut world, 3), []);
    // Its replica of the left range has had a snapshot of the merged range instead.
    world.stores.behind.insert(StoreId(3), before[1..].to_vec());
    world.heartbeats();
    let destroy = Step::DestroyReplica {
        range: right,
        replica: before[1].replica,
    };
    assert_eq!(due(&mut world, 3), std::slice::from_ref(&destroy));

    // Or of the merged range after that was split where they had met: one that ends there, and has done with the merge.
    let at = Some(Key::new("m").unwrap());
    world.start(1, Kind::Split { at }).unwrap();
    world.run();
    let after = vec![of(left, &world), before[1].clone()];
    world.stores.behind.insert(StoreId(3), after);
    world.heartbeats();
    assert_eq!(due(&mut world, 3), [destroy]);
}

#[test]
fn a_replica_created_too_late_for_its_range_is_destroyed() {
    let mut world = three();
    let at = Some(Key::new("m").unwrap());
    world.start(1, Kind::Split { at }).unwrap();
    world.run();
    let id = world
        .start(
            5,
            Kind::MoveReplica {
                from: StoreId(2),
                to: StoreId(4),
            },
        )
        .unwrap();
    let now_ms = world.now;
    let status = Status::Cancelled("by hand".into());
    world.apply(Command::End { id, status, now_ms });
    world.start(5, Kind::Merge { into: RangeId(1) }).unwrap();
    world.run();
    let (range, replica) = (RangeId(5), ReplicaId(9));
    world
        .stores
        .obey(StoreId(4), Step::CreateReplica { range, replica });
    world.heartbeats();
    assert_eq!(due(&mut world, 4), [Step::DestroyReplica { range, replica }]);
}
