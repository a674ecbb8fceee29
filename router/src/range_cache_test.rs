use holdfast_common::ids::ReplicaId;
use holdfast_common::range::{Replica, Role};
use proptest::prelude::*;

use super::*;

/// A range on stores 1 to 3.
fn descriptor(id: u64, start: &str, end: &str, bounds: u64, membership: u64) -> Descriptor {
    let replica = |store| Replica {
        id: ReplicaId(id * 10 + store),
        store: StoreId(store),
        role: Role::Voter,
    };
    Descriptor {
        id: RangeId(id),
        span: span(start, end),
        epoch: Epoch { bounds, membership },
        replicas: (1..=3).map(replica).collect(),
    }
}

fn span(start: &str, end: &str) -> Span {
    Span::new(start.to_owned(), end.to_owned()).expect("a span")
}

fn range_of(cache: &RangeCache, key: &str) -> Option<u64> {
    cache.lookup(key.as_bytes()).map(|route| route.descriptor.id.0)
}

#[test]
fn a_key_is_looked_up_by_the_span_that_holds_it() {
    let mut cache = RangeCache::default();
    assert_eq!(range_of(&cache, "a"), None);
    cache.insert(descriptor(1, "", "g", 2, 1), None);
    cache.insert(descriptor(2, "m", "", 2, 1), None);
    cache.validate();
    assert_eq!(range_of(&cache, "a"), Some(1));
    assert_eq!(range_of(&cache, "g"), None, "an end is exclusive");
    assert_eq!(range_of(&cache, "m"), Some(2));
    assert_eq!(range_of(&cache, "zzz"), Some(2));
}

#[test]
fn a_reverse_scan_begins_at_the_route_before_its_end() {
    let mut cache = RangeCache::default();
    cache.insert(descriptor(1, "", "g", 2, 1), None);
    cache.insert(descriptor(2, "g", "m", 2, 1), None);
    cache.insert(descriptor(3, "p", "", 2, 1), None);
    let before = |end: &str| {
        cache
            .lookup_before(end.as_bytes())
            .map(|route| route.descriptor.id.0)
    };
    assert_eq!(before(""), Some(3));
    assert_eq!(before("q"), Some(3));
    assert_eq!(before("p"), None, "nothing is known of [m, p)");
    assert_eq!(before("m"), Some(2));
    assert_eq!(before("g"), Some(1));
    assert_eq!(before("a"), Some(1));
}

#[test]
fn older_news_changes_nothing() {
    let mut cache = RangeCache::default();
    assert!(cache.insert(descriptor(1, "", "", 3, 7), Some(StoreId(1))));
    for (bounds, membership) in [(2, 9), (3, 6)] {
        assert!(!cache.insert(descriptor(1, "", "", bounds, membership), Some(StoreId(2))));
    }
    assert!(!cache.insert(descriptor(1, "", "", 3, 7), None));
    assert_eq!(
        cache.lookup(b"x").and_then(|route| route.leader),
        Some(StoreId(1))
    );
}

#[test]
fn the_left_half_of_a_split_leaves_a_way_to_the_right_half() {
    let mut cache = RangeCache::default();
    cache.insert(descriptor(1, "", "", 1, 1), Some(StoreId(2)));
    cache.insert(descriptor(1, "", "m", 2, 1), None);
    cache.validate();
    let right = cache.lookup(b"z").expect("a remnant");
    assert_eq!(
        right.target(),
        Target {
            range: RangeId(1),
            bounds: 1
        }
    );
    assert_eq!(right.span, span("m", ""));
    assert_eq!(
        cache.lookup(b"a").expect("the left half").leader,
        Some(StoreId(2)),
        "the leader is kept"
    );

    cache.insert(descriptor(2, "m", "", 2, 5), None);
    let right = cache.lookup(b"z").expect("the right half");
    assert_eq!(
        (right.descriptor.id, right.leader),
        (RangeId(2), Some(StoreId(2))),
        "led where the parent was"
    );
    assert_eq!(cache.len(), 2);
}

#[test]
fn a_merge_swallows_both_sides() {
    let mut cache = RangeCache::default();
    cache.insert(descriptor(1, "", "m", 2, 1), Some(StoreId(1)));
    cache.insert(descriptor(2, "m", "", 2, 1), Some(StoreId(2)));
    cache.insert(descriptor(1, "", "", 3, 1), Some(StoreId(3)));
    cache.validate();
    assert_eq!(cache.len(), 1, "pieces of one description are joined");
    assert_eq!(cache.lookup(b"q").expect("a route").leader, Some(StoreId(3)));
}

