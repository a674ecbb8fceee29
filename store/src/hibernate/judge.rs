//! Who may sleep, who agrees to it, who has to wake, and who follows a leader that is lost: pure.

use std::time::Duration;

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::proto::hibernation::Bedtime;
use holdfast_common::proto::raft::{LogId, Vote};

use super::liveness::Contact;
use crate::metrics::Cause;

/// Another replica of a group, as the leader sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub id: ReplicaId,
    pub store: StoreId,
    pub votes: bool,
    /// The end of what it is known to have of the leader's log.
    pub matched: Option<LogId>,
    /// Whether its store does not answer.
    pub is_suspected: bool,
}

/// A leader that would like to sleep.
#[derive(Clone, Debug)]
pub(crate) struct Leading {
    pub leads: bool,
    pub term: u64,
    pub applied: Option<LogId>,
    /// Whether it votes in the one configuration that there is.
    pub is_settled: bool,
    /// Whether anything is being changed.
    pub is_busy: bool,
    pub others: Vec<Member>,
}

/// How a leader goes to sleep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The term that it leads.
    pub term: u64,
    /// Who has to agree, and on which store.
    pub ask: Vec<(ReplicaId, StoreId)>,
    /// Stores that do not answer. Should one come back, its replica may campaign.
    pub leave: Vec<StoreId>,
}

/// Why a leader stays awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It does not lead.
    NotLeader,
    /// Something is being changed.
    Busy,
    /// It has applied no entry of its term.
    Unapplied,
    /// Its membership is changing, or does not include it.
    Unsettled,
    /// A replica that can be reached is not known to have an entry of its term.
    Behind,
    /// Those that can be reached are no majority.
    NoMajority,
}

/// Whether a leader may sleep, and with whom.
pub(crate) fn may_sleep(leader: &Leading) -> Result<Plan, Unfit> {
    if !leader.leads {
        return Err(Unfit::NotLeader);
    }
    if leader.is_busy {
        return Err(Unfit::Busy);
    }
    let is_present = |last: Option<LogId>| last.is_some_and(|last| last.term == leader.term);
    if !is_present(leader.applied) {
        return Err(Unfit::Unapplied);
    }
    if !leader.is_settled {
        return Err(Unfit::Unsettled);
    }
    let (left, reached): (Vec<&Member>, Vec<&Member>) =
        leader.others.iter().partition(|other| other.is_suspected);
    if !reached.iter().all(|other| is_present(other.matched)) {
        return Err(Unfit::Behind);
    }
    let votes = |members: &[&Member]| members.iter().filter(|member| member.votes).count();
    // The leader itself votes, too.
    if votes(&reached) < votes(&left) {
        return Err(Unfit::NoMajority);
    }
    Ok(Plan {
        term: leader.term,
        ask: reached.iter().map(|other| (other.id, other.store)).collect(),
        leave: left.iter().map(|other| other.store).collect(),
    })
}

/// A replica that is asked to sleep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Following {
    pub vote: Vote,
    /// Whether it leads or campaigns.
    pub is_candidate: bool,
    /// Whether anything is being changed, or was read here lately.
    pub is_busy: bool,
    /// What is known of the store of the leader.
    pub leader: Contact,
}

/// Whether a replica follows the leader that asks it to sleep, and that one's store is known to live as it was when it asked.
pub(crate) fn agrees(follower: &Following, bedtime: &Bedtime, incarnation: u64) -> bool {
    let leader = Vote {
        term: bedtime.term,
        replica: bedtime.route.from,
        committed: true,
    };
    !follower.is_busy
        && !follower.is_candidate
        && follower.vote == leader
        && follower.leader == Contact::Lives(incarnation)
}

/// What a replica went to sleep on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bed {
    /// Whether it leads.
    pub leads: bool,
    /// The term that it sleeps in.
    pub term: u64,
    /// Who leads in it.
    pub leader: ReplicaId,
    /// Stores that it relies on, in these incarnations: of the leader that of each sleeping follower, of a follower that of
    /// the leader.
    pub relies_on: Vec<(StoreId, u64)>,
    /// Stores that do not answer, as far as the leader knows: when it went to sleep, or since.
    pub left: Vec<StoreId>,
    /// How many campaign before it when the leader is gone.
    pub rank: u32,
}

/// Why a sleeper has to wake now, if it has to. `stagger`: how much later each rank wakes, so that one of a group has been
/// elected, as a rule, before the next campaigns.
pub(crate) fn wakes(bed: &Bed, contact: impl Fn(StoreId) -> Contact, stagger: Duration) -> Option<Cause> {
    let other = |(store, incarnation): &(StoreId, u64)| match contact(*store) {
        Contact::Lives(now) if now != *incarnation => Some(Cause::StoreBack),
        Contact::Suspected(since) if !bed.leads && since >= stagger * bed.rank => Some(Cause::LeaderLost),
        _ => None,
    };
    let returned = |store: &StoreId| matches!(contact(*store), Contact::Lives(_)).then_some(Cause::StoreBack);
    let relied = bed.relies_on.iter().find_map(other);
    relied.or_else(|| bed.left.iter().find_map(returned))
}

/// A sleeping leader's bed without the stores that no longer answer: their replicas may campaign when they are back, and
/// it wakes for them. Nothing if there is none that it had not left behind.
pub(crate) fn without_lost(bed: &Bed, contact: impl Fn(StoreId) -> Contact) -> Option<Bed> {
    let is_lost = |(store, _): &(StoreId, u64)| matches!(contact(*store), Contact::Suspected(_));
    let (lost, relies_on): (Vec<_>, Vec<_>) = bed.relies_on.iter().copied().partition(is_lost);
    if !bed.leads || lost.is_empty() {
        return None;
    }
    let mut left = bed.left.clone();
    left.extend(lost.into_iter().map(|(store, _)| store));
    Some(Bed {
        relies_on,
        left,
        ..bed.clone()
    })
}

/// Whether a follower that is awake stands for election now, whose leader's store has been lost for so long beyond the lease.
pub(crate) fn stands(bereft: Option<Duration>, rank: u32, stagger: Duration) -> bool {
    bereft.is_some_and(|bereft| bereft >= stagger * rank)
}

/// The place of voter `me` among those that may follow `leader`, ranges taking turns. Who does not vote comes last.
pub(crate) fn rank(range: RangeId, me: ReplicaId, leader: ReplicaId, voters: &[ReplicaId]) -> u32 {
    let mut heirs: Vec<_> = voters.iter().filter(|voter| **voter != leader).collect();
    heirs.sort_unstable();
    let count = heirs.len();
    let place = heirs.iter().position(|heir| **heir == me);
    let place = place.map_or(count, |place| {
        (place + (range.0 % count.max(1) as u64) as usize) % count
    });
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "judge_test.rs"]
mod tests;
