use bytes::Bytes;

use super::*;
use crate::ids::{RangeId, ReplicaId};
use crate::raft::types::Command;

const GROUP: GroupId = GroupId {
    range: RangeId(3),
    replica: ReplicaId(4),
};

fn budget() -> Arc<Budget> {
    Arc::new(Budget::new(1 << 20, 1 << 20))
}

fn id(term: u64, index: u64) -> LogId {
    records::log_id(term, index)
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: id(term, index),
        payload: Payload::Normal(Command(Bytes::from(format!("{term}/{index}")))),
    }
}

fn entries(term: u64, indices: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indices.map(|index| entry(term, index)).collect()
}

/// A state with entries 1 to 10 of term 1, all in the database.
fn ten() -> State {
    let mut state = State::unborn(GROUP, None, budget());
    let appended = state.append(entries(1, 1..=10)).expect("in order");
    state.entries_stored(appended.stored);
    state
}

/// What rows do, in words.
fn told(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .map(|row| match (row.space, &row.value) {
            (Space::Log, Some(_)) => format!("put {}", keys::index_of(&row.key).expect("an index")),
            (Space::Log, None) => format!("del {}", keys::index_of(&row.key).expect("an index")),
            (Space::Raft, Some(_)) => format!("row {}", row.key[17]),
            (Space::Raft, None) => format!("no row {}", row.key[17]),
        })
        .collect()
}

#[test]
fn the_first_write_tells_where_the_log_begins() {
    let mut state = State::unborn(GROUP, Some(id(0, 5)), budget());
    assert_eq!((state.purged, state.last), (Some(id(0, 5)), Some(id(0, 5))));
    let rows = state.save_vote(&Vote::new(1, ReplicaId(4)));
    assert_eq!(told(&rows), ["row 2", "row 1"]);
    assert_eq!(
        records::decode_purged(rows[0].value.as_ref().expect("a value")),
        Ok(Some(id(0, 5)))
    );
    let appended = state.append(vec![entry(1, 6)]).expect("in order");
    assert_eq!(told(&appended.rows), ["put 6"]);
}

#[test]
fn commands_are_cached_in_the_memory_of_their_rows() {
    let mut state = State::unborn(GROUP, None, budget());
    let appended = state.append(vec![entry(1, 1)]).expect("in order");
    let row = appended.rows[1].value.clone().expect("a value");
    let Some(Payload::Normal(command)) = state.cache.range(1..2).next().map(|entry| entry.payload.clone())
    else {
        panic!("a command");
    };
    assert_eq!(command.0.as_ptr(), row[ENTRY_HEADER_BYTES..].as_ptr());
    assert_eq!(&command.0[..], b"1/1");
}

#[test]
fn a_hole_is_refused() {
    let mut state = ten();
    assert!(matches!(
        state.append(vec![entry(1, 12)]),
        Err(Error::OutOfOrder {
            last: Some(10),
            index: 12,
            ..
        })
    ));
    assert!(state.append(vec![entry(1, 11), entry(1, 13)]).is_err());
    assert!(state.append(vec![entry(2, 10)]).is_err());
    assert_eq!(state.end(), 11, "nothing of a refused append stays");
    assert_eq!(state.cache.range(0..99).count(), 10);
}

#[test]
fn truncation_removes_the_tail_and_lets_it_be_rewritten() {
    let mut state = ten();
    assert_eq!(
        told(&state.truncate_after(Some(id(1, 7)))),
        ["del 8", "del 9", "del 10"]
    );
    assert_eq!(state.last, Some(id(1, 7)));
    assert_eq!(
        told(&state.append(entries(2, 8..=8)).expect("in order").rows),
        ["put 8"]
    );
    assert_eq!(state.last, Some(id(2, 8)));
    assert!(state.truncate_after(Some(id(2, 8))).is_empty());
    assert_eq!(state.truncate_after(None).len(), 8);
    assert_eq!((state.first, state.last), (None, None));
}

#[test]
fn an_append_from_before_a_truncation_does_not_count_as_stored() {
    let mut state = State::unborn(GROUP, None, Arc::new(Budget::new(0, 0)));
    let old = state.append(entries(1, 1..=5)).expect("in order");
    state.truncate_after(Some(id(1, 2)));
    let new = state.append(entries(2, 3..=5)).expect("in order");
    state.entries_stored(old.stored);
    assert_eq!(state.cache.first(), Some(1), "nothing is known to be stored");
    state.entries_stored(new.stored);
    assert_eq!(state.cache.first(), None);
}

#[test]
fn a_purge_moves_the_bounds_at_once_and_sweeps_behind() {
    let mut state = ten();
    let purged = state.purge(id(1, 4)).expect("something to purge");
    assert_eq!(told(&purged.rows), ["row 2"]);
    assert_eq!(
        (purged.sweep.next, purged.sweep.last, purged.sweep.purged),
        (1, 4, 4)
    );
    assert_eq!(
        (state.first, state.purged, state.last),
        (Some(5), Some(id(1, 4)), Some(id(1, 10)))
    );
    assert!(state.purge(id(1, 4)).is_none());
    assert_eq!(state.truncate_after(None).len(), 6);
    assert_eq!((state.first, state.last), (None, Some(id(1, 4))));
}

#[test]
fn a_purge_beyond_the_end_leaves_an_empty_log_there() {
    let mut state = ten();
    let purged = state.purge(id(3, 500)).expect("something to purge");
    assert_eq!(
        (purged.sweep.next, purged.sweep.last, purged.sweep.purged),
        (1, 10, 500)
    );
    assert_eq!((state.first, state.last), (None, Some(id(3, 500))));
    assert!(state.append(vec![entry(3, 11)]).is_err());
    let appended = state.append(vec![entry(3, 501)]).expect("in order");
    assert_eq!(told(&appended.rows), ["put 501"]);
    let again = state.purge(id(3, 501)).expect("something to purge").sweep;
    assert_eq!((again.next, again.last), (501, 501));
}

#[test]
fn purging_an_empty_log_has_nothing_to_sweep() {
    let mut state = State::unborn(GROUP, None, budget());
    let sweep = state.purge(id(1, 9)).expect("something to purge").sweep;
    assert!(sweep.next > sweep.last);
    assert_eq!(
        told(&state.append(vec![entry(1, 10)]).expect("in order").rows),
        ["put 10"],
        "already born"
    );
}
