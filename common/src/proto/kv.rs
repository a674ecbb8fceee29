//! Data operations, from a router to the leader of a range.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{RangeId, ReplicaId, SessionId, StoreId};
use crate::key::{Key, Span};
use crate::range::Descriptor;
use crate::revision::Revision;

/// Which range the router believes to be right, and how new its belief is. A store whose range has other bounds answers
/// [`Error::StaleEpoch`], so that a request is never served by a range that no longer, or not yet, owns its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The range.
    pub range: RangeId,
    /// Its bounds version: [`crate::range::Epoch::bounds`].
    pub bounds: u64,
}

/// What a read must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Everything that was acknowledged before the read began.
    Linearizable,
    /// What the replica that is asked has applied; any replica answers.
    Stale,
}

/// Reads one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRequest {
    /// The range that should hold it.
    pub target: Target,
    /// What the read must see.
    pub consistency: Consistency,
    /// The key.
    pub key: Key,
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written.
    pub revision: Revision,
    /// Milliseconds since the Unix epoch at which it ceases to exist; 0 for never.
    pub expires_ms: u64,
    /// The value.
    pub value: Bytes,
}

/// The answer to a [`GetRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetAnswer {
    /// The record, unless there is none or it has expired.
    pub record: Option<Record>,
    /// How long ago, at most, the replica was known to be up to date, in milliseconds; 0 for a linearizable read.
    pub staleness_ms: u64,
}

/// What must hold for a write to be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing.
    None,
    /// The key does not exist.
    Absent,
    /// The key exists.
    Exists,
    /// The key's record has this revision.
    Revision(Revision),
    /// The key's record has this value.
    Value(Bytes),
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    /// Creates or replaces the record.
    Put {
        /// The value.
        value: Bytes,
        /// Milliseconds from the moment of the write after which the record ceases to exist; 0 for never.
        ttl_ms: u64,
    },
    /// Removes the record.
    Delete,
    /// Changes several keys of one range at once; [`WriteRequest::key`] is one of them and [`WriteRequest::condition`] none.
    Txn(Box<Txn>),
}

/// Several keys, read and written at one moment: `then` if every condition holds, else `otherwise`.
///
/// A key occurs at most once among the actions of a branch, so their order means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// What must hold for `then`.
    pub conditions: Vec<(Key, Condition)>,
    /// What is done if it does.
    pub then: Vec<Action>,
    /// What is done if it does not.
    pub otherwise: Vec<Action>,
}

impl Txn {
    /// Every key that it names, as often as it does.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let conditions = self.conditions.iter().map(|(key, _)| key);
        conditions.chain(self.actions().map(|action| &action.key))
    }

    /// The actions of both branches.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.then.iter().chain(&self.otherwise)
    }

    /// One of the branches.
    pub fn branch(&self, held: bool) -> &[Action] {
        if held { &self.then } else { &self.otherwise }
    }
}

/// What a transaction does with one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The key.
    pub key: Key,
    /// What is done.
    pub act: Act,
}

/// See [`Action`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Creates or replaces the record.
    Put {
        /// The value.
        value: Bytes,
        /// As in [`Mutation::Put`].
        ttl_ms: u64,
    },
    /// Removes the record, if there is one.
    Delete,
    /// Reads the record.
    Get,
}

impl Act {
    /// Whether it may change something.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Get)
    }
}

/// A client's name for a write, under which the range applies it at most once for a while, whoever sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// The name: 1 to [`crate::limits::MAX_TOKEN_BYTES`] bytes. It belongs to the write's key: for another key it is another name.
    pub token: Bytes,
    /// How long it is remembered, milliseconds, by the range's revisions; at least 1.
    pub window_ms: u64,
    /// Of a name that is a prefix, a slash and a number: no write under that prefix and a number below this one is sent again, so
    /// the range may forget those, and refuses late copies. At most the number of this name; 0 when nothing is said.
    pub done: u64,
}

/// A [`WriteRequest`] with a client's name: the range answers a repetition with the first outcome, and refuses another write
/// under the same name ([`Error::TokenReused`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceRequest {
    /// The write.
    pub write: WriteRequest,
    /// Its name.
    pub once: Once,
}

/// The answer to a read that is to be explained: a [`GetRequest`] under another method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedGet {
    /// The answer.
    pub answer: GetAnswer,
    /// How the replica made sure that it may answer.
    pub path: ReadPath,
    /// The replica that answered.
    pub replica: ReplicaId,
    /// The index of the last entry that it had applied.
    pub applied: u64,
    /// From the arrival of the request until it might be answered, microseconds.
    pub wait_us: u64,
    /// For reading the record, microseconds.
    pub read_us: u64,
}

/// How a replica makes sure that a read sees what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadPath {
    /// By the leader's lease.
    Lease,
    /// By asking a quorum.
    ReadIndex,
    /// Not at all: a stale read.
    Stale,
}

/// A write that is to be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainWriteRequest {
    /// The write.
    pub write: WriteRequest,
    /// The client's name for it.
    pub once: Option<Once>,
}

