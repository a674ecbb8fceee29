//! The store's own durable records about its replicas: who is buried here, who is being destroyed, and who is being taken over
//! by its left neighbour. They live in the log's database, which syncs what it is given.
//!
//! | key | value |
//! |---|---|
//! | `tombstone/` replica id (8 bytes, big endian) | version u8 = 1, range u64 |
//! | `destroying/` range id, replica id (8 + 8 bytes, big endian) | version u8 = 1, held a span u8, start and end (u16 + bytes) |
//! | `takeover/` range id, replica id (8 + 8 bytes, big endian) | version u8 = 1 |
//! | `recovering/` range id (8 bytes, big endian) | version u8 = 1, from and to u64, epoch u64 + u64, start and end (u16 + bytes) |

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::key::Span;
use holdfast_common::raft::log::{self, LocalWrite, LogEngine};
use holdfast_common::range::Epoch;
use parking_lot::RwLock;

use crate::codec::{Reader, put_short};
use crate::damage::Damage;

const TOMBSTONE: &[u8] = b"tombstone/";
const DESTROYING: &[u8] = b"destroying/";
const TAKEOVER: &[u8] = b"takeover/";
const RECOVERING: &[u8] = b"recovering/";
const VERSION: u8 = 1;

/// Why a record can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log's database failed: the process must exit.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A record does not decode.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

impl Error {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Log(error) => error.is_damage(),
            Self::Damaged(_) => true,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Log(error) => io::Error::other(error),
            Error::Damaged(damage) => damage.into(),
        }
    }
}

/// A replica that takes the place of another on this store, alone, with what that one holds: see
/// [`recovery`](crate::recovery).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The replica that is buried.
    pub from: ReplicaId,
    /// The replica that takes its place.
    pub to: ReplicaId,
    /// The epoch of the range from then on.
    pub epoch: Epoch,
    /// The most of the span that is kept.
    pub span: Span,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    log: LogEngine,
    known: RwLock<Known>,
}

/// What the records say; kept in memory because applying a split asks.
#[derive(Default)]
struct Known {
    buried: HashSet<ReplicaId>,
    destroying: BTreeMap<(RangeId, ReplicaId), Option<Span>>,
    taken_over: BTreeMap<ReplicaId, RangeId>,
    recovering: BTreeMap<RangeId, Succession>,
}

impl Ledger {
    /// Reads the records.
    pub fn open(log: LogEngine) -> Result<Self, Error> {
        let mut known = Known::default();
        for (key, _) in log.local_scan(TOMBSTONE)? {
            let mut reader = Reader::new(key.slice(TOMBSTONE.len()..), "tombstone");
            known.buried.insert(ReplicaId(read_id(&mut reader)?));
            reader.end()?;
        }
        for (key, value) in log.local_scan(DESTROYING)? {
            let mut reader = Reader::new(key.slice(DESTROYING.len()..), "intent to destroy");
            let (range, replica) = (RangeId(read_id(&mut reader)?), ReplicaId(read_id(&mut reader)?));
            reader.end()?;
            known.destroying.insert((range, replica), read_span(value)?);
        }
        for (key, _) in log.local_scan(TAKEOVER)? {
            let mut reader = Reader::new(key.slice(TAKEOVER.len()..), "intent to take over");
            let (range, replica) = (RangeId(read_id(&mut reader)?), ReplicaId(read_id(&mut reader)?));
            reader.end()?;
            known.taken_over.insert(replica, range);
        }
        for (key, value) in log.local_scan(RECOVERING)? {
            let mut reader = Reader::new(key.slice(RECOVERING.len()..), "intent to recover");
            let range = RangeId(read_id(&mut reader)?);
            reader.end()?;
            known.recovering.insert(range, read_succession(value)?);
        }
        Ok(Self(Arc::new(Inner {
            log,
            known: RwLock::new(known),
        })))
    }

