//! Credentials, as the admin API gives and asks for them.

use futures::StreamExt;
use holdfast_common::access::hash_token;
use holdfast_common::proto::access::{Proof, Told};
use serde_json::json;

use super::*;

/// Asks a member with a token.
pub(super) async fn ask(
    driver: &Driver,
    i: usize,
    token: &str,
    (method, path): (Method, &str),
    body: Value,
) -> (StatusCode, Value) {
    let url = format!("http://{}{path}", driver.configs[i].http);
    let mut request = driver.http.request(method, url).bearer_auth(token);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    (status, answer.json().await.unwrap_or(Value::Null))
}

pub(super) async fn create(driver: &Driver, i: usize, by: &str, name: &str, role: &str) -> String {
    let body = json!({"name": name, "role": role});
    let (status, made) = ask(driver, i, by, (Method::POST, "/v1/tokens"), body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["token"].as_str().expect("a token").to_owned()
}

pub(super) async fn first_admin(driver: &Driver) -> String {
    let reader = json!({"name": "reader", "role": "read-only"});
    let (status, problem) = driver.post(0, "/v1/tokens", reader).await;
    assert_eq!(
        status,
        StatusCode::CONFLICT,
        "the first has to be an admin's: {problem}"
    );
    let admin = json!({"name": "root", "role": "admin"});
    let (status, made) = driver.post(0, "/v1/tokens", admin).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["token"].as_str().expect("a token").to_owned()
}

/// Waits until a member has heard that credentials are required.
async fn closed(driver: &Driver, i: usize) {
    until("a member to ask for credentials", async || {
        let answer = driver.request(i, Method::GET, "/v1/cluster", None).await;
        answer.is_some_and(|(status, _)| status == StatusCode::UNAUTHORIZED)
    })
    .await;
}

#[tokio::test]
async fn the_first_token_closes_every_member_and_restarts_keep_it_closed() {
    let mut driver = Driver::started(3).await;
    let root = first_admin(&driver).await;
    for i in 0..3 {
        closed(&driver, i).await;
        let (status, _) = ask(&driver, i, &root, (Method::GET, "/v1/cluster"), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "whichever member is asked");
        for path in ["/health", "/metrics", "/openapi.json"] {
            let answer = driver.request(i, Method::GET, path, None).await;
            assert_eq!(answer.expect("an answer").0, StatusCode::OK, "{path}");
        }
    }
    for i in 0..3 {
        driver.kill(i).await;
    }
    for i in 0..3 {
        driver.start(i);
    }
    for i in 0..3 {
        closed(&driver, i).await;
    }
    until("the token to be good again", async || {
        let answer = ask(&driver, 1, &root, (Method::GET, "/v1/tokens"), Value::Null).await;
        answer.0 == StatusCode::OK
    })
    .await;
    for i in 0..3 {
        driver.stop(i).await;
    }
}

#[tokio::test]
async fn a_role_does_what_it_is_for_and_a_token_is_shown_once() {
    let mut driver = Driver::started(1).await;
    let root = first_admin(&driver).await;
    let reader = create(&driver, 0, &root, "reader", "read-only").await;
    let writer = create(&driver, 0, &root, "writer", "read-write").await;
    let split = json!({"key": "m"});
    let cases = [
        (Method::GET, "/v1/cluster", Value::Null, true),
        (Method::GET, "/v1/ranges", Value::Null, true),
        (Method::GET, "/v1/auth", Value::Null, true),
        (Method::GET, "/v1/tokens", Value::Null, false),
        (
            Method::POST,
            "/v1/tokens",
            json!({"name": "x", "role": "admin"}),
            false,
        ),
        (Method::DELETE, "/v1/tokens/1", Value::Null, false),
        (Method::PUT, "/v1/auth", json!({"required": false}), false),
        (Method::PATCH, "/v1/config", json!({"split_bytes": 1}), false),
        (Method::POST, "/v1/ranges/split", split, false),
        (Method::POST, "/v1/stores/1/drain", Value::Null, false),
        (Method::POST, "/api/control/stop/store-1", Value::Null, false),
    ];
    for (method, path, body, allowed) in cases {
        for token in [&reader, &writer] {
            let (status, answer) = ask(&driver, 0, token, (method.clone(), path), body.clone()).await;
            assert_eq!(
                status != StatusCode::FORBIDDEN,
                allowed,
                "{method} {path}: {answer}"
            );
        }
        let (status, _) = ask(&driver, 0, "hf_nobodys", (method.clone(), path), body).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    let scoped = json!({"name": "scoped", "role": "read-only", "prefixes": ["a/"]});
    let (_, scoped) = ask(&driver, 0, &root, (Method::POST, "/v1/tokens"), scoped).await;
    let scoped = scoped["token"].as_str().expect("a token");
    let (status, _) = ask(&driver, 0, scoped, (Method::GET, "/v1/ranges"), Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "bounds of ranges are keys");

    let (_, listed) = ask(&driver, 0, &root, (Method::GET, "/v1/tokens"), Value::Null).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(4));
    let listed = listed.to_string();
    for secret in [&root, &reader, &writer] {
        assert!(!listed.contains(secret.as_str()), "{listed}");
    }
    let (status, _) = ask(&driver, 0, &root, (Method::DELETE, "/v1/tokens/1"), Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT, "the last admin");
    let (status, _) = ask(&driver, 0, &root, (Method::DELETE, "/v1/tokens/77"), Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    driver.stop(0).await;
}

#[tokio::test]
async fn routers_hear_of_credentials_as_they_come_and_go() {
    let mut driver = Driver::started(3).await;
    let mut told = driver.client().watch_access();
    let mut rules = async |what: &str| loop {
        let next = clock::timeout(PATIENCE, told.next()).await.expect(what);
        if let Told::Rules(rules) = next.expect("the stream never ends") {
            return rules;
        }
    };
    let open = rules("the rules").await;
    assert!(!open.required && open.credentials.is_empty());
    let root = first_admin(&driver).await;
    let first = rules("the first token").await;
    assert!(first.required);
    assert_eq!(first.credentials[0].proof, Proof::Token(hash_token(&root)));
    create(&driver, 0, &root, "reader", "read-only").await;
    assert_eq!(rules("the second token").await.credentials.len(), 2);
    let revoke = (Method::DELETE, "/v1/tokens/2");
    let (status, _) = ask(&driver, 0, &root, revoke, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(rules("the revocation").await.credentials.len(), 1);
    // The member that told it is gone; another goes on.
    let (_, cluster) = ask(&driver, 0, &root, (Method::GET, "/v1/cluster"), Value::Null).await;
    let leads = |config: &Config| cluster["leader"] == config.name.as_str();
    let leader = driver.configs.iter().position(leads);
    driver.kill(leader.expect("a leader")).await;
    assert_eq!(rules("another member's word").await.credentials.len(), 1);
    for i in (0..3).filter(|i| Some(*i) != leader) {
        driver.stop(i).await;
    }
}
