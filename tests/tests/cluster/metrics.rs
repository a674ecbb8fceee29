//! What processes expose is what is documented, from the start and after they had work to do.

use anyhow::ensure;
use holdfast_cli::metrics::tables;
use holdfast_common::telemetry::exposition::Exposition;
use holdfast_tests::{Cluster, Options};

use crate::cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_exposes_what_is_documented_and_nothing_else() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        placements: 3,
        ..Options::default()
    })
    .await?;
    check(&cluster).await?;
    let (client, admin) = (cluster.client(), cluster.admin());
    for key in 0..50 {
        ensure!(client.put(format!("k{key:02}"), "v").await?.status < 300);
        ensure!(client.get(format!("k{key:02}")).await?.status < 300);
    }
    admin.split("k25").await?;
    ensure!(
        client
            .request(reqwest::Method::PATCH, "/v1/kv/k01")
            .send()
            .await?
            .status()
            == 405
    );
    check(&cluster).await?;
    let text = scrape(&cluster, "router").await?.join("\n");
    ensure!(
        text.contains("holdfast_router_requests_total{op=\"put\",code=\"201\"} 50"),
        "{text}"
    );
    for stage in ["propose_wait", "log_append", "log_commit", "apply_wait", "apply"] {
        let counted = format!("holdfast_raft_{stage}_seconds_count");
        let stores = scrape(&cluster, "store").await?;
        let seen = stores.iter().flat_map(|text| text.lines()).any(|line| {
            line.strip_prefix(&counted)
                .is_some_and(|count| count.trim() != "0")
        });
        ensure!(seen, "no write was seen at the stage {stage}");
    }
    cluster.assert_no_errors()
}

/// The expositions of all processes of a role.
async fn scrape(cluster: &Cluster, role: &str) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for member in cluster
        .members()?
        .into_iter()
        .filter(|member| member.role == role)
    {
        let answer = reqwest::get(format!("{}/metrics", member.http)).await?;
        texts.push(answer.error_for_status()?.text().await?);
    }
    Ok(texts)
}

async fn check(cluster: &Cluster) -> anyhow::Result<()> {
    for role in ["router", "store", "placement"] {
        let texts = scrape(cluster, role).await?;
        ensure!(!texts.is_empty(), "no {role}");
        for text in texts {
            let exposition = Exposition::parse(&text);
            let differences = exposition.differences(&tables(role));
            ensure!(differences.is_empty(), "{role}: {differences:#?}");
            println!("{role}: {} series", exposition.samples());
        }
    }
    Ok(())
}
