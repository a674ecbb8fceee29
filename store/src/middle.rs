//! Where to cut a range: the key that halves its bytes.

use bytes::Bytes;
use holdfast_common::key::{Key, Span};

use crate::damage::Damage;
use crate::engine::{Error, View};
use crate::keys;

/// Most sample points held during the pass.
const MAX_SAMPLES: usize = 2048;

/// A cut, and what lies on both sides of it; sizes are bytes of keys and records, as [`crate::state::RangeState`] counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Middle {
    /// The first key of the right part.
    pub at: Key,
    /// Bytes left of it.
    pub left_size: u64,
    /// Rows left of it.
    pub left_keys: u64,
    /// Bytes right of it.
    pub right_size: u64,
    /// Rows right of it.
    pub right_keys: u64,
}

/// Finds the key that best halves the bytes of `span`, in one pass over its rows. None when it has fewer than two rows.
/// Reads all of the span: call it where blocking is allowed.
pub fn middle(view: &View, span: &Span) -> Result<Option<Middle>, Error> {
    let mut samples = Samples::default();
    let (mut size, mut keys) = (0, 0);
    for row in view.rows(&keys::records(span)) {
        let (user_key, length) = record_row(row?)?;
        samples.offer(&user_key, size, keys);
        size += length;
        keys += 1;
    }
    let best = samples
        .kept
        .into_iter()
        .min_by_key(|sample| sample.left_size.abs_diff(size / 2));
    Ok(best.map(
        |Sample {
             at,
             left_size,
             left_keys,
         }| Middle {
            at,
            left_size,
            left_keys,
            right_size: size - left_size,
            right_keys: keys - left_keys,
        },
    ))
}

/// What lies on both sides of `at`. None when `at` is not strictly inside the span. Reads all of the span.
pub fn sizes_at(view: &View, span: &Span, at: &Key) -> Result<Option<Middle>, Error> {
    let Some((left, right)) = span.split_at(at) else {
        return Ok(None);
    };
    let (left_size, left_keys) = total(view, &left)?;
    let (right_size, right_keys) = total(view, &right)?;
    Ok(Some(Middle {
        at: at.clone(),
        left_size,
        left_keys,
        right_size,
        right_keys,
    }))
}

fn total(view: &View, span: &Span) -> Result<(u64, u64), Error> {
    let (mut size, mut keys) = (0, 0);
    for row in view.rows(&keys::records(span)) {
        size += record_row(row?)?.1;
        keys += 1;
    }
    Ok((size, keys))
}

/// The user key and the size of a stored row.
fn record_row((stored, value): (Bytes, Bytes)) -> Result<(Key, u64), Error> {
    let user_key = keys::user_key(&stored).and_then(|key| Key::new(key).ok());
    let user_key = user_key.ok_or_else(|| Damage::new("record", "its key is none"))?;
    let size = (user_key.as_bytes().len() + value.len()) as u64;
    Ok((user_key, size))
}

/// Possible cuts, evenly spaced in bytes. When there are too many, every other one goes and the spacing doubles.
#[derive(Default)]
struct Samples {
    kept: Vec<Sample>,
    spacing: u64,
    next: u64,
}

struct Sample {
    at: Key,
    left_size: u64,
    left_keys: u64,
}

impl Samples {
    fn offer(&mut self, key: &Key, left_size: u64, left_keys: u64) {
        // A cut at the first key would leave nothing to its left.
        if left_keys == 0 || left_size < self.next {
            return;
        }
        self.kept.push(Sample {
            at: key.clone(),
            left_size,
            left_keys,
        });
        if self.kept.len() == MAX_SAMPLES {
            let mut keep = false;
            self.kept.retain(|_| {
                keep = !keep;
                keep
            });
            self.spacing = (2 * self.spacing).max(2 * left_size / MAX_SAMPLES as u64);
        }
        self.next = left_size + self.spacing;
    }
}
