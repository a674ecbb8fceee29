//! A browser's session: a cookie in the place of a token.

use futures::StreamExt;
use reqwest::Response;
use reqwest::header::{COOKIE, SET_COOKIE};

use super::access::{ask, create, first_admin};
use super::*;

const CONSOLE: &str = "x-holdfast-console";

/// A browser at one member: what it sends by itself, and what its page adds.
struct Browser {
    http: reqwest::Client,
    base: String,
    cookie: Option<String>,
}

impl Browser {
    fn at(driver: &Driver, i: usize) -> Self {
        Self {
            http: driver.http.clone(),
            base: format!("http://{}", driver.configs[i].http),
            cookie: None,
        }
    }

    /// What the page sends.
    fn page(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.sends(method, path).header(CONSOLE, "1");
        request
            .header("origin", &self.base)
            .header("sec-fetch-site", "same-origin")
    }

    /// What any page can have it send.
    fn sends(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.cookie {
            Some(cookie) => request.header(COOKIE, format!("theme=dark; {cookie}")),
            None => request,
        }
    }

    async fn log_in(&mut self, token: &str) -> (StatusCode, Value) {
        let request = self
            .page(Method::POST, "/v1/session")
            .json(&json!({"token": token}));
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        if let Some(set) = answer.headers().get(SET_COOKIE) {
            let set = set.to_str().expect("text").to_owned();
            assert!(set.contains("; HttpOnly; SameSite=Strict"), "{set}");
            assert!(!set.contains(token), "{set}");
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        (status, answer.json().await.expect("a document"))
    }
}

async fn status(request: reqwest::RequestBuilder) -> StatusCode {
    request.send().await.expect("an answer").status()
}

#[tokio::test]
async fn a_browser_logs_in_at_any_member_and_its_token_goes_no_further() {
    let mut driver = Driver::started(3).await;
    let root = first_admin(&driver).await;
    let leader = (driver_leader(&driver, &root)).await;
    for i in [leader, (leader + 1) % 3] {
        let mut browser = Browser::at(&driver, i);
        let (refused, _) = browser.log_in("hf_made_up").await;
        assert_eq!((refused, &browser.cookie), (StatusCode::UNAUTHORIZED, &None));
        let (answer, who) = browser.log_in(&root).await;
        assert_eq!(answer, StatusCode::OK, "{who}");
        assert_eq!((&who["name"], &who["role"]), (&json!("root"), &json!("admin")));
        assert_eq!(
            who["may"],
            json!({"read": true, "write": true, "administer": true})
        );
        assert_eq!(
            status(browser.page(Method::GET, "/v1/cluster")).await,
            StatusCode::OK
        );
        let patch = browser.page(Method::PATCH, "/v1/config");
        let patch = patch.json(&json!({"max_operators": 7 + i}));
        assert_eq!(status(patch).await, StatusCode::OK, "also where it is handed on");
        // A session is its member's alone.
        let mut other = Browser::at(&driver, (i + 1) % 3);
        other.cookie = browser.cookie.clone();
        assert_eq!(
            status(other.page(Method::GET, "/v1/cluster")).await,
            StatusCode::UNAUTHORIZED
        );
    }
    for i in 0..3 {
        driver.stop(i).await;
    }
}

/// Who leads, of a cluster that asks for credentials.
async fn driver_leader(driver: &Driver, token: &str) -> usize {
    let (_, cluster) = ask(driver, 0, token, (Method::GET, "/v1/cluster"), Value::Null).await;
    let leads = |config: &Config| cluster["leader"] == config.name.as_str();
    driver.configs.iter().position(leads).expect("a leader")
}

#[tokio::test]
async fn a_cookie_changes_nothing_at_the_word_of_another_page() {
    let mut driver = Driver::started(1).await;
    let root = first_admin(&driver).await;
    let mut browser = Browser::at(&driver, 0);
    browser.log_in(&root).await;
    let body = json!({"max_operators": 9});
    let before = browser
        .page(Method::GET, "/v1/config")
        .send()
        .await
        .expect("an answer");
    let before: Value = before.json().await.expect("settings");

    // A form has no header of its own, wherever it stands.
    let form = browser
        .sends(Method::POST, "/v1/ranges/split")
        .json(&json!({"key": "m"}));
    assert_eq!(status(form).await, StatusCode::FORBIDDEN);
    let patch = |header: &'static str, value: &str| {
        let patch = browser.sends(Method::PATCH, "/v1/config").json(&body);
        patch.header(header, value)
    };
    for attempt in [
        patch("origin", &browser.base),
        patch("origin", "http://example.com").header(CONSOLE, "1"),
        patch("sec-fetch-site", "cross-site").header(CONSOLE, "1"),
    ] {
        assert_eq!(status(attempt).await, StatusCode::FORBIDDEN);
    }
    // Of a page on another port the cookie comes along, and does not count.
    let neighbour = patch("sec-fetch-site", "same-site").header(CONSOLE, "1");
    assert_eq!(status(neighbour).await, StatusCode::UNAUTHORIZED);
    let embedded = browser
        .sends(Method::GET, "/v1/ranges")
        .header("sec-fetch-site", "same-site");
    assert_eq!(status(embedded).await, StatusCode::UNAUTHORIZED);
    let login = browser
        .sends(Method::POST, "/v1/session")
        .json(&json!({"token": root}));
    assert_eq!(
        status(login).await,
        StatusCode::FORBIDDEN,
        "nobody is logged in unasked"
    );
    let logout = browser.sends(Method::DELETE, "/v1/session");
    assert_eq!(status(logout).await, StatusCode::FORBIDDEN, "or out");

