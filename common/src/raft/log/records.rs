//! The values on disk: our own, versioned, and independent of openraft's structs, whose encodings change between releases.
//!
//! Every record begins with a version byte, so far always 1. Integers are big endian.
//!
//! | record | after the version |
//! |---|---|
//! | vote | u64 term, u64 replica voted for, u8 committed |
//! | purged | u8 whether anything is, then u64 term, u64 index |
//! | swept | u64 index |
//! | entry | u8 kind, u64 term, then nothing (blank), the command, or the membership |
//! | membership | u32 configurations, each a u32 count and the u64 voters; u32 nodes, each u64 replica, u64 store |

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes};

use crate::ids::{ReplicaId, StoreId};
use crate::raft::types::{Command, CommittedLeaderId, Entry, LogId, Membership, Node, Payload, Vote};

const VERSION: u8 = 1;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Most configurations of a membership: the old and the new one.
const MAX_CONFIGS: u32 = 2;

/// Bytes of an entry before its payload.
pub(super) const ENTRY_HEADER_BYTES: usize = 10;

/// The row that says that a group is being destroyed; its presence is all there is to it.
pub(super) const DROPPING: [u8; 1] = [VERSION];

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// Encodes a vote.
pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut row = Vec::with_capacity(18);
    row.put_u8(VERSION);
    row.put_u64(vote.leader_id.term);
    row.put_u64(vote.leader_id.voted_for.0);
    row.put_u8(u8::from(vote.committed));
    row
}

/// Decodes a vote.
pub fn decode_vote(row: &[u8]) -> Result<Vote, Malformed> {
    let mut fields = Fields::of(row)?;
    let (term, replica, committed) = (fields.u64()?, ReplicaId(fields.u64()?), fields.bool()?);
    fields.end()?;
    Ok(if committed {
        Vote::new_committed(term, replica)
    } else {
        Vote::new(term, replica)
    })
}

/// Encodes what is purged.
pub fn encode_purged(purged: Option<LogId>) -> Vec<u8> {
    let mut row = Vec::with_capacity(18);
    row.put_u8(VERSION);
    row.put_u8(u8::from(purged.is_some()));
    if let Some(id) = purged {
        row.put_u64(id.leader_id.term);
        row.put_u64(id.index);
    }
    row
}

/// Decodes what is purged.
pub fn decode_purged(row: &[u8]) -> Result<Option<LogId>, Malformed> {
    let mut fields = Fields::of(row)?;
    let purged = if fields.bool()? {
        Some(log_id(fields.u64()?, fields.u64()?))
    } else {
        None
    };
    fields.end()?;
    Ok(purged)
}

/// Encodes how far was swept.
pub fn encode_swept(index: u64) -> Vec<u8> {
    let mut row = Vec::with_capacity(9);
    row.put_u8(VERSION);
    row.put_u64(index);
    row
}

/// Decodes how far was swept.
pub fn decode_swept(row: &[u8]) -> Result<u64, Malformed> {
    let mut fields = Fields::of(row)?;
    let index = fields.u64()?;
    fields.end()?;
    Ok(index)
}

/// Length of the encoded entry, in bytes.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_HEADER_BYTES
        + match &entry.payload {
            Payload::Blank => 0,
            Payload::Normal(command) => command.0.len(),
            Payload::Membership(membership) => membership_bytes(membership),
        }
}

/// Appends an entry, without its index.
pub fn encode_entry(entry: &Entry, row: &mut Vec<u8>) {
    row.put_u8(VERSION);
    row.put_u8(match entry.payload {
        Payload::Blank => BLANK,
        Payload::Normal(_) => COMMAND,
        Payload::Membership(_) => MEMBERSHIP,
    });
    row.put_u64(entry.log_id.leader_id.term);
    match &entry.payload {
        Payload::Blank => {}
        Payload::Normal(command) => row.extend_from_slice(&command.0),
        Payload::Membership(membership) => encode_membership(membership, row),
    }
}

/// Decodes the entry at `index`; its command stays in `row`'s memory.
pub fn decode_entry(index: u64, row: &Bytes) -> Result<Entry, Malformed> {
    let mut fields = Fields::of(row)?;
    let (kind, term) = (fields.u8()?, fields.u64()?);
    let payload = match kind {
        BLANK => {
            fields.end()?;
            Payload::Blank
        }
        COMMAND => Payload::Normal(Command(row.slice(ENTRY_HEADER_BYTES..))),
        MEMBERSHIP => Payload::Membership(decode_membership(fields)?),
        _ => return Err(Malformed("an entry of unknown kind")),
    };
    Ok(Entry {
        log_id: log_id(term, index),
        payload,
    })
}

/// The term and index that name an entry.
pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

fn membership_bytes(membership: &Membership) -> usize {
    let voters: usize = membership
        .get_joint_config()
        .iter()
        .map(|config| 4 + 8 * config.len())
        .sum();
    8 + voters + 16 * membership.nodes().count()
}

fn encode_membership(membership: &Membership, row: &mut Vec<u8>) {
    let configs = membership.get_joint_config();
    put_count(row, configs.len());
    for config in configs {
        put_count(row, config.len());
        config.iter().for_each(|replica| row.put_u64(replica.0));
    }
    put_count(row, membership.nodes().count());
    for (replica, node) in membership.nodes() {
        row.put_u64(replica.0);
        row.put_u64(node.store.0);
    }
}

/// Memberships have a few dozen members; a count that does not fit could never be read back and saturates.
fn put_count(row: &mut Vec<u8>, count: usize) {
    row.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

fn decode_membership(mut fields: Fields<'_>) -> Result<Membership, Malformed> {
    let mut configs = Vec::new();
    let count = fields.u32()?;
    if count > MAX_CONFIGS {
        return Err(Malformed("a membership of more than two configurations"));
    }
    for _ in 0..count {
        let mut voters = BTreeSet::new();
        for _ in 0..fields.u32()? {
            voters.insert(ReplicaId(fields.u64()?));
        }
        configs.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..fields.u32()? {
        let replica = ReplicaId(fields.u64()?);
        nodes.insert(
            replica,
            Node {
                store: StoreId(fields.u64()?),
            },
        );
    }
    fields.end()?;
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| Malformed("a membership without a quorum"))
}

/// The fields of a record that are still to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of a record of the known version.
    fn of(row: &'a [u8]) -> Result<Self, Malformed> {
        match row.split_first() {
            Some((&VERSION, fields)) => Ok(Self(fields)),
            Some(_) => Err(Malformed("a record of unknown version")),
            None => Err(Malformed("an empty record")),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Malformed("a record that is cut short"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a truth value that is neither")),
        }
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("a record with bytes to spare"))
        }
    }
}

#[cfg(test)]
#[path = "records_test.rs"]
mod records_test;
