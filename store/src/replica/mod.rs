//! One replica of one range: what the host keeps for it beside its Raft group.
//!
//! A replica answers three questions for the request paths: what is the range ([`SharedRange`], as applied), may I speak
//! for it (`standing`, `confirm`), and who may instead (`not_leader`). [`writes`] is the way of writes into the log, `read`
//! that of reads around it.

pub(crate) mod admission;
mod bounds;
mod compaction;
pub(crate) mod fence;
mod freshness;
pub(crate) mod queue;
mod rest;
pub(crate) mod retention;
mod silence;
mod succession;
mod watch;
pub(crate) mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_common::clock;
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::key::Span;
use holdfast_common::proto::kv::{self, LeaderHint, Target};
use holdfast_common::raft::network::Hush;
use holdfast_common::raft::types::{Membership, Raft, StoredMembership, TypeConfig};
use holdfast_common::range::Descriptor;
use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::type_config::alias::WatchReceiverOf;
use openraft::vote::RaftLeaderId;
use openraft::{Instant, ReadPolicy};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::Refusal;
use self::fence::Fence;
use self::freshness::Freshness;
use self::queue::Queue;
use self::rest::Rest;
use self::retention::Retention;
use self::writes::{Waiting, stopping};
use crate::engine;
use crate::failpoint;
use crate::load::Meter;
use crate::machine::RangeMachine;
use crate::read::index::ReadRounds;
use crate::read::lease::{self, Lease, Standing, Voting};
use crate::shared::SharedRange;
use crate::site::Site;
use crate::state::Merge;

/// What a leader knows of one other replica of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The replica.
    pub id: ReplicaId,
    /// Entries that it lacks; none when nothing was ever acknowledged.
    pub lag: Option<u64>,
    /// Whether it acknowledged something within the last election timeout, or its group sleeps and its store answers.
    pub live: bool,
}

/// A Raft group's replica that was just started.
pub(crate) struct Group {
    /// The group.
    pub(crate) raft: Raft<RangeMachine>,
    /// What its state machine has applied.
    pub(crate) shared: SharedRange,
    /// Counts the state machine for as long as it lives.
    pub(crate) machines: TaskTracker,
    /// Holds its heartbeats back.
    pub(crate) hush: Hush,
}

/// A running replica.
pub(crate) struct Replica {
    pub range: RangeId,
    pub id: ReplicaId,
    pub site: Arc<Site>,
    pub raft: Raft<RangeMachine>,
    /// The range as this replica has applied it.
    pub shared: SharedRange,
    /// What is hidden while a split is under way.
    pub fence: Fence,
    /// Reads that wait for a quorum.
    pub rounds: ReadRounds,
    /// Set while a step from the driver is carried out.
    pub stepping: AtomicBool,
    /// Set while a task drives the range's merge.
    pub driving: AtomicBool,
    /// The range may have come to be in a merge, or out of it.
    pub merging: Notify,
    fresh: bool,
    machines: TaskTracker,
    metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    writes: Mutex<Queue<Waiting>>,
    /// The last term whose lease this replica gave up, to hand its leadership over; 0 for none.
    renounced_term: AtomicU64,
    /// What is asked of it.
    pub load: Meter,
    freshness: Freshness,
    retention: Mutex<Retention>,
    rest: Rest,
    hush: Hush,
    /// Ends the replica's own tasks.
    stopped: CancellationToken,
}

impl Replica {
    /// Wraps a group that runs, and watches over it. `fresh`: it never ran before.
    pub(crate) fn start(
        site: Arc<Site>,
        (range, id): (RangeId, ReplicaId),
        group: Group,
        fresh: bool,
    ) -> Arc<Self> {
        let Group {
            raft,
            shared,
            machines,
            hush,
        } = group;
        let replica = Arc::new(Self {
            range,
            id,
            metrics: raft.metrics(),
            raft,
            shared,
            machines,
            fresh,
            fence: Fence::default(),
            rounds: ReadRounds::default(),
            stepping: AtomicBool::new(false),
            driving: AtomicBool::new(false),
            merging: Notify::new(),
            writes: Mutex::new(Queue::new(site.waiting)),
            renounced_term: AtomicU64::new(0),
            load: Meter::default(),
            freshness: Freshness::default(),
            retention: Mutex::default(),
            rest: Rest::default(),
            hush,
            stopped: CancellationToken::new(),
            site,
        });
        tokio::spawn(watch::run(replica.clone()));
        replica
    }

