//! The edges of keys, values and parameters, through a real router and real stores.

use anyhow::ensure;
use holdfast_tests::Options;
use reqwest::Method;

use crate::cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_key_and_any_value_round_trips_and_what_is_too_large_is_refused() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let client = cluster.client();

    let keys: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        b"\xff".to_vec(),
        b"a/b".to_vec(),
        b"a/../b".to_vec(),
        b"a b+%".to_vec(),
        vec![b'k'; 4096],
    ];
    for key in &keys {
        let written = client.put(key, key.clone()).await?;
        ensure!(written.status == 201, "{key:?}: {}", written.status);
        let read = client.get(key).await?;
        ensure!(
            read.status == 200 && &read.body == key && read.revision == written.revision,
            "{key:?}: {read:?}"
        );
    }
    let scanned: Vec<_> = client
        .scan_everything()
        .await?
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    let mut sorted = keys.clone();
    sorted.sort();
    ensure!(scanned == sorted, "a scan gives {scanned:?}");

    for length in [0, 8 * 1024 * 1024] {
        let value: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let written = client.put("value", value.clone()).await?;
        ensure!(
            matches!(written.status, 201 | 204),
            "{length}: {}",
            written.status
        );
        ensure!(
            client.get("value").await?.body == value,
            "a value of {length} bytes came back different"
        );
    }

    let too_long = client.put(vec![b'k'; 4097], "").await?;
    ensure!((400..500).contains(&too_long.status), "{too_long:?}");
    let too_large = client.put("value", vec![0; 8 * 1024 * 1024 + 1]).await?;
    ensure!(too_large.status == 413, "{}", too_large.status);
    for path in [
        "/v1/kv/",
        "/v1/kv/%",
        "/v1/kv/%0",
        "/v1/kv/%zz",
        "/v1/kv/a?ttl=x",
        "/v1/kv/a?colour=red",
        "/v1/kv?limit=-1",
        "/v1/kv?cursor=x",
    ] {
        let answer = client.send(client.request(Method::GET, path)).await?;
        ensure!(
            (400..500).contains(&answer.status) && answer.status != 404,
            "{path}: {}",
            answer.status
        );
        ensure!(
            answer.code().is_some(),
            "{path}: not a problem document: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    cluster.assert_no_errors()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_hold_and_revisions_grow() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let client = cluster.client();
    let first = client.put("k", "1").await?.revision.unwrap_or_default();
    ensure!(client.compare_and_set("k", first + 1, "x").await?.status == 412);
    let second = client.compare_and_set("k", first, "2").await?;
    ensure!(
        second.status == 204 && second.revision > Some(first),
        "{second:?}"
    );
    ensure!(client.delete("k").await?.status == 204);
    ensure!(client.delete("k").await?.status == 204, "deleting what is absent");
    ensure!(client.get("k").await?.status == 404);
    let again = client.put("k", "3").await?;
    ensure!(
        again.status == 201 && again.revision > second.revision,
        "{again:?}"
    );
    cluster.assert_no_errors()
}
