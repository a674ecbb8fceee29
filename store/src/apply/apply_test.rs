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
use crate::command::{Split, Write};
use crate::keys;
use crate::record;
use crate::sessions::Sessions;
use crate::state::Identity;

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

fn split_at(at: &str) -> Split {
    let replicas = [(1, 21), (2, 19), (3, 23)]
        .map(|(store, id)| (StoreId(store), ReplicaId(id)))
        .to_vec();
    let at = Key::new(at.to_owned()).unwrap();
    Split {
        bounds: 3,
        at,
        right: RangeId(6),
        replicas,
        right_size: 12,
        right_keys: 1,
    }
}

#[test]
fn a_split_makes_two_ranges_of_one() {
    let mut range = Range::new(Span::new("b", "y").unwrap());
    range.writes(5, vec![named(7, 1, put("c", "1")), named(7, 2, put("p", "1"))]);
    let before = range.state.clone();
    let applied = range.apply(&Command::Split(split_at("m")));
    assert_eq!(applied.answer, Answer::Split(Ok(())));
    let [Effect::Split(child)] = &applied.effects[..] else {
        panic!("{:?}", applied.effects)
    };

    let parent = &range.state;
    assert_eq!(parent.descriptor.span, Span::new("b", "m").unwrap());
    assert_eq!(
        parent.descriptor.epoch,
        Epoch {
            bounds: 4,
            membership: 2
        }
    );
    assert_eq!(parent.descriptor.replicas, before.descriptor.replicas);
    assert_eq!((parent.keys, parent.size_bytes), (1, before.size_bytes - 12));
    assert_eq!(parent.sessions, before.sessions);

    assert_eq!(child.descriptor.span, Span::new("m", "y").unwrap());
    assert_eq!(
        child.descriptor.epoch,
        Epoch {
            bounds: 4,
            membership: BIRTH_INDEX
        }
    );
    let members = [
        replica(19, 2, Role::Voter),
        replica(21, 1, Role::Voter),
        replica(23, 3, Role::Learner),
    ];
    assert_eq!(child.descriptor.replicas, members);
    assert_eq!(child.replica(), Some(ReplicaId(21)));
    let state = child.state.as_ref().unwrap();
    assert_eq!(state.validate(), Ok(()));
    assert_eq!(
        (state.last_revision, state.keys, state.size_bytes),
        (before.last_revision, 1, 12)
    );

    // Both sides remember.
    let right = named(7, 2, put("p", "again"));
    assert!(matches!(
        range.write(6, right.clone()),
        Err(kv::Error::StaleEpoch { .. })
    ));
    let mut child = Range {
        state: state.clone(),
        rows: range.rows,
        index: BIRTH_INDEX,
    };
    assert_eq!(child.write(6, right), Ok(WriteOutcome::Created(at(5, 1))));
    assert_eq!(
        child.write(1, put("p", "2")),
        Ok(WriteOutcome::Replaced(at(6, 1))),
        "revisions go on"
    );
}

#[test]
fn a_split_that_does_not_fit_changes_nothing() {
    type Change = fn(&mut Split);
    let cases: [(&str, Change); 9] = [
        ("other bounds", |split| split.bounds = 2),
        ("at the start", |split| split.at = Key::new("b").unwrap()),
        ("at the end", |split| split.at = Key::new("y").unwrap()),
        ("outside", |split| split.at = Key::new("z").unwrap()),
        ("a member missing", |split| split.replicas.truncate(2)),
        ("another store", |split| split.replicas[0].0 = StoreId(9)),
        ("an id twice", |split| split.replicas[0].1 = ReplicaId(19)),
        ("an id of none", |split| split.replicas[0].1 = ReplicaId::NONE),
        ("no new range", |split| split.right = RangeId(5)),
    ];
    for (name, change) in cases {
        let mut range = Range::new(Span::new("b", "y").unwrap());
        let before = range.state.clone();
        let mut split = split_at("m");
        change(&mut split);
        let applied = range.apply(&Command::Split(split));
        assert!(matches!(applied.answer, Answer::Split(Err(_))), "{name}");
        assert!(applied.effects.is_empty() && applied.rows.is_empty(), "{name}");
        assert_eq!(range.state, before, "{name}");
    }
    let mut range = Range::new(Span::new("b", "y").unwrap());
    let mut joint = Descriptor::clone(&range.state.descriptor);
    joint.replicas[0].role = Role::Outgoing;
    range.state.descriptor = Arc::new(joint);
    assert_eq!(
        range.apply(&Command::Split(split_at("m"))).answer,
        Answer::Split(Err(SplitRefused::Joint))
    );
}

#[test]
fn a_store_without_a_member_gets_no_child() {
    let mut range = Range::new(Span::everything());
    range.state.identity = Identity {
        range: RangeId(5),
        replica: ReplicaId(14),
        store: StoreId(4),
    };
    let applied = range.apply(&Command::Split(split_at("m")));
    let [Effect::Split(child)] = &applied.effects[..] else {
        panic!("{:?}", applied.effects)
    };
    assert_eq!(child.replica(), None);
}

mod random {
    use proptest::prelude::*;

    use super::*;

    /// What a client may rely on, told as simply as possible.
    #[derive(Default)]
    struct Model {
        records: BTreeMap<Bytes, (Revision, u64, Bytes)>,
        last: Revision,
        remembered: BTreeMap<(u64, u64), WriteOutcome>,
    }

