use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use bytes::Bytes;
use futures::stream;
use holdfast_common::ids::SessionId;
use holdfast_common::key::Key;
use holdfast_common::proto::kv::{Condition, Mutation};
use holdfast_common::raft::types::{Entry, Node};
use holdfast_common::range::{Epoch, Replica, Role};
use holdfast_common::revision::Revision;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::command::{Split, Write};
use crate::engine::Options;
use crate::sessions::Sessions;
use crate::state::Merge;

/// A store with nothing but an engine, that writes down what it is told.
#[derive(Default)]
struct Store {
    buried: HashSet<ReplicaId>,
    /// Ranges of which a later replica is here.
    moved_on: HashSet<RangeId>,
    overlapping: Mutex<Option<RangeId>>,
    neighbour: Mutex<Option<RangeState>>,
    events: Mutex<Vec<String>>,
}

impl RangeHost for Store {
    fn before_split<'a>(&'a self, child: &'a ChildSeed) -> BoxFuture<'a, io::Result<bool>> {
        self.events
            .lock()
            .push(format!("before split {}", child.descriptor.id));
        let born = !self.moved_on.contains(&child.descriptor.id);
        Box::pin(async move { Ok(born) })
    }

    fn after_split(&self, child: ChildSeed) {
        self.events
            .lock()
            .push(format!("after split {}", child.descriptor.id));
    }

    fn take_over<'a>(&'a self, absorb: &'a Absorb) -> BoxFuture<'a, io::Result<RangeState>> {
        let event = format!("take over {} as of {}", absorb.source, absorb.frozen);
        self.events.lock().push(event);
        let neighbour = self.neighbour.lock().take();
        Box::pin(async { neighbour.ok_or_else(|| io::Error::other("there is none")) })
    }

    fn taken_over(&self, source: RangeId) {
        self.events.lock().push(format!("taken over {source}"));
    }

    fn buried(&self, replica: ReplicaId) -> bool {
        self.buried.contains(&replica)
    }

    fn overlaps(&self, _: ReplicaId, _: &Span) -> Option<RangeId> {
        *self.overlapping.lock()
    }

    fn changed(&self, range: RangeId) {
        self.events.lock().push(format!("changed {range}"));
    }
}

const RANGE: RangeId = RangeId(5);

fn me(replica: u64, store: u64) -> Identity {
    Identity {
        range: RANGE,
        replica: ReplicaId(replica),
        store: StoreId(store),
    }
}

fn engine(dir: &Path) -> Engine {
    Engine::open(
        dir,
        Options {
            cache_bytes: 1 << 20,
            ..Options::default()
        },
    )
    .unwrap()
}

/// A range over everything, as it is born with one voter.
fn born(identity: Identity) -> RangeState {
    let epoch = Epoch {
        bounds: 1,
        membership: BIRTH_INDEX,
    };
    let replicas = vec![Replica {
        id: identity.replica,
        store: identity.store,
        role: Role::Voter,
    }];
    let descriptor = Descriptor {
        id: identity.range,
        span: Span::everything(),
        epoch,
        replicas,
    };
    RangeState {
        identity,
        descriptor: Arc::new(descriptor),
        last_revision: Revision::ZERO,
        size_bytes: 0,
        keys: 0,
        sessions: Sessions::default(),
        merge: Merge::No,
        tokens: Default::default(),
    }
}

/// The machine of such a range.
async fn first(dir: &TempDir, host: Arc<Store>) -> RangeMachine {
    let (engine, state) = (engine(dir.path()), born(me(11, 1)));
    let membership = StoredMembership::new(
        Some(birth_log_id()),
        row::membership_of(&state.descriptor.replicas),
    );
    let mut batch = Batch::default();
    batch.put(
        range_row_key(RANGE),
        row::encode(&state, Some(birth_log_id()), &membership),
    );
    engine.write(batch);
    RangeMachine::open(me(11, 1), engine, host).await.unwrap()
}

async fn apply_all(machine: &mut RangeMachine, entries: impl IntoIterator<Item = Entry>) {
    try_apply(machine, entries).await.unwrap();
}