    let after = browser
        .page(Method::GET, "/v1/config")
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        before,
        after.json::<Value>().await.expect("settings"),
        "nothing changed"
    );
    driver.stop(0).await;
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_by_logging_out() {
    let mut driver = Driver::started(1).await;
    let root = first_admin(&driver).await;
    let reader = create(&driver, 0, &root, "reader", "read-only").await;
    let (mut admin, mut browser) = (Browser::at(&driver, 0), Browser::at(&driver, 0));
    admin.log_in(&root).await;
    let (_, who) = browser.log_in(&reader).await;
    assert_eq!(
        who["may"],
        json!({"read": true, "write": false, "administer": false})
    );
    let split = browser
        .page(Method::POST, "/v1/ranges/split")
        .json(&json!({"key": "m"}));
    assert_eq!(status(split).await, StatusCode::FORBIDDEN);
    let follow = |browser: &Browser| browser.page(Method::GET, "/v1/live").send();
    let watched = follow(&browser).await.expect("a stream");
    assert_eq!(watched.status(), StatusCode::OK);

    let revoke = (Method::DELETE, "/v1/tokens/2");
    let (revoked, _) = ask(&driver, 0, &root, revoke, Value::Null).await;
    assert_eq!(revoked, StatusCode::NO_CONTENT);
    let cluster = browser.page(Method::GET, "/v1/cluster");
    assert_eq!(status(cluster).await, StatusCode::UNAUTHORIZED);
    ends(watched).await;

    let watched = follow(&admin).await.expect("a stream");
    let logout = status(admin.page(Method::DELETE, "/v1/session")).await;
    assert_eq!(logout, StatusCode::NO_CONTENT);
    ends(watched).await;
    let cluster = admin.page(Method::GET, "/v1/cluster");
    assert_eq!(status(cluster).await, StatusCode::UNAUTHORIZED);
    let who = admin
        .page(Method::GET, "/v1/session")
        .send()
        .await
        .expect("an answer");
    let who: Value = who.json().await.expect("a document");
    assert_eq!((&who["required"], &who["name"]), (&json!(true), &Value::Null));
    driver.stop(0).await;
}

/// Waits until a stream has ended.
async fn ends(stream: Response) {
    let mut stream = stream.bytes_stream();
    let rest = async { while let Some(Ok(_)) = stream.next().await {} };
    clock::timeout(PATIENCE, rest).await.expect("the stream ends");
}
