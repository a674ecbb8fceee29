//! Stores, ranges and operators through the whole driver.

use std::collections::BTreeMap;

use futures::StreamExt;
use holdfast_common::ids::RangeId;

use super::fake_store::{FakeStore, Floor};
use super::*;

/// A driver of `members` members and stores 1 to `stores`, once the first range has all the replicas that it can have.
async fn cluster(members: usize, stores: u64) -> (Driver, Floor, Vec<FakeStore>) {
    let driver = Driver::started(members).await;
    let (floor, mut running) = (Floor::default(), Vec::new());
    for number in 1..=stores {
        running.push(FakeStore::start(&driver, &floor, number).await);
    }
    let voters = stores.min(3);
    until("the first range to be replicated", async || {
        voters_of(&driver, 1).await.len() as u64 == voters
    })
    .await;
    until("nothing to be under way", async || {
        driver.get(0, "/v1/cluster").await["counts"]["operators"] == 0
    })
    .await;
    (driver, floor, running)
}

async fn voters_of(driver: &Driver, range: u64) -> Vec<u64> {
    let range = driver.get(0, &format!("/v1/ranges/{range}")).await;
    let replicas = range["replicas"].as_array().cloned().unwrap_or_default();
    let voters = replicas.iter().filter(|replica| replica["role"] == "voter");
    let mut stores: Vec<u64> = voters
        .filter_map(|replica| replica["store_id"].as_u64())
        .collect();
    stores.sort_unstable();
    stores
}

