use std::collections::BTreeSet;

use holdfast_common::ids::{RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::{Key, Span};
use holdfast_common::proto::kv::{Condition, Mutation, WriteOutcome};
use holdfast_common::range::{Epoch, Replica, Role};
use holdfast_common::revision::Revision;

use super::*;
use crate::apply::{Reads, apply};
use crate::command::{Command, Write};
use crate::sessions::{Admission, Sessions, WriteName};
use crate::state::Identity;
use crate::tokens::Tokens;

fn range(id: u64, span: Span, bounds: u64) -> RangeState {
    let replicas = (1..=3).map(|store| Replica {
        id: ReplicaId(10 * id + store),
        store: StoreId(store),
        role: Role::Voter,
    });
    let descriptor = Descriptor {
        id: RangeId(id),
        span,
        epoch: Epoch {
            bounds,
            membership: 2,
        },
        replicas: replicas.collect(),
    };
    RangeState {
        identity: Identity {
            range: RangeId(id),
            replica: ReplicaId(10 * id + 1),
            store: StoreId(1),
        },
        descriptor: Arc::new(descriptor),
        last_revision: Revision(100 * id),
        size_bytes: 10 * id,
        keys: id,
        sessions: Sessions::default(),
        merge: Merge::No,
        tokens: Tokens::default(),
    }
}

fn left() -> RangeState {
    range(1, Span::new("a", "m").unwrap(), 4)
}

fn right() -> RangeState {
    range(2, Span::new("m", "z").unwrap(), 7)
}

fn answer(applied: &Applied) -> Result<(), MergeRefused> {
    match &applied.answer {
        Answer::Merge(answer) => answer.clone(),
        other => panic!("{other:?}"),
    }
}

fn name(session: u64, sequence: u64) -> WriteName {
    WriteName {
        session: SessionId(session),
        sequence,
        finished_below: 0,
    }
}

fn remember(state: &mut RangeState, index: u64, name: WriteName) {
    let mut forgotten = Vec::new();
    assert_eq!(
        state.sessions.admit(name, index, 0, &mut forgotten),
        Admission::New
    );
    let outcome = WriteOutcome::Created(Revision(index));
    state.sessions.remember(name, index, outcome, &mut forgotten);
}

#[test]
fn a_frozen_range_thaws_or_gives_itself_up_and_never_both() {
    let mut range = right();
    assert_eq!(answer(&freeze(&mut range, 9, 7)), Ok(()));
    assert_eq!(range.merge, Merge::Frozen { at: 9 });
    assert_eq!(range.descriptor.epoch.bounds, 8);
    assert_eq!(answer(&freeze(&mut range, 10, 8)), Err(MergeRefused::Merging));

    let mut thawed = range.clone();
    assert_eq!(answer(&thaw(&mut thawed, 8)), Ok(()));
    assert_eq!((thawed.merge, thawed.descriptor.epoch.bounds), (Merge::No, 9));
    let late = answer(&give_up(&mut thawed, 8));
    assert!(matches!(late, Err(MergeRefused::OtherBounds { .. })), "{late:?}");
    assert_eq!(answer(&give_up(&mut thawed, 9)), Err(MergeRefused::NotFrozen));

    assert_eq!(answer(&give_up(&mut range, 8)), Ok(()));
    assert_eq!(range.merge, Merge::Yielded { frozen: 9 });
    assert_eq!(answer(&thaw(&mut range, 8)), Err(MergeRefused::Merging));
    assert_eq!(range.merge, Merge::Yielded { frozen: 9 });
}

#[test]
fn a_second_freeze_after_a_thaw_is_another_one() {
    let mut range = right();
    assert_eq!(answer(&freeze(&mut range, 9, 7)), Ok(()));
    assert_eq!(answer(&thaw(&mut range, 8)), Ok(()));
    // A yield of the first attempt that arrives in the second one.
    assert_eq!(answer(&freeze(&mut range, 12, 9)), Ok(()));
    assert!(answer(&give_up(&mut range, 8)).is_err());
    assert_eq!(range.merge, Merge::Frozen { at: 12 });
}

#[test]
fn what_can_not_be_merged_is_not_frozen() {
    let mut first = range(1, Span::new("", "m").unwrap(), 4);
    assert_eq!(answer(&freeze(&mut first, 9, 4)), Err(MergeRefused::NoNeighbour));
    let mut moved_on = right();
    assert!(matches!(
        answer(&freeze(&mut moved_on, 9, 6)),
        Err(MergeRefused::OtherBounds { .. })
    ));
    let mut learning = right();
    let mut descriptor = Descriptor::clone(&learning.descriptor);
    descriptor.replicas[2].role = Role::Learner;
    learning.descriptor = Arc::new(descriptor);
    assert_eq!(answer(&freeze(&mut learning, 9, 7)), Err(MergeRefused::Members));
    assert_eq!(learning.merge, Merge::No);
}

#[test]
fn a_neighbour_is_taken_over_with_all_that_it_was() {
    let (mut target, mut source) = (left(), right());
    remember(&mut target, 3, name(1, 1));
    remember(&mut source, 5, name(1, 2));
    remember(&mut source, 6, name(2, 1));
    freeze(&mut source, 9, 7);
    give_up(&mut source, 8);

    let applied = absorb(&mut target, 20, &source).unwrap();
    let epoch = Epoch {
        bounds: 9,
        membership: 2,
    };
    assert_eq!(target.descriptor.span, Span::new("a", "z").unwrap());
    assert_eq!(target.descriptor.epoch, epoch, "larger than either side's");
    assert_eq!(target.last_revision, Revision(200));
    assert_eq!((target.size_bytes, target.keys), (30, 3));
    assert_eq!(target.merge, Merge::No);
    assert_eq!(target.validate(), Ok(()));

    let mut forgotten = Vec::new();
    for (write, index) in [(name(1, 1), 3), (name(1, 2), 5), (name(2, 1), 6)] {
        let repeated = Admission::Repeated(WriteOutcome::Created(Revision(index)));
        assert_eq!(target.sessions.admit(write, 21, 0, &mut forgotten), repeated);
    }

    let gone: BTreeSet<_> = applied.rows.rows().iter().map(|row| row.key.clone()).collect();
    let expected = [
        Bytes::copy_from_slice(&keys::range_row(RangeId(2))),
        Bytes::copy_from_slice(&keys::outcomes(RangeId(2), 5)),
        Bytes::copy_from_slice(&keys::outcomes(RangeId(2), 6)),
        Bytes::copy_from_slice(&keys::outcomes(RangeId(1), 20)),
    ];
    assert_eq!(gone, BTreeSet::from(expected), "no record is touched");
}

/// Nothing is asked of them.
struct NoRows;

impl Reads for NoRows {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, crate::engine::Error> {
        Ok(None)
    }
}

#[test]
fn what_is_refused_behind_the_freeze_leaves_no_trace_for_the_neighbour() {
    // One store's replica has applied the source's log up to the freeze alone, another's also what came behind.
    let mut up_to_freeze = right();
    freeze(&mut up_to_freeze, 9, 7);
    let mut further = up_to_freeze.clone();
    let late = Write {
        session: SessionId(1),
        sequence: 1,
        finished_below: 0,
        key: Key::new("n").unwrap(),
        condition: Condition::None,
        mutation: Mutation::Delete,
        once: None,
    };
    let command = Command::Writes {
        stamp: Revision::at_millis(5_000),
        writes: vec![late],
    };
    let applied = apply(&mut further, 10, &command, &NoRows).unwrap();
    let Answer::Writes(answers) = &applied.answer else {
        panic!("{applied:?}");
    };
    assert!(format!("{answers:?}").contains("NotReady"), "{answers:?}");
    assert!(applied.rows.rows().is_empty());
    assert_eq!(further, up_to_freeze);

    give_up(&mut further, 8);
    let (mut here, mut there) = (left(), left());
    absorb(&mut here, 20, &up_to_freeze).unwrap();
    absorb(&mut there, 20, &further).unwrap();
    assert_eq!(here, there);
}

#[test]
fn only_what_was_agreed_upon_is_taken_over() {
    let agreed = Absorb {
        bounds: 4,
        membership: 2,
        source: RangeId(2),
        frozen: 9,
    };
    assert_eq!(may_absorb(&left(), &agreed), Ok(()));
    let late = Absorb { bounds: 3, ..agreed };
    assert!(matches!(
        may_absorb(&left(), &late),
        Err(MergeRefused::OtherBounds { .. })
    ));
    let moved = Absorb {
        membership: 1,
        ..agreed
    };
    assert!(matches!(
        may_absorb(&left(), &moved),
        Err(MergeRefused::OtherMembers { .. })
    ));
    let mut frozen = left();
    freeze(&mut frozen, 8, 4);
    let meanwhile = Absorb { bounds: 5, ..agreed };
    assert_eq!(may_absorb(&frozen, &meanwhile), Err(MergeRefused::Merging));
    let far = range(3, Span::new("n", "z").unwrap(), 1);
    assert!(absorb(&mut left(), 20, &far).is_none(), "they do not touch");
}
