//! `/v1/kv/{key}` and the fixed paths, as a client sees them.

use std::time::Duration;

use holdfast_common::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use holdfast_common::proto::kv::Mutation;

use super::*;

#[tokio::test]
async fn a_key_is_created_read_replaced_and_deleted() {
    let (_cluster, _router, mut client) = start().await;
    assert_eq!(client.get("/v1/kv/a").await.problem(), "not_found");

    let created = client.put("/v1/kv/a", b"one").await;
    assert_eq!(
        (created.status, created.header("etag"), created.body.len()),
        (201, Some("\"1\""), 0)
    );
    let replaced = client.put("/v1/kv/a", b"two").await;
    assert_eq!((replaced.status, replaced.header("etag")), (204, Some("\"2\"")));

    let read = client.get("/v1/kv/a").await;
    assert_eq!(
        (read.status, read.text(), read.header("etag")),
        (200, "two", Some("\"2\""))
    );
    assert_eq!(read.header("content-type"), Some("application/octet-stream"));
    let head = client.send("HEAD", "/v1/kv/a", &[], b"").await;
    assert_eq!(
        (head.status, head.header("content-length"), head.header("etag")),
        (200, Some("3"), Some("\"2\""))
    );

    let deleted = client.send("DELETE", "/v1/kv/a", &[], b"").await;
    assert_eq!((deleted.status, deleted.header("etag")), (204, None));
    assert_eq!(
        client.send("DELETE", "/v1/kv/a", &[], b"").await.status,
        204,
        "also when absent"
    );
    assert_eq!(client.get("/v1/kv/a").await.status, 404);
    assert_eq!(client.send("HEAD", "/v1/kv/a", &[], b"").await.status, 404);
}

#[tokio::test]
async fn conditions_hold_or_nothing_changes() {
    let (cluster, _router, mut client) = start().await;
    let (absent, any) = ("if-none-match: *", "if-match: *");
    assert_eq!(
        client.send("PUT", "/v1/kv/a", &[any], b"x").await.problem(),
        "precondition_failed"
    );
    assert_eq!(
        client
            .send("PUT", "/v1/kv/a", &["if-match: \"1\""], b"x")
            .await
            .status,
        412
    );
    assert_eq!(client.send("PUT", "/v1/kv/a", &[absent], b"x").await.status, 201);
    let failed = client.send("PUT", "/v1/kv/a", &[absent], b"y").await;
    assert_eq!((failed.status, failed.header("etag")), (412, Some("\"1\"")));
    assert_eq!(client.send("PUT", "/v1/kv/a", &[any], b"y").await.status, 204);
    assert_eq!(
        client
            .send("PUT", "/v1/kv/a", &["if-match: \"1\""], b"z")
            .await
            .status,
        412
    );
    assert_eq!(
        client
            .send("PUT", "/v1/kv/a", &["if-match: \"2\""], b"z")
            .await
            .header("etag"),
        Some("\"3\"")
    );
    assert_eq!(
        client
            .send("PUT", "/v1/kv/a", &["if-match: \"other\""], b"q")
            .await
            .status,
        412
    );

    assert_eq!(
        client
            .send("GET", "/v1/kv/a", &["if-none-match: \"2\""], b"")
            .await
            .text(),
        "z"
    );
    let known = client
        .send("GET", "/v1/kv/a", &["if-none-match: \"2\", \"3\""], b"")
        .await;
    assert_eq!(
        (known.status, known.header("etag"), known.body.len()),
        (304, Some("\"3\""), 0)
    );

    assert_eq!(
        client
            .send("DELETE", "/v1/kv/a", &["if-match: \"2\""], b"")
            .await
            .status,
        412
    );
    assert_eq!(
        client
            .send("DELETE", "/v1/kv/a", &["if-match: \"3\""], b"")
            .await
            .status,
        204
    );
    assert_eq!(
        client
            .send("DELETE", "/v1/kv/a", &["if-match: \"3\""], b"")
            .await
            .status,
        412
    );
    assert_eq!(cluster.state.lock().applied, 4);
}

