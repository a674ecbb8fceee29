//! Founding, joining, losing and replacing members.

use holdfast_common::proto::method;
use holdfast_common::proto::placement::{AllocateIds, Error as Refusal, IdBlock};

use super::fake_store::register;
use super::*;
use crate::admission;
use crate::identity as directory;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_bootstrapped_once_and_stays_the_same() {
    let mut driver = Driver::new(1);
    driver.start(0);
    driver.settled().await;
    let id = driver.get(0, "/v1/cluster").await["id"].clone();
    assert!(id.as_str().is_some_and(|id| id.parse::<u64>().is_ok()), "{id}");
    driver.stop(0).await;

    driver.start(0);
    let refused = driver.outcome(0).await.unwrap_err();
    assert!(
        matches!(refused, Error::Admission(admission::Error::Bootstrapped { .. })),
        "{refused}"
    );
    assert!(refused.to_string().contains("start it without --bootstrap"));

    driver.configs[0].bootstrap = false;
    driver.start(0);
    driver.settled().await;
    assert_eq!(driver.get(0, "/v1/cluster").await["id"], id);
    driver.kill(0).await;
    driver.start(0);
    driver.settled().await;
    assert_eq!(driver.get(0, "/v1/cluster").await["id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_founder_a_member_waits() {
    let mut driver = Driver::new(1);
    driver.configs[0].bootstrap = false;
    driver.start(0);
    until("the API to answer", async || {
        driver.get(0, "/health").await["status"] == "ok"
    })
    .await;
    let (status, problem) = driver.request(0, Method::GET, "/v1/stores", None).await.unwrap();
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("not_bootstrapped"))
    );
    assert_eq!(
        driver.request(0, Method::GET, "/ready", None).await.unwrap().0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    driver.stop(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_come_together_and_any_of_them_answers() {
    let driver = Driver::started(3).await;
    let leader = driver.leader().await;
    assert_eq!(leader, 0, "the founder leads until there is a reason");
    for i in 0..3 {
        let cluster = driver.get(i, "/v1/cluster").await;
        assert_eq!(cluster["leader"], "p1");
        assert_eq!(
            names_and_roles(&cluster),
            json!([[1, "p1", "leader"], [2, "p2", "follower"], [3, "p3", "follower"]])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_wiped_can_not_found_a_second_cluster() {
    let mut driver = Driver::started(3).await;
    driver.kill(0).await;
    driver.wipe(0);
    driver.configs[0].bootstrap = true;
    driver.start(0);
    let refused = driver.outcome(0).await.unwrap_err();
    assert!(
        matches!(refused, Error::Admission(admission::Error::ClusterExists { .. })),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_founders_are_refused() {
    let mut driver = Driver::new(3);
    driver.configs[1].bootstrap = true;
    driver.start(0);
    driver.start(1);
    let mut refusals = Vec::new();
    until("one to be refused", async || {
        let ended = (0..2).find(|i| {
            driver.running[*i]
                .as_ref()
                .is_some_and(|running| running.ended.is_finished())
        });
        if let Some(i) = ended {
            refusals.push(driver.outcome(i).await.unwrap_err());
        }
        ended.is_some()
    })
    .await;
    let refused = refusals.remove(0);
    assert!(
        matches!(refused, Error::Admission(admission::Error::TwoFounders { .. })),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_waits_for_every_member_and_remembers_that_it_is_one() {
    let mut driver = Driver::new(3);
    driver.start(0);
    driver.start(1);
    until("the founder to note it", async || {
        driver.path(0).join("IDENTITY").exists() && identity(&driver.path(0))["phase"] == "bootstrapping"
    })
    .await;
    driver.kill(0).await;
    driver.configs[0].bootstrap = false;
    driver.start(0);
    driver.start(2);
    driver.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_is_refused_until_it_is_removed_and_then_votes_under_another_number() {
    let mut driver = Driver::started(3).await;
    driver.kill(1).await;
    driver.wipe(1);
    driver.start(1);
    let refused = driver.outcome(1).await.unwrap_err();
    let Error::Admission(admission::Error::Refused(refusal)) = &refused else {
        panic!("{refused}")
    };
    assert_eq!(refusal, &Refusal::MemberReplaced { name: "p2".into() });
    assert!(refused.to_string().contains("/v1/placement/remove"), "{refused}");
    assert_eq!(
        identity(&driver.path(1))["phase"],
        "new",
        "it has taken part in nothing"
    );
    assert!(!driver.path(1).join("raft").exists());

    let (status, body) = driver
        .post(0, "/v1/placement/remove", json!({"name": "p2"}))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    driver.start(1);
    driver.settled().await;
    until("two followers", async || {
        let cluster = driver.get(0, "/v1/cluster").await;
        names_and_roles(&cluster)
            == json!([
                [1, "p1", "leader"],
                [3, "p3", "follower"],
                [102, "p2", "follower"]
            ])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_ends_when_it_comes_back() {
    let mut driver = Driver::started(3).await;
    driver.stop(2).await;
    driver
        .post(0, "/v1/placement/remove", json!({"name": "p3"}))
        .await;
    driver.start(2);
    let refused = driver.outcome(2).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Admission(admission::Error::Refused(Refusal::MemberReplaced { .. }))
        ),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_member_or_cluster_is_refused() {
    let (mut ours, mut theirs) = (Driver::started(1).await, Driver::started(1).await);
    ours.stop(0).await;
    theirs.stop(0).await;
    let name = std::mem::replace(&mut ours.configs[0].name, "q".into());
    ours.configs[0].members = vec![format!("q={}", ours.configs[0].rpc)];
    ours.start(0);
    let refused = ours.outcome(0).await.unwrap_err();
    assert!(
        matches!(refused, Error::Identity(directory::Error::OtherName { .. })),
        "{refused}"
    );
    ours.configs[0].name = name;
    std::fs::remove_dir_all(ours.path(0).join("raft")).unwrap();
    ours.configs[0].members = vec![format!("p1={}", ours.configs[0].rpc)];
    ours.start(0);
    let refused = ours.outcome(0).await.unwrap_err();
    assert!(
        matches!(refused, Error::Identity(directory::Error::LostLog(_))),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_another_serves_and_no_id_is_given_twice() {
    let mut driver = Driver::started(3).await;
    let client = driver.client();
    let registered = register(&client, 1, "127.0.0.1:9", None).await.unwrap();
    let mut next = 0;
    for round in 0..3 {
        let block: IdBlock = client
            .call(
                method::PLACEMENT_ALLOCATE_IDS,
                &AllocateIds { count: 10 },
                clock::now() + PATIENCE,
            )
            .await
            .unwrap();
        assert!(block.first >= next, "round {round}: {block:?} after {next}");
        next = block.first + u64::from(block.count);
        let leader = driver.leader().await;
        driver.kill(leader).await;
        let other = driver.leader().await;
        assert_ne!(other, leader);
        let again = register(
            &client,
            1,
            "127.0.0.1:9",
            Some((registered.cluster, registered.store)),
        )
        .await
        .unwrap();
        assert_eq!(again, registered);
        driver.start(leader);
        driver.settled().await;
    }
    for i in 0..3 {
        driver.stop(i).await;
    }
    for i in 0..3 {
        driver.start(i);
    }
    let block: IdBlock = client
        .call(
            method::PLACEMENT_ALLOCATE_IDS,
            &AllocateIds { count: 1 },
            clock::now() + PATIENCE,
        )
        .await
        .unwrap();
    assert!(block.first >= next, "{block:?} after {next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_of_the_driver_is_handed_over() {
    let driver = Driver::started(3).await;
    let (status, body) = driver
        .post(1, "/v1/placement/transfer-leader", json!({"to": "p3"}))
        .await;
    assert_eq!(
        (status, &body["leader"]),
        (StatusCode::OK, &json!("p3")),
        "{body}"
    );
    until("p3 to lead", async || {
        driver.get(0, "/v1/cluster").await["leader"] == "p3"
    })
    .await;
    let (status, _) = driver
        .post(0, "/v1/placement/remove", json!({"name": "p3"}))
        .await;
    assert_eq!(status, StatusCode::CONFLICT, "it leads");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_learns_what_it_missed() {
    let mut driver = Driver::started(3).await;
    driver.kill(2).await;
    let client = driver.client();
    register(&client, 1, "127.0.0.1:9", None).await.unwrap();
    driver.stop(1).await;
    driver.start(1);
    driver.settled().await;
    driver.start(2);
    driver.settled().await;
    driver
        .post(0, "/v1/placement/transfer-leader", json!({"to": "p3"}))
        .await;
    until("p3 to know the store", async || {
        driver.get(2, "/v1/stores/1").await["name"] == "store-1"
    })
    .await;
}
