//! Every right, every operation, every place of a key: against an oracle that is written out. What is refused is refused before
//! anything reaches a store.

use holdfast_common::access::hash_token;
use holdfast_common::proto::access::{Credential, Limits, Proof, Right};
use serde_json::json;

use super::client::Answer;
use super::*;

const TOKENS: [(&str, Right, &[&str]); 6] = [
    ("admin", Right::Admin, &[]),
    ("writer", Right::ReadWrite, &[]),
    ("reader", Right::ReadOnly, &[]),
    ("writer-a", Right::ReadWrite, &["a/"]),
    ("reader-a", Right::ReadOnly, &["a/"]),
    ("writer-ab", Right::ReadWrite, &["a/", "b/"]),
];

fn rules(version: u64) -> Rules {
    let credentials = TOKENS
        .iter()
        .enumerate()
        .map(|(at, (name, right, prefixes))| Credential {
            id: at as u64 + 1,
            name: (*name).to_owned(),
            proof: Proof::Token(hash_token(name)),
            right: *right,
            prefixes: prefixes.iter().map(|prefix| prefix.as_bytes().to_vec()).collect(),
            expires_ms: None,
            created_ms: 0,
            limits: Limits::default(),
        });
    Rules {
        version,
        required: true,
        credentials: credentials.collect(),
    }
}

/// A request: method, path, body; what it does to which keys, each named by the prefix that holds them all ("" for all keys).
struct Case {
    method: &'static str,
    path: String,
    body: String,
    does: Vec<(bool, &'static str)>,
}

fn case(method: &'static str, path: &str, body: &str, does: &[(bool, &'static str)]) -> Case {
    Case {
        method,
        path: path.to_owned(),
        body: body.to_owned(),
        does: does.to_vec(),
    }
}

const READ: bool = false;
const WRITE: bool = true;

