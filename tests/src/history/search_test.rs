use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::history::stories::{cas, delete, lend, put, read, write};
use Outcome::{Done as Applied, Failed, Maybe, Refused};

fn accepted(events: &[Event]) {
    assert_eq!(check(events), Vec::<String>::new());
}

fn refused(events: &[Event]) {
    assert!(!check(events).is_empty(), "{events:?}");
}

#[test]
fn operations_side_by_side_may_take_effect_in_any_order() {
    accepted(&[
        put(0, 9, "a", Applied(20)),
        put(0, 9, "b", Applied(10)),
        read(1, 8, None),
        read(2, 8, Some((10, "b"))),
        read(9, 10, Some((20, "a"))),
        cas(11, 12, 20, "c", Applied(30)),
        cas(11, 13, 20, "d", Failed(Some(30))),
    ]);
}

#[test]
fn a_stale_read_and_a_lost_write_are_refused() {
    refused(&[put(0, 1, "a", Applied(10)), read(2, 3, None)]);
    refused(&[
        put(0, 1, "a", Applied(10)),
        put(2, 3, "b", Applied(20)),
        read(4, 5, Some((10, "a"))),
    ]);
}

#[test]
fn a_lost_update_is_refused() {
    refused(&[
        put(0, 1, "a", Applied(10)),
        cas(2, 5, 10, "b", Applied(20)),
        cas(2, 5, 10, "c", Applied(30)),
    ]);
    refused(&[
        put(0, 1, "a", Applied(10)),
        write(2, 5, "b", Condition::Absent, Applied(20)),
    ]);
}

#[test]
fn what_was_deleted_is_gone_until_it_is_written_again() {
    let gone = |start, end, outcome| delete(start, end, Condition::None, outcome);
    accepted(&[
        put(0, 1, "a", Applied(10)),
        gone(2, 5, Applied(0)),
        read(3, 4, Some((10, "a"))),
        read(6, 7, None),
        gone(8, 9, Applied(0)),
        write(10, 11, "b", Condition::Absent, Applied(20)),
        delete(12, 13, Condition::Revision(10), Failed(Some(20))),
        delete(14, 15, Condition::Revision(20), Applied(0)),
        delete(16, 17, Condition::Revision(20), Failed(None)),
    ]);
    // Back from the dead.
    refused(&[
        put(0, 1, "a", Applied(10)),
        gone(2, 3, Applied(0)),
        read(4, 5, Some((10, "a"))),
    ]);
    // Gone without a reason.
    refused(&[
        put(0, 1, "a", Applied(10)),
        read(2, 3, None),
        gone(4, 5, Applied(0)),
    ]);
    refused(&[put(0, 1, "a", Applied(10)), gone(2, 3, Refused), read(4, 5, None)]);
    // Deleted what it had not asked for.
    refused(&[
        put(0, 1, "a", Applied(10)),
        put(2, 3, "b", Applied(20)),
        delete(4, 5, Condition::Revision(10), Applied(0)),
    ]);
    refused(&[
        put(0, 1, "a", Applied(10)),
        delete(2, 3, Condition::Revision(10), Failed(None)),
    ]);
}

#[test]
fn a_deletion_of_unknown_outcome_may_take_effect_late_once_or_never() {
    let unknown = delete(2, 3, Condition::None, Maybe);
    let before = put(0, 1, "a", Applied(10));
    accepted(&[before.clone(), unknown.clone(), read(4, 5, Some((10, "a")))]);
    accepted(&[
        before.clone(),
        unknown.clone(),
        read(4, 5, Some((10, "a"))),
        read(6, 7, None),
    ]);
    refused(&[
        before,
        unknown,
        read(4, 5, None),
        put(6, 7, "b", Applied(20)),
        read(8, 9, None),
    ]);
}

