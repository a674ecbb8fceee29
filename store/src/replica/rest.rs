//! Whether a replica is awake, and how it falls asleep and wakes (`hibernate` says when).
//!
//! A replica that is *still* has its group's timers stopped: no ticks, no heartbeats, no elections. Whatever asks something
//! of it calls [`wake`](Replica::wake) first, which costs a look at a flag while it is awake. A leader that is still either
//! dozes, while its followers are asked, or is asleep.
//!
//! **Order.** Who lays a replica down sets the flag before it looks whether anything is under way; who asks something of it
//! puts that into a queue, or takes a slot, before it looks at the flag. So one of the two sees the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::{ReplicaId, StoreId};
use holdfast_common::net::Lane;
use holdfast_common::proto::hibernation::{Bedtime, Wake};
use holdfast_common::proto::raft::{self, Route};
use holdfast_common::proto::{self, method};
use holdfast_common::raft::types::LogId;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::vote::RaftLeaderId;
use parking_lot::Mutex;

use super::{Replica, voting};
use crate::hibernate::judge::{self, Bed, Following, Leading, Member, Plan};
use crate::hibernate::liveness::Contact;
use crate::load::Totals;
use crate::metrics::{self, Cause};
use crate::read::lease::Voting;
use crate::state::Merge;

/// Longest pause after a group did not fall asleep, before up to as much again at random.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Least time between two requests to a leader to wake.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Rest {
    /// The timers are stopped.
    still: AtomicBool,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// When it last woke, came to lead, or began.
    roused: Instant,
    seen: Trace,
    /// Since when nothing was asked of it.
    quiet_since: Instant,
    /// How often in a row the group did not fall asleep.
    refusals: u32,
    /// When a leader may try again.
    not_before: Instant,
    /// When the leader was last asked to wake.
    asked: Option<Instant>,
}

enum Phase {
    Awake,
    /// A leader in this term whose followers are being asked.
    Dozing(u64),
    Asleep(Arc<Bed>),
}

/// What changes when anything is asked of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trace {
    term: u64,
    last_index: Option<u64>,
    requests: Totals,
}

impl Default for Rest {
    fn default() -> Self {
        let now = clock::now();
        Self {
            still: AtomicBool::new(false),
            state: Mutex::new(State {
                phase: Phase::Awake,
                roused: now,
                seen: Trace::default(),
                quiet_since: now,
                refusals: 0,
                not_before: now,
                asked: None,
            }),
        }
    }
}

impl State {
    fn quiet(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.quiet_since)
    }
}

impl Replica {
    /// Whether its timers are stopped.
    pub(crate) fn is_still(&self) -> bool {
        self.rest.still.load(Ordering::SeqCst)
    }

    /// Starts its timers, if they are stopped. To be called before anything is asked of the group, and after it shows.
    pub(crate) fn wake(&self, cause: Cause) {
        if self.is_still() {
            self.rouse(&mut self.rest.state.lock(), cause);
        }
    }

    #[cold]
    fn rouse(&self, state: &mut State, cause: Cause) {
        if matches!(state.phase, Phase::Awake) {
            return;
        }
        let now = clock::now();
        state.phase = Phase::Awake;
        state.roused = now;
        state.quiet_since = now;
        if cause == Cause::Refused {
            state.refusals = state.refusals.saturating_add(1);
            let pause = Duration::from_secs(1 << state.refusals.min(6)).min(LONGEST_PAUSE);
            state.not_before = now + clock::jittered(pause);
        }
        self.hush.set(false);
        self.raft.runtime_config().tick(true);
        self.rest.still.store(false, Ordering::SeqCst);
        metrics::woke(cause);
    }

    /// Lays it down; false when it is down already. From now on whatever is asked of it wakes it; what was asked before has
    /// to be looked for.
    fn lay_down(&self, phase: Phase) -> bool {
        let mut state = self.rest.state.lock();
        if !matches!(state.phase, Phase::Awake) {
            return false;
        }
        state.phase = phase;
        self.raft.runtime_config().tick(false);
        self.rest.still.store(true, Ordering::SeqCst);
        true
    }

