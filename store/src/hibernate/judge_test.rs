use holdfast_common::proto::raft::Route;

use super::*;

const LAST: LogId = LogId { term: 4, index: 9 };
const STAGGER: Duration = Duration::from_millis(450);

fn member(id: u64) -> Member {
    Member {
        id: ReplicaId(id),
        store: StoreId(id),
        votes: true,
        matched: Some(LAST),
        is_suspected: false,
    }
}

fn leading(others: Vec<Member>) -> Leading {
    Leading {
        leads: true,
        term: 4,
        applied: Some(LAST),
        is_settled: true,
        is_busy: false,
        others,
    }
}

fn bedtime() -> Bedtime {
    Bedtime {
        route: Route {
            range: RangeId(1),
            from: ReplicaId(1),
            to: ReplicaId(2),
        },
        term: 4,
    }
}

fn following() -> Following {
    Following {
        vote: Vote {
            term: 4,
            replica: ReplicaId(1),
            committed: true,
        },
        is_candidate: false,
        is_busy: false,
        leader: Contact::Lives(7),
    }
}

#[test]
fn a_group_sleeps_when_all_its_replicas_agree() {
    let plan = may_sleep(&leading(vec![member(2), member(3)])).unwrap();
    assert_eq!(plan.term, 4);
    assert_eq!(plan.ask, [(ReplicaId(2), StoreId(2)), (ReplicaId(3), StoreId(3))]);
    assert_eq!(plan.leave, []);
    let alone = may_sleep(&leading(Vec::new())).unwrap();
    assert_eq!((alone.ask.len(), alone.leave.len()), (0, 0));
}

#[test]
fn a_leader_stays_awake_while_anything_is_open() {
    let at_rest = leading(vec![member(2), member(3)]);
    type Change = fn(&mut Leading);
    let cases: [(Unfit, Change); 7] = [
        (Unfit::NotLeader, |leader| leader.leads = false),
        (Unfit::Busy, |leader| leader.is_busy = true),
        (Unfit::Unapplied, |leader| leader.applied = None),
        // It has committed nothing in its term yet, so it does not know what is committed.
        (Unfit::Unapplied, |leader| leader.term = 5),
        (Unfit::Unsettled, |leader| leader.is_settled = false),
        (Unfit::Behind, |leader| leader.others[1].matched = None),
        (Unfit::Behind, |leader| {
            // A learner follows, too.
            leader.others[1].votes = false;
            leader.others[1].matched = Some(LogId { term: 3, index: 8 });
        }),
    ];
    for (unfit, change) in cases {
        let mut leader = at_rest.clone();
        change(&mut leader);
        assert_eq!(may_sleep(&leader), Err(unfit));
    }
}

#[test]
fn who_can_not_be_reached_is_left_behind_by_a_majority() {
    let gone = Member {
        is_suspected: true,
        matched: None,
        ..member(3)
    };
    let plan = may_sleep(&leading(vec![member(2), gone])).unwrap();
    assert_eq!(plan.ask, [(ReplicaId(2), StoreId(2))]);
    assert_eq!(plan.leave, [StoreId(3)]);
    let also_gone = Member {
        is_suspected: true,
        ..member(2)
    };
    assert_eq!(may_sleep(&leading(vec![also_gone, gone])), Err(Unfit::NoMajority));
    // One of two voters is none.
    assert_eq!(may_sleep(&leading(vec![gone])), Err(Unfit::NoMajority));
    // Learners make no majority, and are not needed for one.
    let learner = Member { votes: false, ..gone };
    assert_eq!(
        may_sleep(&leading(vec![member(2), learner])).unwrap().leave,
        [StoreId(3)]
    );
}

#[test]
fn a_follower_agrees_only_to_what_it_is() {
    assert!(agrees(&following(), &bedtime(), 7));
    type Change = fn(&mut Following);
    let cases: [Change; 7] = [
        |follower| follower.vote.term = 5,
        |follower| follower.vote.replica = ReplicaId(3),
        |follower| follower.vote.committed = false,
        |follower| follower.is_candidate = true,
        |follower| follower.is_busy = true,
        |follower| follower.leader = Contact::Suspected(Duration::ZERO),
        |follower| follower.leader = Contact::Lives(8),
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let mut follower = following();
        change(&mut follower);
        assert!(!agrees(&follower, &bedtime(), 7), "case {number}");
    }
    assert!(!agrees(&following(), &bedtime(), 8), "from before a restart");
}

