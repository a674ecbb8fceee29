//! Commands: what a range's log carries.
//!
//! A command is encoded once, by the leader that proposes it, and copied as it is into every log. Decoding shares the
//! memory of the entry: keys and values are slices of it. Layout (integers little endian, `docs/disk-format.md`):
//!
//! ```text
//! version u8 = 1 | kind u8 | body
//! kind 1, writes: stamp u64 | count u32 | count × write
//!   write:        session u64 | sequence u64 | finished below u64 | condition u8 | mutation u8 | key (u16 + bytes)
//!                 | condition 3: revision u64; 4: value (u32 + bytes) | mutation 1: ttl u64, value (u32 + bytes)
//!                 | mutation 3: transaction ([`txn`]) | mutation with 0x80 set: token (u16 + bytes), window u64
//!                 | mutation with 0x40 set, too: done u64
//! kind 2, split:  bounds u64 | at (u16 + bytes) | right u64 | right size u64 | right keys u64
//!                 | count u16 | count × (store u64, replica u64)
//! kind 3, freeze; 4, thaw; 5, yield:  bounds u64
//! kind 6, absorb: bounds u64 | membership u64 | source u64 | frozen u64
//! kind 7, check:  check u64
//! ```

pub(crate) mod bounds;
mod condition;
mod txn;

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::ids::{RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::limits::{MAX_ENTRY_WRITES, MAX_VALUE_BYTES};
use holdfast_common::proto::kv::{Condition, Mutation, Once, OnceRequest, WriteRequest};
use holdfast_common::revision::Revision;
use xxhash_rust::xxh3::xxh3_128;

use crate::codec::{Reader, put_long, put_short};
use crate::damage::Damage;

const VERSION: u8 = 1;
const KIND_WRITES: u8 = 1;
const KIND_SPLIT: u8 = 2;
const KIND_FREEZE: u8 = 3;
const KIND_THAW: u8 = 4;
const KIND_YIELD: u8 = 5;
const KIND_ABSORB: u8 = 6;
const KIND_CHECK: u8 = 7;
const HEADER_BYTES: usize = 14;
const WRITE_OVERHEAD_BYTES: usize = 28;
/// Set in the mutation's byte of a write that has a client's name.
const ONCE: u8 = 0x80;
/// Set beside it when that name comes with word of those before it.
const DONE: u8 = 0x40;

/// What a range is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Apply writes, each by itself.
    Writes {
        /// The leader's wall clock, as a revision: revisions and expiry derive from it, never from a replica's clock.
        stamp: Revision,
        /// The writes, at most [`MAX_ENTRY_WRITES`].
        writes: Vec<Write>,
    },
    /// Cut the range in two.
    Split(Split),
    /// Serve nothing from here on, so that the left neighbour can take over.
    Freeze {
        /// The bounds version that this starts from; another one refuses it, here and in the two that follow.
        bounds: u64,
    },
    /// Serve again.
    Thaw {
        /// That of the freeze.
        bounds: u64,
    },
    /// Give the range up for good.
    Yield {
        /// That of the freeze.
        bounds: u64,
    },
    /// Take over the right neighbour.
    Absorb(Absorb),
    /// Change nothing; every replica finds out what it holds at this entry ([`crate::check`]).
    Check {
        /// Names the check.
        check: u64,
    },
}

/// Whom a range takes over, and under which conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absorb {
    /// The range's own bounds version when it was asked; another one refuses.
    pub bounds: u64,
    /// Its membership version when its stores were compared with the source's; another one refuses.
    pub membership: u64,
    /// The right neighbour, which has yielded.
    pub source: RangeId,
    /// The entry of the source's log that froze it: nothing behind it counts.
    pub frozen: u64,
}