    /// Stops the group. What waits is turned away, and what is in flight has an unknown outcome. When this returns, the
    /// state machine is gone: openraft does not wait for it, and it works off what it was given.
    pub(crate) async fn stop(&self) {
        self.stopped.cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(range = %self.range, replica = %self.id, %error, "the group's task did not end well");
        }
        self.machines.close();
        self.machines.wait().await;
        self.turn_away(&stopping());
    }

    /// Whether it never ran before, so that it can't have promised anything that it does not remember.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Lets it campaign.
    pub(crate) fn allow_elections(&self) {
        self.raft.runtime_config().elect(true);
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Waits until it is told to stop.
    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// The range, unless this replica has not had its first snapshot.
    pub(crate) fn descriptor(&self) -> Option<Arc<Descriptor>> {
        self.shared.descriptor()
    }

    /// What is known about this replica's leadership at this moment.
    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.metrics.borrow_watched();
        let vote = &metrics.vote;
        Standing {
            term: vote.leader_id().term,
            leads: vote.is_committed() && vote.leader_id().node_id() == &self.id && metrics.state.is_leader(),
            voting: voting(metrics.membership_config.membership(), self.id),
            applied_term: metrics
                .last_applied
                .as_ref()
                .map(|log_id| log_id.committed_leader_id().term),
            quorum_acked: metrics
                .last_quorum_acked
                .map(|acked| acked.into_inner().elapsed()),
            renounced_term: self.renounced_term.load(Ordering::Acquire),
        }
    }

    /// Whether it may answer linearizable reads by itself that have arrived already.
    pub(crate) fn lease(&self) -> Lease {
        let standing = self.standing();
        if standing.leads && failpoint::reads_without_lease() {
            return Lease::Held;
        }
        lease::judge(&standing, &self.site.terms)
    }

    /// Asks a quorum whether this replica still leads, and waits until it has applied all that was committed then.
    pub(crate) async fn confirm(&self) -> Result<(), kv::Error> {
        let linearizer = match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => linearizer,
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                return Err(self.not_leader());
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                return Err(kv::Error::NotReady(
                    "the range's leader does not reach a majority".to_owned(),
                ));
            }
            Err(RaftError::Fatal(_)) => return Err(stopping()),
        };
        match linearizer
            .try_await_ready(&self.raft, Some(self.site.terms.lease))
            .await
        {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(kv::Error::NotReady(
                "the leader has not applied what is committed".to_owned(),
            )),
            Err(_) => Err(stopping()),
        }
    }

    /// Voids every lease, of whatever term, until [`renounce_lease`](Self::renounce_lease) says which. To be called before
    /// a transfer of the leadership is started.
    pub(crate) fn renounce_leases(&self) {
        self.renounced_term.store(u64::MAX, Ordering::Release);
    }

    /// Voids the lease of `term`, and of no later one: a transfer was started in it.
    pub(crate) fn renounce_lease(&self, term: u64) {
        self.renounced_term.store(term, Ordering::Release);
    }

    /// Whether it leads, as far as is known.
    pub(crate) fn leads(&self) -> bool {
        let metrics = self.metrics.borrow_watched();
        metrics.state.is_leader() && metrics.current_leader == Some(self.id)
    }

    /// Its Raft term.
    pub(crate) fn term(&self) -> u64 {
        self.metrics.borrow_watched().current_term
    }

    /// Who leads, as far as is known.
    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        self.metrics.borrow_watched().current_leader
    }

    /// The newest configuration that it knows.
    pub(crate) fn membership(&self) -> Membership {
        self.stored_membership().membership().clone()
    }

    /// The newest configuration that it knows, and where in the log it is.
    pub(crate) fn stored_membership(&self) -> Arc<StoredMembership> {
        self.metrics.borrow_watched().membership_config.clone()
    }

    /// What the leader knows of the others; nothing when this replica does not lead.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let metrics = self.metrics.borrow_watched();
        let (Some(replication), Some(heartbeat)) = (&metrics.replication, &metrics.heartbeat) else {
            return Vec::new();
        };
        let last = metrics.last_log_index.map_or(0, |index| index + 1);
        let (now, nodes) = (clock::now(), metrics.membership_config.membership());
        // Just woken, it has not heard from anybody yet.
        let rested = self.is_still() || self.up_for(now) < self.site.terms.lease;
        let store_lives = |id| {
            nodes
                .get_node(id)
                .is_some_and(|node| self.store_lives(node.store, now))
        };
        replication
            .iter()
            .filter(|(id, _)| **id != self.id)
            .map(|(id, matched)| Peer {
                id: *id,
                lag: matched
                    .as_ref()
                    .map(|log_id| last.saturating_sub(log_id.index() + 1)),
                live: heartbeat
                    .get(id)
                    .copied()
                    .flatten()
                    .is_some_and(|acked| acked.elapsed() < self.site.terms.lease)
                    || (rested && store_lives(id)),
            })
            .collect()
    }

    /// Where to go instead, with what this replica knows of the range.
    pub(crate) fn not_leader(&self) -> kv::Error {
        let Some(descriptor) = self.descriptor() else {
            return kv::Error::NotReady("the replica waits for its first snapshot".to_owned());
        };
        let leader = self
            .leader()
            .filter(|leader| *leader != self.id)
            .and_then(|leader| {
                let store = descriptor.replica(leader)?.store;
                Some(LeaderHint {
                    replica: leader,
                    store,
                    address: self.site.addresses.get(store),
                })
            });
        kv::Error::NotLeader {
            leader,
            descriptor: Box::new((*descriptor).clone()),
        }
    }

    /// Checks that `key` may be read or written here now. With it comes the time, in milliseconds since the Unix epoch,
    /// of the last write.
    pub(crate) fn admit_key(&self, target: Target, key: &[u8]) -> Result<u64, kv::Error> {
        let admitted = {
            let view = self.shared.read();
            let Some(descriptor) = &view.descriptor else {
                return Err(kv::Error::NoSuchRange);
            };
            if view.merge != Merge::No && !failpoint::merge_fence_is_ignored() {
                return Err(being_merged());
            }
            if failpoint::bounds_are_unchecked() {
                return Ok(view.last_revision.millis());
            }
            admission::key(descriptor, target, key).map(|()| view.last_revision.millis())
        };
        match admitted {
            Ok(_) if self.fence.hides(key, || self.term()) => Err(self.refused(Refusal::Splitting, key)),
            Ok(last_revision_ms) => Ok(last_revision_ms),
            Err(refusal) => Err(self.refused(refusal, key)),
        }
    }

    /// Checks that `span` may be scanned here now. With it comes the time of the last write.
    pub(crate) fn admit_span(&self, target: Target, span: &Span) -> Result<u64, kv::Error> {
        let admitted = {
            let view = self.shared.read();
            let Some(descriptor) = &view.descriptor else {
                return Err(kv::Error::NoSuchRange);
            };
            if view.merge != Merge::No && !failpoint::merge_fence_is_ignored() {
                return Err(being_merged());
            }
            admission::span(descriptor, target, span).map(|()| view.last_revision.millis())
        };
        match admitted {
            Ok(_) if self.fence.cuts(span, || self.term()) => {
                Err(self.refused(Refusal::Splitting, span.start()))
            }
            Ok(last_revision_ms) => Ok(last_revision_ms),
            Err(refusal) => Err(self.refused(refusal, span.start())),
        }
    }

    fn refused(&self, refusal: Refusal, key: &[u8]) -> kv::Error {
        match refusal {
            Refusal::StaleEpoch => kv::Error::StaleEpoch {
                current: self.site.ranges.around(self.range, key),
            },
            Refusal::OutOfRange => kv::Error::Invalid("outside the range whose bounds it names".to_owned()),
            Refusal::Splitting => kv::Error::NotReady("the range is being split".to_owned()),
        }
    }

    /// The engine can't be trusted any more: ends the process.
    pub(crate) fn engine_failed(&self, error: impl Into<engine::Error>) -> kv::Error {
        let error = self.site.engine.distrust(error.into());
        self.site
            .alarm
            .raise(format!("reading range {}: {error}", self.range));
        kv::Error::NotReady("the store has failed".to_owned())
    }
}

fn being_merged() -> kv::Error {
    kv::Error::NotReady("the range is being merged".to_owned())
}

fn voting(membership: &Membership, me: ReplicaId) -> Voting {
    match membership.get_joint_config().as_slice() {
        [voters] if voters.contains(&me) && voters.len() == 1 => Voting::Alone,
        configs if configs.iter().any(|voters| voters.contains(&me)) => Voting::OneOfMany,
        _ => Voting::No,
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replica({} of range {})", self.id, self.range)
    }
}
