use holdfast_common::proto::kv::{Act, Action, Committed, Once, Txn};

use super::*;

fn key(name: &str) -> Key {
    Key::new(name.to_owned()).unwrap()
}

fn get(name: &str) -> Action {
    Action {
        key: key(name),
        act: Act::Get,
    }
}

fn set(name: &str, value: &str) -> Action {
    Action {
        key: key(name),
        act: Act::Put {
            value: value.to_owned().into(),
            ttl_ms: 0,
        },
    }
}

fn drop_key(name: &str) -> Action {
    Action {
        key: key(name),
        act: Act::Delete,
    }
}

fn txn(conditions: &[(&str, Condition)], then: Vec<Action>, otherwise: Vec<Action>) -> Write {
    let conditions = conditions
        .iter()
        .map(|(name, condition)| (key(name), condition.clone()))
        .collect();
    let txn = Txn {
        conditions,
        then,
        otherwise,
    };
    let anchor = txn.keys().min().expect("a key").clone();
    Write {
        key: anchor,
        ..nameless("a", Condition::None, Mutation::Txn(Box::new(txn)))
    }
}

fn once(token: &str, window_ms: u64, write: Write) -> Write {
    let token = token.to_owned().into();
    Write {
        once: Some(Once {
            token,
            window_ms,
            done: 0,
        }),
        ..write
    }
}

fn committed(answer: Result<WriteOutcome, kv::Error>) -> Committed {
    match answer {
        Ok(WriteOutcome::Committed(committed)) => *committed,
        other => panic!("{other:?}"),
    }
}

fn values(committed: &Committed) -> Vec<Option<&[u8]>> {
    committed
        .reads
        .iter()
        .map(|read| read.as_ref().map(|record| &record.value[..]))
        .collect()
}

#[test]
fn a_branch_is_taken_whole_and_under_one_revision() {
    let mut range = Range::new(Span::everything());
    range.write(5, put("from", "10")).unwrap();
    let pay = |amount: &str| {
        txn(
            &[
                ("from", Condition::Value(amount.to_owned().into())),
                ("to", Condition::Absent),
            ],
            vec![set("from", "0"), set("to", "10"), drop_key("note"), get("from")],
            vec![get("from"), get("to")],
        )
    };
    let refused = committed(range.write(6, pay("11")));
    assert!(!refused.held);
    assert_eq!(values(&refused), [Some(&b"10"[..]), None]);
    assert_eq!(range.record("to"), None);

    let paid = committed(range.write(7, pay("10")));
    assert_eq!((paid.held, paid.revision), (true, at(7, 0)));
    assert_eq!(
        values(&paid),
        [Some(&b"10"[..])],
        "it reads what was there before it"
    );
    for name in ["from", "to"] {
        assert_eq!(range.record(name).expect("a record").revision, at(7, 0), "{name}");
    }
    assert_eq!(range.state.keys, 2);
}

#[test]
fn a_transaction_sees_the_writes_before_it_in_its_entry() {
    let mut range = Range::new(Span::everything());
    let answers = range.writes(
        5,
        vec![
            put("a", "1"),
            txn(&[("a", Condition::Exists)], vec![set("b", "2"), get("a")], vec![]),
            txn(
                &[("b", Condition::Value("2".into()))],
                vec![drop_key("a"), get("b")],
                vec![],
            ),
            put("c", "3"),
        ],
    );
    let second = committed(answers[2].clone());
    assert!(second.held);
    assert_eq!(values(&second), [Some(&b"2"[..])]);
    assert_eq!(range.record("a"), None);
    assert_eq!(range.record("b").expect("a record").revision, at(5, 1));
    assert_eq!(range.record("c").expect("a record").revision, at(5, 3));
}

#[test]
fn keys_of_another_range_are_refused_and_nothing_is_done() {
    let mut range = Range::new(Span::new("a", "m").unwrap());
    let write = txn(&[], vec![set("b", "1"), set("z", "1")], vec![]);
    assert_eq!(range.write(5, write), Err(kv::Error::CrossRange));
    let condition = txn(&[("z", Condition::Absent)], vec![set("b", "1")], vec![]);
    assert_eq!(range.write(5, condition), Err(kv::Error::CrossRange));
    assert!(range.records().is_empty());
}

#[test]
fn what_is_too_large_to_answer_is_not_done() {
    let mut range = Range::new(Span::everything());
    let large = "x".repeat(holdfast_common::limits::MAX_TXN_BYTES / 2 + 1);
    range.write(5, put("a", &large)).unwrap();
    range.write(5, put("b", &large)).unwrap();
    let write = txn(&[], vec![get("a"), get("b"), set("c", "1")], vec![]);
    assert_eq!(range.write(6, write), Err(kv::Error::AnswerTooLarge));
    assert_eq!(range.record("c"), None);
}

#[test]
fn a_repeated_transaction_tells_what_it_read_while_that_is_there() {
    let mut range = Range::new(Span::everything());
    range.write(5, put("a", "1")).unwrap();
    let write = named(
        7,
        1,
        txn(&[("a", Condition::Exists)], vec![get("a"), set("b", "2")], vec![]),
    );
    let first = range.write(6, write.clone());
    assert_eq!(range.write(7, write.clone()), first);
    // It holds no more, and is answered as it was decided all the same.
    range.write(8, put("b", "other")).unwrap();
    assert_eq!(range.write(9, write.clone()), first);
    range.write(10, put("a", "other")).unwrap();
    assert_eq!(range.write(11, write.clone()), Err(kv::Error::ReadsLost));
    range.write(12, delete("a")).unwrap();
    assert_eq!(range.write(13, write), Err(kv::Error::ReadsLost));
    assert_eq!(range.record("b").expect("a record").value, "other");
}

#[test]
fn a_clients_name_makes_a_write_happen_once_whoever_sends_it() {
    let mut range = Range::new(Span::everything());
    let write = |session, value: &str| named(session, 1, once("t", 1_000, put("k", value)));
    let first = range.write(5, write(1, "1"));
    assert_eq!(first, Ok(WriteOutcome::Created(at(5, 0))));
    range.write(6, put("k", "between")).unwrap();
    assert_eq!(range.write(7, write(2, "1")), first, "by another router");
    assert_eq!(range.write(8, write(2, "1")), first, "and repeated by that one");
    assert_eq!(range.write(9, write(3, "2")), Err(kv::Error::TokenReused));
    assert_eq!(range.record("k").expect("a record").value, "between");
    assert_eq!(
        range.write(1_005, write(4, "2")),
        Ok(WriteOutcome::Replaced(at(1_005, 0))),
        "its window is over"
    );
}

#[test]
fn a_condition_that_failed_under_a_name_goes_on_failing() {
    let mut range = Range::new(Span::everything());
    let write = |session| {
        named(
            session,
            1,
            once("t", 1_000, nameless("k", Condition::Exists, put_value("1"))),
        )
    };
    assert_eq!(range.write(5, write(1)), Ok(WriteOutcome::ConditionFailed(None)));
    range.write(6, put("k", "0")).unwrap();
    assert_eq!(range.write(7, write(2)), Ok(WriteOutcome::ConditionFailed(None)));
}

#[test]
fn a_transaction_may_have_a_name() {
    let mut range = Range::new(Span::everything());
    let write = |session| {
        let write = txn(
            &[("a", Condition::Absent)],
            vec![set("a", "1"), set("b", "1")],
            vec![],
        );
        named(session, 1, once("t", 1_000, write))
    };
    let first = range.write(5, write(1));
    assert!(committed(first.clone()).held);
    assert_eq!(range.write(6, write(2)), first);
}