/// One write of a session: [`WriteRequest`] without its target, which was checked when it was admitted. Apply checks the
/// key against the range's span again, because a split may lie between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The process that sent it; [`SessionId::NONE`] for a write that need not be remembered.
    pub session: SessionId,
    /// Its number in the session.
    pub sequence: u64,
    /// Every write of the session below is finished.
    pub finished_below: u64,
    /// The key.
    pub key: Key,
    /// What must hold.
    pub condition: Condition,
    /// What to do.
    pub mutation: Mutation,
    /// The client's name for it.
    pub once: Option<Once>,
}

/// Where and into what a range is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The bounds version that the split starts from; another one refuses it.
    pub bounds: u64,
    /// The first key of the right part, strictly inside the range.
    pub at: Key,
    /// The id of the right part.
    pub right: RangeId,
    /// Replica ids of the right part: one for each replica of the range, by store.
    pub replicas: Vec<(StoreId, ReplicaId)>,
    /// Bytes right of the cut, about.
    pub right_size: u64,
    /// Rows right of the cut, about.
    pub right_keys: u64,
}

impl Command {
    /// Every key whose record applying it reads.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let writes = match self {
            Self::Writes { writes, .. } => writes.as_slice(),
            _ => &[],
        };
        writes.iter().flat_map(Write::keys)
    }
}

