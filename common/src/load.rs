//! How much work a range's requests are, as one number: what stores sample by and what the placement driver balances by.
//!
//! Work is counted in *units*: a read is one, a write is two (it is appended, replicated and applied), and so is every
//! 4 KiB read or written on top. A range's *load* is its units a second.

use serde::{Deserialize, Serialize};

/// Units of a read.
const READ_UNITS: u64 = 1;

/// Units of a write.
const WRITE_UNITS: u64 = 2;

/// Bytes that are worth a unit.
pub const UNIT_BYTES: u64 = 4 << 10;

/// Units of `reads` reads of `bytes` bytes together.
pub fn read_units(reads: u64, bytes: u64) -> u64 {
    reads * READ_UNITS + bytes / UNIT_BYTES
}

/// Units of `writes` writes of `bytes` bytes together.
pub fn write_units(writes: u64, bytes: u64) -> u64 {
    writes * WRITE_UNITS + bytes / UNIT_BYTES
}

/// What is asked of a range, or of a store, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Reads; a page of a scan is one.
    pub reads: f64,
    /// Writes.
    pub writes: f64,
    /// Bytes of keys and values that reads were answered with.
    pub read_bytes: f64,
    /// Bytes of keys and values written.
    pub written_bytes: f64,
}

impl Load {
    /// Reads and writes a second.
    pub fn operations(&self) -> f64 {
        self.reads + self.writes
    }

    /// Bytes a second, both ways.
    pub fn bytes(&self) -> f64 {
        self.read_bytes + self.written_bytes
    }

    /// Units a second.
    pub fn units(&self) -> f64 {
        self.reads * READ_UNITS as f64 + self.writes * WRITE_UNITS as f64 + self.bytes() / UNIT_BYTES as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_requests_weighs_what_they_weigh() {
        let load = Load {
            reads: 10.0,
            writes: 5.0,
            read_bytes: 40_960.0,
            written_bytes: 4_096.0,
        };
        let counted = read_units(10, 40_960) + write_units(5, 4_096);
        assert_eq!((load.units(), counted), (31.0, 31));
        assert_eq!(load.operations(), 15.0);
    }
}
