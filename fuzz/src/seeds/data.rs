//! Messages about data.

use std::fmt::Debug;

use bytes::Bytes;
use holdfast_common::ids::{RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::{Key, Span};
use holdfast_common::proto::kv::{
    self, Act, Action, Committed, Condition, Consistency, GetAnswer, GetRequest, LeaderHint, Mutation, Once,
    OnceRequest, ReadPath, Record, Row, ScanAnswer, ScanRequest, Target, Txn, WriteOutcome, WriteRequest,
};
use holdfast_common::proto::{self};
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};
use holdfast_common::revision::Revision;
use serde::Serialize;

use super::Seed;
use crate::messages::MESSAGES;

/// A message, behind the number of its kind.
pub(super) fn message<T: Serialize + Debug>(kind: &str, variant: &str, message: &T) -> Seed {
    encoded(kind, variant, &proto::encode(message))
}

pub(super) fn encoded(kind: &str, variant: &str, body: &[u8]) -> Seed {
    let number = MESSAGES.iter().position(|(name, _)| *name == kind);
    let number = number.unwrap_or_else(|| panic!("no message {kind}"));
    let input = [&[number as u8], body].concat();
    Seed::new("messages", &format!("{kind}{variant}"), input)
}

pub(super) fn key(text: &str) -> Key {
    Key::new(text.to_owned()).expect("a key")
}

pub(super) fn descriptor() -> Descriptor {
    let replica = |id, store, role| Replica {
        id: ReplicaId(id),
        store: StoreId(store),
        role,
    };
    Descriptor {
        id: RangeId(5),
        span: Span::new("a", "n").expect("a span"),
        epoch: Epoch {
            bounds: 4,
            membership: 70,
        },
        replicas: vec![
            replica(11, 1, Role::Voter),
            replica(12, 2, Role::Outgoing),
            replica(13, 3, Role::Learner),
        ],
    }
}

pub(super) fn txn() -> Txn {
    let action = |name: &str, act| Action { key: key(name), act };
    let value = Bytes::from_static(b"value");
    Txn {
        conditions: vec![
            (key("b"), Condition::Revision(Revision(7))),
            (key("c"), Condition::Value(value.clone())),
        ],
        then: vec![
            action(
                "b",
                Act::Put {
                    value,
                    ttl_ms: 60_000,
                },
            ),
            action("c", Act::Delete),
            action("d", Act::Get),
        ],
        otherwise: vec![action("d", Act::Get)],
    }
}

pub(super) fn once() -> Once {
    Once {
        token: Bytes::from_static(b"client/7"),
        window_ms: 86_400_000,
        done: 5,
    }
}

const TARGET: Target = Target {
    range: RangeId(5),
    bounds: 4,
};

fn write(condition: Condition, mutation: Mutation) -> WriteRequest {
    WriteRequest {
        target: TARGET,
        session: SessionId(9),
        sequence: 300,
        finished_below: 290,
        key: key("b"),
        condition,
        mutation,
    }
}

fn record() -> Record {
    Record {
        revision: Revision::at_millis(1_790_000_000_000),
        expires_ms: 1_790_000_060_000,
        value: Bytes::from_static(b"value"),
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = reads();
    seeds.extend(writes());
    seeds.extend(errors());
    seeds
}

fn reads() -> Vec<Seed> {
    let get = GetRequest {
        target: TARGET,
        consistency: Consistency::Linearizable,
        key: key("b"),
    };
    let answer = GetAnswer {
        record: Some(record()),
        staleness_ms: 0,
    };
    let explained = kv::ExplainedGet {
        answer: answer.clone(),
        path: ReadPath::Lease,
        replica: ReplicaId(11),
        applied: 900,
        wait_us: 12,
        read_us: 3,
    };
    let scan = ScanRequest {
        target: TARGET,
        consistency: Consistency::Stale,
        span: Span::new("a", "n").expect("a span"),
        reverse: true,
        keys_only: false,
        limit: 1_000,
        max_bytes: 1 << 20,
    };
    let row = |name| Row {
        key: key(name),
        record: record(),
    };
    let page = ScanAnswer {
        rows: vec![row("b"), row("c")],
        resume: Some(Bytes::from_static(b"c\0")),
        staleness_ms: 40,
    };
    vec![
        message("get", "", &get),
        message("get-answer", "", &Ok::<_, kv::Error>(answer)),
        message("explained-get", "", &Ok::<_, kv::Error>(explained)),
        message("scan", "", &scan),
        message("scan-answer", "", &Ok::<_, kv::Error>(page)),
    ]
}

fn writes() -> Vec<Seed> {
    let put = Mutation::Put {
        value: Bytes::from_static(b"value"),
        ttl_ms: 0,
    };
    let plain = write(Condition::Absent, put);
    let transaction = write(Condition::None, Mutation::Txn(Box::new(txn())));
    let named = OnceRequest {
        write: plain.clone(),
        once: once(),
    };
    let explain = kv::ExplainWriteRequest {
        write: plain.clone(),
        once: Some(once()),
    };
    let committed = WriteOutcome::Committed(Box::new(Committed {
        held: true,
        revision: Revision(8),
        reads: vec![None, Some(record())],
    }));
    let explained = kv::ExplainedWrite {
        outcome: WriteOutcome::Created(Revision(8)),
        replica: ReplicaId(11),
        writes_in_entry: 3,
        queue_us: 20,
        commit_us: 700,
    };
    vec![
        message("write", "", &plain),
        message(
            "write",
            "-delete",
            &write(Condition::Revision(Revision(7)), Mutation::Delete),
        ),
        message("write", "-txn", &transaction),
        message("once", "", &named),
        message("explain-write", "", &explain),
        message("explained-write", "", &Ok::<_, kv::Error>(explained)),
        message("write-answer", "", &Ok::<_, kv::Error>(committed)),
    ]
}

fn errors() -> Vec<Seed> {
    let leader = LeaderHint {
        replica: ReplicaId(12),
        store: StoreId(2),
        address: Some("10.0.0.2:7420".to_owned()),
    };
    let errors = [
        (
            "not-leader",
            kv::Error::NotLeader {
                leader: Some(leader),
                descriptor: Box::new(descriptor()),
            },
        ),
        (
            "stale",
            kv::Error::StaleEpoch {
                current: vec![descriptor()],
            },
        ),
        ("busy", kv::Error::Busy { retry_after_ms: 100 }),
        ("invalid", kv::Error::Invalid("why".to_owned())),
    ];
    let seeds = errors.map(|(name, error)| {
        message(
            "write-answer",
            &format!("-{name}"),
            &Err::<WriteOutcome, _>(error),
        )
    });
    seeds.into()
}
