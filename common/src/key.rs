//! User keys and spans of them.
//!
//! A [`Key`] is 1 to [`MAX_KEY_BYTES`] arbitrary bytes, ordered bytewise. Bounds of ranges and scans are wider: the empty
//! string is the start of the key space as a start and the end of it as an end, so bounds are plain [`Bytes`] inside a
//! [`Span`], which never lets the two meanings mix.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_KEY_BYTES;

/// Why bytes are not a key or a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A key has at least one byte.
    #[error("the key is empty; a key has 1 to {MAX_KEY_BYTES} bytes")]
    Empty,
    /// A key has at most [`MAX_KEY_BYTES`].
    #[error("the key has {0} bytes; a key has 1 to {MAX_KEY_BYTES} bytes")]
    TooLong(usize),
    /// The start of a span lies before its end.
    #[error("the start of the span is not before its end")]
    EmptySpan,
    /// A bound of a span has at most [`MAX_BOUND_BYTES`].
    #[error("a bound of {0} bytes; a bound has at most {MAX_BOUND_BYTES}")]
    BoundTooLong(usize),
}

/// A user key: 1 to [`MAX_KEY_BYTES`] arbitrary bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct Key(Bytes);

impl Key {
    /// Checks the length and takes the bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, Error> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(Error::Empty),
            n if n > MAX_KEY_BYTES => Err(Error::TooLong(n)),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, without the promise.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl TryFrom<Bytes> for Key {
    type Error = Error;

    fn try_from(bytes: Bytes) -> Result<Self, Error> {
        Self::new(bytes)
    }
}

impl From<Key> for Bytes {
    fn from(key: Key) -> Bytes {
        key.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", Printable(&self.0))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(&self.0).fmt(f)
    }
}

/// Shows bytes as ASCII where they are, escaped where they are not, cut after 64 bytes: for logs and errors.
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(64)];
        write!(f, "{}", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            f.write_str("…")
        } else {
            Ok(())
        }
    }
}

/// Longest bound of a span: the place right behind the longest key takes one byte more than that.
pub const MAX_BOUND_BYTES: usize = MAX_KEY_BYTES + 1;

/// A half-open span `[start, end)` of the key space. An empty `start` is its beginning, an empty `end` its end.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bounds")]
pub struct Span {
    start: Bytes,
    end: Bytes,
}

/// A span as it comes from outside: nothing of it is known to hold. What walks the keys between bounds that are the wrong way
/// round panics.
#[derive(Deserialize)]
struct Bounds {
    start: Bytes,
    end: Bytes,
}

impl TryFrom<Bounds> for Span {
    type Error = Error;

    fn try_from(Bounds { start, end }: Bounds) -> Result<Self, Error> {
        match start.len().max(end.len()) {
            0..=MAX_BOUND_BYTES => Self::new(start, end),
            longest => Err(Error::BoundTooLong(longest)),
        }
    }
}

impl Span {
    /// The span `[start, end)`; refused when nothing lies in it.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Result<Self, Error> {
        let (start, end) = (start.into(), end.into());
        if !end.is_empty() && start >= end {
            return Err(Error::EmptySpan);
        }
        Ok(Self { start, end })
    }

    /// The whole key space.
    pub fn everything() -> Self {
        Self {
            start: Bytes::new(),
            end: Bytes::new(),
        }
    }

    /// Every key that begins with `prefix`; an empty prefix is everything.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self { start, end }
    }

    /// Where it begins, inclusive; empty for the beginning of the key space.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// Where it ends, exclusive; empty for the end of the key space.
    pub fn end(&self) -> &Bytes {
        &self.end
    }

    /// Whether `key` lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    /// Whether all of `other` lies in it.
    pub fn covers(&self, other: &Span) -> bool {
        self.start <= other.start && ends_no_later(&other.end, &self.end)
    }

    /// What both have in common, if anything.
    pub fn intersection(&self, other: &Span) -> Option<Span> {
        let start = (&self.start).max(&other.start).clone();
        let end = if ends_no_later(&self.end, &other.end) {
            &self.end
        } else {
            &other.end
        }
        .clone();
        Span::new(start, end).ok()
    }

    /// Whether the two share a key.
    pub fn overlaps(&self, other: &Span) -> bool {
        self.intersection(other).is_some()
    }

    /// Cuts it at `key`, which must lie strictly inside.
    pub fn split_at(&self, key: &Key) -> Option<(Span, Span)> {
        let at = key.as_bytes();
        if !self.contains(at) || *at == self.start {
            return None;
        }
        Some((
            Span {
                start: self.start.clone(),
                end: at.clone(),
            },
            Span {
                start: at.clone(),
                end: self.end.clone(),
            },
        ))
    }

    /// Both spans as one, if `right` begins where this one ends.
    pub fn join(&self, right: &Span) -> Option<Span> {
        let touch = !self.end.is_empty() && self.end == right.start;
        touch.then(|| Span {
            start: self.start.clone(),
            end: right.end.clone(),
        })
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({self})")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end: &dyn fmt::Display = if self.end.is_empty() {
            &"∞"
        } else {
            &Printable(&self.end)
        };
        write!(f, "[{}, {})", Printable(&self.start), end)
    }
}

