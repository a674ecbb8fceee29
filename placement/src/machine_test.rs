//! The machine through its snapshots: saved, loaded, sent, installed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use holdfast_common::ids::{ClusterId, MemberId, ReplicaId, StoreId};
use holdfast_common::raft::types::{Membership, Node, Spool};

use super::*;
use crate::state::Member;
use crate::world::register;

fn open(dir: &Path) -> Machine {
    Machine::open(Snapshots::open(dir).unwrap()).unwrap()
}

fn log_id(index: u64) -> LogId {
    LogId::new_term_index(1, index)
}

/// A machine that has applied a founding, a membership and some stores.
fn lived(dir: &Path) -> Machine {
    let machine = open(dir);
    let nodes = BTreeMap::from([(ReplicaId(1), Node { store: StoreId(1) })]);
    let membership = Membership::new(vec![BTreeSet::from([ReplicaId(1)])], nodes).unwrap();
    machine
        .apply_entry(log_id(1), Payload::Membership(membership))
        .unwrap();
    let founder = Member {
        name: "p".into(),
        directory: 1,
        rpc_address: "p:1".into(),
        http_address: "p:2".into(),
        is_running: true,
    };
    let found = Command::Found {
        cluster: ClusterId(7),
        number: MemberId(1),
        founder,
    };
    let stores = (1..=50).map(|number| Command::Register {
        store: register(number, "a"),
        now_ms: 0,
    });
    for (i, command) in [found].into_iter().chain(stores).enumerate() {
        machine
            .apply_entry(
                log_id(2 + i as u64),
                Payload::Normal(Encoded(proto::encode(&command))),
            )
            .unwrap();
    }
    machine
}

#[tokio::test]
async fn a_restart_begins_at_the_last_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = lived(dir.path());
    let before = machine.applied_state().await.unwrap();
    assert!(
        open(dir.path()).shared().state().stores.is_empty(),
        "nothing was saved yet"
    );
    let built = machine
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    assert_eq!(built.meta.last_log_id, before.0);
    let mut again = open(dir.path());
    assert_eq!(again.applied_state().await.unwrap(), before);
    assert_eq!(*again.shared().state(), *machine.shared().state());
}

#[tokio::test]
async fn a_follower_installs_what_the_leader_sends() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut leader, mut follower) = (lived(from.path()), open(to.path()));
    assert!(follower.get_current_snapshot().await.unwrap().is_none());
    let current = leader.get_current_snapshot().await.unwrap().unwrap();
    let SnapshotData::Local(spool) = current.snapshot else {
        panic!("a leader's own snapshot is local")
    };
    let file = to.path().join("received");
    let length = Spool::spool(&*spool, &file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), length);

    follower
        .install_snapshot(&current.meta, SnapshotData::Staged(file.clone()))
        .await
        .unwrap();
    assert!(!file.exists());
    assert_eq!(*follower.shared().state(), *leader.shared().state());
    assert_eq!(
        follower.applied_state().await.unwrap(),
        leader.applied_state().await.unwrap()
    );
    drop(follower);
    assert_eq!(
        *open(to.path()).shared().state(),
        *leader.shared().state(),
        "it is durable"
    );
}

#[tokio::test]
async fn a_snapshot_of_another_moment_or_damaged_is_refused_and_nothing_changes() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut leader, mut follower) = (lived(from.path()), open(to.path()));
    let current = leader.get_current_snapshot().await.unwrap().unwrap();
    let SnapshotData::Local(spool) = current.snapshot else {
        panic!("a leader's own snapshot is local")
    };
    let file = to.path().join("received");
    spool.spool(&file).unwrap();
    let other = SnapshotMeta {
        last_log_id: Some(log_id(9)),
        ..current.meta.clone()
    };
    assert!(
        follower
            .install_snapshot(&other, SnapshotData::Staged(file.clone()))
            .await
            .is_err()
    );
    let mut content = std::fs::read(&file).unwrap();
    content.truncate(content.len() - 1);
    std::fs::write(&file, content).unwrap();
    assert!(
        follower
            .install_snapshot(&current.meta, SnapshotData::Staged(file))
            .await
            .is_err()
    );
    assert_eq!(follower.applied_state().await.unwrap().0, None);
    assert!(Snapshots::open(to.path()).unwrap().load().unwrap().is_none());
}

#[tokio::test]
async fn a_command_that_does_not_decode_is_fatal() {
    let dir = tempfile::tempdir().unwrap();
    let machine = open(dir.path());
    assert!(
        machine
            .apply_entry(log_id(1), Payload::Normal(Encoded(vec![0xff; 9].into())))
            .is_err()
    );
}
