use holdfast_common::key::Span;
use holdfast_common::range::{Descriptor, Epoch};

use super::*;

const S1: StoreId = StoreId(1);
const S2: StoreId = StoreId(2);

fn report(replica: u64, range: u64, term: u64, leads: bool) -> ReplicaReport {
    let descriptor = Descriptor {
        id: RangeId(range),
        span: Span::everything(),
        epoch: Epoch::default(),
        replicas: Vec::new(),
    };
    let leading = Leading {
        size_bytes: 0,
        keys: 0,
        reads_per_second: 0.0,
        writes_per_second: 0.0,
        peers: Vec::new(),
        read_bytes_per_second: 0.0,
        written_bytes_per_second: 0.0,
        is_measured: true,
        hot: None,
    };
    ReplicaReport {
        replica: ReplicaId(replica),
        descriptor,
        term,
        leading: leads.then_some(leading),
    }
}

fn beat(
    store: StoreId,
    incarnation: u64,
    sequence: u64,
    full: bool,
    replicas: Vec<ReplicaReport>,
) -> Heartbeat {
    Heartbeat {
        store,
        incarnation,
        sequence,
        full,
        capacity: Capacity::default(),
        replicas,
        gone: Vec::new(),
    }
}

fn leader(reports: &Reports, range: u64) -> Option<u64> {
    reports.leader(RangeId(range)).map(|leader| leader.replica.0)
}

#[test]
fn a_missed_heartbeat_is_noticed_and_a_full_one_mends_it() {
    let mut reports = Reports::default();
    assert!(
        reports
            .accept(&beat(S1, 1, 5, false, vec![report(1, 1, 1, true)]), 0)
            .want_full,
        "never a full one"
    );
    assert!(!reports.lacks(S1, ReplicaId(9)));
    assert!(
        !reports
            .accept(&beat(S1, 1, 6, true, vec![report(1, 1, 1, true)]), 0)
            .want_full
    );
    assert!(reports.lacks(S1, ReplicaId(9)));
    assert!(
        !reports
            .accept(&beat(S1, 1, 7, false, vec![report(2, 2, 1, false)]), 0)
            .want_full
    );
    assert!(reports.has(S1, ReplicaId(1)) && reports.has(S1, ReplicaId(2)));
    assert!(
        reports.accept(&beat(S1, 1, 9, false, vec![]), 0).want_full,
        "8 is missing"
    );
    assert!(!reports.lacks(S1, ReplicaId(9)), "it may have been in 8");
    assert!(!reports.accept(&beat(S1, 1, 10, true, vec![]), 0).want_full);
    assert!(reports.lacks(S1, ReplicaId(1)), "a full one says everything");
}

#[test]
fn an_overtaken_heartbeat_changes_nothing() {
    let mut reports = Reports::default();
    reports.accept(&beat(S1, 1, 1, true, vec![report(1, 1, 1, false)]), 0);
    reports.accept(&beat(S1, 1, 3, true, vec![report(1, 1, 2, true)]), 0);
    let late = reports.accept(&beat(S1, 1, 2, true, vec![report(1, 1, 1, false)]), 0);
    assert_eq!((late, leader(&reports, 1)), (Accepted::default(), Some(1)));
}

#[test]
fn a_restarted_store_begins_anew() {
    let mut reports = Reports::default();
    reports.accept(
        &beat(
            S1,
            1,
            8,
            true,
            vec![report(1, 1, 1, true), report(2, 2, 1, false)],
        ),
        0,
    );
    let restarted = reports.accept(&beat(S1, 2, 1, true, vec![report(2, 2, 1, false)]), 0);
    assert_eq!(
        (restarted.want_full, restarted.leaders),
        (false, vec![RangeId(1)])
    );
    assert!(reports.lacks(S1, ReplicaId(1)));
    assert_eq!(leader(&reports, 1), None);
}

#[test]
fn of_two_that_claim_to_lead_the_higher_term_is_right() {
    let mut reports = Reports::default();
    reports.accept(&beat(S1, 1, 1, true, vec![report(1, 1, 3, true)]), 0);
    let newer = reports.accept(&beat(S2, 1, 1, true, vec![report(2, 1, 4, true)]), 0);
    assert_eq!(newer.leaders, [RangeId(1)]);
    assert_eq!(leader(&reports, 1), Some(2));
    // The old leader does not know yet, then learns.
    assert_eq!(
        reports
            .accept(&beat(S1, 1, 2, true, vec![report(1, 1, 3, true)]), 0)
            .leaders,
        []
    );
    assert_eq!(
        reports
            .accept(&beat(S1, 1, 3, false, vec![report(1, 1, 4, false)]), 0)
            .leaders,
        []
    );
    assert_eq!(leader(&reports, 1), Some(2));
    assert_eq!(
        reports
            .accept(&beat(S2, 1, 2, false, vec![report(2, 1, 4, false)]), 0)
            .leaders,
        [RangeId(1)]
    );
    assert_eq!(leader(&reports, 1), None);
}

#[test]
fn a_leader_whose_replica_is_gone_leads_no_more() {
    let mut reports = Reports::default();
    reports.accept(&beat(S1, 1, 1, true, vec![report(1, 1, 3, true)]), 0);
    let gone = Heartbeat {
        gone: vec![ReplicaId(1)],
        ..beat(S1, 1, 2, false, vec![])
    };
    assert_eq!(reports.accept(&gone, 0).leaders, [RangeId(1)]);
    assert_eq!(leader(&reports, 1), None);
    assert!(reports.lacks(S1, ReplicaId(1)));
}

#[test]
fn of_several_checks_of_a_range_the_latest_counts_and_silence_takes_word_back() {
    use holdfast_common::proto::check::{Findings, Report, Verdict};
    let found = |range: u64, index: u64| Report {
        range: RangeId(range),
        check: index,
        index,
        replicas: Vec::new(),
        verdict: Verdict::Differ { suspects: Vec::new() },
    };
    let say = |store, differ| Findings { store, differ };
    let mut reports = Reports::default();
    assert!(reports.find(say(S1, vec![found(7, 40)])));
    assert!(!reports.find(say(S1, vec![found(7, 40)])), "no news");
    assert!(reports.find(say(S2, vec![found(7, 50), found(8, 3)])));
    let known = |reports: &Reports, all: bool| -> Vec<(u64, u64)> {
        let differ = reports.differ(|store| all || store == S1);
        differ
            .values()
            .map(|report| (report.range.0, report.index))
            .collect()
    };
    assert_eq!(known(&reports, true), [(7, 50), (8, 3)]);
    assert_eq!(known(&reports, false), [(7, 40)], "a store that left has no say");
    assert!(reports.find(say(S2, Vec::new())));
    assert!(!reports.find(say(S2, Vec::new())));
    assert_eq!(known(&reports, true), [(7, 40)]);
}
