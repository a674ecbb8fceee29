use holdfast_common::key::Key;

use super::*;
use crate::command::Command;
use crate::operator::{Action, Kind, Refusal, Status};
use crate::world::World;

/// Five stores, one range on the first three, led by the first.
fn five() -> World {
    let mut world = World::new(&["a", "b", "c", "d", "e"]);
    world.replicate(&[2, 3]);
    world.heartbeats();
    world
}

fn lost(stores: &[u64]) -> BTreeSet<StoreId> {
    stores.iter().copied().map(StoreId).collect()
}

/// Stores fall silent, and so long ago that they are down.
fn lose(world: &mut World, stores: &[u64]) {
    for store in stores {
        world.stores.sleep(StoreId(*store));
    }
    for _ in 0..=world.state.settings.store_down_after_ms / 1_000 {
        world.heartbeats();
    }
}

/// What the replica on a store says, whose log ends there.
fn survivor(world: &World, store: u64, term: u64, index: u64) -> Survivor {
    let range = world.state.map.get(RangeId(1)).unwrap();
    let replica = range.replica_on(StoreId(store)).unwrap();
    Survivor {
        replica: replica.id,
        descriptor: range.clone(),
        last: LogEnd { term, index },
        configs: vec![range.voters().map(|voter| voter.id).collect()],
        members: range
            .replicas
            .iter()
            .map(|member| (member.id, member.store))
            .collect(),
        has_majority: false,
    }
}

fn surveys(said: &[(u64, Option<Survivor>)]) -> Surveys {
    said.iter()
        .map(|(store, survivor)| (StoreId(*store), survivor.clone().into_iter().collect()))
        .collect()
}

fn verdict(world: &World, gone: &[u64], surveys: &Surveys) -> Verdict {
    let found = assess(&[RangeId(1)], &lost(gone), surveys, &world.view());
    found.into_iter().next().unwrap().verdict
}

#[test]
fn stores_must_be_named_known_and_down() {
    let mut world = five();
    for (gone, word) in [(&[][..], "name"), (&[9], "no store"), (&[1], "is up")] {
        let refused = check_lost(&lost(gone), &world.view()).unwrap_err();
        assert!(refused.contains(word), "{refused}");
    }
    world.stores.sleep(StoreId(2));
    for _ in 0..6 {
        world.heartbeats();
    }
    assert_eq!(world.view().health(StoreId(2)), Health::Suspect);
    let refused = check_lost(&lost(&[2]), &world.view()).unwrap_err();
    assert!(refused.contains("may be back"), "{refused}");
    lose(&mut world, &[3]);
    assert_eq!(check_lost(&lost(&[2, 3]), &world.view()), Ok(()));
}

#[test]
fn a_range_with_a_majority_left_is_left_alone() {
    let mut world = five();
    lose(&mut world, &[3]);
    assert_eq!(harmed(&lost(&[3]), &world.view()), []);
    let said = surveys(&[
        (1, Some(survivor(&world, 1, 2, 9))),
        (2, Some(survivor(&world, 2, 2, 9))),
    ]);
    assert!(matches!(verdict(&world, &[3], &said), Verdict::Unharmed(_)));
    // Nor when the map is wrong, and a survivor knows of a newer membership.
    lose(&mut world, &[2]);
    assert_eq!(harmed(&lost(&[2, 3]), &world.view()), [RangeId(1)]);
    let mut newer = survivor(&world, 1, 2, 9);
    newer.configs = vec![vec![newer.replica, ReplicaId(70), ReplicaId(71)]];
    newer
        .members
        .extend([(ReplicaId(70), StoreId(4)), (ReplicaId(71), StoreId(2))]);
    let said = surveys(&[(1, Some(newer)), (4, None), (5, None)]);
    assert!(matches!(verdict(&world, &[2, 3], &said), Verdict::Unharmed(_)));
}

#[test]
fn one_that_is_away_and_not_given_up_is_waited_for() {
    let mut world = five();
    lose(&mut world, &[2, 3]);
    // Nobody says that store 3 is lost.
    let said = surveys(&[(1, Some(survivor(&world, 1, 2, 9)))]);
    assert!(matches!(verdict(&world, &[2], &said), Verdict::Unharmed(_)));
    // Of five, two are left, and one of those does not answer.
    let mut world = five();
    world.replicate(&[4, 5]);
    lose(&mut world, &[1, 2, 3]);
    let said = surveys(&[(4, Some(survivor(&world, 4, 2, 9)))]);
    assert!(matches!(verdict(&world, &[1, 2, 3], &said), Verdict::Wait(_)));
}

#[test]
fn the_newest_log_is_chosen_and_one_group_is_made() {
    let mut world = five();
    world.replicate(&[4, 5]);
    lose(&mut world, &[1, 2, 3]);
    let (shorter, longer) = (survivor(&world, 4, 7, 3), survivor(&world, 5, 6, 90));
    let said = surveys(&[(4, Some(shorter)), (5, Some(longer))]);
    let Verdict::Recover(recovery) = verdict(&world, &[1, 2, 3], &said) else {
        panic!("it can be recovered");
    };
    assert_eq!(
        recovery.survivor.store,
        StoreId(4),
        "the later term, as in an election"
    );
    let before = world.state.map.get(RangeId(1)).unwrap().clone();
    let id = world.start(1, Kind::Recover(recovery)).unwrap();
    world.run();
    assert_eq!(world.operator(id).status, Status::Done);
    let after = world.state.map.get(RangeId(1)).unwrap();
    assert_eq!(after.replicas.len(), 1);
    assert_eq!(after.epoch.generation(), before.epoch.generation() + 1);
    assert!(before.replica(after.replicas[0].id).is_none(), "under a new name");
}

