//! The wire between processes: ours alone, versioned, and free of openraft's types.
//!
//! A message is one version byte and a postcard body. Postcard is positional, so a field is never added, removed or
//! reordered within a version: a new shape is a new version (or a new method), and a reader that does not know a version
//! says so ([`DecodeError::Version`]) rather than guess. The transport below ([`crate::net`]) adds ids, deadlines and the
//! cluster id.

pub mod access;
pub mod check;
pub mod hibernation;
pub mod kv;
pub mod merge;
pub mod placement;
pub mod raft;
pub mod recovery;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::net::Role;

/// The version that this build writes, and the only one that it reads.
pub const VERSION: u8 = 1;

/// What a request asks for. Numbers are never reused.
pub mod method {
    /// [`super::kv::GetRequest`] → `Result<GetAnswer, kv::Error>`.
    pub const KV_GET: u16 = 0x0101;
    /// [`super::kv::WriteRequest`] → `Result<WriteOutcome, kv::Error>`.
    pub const KV_WRITE: u16 = 0x0102;
    /// [`super::kv::ScanRequest`] → `Result<ScanAnswer, kv::Error>`.
    pub const KV_SCAN: u16 = 0x0103;
    /// [`super::kv::OnceRequest`] → `Result<WriteOutcome, kv::Error>`.
    pub const KV_WRITE_ONCE: u16 = 0x0104;
    /// [`super::kv::GetRequest`] → `Result<ExplainedGet, kv::Error>`.
    pub const KV_EXPLAIN_GET: u16 = 0x0105;
    /// [`super::kv::ExplainWriteRequest`] → `Result<ExplainedWrite, kv::Error>`.
    pub const KV_EXPLAIN_WRITE: u16 = 0x0106;
    /// 0x0107–0x010f are kept for further data operations.
    pub const KV_LAST: u16 = 0x010f;

    /// Raft messages between replicas: see [`super::raft`].
    pub const RAFT_APPEND: u16 = 0x0201;
    /// A vote or a pre-vote.
    pub const RAFT_VOTE: u16 = 0x0202;
    /// One chunk of a snapshot.
    pub const RAFT_SNAPSHOT: u16 = 0x0203;
    /// A leadership transfer.
    pub const RAFT_TRANSFER: u16 = 0x0204;
    /// The heartbeats of many groups from one store to another.
    pub const RAFT_HEARTBEATS: u16 = 0x0205;

    /// [`super::placement::Register`] → `Result<Registered, placement::Error>`.
    pub const PLACEMENT_REGISTER: u16 = 0x0301;
    /// [`super::placement::Heartbeat`] → `Result<HeartbeatAnswer, placement::Error>`.
    pub const PLACEMENT_HEARTBEAT: u16 = 0x0302;
    /// [`super::placement::AllocateIds`] → `Result<IdBlock, placement::Error>`.
    pub const PLACEMENT_ALLOCATE_IDS: u16 = 0x0303;
    /// [`super::placement::WatchMap`] → a stream of `Result<MapEvent, placement::Error>`.
    pub const PLACEMENT_WATCH_MAP: u16 = 0x0304;
    /// [`super::placement::Join`] → `Result<Joined, placement::Error>`, between placement members.
    pub const PLACEMENT_JOIN: u16 = 0x0305;
    /// [`super::placement::Probe`] → [`super::placement::MemberStatus`], between placement members.
    pub const PLACEMENT_PROBE: u16 = 0x0306;
    /// [`super::access::WatchAccess`] → a stream of [`super::access::Rules`]: all of them at first and after each change, and a
    /// sign of life in between.
    pub const PLACEMENT_WATCH_ACCESS: u16 = 0x0307;
    /// [`super::recovery::Lose`] → `Result<(), placement::Error>`, from a store.
    pub const PLACEMENT_LOSE: u16 = 0x0308;
    /// [`super::check::Findings`] → `Result<(), placement::Error>`, from a store.
    pub const PLACEMENT_FINDINGS: u16 = 0x0309;