    impl Model {
        fn entry(&mut self, ms: u64, writes: &[Write]) -> Vec<WriteOutcome> {
            self.last = Revision(self.last.0 + 1).max(Revision::at_millis(ms));
            let (now, mut given) = (self.last.millis(), 0);
            let mut outcomes = Vec::new();
            for write in writes {
                let name = (write.session.0, write.sequence);
                if let Some(outcome) = self.remembered.get(&name).filter(|_| write.session.is_some()) {
                    outcomes.push(*outcome);
                    continue;
                }
                let key = write.key.as_bytes();
                let current = self
                    .records
                    .get(key)
                    .filter(|(_, expires, _)| *expires == 0 || *expires > now)
                    .cloned();
                let holds = match &write.condition {
                    Condition::None => true,
                    Condition::Absent => current.is_none(),
                    Condition::Exists => current.is_some(),
                    Condition::Revision(revision) => current.as_ref().is_some_and(|(at, ..)| at == revision),
                    Condition::Value(value) => current.as_ref().is_some_and(|(.., at)| at == value),
                };
                let mut next = || {
                    given += 1;
                    Revision(self.last.0 + given - 1)
                };
                let outcome = match (&write.mutation, current) {
                    (_, current) if !holds => {
                        WriteOutcome::ConditionFailed(current.map(|(revision, ..)| revision))
                    }
                    (Mutation::Put { value, ttl_ms }, current) => {
                        let revision = next();
                        let expires = if *ttl_ms == 0 { 0 } else { now + ttl_ms };
                        self.records
                            .insert(key.clone(), (revision, expires, value.clone()));
                        if current.is_some() {
                            WriteOutcome::Replaced(revision)
                        } else {
                            WriteOutcome::Created(revision)
                        }
                    }
                    (Mutation::Delete, current) => {
                        self.records.remove(key);
                        if current.is_some() {
                            WriteOutcome::Deleted(next())
                        } else {
                            WriteOutcome::WasAbsent
                        }
                    }
                };
                self.remembered.insert(name, outcome);
                outcomes.push(outcome);
            }
            self.last = Revision(self.last.0 + given.saturating_sub(1));
            outcomes
        }
    }

    fn any_write() -> impl Strategy<Value = Write> {
        let condition = prop_oneof![
            4 => Just(Condition::None),
            1 => Just(Condition::Absent),
            1 => Just(Condition::Exists),
            1 => (0u64..40, 0u64..3).prop_map(|(ms, counter)| Condition::Revision(at(ms, counter))),
            1 => (0u8..3).prop_map(|value| Condition::Value(vec![value; 3].into())),
        ];
        let mutation = prop_oneof![
            3 => (0u8..3, prop_oneof![Just(0u64), 1u64..20])
                .prop_map(|(value, ttl_ms)| Mutation::Put { value: vec![value; 3].into(), ttl_ms }),
            1 => Just(Mutation::Delete),
        ];
        (0u8..5, 0u64..3, 0u64..40, condition, mutation).prop_map(
            |(key, session, sequence, condition, mutation)| {
                let key = Key::new(vec![b'a' + key]).unwrap();
                Write {
                    session: SessionId(session),
                    sequence,
                    finished_below: 0,
                    key,
                    condition,
                    mutation,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn apply_does_what_the_model_does(
            entries in prop::collection::vec((0u64..40, prop::collection::vec(any_write(), 1..8)), 1..40),
        ) {
            let (mut range, mut model) = (Range::new(Span::everything()), Model::default());
            for (ms, writes) in entries {
                let expected = model.entry(ms, &writes);
                let answers = range.writes(ms, writes);
                prop_assert_eq!(answers, expected.into_iter().map(Ok).collect::<Vec<_>>());
                prop_assert_eq!(range.state.last_revision, model.last);
                let records = range.records();
                let decoded: BTreeMap<_, _> = records
                    .iter()
                    .map(|(key, stored)| (key.clone(), record::decode(stored).unwrap()))
                    .map(|(key, record)| (key, (record.revision, record.expires_ms, record.value)))
                    .collect();
                prop_assert_eq!(&decoded, &model.records);
                let size: usize = records.iter().map(|(key, stored)| key.len() + stored.len()).sum();
                prop_assert_eq!((range.state.keys, range.state.size_bytes), (records.len() as u64, size as u64));
            }
        }

        /// The same entries in other pieces of reading give the same rows: nothing depends on what a replica has cached.
        #[test]
        fn replicas_agree(
            entries in prop::collection::vec((0u64..40, prop::collection::vec(any_write(), 1..8)), 1..20),
        ) {
            let (mut one, mut two) = (Range::new(Span::everything()), Range::new(Span::everything()));
            for (ms, writes) in entries {
                let command = Command::Writes { stamp: Revision::at_millis(ms), writes };
                let copy = Command::decode(&command.encode()).unwrap();
                prop_assert_eq!(one.apply(&command).answer, two.apply(&copy).answer);
                // The second one restarts after each entry.
                let rows = two.rows.0.borrow().clone();
                let rows = rows.iter().filter_map(|(key, row)| Some((keys::index_of_outcomes(key)?, row.clone())));
                two.state.sessions = Sessions::rebuild(two.state.sessions.floors(), rows).unwrap();
                prop_assert_eq!(&one.state, &two.state);
                prop_assert_eq!(&*one.rows.0.borrow(), &*two.rows.0.borrow());
            }
        }
    }
}
