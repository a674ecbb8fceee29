//! The routes of the systems before, spoken to as their documents say.

use serde_json::json;

use super::*;

const JSON: &[&str] = &["content-type: application/json"];

#[tokio::test]
async fn axons_key_routes() {
    let (_cluster, _router, mut client) = start().await;
    let value = "is a distributed systems algorithm";
    let put = client
        .send(
            "PUT",
            "/kv/raft",
            JSON,
            br#"{"value":"is a distributed systems algorithm"}"#,
        )
        .await;
    assert_eq!((put.status, put.json()["value"].as_str()), (200, Some(value)));
    let read = client.get("/kv/raft").await;
    assert_eq!(
        read.json(),
        json!({"key": "raft", "value": value, "revision": "1"})
    );
    assert_eq!(
        client.get("/v1/kv/raft").await.text(),
        value,
        "the same key, the same store"
    );
    let deleted = client.send("DELETE", "/kv/raft", &[], b"").await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({"deleted": true})));
    assert_eq!(
        client.send("DELETE", "/kv/raft", &[], b"").await.json(),
        json!({"deleted": false})
    );
    assert_eq!(client.get("/kv/raft").await.problem(), "not_found");
    assert_eq!(client.get("/kv/").await.problem(), "invalid_key");
    assert_eq!(
        client.put("/kv/raft", b"not json").await.problem(),
        "invalid_body"
    );
    assert_eq!(
        client.send("POST", "/kv/raft", &[], b"").await.header("allow"),
        Some("GET, PUT, DELETE")
    );
}

#[tokio::test]
async fn all_pairs_are_streamed() {
    let (cluster, _router, mut client) = start().await;
    assert_eq!(
        client.get("/kv").await.json(),
        json!({"items": [], "next_cursor": null})
    );
    for number in 0..2_500 {
        cluster.put(format!("k{number:04}").as_bytes(), b"v");
    }
    cluster.split("k1", 2);
    let all = client.get("/kv").await;
    assert_eq!(
        (all.status, all.header("transfer-encoding")),
        (200, Some("chunked"))
    );
    let items = all.json()["items"].as_array().expect("items").clone();
    assert_eq!((items.len(), &items[2_499]["key"]), (2_500, &json!("k2499")));
}

#[tokio::test]
async fn set_get_and_delete() {
    let (_cluster, _router, mut client) = start().await;
    let set = client
        .send("POST", "/set", JSON, br#"{"key":"foo","value":"bar"}"#)
        .await;
    assert_eq!((set.status, set.json()["key"].as_str()), (200, Some("foo")));
    let form = &["content-type: application/x-www-form-urlencoded"];
    let set = client
        .send("POST", "/set", form, br#"{"key": "foo", "value": "bar"}"#)
        .await;
    assert_eq!(set.status, 200, "curl -d without a content type");
    let read = client.get("/get?key=foo").await;
    assert_eq!((read.status, read.text()), (200, "bar"), "the bare value");
    let deleted = client.send("POST", "/delete", JSON, br#"{"key":"foo"}"#).await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({"deleted": true})));
    assert_eq!(client.get("/get?key=foo").await.status, 404);
    assert_eq!(client.get("/get").await.problem(), "invalid_parameter");
    assert_eq!(client.get("/get?key=").await.problem(), "invalid_key");
    assert_eq!(
        client
            .send("POST", "/set", JSON, br#"{"key":"","value":"x"}"#)
            .await
            .problem(),
        "invalid_key"
    );
    assert_eq!(
        client
            .send("POST", "/set", JSON, br#"{"key":"x"}"#)
            .await
            .problem(),
        "invalid_body"
    );
    assert_eq!(client.get("/set").await.header("allow"), Some("POST"));
}

#[tokio::test]
async fn status_and_join() {
    let (cluster, _router, mut client) = start().await;
    assert_eq!(client.get("/v1/kv/a").await.status, 404, "the map is there now");
    let status = client.get("/status").await.json();
    assert_eq!((&status["health"], &status["ranges"]), (&json!("ok"), &json!(1)));
    let address = cluster.stores[0].address.to_string();
    assert_eq!(
        status["stores"][0],
        json!({"id": 1, "address": address, "leaders": 1})
    );
    let join = client.get("/join?peerAddress=127.0.0.1:9000").await;
    assert_eq!(
        (join.status, &join.json()["peer_address"]),
        (200, &json!("127.0.0.1:9000"))
    );
    assert_eq!(client.get("/join").await.problem(), "invalid_parameter");
}