/// The store that leads a range, once it is known: the range may have been heard of from a follower first.
async fn leader_of(driver: &Driver, range: u64) -> u64 {
    let mut leader = None;
    super::until("a leader", async || {
        let range = driver.get(0, &format!("/v1/ranges/{range}")).await;
        leader = range["leader_store"].as_u64();
        leader.is_some()
    })
    .await;
    leader.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_range_is_created_and_replicated_as_stores_come() {
    let (driver, _floor, stores) = cluster(1, 3).await;
    assert_eq!(
        stores.iter().map(|store| store.id.0).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let cluster = driver.get(0, "/v1/cluster").await;
    assert_eq!(
        (&cluster["health"], &cluster["under_replicated_ranges"]),
        (&json!("ok"), &json!(0)),
        "{cluster}"
    );
    let range = driver.get(0, "/v1/ranges/1").await;
    assert_eq!(
        (&range["start"], &range["end"], &range["state"]),
        (&json!(""), &json!(""), &json!("ok"))
    );
    assert_eq!(range["leader_store"], 1);
    let store = driver.get(0, "/v1/stores/2").await;
    assert_eq!(
        (&store["name"], &store["state"], &store["ranges"]),
        (&json!("store-2"), &json!("up"), &json!(1))
    );
    let decisions = driver.get(0, "/v1/decisions").await;
    let taken = decisions["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|decision| decision["verdict"] == "taken")
        .count();
    assert_eq!(taken, 2, "{decisions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_split_move_and_change_leaders_when_asked() {
    let (driver, _floor, _stores) = cluster(1, 4).await;
    let (status, split) = driver
        .post(0, "/v1/ranges/split?wait=true", json!({"key_base64": "bf8="}))
        .await;
    assert_eq!(
        (status, &split["state"]),
        (StatusCode::OK, &json!("done")),
        "{split}"
    );
    let ranges = driver.get(0, "/v1/ranges?limit=1").await;
    assert_eq!(ranges["items"].as_array().unwrap().len(), 1);
    assert_eq!(ranges["items"][0]["end_base64"], "bf8=");
    let cursor = ranges["next_cursor"].as_str().unwrap();
    let rest = driver.get(0, &format!("/v1/ranges?cursor={cursor}")).await;
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["next_cursor"]),
        (1, &Value::Null)
    );
    let right = rest["items"][0]["id"].as_u64().unwrap();
    let held = driver.get(0, "/v1/ranges?key=m%FF").await;
    assert_eq!(
        (held["items"].as_array().unwrap().len(), &held["items"][0]["id"]),
        (1, &json!(right))
    );

    let free = (1..=4)
        .find(|store| !futures::executor::block_on(voters_of(&driver, right)).contains(store))
        .unwrap();
    let leader = leader_of(&driver, right).await;
    let path = format!("/v1/ranges/{right}/move?wait=true");
    let (status, moved) = driver
        .post(0, &path, json!({"from_store": leader, "to_store": free}))
        .await;
    assert_eq!(
        (status, &moved["state"]),
        (StatusCode::OK, &json!("done")),
        "{moved}"
    );
    let voters = voters_of(&driver, right).await;
    assert!(
        voters.contains(&free) && !voters.contains(&leader) && voters.len() == 3,
        "{voters:?}"
    );

    let (status, moved) = driver
        .post(
            0,
            &format!("/v1/ranges/{right}/transfer-leader?wait=true"),
            json!({"to_store": free}),
        )
        .await;
    assert_eq!(
        (status, &moved["state"]),
        (StatusCode::OK, &json!("done")),
        "{moved}"
    );
    assert_eq!(
        driver.get(0, &format!("/v1/ranges/{right}")).await["leader_store"],
        free
    );
    let operators = driver.get(0, "/v1/operators?limit=100").await;
    // The schedulers have operators of their own.
    let asked_for = operators["items"].as_array().unwrap().iter();
    let kinds: Vec<_> = asked_for
        .filter(|operator| operator["source"] == "admin")
        .map(|operator| operator["kind"].clone())
        .collect();
    assert_eq!(kinds[..2], ["transfer_leader", "move_replica"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_goes_on_under_a_new_leader_and_can_be_cancelled() {
    let (mut driver, floor, _stores) = cluster(3, 4).await;
    floor.lock().truth(RangeId(1)).lag = 1_000_000;
    let free = (1..=4)
        .find(|store| !futures::executor::block_on(voters_of(&driver, 1)).contains(store))
        .unwrap();
    let follower = voters_of(&driver, 1).await[1];
    let (status, operator) = driver
        .post(
            0,
            "/v1/ranges/1/move",
            json!({"from_store": follower, "to_store": free}),
        )
        .await;
    assert_eq!(
        (status, &operator["state"]),
        (StatusCode::ACCEPTED, &json!("running")),
        "{operator}"
    );
    let path = format!("/v1/operators/{}", operator["id"]);
    until("the learner to be behind", async || {
        driver.get(0, &path).await["step"] == "catch_up"
    })
    .await;
    let leader = driver.leader().await;
    driver.kill(leader).await;
    let other = driver.leader().await;
    assert_eq!(driver.get(other, &path).await["step"], "catch_up");
    floor.lock().truth(RangeId(1)).lag = 0;
    until("the move to be done", async || {
        driver.get(other, &path).await["state"] == "done"
    })
    .await;

    floor.lock().truth(RangeId(1)).lag = 1_000_000;
    let (_, operator) = driver
        .post(
            other,
            "/v1/ranges/1/move",
            json!({"from_store": free, "to_store": follower}),
        )
        .await;
    let path = format!("/v1/operators/{}", operator["id"]);
    let (status, cancelled) = driver.request(other, Method::DELETE, &path, None).await.unwrap();
    assert_eq!(
        (status, &cancelled["state"]),
        (StatusCode::OK, &json!("cancelled")),
        "{cancelled}"
    );
    let (status, _) = driver.request(other, Method::DELETE, &path, None).await.unwrap();
    assert_eq!(status, StatusCode::CONFLICT);
    floor.lock().truth(RangeId(1)).lag = 0;
    until("what it left to be cleared away", async || {
        let floor = floor.lock();
        let voters = floor.ranges[&RangeId(1)].descriptor.replicas.clone();
        voters.len() == 3 && floor.holds.values().map(BTreeMap::len).sum::<usize>() == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_map_and_every_change_whoever_leads() {
    let (mut driver, _floor, _stores) = cluster(3, 3).await;
    let mut events = driver.client().watch_map();
    let mut map = BTreeMap::new();
    let mut follow =
        async |done: &dyn Fn(&BTreeMap<RangeId, holdfast_common::proto::placement::RangeRoute>) -> bool| {
            clock::timeout(PATIENCE, async {
                while !done(&map) {
                    let event = events.next().await.unwrap();
                    if event.full {
                        map.clear();
                    }
                    event.gone.iter().for_each(|id| drop(map.remove(id)));
                    map.extend(event.ranges.into_iter().map(|route| (route.descriptor.id, route)));
                }
            })
            .await
            .expect("the change is told");
        };
    follow(&|map| {
        map.values()
            .any(|route| route.leader.is_some() && route.descriptor.replicas.len() == 3)
    })
    .await;
    driver
        .post(0, "/v1/ranges/split?wait=true", json!({"key": "m"}))
        .await;
    follow(&|map| map.len() == 2 && map.values().all(|route| route.leader.is_some())).await;
    let leader = driver.leader().await;
    driver.kill(leader).await;
    let other = driver.leader().await;
    until("the split to be taken", async || {
        driver
            .post(other, "/v1/ranges/split?wait=true", json!({"key": "t"}))
            .await
            .0
            == StatusCode::OK
    })
    .await;
    follow(&|map| map.len() == 3 && map.values().all(|route| route.leader.is_some())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_apart() {
    let (driver, _floor, _stores) = cluster(1, 1).await;
    let table = [
        (Method::GET, "/v1/ranges?kye=a", None, 400, "invalid_argument"),
        (Method::GET, "/v1/ranges?limit=0", None, 400, "invalid_argument"),
        (Method::GET, "/v1/ranges?cursor=!", None, 400, "invalid_argument"),
        (Method::GET, "/v1/ranges/one", None, 400, "invalid_argument"),
        (Method::GET, "/v1/ranges/%FF", None, 400, "invalid_argument"),
        (Method::GET, "/v1/ranges/77", None, 404, "not_found"),
        (Method::GET, "/v1/stores/77", None, 404, "not_found"),
        (Method::GET, "/v1/operators/77", None, 404, "not_found"),
        (Method::GET, "/v2/ranges", None, 404, "not_found"),
        (Method::PUT, "/v1/ranges", None, 405, "method_not_allowed"),
        (
            Method::GET,
            "/v1/heatmap?metric=colour",
            None,
            400,
            "invalid_argument",
        ),
    ];
    let bodies = [
        ("/v1/ranges/split", json!({}), 400, "invalid_argument"),
        ("/v1/ranges/split", json!({"key": ""}), 400, "invalid_argument"),
        (
            "/v1/ranges/split",
            json!({"key": "m", "range_id": 1}),
            400,
            "invalid_argument",
        ),
        ("/v1/ranges/split", json!({"range_id": 77}), 404, "not_found"),
        (
            "/v1/ranges/split",
            json!({"key": "x".repeat(100_000)}),
            413,
            "too_large",
        ),
        (
            "/v1/ranges/1/move",
            json!({"from_store": 1, "to_store": 1}),
            409,
            "conflict",
        ),
        (
            "/v1/ranges/1/move",
            json!({"from_store": 1, "to_store": 9}),
            404,
            "not_found",
        ),
        (
            "/v1/ranges/1/transfer-leader",
            json!({"to": 1}),
            400,
            "invalid_argument",
        ),
        ("/v1/ranges/1/merge", json!({}), 409, "conflict"),
        ("/v1/ranges/77/merge", json!({}), 404, "not_found"),
        ("/v1/stores/9/drain", json!({}), 404, "not_found"),
        ("/v1/stores/1/drain", json!({}), 409, "conflict"),
        ("/v1/stores/1/decommission", json!({}), 409, "conflict"),
    ];
    let bodies = bodies.map(|(path, body, status, code)| (Method::POST, path, Some(body), status, code));
    let patches = [
        json!({"replication_factor": 9}),
        json!({"nonsense": 9}),
        json!([]),
    ];
    let patches = patches.map(|patch| (Method::PATCH, "/v1/config", Some(patch), 400, "invalid_argument"));
    let table = table.into_iter().chain(bodies).chain(patches);
    for (method, path, body, status, code) in table {
        let (answered, problem) = driver.request(0, method.clone(), path, body).await.unwrap();
        assert_eq!(
            (answered.as_u16(), &problem["code"]),
            (status, &json!(code)),
            "{method} {path}: {problem}"
        );
        assert!(
            problem["request_id"].as_str().is_some_and(|id| !id.is_empty()),
            "{problem}"
        );
    }
    driver
        .configure(json!({"split_bytes": 33_554_432, "schedulers": {"repair": false}}))
        .await;
    let settings = driver.get(0, "/v1/config").await;
    assert_eq!(
        (&settings["split_bytes"], &settings["schedulers"]["repair"]),
        (&json!(33_554_432), &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_grows_is_split() {
    let (driver, floor, _stores) = cluster(1, 3).await;
    floor.lock().truth(RangeId(1)).size_bytes = 200 << 20;
    until("a second range", async || {
        // The halves are as large as the whole was, in this world: enough is enough.
        if floor.lock().ranges.len() > 1 {
            floor
                .lock()
                .ranges
                .values_mut()
                .for_each(|range| range.size_bytes = 0);
        }
        driver.get(0, "/v1/cluster").await["counts"]["ranges"].as_u64() > Some(1)
    })
    .await;
}
