//! The table of on-disk keys: what lives where in the `data` keyspace.
//!
//! | tag | rest of the key | value |
//! |---|---|---|
//! | `0x01` | range id (8 bytes, big endian) | [`RangeRow`](crate::row): where a replica stands |
//! | `0x02` | user key | [record](crate::record): header and value |
//! | `0x03` | range id, log index (8 + 8 bytes, big endian) | [outcomes](crate::sessions) of that entry's writes |
//! | `0x04` | user key, escaped; token | [what a client's name for a write stands for](crate::tokens) |
//!
//! (Tag `0x00` is left to the engine, which seals its batches with a row of its own.)
//!
//! Records and tokens carry no range id: all ranges share one ordered key space, so a split moves no data. Tags are stable
//! for the life of the format (`docs/disk-format.md`).

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::ids::RangeId;
use holdfast_common::key::Span;

/// Tag of range rows.
pub const RANGE: u8 = 0x01;
/// Tag of records.
pub const RECORD: u8 = 0x02;
/// Tag of outcome rows.
pub const OUTCOMES: u8 = 0x03;

/// Tag of tokens.
pub const TOKEN: u8 = 0x04;

/// Length of a range row's key.
pub const RANGE_KEY_BYTES: usize = 9;
/// Length of an outcome row's key.
pub const OUTCOMES_KEY_BYTES: usize = 17;

/// A half-open interval of stored keys, `[start, end)`; unlike a span of user keys its end is never "the end of all".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The first key.
    pub start: Bytes,
    /// Behind the last key.
    pub end: Bytes,
}

impl Interval {
    /// Whether `key` lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        *key >= *self.start && *key < *self.end
    }
}

/// The key of a range's row.
pub fn range_row(range: RangeId) -> [u8; RANGE_KEY_BYTES] {
    let mut key = [RANGE; RANGE_KEY_BYTES];
    key[1..].copy_from_slice(&range.0.to_be_bytes());
    key
}

/// The range whose row is stored under `key`, if it is the key of a range row.
pub fn range_of_row(key: &[u8]) -> Option<RangeId> {
    let (&tag, rest) = key.split_first()?;
    let id = <[u8; 8]>::try_from(rest).ok()?;
    (tag == RANGE).then(|| RangeId(u64::from_be_bytes(id)))
}

/// Every range row.
pub fn all_range_rows() -> Interval {
    Interval {
        start: Bytes::from_static(&[RANGE]),
        end: Bytes::from_static(&[RANGE + 1]),
    }
}

/// One range's row, as an interval.
pub fn range_row_interval(range: RangeId) -> Interval {
    let start = Bytes::copy_from_slice(&range_row(range));
    let end = successor(&start);
    Interval { start, end }
}

/// Appends the key of a record to `buffer`.
pub fn put_record(buffer: &mut BytesMut, user_key: &[u8]) {
    buffer.put_u8(RECORD);
    buffer.put_slice(user_key);
}

/// The user key of a record's key, sharing its memory; none when it is not the key of a record.
pub fn user_key(key: &Bytes) -> Option<Bytes> {
    (key.first() == Some(&RECORD)).then(|| key.slice(1..))
}

/// The key under which the record of `user_key` is stored. Where it is needed for a moment only, see [`RecordKey`].
pub fn record(user_key: &[u8]) -> Bytes {
    tagged(RECORD, user_key)
}

/// Where the records of `span` lie.
pub fn records(span: &Span) -> Interval {
    let end = match span.end() {
        end if end.is_empty() => Bytes::from_static(&[RECORD + 1]),
        end => tagged(RECORD, end),
    };
    Interval {
        start: tagged(RECORD, span.start()),
        end,
    }
}

