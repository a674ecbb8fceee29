//! Whether a replica is awake, and how it falls asleep and wakes (`hibernate` says when).
//!
//! A replica that *sleeps* has its group's timers stopped: no ticks, no heartbeats, no elections. It goes on with whatever it
//! is asked for that needs none of them: reads, writes, and what the leader that it sleeps under sends. Whatever does need
//! them [wakes](Replica::wake) it first, which costs a look at a flag while it is awake.
//!
//! **Order.** Who lays a replica down sets the flag before it looks whether anything is being changed; who begins to change
//! something takes note of that before it looks at the flag. So one of the two sees the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::{ReplicaId, StoreId};
use holdfast_common::net::Lane;
use holdfast_common::proto::hibernation::{Bedtime, Wake};
use holdfast_common::proto::raft::{self, Route};
use holdfast_common::proto::{self, method};
use holdfast_common::raft::network::Leader;
use holdfast_common::raft::types::LogId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::vote::RaftLeaderId;
use openraft::{Instant as _, ServerState};
use parking_lot::Mutex;

use super::{Replica, voting};
use crate::hibernate::activity::{Activity, Need, Trace};
use crate::hibernate::judge::{self, Bed, Following, Leading, Member, Plan};
use crate::hibernate::liveness::Contact;
use crate::metrics::{self, Cause};
use crate::read::lease::Voting;
use crate::state::Merge;

/// Longest pause after a group did not fall asleep, before up to as much again at random.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Least time between two requests to a leader to wake.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Rest {
    /// It sleeps.
    still: AtomicBool,
    /// It may have something to look after, as of the last look.
    stirs: AtomicBool,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// When it last woke, came to lead, or began.
    roused: Instant,
    activity: Activity,
    /// How often in a row the group did not fall asleep.
    refusals: u32,
    /// When a leader may try again.
    not_before: Instant,
    /// When the leader was last asked to wake.
    asked: Option<Instant>,
}

enum Phase {
    Awake,
    Asleep(Arc<Bed>),
}

impl Default for Rest {
    fn default() -> Self {
        let now = clock::now();
        Self {
            still: AtomicBool::new(false),
            stirs: AtomicBool::new(true),
            state: Mutex::new(State {
                phase: Phase::Awake,
                roused: now,
                activity: Activity::new(now),
                refusals: 0,
                not_before: now,
                asked: None,
            }),
        }
    }
}

impl State {
    fn bed(&self) -> Option<&Arc<Bed>> {
        match &self.phase {
            Phase::Awake => None,
            Phase::Asleep(bed) => Some(bed),
        }
    }

    fn put_off(&mut self, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        let pause = Duration::from_secs(1 << self.refusals.min(6)).min(LONGEST_PAUSE);
        self.not_before = now + clock::jittered(pause);
    }

    /// Whether a follower was read from within `time`.
    fn was_read_within(&self, time: Duration, now: Instant) -> bool {
        let asked = self.asked.is_some_and(|asked| now - asked < time);
        asked || self.activity.was_read_within(time, now)
    }
}

impl Replica {
    /// Whether its timers are stopped.
    pub(crate) fn is_still(&self) -> bool {
        self.rest.still.load(Ordering::SeqCst)
    }

    /// Starts its timers, if they are stopped. To be called before anything is asked of the group that needs them, and after
    /// it shows.
    pub(crate) fn wake(&self, cause: Cause) {
        if self.is_still() {
            self.wake_unless(cause, |_| false);
        }
    }

    /// A Raft message came for it, of entries or a heartbeat if it names a `leader`: it sleeps on if that is the one that it
    /// sleeps under.
    pub(crate) fn hear(&self, leader: Option<Leader>) {
        if self.is_still() {
            let is_own = |bed: &Bed| {
                let own = Leader {
                    replica: bed.leader,
                    term: bed.term,
                };
                !bed.leads && leader == Some(own)
            };
            self.wake_unless(Cause::Message, is_own);
        }
    }

    #[cold]
    fn wake_unless(&self, cause: Cause, sleeps_on: impl Fn(&Bed) -> bool) {
        let mut state = self.rest.state.lock();
        let Some(bed) = state.bed().filter(|bed| !sleeps_on(bed)).cloned() else {
            return;
        };
        self.rouse(&mut state, cause);
        drop(state);
        // From now on it campaigns if it does not hear from its leader.
        if !bed.leads && matches!(cause, Cause::Message | Cause::Step) {
            self.ask_leader_to_wake(&bed);
        }
    }

    fn rouse(&self, state: &mut State, cause: Cause) {
        let now = clock::now();
        state.phase = Phase::Awake;
        state.roused = now;
        if cause == Cause::Refused {
            state.put_off(now);
        }
        self.hush.set(false);
        self.raft.runtime_config().tick(true);
        self.rest.still.store(false, Ordering::SeqCst);
        metrics::woke(cause);
    }

    /// Lays it down; false when it is down already. What was being changed before has to be looked for.
    fn lay_down(&self, bed: Bed) -> bool {
        let mut state = self.rest.state.lock();
        if state.bed().is_some() {
            return false;
        }
        state.phase = Phase::Asleep(Arc::new(bed));
        self.raft.runtime_config().tick(false);
        self.rest.still.store(true, Ordering::SeqCst);
        self.hush.set(false);
        true
    }