#[tokio::test]
async fn malformed_headers_change_nothing() {
    let (cluster, _router, mut client) = start().await;
    for (method, header) in [
        ("PUT", "if-match: 7"),
        ("PUT", "if-match: \"1\", \"2\""),
        ("PUT", "if-none-match: \"7\""),
        ("DELETE", "if-match: 7"),
        ("DELETE", "if-none-match: *"),
        ("GET", "if-none-match: 7"),
    ] {
        let answer = client.send(method, "/v1/kv/a", &[header], b"").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "invalid_header"),
            "{method} {header}"
        );
    }
    for method in ["PUT", "DELETE"] {
        for headers in [
            &["Idempotency-Key: a b"][..],
            &["Idempotency-Key: a", "Idempotency-Key: a"],
        ] {
            let answer = client.send(method, "/v1/kv/a", headers, b"").await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (400, "invalid_header"),
                "{method} {headers:?}"
            );
        }
    }
    assert_eq!(cluster.state.lock().requests, 0);
}

#[tokio::test]
async fn every_byte_can_be_a_key() {
    let (cluster, _router, mut client) = start().await;
    for byte in 0..=255u8 {
        let path = format!("/v1/kv/%{byte:02X}");
        assert_eq!(client.put(&path, &[byte]).await.status, 201, "{path}");
        assert_eq!(client.get(&path).await.body, [byte], "{path}");
    }
    let stored: Vec<_> = cluster.state.lock().rows.keys().map(|key| key.to_vec()).collect();
    let expected: Vec<_> = (0..=255u8).map(|byte| vec![byte]).collect();
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn paths_are_not_normalised() {
    let (cluster, _router, mut client) = start().await;
    let table = [
        ("/v1/kv/a/b", "a/b"),
        ("/v1/kv/a//b/", "a//b/"),
        ("/v1/kv/..", ".."),
        ("/v1/kv/../../x", "../../x"),
        ("/v1/kv/%2e", "."),
        ("/v1/kv/%252F", "%2F"),
        ("/v1/kv/a+b", "a+b"),
        ("/v1/kv/a;b=c", "a;b=c"),
        ("/v1/kv/%3Fq", "?q"),
        ("/v1/kv//", "/"),
    ];
    for (path, key) in table {
        assert_eq!(client.put(path, b"v").await.status, 201, "{path}");
        assert!(cluster.state.lock().rows.contains_key(key.as_bytes()), "{path}");
    }
    assert_eq!(
        client.get("/v1/kv/a%2Fb").await.status,
        200,
        "an escaped slash is the same key"
    );
    assert_eq!(
        client.get("http://elsewhere/v1/kv/a/b").await.status,
        200,
        "the absolute form"
    );
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let (cluster, _router, mut client) = start().await;
    for path in [
        "/v1/kv/",
        "/v1/kv/?ttl=1",
        "/v1/kv/%",
        "/v1/kv/%4",
        "/v1/kv/a%zz",
        "/v1/kv/%u0041",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = client.send(method, path, &[], b"").await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (400, "invalid_key"),
                "{method} {path}"
            );
        }
    }
    let longest = format!("/v1/kv/{}", "%FF".repeat(MAX_KEY_BYTES));
    assert_eq!(client.put(&longest, b"v").await.status, 201);
    assert_eq!(client.get(&longest).await.text(), "v");
    for path in [
        format!("{longest}%FF"),
        format!("/v1/kv/{}", "a".repeat(MAX_KEY_BYTES + 1)),
    ] {
        let answer = client.put(&path, b"v").await;
        assert_eq!((answer.status, answer.problem().as_str()), (414, "key_too_long"));
    }
    assert_eq!(cluster.state.lock().rows.len(), 1);
}

