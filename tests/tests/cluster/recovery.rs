//! A majority of some ranges is lost for good, and they are brought back from what is left.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::{Admin, Cluster, Options};
use serde_json::{Value, json};

use crate::cluster;

const MINUTE: Duration = Duration::from_secs(60);

/// Stores are given up sooner than anyone would in earnest.
async fn impatient(admin: &Admin) -> anyhow::Result<()> {
    let times = json!({
        "heartbeat_interval_ms": 200,
        "store_suspect_after_ms": 1_000,
        "store_down_after_ms": 3_000,
        "store_replace_after_ms": 4_000,
    });
    admin.configure(times).await
}

async fn state_of(admin: &Admin, store: u64) -> anyhow::Result<String> {
    let store = admin.get(&format!("/v1/stores/{store}")).await?;
    Ok(store["state"].as_str().unwrap_or_default().to_owned())
}

async fn until_state(admin: &Admin, store: u64, state: &str) -> anyhow::Result<()> {
    let what = format!("store {store} is {state}");
    admin
        .until(&what, MINUTE, async || Ok(state_of(admin, store).await? == state))
        .await
}

/// Two of a range's three stores, the leader's first, and the third.
async fn choose_victims(cluster: &Cluster) -> anyhow::Result<([u64; 2], u64, u64)> {
    let range = cluster.admin().range_of("a").await?;
    let leader = range.leader_store.unwrap_or_default();
    let voters = range.voters();
    let others: Vec<u64> = voters.into_iter().filter(|store| *store != leader).collect();
    ensure!(others.len() == 2, "{range:?}");
    Ok(([leader, others[0]], others[1], range.id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_lost_two_of_three_comes_back_from_the_third() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 5,
        ..Options::default()
    })
    .await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    for key in ["d", "h", "l", "p", "t"] {
        admin.split(key).await?;
    }
    admin.settled(3, MINUTE).await?;
    impatient(&admin).await?;
    let keys: Vec<String> = ["a", "e", "i", "m", "q", "u"]
        .iter()
        .flat_map(|prefix| (0..20).map(move |n| format!("{prefix}{n:02}")))
        .collect();
    for key in &keys {
        ensure!(
            client.put(key, format!("value of {key}")).await?.status < 300,
            "{key}"
        );
    }
    let (lost, survivor, range) = choose_victims(&cluster).await?;
    let body = json!({"lost_stores": lost});
    let recover = format!("/v1/ranges/{range}/recover");

    let (status, why) = admin.post_json(&recover, &body).await?;
    ensure!(status == 409, "they are up: {why}");
    // What the survivor has not heard of when they die would be lost.
    admin
        .until("every follower has everything", MINUTE, async || {
            caught_up(&cluster).await
        })
        .await?;
    for store in lost {
        cluster.kill(&cluster.store(store)?.name)?;
    }
    until_state(&admin, lost[0], "suspect").await?;
    let (status, why) = admin.post_json(&recover, &body).await?;
    ensure!(status == 409, "they may be back: {why}");
    for store in lost {
        until_state(&admin, store, "down").await?;
    }
    let (status, why) = admin
        .post_json(&recover, &json!({"lost_stores": [lost[0]]}))
        .await?;
    ensure!(status == 409, "the other was not named: {why}");

    let (status, plan) = admin.post_json("/v1/recover?dry_run=true", &body).await?;
    ensure!(status == 200, "{plan}");
    let chosen = |plan: &Value| -> BTreeSet<u64> {
        let items = plan["items"].as_array().cloned().unwrap_or_default();
        let recovered = items.iter().filter(|item| item["verdict"] == "recover");
        recovered.filter_map(|item| item["range_id"].as_u64()).collect()
    };
    let hit = chosen(&plan);
    ensure!(hit.contains(&range), "{plan}");
    let still = admin.get(&format!("/v1/ranges/{range}")).await?;
    ensure!(
        still["leader_store"].is_null(),
        "a dry run changes nothing: {still}"
    );

    let (status, done) = admin.post_json("/v1/recover?wait=true", &body).await?;
    ensure!(status == 200 && chosen(&done) == hit, "{status}: {done}");
    ensure!(
        done["operators"]
            .as_array()
            .is_some_and(|all| all.iter().all(|operator| operator["state"] == "done")),
        "{done}"
    );
    let decisions = admin.get("/v1/decisions?limit=1000").await?;
    ensure!(
        decisions["items"].as_array().is_some_and(|items| items
            .iter()
            .any(|item| item["scheduler"] == "recovery" && item["range_id"] == range)),
        "it is written down: {decisions}"
    );
    let ranges = admin.settled(3, MINUTE).await?;
    let back = ranges.iter().find(|known| known.id == range);
    ensure!(
        back.is_some_and(|back| back.voters().contains(&survivor)),
        "{ranges:#?}"
    );
    for key in &keys {
        let read = client.get(key).await?;
        ensure!(
            read.status == 200 && read.body == format!("value of {key}").as_bytes(),
            "{key}: {read:?}"
        );
    }

    // Those that were given up come back, two of three as they were. Their old replicas end; new ones may come.
    for store in lost {
        cluster.start_member(&cluster.store(store)?.name).await?;
        until_state(&admin, store, "up").await?;
    }
    admin.settled(3, MINUTE).await?;
    for store in lost {
        let none_of_old = async || {
            let old = |item: &Value| {
                item["range"].as_u64().is_some_and(|id| hit.contains(&id))
                    && item["epoch"]["membership"].as_u64().unwrap_or(u64::MAX) < 1 << 40
            };
            Ok(!replicas(&cluster, store).await?.iter().any(old))
        };
        admin
            .until("the replicas of the lost groups are gone", MINUTE, none_of_old)
            .await?;
    }
    for key in &keys {
        ensure!(
            client.put(key, format!("again {key}")).await?.status < 300,
            "{key}"
        );
        ensure!(
            client.get(key).await?.body == format!("again {key}").as_bytes(),
            "{key}"
        );
    }
    cluster.assert_no_errors()
}

/// The replicas on a store, as it shows them.
async fn replicas(cluster: &Cluster, store: u64) -> anyhow::Result<Vec<Value>> {
    let address = cluster.store(store)?.http;
    let url = format!("http://{}/debug/ranges", without_scheme(&address));
    let held: Value = reqwest::get(&url).await?.json().await?;
    Ok(held["items"].as_array().cloned().unwrap_or_default())
}

async fn caught_up(cluster: &Cluster) -> anyhow::Result<bool> {
    for store in 1..=5 {
        for replica in replicas(cluster, store).await? {
            let peers = replica["peers"].as_array().cloned().unwrap_or_default();
            if peers.iter().any(|peer| peer["lag_entries"] != 0) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn without_scheme(address: &str) -> &str {
    address.trim_start_matches("http://")
}