    /// Whether this replica was destroyed here and must never come back.
    pub fn buried(&self, replica: ReplicaId) -> bool {
        self.0.known.read().buried.contains(&replica)
    }

    /// A range with a replica whose rows in `span` are still being deleted, or are being taken over by another.
    pub fn destroying_overlaps(&self, span: &Span) -> Option<RangeId> {
        let known = self.0.known.read();
        let mut destroying = known.destroying.iter();
        let destroyed = destroying
            .find(|(_, held)| held.as_ref().is_some_and(|held| held.overlaps(span)))
            .map(|((range, _), _)| *range);
        let mut recovering = known.recovering.iter();
        destroyed.or_else(|| {
            recovering
                .find(|(_, succession)| succession.span.overlaps(span))
                .map(|(range, _)| *range)
        })
    }

    /// Replicas whose destruction was begun, with what they held, and not finished.
    pub fn destroying(&self) -> Vec<(RangeId, ReplicaId, Option<Span>)> {
        let known = self.0.known.read();
        known
            .destroying
            .iter()
            .map(|((range, replica), span)| (*range, *replica, span.clone()))
            .collect()
    }

    /// Whether this replica's range is being taken over here: its group has ended.
    pub fn is_taken_over(&self, replica: ReplicaId) -> bool {
        self.0.known.read().taken_over.contains_key(&replica)
    }

    /// Replicas whose takeover was begun, and not finished.
    pub fn takeovers(&self) -> Vec<(RangeId, ReplicaId)> {
        let known = self.0.known.read();
        let begun = known.taken_over.iter();
        begun.map(|(replica, range)| (*range, *replica)).collect()
    }

    /// Records that the rows of this replica are about to become its left neighbour's; durable on return.
    pub(crate) async fn begin_takeover(&self, range: RangeId, replica: ReplicaId) -> Result<(), Error> {
        self.0.known.write().taken_over.insert(replica, range);
        let intent = LocalWrite::Put(takeover_key(range, replica), Bytes::from_static(&[VERSION]));
        Ok(self.0.log.local_commit(vec![intent]).await?)
    }

    /// Drops that record: the replica is buried, or was not taken over after all; durable on return.
    pub(crate) async fn end_takeover(&self, range: RangeId, replica: ReplicaId) -> Result<(), Error> {
        let key = takeover_key(range, replica);
        self.0.log.local_commit(vec![LocalWrite::Delete(key)]).await?;
        self.0.known.write().taken_over.remove(&replica);
        Ok(())
    }

    /// Buries a replica and records that its rows and log are to go; durable on return.
    pub(crate) async fn begin(
        &self,
        range: RangeId,
        replica: ReplicaId,
        span: Option<Span>,
    ) -> Result<(), Error> {
        let mut intent = BytesMut::with_capacity(16);
        intent.put_u8(VERSION);
        intent.put_u8(u8::from(span.is_some()));
        if let Some(span) = &span {
            put_short(&mut intent, span.start());
            put_short(&mut intent, span.end());
        }
        let writes = vec![
            LocalWrite::Put(tombstone_key(replica), tombstone(range)),
            LocalWrite::Put(destroying_key(range, replica), intent.freeze()),
        ];
        // Known before it is durable, never the other way round: nobody may revive what is about to be buried.
        {
            let mut known = self.0.known.write();
            known.buried.insert(replica);
            known.destroying.insert((range, replica), span);
        }
        Ok(self.0.log.local_commit(writes).await?)
    }

    /// Records that nothing of the replica is left but its tombstone; durable on return.
    pub(crate) async fn finish(&self, range: RangeId, replica: ReplicaId) -> Result<(), Error> {
        self.0
            .log
            .local_commit(vec![LocalWrite::Delete(destroying_key(range, replica))])
            .await?;
        self.0.known.write().destroying.remove(&(range, replica));
        Ok(())
    }

    /// Ranges of which a replica was to take another's place, and may not have done so yet.
    pub(crate) fn recovering(&self) -> Vec<(RangeId, Succession)> {
        let known = self.0.known.read();
        known
            .recovering
            .iter()
            .map(|(range, succession)| (*range, succession.clone()))
            .collect()
    }

