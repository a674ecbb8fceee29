//! The receiving side: takes requests off the transport and hands them to the group they are for.
//!
//! Everything here runs on the task that reads a connection, up to the point where a group's core has the message:
//! appends are queued there in the order of their frames. What takes longer is a task: votes, a message of heartbeats,
//! a snapshot. All of that is bounded.

mod appends;
mod heartbeats;
mod snapshots;
mod transfer;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::appends::Appends;
use self::snapshots::Snapshots;
use super::metrics::Received;
use super::{Staging, convert};
use crate::ids::{RangeId, ReplicaId};
use crate::net::{ConnId, ErrorCode, Reply, Request};
use crate::proto::raft::{
    Append, Refusal, Route, SnapshotHeader, Transfer, TransferAnswer, VoteAnswer, VoteRequest,
};
use crate::proto::{self, method};
use crate::raft::types::{Raft, SnapshotData, TypeConfig};

/// Votes, leadership transfers and messages of heartbeats being answered at a time.
const MAX_TASKS: usize = 1024;

/// A body below this is copied when parts of it are kept: a slice would keep the whole read buffer alive.
const COPY_BELOW: usize = 16 * 1024;

/// Who sends entries and heartbeats to its followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its replica.
    pub replica: ReplicaId,
    /// The term that it leads.
    pub term: u64,
}

/// The groups of a process, as the network needs them.
pub trait Groups<SM>: Send + Sync + 'static
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    /// The group's replica here, if it is exactly this one and it runs. Asked for each message, before that is handed on;
    /// `leader` is who sends it, if it is of entries or a heartbeat.
    fn raft(&self, range: RangeId, replica: ReplicaId, leader: Option<Leader>) -> Option<Raft<SM>>;

    /// Whether the replica takes part in elections. False for a time after a restart: it may have acknowledged a
    /// leader's lease before, which it does not remember, and a vote within that lease would let that leader serve stale
    /// reads.
    fn may_vote(&self, range: RangeId, replica: ReplicaId) -> bool;

    /// Whether the replica can take this snapshot now. Asked when it is offered, and again before it is installed.
    ///
    /// # Errors
    /// Why not, for people: the leader comes back later.
    fn accept_snapshot(
        &self,
        range: RangeId,
        replica: ReplicaId,
        header: &SnapshotHeader,
    ) -> Result<(), String>;

    /// Whether the replica can take what is in this file, which has arrived whole: asked right before it is installed,
    /// since an installation that fails is the end of the group. May block.
    ///
    /// # Errors
    /// Why not, for people: the leader comes back later.
    fn accept_file(&self, range: RangeId, replica: ReplicaId, file: &Path) -> Result<(), String> {
        let _ = (range, replica, file);
        Ok(())
    }
}

/// Whether a method is one of those that [`Inbound::handle`] serves.
pub fn is_raft(method: u16) -> bool {
    matches!(
        method,
        method::RAFT_APPEND
            | method::RAFT_VOTE
            | method::RAFT_SNAPSHOT
            | method::RAFT_TRANSFER
            | method::RAFT_HEARTBEATS
    )
}

/// Takes the Raft messages of all groups of a process.
pub struct Inbound<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    groups: Arc<dyn Groups<SM>>,
    received: Arc<Received>,
    appends: Appends,
    snapshots: Snapshots<SM>,
    tasks: Arc<Semaphore>,
}

