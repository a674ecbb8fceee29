//! The data set goes in while ranges split, move and change leaders, and comes out byte for byte.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::{Admin, Cluster, Options, check_tiling, unicode};

use crate::cluster;

const SPLITS: [&str; 8] = [
    "U+000800", "U+001400", "U+002500", "U+00A500", "U+00F900", "U+010C00", "U+012400", "U+01F300",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_set_survives_splits_moves_and_leader_changes() -> anyhow::Result<()> {
    let mut cluster = cluster(Options {
        stores: 5,
        ..Options::default()
    })
    .await?;
    cluster.admin().place_by_hand().await?;
    let data = unicode()?;

    let importing = kv(&cluster, &["import", &data.file.to_string_lossy()]);
    let importing = tokio::task::spawn_blocking(move || run(importing));
    disturb(&cluster.admin()).await?;
    importing.await??;

    ensure!(
        export(&cluster)? == data.text,
        "the export differs from what was imported"
    );
    let ranges = cluster.admin().settled(3, Duration::from_secs(60)).await?;
    check_tiling(&ranges)?;
    ensure!(ranges.len() == SPLITS.len() + 1, "{ranges:#?}");
    let rows: Vec<_> = data.rows()?;
    ensure!(
        cluster.client().scan_everything().await? == rows,
        "the JSON scan differs from what was imported"
    );

    cluster.down()?;
    cluster.up()?;
    ensure!(
        export(&cluster)? == data.text,
        "the export differs after a restart"
    );
    let after = cluster.admin().settled(3, Duration::from_secs(60)).await?;
    let shape = |ranges: &[holdfast_tests::Range]| {
        ranges
            .iter()
            .map(|r| (r.id, r.start.clone(), r.voters()))
            .collect::<Vec<_>>()
    };
    ensure!(
        shape(&after) == shape(&ranges),
        "the ranges differ after a restart: {after:#?}"
    );
    cluster.assert_no_errors()
}

/// Eight splits, four moves and ten leader transfers.
async fn disturb(admin: &Admin) -> anyhow::Result<()> {
    for key in SPLITS {
        admin.split(key).await?;
    }
    for key in &SPLITS[..4] {
        let range = admin.range_of(key).await?;
        let voters = range.voters();
        let to = (1..=5)
            .find(|store| !voters.contains(store))
            .expect("five stores, three replicas");
        admin.move_replica(range.id, voters[0], to).await?;
    }
    for turn in 0..10 {
        let range = admin.range_of(SPLITS[turn % SPLITS.len()]).await?;
        let voters = range.voters();
        let to = voters
            .into_iter()
            .find(|store| Some(*store) != range.leader_store)
            .expect("three voters, one leader");
        admin.transfer_leader(range.id, to).await?;
    }
    Ok(())
}

fn export(cluster: &Cluster) -> anyhow::Result<Vec<u8>> {
    let file = cluster.dir().join("export.tsv");
    run(kv(cluster, &["export", &file.to_string_lossy()]))?;
    Ok(std::fs::read(file)?)
}

fn kv(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = Command::new(cluster.program());
    command
        .arg("kv")
        .args(args)
        .args(["--router", cluster.client().url()]);
    command
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
