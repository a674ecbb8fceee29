//! The map is fed the whole history of a cluster in any order, with repetitions, and must end where the cluster is.

use holdfast_common::ids::{ReplicaId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::range::{Epoch, Replica, Role};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn range(id: u64, start: &str, end: &str, bounds: u64, membership: u64) -> Descriptor {
    let replica = Replica {
        id: ReplicaId(100 * id + membership),
        store: StoreId(1),
        role: Role::Voter,
    };
    Descriptor {
        id: RangeId(id),
        span: Span::new(start.to_owned(), end.to_owned()).unwrap(),
        epoch: Epoch { bounds, membership },
        replicas: vec![replica],
    }
}

fn map(seen: &[Descriptor]) -> RangeMap {
    let mut map = RangeMap::default();
    for range in seen {
        map.observe(range);
        map.validate().unwrap();
    }
    map
}

fn spans(map: &RangeMap) -> Vec<String> {
    map.iter()
        .map(|range| format!("{}{}", range.id, map.effective_span(range)))
        .collect()
}

#[test]
fn a_split_may_be_reported_from_either_side_first() {
    let (whole, left, right) = (
        range(1, "a", "z", 1, 1),
        range(1, "a", "m", 2, 1),
        range(2, "m", "z", 2, 5),
    );

    let right_first = map(&[whole.clone(), right.clone()]);
    assert_eq!(spans(&right_first), ["1[a, m)", "2[m, z)"]);
    assert_eq!(right_first.at(b"x").unwrap().id, RangeId(2));

    let left_first = map(&[whole.clone(), left.clone()]);
    assert_eq!(spans(&left_first), ["1[a, m)"]);
    assert_eq!(left_first.at(b"x"), None);
    assert_eq!(
        left_first.holes().iter().map(Span::to_string).collect::<Vec<_>>(),
        ["[, a)", "[m, ∞)"]
    );

    let expected = map(&[left.clone(), right.clone()]);
    assert_eq!(map(&[whole.clone(), left.clone(), right.clone()]), expected);
    assert_eq!(map(&[whole, right, left]), expected);
}

#[test]
fn an_old_report_does_not_undo_a_split() {
    let (whole, left, right) = (
        range(1, "a", "z", 1, 1),
        range(1, "a", "m", 2, 1),
        range(2, "m", "z", 2, 5),
    );
    let mut map = map(&[left, right]);
    let before = map.clone();
    assert_eq!(map.observe(&whole), Learned::default());
    assert_eq!(map, before);
}

#[test]
fn each_part_of_a_description_is_taken_by_its_own_version() {
    let mut map = map(&[range(1, "a", "z", 1, 7)]);
    // A replica that lags in membership tells of a split.
    map.observe(&range(1, "a", "m", 2, 3));
    let known = map.get(RangeId(1)).unwrap();
    assert_eq!(
        (known.epoch, known.replicas[0].id),
        (
            Epoch {
                bounds: 2,
                membership: 7
            },
            ReplicaId(107)
        )
    );
    assert_eq!(known.span.end(), &Bytes::from_static(b"m"));
}

#[test]
fn a_merged_range_does_not_come_back() {
    let (left, right, merged) = (
        range(1, "a", "m", 2, 1),
        range(2, "m", "z", 4, 5),
        range(1, "a", "z", 5, 1),
    );
    let mut map = map(&[left, right.clone()]);
    assert_eq!(map.observe(&merged).gone, [RangeId(2)]);
    assert_eq!(map.observe(&right), Learned::default());
    assert_eq!(spans(&map), ["1[a, z)"]);
}

#[test]
fn a_replica_without_a_snapshot_teaches_nothing() {
    let mut empty = range(1, "", "", 0, 0);
    empty.replicas.clear();
    assert!(map(&[empty]).is_empty());
}

/// What a cluster may do to its ranges.
#[derive(Clone, Debug)]
enum Event {
    Split { which: Index, at: u8 },
    Merge { which: Index },
    ChangeMembers { which: Index },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(which, at)| Event::Split { which, at }),
        1 => any::<Index>().prop_map(|which| Event::Merge { which }),
        2 => any::<Index>().prop_map(|which| Event::ChangeMembers { which }),
    ]
}

