//! Between the placement driver and the processes it places.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, MemberId, RangeId, ReplicaId, StoreId};
use crate::key::Key;
use crate::load::Load;
use crate::proto::recovery::Recover;
use crate::range::{Descriptor, Replica};

/// Why the driver did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// This member does not lead; ask the one at `leader`, if it is known.
    #[error("not the leading placement member")]
    NotLeader {
        /// The leader's RPC address.
        leader: Option<String>,
    },
    /// No member was ever told to bootstrap.
    #[error("the cluster has not been bootstrapped: start one placement member with --bootstrap")]
    NotBootstrapped,
    /// The sender's directory belongs to another cluster.
    #[error(
        "this is cluster {ours}, the data directory belongs to cluster {theirs}: point it at its own cluster, or start with an empty directory"
    )]
    WrongCluster {
        /// The driver's cluster.
        ours: ClusterId,
        /// The sender's.
        theirs: ClusterId,
    },
    /// A store with this name is registered, and the sender is not it.
    #[error(
        "the name {name} belongs to store {store}, whose data directory this is not: decommission store {store} first, or start under another name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        store: StoreId,
    },
    /// The store id is not (or no longer) a member's.
    #[error(
        "store {0} is not a member of the cluster: start with an empty data directory to join as a new store"
    )]
    UnknownStore(StoreId),
    /// The driver can't answer now; nothing was changed, or it may have been changed: every request is idempotent, ask again.
    #[error("the placement driver is not available: {0}")]
    Unavailable(String),
    /// The request is not valid.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// A placement member of this name is known by another data directory; with that one it lost its vote.
    #[error(
        "placement member {name} is known by another data directory: restore that directory, or remove the member \
         (POST /v1/placement/remove {{\"name\":\"{name}\"}}) and start it again with an empty one"
    )]
    MemberReplaced {
        /// The member's name.
        name: String,
    },
    /// The store is not given up: without it ranges would have no majority.
    #[error(
        "store {store} can't be given up: without it {ranges} of its ranges have no majority of their replicas ({example} is one). Bring the \
         other stores back and try again, or see docs/unsafe-recovery.md"
    )]
    StillNeeded {
        /// The store.
        store: StoreId,
        /// How many ranges.
        ranges: u64,
        /// One of them.
        example: RangeId,
    },
}

impl Error {
    /// Whether asking again, later or elsewhere, may be answered otherwise. What is not transient needs a person.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NotLeader { .. } | Self::NotBootstrapped | Self::Unavailable(_)
        )
    }
}

/// A placement member announces itself, at every start. Without an answer a member that was never admitted takes no part
/// in the group: it has no vote before the leader has recorded its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Its name.
    pub name: String,
    /// The names of all members in the order of its configuration, which must be the same everywhere.
    pub members: Vec<String>,
    /// What its data directory says: the cluster and the number it was admitted under; none for a new directory.
    pub known: Option<(ClusterId, MemberId)>,
    /// Random, minted with the data directory.
    pub directory: u64,
    /// What others dial for RPC.
    pub rpc_address: String,
    /// Where it serves the admin API.
    pub http_address: String,
}

/// The answer to [`Join`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member's number: its replica id in the placement driver's group.
    pub member: MemberId,
}

/// Asks a placement member who it is. Every member answers, whatever its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {}

/// The answer to [`Probe`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// The cluster that its data directory belongs to, if any.
    pub cluster: Option<ClusterId>,
    /// Whether it was told to bootstrap and has not done so yet.
    pub bootstrapping: bool,
}

/// A store announces itself, at every start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Its name, unique in the cluster.
    pub name: String,
    /// What its data directory says: the cluster and the id it was given; none for an empty directory.
    pub known: Option<(ClusterId, StoreId)>,
    /// Random, minted with the data directory: proves that a retry of a first registration comes from the same one.
    pub directory: u64,
    /// What others dial for RPC.
    pub rpc_address: String,
    /// Where it serves health, metrics and debug.
    pub http_address: String,
    /// Labels such as zone=a.
    pub labels: BTreeMap<String, String>,
}

/// The answer to [`Register`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store's id.
    pub store: StoreId,
}

