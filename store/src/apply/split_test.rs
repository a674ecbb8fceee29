use super::*;
use crate::command::Split;

fn split_at(at: &str) -> Split {
    let replicas = [(1, 21), (2, 19), (3, 23)]
        .map(|(store, id)| (StoreId(store), ReplicaId(id)))
        .to_vec();
    let at = Key::new(at.to_owned()).unwrap();
    Split {
        bounds: 3,
        at,
        right: RangeId(6),
        replicas,
        right_size: 12,
        right_keys: 1,
    }
}

#[test]
fn a_split_makes_two_ranges_of_one() {
    let mut range = Range::new(Span::new("b", "y").unwrap());
    range.writes(5, vec![named(7, 1, put("c", "1")), named(7, 2, put("p", "1"))]);
    let before = range.state.clone();
    let applied = range.apply(&Command::Split(split_at("m")));
    assert_eq!(applied.answer, Answer::Split(Ok(())));
    let [Effect::Split(child)] = &applied.effects[..] else {
        panic!("{:?}", applied.effects)
    };

    let parent = &range.state;
    assert_eq!(parent.descriptor.span, Span::new("b", "m").unwrap());
    assert_eq!(
        parent.descriptor.epoch,
        Epoch {
            bounds: 4,
            membership: 2
        }
    );
    assert_eq!(parent.descriptor.replicas, before.descriptor.replicas);
    assert_eq!((parent.keys, parent.size_bytes), (1, before.size_bytes - 12));
    assert_eq!(parent.sessions, before.sessions);

    assert_eq!(child.descriptor.span, Span::new("m", "y").unwrap());
    assert_eq!(
        child.descriptor.epoch,
        Epoch {
            bounds: 4,
            membership: BIRTH_INDEX
        }
    );
    let members = [
        replica(19, 2, Role::Voter),
        replica(21, 1, Role::Voter),
        replica(23, 3, Role::Learner),
    ];
    assert_eq!(child.descriptor.replicas, members);
    assert_eq!(child.replica(), Some(ReplicaId(21)));
    let state = child.state.as_ref().unwrap();
    assert_eq!(state.validate(), Ok(()));
    assert_eq!(
        (state.last_revision, state.keys, state.size_bytes),
        (before.last_revision, 1, 12)
    );

    // Both sides remember.
    let right = named(7, 2, put("p", "again"));
    assert!(matches!(
        range.write(6, right.clone()),
        Err(kv::Error::StaleEpoch { .. })
    ));
    let mut child = Range {
        state: state.clone(),
        rows: range.rows,
        index: BIRTH_INDEX,
    };
    assert_eq!(child.write(6, right), Ok(WriteOutcome::Created(at(5, 1))));
    assert_eq!(
        child.write(1, put("p", "2")),
        Ok(WriteOutcome::Replaced(at(6, 1))),
        "revisions go on"
    );
}

#[test]
fn a_split_that_does_not_fit_changes_nothing() {
    type Change = fn(&mut Split);
    let cases: [(&str, Change); 9] = [
        ("other bounds", |split| split.bounds = 2),
        ("at the start", |split| split.at = Key::new("b").unwrap()),
        ("at the end", |split| split.at = Key::new("y").unwrap()),
        ("outside", |split| split.at = Key::new("z").unwrap()),
        ("a member missing", |split| split.replicas.truncate(2)),
        ("another store", |split| split.replicas[0].0 = StoreId(9)),
        ("an id twice", |split| split.replicas[0].1 = ReplicaId(19)),
        ("an id of none", |split| split.replicas[0].1 = ReplicaId::NONE),
        ("no new range", |split| split.right = RangeId(5)),
    ];
    for (name, change) in cases {
        let mut range = Range::new(Span::new("b", "y").unwrap());
        let before = range.state.clone();
        let mut split = split_at("m");
        change(&mut split);
        let applied = range.apply(&Command::Split(split));
        assert!(matches!(applied.answer, Answer::Split(Err(_))), "{name}");
        assert!(applied.effects.is_empty() && applied.rows.is_empty(), "{name}");
        assert_eq!(range.state, before, "{name}");
    }
    let mut range = Range::new(Span::new("b", "y").unwrap());
    let mut joint = Descriptor::clone(&range.state.descriptor);
    joint.replicas[0].role = Role::Outgoing;
    range.state.descriptor = Arc::new(joint);
    assert_eq!(
        range.apply(&Command::Split(split_at("m"))).answer,
        Answer::Split(Err(SplitRefused::Joint))
    );
}

/// The child had the same replica twice.
#[test]
fn two_members_on_one_store_are_not_made_one() {
    let mut range = Range::new(Span::new("b", "y").unwrap());
    let mut crowded = Descriptor::clone(&range.state.descriptor);
    crowded.replicas[2].store = crowded.replicas[0].store;
    range.state.descriptor = Arc::new(crowded);
    let before = range.state.clone();
    let applied = range.apply(&Command::Split(split_at("m")));
    assert!(matches!(
        applied.answer,
        Answer::Split(Err(SplitRefused::Members(_)))
    ));
    assert_eq!(range.state, before);
}

#[test]
fn a_store_without_a_member_gets_no_child() {
    let mut range = Range::new(Span::everything());
    range.state.identity = Identity {
        range: RangeId(5),
        replica: ReplicaId(14),
        store: StoreId(4),
    };
    let applied = range.apply(&Command::Split(split_at("m")));
    let [Effect::Split(child)] = &applied.effects[..] else {
        panic!("{:?}", applied.effects)
    };
    assert_eq!(child.replica(), None);
}
