use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_common::ids::{RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::{Key, Span};
use holdfast_common::proto::kv::{self, Condition, Mutation, WriteOutcome};
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};
use holdfast_common::revision::Revision;

use super::*;
use crate::command::Write;
use crate::keys;
use crate::record;
use crate::sessions::Sessions;
use crate::state::{Identity, Merge};

/// A range and its rows.
pub(super) struct Range {
    pub(super) state: RangeState,
    rows: Rows,
    index: u64,
}

#[derive(Default)]
struct Rows(RefCell<BTreeMap<Bytes, Bytes>>);

impl Reads for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, engine::Error> {
        Ok(self.0.borrow().get(key).cloned())
    }
}

pub(super) fn replica(id: u64, store: u64, role: Role) -> Replica {
    Replica {
        id: ReplicaId(id),
        store: StoreId(store),
        role,
    }
}

impl Range {
    pub(super) fn new(span: Span) -> Self {
        let replicas = vec![
            replica(11, 1, Role::Voter),
            replica(12, 2, Role::Voter),
            replica(13, 3, Role::Learner),
        ];
        let descriptor = Descriptor {
            id: RangeId(5),
            span,
            epoch: Epoch {
                bounds: 3,
                membership: 2,
            },
            replicas,
        };
        let state = RangeState {
            identity: Identity {
                range: RangeId(5),
                replica: ReplicaId(11),
                store: StoreId(1),
            },
            descriptor: Arc::new(descriptor),
            last_revision: Revision::ZERO,
            size_bytes: 0,
            keys: 0,
            sessions: Sessions::default(),
            merge: Merge::No,
            tokens: Default::default(),
        };
        Self {
            state,
            rows: Rows::default(),
            index: 9,
        }
    }

    pub(super) fn apply(&mut self, command: &Command) -> Applied {
        self.index += 1;
        let applied = apply(&mut self.state, self.index, command, &self.rows).unwrap();
        let mut rows = self.rows.0.borrow_mut();
        for row in applied.rows.rows() {
            match &row.value {
                Some(value) => drop(rows.insert(row.key.clone(), value.clone())),
                None => drop(rows.remove(&row.key)),
            }
        }
        drop(rows);
        self.state.validate().unwrap();
        applied
    }

