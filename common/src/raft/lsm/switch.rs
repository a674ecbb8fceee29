//! Fjall, or a simulated disk.

mod reading;

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;

use self::reading::within;
pub use self::reading::{Guard, Iter, Readable, Snapshot};
use super::Builder;
use crate::simulation;
use crate::simulation::volume::{Change, Volume};

/// A database.
#[derive(Clone)]
pub enum Database {
    /// Fjall's.
    Real(fjall::Database),
    /// A simulated one.
    Simulated(Arc<Mutex<Volume>>),
}

/// A keyspace of one.
#[derive(Clone)]
pub enum Keyspace {
    /// Fjall's.
    Real(fjall::Keyspace),
    /// A simulated one.
    Simulated(Arc<Mutex<Volume>>, String),
}

/// A batch to be written.
pub enum OwnedWriteBatch {
    /// Fjall's.
    Real(fjall::OwnedWriteBatch),
    /// A simulated one.
    Simulated(Arc<Mutex<Volume>>, Vec<Change>, Option<PersistMode>),
}

/// Tables to be taken in.
pub enum Ingestion<'a> {
    /// Fjall's, whose type has no name outside of it.
    Real(Box<dyn FnMut(Ingested) -> fjall::Result<()> + 'a>),
    /// A simulated one.
    Simulated(Arc<Mutex<Volume>>, Vec<Change>, String),
}

/// What a table is told.
pub enum Ingested {
    /// The next row, or its removal.
    Row(fjall::UserKey, Option<Bytes>),
    /// That was all.
    End,
}

/// The keyspace as fjall has it, if it does.
pub fn fjalls(keyspace: &Keyspace) -> Option<&fjall::Keyspace> {
    match keyspace {
        Keyspace::Real(keyspace) => Some(keyspace),
        Keyspace::Simulated(..) => None,
    }
}

pub(super) fn open_with(dir: &Path, configure: impl FnOnce(Builder) -> Builder) -> fjall::Result<Database> {
    if let Some(here) = simulation::here() {
        std::fs::create_dir_all(dir)?; // As fjall does: others have files in there.
        return Ok(Database::Simulated(here.world.volumes().of(dir)));
    }
    configure(fjall::Database::builder(dir))
        .open()
        .map(Database::Real)
}

impl Database {
    /// A keyspace, made if need be.
    ///
    /// # Errors
    /// The disk's.
    pub fn keyspace(
        &self,
        name: &str,
        options: impl FnOnce() -> KeyspaceCreateOptions,
    ) -> fjall::Result<Keyspace> {
        match self {
            Self::Real(database) => database.keyspace(name, options).map(Keyspace::Real),
            Self::Simulated(volume) => Ok(Keyspace::Simulated(volume.clone(), name.to_owned())),
        }
    }

    /// The database now.
    pub fn snapshot(&self) -> Snapshot {
        match self {
            Self::Real(database) => Snapshot::Real(database.snapshot()),
            Self::Simulated(volume) => {
                let volume = volume.lock();
                Snapshot::Simulated(Arc::new(volume.all()), volume.seqno())
            }
        }
    }

    /// Flushes or syncs the journal.
    ///
    /// # Errors
    /// The disk's.
    pub fn persist(&self, mode: PersistMode) -> fjall::Result<()> {
        match self {
            Self::Real(database) => database.persist(mode),
            Self::Simulated(volume) => {
                persist(&mut volume.lock(), mode);
                Ok(())
            }
        }
    }

    /// The next sequence number.
    pub fn seqno(&self) -> u64 {
        match self {
            Self::Real(database) => database.seqno(),
            Self::Simulated(volume) => volume.lock().seqno(),
        }
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn disk_space(&self) -> fjall::Result<u64> {
        match self {
            Self::Real(database) => database.disk_space(),
            Self::Simulated(_) => Ok(0),
        }
    }

    /// Bytes of the journal.
    ///
    /// # Errors
    /// The disk's.
    pub fn journal_disk_space(&self) -> fjall::Result<u64> {
        match self {
            Self::Real(database) => database.journal_disk_space(),
            Self::Simulated(_) => Ok(0),
        }
    }

    /// Journals.
    pub fn journal_count(&self) -> usize {
        match self {
            Self::Real(database) => database.journal_count(),
            Self::Simulated(_) => 1,
        }
    }
}

impl Keyspace {
    /// The newest value of a key.
    ///
    /// # Errors
    /// The disk's.
    pub fn get(&self, key: &[u8]) -> fjall::Result<Option<fjall::UserValue>> {
        match self {
            Self::Real(keyspace) => keyspace.get(key),
            Self::Simulated(volume, name) => Ok(volume.lock().rows(name).get(key).cloned().map(Into::into)),
        }
    }

    /// Rows by key.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Iter {
        match self {
            Self::Real(keyspace) => Iter::Real(keyspace.range(range)),
            Self::Simulated(volume, name) => within(&volume.lock().rows(name), &range),
        }
    }

    /// Tables on disk.
    pub fn table_count(&self) -> usize {
        self.fjalls(fjall::Keyspace::table_count)
    }

    /// Tables that wait to be merged.
    pub fn l0_table_count(&self) -> usize {
        self.fjalls(fjall::Keyspace::l0_table_count)
    }