async fn try_apply(machine: &mut RangeMachine, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
    let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    machine.apply(stream::iter(entries)).await
}

fn entry(index: u64, payload: Payload) -> Entry {
    Entry {
        log_id: LogId::new_term_index(1, index),
        payload,
    }
}

fn command(index: u64, command: &Command) -> Entry {
    entry(index, Payload::Normal(types::Command(command.encode())))
}

fn membership(index: u64, members: &[(u64, u64)]) -> Entry {
    let voters: BTreeSet<_> = members.iter().map(|(replica, _)| ReplicaId(*replica)).collect();
    let nodes: BTreeMap<_, _> = members
        .iter()
        .map(|(replica, store)| {
            (
                ReplicaId(*replica),
                Node {
                    store: StoreId(*store),
                },
            )
        })
        .collect();
    entry(
        index,
        Payload::Membership(Membership::new(vec![voters], nodes).unwrap()),
    )
}

fn write(sequence: u64, key: &str, mutation: Mutation) -> Write {
    let key = Key::new(key.to_owned()).unwrap();
    let finished_below = sequence.saturating_sub(3);
    Write {
        session: SessionId(7),
        sequence,
        finished_below,
        key,
        condition: Condition::None,
        mutation,
        once: None,
    }
}

fn put(index: u64, key: &str, value: &str) -> Entry {
    let mutation = Mutation::Put {
        value: value.to_owned().into(),
        ttl_ms: 0,
    };
    command(
        index,
        &Command::Writes {
            stamp: Revision::at_millis(index),
            writes: vec![write(index, key, mutation)],
        },
    )
}

/// A mixture of writes that touches few keys often.
fn workload(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    let one = |index: u64| {
        let key = |salt: u64| format!("key/{:02}", (index * 7 + salt * 13) % 40);
        let put = |salt| Mutation::Put {
            value: format!("{index}.{salt}").into(),
            ttl_ms: 0,
        };
        let writes = vec![
            write(3 * index, &key(0), put(0)),
            write(
                3 * index + 1,
                &key(1),
                if index.is_multiple_of(3) {
                    Mutation::Delete
                } else {
                    put(1)
                },
            ),
            write(3 * index + 2, &key(2), put(2)),
        ];
        command(
            index,
            &Command::Writes {
                stamp: Revision::at_millis(index / 2),
                writes,
            },
        )
    };
    indexes.map(one).collect()
}

async fn rows(engine: &Engine) -> Vec<(Bytes, Bytes)> {
    engine
        .view()
        .await
        .unwrap()
        .range(b"\x01", b"\xff")
        .collect::<Result<_, _>>()
        .unwrap()
}

async fn user_keys(engine: &Engine) -> Vec<String> {
    let rows = rows(engine).await;
    let keys = rows.iter().filter_map(|(key, _)| keys::user_key(key));
    keys.map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            drop(std::fs::copy(entry.path(), to))
        }
    }
}

/// What a process that is killed now leaves behind.
async fn killed(engine: &Engine, dir: &Path) -> TempDir {
    drop(engine.view().await.unwrap());
    let left = TempDir::new().unwrap();
    copy(dir, left.path());
    left
}

#[tokio::test]
async fn entries_move_the_range_and_a_restart_finds_it_there() {
    let dir = TempDir::new().unwrap();
    let host = Arc::new(Store::default());
    let mut machine = first(&dir, host.clone()).await;
    let shared = machine.shared();
    assert_eq!(
        shared.descriptor().unwrap().replicas,
        row::replicas(machine.membership.membership())
    );
    apply_all(
        &mut machine,
        [entry(6, Payload::Blank), put(7, "a", "1"), put(8, "b", "1")],
    )
    .await;
    apply_all(
        &mut machine,
        [membership(9, &[(11, 1), (12, 2)]), put(10, "a", "2")],
    )
    .await;

    let view = shared.get();
    assert_eq!(view.applied, Some(LogId::new_term_index(1, 10)));
    assert_eq!((view.last_revision, view.keys), (Revision::at_millis(10), 2));
    let descriptor = view.descriptor.unwrap();
    assert_eq!(
        descriptor.epoch,
        Epoch {
            bounds: 1,
            membership: 9
        }
    );
    assert_eq!(descriptor.replicas.len(), 2);
    assert_eq!(*host.events.lock(), ["changed 5"]);

    let left = killed(&machine.engine, dir.path()).await;
    let again = RangeMachine::open(me(11, 1), engine(left.path()), host.clone())
        .await
        .unwrap();
    assert_eq!(again.state, machine.state);
    assert_eq!(
        (again.applied, &again.membership),
        (machine.applied, &machine.membership)
    );
    let other = RangeMachine::open(
        me(99, 1),
        engine(killed(&machine.engine, dir.path()).await.path()),
        host,
    )
    .await;
    assert!(matches!(other, Err(OpenError::OtherReplica { .. })));
}

