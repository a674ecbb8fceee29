//! How the router speaks HTTP: versions, methods, packing, names, and counting and removing many keys.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::*;

type Http2 = http2::SendRequest<Full<Bytes>>;

async fn http2(router: &Running) -> Http2 {
    let socket = TcpStream::connect(router.address).await.expect("a connection");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn send(sender: &mut Http2, method: &str, path: &str, body: &[u8]) -> (u16, Bytes) {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://router{path}"))
        .body(Full::from(Bytes::copy_from_slice(body)))
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole answer");
    (status, body.to_bytes())
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_begin_with_it() {
    let (_cluster, router, mut client) = start().await;
    let mut first = http2(&router).await;
    assert_eq!(send(&mut first, "PUT", "/v1/kv/a", b"one").await.0, 201);
    let mut others: Vec<_> = (0..100)
        .map(|key| {
            let mut sender = first.clone();
            async move { send(&mut sender, "PUT", &format!("/v1/kv/{key:03}"), b"").await.0 }
        })
        .collect();
    let statuses = futures::future::join_all(others.drain(..)).await;
    assert_eq!(statuses, vec![201; 100], "side by side");
    assert_eq!(
        send(&mut first, "GET", "/v1/kv/a", b"").await,
        (200, "one".into())
    );
    let (status, listed) = send(&mut first, "GET", "/v1/kv?prefix=0&keys_only=true", b"").await;
    assert_eq!(
        (status, listed.iter().filter(|byte| **byte == b'{').count()),
        (200, 101)
    );
    assert_eq!(client.get("/v1/kv/a").await.text(), "one");
    router.stop().await;
}

#[tokio::test]
async fn a_router_that_stops_does_not_wait_for_who_has_sent_nothing() {
    let limits = crate::Limits {
        shutdown_grace_ms: 3_600_000,
        idle_timeout_ms: 3_600_000,
        header_timeout_ms: 3_600_000,
        ..crate::Limits::default()
    };
    let (_cluster, router, mut client) = start_with(limits).await;
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(60), router.stop());
    stopped.await.expect("nobody is served");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn head_over_http_2_has_the_length_and_not_the_body() {
    let (_cluster, router, _client) = start().await;
    let mut sender = http2(&router).await;
    assert_eq!(send(&mut sender, "PUT", "/v1/kv/a", b"one").await.0, 201);
    for (path, status, length) in [
        ("/v1/kv/a", 200, Some("3")),
        ("/v1/kv/absent", 404, None),
        ("/v1/kv?prefix=a", 200, None),
        ("/v1/kv?prefix=%zz", 400, None),
    ] {
        let request = Request::head(format!("http://router{path}"))
            .body(Full::default())
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), status, "{path}");
        let told = response.headers().get("content-length").cloned();
        if let Some(length) = length {
            assert_eq!(told.expect("a length"), length, "{path}");
        }
        let body = response.into_body().collect().await.expect("a whole answer");
        assert!(body.to_bytes().is_empty(), "{path}");
    }
    router.stop().await;
}

#[tokio::test]
async fn a_first_byte_that_both_versions_share_waits_for_the_next() {
    let (_cluster, _router, mut client) = start().await;
    client.write(b"P").await;
    client
        .write(b"UT /v1/kv/a HTTP/1.1\r\nhost: r\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(client.answer(false).await.status, 201);
}

#[tokio::test]
async fn requests_may_follow_each_other_without_waiting() {
    let (_cluster, _router, mut client) = start().await;
    let mut requests = String::new();
    for key in 0..10 {
        requests.push_str(&format!(
            "PUT /v1/kv/{key} HTTP/1.1\r\nhost: r\r\ncontent-length: 1\r\n\r\n{key}"
        ));
    }
    client.write(requests.as_bytes()).await;
    for key in 0..10 {
        assert_eq!(client.answer(false).await.status, 201, "{key}");
    }
}

#[tokio::test]
async fn options_tells_the_methods_and_head_the_headers() {
    let (cluster, _router, mut client) = start().await;
    for (path, allow) in [
        ("/v1/kv/a", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("/v1/kv", "GET, HEAD, DELETE, OPTIONS"),
        ("/v1/batch", "POST, OPTIONS"),
        ("/v1/txn", "POST, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/set", "POST, OPTIONS"),
    ] {
        let answer = client.send("OPTIONS", path, &[], b"").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (204, Some(allow)),
            "{path}"
        );
    }
    assert_eq!(
        client.send("OPTIONS", "/nothing", &[], b"").await.problem(),
        "unknown_path"
    );
    let head = client
        .send("HEAD", "/v1/kv", &["accept: application/x-ndjson"], b"")
        .await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("application/x-ndjson"))
    );
    assert_eq!(cluster.state.lock().requests, 0);
}

#[tokio::test]
async fn a_listing_is_packed_on_request() {
    let (cluster, _router, mut client) = start().await;
    for key in 0..200 {
        cluster.put(format!("{key:04}").as_bytes(), &[b'v'; 500]);
    }
    for accept in ["application/json", "application/x-ndjson"] {
        let accept = format!("accept: {accept}");
        let plain = client.send("GET", "/v1/kv", &[&accept], b"").await;
        assert_eq!(plain.header("content-encoding"), None);
        let packed = client
            .send("GET", "/v1/kv", &[&accept, "accept-encoding: br, gzip"], b"")
            .await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(packed.header("vary"), Some("accept, accept-encoding"));
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed.body[..])
            .read_to_end(&mut unpacked)
            .expect("gzip");
        assert_eq!(unpacked, plain.body);
        assert!(packed.body.len() * 10 < plain.body.len());
    }
}

