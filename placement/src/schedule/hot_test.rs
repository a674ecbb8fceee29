//! Load that is spread, on a cluster whose stores obey at once: all schedulers together, as they run.

use std::collections::BTreeMap;

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::key::Key;

use super::burden::store_loads;
use super::motion_test::{cluster, leaders, replicas};
use super::{Driver, Hot, Scheduler, SplitByLoad};
use crate::operator::Kind;
use crate::world::World;

/// So many heartbeats of all schedulers. Returns in which of them something was begun.
fn live(world: &mut World, heartbeats: usize) -> Vec<(usize, RangeId, Kind)> {
    let mut driver = Driver::default();
    let mut begun = Vec::new();
    for beat in 0..heartbeats {
        let weighed = driver.weigh(&world.view());
        for intent in weighed.into_iter().filter_map(|weighed| weighed.verdict.ok()) {
            begun.push((beat, intent.range, intent.kind.clone()));
            let now_ms = world.now;
            world.apply(crate::command::Command::Start { intent, now_ms });
        }
        world.tick();
        world.heartbeats();
    }
    begun
}

fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

/// Reads a second of each of a hundred keys in each range of a [`cluster`], `hot` of them on one range's hundredth part.
fn skewed(ranges: usize, total: f64, hot: f64) -> BTreeMap<Key, f64> {
    let mut reads = BTreeMap::new();
    let keys = ranges * 100;
    for i in 0..keys {
        let text = format!("{:04}{:02}", i / 100, i % 100);
        reads.insert(key(&text), total * (1.0 - hot) / keys as f64);
    }
    let one_percent = keys / 100;
    for i in 0..one_percent {
        *reads.get_mut(&key(&format!("0001{i:02}"))).unwrap() += total * hot / one_percent as f64;
    }
    reads
}

/// What the stores take of the load, as multiples of a fair share.
fn shares(world: &World) -> Vec<f64> {
    let loads = store_loads(&world.view());
    let mean = loads.values().sum::<f64>() / world.state.stores.len() as f64;
    let stores = world.state.stores.keys();
    stores
        .map(|store| loads.get(store).copied().unwrap_or(0.0) / mean)
        .collect()
}

fn assert_spread(world: &World) {
    let shares = shares(world);
    assert!(shares.iter().all(|share| *share <= 1.4), "{shares:?}");
}

fn assert_still(world: &mut World) {
    let begun = live(world, 100);
    assert!(begun.is_empty(), "{begun:?}");
}

#[test]
fn most_of_the_traffic_on_one_percent_of_the_keys_is_split_and_spread_and_then_all_is_still() {
    for (stores, total) in [(3, 3_000.0), (3, 300_000.0), (5, 3_000.0), (5, 40_000.0)] {
        let zones = vec!["a"; stores];
        let mut world = cluster(&zones, 20, &[]);
        live(&mut world, 60);
        world.stores.traffic.reads = skewed(20, total, 0.9);
        for _ in 0..10 {
            world.heartbeats();
        }
        let before = shares(&world);
        assert!(before.iter().any(|share| *share > 2.0), "{before:?}");
        live(&mut world, 300);
        assert_spread(&world);
        assert_still(&mut world);
    }
}

#[test]
fn one_range_with_everything_is_divided_until_every_store_has_its_share() {
    let mut world = cluster(&["a", "a", "a"], 1, &["a", "a"]);
    let even = (0..1_000).map(|i| (key(&format!("{i:04}")), 5.0));
    world.stores.traffic.reads = even.collect();
    live(&mut world, 300);
    assert_spread(&world);
    assert_still(&mut world);
}

#[test]
fn even_load_is_balanced_by_numbers_and_new_stores_take_their_share() {
    let mut world = cluster(&["a", "a", "a"], 60, &["a", "a"]);
    let even = (0..60).map(|i| (key(&format!("{i:04}5")), 100.0));
    world.stores.traffic.reads = even.collect();
    live(&mut world, 300);
    assert_spread(&world);
    assert!(replicas(&world).iter().all(|count| (35..=37).contains(count)));
    assert!(
        leaders(&world).iter().all(|count| (11..=13).contains(count)),
        "{:?}",
        leaders(&world)
    );
    assert_still(&mut world);
}

#[test]
fn a_single_hot_key_is_left_alone_and_named() {
    let mut world = cluster(&["a", "a", "a"], 12, &[]);
    live(&mut world, 60);
    let mut reads = skewed(12, 5_000.0, 0.0);
    reads.insert(key("000550"), 20_000.0);
    world.stores.traffic.reads = reads;
    let holder = world.state.map.at(b"000550").unwrap().id;
    let leader = world.view().leader(holder).unwrap().store;
    let begun = live(&mut world, 200);
    assert!(begun.iter().all(|(_, range, _)| *range != holder), "{begun:?}");
    assert_eq!(world.state.map.iter().count(), 12, "nothing is split in vain");
    assert_eq!(world.view().leader(holder).unwrap().store, leader);
    let ideas = SplitByLoad.propose(&world.view());
    let named = ideas.iter().find(|idea| idea.range == holder).unwrap();
    assert!(named.change.is_none(), "{named:?}");
    assert!(named.why.contains("\"000550\" draws"), "{}", named.why);
    let lament = Hot.propose(&world.view());
    assert!(lament.iter().all(|idea| idea.change.is_none()), "{lament:?}");
    assert!(lament[0].why.contains("one key \"000550\""), "{lament:?}");
    assert_still(&mut world);
}

#[test]
fn a_leadership_moves_first_and_a_replica_only_where_no_voter_has_time() {
    // Three stores hold everything and the fourth nothing.
    let mut world = cluster(&["a", "a", "a"], 6, &["a"]);
    let even = (0..6).map(|i| (key(&format!("{i:04}5")), 1_000.0));
    world.stores.traffic.reads = even.collect();
    for _ in 0..10 {
        world.heartbeats();
    }
    assert_eq!(leaders(&world), [6, 0, 0, 0]);
    let first = Hot.propose(&world.view());
    assert!(
        first
            .iter()
            .all(|idea| matches!(idea.change, Some(Kind::TransferLeader { .. }))),
        "{first:?}"
    );
    for range in world.state.map.iter().map(|range| range.id).collect::<Vec<_>>() {
        let to = StoreId(1 + range.0 % 3);
        if world.view().leader(range).unwrap().store != to {
            world.start(range.0, Kind::TransferLeader { to }).unwrap();
            world.run();
        }
    }
    for _ in 0..10 {
        world.heartbeats();
    }
    let mut then = Hot.propose(&world.view());
    then.retain(|idea| idea.change.is_some());
    assert!(!then.is_empty());
    for idea in &then {
        let leader = world.view().leader(idea.range).unwrap().store;
        assert!(
            matches!(idea.change, Some(Kind::MoveReplica { from, to: StoreId(4) }) if from != leader),
            "{idea:?}"
        );
    }
}

#[test]
fn hardly_any_load_moves_nothing() {
    let mut world = cluster(&["a", "a", "a"], 6, &[]);
    world.stores.traffic.reads = BTreeMap::from([(key("00005"), 100.0)]);
    for _ in 0..10 {
        world.heartbeats();
    }
    assert_eq!(Hot.propose(&world.view()), []);
}