/// The key of the outcomes of the entry at `index`.
pub fn outcomes(range: RangeId, index: u64) -> [u8; OUTCOMES_KEY_BYTES] {
    let mut key = [OUTCOMES; OUTCOMES_KEY_BYTES];
    key[1..9].copy_from_slice(&range.0.to_be_bytes());
    key[9..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The log index in the key of an outcome row.
pub fn index_of_outcomes(key: &[u8]) -> Option<u64> {
    if key.len() != OUTCOMES_KEY_BYTES || key[0] != OUTCOMES {
        return None;
    }
    <[u8; 8]>::try_from(&key[9..]).ok().map(u64::from_be_bytes)
}

/// Every outcome row of a range.
pub fn all_outcomes(range: RangeId) -> Interval {
    Interval {
        start: Bytes::copy_from_slice(&outcomes(range, 0)),
        end: successor(&outcomes(range, u64::MAX)),
    }
}

/// The key of a client's name for a write of `user_key`. A zero byte of the user key is followed by `0xff`, and its end is
/// marked by `0x00 0x01`, so that these keys have the order of the user keys, whatever the tokens.
pub fn token(user_key: &[u8], token: &[u8]) -> Bytes {
    let mut key = escaped(user_key, 2 + token.len());
    key.extend_from_slice(&[0x00, 0x01]);
    key.extend_from_slice(token);
    Bytes::from(key)
}

/// The user key and the token in the key of a token's row.
pub fn token_of_row(key: &[u8]) -> Option<(Bytes, Bytes)> {
    let mut rest = key.strip_prefix(&[TOKEN])?;
    let mut user_key = Vec::with_capacity(rest.len());
    loop {
        let zero = rest.iter().position(|byte| *byte == 0)?;
        user_key.extend_from_slice(&rest[..zero]);
        match rest.get(zero + 1)? {
            0xff => user_key.push(0),
            0x01 => return Some((user_key.into(), Bytes::copy_from_slice(&rest[zero + 2..]))),
            _ => return None,
        }
        rest = &rest[zero + 2..];
    }
}

/// Where the tokens of the keys of `span` lie.
pub fn tokens(span: &Span) -> Interval {
    let end = match span.end() {
        end if end.is_empty() => Bytes::from_static(&[TOKEN + 1]),
        end => escaped(end, 0).into(),
    };
    Interval {
        start: escaped(span.start(), 0).into(),
        end,
    }
}

fn escaped(user_key: &[u8], more: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + user_key.len() + more);
    key.push(TOKEN);
    for byte in user_key {
        key.push(*byte);
        if *byte == 0 {
            key.push(0xff);
        }
    }
    key
}

/// The smallest key behind `key`.
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

fn tagged(tag: u8, rest: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    Bytes::from(key)
}

/// The key of a record for a point read, on the stack unless it is long.
pub struct RecordKey {
    inline: [u8; Self::INLINE],
    len: usize,
    long: Vec<u8>,
}

impl RecordKey {
    const INLINE: usize = 128;

    /// The key under which the record of `user_key` is stored.
    pub fn new(user_key: &[u8]) -> Self {
        let len = 1 + user_key.len();
        let (mut inline, mut long) = ([0; Self::INLINE], Vec::new());
        if len <= Self::INLINE {
            inline[0] = RECORD;
            inline[1..len].copy_from_slice(user_key);
        } else {
            long = Vec::with_capacity(len);
            long.push(RECORD);
            long.extend_from_slice(user_key);
        }
        Self { inline, len, long }
    }
}

impl AsRef<[u8]> for RecordKey {
    fn as_ref(&self) -> &[u8] {
        if self.long.is_empty() {
            &self.inline[..self.len]
        } else {
            &self.long
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_rows_never_mix() {
        let records = records(&Span::everything());
        for key in [&range_row(RangeId(u64::MAX))[..], &outcomes(RangeId(0), 0)[..]] {
            assert!(!records.contains(key));
        }
        assert!(records.contains(RecordKey::new(&[0xff; 4096]).as_ref()));
        assert!(all_outcomes(RangeId(7)).contains(&outcomes(RangeId(7), u64::MAX)));
        assert!(!all_outcomes(RangeId(7)).contains(&outcomes(RangeId(8), 0)));
        assert!(!range_row_interval(RangeId(7)).contains(&range_row(RangeId(8))));
    }

    #[test]
    fn keys_read_back() {
        assert_eq!(range_of_row(&range_row(RangeId(9))), Some(RangeId(9)));
        assert_eq!(range_of_row(&outcomes(RangeId(9), 1)), None);
        assert_eq!(index_of_outcomes(&outcomes(RangeId(9), 77)), Some(77));
        for length in [1, 127, 128, 129, 4096] {
            let user = vec![b'k'; length];
            let mut buffer = BytesMut::new();
            put_record(&mut buffer, &user);
            assert_eq!(&buffer[..], RecordKey::new(&user).as_ref());
            assert_eq!(user_key(&buffer.freeze()).as_deref(), Some(&user[..]));
        }
    }

    #[test]
    fn tokens_read_back_and_lie_in_the_order_of_their_keys() {
        let users: [&[u8]; 8] = [b"\0", b"\0\0", b"\0\x01", b"\0\xff", b"a", b"a\0", b"a\0b", b"b"];
        let mut rows = Vec::new();
        for user in users {
            for name in [&b"\0"[..], b"x", b"\xff\0\x01"] {
                let row = token(user, name);
                let (key, found) = token_of_row(&row).expect("a token");
                assert_eq!((&key[..], &found[..]), (user, name));
                rows.push((user, row));
            }
        }
        for (user, row) in &rows {
            for start in users {
                let span = Span::new(start, "").unwrap();
                assert_eq!(
                    tokens(&span).contains(row),
                    *user >= start,
                    "{user:?} from {start:?}"
                );
                let span = Span::new("", start).unwrap();
                assert_eq!(
                    tokens(&span).contains(row),
                    *user < start,
                    "{user:?} before {start:?}"
                );
            }
        }
        for damaged in [&b"\x04a"[..], b"\x04a\0", b"\x04a\0\x02", b"\x02a\0\x01"] {
            assert_eq!(token_of_row(damaged), None);
        }
    }

    #[test]
    fn the_interval_of_a_span_holds_exactly_its_keys() {
        let span = Span::new("b", "d").unwrap();
        let interval = records(&span);
        for (key, inside) in [("a", false), ("b", true), ("c\u{7f}", true), ("d", false)] {
            assert_eq!(
                interval.contains(RecordKey::new(key.as_bytes()).as_ref()),
                inside,
                "{key}"
            );
        }
    }
}
