use holdfast_common::ids::OperatorId;

use super::*;
use crate::command::Command;
use crate::reports::Reports;
use crate::schedule::decision::{Decisions, Verdict};
use crate::world::World;

fn taken(driver: &mut Driver, world: &World) -> usize {
    driver
        .weigh(&world.view())
        .iter()
        .filter(|weighed| weighed.verdict.is_ok())
        .count()
}

/// Four ranges with one voter each, on two stores.
fn split_up() -> World {
    let mut world = World::new(&["a", "b"]);
    world.state.settings.schedulers.repair = false;
    for at in ["g", "p", "t"] {
        let range = world.state.map.at(at.as_bytes()).unwrap().id.0;
        let kind = Kind::Split {
            at: Some(holdfast_common::key::Key::new(at).unwrap()),
        };
        world.start(range, kind).unwrap();
        world.run();
    }
    world.state.settings.schedulers.repair = true;
    world
}

#[test]
fn nothing_is_decided_before_the_stores_have_said_what_they_have() {
    let mut world = split_up();
    assert_eq!(taken(&mut Driver::default(), &world), 4);
    world.reports = Reports::default();
    assert_eq!(taken(&mut Driver::default(), &world), 0);
}

#[test]
fn a_store_takes_no_more_than_its_limit_at_a_time() {
    let mut world = split_up();
    world.state.settings.max_operators_per_store = 3;
    let weighed = Driver::default().weigh(&world.view());
    let rejected: Vec<_> = weighed
        .iter()
        .filter_map(|weighed| weighed.verdict.as_ref().err())
        .collect();
    assert_eq!(rejected, ["3 operators move data to or from store 2"]);
    world.state.settings.max_operators = 2;
    assert_eq!(taken(&mut Driver::default(), &world), 2);
}

#[test]
fn a_scheduler_that_is_off_proposes_nothing() {
    let mut world = split_up();
    world.state.settings.schedulers.repair = false;
    assert_eq!(Driver::default().weigh(&world.view()).len(), 0);
}

#[test]
fn large_ranges_are_split_the_largest_first() {
    let mut world = split_up();
    world.state.settings.schedulers.repair = false;
    let large: Vec<RangeId> = world.stores.ranges.keys().copied().skip(1).take(2).collect();
    world.stores.truth(large[0]).size_bytes = 100 << 20;
    world.stores.truth(large[1]).size_bytes = 200 << 20;
    world.heartbeats();
    let weighed = Driver::default().weigh(&world.view());
    let ranges: Vec<_> = weighed.iter().map(|weighed| weighed.idea.range).collect();
    assert_eq!(ranges, [large[1], large[0]]);
    assert_eq!(
        weighed[0].verdict.as_ref().unwrap().kind,
        Kind::Split { at: None }
    );
}

#[test]
fn after_a_failure_the_range_is_left_alone_for_a_while() {
    let mut world = World::new(&["a", "b"]);
    let mut driver = Driver::default();
    let intent = driver.weigh(&world.view()).remove(0).verdict.unwrap();
    world.apply(Command::Start {
        intent,
        now_ms: world.now,
    });
    let operator = world.state.operators.running().next().unwrap().clone();
    let status = Status::Failed("no luck".into());
    driver.ended(&operator, &status, world.now);
    world.apply(Command::End {
        id: operator.id,
        status,
        now_ms: world.now,
    });
    assert_eq!(taken(&mut driver, &world), 0);
    for _ in 0..61 {
        world.heartbeats();
    }
    assert_eq!(taken(&mut driver, &world), 1);
}

#[test]
fn a_decision_made_again_is_counted() {
    let world = World::new(&["a", "b"]);
    let idea = || Driver::default().weigh(&world.view()).remove(0).idea;
    let mut decisions = Decisions::default();
    for now in 0..3 {
        decisions.note("repair", idea(), Verdict::Rejected("later".into()), now);
    }
    decisions.note("repair", idea(), Verdict::Taken(OperatorId(1)), 9);
    let noted: Vec<_> = decisions
        .iter()
        .map(|decision| (decision.id, decision.times, decision.at_ms))
        .collect();
    assert_eq!(noted, [(2, 1, 9), (1, 3, 2)]);
}
