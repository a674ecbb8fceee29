//! One snapshot being received: chunks into a file, the file verified and installed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Groups, respond};
use crate::clock::{self, Instant};
use crate::net::Reply;
use crate::proto::raft::{MAX_CHUNK_BYTES, Refusal, SnapshotAnswer, SnapshotHeader, Vote};
use crate::raft::network::staging::{self, TempFile};
use crate::raft::network::{convert, metrics};
use crate::raft::types::{Raft, Snapshot, SnapshotData, TypeConfig};
use crate::telemetry::disk;

/// A transfer that nothing was heard of for this long is given up, and its file removed.
const IDLE: Duration = Duration::from_secs(60);

/// What the sender wants next.
pub(super) enum Step {
    /// To know how far it has come.
    Offer { reply: Reply },
    /// To add a piece.
    Chunk { offset: u64, data: Bytes, reply: Reply },
    /// To have it installed.
    Install { reply: Reply },
}

impl Step {
    pub(super) fn into_reply(self) -> Reply {
        match self {
            Self::Offer { reply } | Self::Chunk { reply, .. } | Self::Install { reply } => reply,
        }
    }
}

/// One transfer. It ends when its sender falls silent, when another takes its place, or when it fails.
pub(super) struct Transfer<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    groups: Arc<dyn Groups<SM>>,
    raft: Raft<SM>,
    header: SnapshotHeader,
    phase: Phase,
    begun: Instant,
    metrics: metrics::Snapshots,
}

enum Phase {
    /// The file holds this many bytes from the start.
    Receiving { staged: Staged, have: u64 },
    /// Done, with this vote; kept for a sender that missed the answer.
    Installed(Vote),
}

/// The file, and the right to have one.
struct Staged {
    name: TempFile,
    /// Opened by the first chunk.
    file: Option<Arc<File>>,
    _permit: OwnedSemaphorePermit,
}

impl<SM> Transfer<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    pub(super) fn new(
        groups: Arc<dyn Groups<SM>>,
        raft: Raft<SM>,
        header: SnapshotHeader,
        name: TempFile,
        permit: OwnedSemaphorePermit,
        metrics: metrics::Snapshots,
    ) -> Self {
        let staged = Staged {
            name,
            file: None,
            _permit: permit,
        };
        Self {
            groups,
            raft,
            header,
            phase: Phase::Receiving { staged, have: 0 },
            begun: clock::now(),
            metrics,
        }
    }

    /// Takes steps in order until the transfer ends.
    pub(super) async fn run(mut self, mut steps: mpsc::Receiver<Step>) {
        let failure = loop {
            match clock::timeout(IDLE, steps.recv()).await {
                Ok(Some(step)) => match self.step(step).await {
                    Ok(()) => {}
                    Err(failure) => break Some(failure),
                },
                Ok(None) | Err(_) => break None,
            }
        };
        let route = self.header.route;
        match (failure, &self.phase) {
            (Some(failure), _) => {
                self.metrics.failed.increment(1);
                tracing::warn!(?route, %failure, "a snapshot could not be received");
            }
            (None, Phase::Receiving { have, .. }) => {
                self.metrics.cancelled.increment(1);
                tracing::info!(
                    ?route,
                    have,
                    of = self.header.len,
                    "a snapshot's sender did not finish"
                );
            }
            (None, Phase::Installed(_)) => {}
        }
    }

    /// Does a step and answers it. An error ends the transfer.
    async fn step(&mut self, step: Step) -> Result<(), Refusal> {
        let (outcome, reply) = match step {
            Step::Offer { reply } => (Ok(()), reply),
            Step::Chunk { offset, data, reply } => (self.chunk(offset, data).await, reply),
            Step::Install { reply } => (self.install().await, reply),
        };
        respond(reply, &outcome.clone().map(|()| self.state()));
        outcome
    }

    fn state(&self) -> SnapshotAnswer {
        match self.phase {
            Phase::Receiving { have, .. } => SnapshotAnswer::Have(have),
            Phase::Installed(vote) => SnapshotAnswer::Installed(vote),
        }
    }

    /// Writes the chunk if it is the next one. Any other changes nothing: the answer tells the sender where it stands.
    async fn chunk(&mut self, offset: u64, data: Bytes) -> Result<(), Refusal> {
        let Phase::Receiving { staged, have } = &mut self.phase else {
            return Ok(());
        };
        if offset != *have {
            return Ok(());
        }
        let len = data.len() as u64;
        if data.len() > MAX_CHUNK_BYTES || len > self.header.len - offset {
            return Err(Refusal::Snapshot("a chunk is longer than it may be".to_owned()));
        }
        staged
            .write(offset, data)
            .await
            .map_err(|error| refuse("can't be written", &error))?;
        *have += len;
        self.metrics.bytes.increment(len);
        disk::written(disk::Kind::Snapshot, len);
        Ok(())
    }

    /// Verifies and installs what was received, if all was.
    async fn install(&mut self) -> Result<(), Refusal> {
        let Phase::Receiving { staged, have } = &mut self.phase else {
            return Ok(());
        };
        if *have != self.header.len {
            return Ok(());
        }
        let checksum = staged
            .finish()
            .await
            .map_err(|error| refuse("can't be verified", &error))?;
        if checksum != self.header.checksum {
            return Err(Refusal::Snapshot("the checksum does not match".to_owned()));
        }
        // Once for the checksum, once to install it.
        disk::read(disk::Kind::Snapshot, 2 * self.header.len);
        self.metrics.staged(self.begun.elapsed());
        let verified = clock::now();
        let route = self.header.route;
        self.groups
            .accept_snapshot(route.range, route.to, &self.header)
            .map_err(Refusal::Snapshot)?;
        let (groups, path) = (self.groups.clone(), staged.name.path().to_owned());
        let accepted = blocking(move || Ok(groups.accept_file(route.range, route.to, &path))).await;
        accepted
            .map_err(|error| refuse("can't be judged", &error))?
            .map_err(Refusal::Snapshot)?;
        let meta = convert::from_snapshot_header(self.header.clone())
            .map_err(|error| Refusal::Snapshot(error.to_string()))?;
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotData::Staged(staged.name.path().to_owned()),
        };
        let vote = convert::leader_vote(route, self.header.term);
        let installed = self
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(|_| Refusal::Stopped)?;
        self.metrics.landed(verified.elapsed());
        tracing::info!(?route, bytes = self.header.len, last = ?self.header.last, "a snapshot was received");
        self.phase = Phase::Installed(convert::vote(installed.vote));
        Ok(())
    }
}

impl Staged {
    async fn write(&mut self, offset: u64, data: Bytes) -> io::Result<()> {
        let file = self.file().await?;
        blocking(move || file.write_all_at(&data, offset)).await
    }

    /// Makes the file durable and tells its checksum, read back from it.
    async fn finish(&mut self) -> io::Result<u64> {
        let file = self.file().await?;
        let path = self.name.path().to_owned();
        blocking(move || {
            file.sync_all()?;
            staging::checksum(&mut File::open(path)?)
        })
        .await
    }

    async fn file(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let path = self.name.path().to_owned();
        let file = blocking(move || OpenOptions::new().write(true).create_new(true).open(path)).await?;
        Ok(self.file.insert(Arc::new(file)).clone())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    crate::blocking::run(work).await?
}

fn refuse(what: &str, error: &io::Error) -> Refusal {
    Refusal::Snapshot(format!("the received file {what}: {error}"))
}