/// The answer to an [`ExplainWriteRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedWrite {
    /// What became of it.
    pub outcome: WriteOutcome,
    /// The replica that proposed it.
    pub replica: ReplicaId,
    /// How many writes shared its log entry.
    pub writes_in_entry: u32,
    /// From its arrival to the proposal of its entry, microseconds.
    pub queue_us: u64,
    /// From there until the entry was in the log of a majority and applied at the leader, microseconds.
    pub commit_us: u64,
}

/// One write of a session. `(session, sequence)` names it: however often it is sent, it is applied at most once.
///
/// A range keeps a write's outcome until the session says that it needs it no more, as RIFL does (Lee et al.,
/// "Implementing Linearizability at Large Scale and Low Latency", SOSP 2015).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRequest {
    /// The range that should hold the key.
    pub target: Target,
    /// The process that sends it.
    pub session: SessionId,
    /// Its number; a session never uses one for two writes.
    pub sequence: u64,
    /// Every write of the session with a smaller number is finished: its outcome may be forgotten, and a late copy of it
    /// must be refused.
    pub finished_below: u64,
    /// The key.
    pub key: Key,
    /// What must hold.
    pub condition: Condition,
    /// What to do.
    pub mutation: Mutation,
}

/// What became of a write that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteOutcome {
    /// The record did not exist and does now.
    Created(Revision),
    /// The record existed and was replaced.
    Replaced(Revision),
    /// The record existed and is gone; the revision of the removal.
    Deleted(Revision),
    /// There was nothing to delete.
    WasAbsent,
    /// The condition did not hold and nothing changed; the revision of the record that is there, if one is.
    ConditionFailed(Option<Revision>),
    /// The transaction was carried out.
    Committed(Box<Committed>),
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Whether the conditions held, and so which branch was taken.
    pub held: bool,
    /// The revision of everything that it wrote. If it wrote nothing: one that no record that it saw exceeds.
    pub revision: Revision,
    /// What the branch's [`Act::Get`]s found, in their order.
    pub reads: Vec<Option<Record>>,
}

/// Reads a page of rows in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRequest {
    /// The range that should hold the span.
    pub target: Target,
    /// What the read must see.
    pub consistency: Consistency,
    /// The rows wanted; it must lie within the range.
    pub span: Span,
    /// From the end to the start.
    pub reverse: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Most rows; the store caps it at [`crate::limits::MAX_SCAN_PAGE_ROWS`].
    pub limit: u32,
    /// Most bytes of keys and values, exceeded by at most one row; the store caps it at
    /// [`crate::limits::MAX_SCAN_PAGE_BYTES`].
    pub max_bytes: u32,
}

/// A row of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The key.
    pub key: Key,
    /// Its record; the value is empty when only keys were asked for.
    pub record: Record,
}

/// The answer to a [`ScanRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanAnswer {
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
    /// Where a next page of this span has to go on, if a bound cut this page: as its start, or for a reverse scan as
    /// its (exclusive) end.
    pub resume: Option<Bytes>,
    /// As in [`GetAnswer`].
    pub staleness_ms: u64,
}

/// Where a leader is believed to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderHint {
    /// The leading replica.
    pub replica: ReplicaId,
    /// Its store.
    pub store: StoreId,
    /// What to dial, when the answering store knows it.
    pub address: Option<String>,
}

/// Why a store did not do as asked. Except for [`Error::OutcomeUnknown`], nothing was applied and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// The store's replica is not the leader.
    #[error("not the leader of the range")]
    NotLeader {
        /// Who is, if known.
        leader: Option<LeaderHint>,
        /// The range, as this replica has it.
        descriptor: Box<Descriptor>,
    },
    /// The range has other bounds than the sender believes.
    #[error("the range has changed its bounds")]
    StaleEpoch {
        /// What this store knows about the part of the key space that the sender meant.
        current: Vec<Descriptor>,
    },
    /// This store has no such range.
    #[error("no such range on this store")]
    NoSuchRange,
    /// Too much is waiting already.
    #[error("overloaded, retry in {retry_after_ms} ms")]
    Busy {
        /// When it may be worth another try, milliseconds.
        retry_after_ms: u32,
    },
    /// The disk guard refuses what takes space.
    #[error("the store's disk is nearly full")]
    DiskFull,
    /// The range can't serve at this moment (electing, recovering, shutting down).
    #[error("not ready: {0}")]
    NotReady(String),
    /// The write was proposed and its fate is not known.
    #[error("the outcome of the write is not known")]
    OutcomeUnknown,
    /// The write's number lies below what its session declared finished: it was not applied under this number since, and
    /// never will be. A sender that still wants it sends it under a new number.
    #[error("the write's sequence number has been retired")]
    Retired,
    /// The request makes no sense to this store; a bug in the sender.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The client's name for this write ([`Once`]) belongs to another write of the same key.
    #[error("the idempotency key was used for another write")]
    TokenReused,
    /// The keys of the transaction do not lie in one range.
    #[error("the keys of the transaction lie in several ranges")]
    CrossRange,
    /// What the transaction reads is larger than an answer may be.
    #[error("what the transaction reads is larger than an answer may be")]
    AnswerTooLarge,
    /// The transaction was carried out before, and what it read then has changed since or can't be told to be the same. The one
    /// error here beside [`Error::OutcomeUnknown`] after which something may have been applied.
    #[error("the transaction was carried out, but what it read can't be told any more")]
    ReadsLost,
}
