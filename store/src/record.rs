//! A record: what is stored under a user key.
//!
//! ```text
//! format version u8 = 1 | flags u8 | revision u64 | expiry u64, if flag 0 | value, to the end
//! ```
//!
//! The expiry is milliseconds since the Unix epoch. An expired record is absent to every reader although it is still
//! stored; it goes when it is overwritten or deleted.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::proto::kv;
use holdfast_common::revision::Revision;

use crate::damage::Damage;

const VERSION: u8 = 1;
const HAS_EXPIRY: u8 = 0b1;
const WHAT: &str = "record";

/// Longest header, bytes.
pub const MAX_HEADER_BYTES: usize = 18;

/// What precedes the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// When it was written.
    pub revision: Revision,
    /// Milliseconds since the Unix epoch at which it ceases to exist; 0 for never.
    pub expires_ms: u64,
}

impl Header {
    /// Whether the record has ceased to exist at `now_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms
    }

    /// Appends the header to `buffer`; the value follows.
    pub fn put(&self, buffer: &mut BytesMut) {
        buffer.put_u8(VERSION);
        buffer.put_u8(if self.expires_ms == 0 { 0 } else { HAS_EXPIRY });
        buffer.put_u64_le(self.revision.0);
        if self.expires_ms != 0 {
            buffer.put_u64_le(self.expires_ms);
        }
    }

    /// Reads the header of a stored record; with it comes the length of the header.
    pub fn read(stored: &[u8]) -> Result<(Self, usize), Damage> {
        let (&[version, flags], rest) = stored
            .split_first_chunk()
            .ok_or_else(|| Damage::truncated(WHAT))?;
        if version != VERSION || flags & !HAS_EXPIRY != 0 {
            return Err(Damage::new(WHAT, format!("version {version}, flags {flags:#x}")));
        }
        let (revision, rest) = rest.split_first_chunk().ok_or_else(|| Damage::truncated(WHAT))?;
        let revision = Revision(u64::from_le_bytes(*revision));
        if flags & HAS_EXPIRY == 0 {
            return Ok((
                Self {
                    revision,
                    expires_ms: 0,
                },
                10,
            ));
        }
        let (expiry, _) = rest.split_first_chunk().ok_or_else(|| Damage::truncated(WHAT))?;
        Ok((
            Self {
                revision,
                expires_ms: u64::from_le_bytes(*expiry),
            },
            MAX_HEADER_BYTES,
        ))
    }
}

/// Reads a stored record; the value shares its memory.
pub fn decode(stored: &Bytes) -> Result<kv::Record, Damage> {
    let (header, length) = Header::read(stored)?;
    Ok(kv::Record {
        revision: header.revision,
        expires_ms: header.expires_ms,
        value: stored.slice(length..),
    })
}

/// The record unless it has expired at `now_ms`: what a reader sees.
pub fn decode_live(stored: &Bytes, now_ms: u64) -> Result<Option<kv::Record>, Damage> {
    let (header, length) = Header::read(stored)?;
    if header.is_expired(now_ms) {
        return Ok(None);
    }
    Ok(Some(kv::Record {
        revision: header.revision,
        expires_ms: header.expires_ms,
        value: stored.slice(length..),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(revision: u64, expires_ms: u64, value: &[u8]) -> Bytes {
        let mut buffer = BytesMut::new();
        Header {
            revision: Revision(revision),
            expires_ms,
        }
        .put(&mut buffer);
        buffer.put_slice(value);
        buffer.freeze()
    }

    #[test]
    fn records_read_back() {
        for (expires_ms, value) in [(0, &b""[..]), (0, b"v"), (77, b"v"), (u64::MAX, b"")] {
            let record = decode(&stored(u64::MAX, expires_ms, value)).unwrap();
            assert_eq!(
                (record.revision.0, record.expires_ms, &record.value[..]),
                (u64::MAX, expires_ms, value)
            );
        }
    }

    #[test]
    fn a_record_ceases_at_its_expiry() {
        let record = stored(1, 1_000, b"v");
        assert!(decode_live(&record, 999).unwrap().is_some());
        assert!(decode_live(&record, 1_000).unwrap().is_none());
        assert!(decode_live(&stored(1, 0, b"v"), u64::MAX).unwrap().is_some());
    }

    #[test]
    fn damage_is_an_error() {
        let whole = stored(1, 1_000, b"");
        for cut in 0..whole.len() {
            assert!(decode(&whole.slice(..cut)).is_err(), "cut to {cut}");
        }
        assert!(decode(&Bytes::from_static(&[2; 20])).is_err());
        assert!(decode(&Bytes::from_static(&[1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0])).is_err());
    }
}