    /// Memtables that wait to be written out.
    pub fn sealed_memtable_count(&self) -> usize {
        self.fjalls(fjall::Keyspace::sealed_memtable_count)
    }

    /// Writes a row at once.
    ///
    /// # Errors
    /// The disk's.
    pub fn insert(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> fjall::Result<()> {
        match self {
            Self::Real(keyspace) => keyspace.insert(key.into(), value.into()),
            Self::Simulated(volume, name) => {
                let change = (name.clone(), key.into(), Some(value.into()));
                volume.lock().commit(vec![change]);
                Ok(())
            }
        }
    }

    /// Writes the rows in memory out as a table.
    ///
    /// # Errors
    /// The disk's.
    pub fn rotate_memtable_and_wait(&self) -> fjall::Result<()> {
        fjalls(self).map_or(Ok(()), fjall::Keyspace::rotate_memtable_and_wait)
    }

    /// Begins to take in tables.
    ///
    /// # Errors
    /// The disk's.
    pub fn start_ingestion(&self) -> fjall::Result<Ingestion<'_>> {
        match self {
            Self::Real(keyspace) => {
                let mut tables = Some(keyspace.start_ingestion()?);
                Ok(Ingestion::Real(Box::new(move |told| match told {
                    Ingested::End => tables.take().map_or(Ok(()), |tables| tables.finish()),
                    Ingested::Row(key, value) => match (&mut tables, value) {
                        (Some(tables), Some(value)) => tables.write(key, value),
                        (Some(tables), None) => tables.write_tombstone(key),
                        (None, _) => Ok(()),
                    },
                })))
            }
            Self::Simulated(volume, name) => {
                Ok(Ingestion::Simulated(volume.clone(), Vec::new(), name.clone()))
            }
        }
    }

    fn fjalls(&self, count: fn(&fjall::Keyspace) -> usize) -> usize {
        fjalls(self).map_or(0, count)
    }
}

impl OwnedWriteBatch {
    /// An empty one.
    pub fn with_capacity(database: Database, capacity: usize) -> Self {
        match database {
            Database::Real(database) => Self::Real(fjall::OwnedWriteBatch::with_capacity(database, capacity)),
            Database::Simulated(volume) => Self::Simulated(volume, Vec::with_capacity(capacity), None),
        }
    }

    /// How lasting it is to be once it is committed.
    #[must_use]
    pub fn durability(self, mode: Option<PersistMode>) -> Self {
        match self {
            Self::Real(batch) => Self::Real(batch.durability(mode)),
            Self::Simulated(volume, changes, _) => Self::Simulated(volume, changes, mode),
        }
    }

    /// Sets a row.
    pub fn insert(
        &mut self,
        to: &Keyspace,
        key: impl Into<fjall::UserKey>,
        value: impl Into<fjall::UserValue>,
    ) {
        self.change(to, key.into(), Some(value.into()));
    }

    /// Removes a row.
    pub fn remove(&mut self, from: &Keyspace, key: impl Into<fjall::UserKey>) {
        self.change(from, key.into(), None);
    }

    fn change(&mut self, keyspace: &Keyspace, key: fjall::UserKey, value: Option<fjall::UserValue>) {
        match (self, keyspace, value) {
            (Self::Real(batch), Keyspace::Real(keyspace), Some(value)) => batch.insert(keyspace, key, value),
            (Self::Real(batch), Keyspace::Real(keyspace), None) => batch.remove(keyspace, key),
            (Self::Simulated(_, changes, _), Keyspace::Simulated(_, name), value) => {
                changes.push((name.clone(), key.into(), value.map(Into::into)));
            }
            // A process has databases of one kind.
            _ => {}
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk's.
    pub fn commit(self) -> fjall::Result<()> {
        match self {
            Self::Real(batch) => batch.commit(),
            Self::Simulated(volume, changes, mode) => {
                let mut volume = volume.lock();
                volume.commit(changes);
                if let Some(mode) = mode {
                    persist(&mut volume, mode);
                }
                Ok(())
            }
        }
    }
}

impl Ingestion<'_> {
    /// The next row.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, key: impl Into<fjall::UserKey>, value: impl Into<Bytes>) -> fjall::Result<()> {
        match self {
            Self::Real(tell) => tell(Ingested::Row(key.into(), Some(value.into()))),
            Self::Simulated(_, changes, name) => {
                changes.push((name.clone(), key.into().into(), Some(value.into())));
                Ok(())
            }
        }
    }

    /// The removal of the next row.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_tombstone(&mut self, key: impl Into<fjall::UserKey>) -> fjall::Result<()> {
        match self {
            Self::Real(tell) => tell(Ingested::Row(key.into(), None)),
            Self::Simulated(_, changes, name) => {
                changes.push((name.clone(), key.into().into(), None));
                Ok(())
            }
        }
    }

    /// Takes the tables in, durably.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(self) -> fjall::Result<()> {
        match self {
            Self::Real(mut tell) => tell(Ingested::End),
            Self::Simulated(volume, changes, _) => {
                let mut volume = volume.lock();
                volume.commit(changes);
                volume.sync();
                Ok(())
            }
        }
    }
}

fn persist(volume: &mut Volume, mode: PersistMode) {
    match mode {
        PersistMode::Buffer => volume.flush(),
        PersistMode::SyncData | PersistMode::SyncAll => volume.sync(),
    }
}