impl<SM> Inbound<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    /// Call it after the metrics recorder is installed.
    pub fn new(groups: Arc<dyn Groups<SM>>, staging: Arc<Staging>) -> Self {
        let received = Arc::new(Received::new());
        let snapshots = Snapshots::new(groups.clone(), staging, received.snapshots.clone());
        let tasks = Arc::new(Semaphore::new(MAX_TASKS));
        Self {
            groups,
            received,
            appends: Appends::default(),
            snapshots,
            tasks,
        }
    }

    /// Serves a request whose method [`is_raft`]; refuses any other. Never blocks. Must be called in a tokio runtime, and
    /// for the requests of one connection in their order: [`net::Service::call`](crate::net::Service::call) is.
    pub fn handle(&self, request: Request, reply: Reply) {
        match request.method {
            method::RAFT_APPEND => self.append(request, reply),
            method::RAFT_VOTE => self.vote(&request, reply),
            method::RAFT_SNAPSHOT => self.snapshot(&request, reply),
            method::RAFT_TRANSFER => self.transfer(&request, reply),
            method::RAFT_HEARTBEATS => self.heartbeats(&request, reply),
            _ => reply.fail(ErrorCode::UnknownMethod, "not a Raft method"),
        }
    }

    /// A connection is gone: what it had under way is let go of.
    pub fn closed(&self, conn: ConnId) {
        self.appends.closed(conn);
    }

    fn append(&self, request: Request, reply: Reply) {
        let body = if request.body.len() < COPY_BELOW {
            Bytes::copy_from_slice(&request.body)
        } else {
            request.body
        };
        let append = match Append::decode(body) {
            Ok(append) => append,
            Err(error) => return self.malformed(reply, &error),
        };
        let raft = match self.led(append.route, append.term) {
            Ok(raft) => raft,
            Err(refusal) => return self.refuse(reply, refusal),
        };
        let rpc = match convert::from_append(append) {
            Ok(rpc) => rpc,
            Err(error) => return self.malformed(reply, &error),
        };
        if let Err(reply) = self.appends.submit(request.conn, raft, rpc, reply) {
            self.refuse(reply, Refusal::Busy);
        }
    }

    fn vote(&self, request: &Request, reply: Reply) {
        let message: VoteRequest = match proto::decode(&request.body) {
            Ok(message) => message,
            Err(error) => return self.malformed(reply, &error),
        };
        let (raft, permit) = match self
            .voter(message.route)
            .and_then(|raft| Ok((raft, self.permit()?)))
        {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse(reply, refusal),
        };
        tokio::spawn(async move {
            let _permit = permit;
            let rpc = convert::from_vote_request(&message);
            let response = if message.pre {
                raft.pre_vote(rpc).await
            } else {
                raft.vote(rpc).await
            };
            let answer = response.map(|response| convert::vote_answer(&response));
            respond::<VoteAnswer>(reply, &answer.map_err(|_| Refusal::Stopped));
        });
    }

    fn transfer(&self, request: &Request, reply: Reply) {
        let message: Transfer = match proto::decode(&request.body) {
            Ok(message) => message,
            Err(error) => return self.malformed(reply, &error),
        };
        // Who may not vote may not campaign either.
        let (raft, permit) = match self
            .voter(message.route)
            .and_then(|raft| Ok((raft, self.permit()?)))
        {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse(reply, refusal),
        };
        tokio::spawn(async move {
            let _permit = permit;
            let response = raft
                .handle_transfer_leader(convert::from_transfer(&message))
                .await;
            let answer = response.map(convert::transfer_answer);
            respond::<TransferAnswer>(reply, &answer.map_err(|_| Refusal::Stopped));
        });
    }

    fn heartbeats(&self, request: &Request, reply: Reply) {
        let message = match heartbeats::read(&request.body) {
            Ok(message) => message,
            Err(error) => return self.malformed(reply, &error),
        };
        let permit = match self.permit() {
            Ok(permit) => permit,
            Err(refusal) => return self.refuse(reply, refusal),
        };
        let beats = message
            .beats
            .into_iter()
            .map(|beat| (beat, self.led(beat.route, beat.term)))
            .collect();
        let deadline = request.deadline;
        tokio::spawn(async move {
            let _permit = permit;
            heartbeats::answer(beats, deadline, reply).await;
        });
    }

    fn snapshot(&self, request: &Request, reply: Reply) {
        let message = match proto::decode(&request.body) {
            Ok(message) => message,
            Err(error) => return self.malformed(reply, &error),
        };
        if let Err((reply, refusal)) = self.snapshots.handle(message, reply) {
            self.refuse(reply, refusal);
        }
    }

    fn replica(&self, route: Route, leader: Option<Leader>) -> Result<Raft<SM>, Refusal> {
        let raft = self.groups.raft(route.range, route.to, leader);
        raft.ok_or(Refusal::UnknownReplica)
    }

    /// The replica that the leader of `term` speaks to.
    fn led(&self, route: Route, term: u64) -> Result<Raft<SM>, Refusal> {
        let replica = route.from;
        self.replica(route, Some(Leader { replica, term }))
    }

    fn voter(&self, route: Route) -> Result<Raft<SM>, Refusal> {
        let raft = self.replica(route, None)?;
        if self.groups.may_vote(route.range, route.to) {
            Ok(raft)
        } else {
            Err(Refusal::NotVotingYet)
        }
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.tasks.clone().try_acquire_owned().map_err(|_| Refusal::Busy)
    }

    fn refuse(&self, reply: Reply, refusal: Refusal) {
        let counter = match &refusal {
            Refusal::UnknownReplica => &self.received.unknown_replica,
            Refusal::NotVotingYet => &self.received.not_voting_yet,
            Refusal::Stopped => &self.received.stopped,
            Refusal::Busy | Refusal::Late | Refusal::Snapshot(_) => &self.received.busy,
        };
        counter.increment(1);
        respond::<()>(reply, &Err(refusal));
    }

    fn malformed(&self, reply: Reply, error: &dyn Display) {
        self.received.malformed.increment(1);
        reply.fail(ErrorCode::BadRequest, &error.to_string());
    }
}

/// Answers a request. An `Err` reads the same whatever `T` is.
fn respond<T: Serialize>(reply: Reply, answer: &Result<T, Refusal>) {
    reply.send(proto::encode(answer));
}
