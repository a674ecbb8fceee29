//! What a console sees.

use futures::StreamExt;
use futures::stream::BoxStream;

use super::*;

/// A live stream, read event by event.
struct Live {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    read: String,
}

impl Live {
    async fn open(driver: &Driver, i: usize) -> Self {
        let url = format!("http://{}/v1/live", driver.configs[i].http);
        let answer = driver.http.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            bytes: answer.bytes_stream().boxed(),
            read: String::new(),
        }
    }

    /// The next `state` event; none at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.read.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read = rest;
                if let Some(data) = event.strip_prefix("event: state\ndata: ") {
                    return Some(serde_json::from_str(data).unwrap());
                }
            }
            let chunk = clock::timeout(PATIENCE, self.bytes.next()).await.expect("a word");
            self.read.push_str(str::from_utf8(&chunk?.ok()?).unwrap());
        }
    }

    /// Reads on until an event says what is waited for.
    async fn until(&mut self, what: &str, said: impl Fn(&Value) -> bool) {
        loop {
            let event = self.next().await;
            let event = event.unwrap_or_else(|| panic!("the stream ended before {what}"));
            if said(&event) {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_told_everything_then_what_changes_and_of_a_new_leader_from_the_start() {
    let mut driver = Driver::started(3).await;
    let leader = driver.leader().await;
    let follower = (leader + 1) % 3;
    let mut live = Live::open(&driver, follower).await;
    let first = live.next().await.unwrap();
    assert_eq!((&first["first"], &first["more"]), (&json!(true), &json!(false)));
    assert_eq!(
        first["cluster"]["leader"],
        driver.configs[leader].name.as_str(),
        "the follower hands the stream on"
    );
    assert_eq!(first["config"]["replication_factor"], 3);

    driver.configure(json!({"replication_factor": 5})).await;
    live.until("the setting", |event| {
        assert_eq!(event["first"], false);
        event["config"]["replication_factor"] == 5
    })
    .await;

    driver.stop(leader).await;
    while live.next().await.is_some() {}
    driver.leader().await;
    let mut live = Live::open(&driver, follower).await;
    let first = live.next().await.unwrap();
    assert_eq!(
        (&first["first"], &first["config"]["replication_factor"]),
        (&json!(true), &json!(5))
    );
    assert_ne!(first["cluster"]["leader"], driver.configs[leader].name.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_changes_nothing_and_may_be_told_so() {
    let driver = Driver::started(1).await;
    let url = format!("http://{}/v1/config", driver.configs[0].http);
    let patch = |origin: &str| {
        let patch = driver.http.patch(&url).header("origin", origin);
        patch.body(r#"{"replication_factor":5}"#).send()
    };
    let refused = patch("http://elsewhere.example").await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "forbidden");
    assert_eq!(driver.get(0, "/v1/config").await["replication_factor"], 3);
    let own = format!("http://{}", driver.configs[0].http);
    assert_eq!(patch(&own).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_router_or_a_launcher_their_paths_say_so() {
    let driver = Driver::started(1).await;
    for (path, said) in [
        ("/router/v1/kv/a", "--routers"),
        ("/api/control/nodes", "no launcher"),
    ] {
        let (status, problem) = driver.request(0, Method::GET, path, None).await.unwrap();
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::NOT_FOUND, &json!("not_found"))
        );
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
    }
}