#[tokio::test]
async fn an_uninitialised_replica_applies_nothing() {
    let dir = TempDir::new().unwrap();
    let mut machine = RangeMachine::open(me(12, 2), engine(dir.path()), Arc::new(Store::default()))
        .await
        .unwrap();
    assert_eq!(
        machine.applied_state().await.unwrap(),
        (None, StoredMembership::default())
    );
    assert!(machine.get_current_snapshot().await.unwrap().is_none());
    assert!(machine.shared().descriptor().is_none());
    assert!(try_apply(&mut machine, [put(1, "a", "1")]).await.is_err());
}

#[tokio::test]
async fn an_undecodable_entry_ends_the_group() {
    let dir = TempDir::new().unwrap();
    let mut machine = first(&dir, Arc::default()).await;
    let noise = entry(6, Payload::Normal(types::Command(Bytes::from_static(b"noise"))));
    assert_eq!(
        try_apply(&mut machine, [noise]).await.unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
    assert_eq!(machine.shared().get().applied, Some(birth_log_id()));
}

/// The data database may lose its tail with a power cut: replaying the log from where it stands must lead to the same.
#[tokio::test]
async fn a_rewound_database_replays_to_the_same_state() {
    let dir = TempDir::new().unwrap();
    let mut machine = first(&dir, Arc::default()).await;
    apply_all(&mut machine, workload(6..=40)).await;
    let rewound = killed(&machine.engine, dir.path()).await;
    apply_all(&mut machine, workload(41..=100)).await;

    let mut again = RangeMachine::open(me(11, 1), engine(rewound.path()), Arc::new(Store::default()))
        .await
        .unwrap();
    assert_eq!(again.applied, Some(LogId::new_term_index(1, 40)));
    apply_all(&mut again, workload(41..=100)).await;
    assert_eq!(again.state, machine.state);
    assert_eq!(rows(&again.engine).await, rows(&machine.engine).await);
}

fn split(index: u64, at: &str) -> Entry {
    let at = Key::new(at.to_owned()).unwrap();
    let replicas = vec![(StoreId(1), ReplicaId(21))];
    command(
        index,
        &Command::Split(Split {
            bounds: 1,
            at,
            right: RangeId(6),
            replicas,
            right_size: 10,
            right_keys: 1,
        }),
    )
}

#[tokio::test]
async fn a_split_leaves_two_ranges_that_tile_the_old_one() {
    let dir = TempDir::new().unwrap();
    let host = Arc::new(Store::default());
    let mut machine = first(&dir, host.clone()).await;
    apply_all(
        &mut machine,
        [
            put(6, "a", "1"),
            put(7, "x", "1"),
            split(8, "m"),
            put(9, "b", "1"),
        ],
    )
    .await;
    assert_eq!(
        *host.events.lock(),
        ["before split 6", "changed 5", "after split 6"]
    );

    let left = killed(&machine.engine, dir.path()).await;
    let engine = engine(left.path());
    let parent = RangeMachine::open(me(11, 1), engine.clone(), host.clone())
        .await
        .unwrap();
    assert_eq!(parent.state, machine.state);
    let identity = Identity {
        range: RangeId(6),
        replica: ReplicaId(21),
        store: StoreId(1),
    };
    let mut child = RangeMachine::open(identity, engine.clone(), host).await.unwrap();
    let (applied, membership) = child.applied_state().await.unwrap();
    assert_eq!(
        (applied, *membership.log_id()),
        (Some(birth_log_id()), Some(birth_log_id()))
    );
    assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [ReplicaId(21)]);
    let (parent, child_range) = (
        parent.shared().descriptor().unwrap(),
        child.shared().descriptor().unwrap(),
    );
    assert_eq!(parent.span.split_at(&Key::new("m").unwrap()), None);
    assert_eq!(
        (parent.span.end(), child_range.span.start()),
        (&Bytes::from("m"), &Bytes::from("m"))
    );
    assert_eq!((parent.epoch.bounds, child_range.epoch.bounds), (2, 2));

    // Numbers that the parent has not seen: the child remembers those.
    apply_all(&mut child, [put(26, "y", "1"), put(27, "z", "1")]).await;
    assert_eq!(user_keys(&engine).await, ["a", "b", "x", "y", "z"]);
    let again = RangeMachine::open(identity, engine, Arc::new(Store::default()))
        .await
        .unwrap();
    assert_eq!(again.state, child.state);
}