    /// Whether it was awake, or there was anything to look after, when it was last [tended](Self::tend).
    pub(crate) fn stirred(&self) -> bool {
        !self.is_still() || self.rest.stirs.load(Ordering::Relaxed)
    }

    /// Notes what was asked of it and what came of that, and sees to what it needs in its sleep. Whether there may be anything
    /// to look after. To be called regularly.
    pub(crate) fn tend(&self, now: Instant) -> bool {
        let stirs = self.look_after(now);
        self.rest.stirs.store(stirs, Ordering::Relaxed);
        stirs
    }

    fn look_after(&self, now: Instant) -> bool {
        let trace = self.trace();
        let mut state = self.rest.state.lock();
        state.activity.note(trace, now);
        let Some(leads) = state.bed().map(|bed| bed.leads) else {
            state.activity.timers_run();
            return true;
        };
        if leads {
            match state.activity.need(self.site.dormitory.election_min, now) {
                Need::Nothing => {}
                Need::Heartbeat => self.send_heartbeat(),
                Need::Timers => self.rouse(&mut state, Cause::Unanswered),
            }
        }
        state.activity.stirs(now)
    }

    fn trace(&self) -> Trace {
        let requests = self.load.totals();
        let waits = !self.writes.lock().is_idle() || !self.rounds.is_idle();
        let metrics = self.metrics.borrow_watched();
        Trace {
            reads: requests.reads,
            writes: requests.writes,
            last_index: metrics.last_log_index,
            applied: metrics.last_applied.map(|id| id.index),
            acked: metrics
                .last_quorum_acked
                .map(|acked| acked.into_inner().elapsed()),
            waits,
        }
    }

    fn send_heartbeat(&self) {
        let raft = self.raft.clone();
        // A group that has just ended has nothing to tell.
        tokio::spawn(async move { raft.trigger().heartbeat().await.ok() });
    }

    /// Whether it leads, is awake, and has been undisturbed for `after`; and did not try to sleep just now.
    pub(crate) fn is_tired(&self, after: Duration, now: Instant) -> bool {
        if self.is_still() || !self.leads() {
            return false;
        }
        let state = self.rest.state.lock();
        now.saturating_duration_since(state.roused) >= after && now >= state.not_before
    }

    /// Who has to agree for this leader to sleep, if it may.
    pub(crate) fn plan_sleep(&self) -> Option<Plan> {
        judge::may_sleep(&self.leading(clock::now())).ok()
    }

    /// The others of its group sleep, as planned: so does this leader, if nothing has changed.
    pub(crate) fn lie_down(&self, plan: &Plan, bed: Bed) {
        if !self.lay_down(bed) {
            return;
        }
        if self.plan_sleep().as_ref() == Some(plan) {
            self.rest.state.lock().refusals = 0;
            metrics::slept(true);
        } else {
            self.wake(Cause::Refused);
        }
    }

    /// Somebody did not agree: this leader tries again later.
    pub(crate) fn put_off_sleep(&self) {
        self.rest.state.lock().put_off(clock::now());
    }

    /// This sleeping leader relies on fewer than it did when it lay on `before`.
    pub(crate) fn lie_on(&self, bed: Bed, before: &Arc<Bed>) {
        if let Phase::Asleep(present) = &mut self.rest.state.lock().phase
            && Arc::ptr_eq(present, before)
        {
            *present = Arc::new(bed);
        }
    }

    /// Puts a follower to sleep if it follows who asks it to; whether it sleeps.
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
        // Who reads from a follower wants it to hear from its leader.
        let was_read = self.rest.state.lock().was_read_within(after / 2, now);
        let agrees = || judge::agrees(&self.following(store, now), bedtime, incarnation);
        if was_read || !agrees() {
            return false;
        }
        if let Some(bed) = self.bed() {
            return !bed.leads && bed.term == bedtime.term && bed.relies_on == [(store, incarnation)];
        }
        let bed = Bed {
            leads: false,
            term: bedtime.term,
            leader: bedtime.route.from,
            relies_on: vec![(store, incarnation)],
            left: Vec::new(),
            rank: self.rank(bedtime.route.from),
        };
        if !self.lay_down(bed) {
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
        self.rest.state.lock().bed().cloned()
    }

    /// Wakes it when it is not any more what it went to sleep as.
    pub(super) fn wake_if_changed(&self) {
        if self.is_still() {
            let present = (self.term(), self.leader());
            self.wake_unless(Cause::Changed, |bed| present == (bed.term, Some(bed.leader)));
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
        let store = bed.relies_on.first().map(|(store, _)| *store);
        let store = store.filter(|store| self.store_lives(*store, now));
        let Some(address) = store.and_then(|store| self.site.addresses.get(store)) else {
            return;
        };
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
            is_busy,
            leader: self.site.dormitory.liveness.contact(leader_store, now),
        }
    }

    fn is_busy(&self) -> bool {
        self.stepping.load(Ordering::SeqCst)
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
