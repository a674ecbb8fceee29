//! Sending a snapshot: spooled into a file, then streamed in chunks that are each acknowledged.
//!
//! A transfer has a name. When its connection breaks, it is offered again under that name, and the receiver says from
//! where to go on. It is given up when attempts in a row make no progress, or when the receiver refuses it at the
//! offer: then openraft takes a fresh snapshot and comes back after a pause.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::StreamingError;

use super::Shared;
use super::failure::Failure;
use crate::ids::StoreId;
use crate::net::{Call, Lane, Peer};
use crate::proto::raft::{Refusal, Route, SnapshotAnswer, SnapshotChunk, SnapshotHeader, SnapshotMessage};
use crate::proto::{self, method};
use crate::raft::network::convert;
use crate::raft::network::staging::{self, Staging, TempFile};
use crate::raft::types::{Snapshot, SnapshotData, Spool, TypeConfig, Vote};
use crate::telemetry::disk;
use crate::{blocking, clock};

/// Length of a chunk, bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks sent and not yet acknowledged.
const WINDOW: usize = 4;

/// Attempts in a row without progress after which a transfer is given up.
const MAX_IDLE_ATTEMPTS: u32 = 8;

/// Pause before another attempt, and up to as much again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long a snapshot waits for others to finish. Short: a snapshot that waits pins old state on the sender, so it is
/// better given back and taken anew.
const QUEUE_TIME: Duration = Duration::from_secs(2);

/// Why a snapshot was not delivered.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("too many snapshots are being sent")]
    Busy,
    #[error("it could not be written to a file: {0}")]
    Spool(io::Error),
    #[error("its file could not be read: {0}")]
    Read(io::Error),
    #[error("it is one that was received")]
    NotLocal,
    #[error("the receiver has {have} bytes where {expected} were sent")]
    OutOfStep { have: u64, expected: u64 },
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("the receiver refused it: {0}")]
    Refused(Refusal),
}

impl SendError {
    /// openraft backs off from all of them: each attempt costs a pass over the data.
    pub(super) fn into_streaming(self) -> StreamingError<TypeConfig> {
        openraft::error::Unreachable::new(&self).into()
    }
}

/// Delivers a snapshot and has it installed. Answers with the receiver's vote.
pub(super) async fn send(
    shared: &Arc<Shared>,
    route: Route,
    store: StoreId,
    vote: Vote,
    snapshot: Snapshot,
) -> Result<Vote, SendError> {
    let term = convert::leader_term(route, &vote).map_err(Failure::from)?;
    let SnapshotData::Local(spool) = snapshot.snapshot else {
        return Err(SendError::NotLocal);
    };
    let waiting = shared.staging.outgoing.clone().acquire_owned();
    let Ok(Ok(_permit)) = clock::timeout(QUEUE_TIME, waiting).await else {
        return Err(SendError::Busy);
    };
    let started = clock::now();
    let content = Content::spool(&shared.staging, spool)
        .await
        .map_err(SendError::Spool)?;
    shared.sent.snapshots.staged(started.elapsed());
    // Written, and read back for its checksum.
    disk::written(disk::Kind::Snapshot, content.len);
    disk::read(disk::Kind::Snapshot, content.len);
    let transfer = clock::random_id();
    let header = convert::snapshot_header(
        route,
        term,
        transfer,
        &snapshot.meta,
        (content.len, content.checksum),
    );
    let started = clock::now();
    let mut sending = Transfer {
        shared,
        store,
        header,
        content,
        acknowledged: 0,
    };
    let vote = sending.run().await?;
    shared.sent.snapshots.landed(started.elapsed());
    tracing::info!(?route, %store, bytes = sending.content.len, elapsed = ?started.elapsed(), "a snapshot was delivered");
    Ok(convert::from_vote(vote))
}

/// A snapshot in a file.
struct Content {
    file: Arc<File>,
    /// Removes the file in the end.
    _name: TempFile,
    len: u64,
    checksum: u64,
}

impl Content {
    async fn spool(staging: &Arc<Staging>, spool: Arc<dyn Spool>) -> io::Result<Self> {
        let name = staging.file("spool");
        let spooling = blocking::run(move || {
            let len = spool.spool(name.path())?;
            let mut file = File::open(name.path())?;
            let actual = file.metadata()?.len();
            if len != actual {
                return Err(io::Error::other(format!(
                    "a file of {actual} bytes, {len} were written"
                )));
            }
            let checksum = staging::checksum(&mut file)?;
            Ok(Self {
                file: Arc::new(file),
                _name: name,
                len,
                checksum,
            })
        });
        spooling.await?
    }

