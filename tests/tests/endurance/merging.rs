//! Two hundred ranges that were emptied become a handful, under load, while leaders move and a store restarts.

use std::time::Instant;

use anyhow::ensure;
use holdfast_tests::{Writers, check_tiling};
use reqwest::Method;
use serde_json::json;

use crate::{MINUTE, cluster, cut, prefixes};

const RANGES: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_emptied_ranges_become_a_handful() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    cut(&admin, RANGES).await?;
    admin.settled(3, 2 * MINUTE).await?;
    for prefix in prefixes(RANGES, 1) {
        for number in 0..5 {
            let answer = client.put(format!("{prefix}{number}"), "to be removed").await?;
            ensure!(answer.status == 201, "{answer:?}");
        }
    }
    let request = client.request(Method::DELETE, "/v1/kv?prefix=");
    let answer = client.send(request).await?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(
        client.scan_everything().await?.is_empty(),
        "everything was removed"
    );

    let writers = Writers::start(&client, &["077-"], 6, 10);
    let begun = Instant::now();
    admin.configure(json!({"merge_after_ms": 0})).await?;
    let mut looks = 0;
    admin
        .until("a handful of ranges", 10 * MINUTE, async || {
            let ranges = admin.ranges().await?;
            let number = ranges.len();
            looks += 1;
            if looks % 20 == 0 {
                println!("{:>5.0?}: {number} ranges", begun.elapsed());
            }
            // Leaderships move all the while; what is being merged refuses.
            let range = &ranges[(looks * 7) % number];
            let voters = range.voters();
            let to = voters[looks % voters.len()];
            let _ = admin
                .post_json(
                    &format!("/v1/ranges/{}/transfer-leader", range.id),
                    &json!({"to_store": to}),
                )
                .await?;
            if looks == 40 {
                let victim = cluster.store(2)?.name;
                cluster.kill(&victim)?;
                cluster.start_member(&victim).await?;
                println!(
                    "{:>5.0?}: store 2 was killed and has started again, {number} ranges",
                    begun.elapsed()
                );
            }
            Ok(number <= 5 && looks > 40)
        })
        .await?;
    println!(
        "{} ranges after {:.1?}",
        admin.ranges().await?.len(),
        begun.elapsed()
    );
    writers.progress(100, MINUTE).await?;
    let history = writers.stop().await?;
    println!(
        "{} writes acknowledged; failed: {:?}",
        history.acknowledged(),
        history.failures
    );
    history.verify(&client).await?;
    check_tiling(&admin.settled(3, MINUTE).await?)?;
    Ok(())
}