/// The ranges as they are, in key order, and every description that was ever true.
struct Cluster {
    now: Vec<Descriptor>,
    ever: Vec<Descriptor>,
    next: u64,
}

impl Cluster {
    fn live(events: &[Event]) -> Self {
        let first = range(1, "", "", 1, 1);
        let mut cluster = Self {
            now: vec![first.clone()],
            ever: vec![first],
            next: 2,
        };
        for event in events {
            cluster.apply(event);
            cluster.ever.extend(cluster.now.clone());
        }
        cluster
    }

    fn apply(&mut self, event: &Event) {
        let count = self.now.len();
        match event {
            Event::Split { which, at } => {
                let i = which.index(count);
                let Some((left, right)) = self.now[i].span.split_at(&Key::new(vec![*at]).unwrap()) else {
                    return;
                };
                let mut born = self.now[i].clone();
                self.now[i].span = left;
                self.now[i].epoch.bounds += 1;
                (born.id, born.span) = (RangeId(self.next), right);
                born.epoch = Epoch {
                    bounds: self.now[i].epoch.bounds,
                    membership: 5,
                };
                self.next += 1;
                self.now.insert(i + 1, born);
            }
            Event::Merge { which } if count > 1 => {
                let i = which.index(count - 1);
                let right = self.now.remove(i + 1);
                let left = &mut self.now[i];
                left.span = Span::new(left.span.start().clone(), right.span.end().clone()).unwrap();
                left.epoch.bounds = left.epoch.bounds.max(right.epoch.bounds) + 1;
            }
            Event::Merge { .. } => {}
            Event::ChangeMembers { which } => {
                let range = &mut self.now[which.index(count)];
                range.epoch.membership += 3;
                range.replicas[0].id = ReplicaId(range.id.0 * 1_000 + range.epoch.membership);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_order_of_reports_the_map_ends_where_the_cluster_is(
        events in prop::collection::vec(event(), 1..40),
        order in prop::collection::vec(any::<Index>(), 0..200),
    ) {
        let cluster = Cluster::live(&events);
        let mut map = RangeMap::default();
        let old = order.iter().map(|index| &cluster.ever[index.index(cluster.ever.len())]);
        for seen in old.chain(&cluster.now).chain(&cluster.ever) {
            let before = map.clone();
            let learned = map.observe(seen);
            map.validate().map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(learned.changed, before != map);
            for known in before.iter() {
                // Nothing that was known is forgotten, unless the range is gone.
                let now = map.get(known.id);
                prop_assert!(now.map_or(learned.gone.contains(&known.id), |now| now.epoch.is_at_least(known.epoch)));
            }
        }
        prop_assert_eq!(map.iter().cloned().collect::<Vec<_>>(), cluster.now);
        prop_assert_eq!(map.holes(), Vec::new());
    }

    #[test]
    fn without_merges_a_key_is_never_found_in_an_older_owner_than_is_known(
        events in prop::collection::vec(event(), 1..30),
        known in prop::collection::vec(any::<Index>(), 1..30),
        key in any::<u8>(),
    ) {
        let splits: Vec<_> = events.into_iter().filter(|event| matches!(event, Event::Split { .. })).collect();
        let cluster = Cluster::live(&splits);
        let mut map = RangeMap::default();
        let mut newest: Option<&Descriptor> = None;
        for index in &known {
            let seen = &cluster.ever[index.index(cluster.ever.len())];
            map.observe(seen);
            if seen.span.contains(&[key]) && newest.is_none_or(|newest| newest.epoch.bounds < seen.epoch.bounds) {
                newest = Some(seen);
            }
        }
        let found = map.at(&[key]);
        prop_assert!(found.is_none_or(|found| newest.is_some_and(|newest| found.epoch.bounds >= newest.epoch.bounds)));
    }
}
