//! Between the wire's types and openraft's: the only place that knows both.

use std::collections::{BTreeMap, BTreeSet};

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::proto::raft as wire;
use crate::proto::raft::Route;
use crate::raft::types::{
    Command, CommittedLeaderId, Entry, LogId, Membership, Node, Payload, SnapshotMeta, StoredMembership,
    TypeConfig, Vote,
};

/// Most sets of voters: the old and the new one.
const MAX_CONFIGS: usize = 2;

/// openraft asked to send what the wire can't say: a bug, here or there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsendable {
    #[error("the vote is not the sender's own")]
    ForeignVote,
    #[error("the entries do not follow each other")]
    Gap,
}

/// A peer sent what no replica sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Implausible {
    #[error(
        "a membership with no or an empty set of voters, with more than two sets, or with voters that are no members"
    )]
    Membership,
    #[error("an answer that contradicts the append it belongs to")]
    Answer,
}

pub(super) fn log_id(id: LogId) -> wire::LogId {
    wire::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(super) fn from_log_id(id: wire::LogId) -> LogId {
    LogId {
        leader_id: CommittedLeaderId::new(id.term),
        index: id.index,
    }
}

pub(super) fn vote(vote: Vote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        replica: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(super) fn from_vote(vote: wire::Vote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.replica)
    } else {
        Vote::new(vote.term, vote.replica)
    }
}

/// The term of the vote of `route`'s sender.
pub(super) fn leader_term(route: Route, vote: &Vote) -> Result<u64, Unsendable> {
    let own = vote.committed && vote.leader_id.voted_for == route.from;
    if own {
        Ok(vote.leader_id.term)
    } else {
        Err(Unsendable::ForeignVote)
    }
}

/// The vote of the sender of a leader's message.
pub(super) fn leader_vote(route: Route, term: u64) -> Vote {
    Vote::new_committed(term, route.from)
}

pub(super) fn append(
    route: Route,
    rpc: AppendEntriesRequest<TypeConfig>,
) -> Result<wire::Append, Unsendable> {
    let term = leader_term(route, &rpc.vote)?;
    let first = rpc.prev_log_id.map_or(0, |prev| prev.index.saturating_add(1));
    if rpc
        .entries
        .iter()
        .zip(first..)
        .any(|(entry, index)| entry.log_id.index != index)
    {
        return Err(Unsendable::Gap);
    }
    Ok(wire::Append {
        route,
        term,
        prev: rpc.prev_log_id.map(log_id),
        commit: rpc.leader_commit.map(log_id),
        entries: rpc.entries.into_iter().map(entry).collect(),
    })
}

pub(super) fn from_append(append: wire::Append) -> Result<AppendEntriesRequest<TypeConfig>, Implausible> {
    let first = append.prev.map_or(0, |prev| prev.index.saturating_add(1));
    let entries = append
        .entries
        .into_iter()
        .zip(first..)
        .map(|(entry, index)| from_entry(entry, index));
    Ok(AppendEntriesRequest {
        vote: leader_vote(append.route, append.term),
        prev_log_id: append.prev.map(from_log_id),
        leader_commit: append.commit.map(from_log_id),
        entries: entries.collect::<Result<_, _>>()?,
    })
}

/// The heartbeat that `rpc` is, unless it carries entries.
pub(super) fn beat(
    route: Route,
    rpc: &AppendEntriesRequest<TypeConfig>,
) -> Option<Result<wire::Beat, Unsendable>> {
    rpc.entries.is_empty().then(|| {
        let term = leader_term(route, &rpc.vote)?;
        let (prev, commit) = (rpc.prev_log_id.map(log_id), rpc.leader_commit.map(log_id));
        Ok(wire::Beat {
            route,
            term,
            prev,
            commit,
        })
    })
}

pub(super) fn from_beat(beat: wire::Beat) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: leader_vote(beat.route, beat.term),
        prev_log_id: beat.prev.map(from_log_id),
        leader_commit: beat.commit.map(from_log_id),
        entries: Vec::new(),
    }
}

pub(super) fn appended(response: AppendEntriesResponse<TypeConfig>) -> wire::Appended {
    match response {
        AppendEntriesResponse::Success => wire::Appended::Success,
        AppendEntriesResponse::PartialSuccess(upto) => wire::Appended::UpTo(upto.map(log_id)),
        AppendEntriesResponse::Conflict => wire::Appended::Conflict,
        AppendEntriesResponse::HigherVote(higher) => wire::Appended::HigherVote(vote(higher)),
    }
}

pub(super) fn from_appended(appended: wire::Appended) -> AppendEntriesResponse<TypeConfig> {
    match appended {
        wire::Appended::Success => AppendEntriesResponse::Success,
        wire::Appended::UpTo(upto) => AppendEntriesResponse::PartialSuccess(upto.map(from_log_id)),
        wire::Appended::Conflict => AppendEntriesResponse::Conflict,
        wire::Appended::HigherVote(higher) => AppendEntriesResponse::HigherVote(from_vote(higher)),
    }
}

