//! R: ranges tile the key space.

use holdfast_tests::check_tiling;

use crate::director::Told;

/// What speaks against it.
pub(crate) fn violations(told: &Told) -> Option<String> {
    check_tiling(&told.ranges).err().map(|error| error.to_string())
}