    /// Buries a replica and records what is to take its place; durable on return.
    pub(crate) async fn begin_recovery(&self, range: RangeId, succession: Succession) -> Result<(), Error> {
        let span = &succession.span;
        let mut intent = BytesMut::with_capacity(64);
        intent.put_u8(VERSION);
        intent.put_u64_le(succession.from.0);
        intent.put_u64_le(succession.to.0);
        intent.put_u64_le(succession.epoch.bounds);
        intent.put_u64_le(succession.epoch.membership);
        put_short(&mut intent, span.start());
        put_short(&mut intent, span.end());
        let writes = vec![
            LocalWrite::Put(tombstone_key(succession.from), tombstone(range)),
            LocalWrite::Put(recovering_key(range), intent.freeze()),
        ];
        {
            let mut known = self.0.known.write();
            known.buried.insert(succession.from);
            known.recovering.insert(range, succession);
        }
        Ok(self.0.log.local_commit(writes).await?)
    }

    /// Records that the replica has taken the other's place; durable on return.
    pub(crate) async fn finish_recovery(&self, range: RangeId) -> Result<(), Error> {
        self.0
            .log
            .local_commit(vec![LocalWrite::Delete(recovering_key(range))])
            .await?;
        self.0.known.write().recovering.remove(&range);
        Ok(())
    }
}

fn tombstone(range: RangeId) -> Bytes {
    let mut tombstone = BytesMut::with_capacity(9);
    tombstone.put_u8(VERSION);
    tombstone.put_u64_le(range.0);
    tombstone.freeze()
}

fn recovering_key(range: RangeId) -> Bytes {
    [RECOVERING, &range.0.to_be_bytes()].concat().into()
}

fn tombstone_key(replica: ReplicaId) -> Bytes {
    [TOMBSTONE, &replica.0.to_be_bytes()].concat().into()
}

fn destroying_key(range: RangeId, replica: ReplicaId) -> Bytes {
    key_of(DESTROYING, range, replica)
}

fn takeover_key(range: RangeId, replica: ReplicaId) -> Bytes {
    key_of(TAKEOVER, range, replica)
}

fn key_of(prefix: &[u8], range: RangeId, replica: ReplicaId) -> Bytes {
    [prefix, &range.0.to_be_bytes(), &replica.0.to_be_bytes()]
        .concat()
        .into()
}

fn read_id(reader: &mut Reader) -> Result<u64, Damage> {
    Ok(reader.u64()?.swap_bytes())
}

pub(crate) fn read_span(value: Bytes) -> Result<Option<Span>, Damage> {
    let mut reader = Reader::new(value, "intent to destroy");
    let (version, held) = (reader.u8()?, reader.u8()?);
    if version != VERSION || held > 1 {
        return Err(reader.damage(format!("version {version}, mark {held}")));
    }
    if held == 0 {
        reader.end()?;
        return Ok(None);
    }
    let (start, end) = (reader.short()?, reader.short()?);
    let span = Span::new(start, end).map_err(|error| reader.damage(error.to_string()))?;
    reader.end()?;
    Ok(Some(span))
}

pub(crate) fn read_succession(value: Bytes) -> Result<Succession, Damage> {
    let mut reader = Reader::new(value, "intent to recover");
    let version = reader.u8()?;
    if version != VERSION {
        return Err(reader.damage(format!("version {version}")));
    }
    let (from, to) = (ReplicaId(reader.u64()?), ReplicaId(reader.u64()?));
    let (bounds, membership) = (reader.u64()?, reader.u64()?);
    let (start, end) = (reader.short()?, reader.short()?);
    let span = Span::new(start, end).map_err(|error| reader.damage(error.to_string()))?;
    reader.end()?;
    Ok(Succession {
        from,
        to,
        epoch: Epoch { bounds, membership },
        span,
    })
}
