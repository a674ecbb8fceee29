//! What a store reads back of its own small records, beside what other modules decode in public. For those who make up records to see
//! whether one of them does harm (`fuzz/`).

use bytes::Bytes;
use holdfast_common::key::Span;

use crate::damage::Damage;
pub use crate::identity::is_identity;
use crate::ledger::{self, Succession};

/// The span that a replica held which is being destroyed, if it held one.
///
/// # Errors
/// The record is damaged.
pub fn intent_to_destroy(record: Bytes) -> Result<Option<Span>, Damage> {
    ledger::read_span(record)
}

/// Which replica takes the place of which.
///
/// # Errors
/// The record is damaged.
pub fn intent_to_recover(record: Bytes) -> Result<Succession, Damage> {
    ledger::read_succession(record)
}
