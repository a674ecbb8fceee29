//! `/v1/kv`: scans over ranges that split, merge and move underneath.

use std::collections::HashMap;

use holdfast_common::proto::kv;
use serde_json::{Value, json};

use super::client::Answer;
use super::cluster::Fault;
use super::*;

const NDJSON: &[&str] = &["accept: application/x-ndjson"];

/// Keys a0 to a9, …, z0 to z9, each its own value.
fn fill(cluster: &Cluster) -> Vec<String> {
    let keys: Vec<String> = ('a'..='z')
        .flat_map(|letter| (0..10).map(move |digit| format!("{letter}{digit}")))
        .collect();
    for key in &keys {
        cluster.put(key.as_bytes(), key.as_bytes());
    }
    keys
}

fn keys_of(answer: &Answer) -> Vec<String> {
    let items = answer.json()["items"].as_array().expect("items").clone();
    items
        .iter()
        .map(|item| item["key"].as_str().expect("a key").to_owned())
        .collect()
}

/// The items and the last line of a stream.
fn lines_of(answer: &Answer) -> (Vec<Value>, Value) {
    assert!(answer.text().ends_with('\n'));
    let mut lines: Vec<Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let last = lines.pop().expect("a last line");
    (lines, last)
}

/// Follows cursors to the end.
async fn read_all(client: &mut Client, query: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = client.get(&format!("/v1/kv?{query}{cursor}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        keys.extend(keys_of(&answer));
        match answer.json()["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return keys,
        }
    }
}

#[tokio::test]
async fn a_scan_reads_a_span_in_order() {
    let (cluster, _router, mut client) = start().await;
    fill(&cluster);
    let all = client.get("/v1/kv?prefix=b").await;
    assert_eq!(all.header("content-type"), Some("application/json"));
    assert_eq!(
        keys_of(&all),
        (0..10).map(|digit| format!("b{digit}")).collect::<Vec<_>>()
    );
    assert_eq!(all.json()["next_cursor"], Value::Null);
    assert_eq!(
        all.json()["items"][0],
        json!({"key": "b0", "value": "b0", "revision": "11"})
    );
    assert_eq!(
        keys_of(&client.get("/v1/kv?start=a8&end=b2").await),
        ["a8", "a9", "b0", "b1"]
    );
    assert_eq!(
        keys_of(&client.get("/v1/kv?start=a8&end=b2&reverse=true").await),
        ["b1", "b0", "a9", "a8"]
    );
    assert_eq!(keys_of(&client.get("/v1/kv?start=z8").await), ["z8", "z9"]);
    assert_eq!(keys_of(&client.get("/v1/kv?end=a1").await), ["a0"]);
    assert!(keys_of(&client.get("/v1/kv?start=q&end=q").await).is_empty());
    assert!(keys_of(&client.get("/v1/kv?prefix=nothing").await).is_empty());
    let keys_only = client.get("/v1/kv?start=z9&keys_only=true").await;
    assert_eq!(
        keys_only.json()["items"],
        json!([{"key": "z9", "revision": "260"}])
    );
}

#[tokio::test]
async fn limits_and_cursors_cut_a_scan_in_pieces() {
    let (cluster, _router, mut client) = start().await;
    let keys = fill(&cluster);
    for split in ["d5", "m", "zz"] {
        cluster.split(split, 2);
    }
    let backwards: Vec<_> = keys.iter().rev().cloned().collect();
    for limit in [1, 7, 100, 1_000] {
        assert_eq!(
            read_all(&mut client, &format!("limit={limit}")).await,
            keys,
            "{limit}"
        );
        assert_eq!(
            read_all(&mut client, &format!("limit={limit}&reverse=true")).await,
            backwards,
            "{limit}"
        );
    }
    // Pages between router and store that are smaller than the answer, and larger.
    cluster.state.lock().page_rows = 3;
    assert_eq!(read_all(&mut client, "limit=8").await, keys);
    assert_eq!(read_all(&mut client, "limit=8&reverse=true").await, backwards);
}

#[tokio::test]
async fn a_scan_survives_whatever_ranges_and_routers_do() {
    let (cluster, router, mut client) = start().await;
    let keys = fill(&cluster);
    let mut read = Vec::new();
    let mut query = "limit=40".to_owned();
    for step in 0.. {
        let answer = client.get(&format!("/v1/kv?{query}")).await;
        read.extend(keys_of(&answer));
        let Some(cursor) = answer.json()["next_cursor"].as_str().map(str::to_owned) else {
            break;
        };
        query = format!("limit=40&cursor={cursor}");
        match step {
            0 => cluster.split("f", 2),
            1 => cluster.split("k3", 3),
            2 => cluster.merge_all(2),
            _ => cluster.lead(0, Some(3)),
        }
    }
    assert_eq!(read, keys);

    // A cursor outlives the router that gave it.
    let cursor = client.get("/v1/kv?limit=250").await.json()["next_cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned();
    router.stop().await;
    let router = Running::cold(Limits::default()).await;
    router.tell(cluster.map());
    let rest = router
        .client()
        .await
        .get(&format!("/v1/kv?cursor={cursor}"))
        .await;
    assert_eq!(keys_of(&rest), keys[250..]);
}

#[tokio::test]
async fn every_range_is_asked_for_its_own_part_once() {
    let (cluster, router, mut client) = start().await;
    fill(&cluster);
    cluster.split("f", 2);
    cluster.split("p", 3);
    router.tell(cluster.map());
    while cluster.state.lock().requests == 0 {
        client.get("/v1/kv/a0").await;
    }
    client.get("/v1/kv?start=c&end=q").await;
    let spans: Vec<_> = cluster
        .state
        .lock()
        .scanned
        .iter()
        .map(|span| span.to_string())
        .collect();
    assert_eq!(spans, ["[c, f)", "[f, p)", "[p, q)"]);
}

#[tokio::test]
async fn what_is_not_text_is_base64() {
    let (cluster, _router, mut client) = start().await;
    cluster.put(b"\xff\x00", b"text");
    cluster.put(b"k", b"\x80");
    let items = client.get("/v1/kv").await.json()["items"].clone();
    let expected = json!([
        {"key": "k", "value_base64": "gA==", "revision": "2"},
        {"key_base64": "/wA=", "value": "text", "revision": "1"},
    ]);
    assert_eq!(items, expected);
}

#[tokio::test]
async fn a_large_answer_is_cut_with_a_cursor() {
    let (cluster, _router, mut client) = start().await;
    for number in 0..20 {
        cluster.put(format!("k{number:02}").as_bytes(), &vec![b'x'; 600_000]);
    }
    let first = client.get("/v1/kv").await;
    let (items, bytes) = (keys_of(&first).len(), first.body.len());
    assert!(
        items > 1 && bytes < 6 * 1024 * 1024,
        "{items} items, {bytes} bytes"
    );
    assert!(first.json()["next_cursor"].is_string());
    assert_eq!(read_all(&mut client, "").await.len(), 20);
    assert_eq!(
        lines_of(&client.send("GET", "/v1/kv", NDJSON, b"").await).0.len(),
        20,
        "a stream has no such bound"
    );
}

#[tokio::test]
async fn a_stream_is_one_item_a_line_and_a_last_line() {
    let (cluster, _router, mut client) = start().await;
    let keys = fill(&cluster);
    cluster.split("f", 2);
    cluster.state.lock().page_rows = 7;
    let whole = client.send("GET", "/v1/kv", NDJSON, b"").await;
    assert_eq!(
        (whole.status, whole.header("content-type")),
        (200, Some("application/x-ndjson"))
    );
    assert!(whole.header("x-request-id").is_some());
    let (items, last) = lines_of(&whole);
    assert_eq!(
        items
            .iter()
            .map(|item| item["key"].as_str().expect("a key"))
            .collect::<Vec<_>>(),
        keys
    );
    assert_eq!(last, json!({"next_cursor": null}));

    let (items, last) = lines_of(
        &client
            .send("GET", "/v1/kv?limit=9&reverse=true", NDJSON, b"")
            .await,
    );
    assert_eq!(items.len(), 9);
    let cursor = last["next_cursor"].as_str().expect("a cursor");
    let (items, _) = lines_of(
        &client
            .send("GET", &format!("/v1/kv?cursor={cursor}&limit=1"), NDJSON, b"")
            .await,
    );
    assert_eq!(items[0]["key"], "z0");

    let (items, last) = lines_of(&client.send("GET", "/v1/kv?prefix=none", NDJSON, b"").await);
    assert_eq!((items.len(), last), (0, json!({"next_cursor": null})));
}

#[tokio::test]
async fn a_stream_that_fails_says_so_in_its_last_line() {
    let (cluster, _router, mut client) = start().await;
    fill(&cluster);
    cluster.state.lock().page_rows = 20;
    let refused = || Fault::Refuse(kv::Error::Busy { retry_after_ms: 1 });
    // Each page is one request: the first is served, the second is refused as often as it is tried.
    cluster.state.lock().serve_first = 1;
    cluster.fail_next((0..5).map(|_| refused()));
    let (items, last) = lines_of(&client.send("GET", "/v1/kv", NDJSON, b"").await);
    assert_eq!(items.len(), 20);
    assert_eq!(last["error"]["code"], "overloaded");
    assert!(last["error"]["request_id"].is_string());

    // A scan that fails at once fails with a status.
    let answer = client.send("GET", "/v1/kv", &[NDJSON[0]], b"").await;
    assert_eq!(answer.status, 200, "two refusals were left");
    cluster.fail_next((0..3).map(|_| refused()));
    assert_eq!(
        client.send("GET", "/v1/kv", NDJSON, b"").await.problem(),
        "overloaded"
    );
}

#[tokio::test]
async fn a_scan_whose_time_goes_on_empty_ranges_says_where_to_go_on() {
    let (cluster, router, mut client) = start().await;
    cluster.put(b"z", b"last");
    cluster.split("m", 2);
    router.tell(cluster.map());
    // The first range is read, and has no rows; the second does not answer.
    cluster.state.lock().serve_first = 1;
    cluster.fail_next((0..10).map(|_| Fault::Ignore));
    let query = "timeout_ms=300";
    let answer = client.get(&format!("/v1/kv?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(keys_of(&answer), Vec::<String>::new());
    let cursor = answer.json()["next_cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned();
    // Who goes on while it does not answer gets no further, and is told so.
    let again = client.get(&format!("/v1/kv?{query}&cursor={cursor}")).await;
    assert_eq!(again.status, 503, "{}", again.text());
    cluster.state.lock().faults.clear();
    assert_eq!(read_all(&mut client, &format!("cursor={cursor}")).await, ["z"]);
}

#[tokio::test]
async fn ranges_without_rows_are_gone_over_several_at_a_time() {
    let (cluster, router, mut client) = start().await;
    let bounds: Vec<String> = (1..200).map(|number| format!("{number:03}")).collect();
    for bound in &bounds {
        cluster.split(bound, 1);
    }
    router.tell(cluster.map());
    let keys = ["0005", "0999", "1", "1005", "100x", "1505", "1509", "1999"];
    for key in keys {
        cluster.put(key.as_bytes(), b"");
    }
    assert_eq!(read_all(&mut client, "limit=1000").await, keys);
    assert_eq!(read_all(&mut client, "limit=3").await, keys, "in pieces");
    let back: Vec<_> = keys.into_iter().rev().collect();
    assert_eq!(read_all(&mut client, "reverse=true").await, back);
    assert_eq!(read_all(&mut client, "start=0006&end=1505").await, keys[1..5]);
    assert_eq!(
        read_all(&mut client, "start=0006&end=1505&reverse=true").await,
        back[3..7]
    );
    assert_eq!(
        read_all(&mut client, "start=01&end=02").await,
        Vec::<String>::new()
    );
    assert_eq!(client.get("/v1/kv?count=true").await.json()["count"], 8);
    let (items, last) = lines_of(&client.send("GET", "/v1/kv", NDJSON, b"").await);
    assert_eq!((items.len(), last), (8, json!({"next_cursor": null})));

    // Ranges that have split and merged since the router heard of them.
    for bound in &bounds[20..60] {
        cluster.split(&format!("{bound}5"), 2);
    }
    assert_eq!(read_all(&mut client, "limit=1000").await, keys);
    cluster.merge_all(3);
    assert_eq!(read_all(&mut client, "reverse=true").await, back);
}

#[tokio::test]
async fn what_makes_no_scan_is_refused() {
    let (cluster, _router, mut client) = start().await;
    let long = format!("start={}", "a".repeat(4097));
    let queries = [
        "limit=0",
        "limit=x",
        "limit=1000001",
        "limit=",
        "limit=1&limit=2",
        "reverse=2",
        "reverse",
        "keys_only=maybe",
        "prefix=a&start=b",
        "prefix=a&end=b",
        "start=b&end=a",
        "prefix=%zz",
        "cursor=nonsense",
        "cursor=",
        "who=me",
        &long,
    ];
    for query in queries {
        let answer = client.get(&format!("/v1/kv?{query}")).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "invalid_parameter"),
            "{query}"
        );
    }
    assert_eq!(cluster.state.lock().requests, 0);
}

#[tokio::test]
async fn bounds_are_any_bytes() {
    let (cluster, _router, mut client) = start().await;
    let mut revisions = HashMap::new();
    for byte in 0..=255u8 {
        cluster.put(&[byte, b'k'], b"v");
        revisions.insert(byte, u64::from(byte) + 1);
    }
    for byte in 0..=255u8 {
        let answer = client.get(&format!("/v1/kv?prefix=%{byte:02x}")).await;
        let items = answer.json()["items"].as_array().expect("items").clone();
        assert_eq!(items.len(), 1, "{byte}");
        assert_eq!(items[0]["revision"], revisions[&byte].to_string());
    }
}
