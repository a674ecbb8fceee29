//! The framing of one batch.

use std::io;

use xxhash_rust::xxh3::Xxh3;

use super::cursor::Cursor;
use super::seal::{SEAL_KEY, Seal};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: [u8; 4] = *b"FJL\x03";

/// Bytes of an item before its key.
const ITEM_HEADER_BYTES: usize = 21;
/// The least that an item takes, its tag included.
const MIN_ITEM_BYTES: u64 = 9;
/// The highest bit is fjall's own; the one below it keeps a flipped bit from exhausting the counter.
const MAX_SEQNO: u64 = 1 << 62;

/// A batch that reads back.
pub(super) struct Batch {
    /// Where the next one begins.
    pub(super) end: u64,
    pub(super) seqno: u64,
    pub(super) seal: Option<Seal>,
}

/// Why there is no whole batch at a position.
#[derive(Debug)]
pub(super) enum Flaw {
    Broken(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the batch at the cursor and verifies its checksum.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Batch, Flaw> {
    let (count, seqno) = read_start(cursor)?;
    let mut hasher = Xxh3::new();
    let mut seal = None;
    for _ in 0..count {
        let [tag] = take(cursor)?;
        hasher.update(&[tag]);
        match tag {
            ITEM => seal = read_item(cursor, &mut hasher)?.or(seal),
            CLEAR => hasher.update(&take::<8>(cursor)?),
            _ => return Err(Flaw::Broken("a batch has fewer items than it announces")),
        }
    }
    read_end(cursor, hasher.digest())?;
    Ok(Batch {
        end: cursor.position(),
        seqno,
        seal,
    })
}

/// Whether the bytes at the cursor look like the start of a batch, judged by its first bytes alone.
pub(super) fn may_start(cursor: &mut Cursor<'_>) -> io::Result<bool> {
    match read_start(cursor).and_then(|_| take::<3>(cursor)) {
        Ok([ITEM, value_type, compression]) => Ok(is_item(value_type, compression)),
        Ok([tag, ..]) => Ok(tag == CLEAR),
        Err(Flaw::Broken(_)) => Ok(false),
        Err(Flaw::Io(error)) => Err(error),
    }
}

fn read_start(cursor: &mut Cursor<'_>) -> Result<(u32, u64), Flaw> {
    let [tag] = take(cursor)?;
    if tag != START {
        return Err(Flaw::Broken("no batch begins here"));
    }
    let count = u32::from_le_bytes(take(cursor)?);
    let seqno = u64::from_le_bytes(take(cursor)?);
    if count == 0 || u64::from(count) > cursor.remaining() / MIN_ITEM_BYTES {
        return Err(Flaw::Broken(
            "a batch announces more items than there is room for",
        ));
    }
    if seqno >= MAX_SEQNO {
        return Err(Flaw::Broken("a sequence number is out of range"));
    }
    Ok((count, seqno))
}

/// Reads the rest of an item into the checksum, and the seal if it is one.
fn read_item(cursor: &mut Cursor<'_>, hasher: &mut Xxh3) -> Result<Option<Seal>, Flaw> {
    let header: [u8; ITEM_HEADER_BYTES - 1] = take(cursor)?;
    hasher.update(&header);
    let [value_type, compression, ..] = header;
    let key_bytes = u64::from(u16::from_le_bytes([header[10], header[11]]));
    let value_bytes = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    let stored_bytes = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
    if !is_item(value_type, compression) || (compression == 0 && value_bytes != stored_bytes) {
        return Err(Flaw::Broken("an item's header makes no sense"));
    }
    if key_bytes == SEAL_KEY.len() as u64 && stored_bytes as usize == Seal::BYTES {
        return read_seal_sized_item(cursor, hasher);
    }
    let whole = cursor.stream(key_bytes + u64::from(stored_bytes), |part| hasher.update(part))?;
    if whole { Ok(None) } else { Err(CUT) }
}

fn read_seal_sized_item(cursor: &mut Cursor<'_>, hasher: &mut Xxh3) -> Result<Option<Seal>, Flaw> {
    let key: [u8; SEAL_KEY.len()] = take(cursor)?;
    let value: [u8; Seal::BYTES] = take(cursor)?;
    hasher.update(&key);
    hasher.update(&value);
    Ok(if key == SEAL_KEY {
        Seal::decode(&value)
    } else {
        None
    })
}

fn read_end(cursor: &mut Cursor<'_>, checksum: u64) -> Result<(), Flaw> {
    let [tag] = take(cursor)?;
    if tag != END {
        return Err(Flaw::Broken("a batch has more items than it announces"));
    }
    if u64::from_le_bytes(take(cursor)?) != checksum {
        return Err(Flaw::Broken("a batch's checksum does not match"));
    }
    if take(cursor)? != MAGIC {
        return Err(Flaw::Broken("a batch's trailer does not match"));
    }
    Ok(())
}

/// Values and the two kinds of tombstone; plain or compressed.
fn is_item(value_type: u8, compression: u8) -> bool {
    value_type <= 2 && compression <= 1
}

const CUT: Flaw = Flaw::Broken("the file ends inside a batch");

fn take<const N: usize>(cursor: &mut Cursor<'_>) -> Result<[u8; N], Flaw> {
    cursor.take()?.ok_or(CUT)
}