/// What an append from behind `prev` up to `last` came to. openraft panics on a conflict where there is nothing to
/// conflict with, and takes any success for a fact.
pub(super) fn stream_result(
    appended: wire::Appended,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Result<StreamAppendResult<TypeConfig>, Implausible> {
    let possible = match appended {
        wire::Appended::Conflict => prev.is_some(),
        wire::Appended::UpTo(upto) => (prev..=last).contains(&upto.map(from_log_id)),
        wire::Appended::Success | wire::Appended::HigherVote(_) => true,
    };
    if possible {
        Ok(from_appended(appended).into_stream_result(prev, last))
    } else {
        Err(Implausible::Answer)
    }
}

pub(super) fn vote_request(
    route: Route,
    rpc: &VoteRequest<TypeConfig>,
    pre: bool,
) -> Result<wire::VoteRequest, Unsendable> {
    if rpc.vote.committed || rpc.vote.leader_id.voted_for != route.from {
        return Err(Unsendable::ForeignVote);
    }
    let (term, last) = (rpc.vote.leader_id.term, rpc.last_log_id.map(log_id));
    Ok(wire::VoteRequest {
        route,
        term,
        last,
        pre,
        transfer: rpc.leadership_transfer,
    })
}

pub(super) fn from_vote_request(request: &wire::VoteRequest) -> VoteRequest<TypeConfig> {
    VoteRequest {
        vote: Vote::new(request.term, request.route.from),
        last_log_id: request.last.map(from_log_id),
        leadership_transfer: request.transfer,
    }
}

pub(super) fn vote_answer(response: &VoteResponse<TypeConfig>) -> wire::VoteAnswer {
    wire::VoteAnswer {
        vote: vote(response.vote),
        granted: response.vote_granted,
        last: response.last_log_id.map(log_id),
    }
}

pub(super) fn from_vote_answer(answer: &wire::VoteAnswer) -> VoteResponse<TypeConfig> {
    VoteResponse::new(
        from_vote(answer.vote),
        answer.last.map(from_log_id),
        answer.granted,
    )
}

pub(super) fn transfer(
    route: Route,
    rpc: &TransferLeaderRequest<TypeConfig>,
) -> Result<wire::Transfer, Unsendable> {
    let term = leader_term(route, rpc.from_leader())?;
    Ok(wire::Transfer {
        route,
        term,
        target: *rpc.to_node_id(),
        last: rpc.last_log_id().copied().map(log_id),
    })
}

pub(super) fn from_transfer(transfer: &wire::Transfer) -> TransferLeaderRequest<TypeConfig> {
    let vote = leader_vote(transfer.route, transfer.term);
    TransferLeaderRequest::new(vote, transfer.target, transfer.last.map(from_log_id))
}

pub(super) fn transfer_answer(response: TransferLeaderResponse<TypeConfig>) -> wire::TransferAnswer {
    match response {
        Ok(()) => wire::TransferAnswer::Accepted,
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            wire::TransferAnswer::VoteChanged(vote(actual))
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            wire::TransferAnswer::LogBehind(actual.map(log_id))
        }
    }
}

pub(super) fn from_transfer_answer(
    request: &TransferLeaderRequest<TypeConfig>,
    answer: wire::TransferAnswer,
) -> TransferLeaderResponse<TypeConfig> {
    match answer {
        wire::TransferAnswer::Accepted => Ok(()),
        wire::TransferAnswer::VoteChanged(actual) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: from_vote(actual),
        }),
        wire::TransferAnswer::LogBehind(actual) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: actual.map(from_log_id),
        }),
    }
}

pub(super) fn membership(membership: &Membership) -> wire::Membership {
    wire::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|config| config.iter().copied().collect())
            .collect(),
        members: membership
            .nodes()
            .map(|(&replica, node)| (replica, node.store))
            .collect(),
    }
}

pub(super) fn from_membership(membership: wire::Membership) -> Result<Membership, Implausible> {
    if membership.configs.len() > MAX_CONFIGS {
        return Err(Implausible::Membership);
    }
    let configs = membership.configs.into_iter().map(BTreeSet::from_iter).collect();
    let members = membership
        .members
        .into_iter()
        .map(|(replica, store)| (replica, Node { store }));
    Membership::new(configs, members.collect::<BTreeMap<_, _>>()).map_err(|_| Implausible::Membership)
}

/// What a snapshot is, for the wire; `content` is its length and checksum.
pub(super) fn snapshot_header(
    route: Route,
    term: u64,
    transfer: u64,
    meta: &SnapshotMeta,
    (len, checksum): (u64, u64),
) -> wire::SnapshotHeader {
    wire::SnapshotHeader {
        route,
        term,
        transfer,
        last: meta.last_log_id.map(log_id),
        membership_log_id: meta.last_membership.log_id().map(log_id),
        membership: membership(meta.last_membership.membership()),
        len,
        checksum,
    }
}

pub(super) fn from_snapshot_header(header: wire::SnapshotHeader) -> Result<SnapshotMeta, Implausible> {
    let membership = from_membership(header.membership)?;
    Ok(SnapshotMeta {
        last_log_id: header.last.map(from_log_id),
        last_membership: StoredMembership::new(header.membership_log_id.map(from_log_id), membership),
    })
}

fn entry(entry: Entry) -> wire::Entry {
    let payload = match entry.payload {
        Payload::Blank => wire::Payload::Blank,
        Payload::Normal(Command(bytes)) => wire::Payload::Command(bytes),
        Payload::Membership(members) => wire::Payload::Membership(membership(&members)),
    };
    wire::Entry {
        term: entry.log_id.leader_id.term,
        payload,
    }
}

fn from_entry(entry: wire::Entry, index: u64) -> Result<Entry, Implausible> {
    let payload = match entry.payload {
        wire::Payload::Blank => Payload::Blank,
        wire::Payload::Command(bytes) => Payload::Normal(Command(bytes)),
        // Without any set of voters whatever follows in the log would count as committed.
        wire::Payload::Membership(members) if members.configs.is_empty() => {
            return Err(Implausible::Membership);
        }
        wire::Payload::Membership(members) => Payload::Membership(from_membership(members)?),
    };
    Ok(Entry {
        log_id: LogId {
            leader_id: CommittedLeaderId::new(entry.term),
            index,
        },
        payload,
    })
}

#[cfg(test)]
#[path = "convert_test.rs"]
mod tests;