fn bed(leads: bool, rank: u32) -> Bed {
    Bed {
        leads,
        term: 4,
        leader: ReplicaId(1),
        relies_on: vec![(StoreId(1), 7)],
        left: Vec::new(),
        rank,
    }
}

#[test]
fn followers_wake_one_after_the_other_when_their_leader_is_lost() {
    let ms = Duration::from_millis;
    let woken = |rank, since| wakes(&bed(false, rank), |_| Contact::Suspected(since), STAGGER);
    assert_eq!(woken(0, ms(0)), Some(Cause::LeaderLost));
    assert_eq!(woken(1, ms(449)), None);
    assert_eq!(woken(1, ms(450)), Some(Cause::LeaderLost));
    for contact in [Contact::Lives(7), Contact::Unknown] {
        assert_eq!(wakes(&bed(false, 0), |_| contact, STAGGER), None);
    }
}

#[test]
fn a_leader_sleeps_on_while_a_follower_is_lost_and_wakes_when_it_is_back() {
    let lost = Contact::Suspected(Duration::from_secs(60));
    assert_eq!(wakes(&bed(true, 0), |_| lost, STAGGER), None);
    let asleep = bed(true, 0);
    assert_eq!(wakes(&asleep, |_| Contact::Lives(7), STAGGER), None);
    let started_again = wakes(&asleep, |_| Contact::Lives(8), STAGGER);
    assert_eq!(started_again, Some(Cause::StoreBack));
    let left = Bed {
        relies_on: Vec::new(),
        left: vec![StoreId(3)],
        ..asleep
    };
    assert_eq!(wakes(&left, |_| lost, STAGGER), None);
    assert_eq!(
        wakes(&left, |_| Contact::Lives(1), STAGGER),
        Some(Cause::StoreBack)
    );
}

#[test]
fn a_sleeping_leader_leaves_behind_whom_it_loses_and_wakes_for_them() {
    let lost = |store| match store {
        StoreId(1) => Contact::Suspected(Duration::ZERO),
        _ => Contact::Lives(8),
    };
    let mut asleep = bed(true, 0);
    asleep.relies_on.push((StoreId(2), 8));
    let smaller = without_lost(&asleep, lost).unwrap();
    assert_eq!(smaller.relies_on, [(StoreId(2), 8)]);
    assert_eq!(smaller.left, [StoreId(1)]);
    assert_eq!(without_lost(&smaller, lost), None, "nobody else is lost");
    assert_eq!(wakes(&smaller, lost, STAGGER), None);
    // It was not started again: its replica may have woken meanwhile, and campaign.
    let back = |store: StoreId| Contact::Lives(if store == StoreId(1) { 7 } else { 8 });
    assert_eq!(wakes(&smaller, back, STAGGER), Some(Cause::StoreBack));
    assert_eq!(without_lost(&bed(false, 0), lost), None, "a follower wakes");
}

#[test]
fn a_follower_wakes_when_its_leaders_store_was_started_again() {
    let woken = wakes(&bed(false, 1), |_| Contact::Lives(8), STAGGER);
    assert_eq!(woken, Some(Cause::StoreBack));
}

#[test]
fn heirs_that_are_awake_stand_one_after_the_other() {
    let ms = Duration::from_millis;
    assert!(!stands(None, 0, STAGGER));
    assert!(stands(Some(ms(0)), 0, STAGGER));
    assert!(!stands(Some(ms(449)), 1, STAGGER));
    assert!(stands(Some(ms(450)), 1, STAGGER));
}

#[test]
fn heirs_have_different_ranks_and_take_turns() {
    let voters = [ReplicaId(11), ReplicaId(12), ReplicaId(13)];
    let ranks = |range| [11, 13].map(|me| rank(RangeId(range), ReplicaId(me), ReplicaId(12), &voters));
    assert_eq!(ranks(4), [0, 1]);
    assert_eq!(ranks(5), [1, 0]);
    let learner = rank(RangeId(4), ReplicaId(99), ReplicaId(12), &voters);
    assert_eq!(learner, 2);
    assert_eq!(
        rank(RangeId(4), ReplicaId(99), ReplicaId(12), &[ReplicaId(12)]),
        0
    );
}