#[tokio::test]
async fn parameters_are_known_and_given_once() {
    let (cluster, _router, mut client) = start().await;
    for (method, query) in [
        ("GET", "nope=1"),
        ("GET", "ttl=1"),
        ("GET", "consistency=eventual"),
        ("GET", "consistency=stale&consistency=stale"),
        ("GET", "timeout_ms=0"),
        ("GET", "timeout_ms=60001"),
        ("GET", "timeout_ms=-1"),
        ("GET", "timeout_ms=%"),
        ("PUT", "consistency=stale"),
        ("PUT", "ttl=0"),
        ("PUT", "ttl=1.5"),
        ("PUT", "ttl="),
        ("PUT", "ttl=1&ttl=1"),
        ("PUT", "ttl=99999999999999999999"),
        ("DELETE", "ttl=1"),
    ] {
        let answer = client.send(method, &format!("/v1/kv/a?{query}"), &[], b"").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "invalid_parameter"),
            "{method} {query}"
        );
    }
    assert_eq!(cluster.state.lock().requests, 0);
}

#[tokio::test]
async fn a_time_to_live_reaches_the_range() {
    let (cluster, _router, mut client) = start().await;
    assert_eq!(client.put("/v1/kv/a?ttl=90", b"v").await.status, 201);
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 204);
    let lives: Vec<_> = cluster
        .state
        .lock()
        .writes
        .iter()
        .map(|write| write.mutation.clone())
        .collect();
    let put = |ttl_ms| Mutation::Put {
        value: "v".into(),
        ttl_ms,
    };
    assert_eq!(lives, [put(90_000), put(0)]);
}

#[tokio::test]
async fn a_stale_read_says_how_stale() {
    let (cluster, _router, mut client) = start().await;
    cluster.put(b"a", b"v");
    cluster.lead(0, None);
    for _ in 0..6 {
        let read = client.get("/v1/kv/a?consistency=stale").await;
        assert_eq!(
            (read.status, read.header("holdfast-staleness-ms")),
            (200, Some("5"))
        );
    }
}

#[tokio::test]
async fn values_are_any_bytes_up_to_the_bound() {
    let (_cluster, _router, mut client) = start().await;
    assert_eq!(client.put("/v1/kv/empty", b"").await.status, 201);
    let empty = client.get("/v1/kv/empty").await;
    assert_eq!(
        (empty.status, empty.body.len(), empty.header("content-length")),
        (200, 0, Some("0"))
    );

    let all: Vec<u8> = (0..=255).collect();
    client.put("/v1/kv/all", &all).await;
    assert_eq!(client.get("/v1/kv/all").await.body, all);

    let largest: Vec<u8> = (0..MAX_VALUE_BYTES).map(|at| (at % 251) as u8).collect();
    assert_eq!(client.put("/v1/kv/largest", &largest).await.status, 201);
    assert_eq!(client.get("/v1/kv/largest").await.body, largest);
}

#[tokio::test]
async fn a_value_beyond_the_bound_is_refused_before_it_is_read() {
    let (cluster, router, mut client) = start().await;
    let head = format!(
        "PUT /v1/kv/a HTTP/1.1\r\nhost: r\r\ncontent-length: {}\r\n\r\n",
        MAX_VALUE_BYTES + 1
    );
    client.write(head.as_bytes()).await;
    let answer = client.answer(false).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (413, "value_too_large"),
        "not a byte of it was sent"
    );

    let mut client = router.client().await;
    let answer = client.put("/v1/kv/a", &vec![0; MAX_VALUE_BYTES + 1]).await;
    assert_eq!(
        answer.status, 413,
        "a client that sends all of it first gets to read the answer"
    );

    let mut client = router.client().await;
    let expect = head.replace("host: r", "host: r\r\nexpect: 100-continue");
    client.write(expect.as_bytes()).await;
    assert_eq!(client.answer(false).await.status, 413, "it is not asked for");
    assert_eq!(cluster.state.lock().requests, 0);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_at_the_bound() {
    let (cluster, router, mut client) = start().await;
    let head = b"PUT /v1/kv/a HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(head).await;
    client.write(b"3\r\none\r\n4\r\n-two\r\n0\r\n\r\n").await;
    assert_eq!(client.answer(false).await.status, 201);
    assert_eq!(client.get("/v1/kv/a").await.text(), "one-two");

    let mut client = router.client().await;
    client.write(head).await;
    let chunk = [
        format!("{:x}\r\n", 1 << 20).into_bytes(),
        vec![0; 1 << 20],
        b"\r\n".to_vec(),
    ]
    .concat();
    for _ in 0..9 {
        client.write(&chunk).await;
    }
    assert_eq!(client.answer(false).await.status, 413, "though it has not ended");
    assert_eq!(cluster.state.lock().applied, 1);
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let (_cluster, _router, mut client) = start().await;
    let head = b"PUT /v1/kv/a HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n";
    client.write(head).await;
    assert_eq!(client.answer(false).await.status, 100);
    client.write(b"v").await;
    assert_eq!(client.answer(false).await.status, 201);
}

