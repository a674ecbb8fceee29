//! Idempotency keys, batches, transactions and removal by span, on a real cluster that splits, moves and restarts.

use anyhow::{Context, ensure};
use holdfast_tests::{Client, Options};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster;

async fn post(client: &Client, path: &str, name: Option<&str>, body: &Value) -> anyhow::Result<(u16, Value)> {
    let mut request = client.request(Method::POST, path).body(body.to_string());
    if let Some(name) = name {
        request = request.header("idempotency-key", name);
    }
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

/// A put under a name: the status and the revision.
async fn put(client: &Client, key: &str, value: &str, name: &str) -> anyhow::Result<(u16, Option<String>)> {
    let request = client.request(Method::PUT, &format!("/v1/kv/{key}"));
    let response = request
        .body(value.to_owned())
        .header("idempotency-key", name)
        .send()
        .await?;
    let revision = response
        .headers()
        .get("etag")
        .map(|etag| etag.to_str().map(str::to_owned));
    Ok((response.status().as_u16(), revision.transpose()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_write_is_remembered_through_a_split_a_move_and_a_restart() -> anyhow::Result<()> {
    let options = Options {
        stores: 4,
        ..Options::default()
    };
    let mut cluster = cluster(options).await?;
    cluster.admin().place_by_hand().await?;
    let client = cluster.client();
    let mut first = Vec::new();
    for key in ["a", "z"] {
        first.push(put(&client, key, "1", "name").await?);
        ensure!(
            first.last().is_some_and(|(status, _)| *status == 201),
            "{first:?}"
        );
        client.put(key, "2").await?;
    }
    cluster.admin().split("m").await?;
    for (key, expected) in ["a", "z"].iter().zip(&first) {
        ensure!(
            put(&client, key, "1", "name").await? == *expected,
            "{key} after the split"
        );
        ensure!(put(&client, key, "other", "name").await?.0 == 422, "{key}");
    }

    let range = cluster.admin().range_of("a").await?;
    let voters = range.voters();
    let newcomer = (1..=4)
        .find(|store| !voters.contains(store))
        .context("a store without it")?;
    let leaver = voters
        .iter()
        .copied()
        .find(|store| Some(*store) != range.leader_store)
        .context("a follower")?;
    cluster.admin().move_replica(range.id, leaver, newcomer).await?;
    cluster.admin().transfer_leader(range.id, newcomer).await?;
    ensure!(
        put(&client, "a", "1", "name").await? == first[0],
        "at a replica made of a snapshot"
    );

    let transfer = json!({
        "if": [{"key": "a", "value_equals": "2"}, {"key": "b", "exists": false}],
        "then": [{"put": {"key": "a", "value": "1"}}, {"put": {"key": "b", "value": "1"}}],
        "else": [{"get": {"key": "a"}}],
    });
    let (status, done) = post(&client, "/v1/txn", Some("pay"), &transfer).await?;
    ensure!(status == 200 && done["succeeded"] == true, "{done}");
    let across = json!({"then": [{"put": {"key": "a", "value": "x"}}, {"put": {"key": "z", "value": "x"}}]});
    let (status, refused) = post(&client, "/v1/txn", None, &across).await?;
    ensure!(
        status == 501 && refused["code"] == "cross_range_transaction",
        "{refused}"
    );

    cluster.kill_everything()?;
    cluster.up()?;
    let client = cluster.client();
    for (key, expected) in ["a", "z"].iter().zip(&first) {
        ensure!(
            put(&client, key, "1", "name").await? == *expected,
            "{key} after the restart"
        );
    }
    let (status, again) = post(&client, "/v1/txn", Some("pay"), &transfer).await?;
    ensure!(status == 200 && again == done, "{again}");
    let (_, otherwise) = post(&client, "/v1/txn", None, &transfer).await?;
    ensure!(
        otherwise["succeeded"] == false && otherwise["results"][0]["value"] == "1",
        "{otherwise}"
    );
    cluster.assert_no_errors()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_crosses_ranges_and_a_span_is_counted_and_removed() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let client = cluster.client();
    cluster.admin().split("key/0500").await?;
    let puts: Vec<Value> = (0..1_000)
        .map(|key| json!({"put": {"key": format!("key/{key:04}"), "value": "v"}}))
        .collect();
    let (status, answer) = post(&client, "/v1/batch", None, &json!({"ops": puts})).await?;
    let results = answer["results"].as_array().context("results")?;
    ensure!(status == 200 && results.len() == 1_000, "{status}");
    ensure!(results.iter().all(|result| result["status"] == 201), "{answer}");

    let count = |span: &'static str| {
        let request = client.request(Method::GET, &format!("/v1/kv?count=true&{span}"));
        async move { anyhow::Ok(request.send().await?.json::<Value>().await?["count"].clone()) }
    };
    ensure!(count("prefix=key/").await? == 1_000);
    let output = std::process::Command::new(cluster.program())
        .args([
            "kv",
            "delete",
            "--start",
            "key/0100",
            "--end",
            "key/0900",
            "--router",
            client.url(),
        ])
        .output()?;
    ensure!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("800 keys deleted"),
        "{output:?}"
    );
    ensure!(count("prefix=key/").await? == 200);

    let explained: Value = client
        .request(Method::GET, "/v1/explain/key%2F0001")
        .send()
        .await?
        .json()
        .await?;
    ensure!(
        explained["found"] == true && explained["range"]["replicas"].as_array().map(Vec::len) == Some(3),
        "{explained}"
    );
    cluster.assert_no_errors()
}
