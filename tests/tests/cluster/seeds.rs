//! The very command lines of the systems that this one grew out of, host and port aside.

use std::process::Command;

use anyhow::{Context, ensure};
use holdfast_tests::Options;
use serde_json::{Value, json};

use crate::cluster;

/// Runs a documented line against the router at `url`; what it prints.
fn run(line: &str, url: &str) -> anyhow::Result<String> {
    let line = line.replace("http://HOST", url);
    let output = Command::new("sh")
        .args(["-c", &format!("{line} --silent --show-error --max-time 30")])
        .output()
        .context("sh and curl are needed for this test")?;
    ensure!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_earlier_systems_run_unchanged() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let url = cluster.client().url().to_owned();
    let json = |line: &str| -> anyhow::Result<Value> {
        let printed = run(line, &url)?;
        serde_json::from_str(&printed).with_context(|| format!("{line} printed {printed:?}"))
    };

    // Axon
    json(
        r#"curl -X PUT -H "Content-Type: application/json" -d '{"value":"is a distributed systems algorithm"}' http://HOST/kv/raft"#,
    )?;
    let read = json("curl http://HOST/kv/raft")?;
    ensure!(
        (&read["key"], &read["value"]) == (&json!("raft"), &json!("is a distributed systems algorithm")),
        "{read}"
    );
    let all = json("curl http://HOST/kv")?;
    ensure!(
        all["items"][0]["key"] == "raft" && all["next_cursor"].is_null(),
        "{all}"
    );
    ensure!(json("curl -X DELETE http://HOST/kv/raft")?["deleted"] == true);
    ensure!(json("curl http://HOST/kv/raft")?["code"] == "not_found");

    // ConsensusKV
    json(
        r#"curl -X POST http://HOST/set -H "Content-Type: application/json" -d '{"key":"foo","value":"bar"}'"#,
    )?;
    ensure!(run("curl http://HOST/get?key=foo", &url)?.trim_end() == "bar");
    let status = json("curl http://HOST/status")?;
    ensure!(
        status["health"] == "ok" && status["stores"].as_array().map(Vec::len) == Some(3),
        "{status}"
    );
    ensure!(json("curl http://HOST/join?peerAddress=127.0.0.1:9")?["message"].is_string());
    json(r#"curl -X POST http://HOST/delete -H "Content-Type: application/json" -d '{"key":"foo"}'"#)?;
    ensure!(json("curl http://HOST/get?key=foo")?["code"] == "not_found");

    // kvstore: without a content type
    json(r#"curl -X POST "http://HOST/set" -d '{"key": "foo", "value": "bar"}'"#)?;
    ensure!(run(r#"curl "http://HOST/get?key=foo""#, &url)?.trim_end() == "bar");
    cluster.assert_no_errors()
}
