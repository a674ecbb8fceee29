//! `Idempotency-Key`, `/v1/batch` and `/v1/txn`, as a client sees them.

use serde_json::{Value, json};

use super::client::Answer;
use super::cluster::Fault;
use super::*;

async fn post(client: &mut Client, path: &str, headers: &[&str], body: &Value) -> Answer {
    client
        .send("POST", path, headers, body.to_string().as_bytes())
        .await
}

fn statuses(answer: &Answer) -> Vec<u64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json()["results"].clone();
    let results = results.as_array().expect("a list").clone();
    results
        .iter()
        .filter_map(|result| result["status"].as_u64())
        .collect()
}

#[tokio::test]
async fn a_named_write_happens_once() {
    let (cluster, router, mut client) = start().await;
    let named = ["idempotency-key: order-17"];
    let first = client.send("PUT", "/v1/kv/a", &named, b"1").await;
    assert_eq!((first.status, first.header("etag")), (201, Some("\"1\"")));
    client.put("/v1/kv/a", b"2").await;
    let again = router.client().await.send("PUT", "/v1/kv/a", &named, b"1").await;
    assert_eq!(
        (again.status, again.header("etag")),
        (201, Some("\"1\"")),
        "as the first"
    );
    assert_eq!(client.get("/v1/kv/a").await.text(), "2");

    for (method, path, body) in [
        ("PUT", "/v1/kv/a", &b"3"[..]),
        ("PUT", "/v1/kv/a?ttl=5", b"1"),
        ("DELETE", "/v1/kv/a", b""),
    ] {
        let other = client.send(method, path, &named, body).await;
        assert_eq!(
            (other.status, other.problem().as_str()),
            (422, "idempotency_key_reused"),
            "{method} {path}"
        );
    }
    let elsewhere = client.send("PUT", "/v1/kv/b", &named, b"3").await;
    assert_eq!(elsewhere.status, 201, "a name belongs to its key");
    assert_eq!(cluster.state.lock().applied, 3);
}

#[tokio::test]
async fn a_condition_that_failed_is_replayed_too() {
    let (_cluster, _router, mut client) = start().await;
    let headers = ["idempotency-key: once", "if-match: *"];
    assert_eq!(client.send("PUT", "/v1/kv/a", &headers, b"1").await.status, 412);
    client.put("/v1/kv/a", b"0").await;
    assert_eq!(client.send("PUT", "/v1/kv/a", &headers, b"1").await.status, 412);
    assert_eq!(client.get("/v1/kv/a").await.text(), "0");
}

#[tokio::test]
async fn a_batch_has_an_outcome_for_each_operation() {
    let (cluster, _router, mut client) = start().await;
    cluster.split("m", 2);
    client.put("/v1/kv/old", b"here").await;
    let body = json!({"ops": [
        {"put": {"key": "a", "value": "1"}},
        {"put": {"key": "old", "value": "new", "if": {"value_equals": "here"}}},
        {"put": {"key": "old", "value": "no", "if": {"exists": false}}},
        {"get": {"key": "old"}},
        {"get": {"key": "nothing"}},
        {"put": {"key_base64": "/w==", "value_base64": "gIA="}},
        {"get": {"key_base64": "/w=="}},
        {"delete": {"key": "a", "if": {"exists": true}}},
        {"delete": {"key": "never"}},
    ]});
    let answer = post(&mut client, "/v1/batch", &[], &body).await;
    assert_eq!(statuses(&answer), [201, 204, 412, 200, 404, 201, 200, 204, 204]);
    let results = answer.json()["results"].clone();
    assert_eq!(results[2]["error"]["code"], "precondition_failed");
    assert_eq!(results[2]["revision"], results[1]["revision"]);
    assert_eq!(
        (&results[3]["value"], &results[3]["revision"]),
        (&json!("new"), &results[1]["revision"])
    );
    assert_eq!(results[4]["error"]["code"], "not_found");
    assert_eq!(results[6]["value_base64"], "gIA=");
    assert_eq!(client.get("/v1/kv/a").await.status, 404);
}

#[tokio::test]
async fn a_named_batch_happens_once() {
    let (cluster, _router, mut client) = start().await;
    let body = |value: &str| json!({"ops": [{"put": {"key": "a", "value": value}}, {"put": {"key": "a", "value": "2"}}]});
    let named = ["idempotency-key: b"];
    let first = post(&mut client, "/v1/batch", &named, &body("1")).await;
    let again = post(&mut client, "/v1/batch", &named, &body("1")).await;
    assert_eq!(first.json(), again.json());
    assert_eq!(cluster.state.lock().applied, 2);
    assert_eq!(
        statuses(&post(&mut client, "/v1/batch", &named, &body("x")).await),
        [422, 204]
    );
}

