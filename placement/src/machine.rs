//! The replicated state as openraft drives it: a thin shell around [`State::apply`].
//!
//! The state lives in memory, in [`Shared`], where the rest of the process reads it. A restart loads the last snapshot and
//! has the log replayed behind it. A command that does not decode, or a disk that fails, ends the group and with it the
//! process: going on would make this member's state another than its peers'.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use holdfast_common::failpoint::{self, Step};
use holdfast_common::proto;
use holdfast_common::raft::types::{
    Answer, Command as Encoded, LogId, Payload, Snapshot, SnapshotData, SnapshotMeta, StoredMembership,
    TypeConfig,
};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::{RwLock, RwLockReadGuard};

use crate::command::{Changes, Command, Outcome};
use crate::snapshot::{self, Image, Snapshots};
use crate::state::State;
use crate::watch::Hub;

/// What this member has applied, for everyone in the process to read.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    applied: RwLock<Applied>,
    hub: Hub,
}

#[derive(Default)]
struct Applied {
    state: State,
    last: Option<LogId>,
    membership: StoredMembership,
}

impl Shared {
    /// The state now. Hold it briefly: entries are applied in between.
    pub fn state(&self) -> impl std::ops::Deref<Target = State> + '_ {
        RwLockReadGuard::map(self.0.applied.read(), |applied| &applied.state)
    }

    /// The members that the group has agreed on: a change that it may yet lose with its leader is not in it.
    pub fn membership(&self) -> StoredMembership {
        self.0.applied.read().membership.clone()
    }

    /// Where changes are told.
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }
}

/// The state machine.
pub struct Machine {
    shared: Shared,
    snapshots: Snapshots,
}

impl Machine {
    /// Loads the last snapshot.
    ///
    /// # Errors
    /// It can't be read, or is damaged.
    pub fn open(snapshots: Snapshots) -> Result<Self, snapshot::Error> {
        let mut applied = Applied::default();
        if let Some(image) = snapshots.load()? {
            let damaged = |reason| snapshot::Error::Damaged {
                path: snapshots.path(),
                reason,
            };
            let meta = image.meta().map_err(damaged)?;
            applied = Applied {
                state: image.state,
                last: meta.last_log_id,
                membership: meta.last_membership,
            };
        }
        let shared = Shared(Arc::new(Inner {
            applied: RwLock::new(applied),
            hub: Hub::default(),
        }));
        Ok(Self { shared, snapshots })
    }

    /// What it has applied.
    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }

    fn apply_entry(&self, id: LogId, payload: Payload) -> io::Result<Outcome> {
        let mut applied = self.shared.0.applied.write();
        let mut changes = Changes::default();
        let outcome = match payload {
            Payload::Blank => Outcome::Done,
            Payload::Normal(Encoded(bytes)) => {
                let command: Command =
                    proto::decode(&bytes).map_err(|error| corrupt(&format!("entry {id}: {error}")))?;
                applied.state.apply(&command, &mut changes)
            }
            Payload::Membership(membership) => {
                applied.membership = StoredMembership::new(Some(id), membership);
                Outcome::Done
            }
        };
        applied.last = Some(id);
        drop(applied);
        self.shared.0.hub.publish(changes);
        Ok(outcome)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.shared.0.applied.read();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcome = self.apply_entry(entry.log_id, entry.payload)?;
            failpoint::reached(Step::CommandApplied);
            if let Some(responder) = responder {
                responder.send(Answer(proto::encode(&outcome), Duration::ZERO));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            shared: self.shared.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Staged(path) = snapshot else {
            return Err(corrupt("a snapshot to install is a file"));
        };
        let snapshots = self.snapshots.clone();
        let announced = meta.clone();
        let image = blocking(move || {
            let image = Image::read(&path).map_err(io::Error::other)?;
            if image.meta().map_err(|error| corrupt(&error))? != announced {
                return Err(corrupt("the snapshot is not the one that was announced"));
            }
            snapshots.save(&image.encode()).map_err(io::Error::other)?;
            std::fs::remove_file(&path)?;
            Ok(image)
        })
        .await?;
        *self.shared.0.applied.write() = Applied {
            state: image.state,
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        self.shared.0.hub.restart();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        if self.shared.0.applied.read().last.is_none() {
            return Ok(None);
        }
        let shared = self.shared.clone();
        let image = blocking(move || Ok(shared.image())).await?;
        let meta = image.meta().map_err(|error| corrupt(&error))?;
        Ok(Some(as_snapshot(meta, image)))
    }
}

impl Shared {
    fn image(&self) -> Image {
        let applied = self.0.applied.read();
        let meta = SnapshotMeta {
            last_log_id: applied.last,
            last_membership: applied.membership.clone(),
        };
        Image::new(&meta, applied.state.clone())
    }
}

/// Saves snapshots.
pub struct Builder {
    shared: Shared,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    /// The log may be purged up to the snapshot that this returns, so it is on disk by then.
    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (shared, snapshots) = (self.shared.clone(), self.snapshots.clone());
        let (meta, image) = blocking(move || {
            let image = shared.image();
            let meta = image.meta().map_err(|error| corrupt(&error))?;
            snapshots.save(&image.encode()).map_err(io::Error::other)?;
            failpoint::reached(Step::DriverSaved);
            Ok((meta, image))
        })
        .await?;
        Ok(as_snapshot(meta, image))
    }
}

fn as_snapshot(meta: SnapshotMeta, image: Image) -> Snapshot {
    Snapshot {
        meta,
        snapshot: SnapshotData::Local(Arc::new(image)),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    holdfast_common::blocking::run(work).await?
}

fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
#[path = "machine_test.rs"]
mod tests;