#[test]
fn a_late_parent_fills_only_what_is_unknown() {
    let mut cache = RangeCache::default();
    cache.insert(descriptor(3, "g", "m", 4, 1), None);
    cache.insert(descriptor(1, "", "", 1, 1), None);
    cache.validate();
    assert_eq!(range_of(&cache, "a"), Some(1));
    assert_eq!(range_of(&cache, "h"), Some(3));
    assert_eq!(range_of(&cache, "z"), Some(1));
}

#[test]
fn leaders_are_set_and_cleared_for_their_range_only() {
    let mut cache = RangeCache::default();
    cache.insert(descriptor(1, "", "m", 2, 1), None);
    let all = Span::everything();
    assert!(cache.set_leader(RangeId(1), &all, StoreId(2)));
    assert!(!cache.set_leader(RangeId(1), &all, StoreId(2)), "no news");
    assert!(!cache.set_leader(RangeId(9), &all, StoreId(1)), "another range");
    assert!(
        !cache.set_leader(RangeId(1), &all, StoreId(9)),
        "a store without a replica"
    );
    assert!(
        !cache.clear_leader(RangeId(1), &all, StoreId(3)),
        "not the leader anyway"
    );
    assert!(cache.clear_leader(RangeId(1), &all, StoreId(2)));
    assert_eq!(cache.lookup(b"a").expect("a route").leader, None);
}

#[test]
fn the_whole_map_replaces_what_it_does_not_have() {
    let mut cache = RangeCache::default();
    cache.insert(descriptor(1, "", "g", 2, 1), Some(StoreId(1)));
    cache.insert(descriptor(2, "g", "m", 2, 1), Some(StoreId(1)));
    // A store told of this split; the driver has not heard of it.
    cache.insert(descriptor(3, "m", "t", 5, 1), Some(StoreId(2)));
    let route = |descriptor, leader| RangeRoute { descriptor, leader };
    cache.replace(vec![
        route(descriptor(1, "", "g", 2, 1), Some(StoreId(3))),
        route(descriptor(4, "g", "", 4, 1), None),
    ]);
    cache.validate();
    assert_eq!(range_of(&cache, "h"), Some(4), "range 2 is no more");
    assert_eq!(range_of(&cache, "n"), Some(3), "what is newer than the map stays");
    assert_eq!(range_of(&cache, "z"), Some(4));
    assert_eq!(
        cache.lookup(b"a").expect("a route").leader,
        Some(StoreId(1)),
        "a leader that answered is kept"
    );
    assert!(cache.remove(RangeId(4)) && !cache.remove(RangeId(4)));
    assert_eq!(range_of(&cache, "z"), None);
}

/// One event in the history of a key space.
#[derive(Clone, Debug)]
enum Change {
    Split { which: prop::sample::Index, at: u8 },
    Merge { which: prop::sample::Index },
    Membership { which: prop::sample::Index },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let which = || any::<prop::sample::Index>();
    let change = prop_oneof![
        3 => (which(), any::<u8>()).prop_map(|(which, at)| Change::Split { which, at }),
        1 => which().prop_map(|which| Change::Merge { which }),
        1 => which().prop_map(|which| Change::Membership { which }),
    ];
    prop::collection::vec(change, 0..40)
}

fn byte_key(byte: u8) -> String {
    // Two hex digits keep the order of bytes.
    if byte == 0 {
        String::new()
    } else {
        format!("{byte:02x}")
    }
}