#[test]
fn what_has_a_time_to_live_is_there_for_so_long_and_no_longer() {
    let lent = lend(0, 10, "a", (100, 120), Applied(10));
    accepted(&[lent.clone(), read(90, 99, Some((10, "a"))), read(131, 132, None)]);
    // Between the bounds it may go at any moment, once.
    accepted(&[
        lent.clone(),
        read(101, 102, Some((10, "a"))),
        read(103, 104, None),
    ]);
    accepted(&[lent.clone(), read(101, 102, None), read(103, 104, None)]);
    refused(&[
        lent.clone(),
        read(101, 102, None),
        read(103, 104, Some((10, "a"))),
    ]);
    refused(&[lent.clone(), read(90, 99, None)]);
    refused(&[lent.clone(), read(131, 132, Some((10, "a")))]);
    // What was written over it does not go with it.
    accepted(&[
        lent.clone(),
        put(50, 51, "b", Applied(20)),
        read(140, 141, Some((20, "b"))),
    ]);
    refused(&[lent.clone(), put(50, 51, "b", Applied(20)), read(140, 141, None)]);
    // Absent is absent, for conditions too.
    accepted(&[lent.clone(), write(140, 141, "b", Condition::Absent, Applied(20))]);
    refused(&[lent, cas(140, 141, 10, "b", Applied(20))]);
    // One of unknown outcome that nobody ever saw may have been there, and gone.
    accepted(&[
        put(0, 1, "a", Applied(10)),
        lend(2, 3, "b", (10, 20), Maybe),
        read(4, 5, Some((10, "a"))),
        read(40, 41, None),
    ]);
    // A write that was not applied does not end anything.
    refused(&[
        put(0, 1, "a", Applied(10)),
        lend(2, 3, "b", (10, 20), Refused),
        read(40, 41, None),
    ]);
}

#[test]
fn an_unknown_outcome_may_take_effect_late_or_never() {
    let unknown = put(0, 1, "a", Maybe);
    accepted(&[unknown.clone(), read(2, 3, None)]);
    accepted(&[unknown.clone(), read(2, 3, None), read(4, 5, Some((10, "a")))]);
    refused(&[unknown, read(2, 3, Some((10, "a"))), read(4, 5, None)]);
}

#[test]
fn what_made_a_condition_fail_may_be_of_unknown_outcome() {
    let events = [
        put(0, 1, "a", Applied(10)),
        put(2, 3, "b", Maybe),
        cas(4, 5, 10, "c", Failed(Some(20))),
    ];
    accepted(&events);
    refused(&[events[0].clone(), events[2].clone()]);
}

#[test]
fn a_refused_write_is_never_seen() {
    refused(&[put(0, 1, "a", Refused), read(2, 3, Some((10, "a")))]);
}

#[test]
fn a_search_that_takes_too_long_is_a_finding() {
    let events: Vec<Event> = (0..12)
        .map(|n| put(0, 9, &n.to_string(), Applied(n + 1)))
        .collect();
    let operations = operations(&events).unwrap();
    assert_eq!(find_order(&operations, 11), None);
    assert_eq!(find_order(&operations, 13), Some(true));
}

/// Tries every order of the operations.
fn tried_all(left: &[Operation], state: Value) -> bool {
    if left.iter().all(|op| op.end == Micros::MAX) {
        return true;
    }
    (0..left.len()).any(|at| {
        let op = left[at];
        if left.iter().any(|other| other.end < op.start) {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(at);
        op.step.apply(state).is_some_and(|after| tried_all(&rest, after))
    })
}

#[test]
fn it_finds_what_trying_every_order_finds() {
    let mut random = StdRng::seed_from_u64(7);
    let mut good = 0;
    for _ in 0..20_000 {
        let mut operations: Vec<Operation> = (0..random.random_range(1..=6))
            .map(|number| {
                let start = random.random_range(0..12);
                let step = match random.random_range(0..4) {
                    0 => Step::Put(number),
                    1 => Step::Swap(random.random_range(0..6), number),
                    2 => Step::Other(random.random_range(0..6)),
                    _ => Step::Read(random.random_range(0..6)),
                };
                let end = match random.random_range(0..6) {
                    0 => Micros::MAX,
                    _ => start + random.random_range(0..6),
                };
                Operation { start, end, step }
            })
            .collect();
        operations.sort_by_key(|op| op.start);
        let expected = tried_all(&operations, 0);
        assert_eq!(
            find_order(&operations, MAX_STEPS),
            Some(expected),
            "{operations:?}"
        );
        good += usize::from(expected);
    }
    assert!((2_000..18_000).contains(&good), "{good} of 20,000 had an order");
}

#[test]
fn a_thousand_operations_of_eight_clients_are_searched_in_some_thousand_steps() {
    let mut random = StdRng::seed_from_u64(3);
    // Played on a register: each operation takes effect at its middle.
    let mut operations = Vec::new();
    let mut state = 0;
    for number in 1..=1_000 {
        let at = 10 * number as Micros + 100;
        let step = match random.random_range(0..3) {
            0 => Step::Read(state),
            1 => Step::Put(number),
            _ => Step::Swap(state, number),
        };
        state = step.apply(state).expect("what it saw");
        let (before, after) = (random.random_range(0..40), random.random_range(0..40));
        operations.push(Operation {
            start: at - before,
            end: at + after,
            step,
        });
    }
    operations.sort_by_key(|op| op.start);
    assert_eq!(find_order(&operations, 20_000), Some(true));
}