#[tokio::test]
async fn a_buried_child_is_not_revived() {
    let dir = TempDir::new().unwrap();
    let host = Arc::new(Store {
        buried: HashSet::from([ReplicaId(21)]),
        ..Store::default()
    });
    let mut machine = first(&dir, host.clone()).await;
    apply_all(
        &mut machine,
        [
            put(6, "a", "1"),
            put(7, "x", "1"),
            split(8, "m"),
            put(9, "b", "1"),
        ],
    )
    .await;
    assert_eq!(*host.events.lock(), ["changed 5"]);
    assert_eq!(user_keys(&machine.engine).await, ["a", "b"]);
    assert_eq!(machine.engine.get(&keys::range_row(RangeId(6))).unwrap(), None);
    let left = killed(&machine.engine, dir.path()).await;
    let again = RangeMachine::open(me(11, 1), engine(left.path()), host)
        .await
        .unwrap();
    assert_eq!(again.state, machine.state);
}

#[tokio::test]
async fn a_child_whose_range_has_a_later_replica_here_is_not_born() {
    let dir = TempDir::new().unwrap();
    let host = Arc::new(Store {
        moved_on: HashSet::from([RangeId(6)]),
        ..Store::default()
    });
    let mut machine = first(&dir, host.clone()).await;
    apply_all(&mut machine, [put(6, "a", "1"), put(7, "x", "1"), split(8, "m")]).await;
    assert_eq!(*host.events.lock(), ["before split 6", "changed 5"]);
    assert_eq!(user_keys(&machine.engine).await, ["a"]);
    assert_eq!(machine.engine.get(&keys::range_row(RangeId(6))).unwrap(), None);
}

#[tokio::test]
async fn the_middle_halves_the_bytes() {
    let dir = TempDir::new().unwrap();
    let mut machine = first(&dir, Arc::default()).await;
    let view = machine.engine.view().await.unwrap();
    assert_eq!(crate::middle::middle(&view, &Span::everything()).unwrap(), None);
    let entries = (0..3_000u64).map(|at| {
        put(
            at + 6,
            &format!("{at:05}"),
            &"v".repeat(if at < 100 { 1_000 } else { 10 }),
        )
    });
    apply_all(&mut machine, entries).await;
    let view = machine.engine.view().await.unwrap();
    let state = machine.state.as_ref().unwrap();
    let middle = crate::middle::middle(&view, &Span::everything())
        .unwrap()
        .unwrap();
    assert_eq!(middle.left_size + middle.right_size, state.size_bytes);
    assert_eq!(middle.left_keys + middle.right_keys, 3_000);
    assert!(
        middle.left_size.abs_diff(middle.right_size) * 50 < state.size_bytes,
        "{middle:?}"
    );
    assert_eq!(
        crate::middle::sizes_at(&view, &Span::everything(), &middle.at).unwrap(),
        Some(middle)
    );
    let one = Span::new("00007", "00008").unwrap();
    assert_eq!(
        crate::middle::middle(&view, &one).unwrap(),
        None,
        "one row has no middle"
    );
}

#[path = "machine_snapshot_test.rs"]
mod snapshots;