/// What a store says of itself, every [`HeartbeatAnswer::interval_ms`] and at once after a change of leader or epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The store.
    pub store: StoreId,
    /// Random, one per start of the process.
    pub incarnation: u64,
    /// Grows by one with each heartbeat of an incarnation; the driver asks for a full one when one is missing.
    pub sequence: u64,
    /// Whether `replicas` are all of the store's, rather than those that changed.
    pub full: bool,
    /// Disk space.
    pub capacity: Capacity,
    /// Replicas that are new, changed, or lead and have moving figures.
    pub replicas: Vec<ReplicaReport>,
    /// Replicas that are gone from the store.
    pub gone: Vec<ReplicaId>,
}

/// Disk space of a store, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Of the file system.
    pub total: u64,
    /// Taken by the store's directory.
    pub used: u64,
    /// Free on the file system.
    pub available: u64,
}

/// One replica, as its store has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// The replica.
    pub replica: ReplicaId,
    /// Its range, as applied by this replica. A replica that has not had its first snapshot has no voters here.
    pub descriptor: Descriptor,
    /// Its Raft term.
    pub term: u64,
    /// Present when it leads.
    pub leading: Option<Leading>,
}

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leading {
    /// Approximate bytes of keys and values.
    pub size_bytes: u64,
    /// Approximate rows.
    pub keys: u64,
    /// Reads a second, lately.
    pub reads_per_second: f64,
    /// Writes a second, lately.
    pub writes_per_second: f64,
    /// How far each other replica is behind.
    pub peers: Vec<PeerProgress>,
    /// Bytes of keys and values read a second, lately.
    pub read_bytes_per_second: f64,
    /// Bytes of keys and values written a second, lately.
    pub written_bytes_per_second: f64,
    /// Whether it has led this range, with these bounds, for long enough that its rates say something.
    pub is_measured: bool,
    /// Present while the range has more to do than [`HeartbeatAnswer::sample_above`].
    pub hot: Option<Box<HotSpot>>,
}

impl Leading {
    /// What is asked of the range.
    pub fn load(&self) -> Load {
        Load {
            reads: self.reads_per_second,
            writes: self.writes_per_second,
            read_bytes: self.read_bytes_per_second,
            written_bytes: self.written_bytes_per_second,
        }
    }
}

/// What a sample of the requests to a busy range says. Shares are in percent of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotSpot {
    /// How long the range has been that busy, seconds.
    pub for_seconds: u32,
    /// Whether the sample is large enough to conclude that there is no such key when none is named.
    pub is_conclusive: bool,
    /// Where a split would halve the load.
    pub cut: Option<LoadCut>,
    /// The one key that draws half of the requests or more.
    pub key: Option<HotKey>,
}

/// A key that divides the requests to a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadCut {
    /// The first key of the right part.
    pub at: Key,
    /// Requests to the left of it alone.
    pub left_percent: u8,
    /// Requests from it on alone.
    pub right_percent: u8,
}

/// A key that many requests are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKey {
    /// The key.
    pub key: Key,
    /// How many of the requests are for it.
    pub percent: u8,
}

/// How a follower or learner keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerProgress {
    /// The replica.
    pub replica: ReplicaId,
    /// Entries that it lacks; none when nothing was ever acknowledged.
    pub lag_entries: Option<u64>,
    /// Whether it has been heard of within the last election timeouts.
    pub live: bool,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// Send everything in the next heartbeat, at once.
    pub want_full: bool,
    /// Time between heartbeats, milliseconds.
    pub interval_ms: u64,
    /// Size past which a range is to be split, bytes: a leader splits by itself when the driver has not for long.
    pub split_bytes: u64,
    /// Steps that are due for ranges led by this store, in order.
    pub steps: Vec<Step>,
    /// Load above which a leader samples the keys that are asked for, units a second (see [`Load`]).
    pub sample_above: u64,
    /// Bytes per second that the store may send of replicas that move, all together.
    pub move_bytes_per_second: u64,
}

/// Asks for ids that nobody else is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateIds {
    /// How many, 1 to 10,000.
    pub count: u32,
}

/// The ids `first .. first + count`, usable as range and as replica ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdBlock {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// A change of who votes in a range, and what it starts from.
///
/// Naming the start makes a change that arrives late, after its operator was broken off and another one planned, one that
/// is refused: carried out on other voters than those that it was planned for, it could leave the range with too few.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterChange {
    /// The voters before, in order.
    pub from: Vec<ReplicaId>,
    /// Learners that become voters.
    pub promote: Vec<ReplicaId>,
    /// Replicas that leave.
    pub remove: Vec<ReplicaId>,
}

