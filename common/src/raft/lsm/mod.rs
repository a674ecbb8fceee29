//! The LSM database that everything on disk lies in: fjall, by the names that this code calls it.
//!
//! With the feature `simulation`, the same names stand for either fjall or a simulated disk, whichever there is where a database is
//! opened; see [`crate::simulation`]. That is a feature of tests: a release has fjall alone.

mod memtable;
#[cfg(not(feature = "simulation"))]
mod real;
#[cfg(feature = "simulation")]
mod switch;

pub use self::memtable::{MemtableBound, bounded_elsewhere};
#[cfg(not(feature = "simulation"))]
pub use self::real::*;
#[cfg(feature = "simulation")]
pub use self::switch::*;

use std::path::Path;

/// How a database is opened.
pub type Builder = fjall::DatabaseBuilder<fjall::Database>;

/// Opens or creates the database in `dir`.
///
/// # Errors
/// Fjall refuses.
pub fn open(dir: &Path, configure: impl FnOnce(Builder) -> Builder) -> fjall::Result<Database> {
    open_with(dir, configure)
}