    /// The chunk at `offset`.
    async fn read(&self, offset: u64) -> io::Result<Bytes> {
        let left = self.len.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let file = self.file.clone();
        let reading = blocking::run(move || {
            let mut chunk = vec![0; len];
            file.read_exact_at(&mut chunk, offset)?;
            Ok(Bytes::from(chunk))
        });
        reading.await?
    }
}

/// A snapshot on its way.
struct Transfer<'s> {
    shared: &'s Arc<Shared>,
    store: StoreId,
    header: SnapshotHeader,
    content: Content,
    /// Bytes that the receiver is known to have.
    acknowledged: u64,
}

impl Transfer<'_> {
    async fn run(&mut self) -> Result<crate::proto::raft::Vote, SendError> {
        let mut idle_attempts = 0;
        loop {
            let before = self.acknowledged;
            let error = match self.attempt().await {
                Ok(vote) => return Ok(vote),
                Err(error) => error,
            };
            idle_attempts = if self.acknowledged > before {
                0
            } else {
                idle_attempts + 1
            };
            let hopeless = matches!(error, SendError::Refused(_) | SendError::Read(_));
            if hopeless || idle_attempts == MAX_IDLE_ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(route = ?self.header.route, %error, have = self.acknowledged, "a snapshot is interrupted");
            clock::sleep(clock::jittered(RETRY_PAUSE)).await;
        }
    }

    /// Offers the snapshot, sends what the receiver lacks, and has it installed.
    async fn attempt(&mut self) -> Result<crate::proto::raft::Vote, SendError> {
        let address = self
            .shared
            .resolve
            .address(self.store)
            .ok_or(Failure::NoAddress(self.store))?;
        let peer = self.shared.client.peer(&address, Lane::Bulk);
        let offer = SnapshotMessage::Offer(self.header.clone());
        let answer = match self.answer(self.call(&peer, &offer)).await {
            // It was not even begun: nothing that another attempt would change.
            Err(SendError::Failed(Failure::Refused(refusal))) => return Err(SendError::Refused(refusal)),
            other => other?,
        };
        match answer {
            SnapshotAnswer::Installed(vote) => return Ok(vote),
            SnapshotAnswer::Have(have) => self.acknowledged = have,
        }
        self.send_chunks(&peer).await?;
        let SnapshotHeader { route, transfer, .. } = self.header;
        let install = proto::encode(&SnapshotMessage::Install { route, transfer });
        let deadline = clock::now() + self.shared.timings.install_timeout;
        match self
            .answer(peer.call(method::RAFT_SNAPSHOT, install, deadline))
            .await?
        {
            SnapshotAnswer::Installed(vote) => Ok(vote),
            SnapshotAnswer::Have(have) => Err(SendError::OutOfStep {
                have,
                expected: self.content.len,
            }),
        }
    }

    /// Sends everything from what is acknowledged on, a window ahead of the acknowledgements.
    async fn send_chunks(&mut self, peer: &Peer) -> Result<(), SendError> {
        let mut window: VecDeque<(u64, Call)> = VecDeque::with_capacity(WINDOW);
        let mut offset = self.acknowledged;
        while self.acknowledged < self.content.len {
            if window.len() < WINDOW && offset < self.content.len {
                let data = self.content.read(offset).await.map_err(SendError::Read)?;
                disk::read(disk::Kind::Snapshot, data.len() as u64);
                self.shared.staging.throttle.pass(data.len()).await;
                self.shared.sent.snapshots.bytes.increment(data.len() as u64);
                let SnapshotHeader { route, transfer, .. } = self.header;
                let end = offset + data.len() as u64;
                let chunk = SnapshotMessage::Chunk(SnapshotChunk {
                    route,
                    transfer,
                    offset,
                    data,
                });
                window.push_back((end, self.call(peer, &chunk)));
                offset = end;
            } else if let Some((expected, call)) = window.pop_front() {
                match self.answer(call).await? {
                    SnapshotAnswer::Have(have) if have == expected => self.acknowledged = have,
                    SnapshotAnswer::Have(have) => return Err(SendError::OutOfStep { have, expected }),
                    SnapshotAnswer::Installed(_) => return Ok(()),
                }
            }
        }
        Ok(())
    }

    fn call(&self, peer: &Peer, message: &SnapshotMessage) -> Call {
        self.shared.sent.snapshot.increment(1);
        peer.call(
            method::RAFT_SNAPSHOT,
            proto::encode(message),
            clock::now() + self.shared.timings.chunk_timeout,
        )
    }

    async fn answer(&self, call: Call) -> Result<SnapshotAnswer, SendError> {
        let answered = async {
            let body = call.await?;
            proto::decode::<Result<SnapshotAnswer, Refusal>>(&body)?.map_err(Failure::from)
        };
        answered.await.map_err(|failure: Failure| {
            failure.count(&self.shared.sent);
            SendError::Failed(failure)
        })
    }
}
