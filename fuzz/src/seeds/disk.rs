//! What processes have on disk.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::ids::{ClusterId, MemberId, RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::proto;
use holdfast_common::proto::kv::{Condition, Mutation, WriteOutcome};
use holdfast_common::raft::log::records;
use holdfast_common::raft::types::{
    self, Entry, LogId, Membership, Node, Payload, SnapshotMeta, StoredMembership, Vote,
};
use holdfast_common::revision::Revision;
use holdfast_placement::command::{Changes, Command as Plan};
use holdfast_placement::operator::{Intent, Kind};
use holdfast_placement::settings::Settings;
use holdfast_placement::snapshot::Image;
use holdfast_placement::state::{Member, State, StoreIntent};
use holdfast_store::command::{Absorb, Command, Split, Write};
use holdfast_store::keys;
use holdfast_store::record::Header;
use holdfast_store::row::RangeRow;
use holdfast_store::sessions::{Floor, Sessions, WriteName};
use holdfast_store::state::Merge;

use super::Seed;
use super::data::{descriptor, key, once, txn};
use super::group::{credential, heartbeat, join, register};
use crate::input::Output;
use crate::{driver, journal, log, range, snapshots, store};

const NOW: Revision = Revision(1_790_000_000_000 << 20);

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = log();
    seeds.extend(journals());
    seeds.extend(store_rows());
    seeds.extend(ranges());
    seeds.extend(snapshot_files());
    seeds.extend(driver());
    seeds
}

fn membership() -> Membership {
    let nodes: BTreeMap<_, _> = (11..=13)
        .map(|id| {
            (
                ReplicaId(id),
                Node {
                    store: StoreId(id - 10),
                },
            )
        })
        .collect();
    let voters = BTreeSet::from([ReplicaId(11), ReplicaId(12), ReplicaId(13)]);
    Membership::new(vec![voters], nodes).expect("a membership")
}

fn log() -> Vec<Seed> {
    let entry = |name, payload| {
        let entry = Entry {
            log_id: LogId::new_term_index(3, 900),
            payload,
        };
        let mut row = Vec::new();
        records::encode_entry(&entry, &mut row);
        Seed::new("log", name, Output::new(log::ENTRY).number(900).rest(&row))
    };
    let vote = records::encode_vote(&Vote::new_committed(3, ReplicaId(11)));
    let purged = records::encode_purged(Some(LogId::new_term_index(3, 800)));
    vec![
        entry("blank", Payload::Blank),
        entry("command", Payload::Normal(types::Command(writes().encode()))),
        entry("membership", Payload::Membership(membership())),
        Seed::new("log", "vote", Output::new(log::VOTE).rest(&vote)),
        Seed::new("log", "purged", Output::new(log::PURGED).rest(&purged)),
        Seed::new(
            "log",
            "nothing-purged",
            Output::new(log::PURGED).rest(&records::encode_purged(None)),
        ),
        Seed::new(
            "log",
            "swept",
            Output::new(log::SWEPT).rest(&records::encode_swept(800)),
        ),
    ]
}

/// Batches as [`journal`] makes them: how many rows each has, and marks.
fn journals() -> Vec<Seed> {
    let batch = |out: Output, mark: u8, commit: u64| {
        out.byte(0x11 | mark)
            .byte(3)
            .number(commit)
            .number(commit - 1)
            .byte(1)
            .section(b"key")
            .section(b"value")
    };
    let list = |marks: &[u8]| {
        let out = Output::new(journal::BATCHES).number(100);
        let out = (1..)
            .zip(marks)
            .fold(out, |out, (commit, mark)| batch(out, *mark, commit));
        out.rest(b"")
    };
    let whole = list(&[0, 0, 0]);
    let raw = journal::written(&whole[1..]);
    vec![
        Seed::new("journal", "torn", list(&[0, 0, 0x40])),
        Seed::new("journal", "damaged", list(&[0, 0x20, 0, 0])),
        Seed::new(
            "journal",
            "raw",
            Output::new(journal::RAW).rest(&[&raw[..], &[0; 64]].concat()),
        ),
        Seed::new("journal", "batches", whole),
    ]
}

fn write(sequence: u64, condition: Condition, mutation: Mutation) -> Write {
    Write {
        session: SessionId(9),
        sequence,
        finished_below: 1,
        key: key("b"),
        condition,
        mutation,
        once: None,
    }
}

fn put() -> Mutation {
    Mutation::Put {
        value: Bytes::from_static(b"value"),
        ttl_ms: 60_000,
    }
}

fn writes() -> Command {
    let named = Write {
        once: Some(once()),
        ..write(2, Condition::None, put())
    };
    let transaction = Mutation::Txn(Box::new(txn()));
    Command::Writes {
        stamp: NOW,
        writes: vec![
            write(1, Condition::Absent, put()),
            named,
            write(3, Condition::Revision(NOW), Mutation::Delete),
            write(4, Condition::None, transaction),
        ],
    }
}

