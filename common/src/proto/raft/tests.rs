use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::proto::{DecodeError, VERSION, decode, encode};

fn route() -> impl Strategy<Value = Route> {
    any::<(u64, u64, u64)>().prop_map(|(range, from, to)| Route {
        range: RangeId(range),
        from: ReplicaId(from),
        to: ReplicaId(to),
    })
}

fn log_id() -> impl Strategy<Value = LogId> {
    any::<(u64, u64)>().prop_map(|(term, index)| LogId { term, index })
}

fn vote() -> impl Strategy<Value = Vote> {
    any::<(u64, u64, bool)>().prop_map(|(term, replica, committed)| Vote {
        term,
        replica: ReplicaId(replica),
        committed,
    })
}

fn membership() -> impl Strategy<Value = Membership> {
    let configs = vec(vec(any::<u64>().prop_map(ReplicaId), 0..4), 0..3);
    let members = vec(
        any::<(u64, u64)>().prop_map(|(id, store)| (ReplicaId(id), StoreId(store))),
        0..5,
    );
    (configs, members).prop_map(|(configs, members)| Membership { configs, members })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Blank),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Payload::Command(bytes.into())),
        membership().prop_map(Payload::Membership),
    ]
}

/// What a leader may send: terms rise from `prev`'s to the leader's.
fn append() -> impl Strategy<Value = Append> {
    let prev = option::of((any::<u32>(), any::<u64>().prop_map(|index| index >> 1)));
    let entries = vec((any::<u8>(), payload()), 0..20);
    (route(), prev, option::of(log_id()), entries, any::<u32>()).prop_map(
        |(route, prev, commit, entries, above)| {
            let prev = prev.map(|(term, index)| LogId {
                term: u64::from(term),
                index,
            });
            let mut term = prev.map_or(0, |prev| prev.term);
            let entries = entries
                .into_iter()
                .map(|(step, payload)| {
                    term += u64::from(step);
                    Entry { term, payload }
                })
                .collect();
            Append {
                route,
                term: term + u64::from(above),
                prev,
                commit,
                entries,
            }
        },
    )
}

fn appended() -> impl Strategy<Value = Appended> {
    prop_oneof![
        Just(Appended::Success),
        option::of(log_id()).prop_map(Appended::UpTo),
        Just(Appended::Conflict),
        vote().prop_map(Appended::HigherVote),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::UnknownReplica),
        Just(Refusal::NotVotingYet),
        Just(Refusal::Stopped),
        Just(Refusal::Late),
        Just(Refusal::Busy),
        ".*".prop_map(Refusal::Snapshot),
    ]
}

fn snapshot_message() -> impl Strategy<Value = SnapshotMessage> {
    let header = (
        route(),
        any::<[u64; 4]>(),
        option::of(log_id()),
        option::of(log_id()),
        membership(),
    );
    prop_oneof![
        header.prop_map(
            |(route, [term, transfer, len, checksum], last, membership_log_id, membership)| {
                SnapshotMessage::Offer(SnapshotHeader {
                    route,
                    term,
                    transfer,
                    last,
                    membership_log_id,
                    membership,
                    len,
                    checksum,
                })
            }
        ),
        (route(), any::<[u64; 2]>(), vec(any::<u8>(), 0..300)).prop_map(
            |(route, [transfer, offset], data)| {
                SnapshotMessage::Chunk(SnapshotChunk {
                    route,
                    transfer,
                    offset,
                    data: data.into(),
                })
            }
        ),
        (route(), any::<u64>()).prop_map(|(route, transfer)| SnapshotMessage::Install { route, transfer }),
    ]
}