#[test]
fn while_one_survivor_is_chosen_no_other_is() {
    let mut world = five();
    world.replicate(&[4, 5]);
    lose(&mut world, &[1, 2, 3]);
    let said = surveys(&[
        (4, Some(survivor(&world, 4, 7, 9))),
        (5, Some(survivor(&world, 5, 7, 9))),
    ]);
    let choose = |world: &World, gone: &[u64], said: &Surveys| match verdict(world, gone, said) {
        Verdict::Recover(recovery) => Kind::Recover(recovery),
        other => panic!("{other:?}"),
    };
    let first = world.start(1, choose(&world, &[1, 2, 3], &said)).unwrap();
    // Its step may have been carried out, and the word of it lost.
    let only_five = surveys(&[(4, None), (5, Some(survivor(&world, 5, 7, 9)))]);
    let other = choose(&world, &[1, 2, 3], &only_five);
    assert_eq!(world.start(1, other), Err(Refusal::RangeBusy(RangeId(1), first)));
    // Only once the chosen one's store is given up too, and in a later generation.
    lose(&mut world, &[4]);
    let second = world.start(1, choose(&world, &[1, 2, 3, 4], &only_five)).unwrap();
    assert!(matches!(world.operator(first).status, Status::Cancelled(_)));
    let epoch = |id| match &world.operator(id).steps[0] {
        Action::Recover { order, .. } => order.epoch,
        other => panic!("{other:?}"),
    };
    assert!(epoch(second).generation() > epoch(first).generation());
    assert!(epoch(second).bounds > epoch(first).bounds);
}

#[test]
fn what_was_under_way_gives_way() {
    let mut world = five();
    let moving = world
        .start(
            1,
            Kind::MoveReplica {
                from: StoreId(3),
                to: StoreId(4),
            },
        )
        .unwrap();
    lose(&mut world, &[2, 3]);
    let said = surveys(&[(1, Some(survivor(&world, 1, 2, 9))), (4, None)]);
    let Verdict::Recover(recovery) = verdict(&world, &[2, 3], &said) else {
        panic!("it can be recovered");
    };
    world.start(1, Kind::Recover(recovery)).unwrap();
    assert!(matches!(world.operator(moving).status, Status::Cancelled(_)));
}

#[test]
fn what_became_a_range_of_its_own_and_lives_is_not_taken_back() {
    let mut world = five();
    lose(&mut world, &[2, 3]);
    let mut old = survivor(&world, 1, 2, 9);
    // The lost two split the range unseen by the survivor; the right part moved on to stores that live, or died with them.
    let split = |world: &mut World, stores: [u64; 3]| {
        world.apply(Command::AllocateIds { count: 10 });
        let first = world.state.next.range_or_replica - 10;
        let (left, right) = Span::everything().split_at(&Key::new("m").unwrap()).unwrap();
        let mut parent = world.state.map.get(RangeId(1)).unwrap().clone();
        (parent.span, parent.epoch.bounds) = (left, parent.epoch.bounds + 1);
        let replicas = stores.iter().zip(first + 1..).map(|(store, id)| Replica {
            id: ReplicaId(id),
            store: StoreId(*store),
            role: Role::Voter,
        });
        let born = Descriptor {
            id: RangeId(first),
            span: right,
            epoch: Epoch {
                bounds: parent.epoch.bounds,
                membership: 5,
            },
            replicas: replicas.collect(),
        };
        world.apply(Command::Observe(vec![parent, born]));
    };
    old.descriptor = world.state.map.get(RangeId(1)).unwrap().clone();
    for (stores, kept) in [([3, 4, 5], "m"), ([2, 3, 2], "")] {
        let mut world = five();
        lose(&mut world, &[2, 3]);
        split(&mut world, stores);
        let said = surveys(&[(1, Some(old.clone())), (4, None), (5, None)]);
        let Verdict::Recover(recovery) = verdict(&world, &[2, 3], &said) else {
            panic!("it can be recovered");
        };
        assert_eq!(&recovery.span.end()[..], kept.as_bytes());
        world.start(1, Kind::Recover(recovery)).unwrap();
        world.run();
        let range = world.state.map.get(RangeId(1)).unwrap();
        assert_eq!(&range.span.end()[..], kept.as_bytes(), "the map follows");
        assert_eq!(world.state.map.holes(), []);
    }
}

#[test]
fn nothing_is_made_of_nothing() {
    let mut world = five();
    lose(&mut world, &[1, 2, 3]);
    assert_eq!(
        verdict(&world, &[1, 2, 3], &surveys(&[(4, None), (5, None)])),
        Verdict::Gone
    );
}

#[test]
fn a_range_of_which_nothing_is_left_begins_anew_when_that_is_asked_for() {
    let mut world = five();
    lose(&mut world, &[1, 2, 3]);
    let gone = lost(&[1, 2, 3]);
    let said = surveys(&[(4, None), (5, None)]);
    let mut findings = assess(&[RangeId(1)], &gone, &said, &world.view());
    begin_anew(&mut findings, &gone, &world.view());
    let Verdict::Recover(recovery) = findings.remove(0).verdict else {
        panic!("it can begin anew");
    };
    assert_eq!(
        (recovery.survivor.id, recovery.survivor.store),
        (ReplicaId::NONE, StoreId(4))
    );
    assert_eq!(recovery.span, Span::everything());
    let id = world.start(1, Kind::Recover(recovery)).unwrap();
    world.run();
    assert_eq!(world.operator(id).status, Status::Done);
    let range = world.state.map.get(RangeId(1)).unwrap();
    assert_eq!((range.replicas.len(), range.epoch.generation()), (1, 1));
}
