use holdfast_common::ids::OperatorId;

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
    assert!(!is_orphan(&stranger, &world.view()));
}

#[test]
fn a_voter_that_its_store_never_got_is_created() {
    let mut world = three();
    world.stores.holds.get_mut(&StoreId(3)).unwrap().clear();
    world.heartbeats();
    assert_eq!(
        due(&mut world, 3),
        [Step::CreateReplica {
            range: RangeId(1),
            replica: ReplicaId(4)
        }]
    );
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
