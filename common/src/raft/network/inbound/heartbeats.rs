//! A message of heartbeats: each handed to its group, all answered in one message.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::storage::RaftStateMachine;

use crate::clock::{self, Instant};
use crate::net::Reply;
use crate::proto::raft::{Appended, Beat, Heartbeats, HeartbeatsAnswer, MAX_BEATS, Refusal};
use crate::proto::{self, DecodeError};
use crate::raft::network::{RaftTimings, convert};
use crate::raft::types::{Raft, SnapshotData, TypeConfig};

/// Reads a message and checks its length.
pub(super) fn read(body: &[u8]) -> Result<Heartbeats, DecodeError> {
    let message: Heartbeats = proto::decode(body)?;
    if message.beats.len() > MAX_BEATS {
        return Err(DecodeError::Malformed(postcard::Error::DeserializeBadEncoding));
    }
    Ok(message)
}

/// Waits for all groups, but no longer than half the time that the sender waits: a group that is slow to answer must not
/// cost the others their leases.
pub(super) async fn answer<SM>(
    beats: Vec<(Beat, Result<Raft<SM>, Refusal>)>,
    deadline: Option<Instant>,
    reply: Reply,
) where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    let now = clock::now();
    let patience = deadline.map_or(RaftTimings::default().heartbeat, |deadline| deadline - now) / 2;
    let mut answers = vec![Err(Refusal::Late); beats.len()];
    let mut asked: FuturesUnordered<_> = beats
        .into_iter()
        .enumerate()
        .map(|(at, (beat, raft))| async move { (at, ask(raft, beat).await) })
        .collect();
    let gather = async {
        while let Some((at, answer)) = asked.next().await {
            answers[at] = answer;
        }
    };
    // Whoever is late stays `Late`.
    let _ = clock::timeout_at(now + patience, gather).await;
    reply.send(proto::encode(&HeartbeatsAnswer { answers }));
}

async fn ask<SM>(raft: Result<Raft<SM>, Refusal>, beat: Beat) -> Result<Appended, Refusal>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    let response = raft?.append_entries(convert::from_beat(beat)).await;
    response.map(convert::appended).map_err(|_| Refusal::Stopped)
}
