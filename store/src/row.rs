//! The range row: where a replica stands. It lies in the same batch as the rows that it describes, so whatever a crash
//! leaves of the database, the applied position fits the data.
//!
//! Layout (integers little endian, `docs/disk-format.md`):
//!
//! ```text
//! version u8 = 2 | replica u64 | applied: log id | last revision u64 | size u64 | keys u64
//! | bounds version u64 | start (u16 + bytes) | end (u16 + bytes)
//! | membership's log id | configs u8 × (voters u16 × replica u64) | nodes u16 × (replica u64, store u64)
//! | sessions u16 × (session u64, floor u64, since u64, used ms u64)
//! | merge u8 (0 none, 1 frozen, 2 yielded), entry of the freeze u64
//! log id: present u8 | term u64 | index u64
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::raft::types::{LogId, Membership, Node, StoredMembership};
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};
use holdfast_common::revision::Revision;

use crate::codec::{Reader, put_short};
use crate::damage::Damage;
use crate::sessions::{self, Floor, Sessions};
use crate::state::{Identity, Merge, RangeState};
use crate::tokens::Tokens;

const VERSION: u8 = 2;
const WHAT: &str = "range row";

/// Most configurations of a membership: the old and the new one.
const MAX_CONFIGS: u8 = 2;
/// No range is split or merged so often. So whoever raises the version need not look whether it can be raised.
const MAX_BOUNDS: u64 = 1 << 62;

/// A range row, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeRow {
    /// The replica.
    pub replica: ReplicaId,
    /// The last applied entry; none when nothing was applied.
    pub applied: Option<LogId>,
    /// The last applied membership.
    pub membership: StoredMembership,
    /// Raised by every split and merge.
    pub bounds: u64,
    /// The range's part of the key space.
    pub span: Span,
    /// The largest revision given.
    pub last_revision: Revision,
    /// Bytes of keys and records, about.
    pub size_bytes: u64,
    /// Rows, about.
    pub keys: u64,
    /// The sessions whose outcomes are remembered.
    pub floors: Vec<Floor>,
    /// Whether the range is about to go into its left neighbour.
    pub merge: Merge,
}

/// Encodes the row of a range that has applied `applied` and lives under `membership`.
pub fn encode(state: &RangeState, applied: Option<LogId>, membership: &StoredMembership) -> Bytes {
    let fields = Fields {
        replica: state.identity.replica,
        applied,
        membership,
        bounds: state.descriptor.epoch.bounds,
        span: &state.descriptor.span,
        last_revision: state.last_revision,
        size_bytes: state.size_bytes,
        keys: state.keys,
        merge: state.merge,
    };
    fields.encode(state.sessions.floors())
}

/// A row but for its sessions, borrowed from wherever it is.
struct Fields<'a> {
    replica: ReplicaId,
    applied: Option<LogId>,
    membership: &'a StoredMembership,
    bounds: u64,
    span: &'a Span,
    last_revision: Revision,
    size_bytes: u64,
    keys: u64,
    merge: Merge,
}

impl Fields<'_> {
    fn encode(&self, floors: impl ExactSizeIterator<Item = Floor>) -> Bytes {
        let (start, end) = (self.span.start(), self.span.end());
        let mut row =
            BytesMut::with_capacity(256 + sessions::floors_len(floors.len()) + start.len() + end.len());
        row.put_u8(VERSION);
        row.put_u64_le(self.replica.0);
        put_log_id(&mut row, self.applied.as_ref());
        row.put_u64_le(self.last_revision.0);
        row.put_u64_le(self.size_bytes);
        row.put_u64_le(self.keys);
        row.put_u64_le(self.bounds);
        put_short(&mut row, start);
        put_short(&mut row, end);
        put_membership(&mut row, self.membership);
        sessions::put_floors(&mut row, floors);
        put_merge(&mut row, self.merge);
        row.freeze()
    }
}

impl RangeRow {
    /// Decodes a stored row.
    pub fn decode(row: Bytes) -> Result<Self, Damage> {
        let mut reader = Reader::new(row, WHAT);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(reader.damage(format!("version {version}, this build reads {VERSION}")));
        }
        let (replica, applied) = (ReplicaId(reader.u64()?), read_log_id(&mut reader)?);
        let (last_revision, size_bytes, keys) = (Revision(reader.u64()?), reader.u64()?, reader.u64()?);
        let bounds = reader.u64()?;
        if bounds > MAX_BOUNDS {
            return Err(reader.damage(format!("version {bounds} of the bounds")));
        }
        let (start, end) = (reader.short()?, reader.short()?);
        let span = Span::new(start, end).map_err(|error| reader.damage(error.to_string()))?;
        let membership = read_membership(&mut reader)?;
        let floors = sessions::read_floors(&mut reader)?;
        let merge = read_merge(&mut reader)?;
        reader.end()?;
        Ok(Self {
            replica,
            applied,
            membership,
            bounds,
            span,
            last_revision,
            size_bytes,
            keys,
            floors,
            merge,
        })
    }

    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        let fields = Fields {
            replica: self.replica,
            applied: self.applied,
            membership: &self.membership,
            bounds: self.bounds,
            span: &self.span,
            last_revision: self.last_revision,
            size_bytes: self.size_bytes,
            keys: self.keys,
            merge: self.merge,
        };
        fields.encode(self.floors.iter().copied())
    }

    /// The range as this row describes it.
    pub fn descriptor(&self, range: RangeId) -> Descriptor {
        let epoch = Epoch {
            bounds: self.bounds,
            membership: membership_epoch(&self.membership),
        };
        Descriptor {
            id: range,
            span: self.span.clone(),
            epoch,
            replicas: replicas(self.membership.membership()),
        }
    }

    /// The replicated state, with the outcomes and tokens that were read from their rows.
    pub fn into_state(
        self,
        range: RangeId,
        store: StoreId,
        sessions: Sessions,
        tokens: Tokens,
    ) -> RangeState {
        RangeState {
            identity: Identity {
                range,
                replica: self.replica,
                store,
            },
            descriptor: Arc::new(self.descriptor(range)),
            last_revision: self.last_revision,
            size_bytes: self.size_bytes,
            keys: self.keys,
            sessions,
            merge: self.merge,
            tokens,
        }
    }
}