/// Every operation, on keys under `place`, which ends with a slash.
fn operations(place: &'static str) -> Vec<Case> {
    let key = format!("{place}k");
    let escaped = key.replace('/', "%2F");
    let end = place.replace('/', "0");
    let read = [(READ, place)];
    let write = [(WRITE, place)];
    let everything = [(READ, "")];
    let put = json!({"key": key, "value": "v"});
    vec![
        case("GET", &format!("/v1/kv/{key}"), "", &read),
        case("HEAD", &format!("/v1/kv/{escaped}"), "", &read),
        case("GET", &format!("/v1/kv/{key}?explain=1"), "", &read),
        case("GET", &format!("/v1/kv/{key}?consistency=stale"), "", &read),
        case("GET", &format!("/v1/explain/{key}"), "", &read),
        case("PUT", &format!("/v1/kv/{key}"), "v", &write),
        case("PUT", &format!("/v1/kv/{escaped}?explain=1"), "v", &write),
        case("DELETE", &format!("/v1/kv/{key}"), "", &write),
        case("GET", &format!("/v1/kv?prefix={place}"), "", &read),
        case("HEAD", &format!("/v1/kv?prefix={place}"), "", &read),
        case("GET", &format!("/v1/kv?prefix={place}&count=true"), "", &read),
        case("GET", &format!("/v1/kv?start={place}k&end={place}l"), "", &read),
        case("GET", &format!("/v1/kv?start={place}&end={end}"), "", &read),
        case("GET", &format!("/v1/kv?start={place}"), "", &everything),
        case("GET", &format!("/v1/kv?end={place}k"), "", &everything),
        case("GET", "/v1/kv", "", &everything),
        case("GET", "/v1/kv?keys_only=true&reverse=true", "", &everything),
        case("DELETE", &format!("/v1/kv?prefix={place}"), "", &write),
        case(
            "DELETE",
            &format!("/v1/kv?start={place}k&end={place}l"),
            "",
            &write,
        ),
        case("DELETE", &format!("/v1/kv?end={place}k"), "", &[(WRITE, "")]),
        case("DELETE", "/v1/kv?prefix=", "", &[(WRITE, "")]),
        case(
            "POST",
            "/v1/txn",
            &json!({"then": [{"get": {"key": key}}]}).to_string(),
            &read,
        ),
        case(
            "POST",
            "/v1/txn",
            &json!({"then": [{"put": put}]}).to_string(),
            &write,
        ),
        case(
            "POST",
            "/v1/txn",
            &json!({"if": [{"key": key, "exists": false}], "else": [{"delete": {"key": "a/x"}}]}).to_string(),
            &[(READ, place), (WRITE, "a/")],
        ),
        case("GET", "/kv", "", &everything),
        case("GET", &format!("/kv/{key}"), "", &read),
        case("PUT", &format!("/kv/{key}"), r#"{"value": "v"}"#, &write),
        case("DELETE", &format!("/kv/{key}"), "", &write),
        case("POST", "/set", &put.to_string(), &write),
        case("GET", &format!("/get?key={key}"), "", &read),
        case("POST", "/delete", &json!({"key": key}).to_string(), &write),
        case("GET", "/status", "", &[]),
    ]
}

/// Whether a credential allows something for all keys of a place: "" stands for all keys there are.
fn oracle((_, right, prefixes): (&str, Right, &[&str]), (writes, place): (bool, &str)) -> bool {
    let by_right = match right {
        Right::Admin | Right::ReadWrite => true,
        Right::ReadOnly => !writes,
    };
    by_right && (prefixes.is_empty() || prefixes.contains(&place))
}

async fn ask(client: &mut Client, case: &Case, token: Option<&str>) -> Answer {
    let header = token.map(|token| format!("authorization: Bearer {token}"));
    let headers: Vec<&str> = header.as_deref().into_iter().collect();
    client
        .send(case.method, &case.path, &headers, case.body.as_bytes())
        .await
}

async fn closed() -> (Cluster, Running, Client) {
    let (cluster, router, client) = start().await;
    router
        .rules
        .send(Told::Rules(rules(1)))
        .expect("the router listens");
    let mut probe = router.client().await;
    while probe.get("/v1/kv/x").await.status != 401 {
        tokio::task::yield_now().await;
    }
    (cluster, router, client)
}

#[tokio::test]
async fn every_right_on_every_operation_at_every_place() {
    let (cluster, router, _) = closed().await;
    let places = ["a/", "b/", "c/"];
    for case in places.into_iter().flat_map(operations) {
        for token in TOKENS {
            // Of a connection each: an answer to a refused body may close it.
            let mut client = router.client().await;
            let allowed = case.does.iter().all(|does| oracle(token, *does));
            let before = cluster.state.lock().applied;
            let answer = ask(&mut client, &case, Some(token.0)).await;
            let what = format!("{} {} {} as {}", case.method, case.path, case.body, token.0);
            assert_eq!(answer.status != 403, allowed, "{what}: {}", answer.status);
            assert!(![401, 400, 500].contains(&answer.status), "{what}: {answer:?}");
            if !allowed {
                assert_eq!(cluster.state.lock().applied, before, "{what} changed something");
            }
        }
        for nobody in [None, Some("unknown")] {
            let before = cluster.state.lock().applied;
            let answer = ask(&mut router.client().await, &case, nobody).await;
            assert_eq!(answer.status, 401, "{} {}", case.method, case.path);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(cluster.state.lock().applied, before);
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn each_part_of_a_batch_is_checked_by_itself() {
    let (_cluster, router, mut client) = closed().await;
    let body = json!({"ops": [
        {"put": {"key": "a/1", "value": "v"}},
        {"put": {"key": "b/1", "value": "v"}},
        {"get": {"key": "a/1"}},
        {"delete": {"key": "c/1"}},
        {"get": {"key": "b/1"}},
    ]});
    let statuses = async |client: &mut Client, token: &str| {
        let header = format!("authorization: Bearer {token}");
        let body = body.to_string();
        let answer = client
            .send("POST", "/v1/batch", &[&header], body.as_bytes())
            .await;
        let results = answer.json()["results"].as_array().expect("a list").clone();
        let status = |result: &serde_json::Value| result["status"].as_u64().expect("a status");
        results.iter().map(status).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&mut client, "writer-a").await, [201, 403, 200, 403, 403]);
    assert_eq!(statuses(&mut client, "reader-a").await, [403, 403, 200, 403, 403]);
    assert_eq!(statuses(&mut client, "admin").await[1], 201, "b/1 was not there");
    router.stop().await;
}

#[tokio::test]
async fn operators_see_how_the_process_is_without_a_token() {
    let (_cluster, router, mut client) = closed().await;
    for path in ["/health", "/ready", "/metrics", "/openapi.json"] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    assert_eq!(client.get("/nothing/here").await.status, 404);
    router.stop().await;
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing_on_connections_that_stand() {
    let (_cluster, router, mut client) = closed().await;
    let header = ["authorization: Bearer writer"];
    assert_eq!(client.send("PUT", "/v1/kv/x", &header, b"v").await.status, 201);
    let mut rest = rules(2);
    rest.credentials.retain(|credential| credential.name != "writer");
    router.rules.send(Told::Rules(rest)).expect("the router listens");
    loop {
        let answer = client.send("PUT", "/v1/kv/x", &header, b"v").await;
        match answer.status {
            204 => tokio::task::yield_now().await,
            401 => break,
            other => panic!("a wrong failure: {other}"),
        }
    }
    let admin = client
        .send("GET", "/v1/kv/x", &["authorization: Bearer admin"], b"")
        .await;
    assert_eq!(admin.status, 200, "the others are not concerned");
    router.stop().await;
}

#[tokio::test]
async fn a_principal_over_its_limit_is_told_when_to_come_back() {
    let (_cluster, router, mut client) = closed().await;
    let mut limited = rules(2);
    limited.credentials[1].limits.requests_per_second = 1;
    // A limit changes with the credential, never by itself.
    limited.credentials[1].id = 77;
    router
        .rules
        .send(Told::Rules(limited))
        .expect("the router listens");
    let header = ["authorization: Bearer writer"];
    let refused = loop {
        let answer = client.send("GET", "/v1/kv/x", &header, b"").await;
        if answer.status != 404 {
            break answer;
        }
    };
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (429, "limit_exceeded")
    );
    let seconds = refused
        .header("retry-after")
        .and_then(|text| text.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "{refused:?}");
    let other = client
        .send("GET", "/v1/kv/x", &["authorization: Bearer reader"], b"")
        .await;
    assert_eq!(other.status, 404, "the others are not concerned");
    router.stop().await;
}

/// A secret that a client sends is in no answer.
#[tokio::test]
async fn no_answer_repeats_a_token() {
    let (_cluster, router, mut client) = closed().await;
    let canary = "hf_canary0123456789";
    for header in [
        format!("authorization: Bearer {canary}"),
        format!("authorization: Basic {canary}"),
        format!("authorization: {canary}"),
    ] {
        let answer = client.send("GET", "/v1/kv/x", &[&header], b"").await;
        assert_eq!(answer.status, 401);
        assert!(!answer.text().contains("canary"), "{answer:?}");
    }
    router.stop().await;
}

#[tokio::test]
async fn one_principal_does_not_take_every_connection() {
    let limits = crate::Limits {
        max_connections_per_principal: 2,
        ..crate::Limits::default()
    };
    let (_cluster, router, mut first) = start_with(limits).await;
    router
        .rules
        .send(Told::Rules(rules(1)))
        .expect("the router listens");
    let get = async |client: &mut Client, token: &str| {
        let header = format!("authorization: Bearer {token}");
        client.send("GET", "/v1/kv/a/k", &[&header], b"").await
    };
    while get(&mut first, "reader").await.status != 404 {
        tokio::task::yield_now().await;
    }
    let (mut second, mut third) = (router.client().await, router.client().await);
    assert_eq!(get(&mut second, "reader").await.status, 404);
    let refused = get(&mut third, "reader").await;
    assert_eq!(
        (
            refused.status,
            refused.problem().as_str(),
            refused.header("connection")
        ),
        (429, "limit_exceeded", Some("close"))
    );
    assert!(refused.header("retry-after").is_some());
    assert!(third.is_closed().await);
    let mut other = router.client().await;
    assert_eq!(
        get(&mut other, "writer").await.status,
        404,
        "who is somebody else"
    );
    assert_eq!(
        get(&mut first, "reader").await.status,
        404,
        "those that it has go on"
    );
    drop(second);
    let mut fourth = router.client().await;
    while get(&mut fourth, "reader").await.status == 429 {
        fourth = router.client().await;
    }
    assert_eq!(get(&mut fourth, "reader").await.status, 404, "one was given back");
}
