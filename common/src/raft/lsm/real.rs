//! Fjall, as it is.

use std::path::Path;

pub use fjall::{Database, Guard, Iter, Keyspace, OwnedWriteBatch, Readable, Snapshot};

use super::Builder;

pub(super) fn open_with(dir: &Path, configure: impl FnOnce(Builder) -> Builder) -> fjall::Result<Database> {
    configure(fjall::Database::builder(dir)).open()
}

/// The keyspace as fjall has it.
pub fn fjalls(keyspace: &Keyspace) -> Option<&Keyspace> {
    Some(keyspace)
}
