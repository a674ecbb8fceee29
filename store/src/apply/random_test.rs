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
                outcomes.push(outcome.clone());
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
                (Mutation::Txn(_), _) => unreachable!("none is generated"),
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
            self.remembered.insert(name, outcome.clone());
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
                once: None,
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
