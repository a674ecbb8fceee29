use holdfast_common::ids::ClusterId;
use holdfast_common::proto::placement::{Register, Registered};

use super::*;
use crate::schedule::Scheduler;
use crate::schedule::repair::Repair;
use crate::world::{World, register};

fn lose(store: u64) -> Lose {
    Lose {
        cluster: ClusterId(7),
        store: StoreId(store),
        directory: register(store, "a").directory,
        reason: "a flipped bit".into(),
    }
}

fn gives_up(world: &mut World, store: u64) -> bool {
    let Lose { store, directory, .. } = lose(store);
    world.apply(Command::Lose { store, directory }) == Outcome::Found(true)
}

/// Four stores, and the first range on three of them.
fn replicated() -> World {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.replicate(&[2, 3]);
    world
}

#[test]
fn a_store_is_given_up_while_the_others_have_a_majority() {
    let mut world = replicated();
    for store in 1..=4 {
        assert_eq!(check(&lose(store), &world.view()), Ok(()));
    }
    world.stores.sleep(StoreId(3));
    let down_after = world.state.settings.store_down_after_ms;
    for _ in 0..=down_after / 1_000 {
        world.heartbeats();
    }
    assert_eq!(
        check(&lose(3), &world.view()),
        Ok(()),
        "the two others are a majority"
    );
    let needed = Error::StillNeeded {
        store: StoreId(2),
        ranges: 1,
        example: RangeId(1),
    };
    assert_eq!(
        check(&lose(2), &world.view()),
        Err(needed),
        "one of three is none"
    );
    assert_eq!(check(&lose(4), &world.view()), Ok(()), "it holds nothing");
}

#[test]
fn another_directory_or_store_is_not_given_up() {
    let mut world = replicated();
    let other = Lose {
        directory: 12345,
        ..lose(2)
    };
    let unknown = Err(Error::UnknownStore(StoreId(2)));
    assert_eq!(check(&other, &world.view()), unknown);
    assert!(gives_up(&mut world, 2));
    assert_eq!(check(&lose(2), &world.view()), unknown, "only once");
    assert!(!gives_up(&mut world, 2));
}

#[test]
fn what_is_given_up_counts_as_down_and_never_comes_back() {
    let mut world = replicated();
    assert!(gives_up(&mut world, 2));
    assert_eq!(
        world.view().health(StoreId(2)),
        Health::Down,
        "nobody waits for it"
    );
    for intent in [
        StoreIntent::Active,
        StoreIntent::Decommissioning,
        StoreIntent::Removed,
    ] {
        let store = StoreId(2);
        assert_eq!(
            world.apply(Command::Retire { store, intent }),
            Outcome::Found(false),
            "{intent:?}: it holds a replica still"
        );
    }
    let known = Register {
        known: Some((ClusterId(7), StoreId(2))),
        ..register(2, "b")
    };
    let again = world.apply(Command::Register {
        store: known,
        now_ms: 0,
    });
    assert_eq!(again, Outcome::Registered(Err(Error::UnknownStore(StoreId(2)))));
}

#[test]
fn its_name_goes_to_a_new_store_and_its_replicas_to_others() {
    let mut world = replicated();
    assert!(gives_up(&mut world, 2));
    world.stores.sleep(StoreId(2));
    let anew = Register {
        directory: 777,
        ..register(2, "b")
    };
    let registered = world.apply(Command::Register {
        store: anew,
        now_ms: 0,
    });
    let cluster = ClusterId(7);
    let store = StoreId(5);
    assert_eq!(registered, Outcome::Registered(Ok(Registered { cluster, store })));
    world.heartbeats();

    let idea = Repair.propose(&world.view()).remove(0);
    assert_eq!(idea.range, RangeId(1), "it is replaced at once");
    let started = world.start(1, idea.change.expect("a way")).expect("started");
    world.run();
    assert_eq!(world.operator(started).status, crate::operator::Status::Done);
    let range = &world.stores.ranges[&RangeId(1)].descriptor;
    assert!(range.replica_on(StoreId(2)).is_none(), "{range:?}");
    let store = StoreId(2);
    let intent = StoreIntent::Removed;
    assert_eq!(
        world.apply(Command::Retire { store, intent }),
        Outcome::Found(true)
    );
}
