//! The row that ties a batch to its place in the journal.

/// The key of the row, in whichever keyspace its writer likes. No other row may use it.
pub const SEAL_KEY: &[u8] = b"\0seal";

/// The one version of the row so far.
const VERSION: u8 = 1;

/// How far fjall's counter may run ahead between a writer's look at it and the batch: its background work draws from the
/// same counter, a few numbers at a time.
const MAX_SEQNO_LEAD: u64 = 1 << 20;

/// What a batch says about itself, inside its checksum.
///
/// `commit` makes a missing batch visible, `durable` tells whether the missing one had been fsynced, and `floor` guards
/// the sequence number, by which fjall decides on recovery whether it already has a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The number of this batch: one more than the batch before it, over the life of the database.
    pub commit: u64,
    /// The last batch that was known to be on disk when this one was written.
    pub durable: u64,
    /// Fjall's next sequence number (`Database::seqno`) just before the batch was committed.
    pub floor: u64,
}

impl Seal {
    /// Length of the encoded row, in bytes.
    pub const BYTES: usize = 25;

    /// The row's value.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut row = [0; Self::BYTES];
        row[0] = VERSION;
        row[1..9].copy_from_slice(&self.commit.to_be_bytes());
        row[9..17].copy_from_slice(&self.durable.to_be_bytes());
        row[17..].copy_from_slice(&self.floor.to_be_bytes());
        row
    }

    /// The seal in a row's value, if there is one of a known version.
    pub fn decode(row: &[u8]) -> Option<Self> {
        let (&version, fields) = row.split_first()?;
        let (words, rest) = fields.as_chunks::<8>();
        match words {
            [commit, durable, floor] if version == VERSION && rest.is_empty() => Some(Self {
                commit: u64::from_be_bytes(*commit),
                durable: u64::from_be_bytes(*durable),
                floor: u64::from_be_bytes(*floor),
            }),
            _ => None,
        }
    }

    /// Whether a batch with this seal can bear the sequence number `seqno`.
    pub(super) fn admits(&self, seqno: u64) -> bool {
        seqno >= self.floor && seqno - self.floor < MAX_SEQNO_LEAD
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Seal;

    proptest! {
        #[test]
        fn reads_back(commit: u64, durable: u64, floor: u64) {
            let seal = Seal { commit, durable, floor };
            prop_assert_eq!(Seal::decode(&seal.encode()), Some(seal));
        }

        #[test]
        fn refuses_anything_else(row in prop::collection::vec(any::<u8>(), 0..40)) {
            let known = row.len() == Seal::BYTES && row[0] == 1;
            prop_assert_eq!(Seal::decode(&row).is_some(), known);
        }
    }
}
