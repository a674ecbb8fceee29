//! The snapshot file.
//!
//! ```text
//! magic "HOLDSNAP" | format version u32 = 1
//! block*:  length u32 | kind u8 | checksum u64 | payload
//!   kind 1, header (first, once):  range u64 | range row
//!   kind 2, rows:                  (key u16 + bytes, value u32 + bytes)*, stored keys in ascending order:
//!                                  records, then outcome rows, then token rows
//!   kind 3, end (last, once):      rows u64 | bytes of keys and values u64
//! ```
//!
//! The checksum is XXH3 (64 bits) of the payload, seeded with the block's number and kind, so that a block lost, repeated
//! or moved is as plain as a flipped bit; a file without its end block is a cut one. A block holds about
//! [`BLOCK_BYTES`], or one larger row, and reading holds one block in memory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::ids::RangeId;
use holdfast_common::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::codec::{self, put_long, put_short};
use crate::damage::Damage;
use crate::row::RangeRow;

const MAGIC: &[u8; 8] = b"HOLDSNAP";
const VERSION: u32 = 1;
const WHAT: &str = "snapshot";

const HEADER: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;

/// Size that blocks of rows are filled to, bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// Largest block: a full one and the largest row on top.
const MAX_BLOCK_BYTES: usize = BLOCK_BYTES + MAX_KEY_BYTES + MAX_VALUE_BYTES + (1 << 20);

/// A stored key and its value.
pub type Row = (Bytes, Bytes);

/// Why a snapshot can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("snapshot file: {0}")]
    Io(#[from] io::Error),
    /// Its content.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            Error::Damaged(damage) => damage.into(),
        }
    }
}

/// What the first block says.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The range.
    pub range: RangeId,
    /// The range row of the replica that wrote the snapshot: position, membership, bounds, sessions.
    pub row: RangeRow,
}

/// What the last block says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows in the file.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Writes a snapshot file.
pub struct Writer {
    file: BufWriter<File>,
    block: BytesMut,
    blocks: u64,
    totals: Totals,
    length: u64,
}

impl Writer {
    /// Creates the file, which must not exist, and writes the header.
    pub fn create(path: &Path, range: RangeId, range_row: &[u8]) -> Result<Self, Error> {
        let file = BufWriter::with_capacity(256 << 10, File::create_new(path)?);
        let block = BytesMut::with_capacity(BLOCK_BYTES + 4096);
        let mut writer = Self {
            file,
            block,
            blocks: 0,
            totals: Totals::default(),
            length: 12,
        };
        writer.file.write_all(MAGIC)?;
        writer.file.write_all(&VERSION.to_le_bytes())?;
        writer.block.put_u64_le(range.0);
        writer.block.put_slice(range_row);
        writer.end_block(HEADER)?;
        Ok(writer)
    }

    /// Appends a row; rows come in ascending order of their keys.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        put_short(&mut self.block, key);
        put_long(&mut self.block, value);
        self.totals.rows += 1;
        self.totals.bytes += (key.len() + value.len()) as u64;
        if self.block.len() >= BLOCK_BYTES {
            self.end_block(ROWS)
        } else {
            Ok(())
        }
    }

    /// Writes what is left and syncs the file. Returns its length in bytes.
    pub fn finish(mut self) -> Result<u64, Error> {
        if !self.block.is_empty() {
            self.end_block(ROWS)?;
        }
        self.block.put_u64_le(self.totals.rows);
        self.block.put_u64_le(self.totals.bytes);
        self.end_block(END)?;
        let file = self
            .file
            .into_inner()
            .map_err(|error| Error::Io(error.into_error()))?;
        file.sync_all()?;
        Ok(self.length)
    }

    fn end_block(&mut self, kind: u8) -> Result<(), Error> {
        let payload = &self.block[..];
        self.file.write_all(&(payload.len() as u32).to_le_bytes())?;
        self.file.write_all(&[kind])?;
        self.file
            .write_all(&checksum(self.blocks, kind, payload).to_le_bytes())?;
        self.file.write_all(payload)?;
        self.length += 13 + payload.len() as u64;
        self.blocks += 1;
        self.block.clear();
        Ok(())
    }
}

/// Reads a snapshot file, a block at a time. As an iterator it gives the rows, and after an error nothing more.
pub struct Reader {
    file: BufReader<File>,
    blocks: u64,
    block: codec::Reader,
    seen: Totals,
    last_key: Bytes,
    done: bool,
}

