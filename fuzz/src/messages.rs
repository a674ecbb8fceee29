//! Messages between processes: all that a peer can send, as requests and as answers.

use bytes::Bytes;
use holdfast_common::proto::kv::{self, WriteOutcome};
use holdfast_common::proto::placement::{self, StepError};
use holdfast_common::proto::raft::{self, Append, Refusal};
use holdfast_common::proto::{self, access, hibernation, merge, recovery};
use holdfast_common::raft::network::decoding;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::input::Input;

/// How a message is read.
type Read = fn(&[u8]);

/// Every message. A new one goes to the end: the first byte of an input says which it is.
pub(crate) const MESSAGES: [(&str, Read); 40] = [
    ("append", append),
    ("snapshot", snapshot),
    ("get", of::<kv::GetRequest>),
    ("get-answer", of::<Result<kv::GetAnswer, kv::Error>>),
    ("write", of::<kv::WriteRequest>),
    ("write-answer", of::<Result<WriteOutcome, kv::Error>>),
    ("scan", of::<kv::ScanRequest>),
    ("scan-answer", of::<Result<kv::ScanAnswer, kv::Error>>),
    ("once", of::<kv::OnceRequest>),
    ("explained-get", of::<Result<kv::ExplainedGet, kv::Error>>),
    ("explain-write", of::<kv::ExplainWriteRequest>),
    ("explained-write", of::<Result<kv::ExplainedWrite, kv::Error>>),
    ("appended", of::<Result<raft::Appended, Refusal>>),
    ("vote", of::<raft::VoteRequest>),
    ("vote-answer", of::<Result<raft::VoteAnswer, Refusal>>),
    ("snapshot-answer", of::<Result<raft::SnapshotAnswer, Refusal>>),
    ("transfer", of::<raft::Transfer>),
    ("transfer-answer", of::<Result<raft::TransferAnswer, Refusal>>),
    ("heartbeats", of::<raft::Heartbeats>),
    ("heartbeats-answer", of::<raft::HeartbeatsAnswer>),
    ("register", of::<placement::Register>),
    (
        "registered",
        of::<Result<placement::Registered, placement::Error>>,
    ),
    ("heartbeat", of::<placement::Heartbeat>),
    (
        "heartbeat-answer",
        of::<Result<placement::HeartbeatAnswer, placement::Error>>,
    ),
    ("allocate-ids", of::<placement::AllocateIds>),
    ("id-block", of::<Result<placement::IdBlock, placement::Error>>),
    ("watch-map", of::<placement::WatchMap>),
    ("map-event", of::<Result<placement::MapEvent, placement::Error>>),
    ("join", of::<placement::Join>),
    ("joined", of::<Result<placement::Joined, placement::Error>>),
    ("member-status", of::<placement::MemberStatus>),
    ("access", of::<access::Told>),
    ("step", of::<placement::Step>),
    ("step-answer", of::<Result<(), StepError>>),
    ("absorb", of::<merge::Absorb>),
    ("survey", of::<recovery::Survey>),
    ("surveyed", of::<recovery::Surveyed>),
    ("sleep", of::<hibernation::Sleep>),
    ("sleep-answer", of::<hibernation::SleepAnswer>),
    ("here-i-am", of::<hibernation::HereIAm>),
];

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let (_, read) = MESSAGES[usize::from(input.byte()) % MESSAGES.len()];
    read(input.rest());
}

/// Reads a message, and once more what it is written as. Encodings are compared, since a figure may be no number.
fn of<T: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok(message) = proto::decode::<T>(body) else {
        return;
    };
    let written = proto::encode(&message);
    let again: T = proto::decode(&written).expect("what was written is read");
    assert_eq!(proto::encode(&again), written);
}

/// Appends have an encoding of their own, and go to openraft.
fn append(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    let Ok(message) = Append::decode(body.clone()) else {
        return;
    };
    assert_eq!(Append::decode(message.encode()), Ok(message.clone()));
    let Ok(Some(request)) = decoding::append(body) else {
        return;
    };
    assert_eq!(request.entries.len(), message.entries.len());
    let first = message.prev.map_or(0, |prev| prev.index + 1);
    for (at, entry) in (first..).zip(&request.entries) {
        assert_eq!(entry.log_id.index, at);
    }
}

/// What is offered goes to openraft, too.
fn snapshot(body: &[u8]) {
    of::<raft::SnapshotMessage>(body);
    if let Ok(raft::SnapshotMessage::Offer(header)) = proto::decode(body) {
        drop(decoding::snapshot(header));
    }
}
