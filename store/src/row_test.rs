use super::*;

fn membership(configs: &[&[u64]], nodes: &[u64], index: u64) -> StoredMembership {
    let configs = configs
        .iter()
        .map(|config| config.iter().copied().map(ReplicaId).collect())
        .collect();
    let nodes: BTreeMap<_, _> = nodes
        .iter()
        .map(|id| {
            (
                ReplicaId(*id),
                Node {
                    store: StoreId(id * 10),
                },
            )
        })
        .collect();
    StoredMembership::new(
        Some(LogId::new_term_index(2, index)),
        Membership::new(configs, nodes).unwrap(),
    )
}

fn row() -> RangeRow {
    RangeRow {
        replica: ReplicaId(11),
        applied: Some(LogId::new_term_index(3, 77)),
        membership: membership(&[&[11, 12], &[12, 13]], &[11, 12, 13, 14], 70),
        bounds: 4,
        span: Span::new("b", "").unwrap(),
        last_revision: Revision(99),
        size_bytes: 1_000,
        keys: 10,
        floors: vec![Floor {
            session: SessionId(1),
            floor: 2,
            since: 3,
            used_ms: 4,
        }],
        merge: Merge::No,
    }
}

use holdfast_common::ids::SessionId;

#[test]
fn rows_read_back() {
    assert_eq!(RangeRow::decode(row().encode()), Ok(row()));
    let first = RangeRow {
        applied: None,
        membership: StoredMembership::default(),
        span: Span::everything(),
        floors: Vec::new(),
        ..row()
    };
    assert_eq!(RangeRow::decode(first.encode()), Ok(first));
    for merge in [Merge::Frozen { at: 8 }, Merge::Yielded { frozen: 9 }] {
        let merging = RangeRow { merge, ..row() };
        assert_eq!(RangeRow::decode(merging.encode()), Ok(merging));
    }
}

#[test]
fn the_row_of_a_state_is_the_state() {
    let floors = row().floors;
    let sessions = Sessions::rebuild(floors, []).unwrap();
    let state = row().into_state(RangeId(5), StoreId(110), sessions, Tokens::default());
    assert_eq!(state.validate(), Ok(()));
    assert_eq!(
        RangeRow::decode(encode(&state, row().applied, &row().membership)),
        Ok(row())
    );
}

#[test]
fn a_cut_or_foreign_row_is_damage() {
    let whole = row().encode();
    for cut in 0..whole.len() {
        assert!(RangeRow::decode(whole.slice(..cut)).is_err(), "cut to {cut}");
    }
    assert!(RangeRow::decode([&whole[..], &[0]].concat().into()).is_err());
    let mut newer = whole.to_vec();
    newer[0] = VERSION + 1;
    assert!(RangeRow::decode(newer.into()).is_err());
}

#[test]
fn a_joint_membership_names_who_leaves() {
    let descriptor = row().descriptor(RangeId(5));
    assert_eq!(
        descriptor.epoch,
        Epoch {
            bounds: 4,
            membership: 70
        }
    );
    let roles: Vec<_> = descriptor
        .replicas
        .iter()
        .map(|replica| (replica.id.0, replica.store.0, replica.role))
        .collect();
    let expected = [
        (11, 110, Role::Outgoing),
        (12, 120, Role::Voter),
        (13, 130, Role::Voter),
        (14, 140, Role::Learner),
    ];
    assert_eq!(roles, expected);
}

#[test]
fn replicas_make_their_membership() {
    let uniform = membership(&[&[1, 3]], &[1, 2, 3], 5);
    let replicas = replicas(uniform.membership());
    assert_eq!(&membership_of(&replicas), uniform.membership());
}

#[test]
fn what_no_range_comes_to_is_damage() {
    let old = RangeRow {
        bounds: MAX_BOUNDS + 1,
        ..row()
    };
    assert!(RangeRow::decode(old.encode()).is_err());
    let floor = row().floors[0];
    let mut crowded = RangeRow {
        floors: vec![floor; sessions::MAX_SESSIONS],
        ..row()
    }
    .encode()
    .to_vec();
    assert!(RangeRow::decode(crowded.clone().into()).is_ok());
    // One session more, behind a count that says so.
    let count = (sessions::MAX_SESSIONS as u16).to_le_bytes();
    let at = crowded.windows(2).rposition(|pair| pair == count).unwrap();
    crowded[at..at + 2].copy_from_slice(&(sessions::MAX_SESSIONS as u16 + 1).to_le_bytes());
    crowded.splice(at + 2..at + 2, [0; 32]);
    assert!(RangeRow::decode(crowded.into()).is_err());
    // A membership of three configurations: a third one, empty, behind the two.
    let mut joint = row().encode().to_vec();
    let two = [2, 2, 0, 11];
    let at = joint.windows(4).position(|bytes| bytes == two).unwrap();
    joint[at] = 3;
    joint.splice(at + 1..at + 1, [1, 0, 11, 0, 0, 0, 0, 0, 0, 0]);
    assert!(RangeRow::decode(joint.into()).is_err());
}