#[tokio::test]
async fn a_trace_names_the_request() {
    let (_cluster, _router, mut client) = start().await;
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = client.send("GET", "/v1/kv/a", &[trace], b"").await;
    assert_eq!(answer.problem(), "not_found");
    assert_eq!(
        answer.header("x-request-id"),
        Some("4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7")
    );
}

#[tokio::test]
async fn a_reader_bounds_how_stale_an_answer_may_be() {
    let (_cluster, _router, mut client) = start().await;
    client.put("/v1/kv/a", b"1").await;
    // The stores of this cluster call every stale answer five milliseconds old.
    for (path, staleness) in [
        ("/v1/kv/a?consistency=stale", "5"),
        ("/v1/kv/a?max_staleness=5", "5"),
        ("/v1/kv/a?consistency=stale&max_staleness=4", "0"),
        ("/v1/kv?max_staleness=4", "0"),
    ] {
        let answer = client.get(path).await;
        assert_eq!(
            (answer.status, answer.header("x-staleness-ms")),
            (200, Some(staleness)),
            "{path}"
        );
        assert_eq!(answer.header("holdfast-staleness-ms"), Some(staleness));
    }
    assert_eq!(client.get("/v1/kv/a").await.header("x-staleness-ms"), None);
    let both = client
        .get("/v1/kv/a?consistency=linearizable&max_staleness=4")
        .await;
    assert_eq!(both.problem(), "invalid_parameter");
}

#[tokio::test]
async fn keys_are_counted_and_removed_by_span() {
    let (cluster, _router, mut client) = start().await;
    cluster.split("m", 2);
    cluster.state.lock().page_rows = 7;
    for key in 0..30 {
        cluster.put(format!("a{key:02}").as_bytes(), b"v");
        cluster.put(format!("z{key:02}").as_bytes(), b"v");
    }
    assert_eq!(
        client.get("/v1/kv?count=true").await.text(),
        "{\"count\":60,\"next_cursor\":null}\n"
    );
    assert_eq!(
        client.get("/v1/kv?count=true&prefix=a1").await.json()["count"],
        10
    );
    let some = client.get("/v1/kv?count=true&limit=9").await;
    assert_eq!(some.json()["count"], 9);
    let cursor = some.json()["next_cursor"].as_str().expect("more").to_owned();
    assert_eq!(
        client
            .get(&format!("/v1/kv?count=true&cursor={cursor}"))
            .await
            .json()["count"],
        51
    );

    let removed = client.send("DELETE", "/v1/kv?prefix=a", &[], b"").await;
    assert_eq!(
        (removed.status, removed.text()),
        (200, "{\"deleted\":30,\"next_cursor\":null}\n")
    );
    let lines = client
        .send(
            "DELETE",
            "/v1/kv?start=z00&end=z20",
            &["accept: application/x-ndjson"],
            b"",
        )
        .await;
    let told: Vec<_> = lines.text().lines().collect();
    assert_eq!(told[..2], ["{\"deleted\":7}", "{\"deleted\":14}"]);
    assert_eq!(told[2..], ["{\"deleted\":20,\"next_cursor\":null}"]);
    assert_eq!(cluster.state.lock().rows.len(), 10);
}

#[tokio::test]
async fn removing_takes_an_explicit_span() {
    let (cluster, _router, mut client) = start().await;
    cluster.put(b"a", b"v");
    for path in [
        "/v1/kv",
        "/v1/kv?limit=5",
        "/v1/kv?prefix=a&start=b",
        "/v1/kv?keys=a",
    ] {
        assert_eq!(
            client.send("DELETE", path, &[], b"").await.problem(),
            "invalid_parameter",
            "{path}"
        );
    }
    let named = client
        .send("DELETE", "/v1/kv?prefix=a", &["idempotency-key: x"], b"")
        .await;
    assert_eq!((named.status, named.problem().as_str()), (501, "not_implemented"));
    assert_eq!(cluster.state.lock().rows.len(), 1);
    assert_eq!(
        client.send("DELETE", "/v1/kv?prefix=", &[], b"").await.json()["deleted"],
        1
    );
}

#[tokio::test]
async fn a_request_tells_how_it_was_carried_out() {
    let (cluster, _router, mut client) = start().await;
    cluster.split("m", 2);
    let written = client.send("PUT", "/v1/kv/z%C3%A9?explain=1", &[], b"1").await;
    assert_eq!(written.status, 201);
    let story: serde_json::Value =
        serde_json::from_str(written.header("x-explain").expect("a story")).expect("JSON");
    assert!(story["retries"].as_u64() >= Some(1), "the map was old: {story}");
    assert_eq!(
        (&story["store"]["queue_us"], &story["range"]["leader_store"]),
        (&3.into(), &2.into())
    );

    let explained = client.get("/v1/explain/z%C3%A9").await.json();
    assert_eq!(
        (&explained["key"], &explained["found"]),
        (&"zé".into(), &true.into())
    );
    assert_eq!(
        (&explained["store"]["path"], &explained["cache"]),
        (&"lease".into(), &"hit".into())
    );
    assert_eq!(
        (&explained["retries"], &explained["range"]["start"]),
        (&0.into(), &"m".into())
    );
    assert_eq!(explained["range"]["replicas"].as_array().map(Vec::len), Some(3));
    assert!(explained["us"]["total"].as_u64() >= explained["us"]["router"].as_u64());
    assert_eq!(client.get("/v1/explain/nothing").await.json()["found"], false);
    let read = client.get("/v1/kv/z%C3%A9?explain=true").await;
    assert_eq!((read.text(), read.header("x-explain").is_some()), ("1", true));
    assert_eq!(client.get("/v1/kv/z%C3%A9").await.header("x-explain"), None);
}