fn split() -> Command {
    Command::Split(Split {
        bounds: 4,
        at: key("c"),
        right: RangeId(6),
        replicas: (1..=3)
            .map(|store| (StoreId(store), ReplicaId(20 + store)))
            .collect(),
        right_size: 500,
        right_keys: 5,
    })
}

fn absorb() -> Command {
    Command::Absorb(Absorb {
        bounds: 4,
        membership: 70,
        source: RangeId(6),
        frozen: 77,
    })
}

fn range_row() -> RangeRow {
    RangeRow {
        replica: ReplicaId(11),
        applied: Some(LogId::new_term_index(3, 900)),
        membership: StoredMembership::new(Some(LogId::new_term_index(2, 70)), membership()),
        bounds: 4,
        span: Span::new("a", "n").expect("a span"),
        last_revision: NOW,
        size_bytes: 1_000,
        keys: 10,
        floors: vec![Floor {
            session: SessionId(9),
            floor: 1,
            since: 600,
            used_ms: NOW.millis(),
        }],
        merge: Merge::No,
    }
}

fn record() -> Bytes {
    let mut record = BytesMut::new();
    let header = Header {
        revision: NOW,
        expires_ms: NOW.millis() + 60_000,
    };
    header.put(&mut record);
    record.put_slice(b"value");
    record.freeze()
}

/// The outcomes of two writes.
fn outcomes() -> Bytes {
    let mut sessions = Sessions::default();
    for sequence in [7, 8] {
        let name = WriteName {
            session: SessionId(9),
            sequence,
            finished_below: 1,
        };
        let outcome = WriteOutcome::Created(NOW);
        sessions.admit(name, 700, NOW.millis(), &mut Vec::new());
        sessions.remember(name, 700, outcome, &mut Vec::new());
    }
    sessions.row(700).expect("it has outcomes")
}

/// A token's row, of a client that numbers its names.
fn token() -> Bytes {
    let mut row = BytesMut::new();
    row.put_u8(2);
    row.put_u128_le(99);
    row.put_u64_le(NOW.millis());
    row.put_u64_le(NOW.millis() + 60_000);
    row.put_u8(1);
    row.put_u64_le(NOW.0);
    row.put_u64_le(5);
    row.freeze()
}

fn store_rows() -> Vec<Seed> {
    let seed = |name, kind, bytes: &[u8]| Seed::new("store", name, Output::new(kind).rest(bytes));
    let token_key = keys::token(b"b\0c", b"client/7");
    let session = Output::new(store::OUTCOMES).number(9).number(1).byte(4);
    let mut destroying = vec![1, 1];
    let mut recovering = vec![1];
    recovering.extend([11u64, 14, 9, 80].iter().flat_map(|number| number.to_le_bytes()));
    for intent in [&mut destroying, &mut recovering] {
        intent.extend(b"\x01\0a\x01\0n");
    }
    let identity = br#"{"format":1,"name":"s1","directory":123,"cluster":8,"store":1,"inode":77}"#;
    vec![
        seed("writes", store::COMMAND, &writes().encode()),
        seed("split", store::COMMAND, &split().encode()),
        seed("absorb", store::COMMAND, &absorb().encode()),
        seed("freeze", store::COMMAND, &Command::Freeze { bounds: 4 }.encode()),
        seed("range-row", store::RANGE_ROW, &range_row().encode()),
        seed("record", store::RECORD, &record()),
        seed("key-token", store::KEY, &token_key),
        seed("key-range", store::KEY, &keys::range_row(RangeId(5))),
        seed("key-outcomes", store::KEY, &keys::outcomes(RangeId(5), 700)),
        seed("to-destroy", store::TO_DESTROY, &destroying),
        seed("to-recover", store::TO_RECOVER, &recovering),
        seed("identity", store::IDENTITY, identity),
        Seed::new("store", "outcomes", session.section(&outcomes()).rest(b"")),
        Seed::new(
            "store",
            "token",
            Output::new(store::TOKEN)
                .section(&token_key)
                .section(&token())
                .rest(b""),
        ),
    ]
}