impl Write {
    /// Every key that it names, as often as it does.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let txn = match &self.mutation {
            Mutation::Txn(txn) => Some(txn.keys()),
            Mutation::Put { .. } | Mutation::Delete => None,
        };
        std::iter::once(&self.key).chain(txn.into_iter().flatten())
    }

    /// Bytes that it takes in an entry.
    pub fn encoded_len(&self) -> usize {
        let mutation = match &self.mutation {
            Mutation::Put { value, .. } => 12 + value.len(),
            Mutation::Delete => 0,
            Mutation::Txn(txn) => txn::encoded_len(txn),
        };
        let once = self.once.as_ref().map_or(0, |once| {
            10 + once.token.len() + if once.done > 0 { 8 } else { 0 }
        });
        WRITE_OVERHEAD_BYTES
            + self.key.as_bytes().len()
            + condition::encoded_len(&self.condition)
            + mutation
            + once
    }

    /// Tells apart what two writes ask for: the same for a repetition, whoever sends it. A part of the on-disk format
    /// (`docs/disk-format.md`).
    pub fn fingerprint(&self) -> u128 {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.put_request(&mut buffer, 0);
        xxh3_128(&buffer)
    }

    /// Bytes of its key and value.
    pub fn data_len(&self) -> usize {
        let value = match &self.mutation {
            Mutation::Put { value, .. } => value.len(),
            Mutation::Delete => 0,
            Mutation::Txn(txn) => txn::encoded_len(txn),
        };
        self.key.as_bytes().len() + value
    }

    fn put(&self, buffer: &mut BytesMut) {
        buffer.put_u64_le(self.session.0);
        buffer.put_u64_le(self.sequence);
        buffer.put_u64_le(self.finished_below);
        self.put_request(
            buffer,
            match &self.once {
                None => 0,
                Some(once) if once.done == 0 => ONCE,
                Some(_) => ONCE | DONE,
            },
        );
        if let Some(once) = &self.once {
            put_short(buffer, &once.token);
            buffer.put_u64_le(once.window_ms);
            if once.done > 0 {
                buffer.put_u64_le(once.done);
            }
        }
    }

    fn put_request(&self, buffer: &mut BytesMut, flags: u8) {
        buffer.put_u8(condition::code(&self.condition));
        buffer.put_u8(
            flags
                | match self.mutation {
                    Mutation::Put { .. } => 1,
                    Mutation::Delete => 2,
                    Mutation::Txn(_) => 3,
                },
        );
        put_short(buffer, self.key.as_bytes());
        condition::put(buffer, &self.condition);
        match &self.mutation {
            Mutation::Put { value, ttl_ms } => {
                buffer.put_u64_le(*ttl_ms);
                put_long(buffer, value);
            }
            Mutation::Delete => {}
            Mutation::Txn(txn) => txn::put(buffer, txn),
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, Damage> {
        let (session, sequence, finished_below) = (SessionId(reader.u64()?), reader.u64()?, reader.u64()?);
        let (condition, mutation) = (reader.u8()?, reader.u8()?);
        let key = read_key(reader)?;
        let condition = condition::read(reader, condition)?;
        let (is_once, has_done) = (mutation & ONCE != 0, mutation & DONE != 0);
        if has_done && !is_once {
            return Err(reader.damage("word of the names before one that is missing"));
        }
        let mutation = match mutation & !(ONCE | DONE) {
            1 => {
                let ttl_ms = reader.u64()?;
                Mutation::Put {
                    value: read_value(reader)?,
                    ttl_ms,
                }
            }
            2 => Mutation::Delete,
            3 => Mutation::Txn(Box::new(txn::read(reader)?)),
            other => return Err(reader.damage(format!("mutation {other}"))),
        };
        let once = if is_once {
            let (token, window_ms) = (reader.short()?, reader.u64()?);
            let done = if has_done { reader.u64()? } else { 0 };
            Some(Once {
                token,
                window_ms,
                done,
            })
        } else {
            None
        };
        Ok(Self {
            session,
            sequence,
            finished_below,
            key,
            condition,
            mutation,
            once,
        })
    }
}

impl From<WriteRequest> for Write {
    fn from(request: WriteRequest) -> Self {
        let WriteRequest {
            target: _,
            session,
            sequence,
            finished_below,
            key,
            condition,
            mutation,
        } = request;
        Self {
            session,
            sequence,
            finished_below,
            key,
            condition,
            mutation,
            once: None,
        }
    }
}

impl From<OnceRequest> for Write {
    fn from(request: OnceRequest) -> Self {
        Self {
            once: Some(request.once),
            ..request.write.into()
        }
    }
}

/// Whether an encoded command is [`Command::Writes`], as far as its first bytes tell.
pub(crate) fn is_writes(encoded: &[u8]) -> bool {
    encoded.starts_with(&[VERSION, KIND_WRITES])
}

impl Command {
    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Writes { stamp, writes } => encode_writes(*stamp, writes.iter()),
            Self::Split(split) => split.encode(),
            Self::Freeze { bounds } => encode_numbers(KIND_FREEZE, &[*bounds]),
            Self::Thaw { bounds } => encode_numbers(KIND_THAW, &[*bounds]),
            Self::Yield { bounds } => encode_numbers(KIND_YIELD, &[*bounds]),
            Self::Absorb(absorb) => absorb.encode(),
            Self::Check { check } => encode_numbers(KIND_CHECK, &[*check]),
        }
    }

    /// Decodes it; keys and values share the memory of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, Damage> {
        let mut reader = Reader::new(bytes.clone(), "command");
        let version = reader.u8()?;
        if version != VERSION {
            return Err(reader.damage(format!("version {version}, this build reads {VERSION}")));
        }
        let command = match reader.u8()? {
            KIND_WRITES => read_writes(&mut reader)?,
            KIND_SPLIT => Self::Split(Split::read(&mut reader)?),
            KIND_FREEZE => Self::Freeze {
                bounds: reader.u64()?,
            },
            KIND_THAW => Self::Thaw {
                bounds: reader.u64()?,
            },
            KIND_YIELD => Self::Yield {
                bounds: reader.u64()?,
            },
            KIND_ABSORB => Self::Absorb(Absorb::read(&mut reader)?),
            KIND_CHECK => Self::Check { check: reader.u64()? },
            other => return Err(reader.damage(format!("kind {other}"))),
        };
        reader.end()?;
        Ok(command)
    }
}