proptest! {
    #[test]
    fn an_append_comes_back(append in append()) {
        prop_assert_eq!(Append::decode(append.encode()), Ok(append));
    }

    #[test]
    fn a_cut_or_padded_append_is_malformed(append in append(), cut: prop::sample::Index, padding: u8) {
        let body = append.encode();
        prop_assert!(Append::decode(body.slice(..cut.index(body.len()))).is_err());
        let padded: Bytes = body.iter().copied().chain([padding]).collect();
        prop_assert!(Append::decode(padded).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(body: Vec<u8>) {
        let _ = Append::decode(Bytes::from(body.clone()));
        let _ = decode::<VoteRequest>(&body);
        let _ = decode::<Heartbeats>(&body);
        let _ = decode::<SnapshotMessage>(&body);
        let _ = decode::<Result<HeartbeatsAnswer, Refusal>>(&body);
    }

    #[test]
    fn a_damaged_append_never_panics(append in append(), at: prop::sample::Index, byte: u8) {
        let mut body = append.encode().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = Append::decode(body.into());
    }

    #[test]
    fn votes_come_back(
        route in route(), term: u64, last in option::of(log_id()), pre: bool, transfer: bool,
        vote in vote(), granted: bool, refusal in refusal(),
    ) {
        let request = VoteRequest { route, term, last, pre, transfer };
        prop_assert_eq!(decode(&encode(&request)), Ok(request));
        let answer = Ok::<_, Refusal>(VoteAnswer { vote, granted, last });
        prop_assert_eq!(decode(&encode(&answer)), Ok(answer));
        let refused = Err::<VoteAnswer, _>(refusal);
        prop_assert_eq!(decode(&encode(&refused)), Ok(refused));
    }

    #[test]
    fn transfers_come_back(
        route in route(), term: u64, target: u64, last in option::of(log_id()), vote in vote(),
    ) {
        let request = Transfer { route, term, target: ReplicaId(target), last };
        prop_assert_eq!(decode(&encode(&request)), Ok(request));
        for answer in [TransferAnswer::Accepted, TransferAnswer::VoteChanged(vote), TransferAnswer::LogBehind(last)] {
            prop_assert_eq!(decode(&encode(&answer)), Ok(answer));
        }
    }

    #[test]
    fn heartbeats_come_back(
        beats in vec((route(), any::<u64>(), option::of(log_id()), option::of(log_id())), 0..20),
        answers in vec(prop::result::maybe_ok(appended(), refusal()), 0..20),
    ) {
        let beats = beats.into_iter().map(|(route, term, prev, commit)| Beat { route, term, prev, commit }).collect();
        let message = Heartbeats { beats };
        prop_assert_eq!(decode(&encode(&message)), Ok(message));
        let answer = HeartbeatsAnswer { answers };
        prop_assert_eq!(decode(&encode(&answer)), Ok(answer));
    }

    #[test]
    fn snapshot_messages_come_back(message in snapshot_message(), have: u64, vote in vote()) {
        prop_assert_eq!(decode(&encode(&message)), Ok(message));
        for answer in [SnapshotAnswer::Have(have), SnapshotAnswer::Installed(vote)] {
            prop_assert_eq!(decode(&encode(&answer)), Ok(answer));
        }
    }
}

fn small() -> Append {
    let route = Route {
        range: RangeId(1),
        from: ReplicaId(2),
        to: ReplicaId(3),
    };
    let entries = vec![Entry {
        term: 4,
        payload: Payload::Command(Bytes::from_static(b"command")),
    }];
    Append {
        route,
        term: 4,
        prev: Some(LogId { term: 3, index: 9 }),
        commit: None,
        entries,
    }
}

#[test]
fn a_command_is_a_slice_of_the_message() {
    let body = small().encode();
    let decoded = Append::decode(body.clone()).expect("an append");
    let Payload::Command(command) = &decoded.entries[0].payload else {
        panic!("not a command")
    };
    assert!(body.as_ptr_range().contains(&command.as_ptr()));
}

/// The layout is the wire's: a change of it is a new version.
#[test]
fn the_layout_stands() {
    let mut expected = vec![VERSION, 1];
    for field in [1u64, 2, 3, 4] {
        expected.extend(field.to_be_bytes());
    }
    expected.extend([3, 9, 1, 4, 1, 7]);
    expected.extend(b"command");
    assert_eq!(small().encode(), expected);
}

#[test]
fn what_no_leader_sends_is_malformed() {
    let falling = Append {
        prev: Some(LogId { term: 5, index: 9 }),
        term: 6,
        ..small()
    };
    let above = Append { term: 3, ..small() };
    let beyond = Append {
        prev: Some(LogId {
            term: 3,
            index: u64::MAX,
        }),
        ..small()
    };
    for append in [falling, above, beyond] {
        assert!(
            matches!(Append::decode(append.encode()), Err(DecodeError::Malformed(_))),
            "{append:?}"
        );
    }
}

#[test]
fn another_version_is_named() {
    let mut body = small().encode().to_vec();
    body[0] = 9;
    assert_eq!(Append::decode(body.into()), Err(DecodeError::Version(9)));
    assert_eq!(Append::decode(Bytes::new()), Err(DecodeError::Empty));
}

#[test]
fn a_count_is_not_believed_before_its_bytes_are_there() {
    let empty = Append {
        entries: Vec::new(),
        ..small()
    };
    let mut body = empty.encode().to_vec();
    body.pop();
    body.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(Append::decode(body.into()).is_err());
}