    /// Notes what was asked of it lately. Whether it leads, nothing was asked for `after`, and it did not try to sleep just
    /// now. To be called regularly while it is awake.
    pub(crate) fn is_tired(&self, after: Duration, now: Instant) -> bool {
        let (leads, term, last_index) = {
            let metrics = self.metrics.borrow_watched();
            (
                metrics.state.is_leader(),
                metrics.current_term,
                metrics.last_log_index,
            )
        };
        let trace = Trace {
            term,
            last_index,
            requests: self.load.totals(),
        };
        let mut state = self.rest.state.lock();
        if state.seen != trace {
            state.seen = trace;
            state.quiet_since = now;
            state.refusals = 0;
        }
        leads && state.quiet(now) >= after && now >= state.not_before
    }

    /// Stops a leader's timers, if its group may sleep, and says who has to agree.
    pub(crate) fn doze(&self) -> Option<Plan> {
        let now = clock::now();
        judge::may_sleep(&self.leading(now)).ok()?;
        if !self.lay_down(Phase::Dozing(self.term())) {
            return None;
        }
        let plan = judge::may_sleep(&self.leading(now));
        if plan.is_err() {
            self.wake(Cause::Refused);
        }
        plan.ok()
    }

    /// The others of its group sleep: so does this leader, unless it was woken meanwhile.
    pub(crate) fn lie_down(&self, bed: Bed) {
        let mut state = self.rest.state.lock();
        if matches!(state.phase, Phase::Dozing(term) if term == bed.term) {
            state.phase = Phase::Asleep(Arc::new(bed));
            state.refusals = 0;
            metrics::slept(true);
        }
    }

    /// Puts a follower to sleep if it is just what its leader takes it for; whether it sleeps.
    pub(crate) fn tuck_in(&self, bedtime: &Bedtime, incarnation: u64) -> bool {
        let dormitory = &self.site.dormitory;
        let (Some(after), Some(store)) = (dormitory.after, self.store_of(bedtime.route.from)) else {
            return false;
        };
        let now = clock::now();
        dormitory.liveness.want(store, now);
        if dormitory.liveness.contact(store, now) == Contact::Unknown {
            dormitory.liveness.heard(store, incarnation, now);
        }
        // Its own look may be as long ago as half of what the leader waits.
        let is_quiet = self.is_still() || self.rest.state.lock().quiet(now) >= after / 2;
        let agrees = || judge::agrees(&self.following(store, now), bedtime, incarnation);
        if !is_quiet || !agrees() {
            return false;
        }
        if let Some(bed) = self.bed() {
            return !bed.leads && bed.term == bedtime.term;
        }
        let bed = Bed {
            leads: false,
            term: bedtime.term,
            leader: bedtime.route.from,
            relies_on: vec![(store, incarnation)],
            left: Vec::new(),
            rank: self.rank(bedtime.route.from),
        };
        if !self.lay_down(Phase::Asleep(Arc::new(bed))) {
            return false;
        }
        if !agrees() {
            self.wake(Cause::Refused);
            return false;
        }
        metrics::slept(false);
        true
    }

    /// What it sleeps on, if it does.
    pub(crate) fn bed(&self) -> Option<Arc<Bed>> {
        if !self.is_still() {
            return None;
        }
        match &self.rest.state.lock().phase {
            Phase::Asleep(bed) => Some(bed.clone()),
            Phase::Awake | Phase::Dozing(_) => None,
        }
    }

    /// Wakes it when it is not any more what it went to sleep as.
    pub(super) fn wake_if_changed(&self) {
        if !self.is_still() {
            return;
        }
        let present = (self.term(), self.leader());
        let mut state = self.rest.state.lock();
        let asleep_in = match &state.phase {
            Phase::Awake => return,
            Phase::Dozing(term) => (*term, Some(self.id)),
            Phase::Asleep(bed) => (bed.term, Some(bed.leader)),
        };
        if present != asleep_in {
            self.rouse(&mut state, Cause::Changed);
        }
    }

    /// It came to lead: a majority has just voted for it.
    pub(super) fn note_leadership(&self) {
        self.rest.state.lock().roused = clock::now();
    }