/// Encodes [`Command::Writes`] without owning the writes.
pub fn encode_writes<'a>(stamp: Revision, writes: impl Iterator<Item = &'a Write> + Clone) -> Bytes {
    let (count, bytes) = writes
        .clone()
        .fold((0u32, HEADER_BYTES), |(count, bytes), write| {
            (count + 1, bytes + write.encoded_len())
        });
    debug_assert!(count as usize <= MAX_ENTRY_WRITES);
    let mut buffer = BytesMut::with_capacity(bytes);
    buffer.put_u8(VERSION);
    buffer.put_u8(KIND_WRITES);
    buffer.put_u64_le(stamp.0);
    buffer.put_u32_le(count);
    for write in writes {
        write.put(&mut buffer);
    }
    debug_assert_eq!(buffer.len(), bytes);
    buffer.freeze()
}

fn read_writes(reader: &mut Reader) -> Result<Command, Damage> {
    let stamp = Revision(reader.u64()?);
    let count = reader.u32()? as usize;
    if count > MAX_ENTRY_WRITES {
        return Err(reader.damage(format!("{count} writes in one entry")));
    }
    let mut writes = Vec::with_capacity(reader.capacity(count, WRITE_OVERHEAD_BYTES));
    for _ in 0..count {
        writes.push(Write::read(reader)?);
    }
    Ok(Command::Writes { stamp, writes })
}

impl Split {
    fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(64 + self.at.as_bytes().len() + 16 * self.replicas.len());
        buffer.put_u8(VERSION);
        buffer.put_u8(KIND_SPLIT);
        buffer.put_u64_le(self.bounds);
        put_short(&mut buffer, self.at.as_bytes());
        buffer.put_u64_le(self.right.0);
        buffer.put_u64_le(self.right_size);
        buffer.put_u64_le(self.right_keys);
        debug_assert!(u16::try_from(self.replicas.len()).is_ok());
        buffer.put_u16_le(self.replicas.len() as u16);
        for (store, replica) in &self.replicas {
            buffer.put_u64_le(store.0);
            buffer.put_u64_le(replica.0);
        }
        buffer.freeze()
    }

    fn read(reader: &mut Reader) -> Result<Self, Damage> {
        let bounds = reader.u64()?;
        let at = read_key(reader)?;
        let (right, right_size, right_keys) = (RangeId(reader.u64()?), reader.u64()?, reader.u64()?);
        let count = reader.u16()? as usize;
        let mut replicas = Vec::with_capacity(reader.capacity(count, 16));
        for _ in 0..count {
            replicas.push((StoreId(reader.u64()?), ReplicaId(reader.u64()?)));
        }
        Ok(Self {
            bounds,
            at,
            right,
            replicas,
            right_size,
            right_keys,
        })
    }
}

impl Absorb {
    fn encode(&self) -> Bytes {
        let numbers = [self.bounds, self.membership, self.source.0, self.frozen];
        encode_numbers(KIND_ABSORB, &numbers)
    }

    fn read(reader: &mut Reader) -> Result<Self, Damage> {
        Ok(Self {
            bounds: reader.u64()?,
            membership: reader.u64()?,
            source: RangeId(reader.u64()?),
            frozen: reader.u64()?,
        })
    }
}

/// A command that consists of numbers.
fn encode_numbers(kind: u8, numbers: &[u64]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(2 + 8 * numbers.len());
    buffer.put_u8(VERSION);
    buffer.put_u8(kind);
    for number in numbers {
        buffer.put_u64_le(*number);
    }
    buffer.freeze()
}

fn read_key(reader: &mut Reader) -> Result<Key, Damage> {
    Key::new(reader.short()?).map_err(|error| reader.damage(error.to_string()))
}

fn read_value(reader: &mut Reader) -> Result<Bytes, Damage> {
    let value = reader.long()?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(reader.damage(format!("a value of {} bytes", value.len())));
    }
    Ok(value)
}

#[cfg(test)]
#[path = "command_test.rs"]
mod tests;
