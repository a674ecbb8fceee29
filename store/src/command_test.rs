use holdfast_common::proto::kv::{Act, Action, Txn};
use proptest::prelude::*;

use super::*;

fn any_bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn any_key() -> impl Strategy<Value = Key> {
    prop::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| Key::new(bytes).unwrap())
}

fn any_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::None),
        Just(Condition::Absent),
        Just(Condition::Exists),
        any::<u64>().prop_map(|revision| Condition::Revision(Revision(revision))),
        any_bytes(30).prop_map(Condition::Value),
    ]
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any_bytes(200), any::<u64>()).prop_map(|(value, ttl_ms)| Mutation::Put { value, ttl_ms }),
        Just(Mutation::Delete),
        any_txn().prop_map(|txn| Mutation::Txn(Box::new(txn))),
    ]
}

fn any_txn() -> impl Strategy<Value = Txn> {
    let act = prop_oneof![
        (any_bytes(50), any::<u64>()).prop_map(|(value, ttl_ms)| Act::Put { value, ttl_ms }),
        Just(Act::Delete),
        Just(Act::Get),
    ];
    let action = (any_key(), act).prop_map(|(key, act)| Action { key, act });
    let branch = prop::collection::vec(action, 0..4).boxed();
    let conditions = prop::collection::vec((any_key(), any_condition()), 0..4);
    (conditions, branch.clone(), branch).prop_map(|(conditions, then, otherwise)| Txn {
        conditions,
        then,
        otherwise,
    })
}

fn any_once() -> impl Strategy<Value = Option<Once>> {
    prop::option::of(
        (any_bytes(40), any::<u64>(), 0..3u64).prop_map(|(token, window_ms, done)| Once {
            token,
            window_ms,
            done,
        }),
    )
}

fn any_write() -> impl Strategy<Value = Write> {
    (
        any::<[u64; 3]>(),
        any_key(),
        any_condition(),
        any_mutation(),
        any_once(),
    )
        .prop_map(|(numbers, key, condition, mutation, once)| {
            let [session, sequence, finished_below] = numbers;
            Write {
                session: SessionId(session),
                sequence,
                finished_below,
                key,
                condition,
                mutation,
                once,
            }
        })
}

fn any_split() -> impl Strategy<Value = Split> {
    (
        any::<[u64; 4]>(),
        any_key(),
        prop::collection::vec(any::<(u64, u64)>(), 0..9),
    )
        .prop_map(|(numbers, at, ids)| {
            let [bounds, right, right_size, right_keys] = numbers;
            let replicas = ids
                .into_iter()
                .map(|(store, replica)| (StoreId(store), ReplicaId(replica)))
                .collect();
            Split {
                bounds,
                at,
                right: RangeId(right),
                replicas,
                right_size,
                right_keys,
            }
        })
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (any::<u64>(), prop::collection::vec(any_write(), 0..20)).prop_map(|(stamp, writes)| {
            Command::Writes {
                stamp: Revision(stamp),
                writes,
            }
        }),
        any_split().prop_map(Command::Split),
        any::<u64>().prop_map(|bounds| Command::Freeze { bounds }),
        any::<u64>().prop_map(|bounds| Command::Thaw { bounds }),
        any::<u64>().prop_map(|bounds| Command::Yield { bounds }),
        any::<u64>().prop_map(|check| Command::Check { check }),
        any::<[u64; 4]>().prop_map(|[bounds, membership, source, frozen]| {
            let source = RangeId(source);
            Command::Absorb(Absorb {
                bounds,
                membership,
                source,
                frozen,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn commands_read_back(command in any_command()) {
        let encoded = command.encode();
        prop_assert_eq!(is_writes(&encoded), matches!(command, Command::Writes { .. }));
        prop_assert_eq!(Command::decode(&encoded), Ok(command));
    }

    #[test]
    fn a_cut_command_is_refused(command in any_command(), cut in any::<prop::sample::Index>()) {
        let encoded = command.encode();
        let cut = cut.index(encoded.len());
        prop_assert!(Command::decode(&encoded.slice(..cut)).is_err());
    }

    #[test]
    fn noise_never_panics(bytes in any_bytes(300), kind in 0..9u8) {
        let noise = [&[VERSION, kind], &bytes[..]].concat();
        let _ = Command::decode(&Bytes::from(noise));
    }
}

#[test]
fn values_share_the_entry() {
    let write = Write {
        session: SessionId(1),
        sequence: 2,
        finished_below: 1,
        key: Key::new("k").unwrap(),
        condition: Condition::None,
        mutation: Mutation::Put {
            value: Bytes::from_static(b"some value"),
            ttl_ms: 0,
        },
        once: None,
    };
    let entry = encode_writes(Revision(3), [write].iter());
    let Command::Writes { writes, .. } = Command::decode(&entry).unwrap() else {
        panic!("not writes")
    };
    let Mutation::Put { value, .. } = &writes[0].mutation else {
        panic!("not a put")
    };
    assert!(entry.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn a_fingerprint_is_of_what_is_asked_not_of_who_asks() {
    let put = |value: &'static str, ttl_ms| Mutation::Put {
        value: Bytes::from_static(value.as_bytes()),
        ttl_ms,
    };
    let write = |sequence, key: &'static str, condition, mutation| Write {
        session: SessionId(sequence),
        sequence,
        finished_below: sequence,
        key: Key::new(key).unwrap(),
        condition,
        mutation,
        once: Some(Once {
            token: Bytes::copy_from_slice(&sequence.to_le_bytes()),
            window_ms: sequence,
            done: sequence,
        }),
    };
    let first = write(1, "k", Condition::None, put("v", 0)).fingerprint();
    assert_eq!(first, write(2, "k", Condition::None, put("v", 0)).fingerprint());
    assert_eq!(
        first, 278472825761960407248871316581274977444,
        "it is part of the format"
    );
    for other in [
        write(1, "l", Condition::None, put("v", 0)),
        write(1, "k", Condition::Absent, put("v", 0)),
        write(1, "k", Condition::None, put("w", 0)),
        write(1, "k", Condition::None, put("v", 1)),
        write(1, "k", Condition::None, Mutation::Delete),
    ] {
        assert_ne!(first, other.fingerprint(), "{other:?}");
    }
}
