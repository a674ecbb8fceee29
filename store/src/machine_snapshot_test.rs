use openraft::storage::RaftSnapshotBuilder;

use super::*;

/// Spools the machine's present snapshot into a file.
async fn spooled(
    machine: &mut RangeMachine,
    dir: &TempDir,
    name: &str,
) -> (SnapshotMeta, std::path::PathBuf) {
    let Snapshot { meta, snapshot } = machine.get_current_snapshot().await.unwrap().unwrap();
    let SnapshotData::Local(spool) = snapshot else {
        panic!("not local")
    };
    let path = dir.path().join(name);
    let length = spool.spool(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    (meta, path)
}

#[tokio::test]
async fn a_snapshot_makes_a_replica_of_the_range() {
    let dirs = [(); 3].map(|()| TempDir::new().unwrap());
    let mut leader = first(&dirs[0], Arc::default()).await;
    apply_all(&mut leader, workload(6..=60)).await;
    apply_all(&mut leader, [membership(61, &[(11, 1), (12, 2)])]).await;
    let (meta, path) = spooled(&mut leader, &dirs[2], "one").await;
    assert_eq!(meta.last_log_id, Some(LogId::new_term_index(1, 61)));
    assert_eq!(snapshot::read_header(&path).unwrap().range, RANGE);

    let host = Arc::new(Store::default());
    let mut follower = RangeMachine::open(me(12, 2), engine(dirs[1].path()), host.clone())
        .await
        .unwrap();
    follower
        .install_snapshot(&meta, SnapshotData::Staged(path.clone()))
        .await
        .unwrap();
    assert!(!path.exists(), "an installed file is removed");
    assert_eq!(*host.events.lock(), ["changed 5"]);
    same_range(&leader, &follower).await;

    // Both go on alike, and a second snapshot over older data takes what the range has lost meanwhile.
    apply_all(&mut leader, workload(62..=70)).await;
    apply_all(&mut follower, workload(62..=70)).await;
    same_range(&leader, &follower).await;
    apply_all(&mut leader, workload(71..=90)).await;
    apply_all(&mut leader, [split_of_two(91, "key/20")]).await;
    let (meta, path) = spooled(&mut leader, &dirs[2], "two").await;
    follower
        .install_snapshot(&meta, SnapshotData::Staged(path))
        .await
        .unwrap();
    same_range(&leader, &follower).await;
    assert!(
        user_keys(&follower.engine)
            .await
            .iter()
            .all(|key| key.as_str() < "key/20"),
        "what is beyond is gone"
    );
    assert!(
        user_keys(&leader.engine)
            .await
            .iter()
            .any(|key| key.as_str() > "key/20")
    );
}

fn split_of_two(index: u64, at: &str) -> Entry {
    let at = Key::new(at.to_owned()).unwrap();
    let replicas = vec![(StoreId(1), ReplicaId(21)), (StoreId(2), ReplicaId(22))];
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

async fn same_range(a: &RangeMachine, b: &RangeMachine) {
    let (one, two) = (a.state.as_ref().unwrap(), b.state.as_ref().unwrap());
    assert_eq!(
        RangeState {
            identity: two.identity,
            ..one.clone()
        },
        *two
    );
    assert_eq!((a.applied, &a.membership), (b.applied, &b.membership));
    let (a_view, b_view) = (a.engine.view().await.unwrap(), b.engine.view().await.unwrap());
    for interval in [keys::records(&one.descriptor.span), keys::all_outcomes(RANGE)] {
        let all = |view: &View| view.rows(&interval).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(all(&a_view), all(&b_view));
        for (key, value) in all(&a_view) {
            assert_eq!(
                b.engine.get(&key).unwrap(),
                Some(value),
                "a point read says otherwise"
            );
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_of_the_moment_it_was_taken() {
    let dirs = [(); 2].map(|()| TempDir::new().unwrap());
    let mut machine = first(&dirs[0], Arc::default()).await;
    apply_all(&mut machine, workload(6..=20)).await;
    let Snapshot { meta, snapshot } = machine.get_current_snapshot().await.unwrap().unwrap();
    apply_all(&mut machine, workload(21..=40)).await;
    let SnapshotData::Local(spool) = snapshot else {
        panic!("not local")
    };
    let path = dirs[1].path().join("snapshot");
    spool.spool(&path).unwrap();
    let (header, _) = snapshot::verify(&path).unwrap();
    assert_eq!(header.row.applied, meta.last_log_id);
    assert_eq!(header.row.applied, Some(LogId::new_term_index(1, 20)));
    let mut builder = machine.get_snapshot_builder().await;
    assert_eq!(
        builder.build_snapshot().await.unwrap().meta.last_log_id,
        Some(LogId::new_term_index(1, 40))
    );
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_changes_nothing() {
    let dirs = [(); 3].map(|()| TempDir::new().unwrap());
    let mut leader = first(&dirs[0], Arc::default()).await;
    apply_all(&mut leader, workload(6..=20)).await;
    let host = Arc::new(Store::default());
    let mut follower = RangeMachine::open(me(12, 2), engine(dirs[1].path()), host.clone())
        .await
        .unwrap();
    let (meta, path) = spooled(&mut leader, &dirs[2], "good").await;

    *host.overlapping.lock() = Some(RangeId(9));
    let refused = follower
        .install_snapshot(&meta, SnapshotData::Staged(path.clone()))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    assert!(path.exists(), "it may be tried again");
    *host.overlapping.lock() = None;

    let other = SnapshotMeta {
        last_log_id: Some(LogId::new_term_index(1, 19)),
        ..meta.clone()
    };
    let refused = follower
        .install_snapshot(&other, SnapshotData::Staged(path.clone()))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);

    let mut damaged = std::fs::read(&path).unwrap();
    let at = damaged.len() - 60;
    damaged[at] ^= 1;
    let bad = dirs[2].path().join("bad");
    std::fs::write(&bad, damaged).unwrap();
    let refused = follower
        .install_snapshot(&meta, SnapshotData::Staged(bad))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);

    assert_eq!(rows(&follower.engine).await, []);
    // A crash now leaves tables that nobody refers to; opening gets rid of them.
    let left = killed(&follower.engine, dirs[1].path()).await;
    assert_eq!(rows(&engine(left.path())).await, []);
    follower
        .install_snapshot(&meta, SnapshotData::Staged(path))
        .await
        .unwrap();
    same_range(&leader, &follower).await;
}

#[tokio::test]
async fn a_crash_after_an_install_finds_it_done() {
    let dirs = [(); 3].map(|()| TempDir::new().unwrap());
    let mut leader = first(&dirs[0], Arc::default()).await;
    apply_all(&mut leader, workload(6..=20)).await;
    let mut follower = RangeMachine::open(me(12, 2), engine(dirs[1].path()), Arc::new(Store::default()))
        .await
        .unwrap();
    let (meta, path) = spooled(&mut leader, &dirs[2], "one").await;
    follower
        .install_snapshot(&meta, SnapshotData::Staged(path))
        .await
        .unwrap();
    // Nothing was synced by the journal since: what is there is there because the install was durable.
    let left = TempDir::new().unwrap();
    copy(dirs[1].path(), left.path());
    for journal in std::fs::read_dir(left.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if journal.extension().is_some_and(|extension| extension == "jnl") {
            let empty = std::fs::File::create(&journal).unwrap();
            empty.set_len(0).unwrap();
        }
    }
    let again = RangeMachine::open(me(12, 2), engine(left.path()), Arc::new(Store::default()))
        .await
        .unwrap();
    same_range(&leader, &again).await;
}
