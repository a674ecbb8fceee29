//! One replica's line to another.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::metrics::Counter;
use bytes::Bytes;
use futures::{FutureExt, Stream};
use openraft::base::{BoxFuture, BoxStream, OptionalSend};
use openraft::error::{RPCError, ReplicationClosed, StreamingError};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::failure::Failure;
use super::heartbeats::BeatLine;
use super::hush::Hush;
use super::news::{News, Patience};
use super::pipeline::{Line, Pipeline};
use super::{Shared, snapshot};
use crate::clock;
use crate::ids::StoreId;
use crate::net::{Call, Lane, Peer};
use crate::proto::raft::{Appended, Refusal, Route, TransferAnswer, VoteAnswer};
use crate::proto::{self, method};
use crate::raft::network::convert;
use crate::raft::types::{Snapshot, SnapshotData, TypeConfig, Vote};

/// Sends the messages of one replica to another.
pub struct PeerReplica {
    shared: Arc<Shared>,
    route: Route,
    store: StoreId,
    /// The connection, at the address it was last looked up under.
    peer: Option<Peer>,
    /// Where appends without entries go instead: set for openraft's heartbeats.
    beats: Option<BeatLine>,
    /// Holds those back.
    hush: Hush,
    /// Which commits need not be told at once.
    may_wait: Patience,
}

/// An append under way.
pub(super) enum AppendCall {
    /// Sent by itself.
    Sent(Call),
    /// Waiting with other groups' heartbeats, or sent with them.
    Gathered(oneshot::Receiver<Result<Appended, Failure>>),
    /// Not sent; taken by the first poll.
    Failed(Option<Failure>),
}

impl PeerReplica {
    pub(super) fn new(shared: Arc<Shared>, route: Route, store: StoreId, may_wait: Patience) -> Self {
        Self {
            shared,
            route,
            store,
            peer: None,
            beats: None,
            hush: Hush::default(),
            may_wait,
        }
    }

    pub(super) fn for_heartbeats(shared: Arc<Shared>, route: Route, store: StoreId, hush: Hush) -> Self {
        let beats = Some(BeatLine::to(&shared, store));
        Self {
            beats,
            hush,
            ..Self::new(shared, route, store, |_| false)
        }
    }

    fn try_append(&mut self, rpc: AppendEntriesRequest<TypeConfig>) -> Result<(AppendCall, usize), Failure> {
        if let Some(beats) = &self.beats
            && let Some(beat) = convert::beat(self.route, &rpc)
        {
            if self.hush.is_set() {
                return Err(Failure::Hushed);
            }
            return Ok((AppendCall::Gathered(beats.push(beat?)?), 0));
        }
        let body = convert::append(self.route, rpc)?.encode();
        let deadline = clock::now() + self.shared.timings.append_timeout;
        let len = body.len();
        self.shared.sent.append.increment(1);
        Ok((
            AppendCall::Sent(self.peer()?.call(method::RAFT_APPEND, body, deadline)),
            len,
        ))
    }

    /// The peer on the fast lane, at its present address.
    fn peer(&mut self) -> Result<&Peer, Failure> {
        let address = self
            .shared
            .resolve
            .address(self.store)
            .ok_or(Failure::NoAddress(self.store))?;
        let peer = match self.peer.take() {
            Some(peer) if peer.addr() == address => peer,
            _ => self.shared.client.peer(&address, Lane::Fast),
        };
        Ok(self.peer.insert(peer))
    }

    /// Sends a small message and waits for its answer.
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        (method, action): (u16, RPCTypes),
        sent: Counter,
        request: Result<Q, convert::Unsendable>,
        ttl: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        let asked = async {
            let body = proto::encode(&request?);
            sent.increment(1);
            let answer = self.peer()?.call(method, body, clock::now() + ttl).await?;
            proto::decode::<Result<A, Refusal>>(&answer)?.map_err(Failure::from)
        };
        asked.await.map_err(|failure: Failure| {
            failure.count(&self.shared.sent);
            failure.into_rpc(action, self.route, ttl)
        })
    }

    async fn ask_vote(
        &mut self,
        rpc: &VoteRequest<TypeConfig>,
        pre: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let sent = if pre {
            &self.shared.sent.pre_vote
        } else {
            &self.shared.sent.vote
        }
        .clone();
        let request = convert::vote_request(self.route, rpc, pre);
        let how = (method::RAFT_VOTE, RPCTypes::Vote);
        let answer: VoteAnswer = self.ask(how, sent, request, option.soft_ttl()).await?;
        Ok(convert::from_vote_answer(&answer))
    }
}

impl Line for PeerReplica {
    type Call = AppendCall;

    fn append(&mut self, rpc: AppendEntriesRequest<TypeConfig>) -> (AppendCall, usize) {
        self.try_append(rpc)
            .unwrap_or_else(|failure| (AppendCall::Failed(Some(failure)), 0))
    }

    fn failed(&self, failure: Failure) -> RPCError<TypeConfig> {
        failure.count(&self.shared.sent);
        let timeout = self.shared.timings.append_timeout;
        failure.into_rpc(RPCTypes::AppendEntries, self.route, timeout)
    }
}

impl RaftNetworkV2<TypeConfig> for PeerReplica {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let appended = self.append(rpc).0.await.map_err(|failure| self.failed(failure))?;
        Ok(convert::from_appended(appended))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let news = News::new(self.may_wait, self.shared.timings.heartbeat);
        let pipeline: BoxStream<'s, _> = Box::pin(Pipeline::new(self, input, news));
        Box::pin(async move { Ok(pipeline) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(&rpc, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(&rpc, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = snapshot::send(&self.shared, self.route, self.store, vote, snapshot);
        let snapshots = &self.shared.sent.snapshots;
        tokio::select! {
            biased;
            closed = cancel => {
                snapshots.cancelled.increment(1);
                Err(closed.into())
            }
            sent = sending => sent.map(SnapshotResponse::new).map_err(|failure| {
                snapshots.failed.increment(1);
                tracing::warn!(route = ?self.route, store = %self.store, %failure, "a snapshot was not delivered");
                failure.into_streaming()
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let how = (method::RAFT_TRANSFER, RPCTypes::TransferLeader);
        let sent = self.shared.sent.transfer.clone();
        let message = convert::transfer(self.route, &request);
        let answer: TransferAnswer = self.ask(how, sent, message, option.soft_ttl()).await?;
        Ok(convert::from_transfer_answer(&request, answer))
    }

    /// As [`RaftTimings::config`](crate::raft::network::RaftTimings::config) says.
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl Future for AppendCall {
    type Output = Result<Appended, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match &mut *self {
            Self::Sent(call) => ready!(call.poll_unpin(context))
                .map_err(Failure::from)
                .and_then(read_appended),
            Self::Gathered(answer) => ready!(answer.poll_unpin(context)).unwrap_or(Err(Failure::Stopped)),
            Self::Failed(failure) => Err(failure.take().unwrap_or(Failure::Stopped)),
        })
    }
}

fn read_appended(answer: Bytes) -> Result<Appended, Failure> {
    proto::decode::<Result<Appended, Refusal>>(&answer)?.map_err(Failure::from)
}