#[tokio::test]
async fn other_methods_and_paths_are_told_what_there_is() {
    let (_cluster, _router, mut client) = start().await;
    for (method, path, allow) in [
        ("POST", "/v1/kv/a", "GET, HEAD, PUT, DELETE"),
        ("PATCH", "/v1/kv/a", "GET, HEAD, PUT, DELETE"),
        ("PUT", "/v1/kv", "GET, HEAD, DELETE"),
        ("GET", "/v1/batch", "POST"),
        ("DELETE", "/v1/txn", "POST"),
        ("PUT", "/v1/explain/a", "GET"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/ready", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ] {
        let answer = client.send(method, path, &[], b"").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
        assert_eq!(answer.problem(), "method_not_allowed");
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/kvx",
        "/v1/kv%2Fa",
        "/V1/kv/a",
        "//v1/kv/a",
        "/healthz",
    ] {
        let answer = client.get(path).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (404, "unknown_path"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let (_cluster, _router, mut client) = start().await;
    let named = client
        .send("GET", "/v1/kv/a", &["x-request-id: mine-1"], b"")
        .await;
    assert_eq!(named.header("x-request-id"), Some("mine-1"));
    assert_eq!(named.problem(), "not_found");
    let odd = client
        .send("GET", "/health", &["x-request-id: no good"], b"")
        .await;
    let fresh = client.get("/health").await;
    let name = |answer: &client::Answer| answer.header("x-request-id").expect("a name").to_owned();
    assert!(name(&odd) != "no good" && name(&odd) != name(&fresh));
}

#[tokio::test]
async fn health_is_the_process_and_readiness_the_map() {
    let cluster = Cluster::start().await;
    let router = Running::cold(Limits::default()).await;
    let mut client = router.client().await;
    assert_eq!(client.get("/health").await.status, 200);
    let unready = client.get("/ready").await;
    assert_eq!(
        (
            unready.status,
            unready.problem().as_str(),
            unready.header("retry-after")
        ),
        (503, "unavailable", Some("1"))
    );
    router.tell(cluster.map());
    // Served once the map is there, so the router is ready then.
    assert_eq!(client.get("/v1/kv/a").await.status, 404);
    assert_eq!(client.get("/ready").await.status, 200);
    let metrics = client.get("/metrics").await;
    assert_eq!((metrics.status, metrics.text()), (200, "# metrics\n"));
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
}

#[tokio::test]
async fn requests_may_follow_each_other_without_waiting() {
    let (_cluster, _router, mut client) = start().await;
    let put = "PUT /v1/kv/a HTTP/1.1\r\nhost: r\r\ncontent-length: 1\r\n\r\n1";
    let get = "GET /v1/kv/a HTTP/1.1\r\nhost: r\r\n\r\n";
    client.write(format!("{put}{get}{get}").as_bytes()).await;
    assert_eq!(client.answer(false).await.status, 201);
    assert_eq!(client.answer(false).await.text(), "1");
    assert_eq!(client.answer(false).await.text(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_are_served_at_a_time() {
    let (cluster, router, _client) = start().await;
    let clients = (0..32).map(|number| {
        let address = router.address;
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            for round in 0..50 {
                let path = format!("/v1/kv/{number}-{round}");
                assert_eq!(client.put(&path, path.as_bytes()).await.status, 201);
                assert_eq!(client.get(&path).await.text(), path);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(60), client)
            .await
            .expect("in time")
            .expect("no panic");
    }
    assert_eq!(cluster.state.lock().applied, 32 * 50);
}
