use holdfast_common::key::Key;

use super::*;
use crate::command::Outcome;
use crate::world::{World, register};

/// A quick disk: times are not what these tests are about.
const RATE: u64 = 100 << 20;

/// As many stores as zones, and ranges of three voters each, spread and at rest.
fn cluster(zones: &[&str], ranges: usize) -> World {
    let mut world = World::new(zones);
    // Time passes in the world, not in a forecast; what is cold only for being left alone is not what is asked about.
    world.state.settings.schedulers.merge = false;
    run(&mut world);
    for number in 1..ranges {
        let at = Key::new(format!("{number:04}").into_bytes()).unwrap();
        let last = world.state.map.iter().last().unwrap().id;
        world.start(last.0, Kind::Split { at: Some(at) }).unwrap();
        world.run();
    }
    for truth in world.stores.ranges.values_mut() {
        truth.size_bytes = 10 << 20;
    }
    world.heartbeats();
    run(&mut world);
    world
}

/// The driver looks, and what it admits happens, until it wants nothing: the changes in order.
fn run(world: &mut World) -> Vec<(RangeId, Kind)> {
    let (mut driver, mut changes) = (Driver::default(), Vec::new());
    for _ in 0..500 {
        let weighed = driver.weigh(&world.view());
        let admitted: Vec<Intent> = weighed
            .into_iter()
            .filter_map(|weighed| weighed.verdict.ok())
            .collect();
        if admitted.is_empty() && !remove_empty(world) {
            return changes;
        }
        for intent in admitted {
            changes.push((intent.range, intent.kind.clone()));
            let now_ms = world.now;
            assert!(matches!(
                world.apply(Command::Start { intent, now_ms }),
                Outcome::Started(Ok(_))
            ));
        }
        world.run();
        world.heartbeats();
    }
    panic!("never at rest");
}

fn remove_empty(world: &mut World) -> bool {
    let stores = world.state.stores.values();
    let leaving = stores.filter(|store| store.intent == StoreIntent::Decommissioning);
    let empty: Vec<StoreId> = leaving
        .map(|store| store.id)
        .filter(|id| !world.state.map.is_on(*id))
        .collect();
    for store in &empty {
        world.apply(Command::Retire {
            store: *store,
            intent: StoreIntent::Removed,
        });
    }
    !empty.is_empty()
}

fn play(world: &World, scenario: &Scenario) -> Outlook {
    let outlook = Forecast::of(&world.view(), RATE).play(scenario).unwrap();
    assert!(outlook.rests, "it comes to rest");
    outlook
}

fn planned(outlook: &Outlook) -> Vec<(RangeId, Kind)> {
    let changes = outlook.changes.iter();
    changes
        .map(|change| (change.range, change.kind.clone()))
        .collect()
}

fn loads(world: &World) -> BTreeMap<StoreId, Load> {
    findings::loads(&world.view())
}

#[test]
fn a_removal_happens_as_it_was_foretold() {
    let mut world = cluster(&["a", "b", "c", "d", "e"], 20);
    let before = world.state.clone();
    let scenario = Scenario {
        remove_stores: vec![StoreId(2)],
        ..Scenario::default()
    };
    let outlook = play(&world, &scenario);
    assert_eq!(world.state, before, "nothing was changed");
    world.apply(Command::Retire {
        store: StoreId(2),
        intent: StoreIntent::Decommissioning,
    });
    let happened = run(&mut world);
    assert_eq!(planned(&outlook), happened);
    assert_eq!(outlook.after, loads(&world));
    assert!(!outlook.after.contains_key(&StoreId(2)), "it has left");
    assert_eq!(outlook.in_the_end, []);
    assert!(outlook.bytes() > 0 && outlook.takes > Duration::ZERO);
}

