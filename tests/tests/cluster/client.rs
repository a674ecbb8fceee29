//! The Rust client, on a real cluster whose leader dies under it.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use holdfast_client::{Client, Condition, Operation, Outcome, Scan, Txn};
use holdfast_tests::{Cluster, Options};

use crate::cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_reads_writes_and_scans() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    reads_writes_and_scans(&cluster, Client::new(cluster.client().url())?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_a_client_that_speaks_http2() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    reads_writes_and_scans(&cluster, over_http2(cluster.client().url())?).await
}

fn over_http2(router: &str) -> Result<Client, holdfast_client::Error> {
    let options = holdfast_client::Options {
        http2: true,
        ..holdfast_client::Options::default()
    };
    Client::with(router, options)
}

async fn reads_writes_and_scans(cluster: &Cluster, client: Client) -> anyhow::Result<()> {
    let first = client.put("k", "1").await?;
    ensure!(first.created);
    let record = client.get("k").await?.context("a record")?;
    ensure!((&record.value[..], record.revision) == (&b"1"[..], first.revision));
    ensure!(client.get("nothing").await?.is_none());
    let stale = client
        .get_stale("k", Duration::from_secs(60))
        .await?
        .context("a record")?;
    ensure!(stale == record);

    let second = client
        .write("k", "2")
        .only_if(Condition::Revision(first.revision))
        .named("second")
        .send()
        .await?;
    ensure!(!second.created && second.revision > first.revision);
    let again = client
        .write("k", "2")
        .only_if(Condition::Revision(first.revision))
        .named("second")
        .send()
        .await?;
    ensure!(again == second, "one write, whoever sends it twice");
    let late = client.write("k", "3").only_if(Condition::Absent).send().await;
    ensure!(late.is_err_and(|error| error.is_precondition()));
    ensure!(client.delete_revision("k", first.revision).await.is_err());
    client.delete_revision("k", second.revision).await?;
    client.delete("k").await?;

    cluster.admin().split("row/0500").await?;
    for chunk in 0..2 {
        let puts: Vec<_> = (0..500)
            .map(|row| Operation::put(format!("row/{:04}", chunk * 500 + row), vec![0xff; 10]))
            .collect();
        let outcomes = client.batch(&puts).await?;
        ensure!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Outcome::Written(_))),
            "{outcomes:?}"
        );
    }
    let rows: Vec<_> = client.scan(Scan::prefix("row/")).try_collect().await?;
    ensure!(rows.len() == 1_000 && rows.is_sorted_by(|a, b| a.key < b.key));
    ensure!(rows.iter().all(|row| row.value[..] == [0xff; 10]));
    let back: Vec<_> = client
        .scan(Scan::between("row/0990", "row/0995").reverse().keys_only())
        .try_collect()
        .await?;
    ensure!(
        back.len() == 5 && back[0].key == "row/0994" && back[0].value.is_empty(),
        "{back:?}"
    );

    let txn = Txn::new()
        .when("row/0000", Condition::Value(vec![0xff; 10].into()))
        .then(Operation::put("row/0000", "taken"))
        .then(Operation::delete("row/0001"))
        .otherwise(Operation::get("row/0000"));
    ensure!(client.txn(&txn).await?.succeeded);
    let refused = client.txn(&txn).await?;
    let [Outcome::Read(Some(record))] = &refused.outcomes[..] else {
        anyhow::bail!("{refused:?}")
    };
    ensure!(!refused.succeeded && record.value == "taken");

    let some = Scan::between("row/0400", "row/0600");
    let told: Vec<_> = client.delete_all(some).try_collect().await?;
    ensure!(told.last() == Some(&200) && told.is_sorted(), "{told:?}");
    let rest: Vec<_> = client.delete_all(Scan::prefix("row/")).try_collect().await?;
    ensure!(rest.last() == Some(&799), "{rest:?}");
    let left: Vec<_> = client.scan(Scan::prefix("row/")).try_collect().await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_through_the_death_of_a_leader_are_all_counted_once() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let client = Client::new(cluster.client().url())?;
    client.put("counter", "0").await?;
    let add = |client: Client| async move {
        let mut added = 0;
        while added < 25 {
            let record = client.get("counter").await?.context("a counter")?;
            let value: u64 = str::from_utf8(&record.value)?.parse()?;
            let write = client
                .write("counter", (value + 1).to_string())
                .only_if(Condition::Revision(record.revision));
            match write.send().await {
                Ok(_) => added += 1,
                Err(error) if error.is_precondition() => {}
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::Ok(())
    };
    let shared = over_http2(cluster.client().url())?;
    let clients = [&client, &shared].into_iter().cycle().take(8);
    let adders: Vec<_> = clients.map(|client| tokio::spawn(add(client.clone()))).collect();
    let leader = cluster
        .admin()
        .range_of("counter")
        .await?
        .leader_store
        .context("a leader")?;
    cluster.kill(&cluster.store(leader)?.name)?;
    for adder in adders {
        adder.await??;
    }
    let counted = client.get("counter").await?.context("a counter")?;
    ensure!(counted.value == "200", "{counted:?}");
    Ok(())
}
