//! Messages between replicas, stores and the placement driver.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_common::ids::{ClusterId, MemberId, RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::proto::access::{Credential, Limits, Proof, Right, Rules, Told};
use holdfast_common::proto::placement::{
    self, Capacity, Heartbeat, HeartbeatAnswer, HotKey, HotSpot, Join, Leading, LoadCut, MapEvent,
    MapVersion, PeerProgress, RangeRoute, Register, ReplicaReport, Step, StoreRoute, VoterChange, WatchMap,
};
use holdfast_common::proto::raft::{
    self, Append, Appended, Beat, Entry, LogId, Membership, Payload, Refusal, Route, SnapshotHeader, Vote,
};
use holdfast_common::proto::{hibernation, merge, recovery};
use holdfast_common::range::{Epoch, Replica, Role};

use super::Seed;
use super::data::{descriptor, encoded, key, message};

const ROUTE: Route = Route {
    range: RangeId(5),
    from: ReplicaId(11),
    to: ReplicaId(12),
};

const LAST: LogId = LogId { term: 3, index: 900 };

fn membership() -> Membership {
    Membership {
        configs: vec![
            vec![ReplicaId(11), ReplicaId(12)],
            vec![ReplicaId(11), ReplicaId(13)],
        ],
        members: (11..=13).map(|id| (ReplicaId(id), StoreId(id - 10))).collect(),
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = raft();
    seeds.extend(snapshots());
    seeds.extend(driver());
    seeds.extend(steps());
    seeds.extend(stores());
    seeds
}

fn raft() -> Vec<Seed> {
    let entry = |payload| Entry { term: 3, payload };
    let append = Append {
        route: ROUTE,
        term: 3,
        prev: Some(LAST),
        commit: Some(LAST),
        entries: vec![
            entry(Payload::Blank),
            entry(Payload::Command(Bytes::from_static(b"command"))),
            entry(Payload::Membership(membership())),
        ],
    };
    let vote = raft::VoteRequest {
        route: ROUTE,
        term: 4,
        last: Some(LAST),
        pre: true,
        transfer: false,
    };
    let given = Vote {
        term: 4,
        replica: ReplicaId(11),
        committed: false,
    };
    let answer = raft::VoteAnswer {
        vote: given,
        granted: true,
        last: None,
    };
    let transfer = raft::Transfer {
        route: ROUTE,
        term: 3,
        target: ReplicaId(12),
        last: Some(LAST),
    };
    let beat = Beat {
        route: ROUTE,
        term: 3,
        prev: Some(LAST),
        commit: None,
    };
    let answers = vec![
        Ok(Appended::Success),
        Ok(Appended::HigherVote(given)),
        Err(Refusal::UnknownReplica),
    ];
    vec![
        encoded("append", "", &append.encode()),
        message("appended", "", &Ok::<_, Refusal>(Appended::UpTo(Some(LAST)))),
        message("vote", "", &vote),
        message("vote-answer", "", &Ok::<_, Refusal>(answer)),
        message("transfer", "", &transfer),
        message(
            "transfer-answer",
            "",
            &Ok::<_, Refusal>(raft::TransferAnswer::LogBehind(None)),
        ),
        message(
            "heartbeats",
            "",
            &raft::Heartbeats {
                beats: vec![beat, beat],
            },
        ),
        message("heartbeats-answer", "", &raft::HeartbeatsAnswer { answers }),
    ]
}

fn snapshots() -> Vec<Seed> {
    let offer = SnapshotHeader {
        route: ROUTE,
        term: 3,
        transfer: 17,
        last: Some(LAST),
        membership_log_id: Some(LAST),
        membership: membership(),
        len: 1 << 30,
        checksum: 99,
    };
    let chunk = raft::SnapshotChunk {
        route: ROUTE,
        transfer: 17,
        offset: 4_096,
        data: Bytes::from_static(b"content"),
    };
    let install = raft::SnapshotMessage::Install {
        route: ROUTE,
        transfer: 17,
    };
    vec![
        message("snapshot", "-offer", &raft::SnapshotMessage::Offer(offer)),
        message("snapshot", "-chunk", &raft::SnapshotMessage::Chunk(chunk)),
        message("snapshot", "-install", &install),
        message(
            "snapshot-answer",
            "",
            &Ok::<_, Refusal>(raft::SnapshotAnswer::Have(4_096)),
        ),
        message(
            "snapshot-answer",
            "-refused",
            &Err::<raft::SnapshotAnswer, _>(Refusal::Snapshot("why".to_owned())),
        ),
    ]
}

pub(super) fn heartbeat(sequence: u64) -> Heartbeat {
    let hot = HotSpot {
        for_seconds: 12,
        is_conclusive: true,
        cut: Some(LoadCut {
            at: key("c"),
            left_percent: 40,
            right_percent: 55,
        }),
        key: Some(HotKey {
            key: key("d"),
            percent: 60,
        }),
    };
    let leading = Leading {
        size_bytes: 1 << 20,
        keys: 1_000,
        reads_per_second: 12.5,
        writes_per_second: 0.25,
        peers: vec![PeerProgress {
            replica: ReplicaId(12),
            lag_entries: Some(3),
            live: true,
        }],
        read_bytes_per_second: 1e6,
        written_bytes_per_second: 1e3,
        is_measured: true,
        hot: Some(Box::new(hot)),
    };
    Heartbeat {
        store: StoreId(1),
        incarnation: 77,
        sequence,
        full: sequence == 1,
        capacity: Capacity {
            total: 1 << 40,
            used: 1 << 30,
            available: 1 << 39,
        },
        replicas: vec![ReplicaReport {
            replica: ReplicaId(11),
            descriptor: descriptor(),
            term: 3,
            leading: Some(leading),
        }],
        gone: vec![ReplicaId(9)],
    }
}

pub(super) fn register() -> Register {
    Register {
        name: "s1".to_owned(),
        known: Some((ClusterId(8), StoreId(1))),
        directory: 123,
        rpc_address: "10.0.0.1:7420".to_owned(),
        http_address: "10.0.0.1:7421".to_owned(),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
    }
}

pub(super) fn join() -> Join {
    Join {
        name: "p1".to_owned(),
        members: vec!["p1".to_owned(), "p2".to_owned()],
        known: None,
        directory: 321,
        rpc_address: "10.0.0.1:7400".to_owned(),
        http_address: "10.0.0.1:7410".to_owned(),
    }
}

pub(super) fn credential() -> Credential {
    Credential {
        id: 1,
        name: "reports".to_owned(),
        proof: Proof::Token([7; 32]),
        right: Right::Admin,
        prefixes: Vec::new(),
        expires_ms: None,
        created_ms: 1,
        limits: Limits::default(),
    }
}

fn driver() -> Vec<Seed> {
    let version = MapVersion { stream: 5, number: 6 };
    let event = MapEvent {
        version,
        full: false,
        ranges: vec![RangeRoute {
            descriptor: descriptor(),
            leader: Some(StoreId(1)),
        }],
        gone: vec![RangeId(4)],
        stores: vec![StoreRoute {
            id: StoreId(1),
            rpc_address: "10.0.0.1:7420".to_owned(),
        }],
    };
    let rules = Rules {
        version: 3,
        required: true,
        credentials: vec![credential()],
    };
    let registered = placement::Registered {
        cluster: ClusterId(8),
        store: StoreId(1),
    };
    let joined = placement::Joined {
        cluster: ClusterId(8),
        member: MemberId(1),
    };
    let block = placement::IdBlock {
        first: 100,
        count: 64,
    };
    let status = placement::MemberStatus {
        name: "p1".to_owned(),
        cluster: Some(ClusterId(8)),
        bootstrapping: false,
    };
    vec![
        message("register", "", &register()),
        message("registered", "", &Ok::<_, placement::Error>(registered)),
        message("heartbeat", "", &heartbeat(1)),
        message("allocate-ids", "", &placement::AllocateIds { count: 64 }),
        message("id-block", "", &Ok::<_, placement::Error>(block)),
        message("watch-map", "", &WatchMap { from: Some(version) }),
        message("map-event", "", &Ok::<_, placement::Error>(event)),
        message("join", "", &join()),
        message("joined", "", &Ok::<_, placement::Error>(joined)),
        message("member-status", "", &status),
        message("access", "", &Told::Rules(rules)),
    ]
}

fn steps() -> Vec<Seed> {
    let (range, replica) = (RangeId(5), ReplicaId(14));
    let recover = recovery::Recover {
        from: ReplicaId(11),
        to: replica,
        last: recovery::LogEnd { term: 3, index: 900 },
        epoch: Epoch::default().after_loss(),
        span: Span::everything(),
    };
    let steps = vec![
        Step::CreateReplica { range, replica },
        Step::AddLearner {
            range,
            replica: Replica {
                id: replica,
                store: StoreId(4),
                role: Role::Learner,
            },
        },
        Step::ChangeVoters {
            range,
            change: VoterChange {
                from: vec![ReplicaId(11)],
                promote: vec![replica],
                remove: vec![ReplicaId(11)],
            },
        },
        Step::Split {
            range,
            bounds: 4,
            at: Some(key("c")),
            right: RangeId(6),
            replicas: vec![(StoreId(1), ReplicaId(21))],
        },
        Step::Recover {
            range,
            order: Box::new(recover),
        },
    ];
    let one = message("step", "", &steps[2]);
    let answer = HeartbeatAnswer {
        want_full: true,
        interval_ms: 1_000,
        split_bytes: 96 << 20,
        steps,
        sample_above: 1_000,
        move_bytes_per_second: 64 << 20,
    };
    vec![
        one,
        message("heartbeat-answer", "", &Ok::<_, placement::Error>(answer)),
        message(
            "step-answer",
            "",
            &Err::<(), _>(placement::StepError::Busy("why".to_owned())),
        ),
    ]
}

fn stores() -> Vec<Seed> {
    let absorb = merge::Absorb {
        source: RangeId(6),
        bounds: 9,
        start: Bytes::from_static(b"n"),
        stores: vec![StoreId(1), StoreId(2)],
        frozen: Some(77),
    };
    let survivor = recovery::Survivor {
        replica: ReplicaId(11),
        descriptor: descriptor(),
        last: recovery::LogEnd { term: 3, index: 900 },
        configs: membership().configs,
        members: membership().members,
        has_majority: false,
    };
    let bedtime = hibernation::Bedtime {
        route: ROUTE,
        term: 3,
    };
    let sleep = hibernation::Sleep {
        incarnation: 7,
        replicas: vec![bedtime; 3],
    };
    let answer = hibernation::SleepAnswer {
        incarnation: 8,
        asleep: vec![true, false, true],
    };
    let here = hibernation::HereIAm {
        store: StoreId(1),
        incarnation: 7,
    };
    let surveyed = recovery::Surveyed {
        replicas: vec![survivor],
    };
    vec![
        message("absorb", "", &absorb),
        message(
            "survey",
            "",
            &recovery::Survey {
                ranges: vec![RangeId(5)],
            },
        ),
        message("surveyed", "", &surveyed),
        message("sleep", "", &sleep),
        message("sleep-answer", "", &answer),
        message("here-i-am", "", &here),
    ]
}
