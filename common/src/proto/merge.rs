//! Between the leaders of two neighbouring ranges that become one (`docs/split-merge.md`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{RangeId, StoreId};

/// Asks whoever leads the range left of `start` to take over the range that begins there.
///
/// Idempotent: a range that holds `start` already has taken it over, and says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absorb {
    /// The range that ends.
    pub source: RangeId,
    /// Its bounds version, that of the freeze: whoever holds `start` under a larger one has taken it over.
    pub bounds: u64,
    /// Its first key; never empty.
    pub start: Bytes,
    /// The stores that hold its replicas, ascending; the target must lie on just these.
    pub stores: Vec<StoreId>,
    /// The entry of the source's log that froze it. None only asks whether it could be done: the answer is that of a
    /// leader whose majority answers.
    pub frozen: Option<u64>,
}