/// The membership part of the epoch: the index of the entry that made the membership.
pub fn membership_epoch(membership: &StoredMembership) -> u64 {
    membership.log_id().as_ref().map_or(0, |log_id| log_id.index)
}

/// The replicas of a membership, ordered by id. In a joint configuration who is only in the old part is leaving.
pub fn replicas(membership: &Membership) -> Vec<Replica> {
    let configs = membership.get_joint_config();
    let role = |id: &ReplicaId| match configs.last() {
        Some(new) if new.contains(id) => Role::Voter,
        _ if configs.iter().any(|config| config.contains(id)) => Role::Outgoing,
        _ => Role::Learner,
    };
    membership
        .nodes()
        .map(|(id, node)| Replica {
            id: *id,
            store: node.store,
            role: role(id),
        })
        .collect()
}

/// The membership of replicas of which none is leaving. It has no voters if they have none.
pub fn membership_of(replicas: &[Replica]) -> Membership {
    let voters: BTreeSet<ReplicaId> = replicas
        .iter()
        .filter(|replica| replica.role == Role::Voter)
        .map(|replica| replica.id)
        .collect();
    let nodes: BTreeMap<ReplicaId, Node> = replicas
        .iter()
        .map(|replica| (replica.id, Node { store: replica.store }))
        .collect();
    // Refused only when a voter is missing from the nodes or there is no voter.
    Membership::new(vec![voters], nodes).unwrap_or_default()
}

fn put_log_id(row: &mut BytesMut, log_id: Option<&LogId>) {
    row.put_u8(u8::from(log_id.is_some()));
    row.put_u64_le(log_id.map_or(0, |log_id| log_id.leader_id.term));
    row.put_u64_le(log_id.map_or(0, |log_id| log_id.index));
}

fn read_log_id(reader: &mut Reader) -> Result<Option<LogId>, Damage> {
    let (present, term, index) = (reader.u8()?, reader.u64()?, reader.u64()?);
    match present {
        0 => Ok(None),
        1 => Ok(Some(LogId::new_term_index(term, index))),
        other => Err(reader.damage(format!("log id marked {other}"))),
    }
}

fn put_merge(row: &mut BytesMut, merge: Merge) {
    let (mark, entry) = match merge {
        Merge::No => (0, 0),
        Merge::Frozen { at } => (1, at),
        Merge::Yielded { frozen } => (2, frozen),
    };
    row.put_u8(mark);
    row.put_u64_le(entry);
}

fn read_merge(reader: &mut Reader) -> Result<Merge, Damage> {
    match (reader.u8()?, reader.u64()?) {
        (0, 0) => Ok(Merge::No),
        (1, at) => Ok(Merge::Frozen { at }),
        (2, frozen) => Ok(Merge::Yielded { frozen }),
        (mark, entry) => Err(reader.damage(format!("merge marked {mark}, entry {entry}"))),
    }
}

fn put_membership(row: &mut BytesMut, stored: &StoredMembership) {
    put_log_id(row, stored.log_id().as_ref());
    let configs = stored.membership().get_joint_config();
    debug_assert!(configs.len() <= 2);
    row.put_u8(configs.len() as u8);
    for config in configs {
        row.put_u16_le(config.len() as u16);
        for replica in config {
            row.put_u64_le(replica.0);
        }
    }
    row.put_u16_le(stored.nodes().count() as u16);
    for (replica, node) in stored.nodes() {
        row.put_u64_le(replica.0);
        row.put_u64_le(node.store.0);
    }
}

fn read_membership(reader: &mut Reader) -> Result<StoredMembership, Damage> {
    let log_id = read_log_id(reader)?;
    let mut configs = Vec::new();
    let count = reader.u8()?;
    if count > MAX_CONFIGS {
        return Err(reader.damage(format!("a membership of {count} configurations")));
    }
    for _ in 0..count {
        let mut config = BTreeSet::new();
        for _ in 0..reader.u16()? {
            config.insert(ReplicaId(reader.u64()?));
        }
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..reader.u16()? {
        let (replica, store) = (ReplicaId(reader.u64()?), StoreId(reader.u64()?));
        nodes.insert(replica, Node { store });
    }
    if configs.is_empty() && nodes.is_empty() {
        return Ok(StoredMembership::new(log_id, Membership::default()));
    }
    let membership = Membership::new(configs, nodes).map_err(|error| reader.damage(error.to_string()))?;
    Ok(StoredMembership::new(log_id, membership))
}

#[cfg(test)]
#[path = "row_test.rs"]
mod tests;
