//! Snapshots: a range's rows in a file, from a leader to a replica that is too far behind for the log.

mod format;
mod install;
mod spool;
mod taker;

pub use format::{Error, Header, Reader, Row, Totals, Writer, read_header, verify};
pub(crate) use install::install;
pub use spool::ViewSpool;
pub use taker::SnapshotTaker;
pub(crate) use taker::take;