#[tokio::test]
async fn batches_are_bounded_and_whole() {
    let (cluster, _router, mut client) = start().await;
    assert_eq!(
        statuses(&post(&mut client, "/v1/batch", &[], &json!({"ops": []})).await),
        Vec::<u64>::new()
    );
    let many: Vec<Value> = (0..1_024)
        .map(|key| json!({"put": {"key": key.to_string(), "value": ""}}))
        .collect();
    let answer = post(&mut client, "/v1/batch", &[], &json!({"ops": many})).await;
    assert_eq!(statuses(&answer), vec![201; 1_024]);
    let before = cluster.state.lock().requests;
    let too_many = vec![json!({"get": {"key": "a"}}); 1_025];
    for bad in [
        json!({"ops": too_many}),
        json!({}),
        json!([]),
        json!({"ops": [{"get": {"key": "a"}}, {"put": {"key": "b"}}]}),
        json!({"ops": [], "more": 1}),
    ] {
        let answer = post(&mut client, "/v1/batch", &[], &bad).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid_body"));
    }
    let get = client.get("/v1/batch").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(
        cluster.state.lock().requests,
        before,
        "nothing of a bad batch is done"
    );
}

#[tokio::test]
async fn values_of_a_batch_fit_one_answer() {
    let (_cluster, _router, mut client) = start().await;
    let large = vec![b'x'; 6 << 20];
    for key in ["a", "b", "c"] {
        client.put(&format!("/v1/kv/{key}"), &large).await;
    }
    let body = json!({"ops": [{"get": {"key": "a"}}, {"get": {"key": "b"}}, {"get": {"key": "c"}}]});
    let mut statuses = statuses(&post(&mut client, "/v1/batch", &[], &body).await);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 413]);
}

#[tokio::test]
async fn a_transaction_takes_one_branch() {
    let (_cluster, _router, mut client) = start().await;
    let body = json!({
        "if": [{"key": "lock", "exists": false}],
        "then": [{"put": {"key": "lock", "value": "me"}}, {"delete": {"key": "queue"}}, {"get": {"key": "config"}}],
        "else": [{"get": {"key": "lock"}}],
    });
    let taken = post(&mut client, "/v1/txn", &[], &body).await;
    let revision = taken.json()["revision"].clone();
    assert_eq!(taken.json()["succeeded"], true);
    assert_eq!(statuses(&taken), [200, 204, 404]);
    assert_eq!(
        client.get("/v1/kv/lock").await.header("etag"),
        Some(&*format!("\"{}\"", revision.as_str().unwrap()))
    );

    let refused = post(&mut client, "/v1/txn", &[], &body).await;
    assert_eq!(refused.json()["succeeded"], false);
    assert_eq!(
        refused.json()["results"],
        json!([{"status": 200, "value": "me", "revision": revision}])
    );
}

#[tokio::test]
async fn a_transaction_over_two_ranges_is_refused_plainly() {
    let (cluster, _router, mut client) = start().await;
    cluster.split("m", 2);
    let body = json!({"then": [{"put": {"key": "a", "value": "1"}}, {"put": {"key": "z", "value": "1"}}]});
    let answer = post(&mut client, "/v1/txn", &[], &body).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (501, "cross_range_transaction")
    );
    assert_eq!(cluster.state.lock().applied, 0);
}

#[tokio::test]
async fn a_transaction_whose_answer_was_lost_is_carried_out_once() {
    let (cluster, _router, mut client) = start().await;
    client.get("/v1/kv/a").await;
    cluster.fail_next([Fault::LoseAnswer]);
    let body = json!({"then": [{"put": {"key": "a", "value": "1"}}, {"put": {"key": "z", "value": "1"}}]});
    let answer = post(&mut client, "/v1/txn", &[], &body).await;
    assert_eq!(statuses(&answer), [200, 200]);
    assert_eq!(cluster.state.lock().applied, 1);
}

#[tokio::test]
async fn what_is_no_transaction_is_refused() {
    let (cluster, _router, mut client) = start().await;
    let put = |key: &str| json!({"put": {"key": key, "value": ""}});
    for bad in [
        json!({}),
        json!({"if": [{"key": "a"}]}),
        json!({"if": [{"exists": true}], "then": [put("a")]}),
        json!({"then": [put("a"), put("a")]}),
        json!({"then": [{"put": {"key": "a", "value": "", "if": {"exists": true}}}]}),
        json!({"then": vec![json!({"get": {"key": "a"}}); 257]}),
        json!({"than": [put("a")]}),
    ] {
        let answer = post(&mut client, "/v1/txn", &[], &bad).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "invalid_body"),
            "{bad}"
        );
    }
    let large = "x".repeat(5 << 20);
    let body = json!({"then": [{"put": {"key": "a", "value": large}}], "else": [{"put": {"key": "a", "value": large}}]});
    let answer = post(&mut client, "/v1/txn", &[], &body).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (413, "value_too_large")
    );
    assert_eq!(cluster.state.lock().requests, 0);
}