#[test]
fn stores_that_come_are_filled_as_it_was_foretold() {
    let mut world = cluster(&["a", "b", "c"], 20);
    let scenario = Scenario {
        add_stores: 2,
        labels: BTreeMap::from([("zone".to_owned(), "d".to_owned())]),
        ..Scenario::default()
    };
    let outlook = play(&world, &scenario);
    for number in [4, 5] {
        let store = register(number, "d");
        world.apply(Command::Register { store, now_ms: 0 });
        world.stores.holds.insert(StoreId(number), BTreeMap::new());
    }
    world.heartbeats();
    let happened = run(&mut world);
    assert!(!happened.is_empty());
    assert_eq!(planned(&outlook), happened);
    assert_eq!(outlook.after, loads(&world));
}

#[test]
fn a_zone_that_fails_is_repaired_as_it_was_foretold() {
    let mut world = cluster(&["a", "a", "b", "b", "c", "c"], 12);
    let scenario = Scenario {
        fail: vec![Fail::Label("zone".to_owned(), "a".to_owned())],
        ..Scenario::default()
    };
    let outlook = play(&world, &scenario);
    assert!(
        outlook
            .at_first
            .iter()
            .all(|violation| matches!(violation, Violation::UnderReplicated(_))),
        "one replica of each range is in each zone: {:?}",
        outlook.at_first
    );
    assert_eq!(outlook.at_first.len(), 12);
    assert!(
        !outlook.in_the_end.iter().any(|violation| matches!(
            violation,
            Violation::UnderReplicated(_) | Violation::NoMajority(_)
        )),
        "{:?}",
        outlook.in_the_end
    );
    for store in [1, 2] {
        world.stores.sleep(StoreId(store));
    }
    for _ in 0..=world.state.settings.store_replace_after_ms / 1_000 {
        world.heartbeats();
    }
    let happened = run(&mut world);
    let moved = |changes: &[(RangeId, Kind)]| {
        let moves = changes
            .iter()
            .filter(|(_, kind)| matches!(kind, Kind::MoveReplica { .. }));
        moves.map(|(range, _)| *range).collect::<BTreeSet<_>>()
    };
    assert_eq!(moved(&planned(&outlook)), moved(&happened));
    let replicas = |loads: &BTreeMap<StoreId, Load>| -> Vec<usize> {
        loads.values().map(|load| load.replicas).collect()
    };
    assert_eq!(replicas(&outlook.after), replicas(&loads(&world)));
}

#[test]
fn what_would_break_is_said() {
    let world = cluster(&["a", "b", "c"], 4);
    let scenario = Scenario {
        fail: vec![Fail::Store(StoreId(1)), Fail::Store(StoreId(2))],
        ..Scenario::default()
    };
    let outlook = play(&world, &scenario);
    let lost = outlook
        .in_the_end
        .iter()
        .filter(|violation| matches!(violation, Violation::NoMajority(_)));
    assert_eq!(lost.count(), 4);

    let scenario = Scenario {
        remove_stores: vec![StoreId(3)],
        ..Scenario::default()
    };
    let outlook = play(&world, &scenario);
    assert!(
        outlook
            .in_the_end
            .contains(&Violation::TooFewStores { stores: 2, wanted: 3 })
    );
}

#[test]
fn a_scenario_that_makes_no_sense_is_refused() {
    let world = cluster(&["a", "b", "c"], 1);
    for (scenario, error) in [
        (Scenario::default(), scenario::Error::Nothing),
        (
            Scenario {
                remove_stores: vec![StoreId(9)],
                ..Scenario::default()
            },
            scenario::Error::NoSuchStore(StoreId(9)),
        ),
        (
            Scenario {
                fail: vec![Fail::Label("zone".into(), "x".into())],
                ..Scenario::default()
            },
            scenario::Error::NoSuchLabel("zone".into(), "x".into()),
        ),
        (
            Scenario {
                add_stores: 101,
                ..Scenario::default()
            },
            scenario::Error::TooMany,
        ),
    ] {
        assert_eq!(Forecast::of(&world.view(), RATE).play(&scenario), Err(error));
    }
}