    /// [`super::placement::Step`] → `Result<(), placement::StepError>`, from the driver to a store.
    pub const STORE_STEP: u16 = 0x0401;
    /// [`super::merge::Absorb`] → `Result<(), StepError>`, from the leader of a range that ends to the leader of its left
    /// neighbour.
    pub const STORE_ABSORB: u16 = 0x0402;
    /// [`super::recovery::Survey`] → [`super::recovery::Surveyed`], from the driver to a store.
    pub const STORE_SURVEY: u16 = 0x0403;
    /// [`super::hibernation::Wake`] → `()`, between stores.
    pub const STORE_WAKE: u16 = 0x0405;
    /// [`super::hibernation::AreYouThere`] → [`super::hibernation::HereIAm`], between stores.
    pub const STORE_ALIVE: u16 = 0x0406;
    /// [`super::check::Check`] → `Result<check::Report, placement::StepError>`, from the driver to a range's leader.
    pub const STORE_CHECK: u16 = 0x0407;
    /// [`super::check::Question`] → [`super::check::Answer`], between stores.
    pub const STORE_SUM: u16 = 0x0408;
    /// [`super::check::Report`] → `()`, between stores: what came of a check.
    pub const STORE_COMPARED: u16 = 0x0409;
    /// [`super::hibernation::Sleep`] → [`super::hibernation::SleepAnswer`], between stores. 0x0404 was this when every
    /// message woke a follower; such a one must not sleep under a leader that works in its sleep.
    pub const STORE_SLEEP: u16 = 0x040a;
}

/// Which methods a process with a certificate may call at a placement member or a store: the one table of who may say what.
/// What is not in it is refused.
///
/// | caller | at a placement member | at a store |
/// |---|---|---|
/// | placement member | the group's Raft messages, joining, the map | steps, surveys, checks |
/// | store | registration, heartbeats, findings, ids, the map | its groups' Raft messages, absorbing, sleep and wake, sums of replicas, reads and writes |
/// | router | the map, tokens | reads and writes |
/// | tool of an operator | nothing | nothing |
pub fn permitted(callee: Role, caller: Role, method: u16) -> bool {
    use method::{PLACEMENT_JOIN, PLACEMENT_PROBE, PLACEMENT_WATCH_MAP};
    let between_stores = matches!(
        method,
        method::STORE_ABSORB
            | method::STORE_SLEEP
            | method::STORE_WAKE
            | method::STORE_ALIVE
            | method::STORE_SUM
            | method::STORE_COMPARED
    );
    match (callee, caller, method >> 8) {
        (_, Role::Admin, _) => false,
        (Role::Placement, Role::Placement, 0x02) => true,
        (Role::Placement, Role::Placement, 0x03) => {
            matches!(method, PLACEMENT_JOIN | PLACEMENT_PROBE | PLACEMENT_WATCH_MAP)
        }
        (Role::Placement, Role::Store, 0x03) => !matches!(method, PLACEMENT_JOIN | PLACEMENT_PROBE),
        (Role::Placement, Role::Router, 0x03) => {
            matches!(method, PLACEMENT_WATCH_MAP | method::PLACEMENT_WATCH_ACCESS)
        }
        (Role::Store, Role::Store, 0x01 | 0x02) => true,
        (Role::Store, Role::Store, 0x04) => between_stores,
        (Role::Store, Role::Placement, 0x04) => !between_stores,
        (Role::Store, Role::Router, 0x01) => true,
        _ => false,
    }
}

/// Why a message could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The peer writes a version that this build does not know.
    #[error("message version {0}, this build reads {VERSION}: upgrade the older process")]
    Version(u8),
    /// Not a message of the expected type.
    #[error("malformed message: {0}")]
    Malformed(postcard::Error),
    /// Nothing at all.
    #[error("empty message")]
    Empty,
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    encode_sized(message, 127)
}

/// Encodes a message of about `size` bytes, without growing a buffer when that is no less than what it takes.
pub fn encode_sized<T: Serialize>(message: &T, size: usize) -> Bytes {
    let buffer = Vec::with_capacity(1 + size);
    let buffer =
        postcard::to_extend(&VERSION, buffer).and_then(|buffer| postcard::to_extend(message, buffer));
    // Only a type that refuses to serialize can fail here, and ours do not.
    buffer.map(Bytes::from).unwrap_or_default()
}

/// Decodes a message; trailing bytes are malformed.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let (message, rest) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(DecodeError::Malformed(postcard::Error::DeserializeUnexpectedEnd))
    }
}
