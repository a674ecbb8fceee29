//! The encoding of [`Append`].
//!
//! ```text
//! u8 version | u8 flags | u64 range | u64 from | u64 to | u64 term        big-endian, fixed
//! [prev: term, index] [commit: term, index]                               varints, as the flags tell
//! count                                                                   varint
//! count × { term, kind [, length, bytes] }                                varints, then the bytes as they are
//! ```
//! Varints are postcard's (LEB128). The kinds are 0 = blank, 1 = command, 2 = membership (postcard).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Append, Entry, LogId, Membership, Payload, Route};
use crate::ids::{RangeId, ReplicaId};
use crate::proto::{DecodeError, VERSION};

const HAS_PREV: u8 = 1;
const HAS_COMMIT: u8 = 2;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Length of the fixed part.
const FIXED_BYTES: usize = 2 + 4 * 8;
/// Longest varint.
const MAX_VARINT_BYTES: usize = 10;
/// Shortest entry: a term and a kind.
const MIN_ENTRY_BYTES: usize = 2;

impl Append {
    /// Encodes the message. Commands are copied as they are.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size_bound());
        let flags = if self.prev.is_some() { HAS_PREV } else { 0 }
            | if self.commit.is_some() { HAS_COMMIT } else { 0 };
        out.put_u8(VERSION);
        out.put_u8(flags);
        out.put_u64(self.route.range.0);
        out.put_u64(self.route.from.0);
        out.put_u64(self.route.to.0);
        out.put_u64(self.term);
        for id in [self.prev, self.commit].into_iter().flatten() {
            put_varint(&mut out, id.term);
            put_varint(&mut out, id.index);
        }
        put_varint(&mut out, self.entries.len() as u64);
        for entry in &self.entries {
            put_entry(&mut out, entry);
        }
        out.freeze()
    }

    /// Decodes a message. Commands are slices of `body`, which they keep alive.
    ///
    /// # Errors
    /// The body is of another version, is cut, has trailing bytes, or describes what no leader sends: an index beyond
    /// the largest, or terms that fall or exceed the sender's.
    pub fn decode(mut body: Bytes) -> Result<Self, DecodeError> {
        let body = &mut body;
        let version = body.try_get_u8().map_err(|_| DecodeError::Empty)?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let flags = get_u8(body)?;
        if flags & !(HAS_PREV | HAS_COMMIT) != 0 {
            return Err(BAD);
        }
        let route = Route {
            range: RangeId(get_u64(body)?),
            from: ReplicaId(get_u64(body)?),
            to: ReplicaId(get_u64(body)?),
        };
        let term = get_u64(body)?;
        let prev = if flags & HAS_PREV != 0 {
            Some(get_log_id(body)?)
        } else {
            None
        };
        let commit = if flags & HAS_COMMIT != 0 {
            Some(get_log_id(body)?)
        } else {
            None
        };
        let count = get_len(body)?;
        if count > body.len() / MIN_ENTRY_BYTES {
            return Err(CUT);
        }
        let entries = (0..count)
            .map(|_| get_entry(body))
            .collect::<Result<Vec<_>, _>>()?;
        if !body.is_empty() {
            return Err(BAD);
        }
        let append = Self {
            route,
            term,
            prev,
            commit,
            entries,
        };
        if append.is_plausible() {
            Ok(append)
        } else {
            Err(BAD)
        }
    }

    /// Whether indexes stay in bounds and terms neither fall nor exceed the sender's.
    fn is_plausible(&self) -> bool {
        let (mut term, next) = match self.prev {
            Some(prev) => (prev.term, prev.index.checked_add(1)),
            None => (0, Some(0)),
        };
        let fits = next
            .and_then(|next| next.checked_add(self.entries.len() as u64))
            .is_some();
        let rising = self
            .entries
            .iter()
            .all(|entry| std::mem::replace(&mut term, entry.term) <= entry.term);
        fits && rising && term <= self.term
    }

    fn size_bound(&self) -> usize {
        let entries = self.entries.iter().map(|entry| match &entry.payload {
            Payload::Blank => MAX_VARINT_BYTES + 1,
            Payload::Command(bytes) => 2 * MAX_VARINT_BYTES + 1 + bytes.len(),
            // An estimate: these are rare and small.
            Payload::Membership(_) => 256,
        });
        FIXED_BYTES + 5 * MAX_VARINT_BYTES + entries.sum::<usize>()
    }
}

const CUT: DecodeError = DecodeError::Malformed(postcard::Error::DeserializeUnexpectedEnd);
const BAD: DecodeError = DecodeError::Malformed(postcard::Error::DeserializeBadEncoding);

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    put_varint(out, entry.term);
    match &entry.payload {
        Payload::Blank => out.put_u8(BLANK),
        Payload::Command(bytes) => {
            out.put_u8(COMMAND);
            put_varint(out, bytes.len() as u64);
            out.put_slice(bytes);
        }
        Payload::Membership(membership) => {
            // Only a type that refuses to serialize can fail here, and this one does not.
            let bytes = postcard::to_stdvec(membership).unwrap_or_default();
            out.put_u8(MEMBERSHIP);
            put_varint(out, bytes.len() as u64);
            out.put_slice(&bytes);
        }
    }
}

fn get_entry(body: &mut Bytes) -> Result<Entry, DecodeError> {
    let term = get_varint(body)?;
    let payload = match get_u8(body)? {
        BLANK => Payload::Blank,
        COMMAND => Payload::Command(get_bytes(body)?),
        MEMBERSHIP => {
            let bytes = get_bytes(body)?;
            let (membership, rest) =
                postcard::take_from_bytes::<Membership>(&bytes).map_err(DecodeError::Malformed)?;
            if !rest.is_empty() {
                return Err(BAD);
            }
            Payload::Membership(membership)
        }
        _ => return Err(BAD),
    };
    Ok(Entry { term, payload })
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn get_varint(body: &mut Bytes) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = get_u8(body)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(BAD);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(BAD)
}

fn get_log_id(body: &mut Bytes) -> Result<LogId, DecodeError> {
    Ok(LogId {
        term: get_varint(body)?,
        index: get_varint(body)?,
    })
}

fn get_bytes(body: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = get_len(body)?;
    if len > body.len() {
        return Err(CUT);
    }
    Ok(body.split_to(len))
}

fn get_len(body: &mut Bytes) -> Result<usize, DecodeError> {
    usize::try_from(get_varint(body)?).map_err(|_| BAD)
}

fn get_u8(body: &mut Bytes) -> Result<u8, DecodeError> {
    body.try_get_u8().map_err(|_| CUT)
}

fn get_u64(body: &mut Bytes) -> Result<u64, DecodeError> {
    body.try_get_u64().map_err(|_| CUT)
}