    /// How long ago it woke, came to lead, or began.
    pub(super) fn up_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.rest.state.lock().roused)
    }

    /// Somebody reads from this replica whatever it has. If it sleeps, its group is to wake, so that it has newer things.
    pub(crate) fn ask_for_freshness(&self) {
        match self.bed() {
            None => {}
            Some(bed) if bed.leads => self.wake(Cause::Read),
            Some(bed) => self.ask_leader_to_wake(&bed),
        }
    }

    fn ask_leader_to_wake(&self, bed: &Bed) {
        let now = clock::now();
        {
            let mut state = self.rest.state.lock();
            if state.asked.is_some_and(|asked| now - asked < ASK_AGAIN) {
                return;
            }
            state.asked = Some(now);
        }
        let address = bed
            .relies_on
            .first()
            .and_then(|(store, _)| self.site.addresses.get(*store));
        let Some(address) = address else { return };
        let route = Route {
            range: self.range,
            from: self.id,
            to: bed.leader,
        };
        let peer = self.site.client.peer(&address, Lane::Fast);
        // Lost, it is sent again for the next who asks.
        let deadline = now + ASK_AGAIN;
        peer.call_with(method::STORE_WAKE, proto::encode(&Wake { route }), deadline, drop);
    }

    /// Whether the store of another replica answers, as far as sleepers know.
    pub(super) fn store_lives(&self, store: StoreId, now: Instant) -> bool {
        matches!(
            self.site.dormitory.liveness.contact(store, now),
            Contact::Lives(_)
        )
    }

    pub(super) fn store_of(&self, replica: ReplicaId) -> Option<StoreId> {
        let membership = self.stored_membership();
        membership.membership().get_node(&replica).map(|node| node.store)
    }

    pub(super) fn rank(&self, leader: ReplicaId) -> u32 {
        let voters: Vec<_> = self.membership().voter_ids().collect();
        judge::rank(self.range, self.id, leader, &voters)
    }

    fn leading(&self, now: Instant) -> Leading {
        let is_busy = self.is_busy();
        let liveness = &self.site.dormitory.liveness;
        let metrics = self.metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters = membership.get_joint_config();
        let others = membership.nodes().filter(|(id, _)| **id != self.id);
        let others = others.map(|(id, node)| {
            liveness.want(node.store, now);
            let matched = metrics
                .replication
                .as_ref()
                .and_then(|replication| *replication.get(id)?);
            Member {
                id: *id,
                store: node.store,
                votes: voters.iter().any(|voters| voters.contains(id)),
                matched: matched.map(|id| position(&id)),
                is_suspected: matches!(liveness.contact(node.store, now), Contact::Suspected(_)),
            }
        });
        let others = others.collect();
        Leading {
            leads: metrics.state.is_leader() && metrics.current_leader == Some(self.id),
            term: metrics.current_term,
            last_index: metrics.last_log_index,
            applied: metrics.last_applied.as_ref().map(position),
            is_settled: voters.len() == 1 && voting(membership, self.id) != Voting::No,
            is_busy,
            others,
        }
    }

    fn following(&self, leader_store: StoreId, now: Instant) -> Following {
        let is_busy = self.is_busy();
        let metrics = self.metrics.borrow_watched();
        Following {
            vote: raft::Vote {
                term: metrics.vote.leader_id().term,
                replica: *metrics.vote.leader_id().node_id(),
                committed: metrics.vote.is_committed(),
            },
            is_candidate: !matches!(metrics.state, ServerState::Follower | ServerState::Learner),
            last_index: metrics.last_log_index,
            applied: metrics.last_applied.as_ref().map(position),
            is_busy,
            leader: self.site.dormitory.liveness.contact(leader_store, now),
        }
    }

    fn is_busy(&self) -> bool {
        !self.writes.lock().is_idle()
            || !self.rounds.is_idle()
            || self.stepping.load(Ordering::SeqCst)
            || self.driving.load(Ordering::SeqCst)
            || self.shared.merge() != Merge::No
    }
}

fn position(id: &LogId) -> raft::LogId {
    raft::LogId {
        term: id.committed_leader_id().term,
        index: id.index,
    }
}