impl Reader {
    /// Opens the file and reads its header.
    pub fn open(path: &Path) -> Result<(Header, Self), Error> {
        let file = BufReader::with_capacity(256 << 10, File::open(path)?);
        let block = codec::Reader::new(Bytes::new(), WHAT);
        let (seen, last_key) = (Totals::default(), Bytes::new());
        let mut reader = Self {
            file,
            blocks: 0,
            block,
            seen,
            last_key,
            done: false,
        };
        let mut start = [0; 12];
        read_exact(&mut reader.file, &mut start)?;
        if start[..8] != *MAGIC || start[8..] != VERSION.to_le_bytes() {
            return Err(Damage::new(WHAT, "not a snapshot of a version that this build reads").into());
        }
        let header = reader.read_header()?;
        Ok((header, reader))
    }

    fn read_header(&mut self) -> Result<Header, Error> {
        let (HEADER, payload) = self.read_block()? else {
            return Err(Damage::new(WHAT, "it does not begin with its header").into());
        };
        let mut reader = codec::Reader::new(payload.clone(), WHAT);
        let range = RangeId(reader.u64()?);
        Ok(Header {
            range,
            row: RangeRow::decode(payload.slice(8..))?,
        })
    }

    fn read_block(&mut self) -> Result<(u8, Bytes), Error> {
        let mut head = [0; 13];
        read_exact(&mut self.file, &mut head)?;
        let [l0, l1, l2, l3, kind, sum @ ..] = head;
        let (length, sum) = (
            u32::from_le_bytes([l0, l1, l2, l3]) as usize,
            u64::from_le_bytes(sum),
        );
        if length > MAX_BLOCK_BYTES {
            return Err(Damage::new(WHAT, format!("a block of {length} bytes")).into());
        }
        // The length is but a claim, and nothing is made ready for more than there is.
        let mut payload = Vec::with_capacity(length.min(BLOCK_BYTES));
        self.file.by_ref().take(length as u64).read_to_end(&mut payload)?;
        if payload.len() < length {
            return Err(Damage::truncated(WHAT).into());
        }
        if checksum(self.blocks, kind, &payload) != sum {
            return Err(Damage::new(WHAT, format!("block {} fails its checksum", self.blocks)).into());
        }
        self.blocks += 1;
        Ok((kind, Bytes::from(payload)))
    }

    fn read_row(&mut self) -> Result<Option<Row>, Error> {
        while self.block.is_empty() {
            match self.read_block()? {
                (ROWS, payload) => self.block = codec::Reader::new(payload, WHAT),
                (END, payload) => return self.read_end(payload).map(|()| None),
                (kind, _) => return Err(Damage::new(WHAT, format!("a block of kind {kind}")).into()),
            }
        }
        let (key, value) = (self.block.short()?, self.block.long()?);
        if key <= self.last_key {
            return Err(Damage::new(WHAT, "its rows are not ascending").into());
        }
        self.last_key = key.clone();
        self.seen.rows += 1;
        self.seen.bytes += (key.len() + value.len()) as u64;
        Ok(Some((key, value)))
    }

    fn read_end(&mut self, payload: Bytes) -> Result<(), Error> {
        let mut reader = codec::Reader::new(payload, WHAT);
        let totals = Totals {
            rows: reader.u64()?,
            bytes: reader.u64()?,
        };
        reader.end()?;
        if totals != self.seen {
            return Err(Damage::new(WHAT, "its totals are not those of its rows").into());
        }
        if self.file.read(&mut [0])? != 0 {
            return Err(Damage::new(WHAT, "bytes follow its end").into());
        }
        Ok(())
    }
}

impl Iterator for Reader {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let row = self.read_row().transpose();
        self.done = !matches!(row, Some(Ok(_)));
        row
    }
}

/// Reads the header alone: enough to decide whether the snapshot fits on this store.
pub fn read_header(path: &Path) -> Result<Header, Error> {
    Reader::open(path).map(|(header, _)| header)
}

/// Reads all of a file and checks it. Blocks: call it where blocking is allowed.
pub fn verify(path: &Path) -> Result<(Header, Totals), Error> {
    let (header, mut reader) = Reader::open(path)?;
    for row in &mut reader {
        row?;
    }
    Ok((header, reader.seen))
}

fn checksum(number: u64, kind: u8, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, (number << 8) | u64::from(kind))
}

fn read_exact(file: &mut impl Read, buffer: &mut [u8]) -> Result<(), Error> {
    file.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Damage::truncated(WHAT).into(),
        _ => error.into(),
    })
}

#[cfg(test)]
#[path = "format_test.rs"]
mod tests;