/// Every description that ever was true in a history, oldest first.
fn history(changes: &[Change]) -> Vec<Descriptor> {
    let mut live = vec![descriptor(1, "", "", 1, 1)];
    let mut ever = live.clone();
    let mut next_id = 2;
    for change in changes {
        match change {
            Change::Split { which, at } => {
                let at_index = which.index(live.len());
                let parent = live[at_index].clone();
                let key = byte_key(*at);
                let bounds = parent.epoch.bounds + 1;
                let inside = !key.is_empty() && parent.span.contains(key.as_bytes());
                if !inside || parent.span.start()[..] == *key.as_bytes() {
                    continue;
                }
                let membership = parent.epoch.membership;
                let (start, end) = (text(parent.span.start()), text(parent.span.end()));
                let left = descriptor(parent.id.0, &start, &key, bounds, membership);
                let right = descriptor(next_id, &key, &end, bounds, 5);
                next_id += 1;
                ever.extend([left.clone(), right.clone()]);
                live.splice(at_index..=at_index, [left, right]);
            }
            Change::Merge { which } if live.len() > 1 => {
                let at = which.index(live.len() - 1);
                let (left, right) = (live[at].clone(), live[at + 1].clone());
                let bounds = left.epoch.bounds.max(right.epoch.bounds) + 1;
                let (start, end) = (text(left.span.start()), text(right.span.end()));
                let merged = descriptor(left.id.0, &start, &end, bounds, left.epoch.membership);
                ever.push(merged.clone());
                live.splice(at..=at + 1, [merged]);
            }
            Change::Merge { .. } => {}
            Change::Membership { which } => {
                let at = which.index(live.len());
                live[at].epoch.membership += 1;
                ever.push(live[at].clone());
            }
        }
    }
    ever
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).expect("test keys are text")
}

proptest! {
    /// Descriptions of a real history arrive in any order, some twice and some never: a key's route is always the newest
    /// that has arrived among those covering it.
    #[test]
    fn the_route_of_a_key_is_the_newest_description_of_it(
        changes in changes(),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let ever = history(&changes);
        let mut cache = RangeCache::default();
        let mut arrived: Vec<&Descriptor> = Vec::new();
        for arrival in arrivals {
            let descriptor = arrival.get(&ever);
            let leader = StoreId(1 + descriptor.epoch.bounds % 4);
            cache.insert(descriptor.clone(), Some(leader));
            arrived.push(descriptor);
            cache.validate();
            for byte in 0..=255u8 {
                let key = format!("{byte:02x}");
                let newest = arrived
                    .iter()
                    .filter(|descriptor| descriptor.span.contains(key.as_bytes()))
                    .max_by_key(|descriptor| (descriptor.epoch.bounds, descriptor.epoch.membership));
                let route = cache.lookup(key.as_bytes());
                prop_assert_eq!(route.map(|route| &*route.descriptor), newest.copied());
            }
        }
    }

    /// Looking up before an end agrees with looking up the keys just below it.
    #[test]
    fn both_ways_to_look_up_agree(changes in changes(), arrivals in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let ever = history(&changes);
        let mut cache = RangeCache::default();
        for arrival in arrivals {
            cache.insert(arrival.get(&ever).clone(), None);
        }
        for byte in 1..=255u8 {
            let end = format!("{byte:02x}");
            // The largest key below it among those that end in many 0xff.
            let below = [format!("{:02x}", byte - 1).as_bytes(), &[0xff; 4]].concat();
            prop_assert_eq!(cache.lookup_before(end.as_bytes()), cache.lookup(&below));
        }
        prop_assert_eq!(cache.lookup_before(b""), cache.lookup(&[0xff; 8]));
    }

    /// Whatever came before, the whole map leaves no hole, and nothing that is older than it.
    #[test]
    fn a_whole_map_tiles_the_key_space(changes in changes(), arrivals in prop::collection::vec(any::<prop::sample::Index>(), 0..20), known in 0..40usize) {
        let ever = history(&changes);
        let map_is_from = history(&changes[..known.min(changes.len())]);
        let mut cache = RangeCache::default();
        for arrival in arrivals {
            cache.insert(arrival.get(&ever).clone(), None);
        }
        let mut map = RangeCache::default();
        for descriptor in map_is_from {
            map.insert(descriptor, None);
        }
        let routes = map.routes();
        cache.replace(routes.map(|route| RangeRoute { descriptor: Descriptor::clone(&route.descriptor), leader: None }).collect());
        cache.validate();
        for byte in 0..=255u8 {
            let key = format!("{byte:02x}");
            let (mapped, cached) = (map.lookup(key.as_bytes()), cache.lookup(key.as_bytes()));
            let (mapped, cached) = (mapped.expect("mapped"), cached.expect("cached"));
            prop_assert!(age(&cached.descriptor, &mapped.descriptor) != Age::Older);
        }
    }
}