/// Something a store is told to do. Steps are idempotent: each names the state it starts from, and one that is done, or
/// whose time has passed, does nothing. The driver sees that it is done in the heartbeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Create the first range of the cluster, over the whole key space, with this one replica. Obeyed by a store that
    /// holds no replica and no tombstone of it.
    CreateFirst {
        /// The range.
        range: RangeId,
        /// The replica.
        replica: ReplicaId,
    },
    /// Create an empty replica that waits for a snapshot from the range's leader.
    CreateReplica {
        /// The range.
        range: RangeId,
        /// The replica.
        replica: ReplicaId,
    },
    /// To the leader: add this replica as a learner. Sent once the replica exists on its store.
    AddLearner {
        /// The range.
        range: RangeId,
        /// The replica to add; its role is [`crate::range::Role::Learner`].
        replica: Replica,
    },
    /// To the leader: change the voters through a joint configuration; also completes a joint configuration that an
    /// earlier leader left behind.
    ChangeVoters {
        /// The range.
        range: RangeId,
        /// The change.
        change: VoterChange,
    },
    /// To the leader: hand the leadership to this voter, if it is live and caught up.
    TransferLeader {
        /// The range.
        range: RangeId,
        /// The voter.
        to: ReplicaId,
    },
    /// To the leader: split the range.
    Split {
        /// The range; it keeps the left part.
        range: RangeId,
        /// The bounds version that this split starts from.
        bounds: u64,
        /// The first key of the right part; none for the middle of the data.
        at: Option<Key>,
        /// The id of the right part.
        right: RangeId,
        /// Replica ids for the right part, one for each replica (voters and learners) of the range, by store.
        replicas: Vec<(StoreId, ReplicaId)>,
    },
    /// Destroy a replica that is in no configuration of its range any more.
    DestroyReplica {
        /// The range.
        range: RangeId,
        /// The replica.
        replica: ReplicaId,
    },
    /// To the leader: give the range to its left neighbour, which lies on the same stores (`docs/split-merge.md`).
    Merge {
        /// The range that is to end.
        range: RangeId,
        /// Its bounds version that this merge starts from.
        bounds: u64,
    },
    /// Go on with this store's replica alone, after the others were lost for good.
    Recover {
        /// The range.
        range: RangeId,
        /// How.
        order: Box<Recover>,
    },
    /// Destroy a replica of a range that was brought back without it, even if it leads the group that was given up.
    Fence {
        /// The range.
        range: RangeId,
        /// The replica.
        replica: ReplicaId,
    },
}

impl Step {
    /// The range that the step is about.
    pub fn range(&self) -> RangeId {
        match self {
            Self::CreateFirst { range, .. }
            | Self::CreateReplica { range, .. }
            | Self::AddLearner { range, .. }
            | Self::ChangeVoters { range, .. }
            | Self::TransferLeader { range, .. }
            | Self::Split { range, .. }
            | Self::DestroyReplica { range, .. }
            | Self::Merge { range, .. }
            | Self::Recover { range, .. }
            | Self::Fence { range, .. } => *range,
        }
    }
}

/// Why a store did not take a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StepError {
    /// This store's replica does not lead.
    #[error("not the leader of range {0}")]
    NotLeader(RangeId),
    /// This store has no such range or replica.
    #[error("range {0} is not on this store")]
    NoSuchRange(RangeId),
    /// Another change is under way; the step will be sent again.
    #[error("busy: {0}")]
    Busy(String),
    /// The step can never be taken: the operator fails with this reason.
    #[error("refused: {0}")]
    Refused(String),
}

/// Opens the stream of changes to the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchMap {
    /// The version that the watcher has; the stream begins behind it, or with everything when the driver can't tell.
    pub from: Option<MapVersion>,
}

/// A position in the stream of one leading member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapVersion {
    /// Random, one per leadership of a member: positions of different streams can't be compared.
    pub stream: u64,
    /// Grows by one with each change.
    pub number: u64,
}

/// Part of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapEvent {
    /// The position after this event.
    pub version: MapVersion,
    /// Whether this is the whole map and what is not in it does not exist.
    pub full: bool,
    /// Ranges that are new or changed.
    pub ranges: Vec<RangeRoute>,
    /// Ranges that are no more.
    pub gone: Vec<RangeId>,
    /// Stores that are new or changed.
    pub stores: Vec<StoreRoute>,
}

/// Where a range is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRoute {
    /// The range.
    pub descriptor: Descriptor,
    /// The store that leads it, if known.
    pub leader: Option<StoreId>,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRoute {
    /// The store.
    pub id: StoreId,
    /// What to dial for RPC.
    pub rpc_address: String,
}
