use bytes::Bytes;

use super::*;
use crate::ids::{RangeId, ReplicaId, StoreId};

const ROUTE: Route = Route {
    range: RangeId(1),
    from: ReplicaId(2),
    to: ReplicaId(3),
};

fn id(term: u64, index: u64) -> LogId {
    LogId {
        leader_id: CommittedLeaderId::new(term),
        index,
    }
}

fn joint() -> Membership {
    let configs = vec![
        BTreeSet::from([ReplicaId(2)]),
        BTreeSet::from([ReplicaId(2), ReplicaId(3)]),
    ];
    let nodes: BTreeMap<_, _> = (2..=4)
        .map(|id| {
            (
                ReplicaId(id),
                Node {
                    store: StoreId(id * 10),
                },
            )
        })
        .collect();
    Membership::new(configs, nodes).expect("valid")
}

fn request() -> AppendEntriesRequest<TypeConfig> {
    let payloads = [
        Payload::Blank,
        Payload::Normal(Command(Bytes::from_static(b"x"))),
        Payload::Membership(joint()),
    ];
    let entries = payloads.into_iter().zip(5..).map(|(payload, index)| Entry {
        log_id: id(7, index),
        payload,
    });
    AppendEntriesRequest {
        vote: Vote::new_committed(7, ReplicaId(2)),
        prev_log_id: Some(id(6, 4)),
        leader_commit: Some(id(6, 3)),
        entries: entries.collect(),
    }
}

#[test]
fn an_append_comes_back() {
    let sent = append(ROUTE, request()).expect("sendable");
    let received = wire::Append::decode(sent.encode()).expect("decodes");
    let received = from_append(received).expect("plausible");
    assert_eq!(format!("{received:?}"), format!("{:?}", request()));
}

#[test]
fn what_the_wire_can_not_say_is_not_sent() {
    let mut gap = request();
    gap.entries.remove(1);
    assert_eq!(append(ROUTE, gap).map(drop), Err(Unsendable::Gap));
    let foreign = AppendEntriesRequest {
        vote: Vote::new_committed(7, ReplicaId(9)),
        ..request()
    };
    assert_eq!(append(ROUTE, foreign).map(drop), Err(Unsendable::ForeignVote));
    let candidate = AppendEntriesRequest {
        vote: Vote::new(7, ReplicaId(2)),
        ..request()
    };
    assert_eq!(append(ROUTE, candidate).map(drop), Err(Unsendable::ForeignVote));
}

#[test]
fn a_membership_that_openraft_would_not_take_is_refused() {
    let voters_only = wire::Membership {
        configs: vec![vec![ReplicaId(1)]],
        members: Vec::new(),
    };
    assert_eq!(from_membership(voters_only), Err(Implausible::Membership));
    let three = wire::Membership {
        configs: vec![vec![ReplicaId(2)]; 3],
        ..membership(&joint())
    };
    assert_eq!(from_membership(three), Err(Implausible::Membership));
    let nobody = wire::Entry {
        term: 1,
        payload: wire::Payload::Membership(wire::Membership::default()),
    };
    assert!(from_entry(nobody, 7).is_err());
    assert_eq!(from_membership(membership(&joint())), Ok(joint()));
}

#[test]
fn an_answer_that_can_not_be_is_no_answer() {
    let (prev, last) = (Some(id(3, 4)), Some(id(3, 9)));
    assert!(
        matches!(stream_result(wire::Appended::Success, prev, last), Ok(Ok(matching)) if matching == last)
    );
    assert!(matches!(
        stream_result(wire::Appended::Conflict, prev, last),
        Ok(Err(_))
    ));
    assert!(stream_result(wire::Appended::Conflict, None, last).is_err());
    let upto = |index| wire::Appended::UpTo(Some(wire::LogId { term: 3, index }));
    assert!(stream_result(upto(6), prev, last).is_ok());
    assert!(stream_result(upto(3), prev, last).is_err());
    assert!(stream_result(upto(10), prev, last).is_err());
}

#[test]
fn votes_and_snapshots_come_back() {
    let rpc = VoteRequest {
        leadership_transfer: true,
        ..VoteRequest::new(Vote::new(8, ReplicaId(2)), None)
    };
    assert_eq!(
        from_vote_request(&vote_request(ROUTE, &rpc, true).expect("sendable")),
        rpc
    );
    let answer = VoteResponse::new(Vote::new_committed(8, ReplicaId(5)), Some(id(3, 9)), false);
    assert_eq!(from_vote_answer(&vote_answer(&answer)), answer);
    let meta = SnapshotMeta {
        last_log_id: Some(id(3, 9)),
        last_membership: StoredMembership::new(Some(id(2, 5)), joint()),
    };
    assert_eq!(
        from_snapshot_header(snapshot_header(ROUTE, 8, 1, &meta, (0, 0))),
        Ok(meta)
    );
}