    fn writes(&mut self, ms: u64, writes: Vec<Write>) -> WriteAnswers {
        match self
            .apply(&Command::Writes {
                stamp: Revision::at_millis(ms),
                writes,
            })
            .answer
        {
            Answer::Writes(answers) => answers,
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, ms: u64, write: Write) -> Result<WriteOutcome, kv::Error> {
        self.writes(ms, vec![write]).remove(0)
    }

    fn record(&self, key: &str) -> Option<kv::Record> {
        let stored = self
            .rows
            .get(keys::RecordKey::new(key.as_bytes()).as_ref())
            .unwrap()?;
        Some(record::decode(&stored).unwrap())
    }

    fn records(&self) -> BTreeMap<Bytes, Bytes> {
        let rows = self.rows.0.borrow();
        rows.iter()
            .filter_map(|(key, value)| Some((keys::user_key(key)?, value.clone())))
            .collect()
    }
}

fn nameless(key: &str, condition: Condition, mutation: Mutation) -> Write {
    let key = Key::new(key.to_owned()).unwrap();
    Write {
        session: SessionId::NONE,
        sequence: 0,
        finished_below: 0,
        key,
        condition,
        mutation,
        once: None,
    }
}

fn put_value(value: &str) -> Mutation {
    put_ttl(value, 0)
}

fn put_ttl(value: &str, ttl_ms: u64) -> Mutation {
    Mutation::Put {
        value: value.to_owned().into(),
        ttl_ms,
    }
}

fn put(key: &str, value: &str) -> Write {
    nameless(key, Condition::None, put_value(value))
}

fn delete(key: &str) -> Write {
    nameless(key, Condition::None, Mutation::Delete)
}

fn named(session: u64, sequence: u64, write: Write) -> Write {
    Write {
        session: SessionId(session),
        sequence,
        ..write
    }
}

fn at(ms: u64, counter: u64) -> Revision {
    Revision(Revision::at_millis(ms).0 + counter)
}

#[test]
fn outcomes_say_what_happened() {
    let mut range = Range::new(Span::everything());
    assert_eq!(range.write(5, delete("k")), Ok(WriteOutcome::WasAbsent));
    assert_eq!(range.write(6, put("k", "1")), Ok(WriteOutcome::Created(at(6, 0))));
    assert_eq!(
        range.write(7, put("k", "2")),
        Ok(WriteOutcome::Replaced(at(7, 0)))
    );
    assert_eq!(range.record("k").unwrap().value, "2");
    assert_eq!(range.write(8, delete("k")), Ok(WriteOutcome::Deleted(at(8, 0))));
    assert_eq!(range.record("k"), None);
}

#[test]
fn conditions_read_the_current_record() {
    use Condition::{Absent, Exists, Value};
    let absent_key = [
        (Condition::None, true),
        (Absent, true),
        (Exists, false),
        (Value("v".into()), false),
    ];
    let absent_key = absent_key
        .into_iter()
        .chain([(Condition::Revision(Revision::ZERO), false)]);
    for (condition, holds) in absent_key {
        let mut range = Range::new(Span::everything());
        let outcome = range.write(5, nameless("k", condition.clone(), put_value("new")));
        let expected = if holds {
            WriteOutcome::Created(at(5, 0))
        } else {
            WriteOutcome::ConditionFailed(None)
        };
        assert_eq!(outcome, Ok(expected), "{condition:?} of an absent key");
    }
    for (condition, holds) in [
        (Condition::None, true),
        (Absent, false),
        (Exists, true),
        (Value("v".into()), true),
        (Value("".into()), false),
        (Condition::Revision(at(1, 0)), true),
        (Condition::Revision(at(1, 1)), false),
    ] {
        for (mutation, done) in [
            (put_value("new"), WriteOutcome::Replaced(at(5, 0))),
            (Mutation::Delete, WriteOutcome::Deleted(at(5, 0))),
        ] {
            let mut range = Range::new(Span::everything());
            range.write(1, put("k", "v")).unwrap();
            let expected = if holds {
                done
            } else {
                WriteOutcome::ConditionFailed(Some(at(1, 0)))
            };
            assert_eq!(
                range.write(5, nameless("k", condition.clone(), mutation)),
                Ok(expected),
                "{condition:?}"
            );
            assert_eq!(
                range.record("k").is_some_and(|record| record.value == "v"),
                !holds
            );
        }
    }
}

#[test]
fn writes_of_an_entry_see_those_before_them() {
    let mut range = Range::new(Span::everything());
    let answers = range.writes(
        5,
        vec![
            nameless("k", Condition::Absent, put_value("1")),
            nameless("k", Condition::Absent, put_value("2")),
            nameless("k", Condition::Revision(at(5, 0)), put_value("3")),
            nameless("k", Condition::Value("3".into()), Mutation::Delete),
            nameless("k", Condition::Absent, put_value("4")),
            put("other", "5"),
        ],
    );
    let expected = [
        WriteOutcome::Created(at(5, 0)),
        WriteOutcome::ConditionFailed(Some(at(5, 0))),
        WriteOutcome::Replaced(at(5, 1)),
        WriteOutcome::Deleted(at(5, 2)),
        WriteOutcome::Created(at(5, 3)),
        WriteOutcome::Created(at(5, 4)),
    ];
    assert_eq!(answers, expected.map(Ok));
    assert_eq!(range.record("k").unwrap().value, "4");
    assert_eq!(range.state.keys, 2);
}

#[test]
fn revisions_grow_when_clocks_step_back() {
    let mut range = Range::new(Span::everything());
    range.write(1_000, put("k", "1")).unwrap();
    assert_eq!(
        range.write(500, put("k", "2")),
        Ok(WriteOutcome::Replaced(at(1_000, 1)))
    );
    assert_eq!(
        range.write(1_000, delete("k")),
        Ok(WriteOutcome::Deleted(at(1_000, 2)))
    );
    assert_eq!(
        range.write(1_001, put("k", "3")),
        Ok(WriteOutcome::Created(at(1_001, 0)))
    );
}

#[test]
fn an_expired_record_counts_as_absent_and_stays_expired() {
    let mut range = Range::new(Span::everything());
    range
        .write(1_000, nameless("k", Condition::None, put_ttl("1", 500)))
        .unwrap();
    assert_eq!(range.record("k").unwrap().expires_ms, 1_500);
    let exists = || nameless("k", Condition::Exists, put_ttl("2", 500));
    assert_eq!(
        range.write(1_499, exists()),
        Ok(WriteOutcome::Replaced(at(1_499, 0)))
    );
    assert_eq!(
        range.write(1_999, exists()),
        Ok(WriteOutcome::ConditionFailed(None))
    );
    assert_eq!(
        range.write(1_000, exists()),
        Ok(WriteOutcome::ConditionFailed(None)),
        "a stamp from an older clock"
    );
    assert_eq!(range.write(2_000, delete("k")), Ok(WriteOutcome::WasAbsent));
    assert_eq!(range.record("k"), None, "it is removed all the same");
    assert_eq!((range.state.keys, range.state.size_bytes), (0, 0));
    range
        .write(3_000, nameless("k", Condition::None, put_ttl("1", 1)))
        .unwrap();
    let again = range.write(3_001, nameless("k", Condition::Absent, put_value("2")));
    assert_eq!(again, Ok(WriteOutcome::Created(at(3_001, 0))));
    assert_eq!(range.state.keys, 1);
}

#[test]
fn what_lies_outside_is_answered_with_the_range() {
    let mut range = Range::new(Span::new("b", "d").unwrap());
    let answers = range.writes(
        5,
        vec![
            put("a", "1"),
            put("b", "1"),
            put("d", "1"),
            named(7, 1, put("x", "1")),
        ],
    );
    let outside = Err(kv::Error::StaleEpoch {
        current: vec![Descriptor::clone(&range.state.descriptor)],
    });
    assert_eq!(
        answers,
        [
            outside.clone(),
            Ok(WriteOutcome::Created(at(5, 0))),
            outside.clone(),
            outside
        ]
    );
    assert_eq!(range.records().len(), 1);
    assert_eq!(
        range.state.sessions.floors().len(),
        0,
        "what was not applied is not remembered"
    );
}

#[test]
fn a_repeated_write_is_applied_once() {
    let mut range = Range::new(Span::everything());
    let first = range.write(5, named(7, 1, put("k", "1")));
    range.write(6, put("k", "2")).unwrap();
    assert_eq!(range.write(7, named(7, 1, put("k", "1"))), first);
    assert_eq!(range.record("k").unwrap().value, "2");
    let mut finished = named(7, 2, delete("k"));
    finished.finished_below = 2;
    range.write(8, finished).unwrap();
    assert_eq!(
        range.write(9, named(7, 1, put("k", "1"))),
        Err(kv::Error::Retired)
    );
    assert_eq!(range.record("k"), None);
}

#[test]
fn outcome_rows_come_and_go() {
    let mut range = Range::new(Span::everything());
    let outcome_rows = |range: &Range| {
        let rows = range.rows.0.borrow();
        rows.keys()
            .filter_map(|key| keys::index_of_outcomes(key))
            .collect::<Vec<_>>()
    };
    range.write(5, named(7, 1, put("k", "1"))).unwrap();
    range.write(5, named(7, 2, put("k", "1"))).unwrap();
    assert_eq!(outcome_rows(&range), [10, 11]);
    let mut finished = named(7, 3, put("k", "1"));
    finished.finished_below = 3;
    range.write(5, finished).unwrap();
    assert_eq!(outcome_rows(&range), [12]);
    let rows = range.rows.0.borrow().clone();
    let rows = rows
        .iter()
        .filter_map(|(key, row)| Some((keys::index_of_outcomes(key)?, row.clone())));
    let rebuilt = Sessions::rebuild(range.state.sessions.floors(), rows).unwrap();
    assert_eq!(rebuilt, range.state.sessions);
}

#[test]
fn answers_read_back() {
    let answers: WriteAnswers = vec![Ok(WriteOutcome::WasAbsent), Err(kv::Error::Retired)];
    let bytes = Answer::Writes(answers.clone()).encode();
    assert_eq!(
        holdfast_common::proto::decode::<WriteAnswers>(&bytes),
        Ok(answers)
    );
    let refused: SplitAnswer = Err(SplitRefused::Members("why".into()));
    let bytes = Answer::Split(refused.clone()).encode();
    assert_eq!(holdfast_common::proto::decode::<SplitAnswer>(&bytes), Ok(refused));
}

#[path = "random_test.rs"]
mod random;
#[path = "split_test.rs"]
mod splits;
#[path = "txn_test.rs"]
mod txns;