/// Whether the end bound `a` is at or before the end bound `b`, where empty is after all.
fn ends_no_later(a: &[u8], b: &[u8]) -> bool {
    b.is_empty() || (!a.is_empty() && a <= b)
}

/// The smallest bound after every key that begins with `prefix`; empty when there is none.
fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte != 0xff) {
        None => Bytes::new(),
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &str, end: &str) -> Span {
        Span::new(start.to_owned(), end.to_owned()).unwrap()
    }

    #[test]
    fn keys_have_one_to_4096_bytes() {
        assert_eq!(Key::new(""), Err(Error::Empty));
        assert!(Key::new(vec![0u8; 4096]).is_ok());
        assert_eq!(Key::new(vec![0u8; 4097]), Err(Error::TooLong(4097)));
    }

    #[test]
    fn an_empty_end_is_after_everything() {
        assert!(Span::everything().contains(&[0xff; 10]));
        assert!(span("b", "").covers(&span("c", "")));
        assert!(!span("b", "z").covers(&span("c", "")));
        assert_eq!(span("b", "").intersection(&span("a", "c")), Some(span("b", "c")));
        assert_eq!(span("a", "b").intersection(&span("b", "c")), None);
        assert_eq!(Span::new("b", "b"), Err(Error::EmptySpan));
    }

    /// Bounds the wrong way round reached a tree's `range`, which panics on them.
    #[test]
    fn a_span_from_outside_is_one() {
        let read = |start: &[u8], end: &[u8]| {
            let sent = postcard::to_stdvec(&(Bytes::copy_from_slice(start), Bytes::copy_from_slice(end)));
            postcard::from_bytes::<Span>(&sent.unwrap()).ok()
        };
        assert_eq!(read(b"a", b"b"), Some(span("a", "b")));
        assert_eq!(read(b"b", b""), Some(span("b", "")));
        assert_eq!(read(b"b", b"a"), None);
        assert_eq!(read(b"b", b"b"), None);
        let longest = [b'k'; MAX_BOUND_BYTES + 1];
        assert!(read(&longest[1..], b"").is_some());
        assert_eq!(read(&longest, b""), None);
        assert_eq!(read(b"", &longest), None);
    }

    #[test]
    fn a_prefix_of_ff_reaches_to_the_end() {
        assert_eq!(Span::prefix(&b"a\xff"[..]).end(), &Bytes::from_static(b"b"));
        assert!(Span::prefix(&b"\xff\xff"[..]).end().is_empty());
        assert!(Span::prefix(Bytes::new()) == Span::everything());
    }

    #[test]
    fn a_span_is_cut_strictly_inside() {
        let (left, right) = span("a", "m").split_at(&Key::new("c").unwrap()).unwrap();
        assert_eq!((left, right), (span("a", "c"), span("c", "m")));
        assert!(span("a", "m").split_at(&Key::new("a").unwrap()).is_none());
        assert!(span("a", "m").split_at(&Key::new("m").unwrap()).is_none());
    }
}