fn ranges() -> Vec<Seed> {
    let with_rows = |row: RangeRow| {
        Output::default()
            .section(&row.encode())
            .byte(range::OUTCOMES)
            .number(700)
            .section(&outcomes())
            .byte(range::TOKEN)
            .section(b"b")
            .section(b"client/6")
            .section(&token())
            .byte(range::RECORD)
            .section(b"b")
            .section(&record())
    };
    let command = |out: Output, command: Command| out.byte(range::COMMAND).section(&command.encode());
    let busy = [writes(), writes(), split(), writes()];
    let merging = [
        writes(),
        Command::Freeze { bounds: 4 },
        writes(),
        Command::Thaw { bounds: 5 },
        Command::Freeze { bounds: 6 },
        Command::Yield { bounds: 7 },
        absorb(),
    ];
    let empty = Output::default().section(&range_row().encode());
    vec![
        Seed::new("range", "writes", command(empty, writes()).rest(b"")),
        Seed::new(
            "range",
            "split",
            busy.into_iter().fold(with_rows(range_row()), command).rest(b""),
        ),
        Seed::new(
            "range",
            "merge",
            merging
                .into_iter()
                .fold(with_rows(range_row()), command)
                .rest(b""),
        ),
    ]
}

fn snapshot_files() -> Vec<Seed> {
    let header = [&5u64.to_le_bytes()[..], &range_row().encode()].concat();
    let mut rows = BytesMut::new();
    let (mut count, mut bytes) = (0u64, 0);
    for name in ["b", "c", "d"] {
        let stored = keys::RecordKey::new(name.as_bytes());
        rows.put_u16_le(stored.as_ref().len() as u16);
        rows.put_slice(stored.as_ref());
        rows.put_u32_le(record().len() as u32);
        rows.put_slice(&record());
        count += 1;
        bytes += (stored.as_ref().len() + record().len()) as u64;
    }
    let end = [count.to_le_bytes(), bytes.to_le_bytes()].concat();
    let blocks = Output::new(snapshots::BLOCKS)
        .byte(1)
        .section(&header)
        .byte(2)
        .section(&rows)
        .byte(3)
        .section(&end)
        .rest(b"");
    let raw = snapshots::written(&blocks[1..]);
    vec![
        Seed::new("snapshots", "raw", Output::new(snapshots::RAW).rest(&raw)),
        Seed::new("snapshots", "blocks", blocks),
    ]
}

fn plans() -> Vec<Plan> {
    let founder = Member {
        name: "p1".to_owned(),
        directory: 321,
        rpc_address: "10.0.0.1:7400".to_owned(),
        http_address: "10.0.0.1:7410".to_owned(),
        is_running: true,
    };
    let mut newcomer = register();
    newcomer.known = None;
    let start = |kind| Plan::Start {
        intent: Intent {
            range: RangeId(1),
            kind,
            source: "admin".to_owned(),
            why: "asked".to_owned(),
        },
        now_ms: 5,
    };
    let mut seen = descriptor();
    (seen.id, seen.span) = (RangeId(1), Span::everything());
    for (replica, id) in seen.replicas.iter_mut().zip(2..) {
        replica.id = ReplicaId(id);
    }
    vec![
        Plan::Found {
            cluster: ClusterId(8),
            number: MemberId(1),
            founder,
        },
        Plan::Register {
            store: newcomer,
            now_ms: 1,
        },
        Plan::AdmitMember(join()),
        Plan::AllocateIds { count: 64 },
        Plan::Observe(vec![seen]),
        start(Kind::Split { at: Some(key("c")) }),
        start(Kind::AddReplica { to: StoreId(1) }),
        Plan::Retire {
            store: StoreId(1),
            intent: StoreIntent::Draining,
        },
        Plan::Configure {
            from: 0,
            settings: Settings::default(),
        },
        Plan::Grant(Box::new(credential())),
        Plan::Demand { required: true },
        Plan::RemoveMember {
            name: "p2".to_owned(),
        },
    ]
}

fn driver() -> Vec<Seed> {
    let listed = |out: Output| {
        let plans = plans().into_iter();
        plans.fold(out, |out, plan| out.section(&proto::encode(&plan)))
    };
    let mut state = State::default();
    for plan in plans().iter().take(9) {
        state.apply(plan, &mut Changes::default());
    }
    let meta = SnapshotMeta {
        last_log_id: Some(LogId::new_term_index(3, 900)),
        last_membership: StoredMembership::new(Some(LogId::new_term_index(2, 70)), membership()),
    };
    let file = Image::new(&meta, state).encode();
    let sealed = Output::new(driver::IMAGE).byte(1).section(&file[24..]);
    let beats = (1..4).fold(Output::new(driver::HEARTBEATS), |out, sequence| {
        out.byte(200).section(&proto::encode(&heartbeat(sequence)))
    });
    vec![
        Seed::new(
            "driver",
            "commands",
            listed(Output::new(driver::COMMANDS)).rest(b""),
        ),
        Seed::new("driver", "raw-image", Output::new(driver::RAW_IMAGE).rest(&file)),
        Seed::new("driver", "image", listed(sealed).rest(b"")),
        Seed::new("driver", "heartbeats", beats.rest(b"")),
    ]
}
