//! Stores that move, refuse, fall silent or die, and what a client notices of it: as little as can be, and never a lie.

use holdfast_common::ids::StoreId;
use holdfast_common::key::Span;
use holdfast_common::proto::kv;
use holdfast_common::proto::kv::WriteOutcome;

use super::cluster::{Fault, descriptor};
use super::*;

/// Gives stores little time, so that silence is noticed soon.
fn hurried() -> Limits {
    Limits {
        attempt_timeout_ms: 50,
        ..Limits::default()
    }
}

fn not_ready() -> Fault {
    Fault::Refuse(kv::Error::NotReady("as the test asked".to_owned()))
}

fn always(fault: Fault) -> impl Iterator<Item = Fault> {
    std::iter::repeat_n(fault, 1_000)
}

#[tokio::test]
async fn a_new_leader_is_found_by_the_hint_of_the_old() {
    let (cluster, _router, mut client) = start().await;
    cluster.lead(0, Some(3));
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    assert_eq!(
        cluster.state.lock().requests,
        2,
        "the old leader named the new one"
    );
    assert_eq!(client.get("/v1/kv/a").await.status, 200);
    assert_eq!(cluster.state.lock().requests, 3, "and that is remembered");
}

#[tokio::test]
async fn without_a_hint_the_other_replicas_are_asked() {
    let (cluster, _router, mut client) = start().await;
    cluster.lead(0, Some(3));
    let replica = descriptor(1, Span::everything(), 1);
    let clueless = kv::Error::NotLeader {
        leader: None,
        descriptor: Box::new(replica),
    };
    cluster.fail_next([Fault::Refuse(clueless.clone()), Fault::Refuse(clueless)]);
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    assert_eq!(cluster.state.lock().requests, 3);
}

#[tokio::test]
async fn an_election_is_waited_for() {
    let (cluster, _router, mut client) = start().await;
    cluster.lead(0, None);
    let state = cluster.state.clone();
    let put = client.put("/v1/kv/a", b"v");
    let elect = async {
        // A round of refusals shows that nobody leads.
        while state.lock().requests < 4 {
            tokio::task::yield_now().await;
        }
        state.lock().ranges[0].leader = Some(StoreId(2));
    };
    let (answer, ()) = tokio::join!(put, elect);
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn a_range_without_leader_is_unavailable_not_unknown() {
    let (cluster, _router, mut client) = start().await;
    cluster.lead(0, None);
    for method in ["PUT", "GET", "DELETE"] {
        let answer = client.send(method, "/v1/kv/a?timeout_ms=50", &[], b"").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, "unavailable"),
            "{method}"
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[tokio::test]
async fn a_split_is_learned_from_the_range_itself() {
    let (cluster, _router, mut client) = start().await;
    cluster.split("m", 2);
    assert_eq!(client.put("/v1/kv/z", b"v").await.status, 201);
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    let before = cluster.state.lock().requests;
    client.get("/v1/kv/z").await;
    client.get("/v1/kv/a").await;
    assert_eq!(
        cluster.state.lock().requests,
        before + 2,
        "both halves are known now"
    );

    cluster.merge_all(3);
    assert_eq!(client.get("/v1/kv/z").await.status, 200);
    assert_eq!(client.get("/v1/kv/a").await.status, 200);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_number() {
    let (cluster, _router, mut client) = start().await;
    cluster.fail_next([Fault::LoseAnswer]);
    let answer = client.send("PUT", "/v1/kv/a", &["if-none-match: *"], b"v").await;
    assert_eq!(
        (answer.status, answer.header("etag")),
        (201, Some("\"1\"")),
        "the outcome of the first attempt"
    );
    let state = cluster.state.lock();
    let names: Vec<_> = state
        .writes
        .iter()
        .map(|write| (write.session, write.sequence))
        .collect();
    assert!(
        names.len() >= 2 && names.iter().all(|name| *name == names[0]),
        "{names:?}"
    );
    assert_eq!(state.applied, 1);
}

#[tokio::test]
async fn a_lost_request_is_sent_again() {
    let (cluster, _router, mut client) = start().await;
    cluster.fail_next([Fault::LoseRequest, Fault::LoseRequest]);
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    assert_eq!(cluster.state.lock().applied, 1);
}

#[tokio::test]
async fn many_lost_answers_are_one_application_each() {
    let (cluster, _router, mut client) = start().await;
    for number in 0..50 {
        let fault = [
            Fault::LoseAnswer,
            Fault::LoseRequest,
            Fault::Refuse(kv::Error::OutcomeUnknown),
        ];
        cluster.fail_next([fault[number % 3].clone()]);
        let revision = client.put("/v1/kv/counter", number.to_string().as_bytes()).await;
        assert_eq!(
            revision.header("etag"),
            Some(format!("\"{}\"", number + 1).as_str())
        );
    }
    let state = cluster.state.lock();
    assert_eq!(state.applied, 50);
    let last = state.writes.last().expect("writes");
    assert_eq!(
        last.finished_below, last.sequence,
        "every earlier write is finished"
    );
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_not_waited_for_until_the_deadline() {
    let (cluster, _router, mut client) = start_with(hurried()).await;
    cluster.fail_next([Fault::Hang]);
    let answer = client.put("/v1/kv/a", b"v").await;
    assert_eq!((answer.status, answer.header("etag")), (201, Some("\"1\"")));
    assert_eq!(cluster.state.lock().applied, 1);
}

#[tokio::test]
async fn a_write_that_nobody_answers_for_is_unknown() {
    let (cluster, _router, mut client) = start_with(hurried()).await;
    for fault in [
        Fault::Hang,
        Fault::Ignore,
        Fault::LoseAnswer,
        Fault::Refuse(kv::Error::OutcomeUnknown),
    ] {
        cluster.state.lock().faults.clear();
        cluster.fail_next(always(fault.clone()));
        for method in ["PUT", "DELETE"] {
            let answer = client.send(method, "/v1/kv/a?timeout_ms=100", &[], b"").await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (504, "outcome_unknown"),
                "{method} {fault:?}"
            );
            assert_eq!(answer.header("retry-after"), None, "a retry might apply it twice");
        }
    }
    let state = cluster.state.lock();
    let mut names: Vec<_> = state
        .writes
        .iter()
        .map(|write| (write.session, write.sequence))
        .collect();
    names.dedup();
    assert_eq!(names.len(), 8, "one number a write, however often it was sent");
}

#[tokio::test]
async fn doubt_outlives_later_refusals() {
    let (cluster, _router, mut client) = start().await;
    let refusals = [
        not_ready(),
        Fault::Refuse(kv::Error::DiskFull),
        Fault::Refuse(kv::Error::Busy { retry_after_ms: 1 }),
    ];
    for refusal in refusals {
        cluster.state.lock().faults.clear();
        cluster.fail_next([Fault::LoseAnswer]);
        cluster.fail_next(always(refusal));
        let answer = client.put("/v1/kv/a?timeout_ms=100", b"v").await;
        assert_eq!(answer.problem(), "outcome_unknown");
    }
    // And it is resolved as soon as the range answers again.
    cluster.state.lock().faults.clear();
    cluster.fail_next([Fault::LoseAnswer, Fault::Refuse(kv::Error::DiskFull), not_ready()]);
    assert_eq!(client.put("/v1/kv/b", b"v").await.status, 201);
}

#[tokio::test]
async fn a_read_that_nobody_answers_is_unavailable() {
    let (cluster, _router, mut client) = start_with(hurried()).await;
    for fault in [Fault::Hang, Fault::LoseAnswer] {
        cluster.state.lock().faults.clear();
        cluster.fail_next(always(fault));
        assert_eq!(
            client.get("/v1/kv/a?timeout_ms=100").await.problem(),
            "unavailable"
        );
        assert_eq!(client.get("/v1/kv?timeout_ms=100").await.problem(), "unavailable");
    }
}

#[tokio::test]
async fn a_killed_leader_is_replaced() {
    let (mut cluster, _router, mut client) = start().await;
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    cluster.kill(1).await;
    cluster.lead(0, Some(2));
    assert_eq!(client.put("/v1/kv/a", b"w").await.status, 204);
    assert_eq!(client.get("/v1/kv/a").await.text(), "w");
}

#[tokio::test]
async fn what_could_not_be_sent_was_not_applied() {
    let (mut cluster, _router, mut client) = start().await;
    for store in 1..=3 {
        cluster.kill(store).await;
    }
    let answer = client.put("/v1/kv/a?timeout_ms=100", b"v").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"));
}

#[tokio::test]
async fn overload_is_passed_on_after_a_few_tries() {
    let (cluster, _router, mut client) = start().await;
    cluster.fail_next([Fault::Refuse(kv::Error::Busy { retry_after_ms: 1 })]);
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    cluster.fail_next(always(Fault::Refuse(kv::Error::Busy { retry_after_ms: 1 })));
    for method in ["PUT", "GET"] {
        let answer = client.send(method, "/v1/kv/a", &[], b"").await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (429, "overloaded"),
            "{method}"
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[tokio::test]
async fn a_full_disk_is_told_at_once() {
    let (cluster, _router, mut client) = start().await;
    cluster.fail_next([Fault::Refuse(kv::Error::DiskFull)]);
    let answer = client.put("/v1/kv/a", b"v").await;
    assert_eq!((answer.status, answer.problem().as_str()), (507, "disk_full"));
    assert_eq!(cluster.state.lock().requests, 1);
}

#[tokio::test]
async fn a_range_that_is_not_ready_is_waited_for() {
    let (cluster, _router, mut client) = start().await;
    cluster.fail_next([not_ready(), not_ready(), Fault::Refuse(kv::Error::NoSuchRange)]);
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    cluster.fail_next(always(not_ready()));
    assert_eq!(
        client.put("/v1/kv/a?timeout_ms=50", b"v").await.problem(),
        "unavailable"
    );
}

#[tokio::test]
async fn a_retired_number_is_replaced_only_without_doubt() {
    let (cluster, _router, mut client) = start().await;
    cluster.fail_next([Fault::Refuse(kv::Error::Retired)]);
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    {
        let state = cluster.state.lock();
        let numbers: Vec<_> = state.writes.iter().map(|write| write.sequence).collect();
        assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{numbers:?}");
    }
    cluster.fail_next([Fault::LoseAnswer, Fault::Refuse(kv::Error::Retired)]);
    let answer = client.put("/v1/kv/b", b"v").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (504, "outcome_unknown")
    );
    assert_eq!(
        cluster.state.lock().applied,
        2,
        "it was not sent under a new number"
    );
}

#[tokio::test]
async fn answers_that_make_no_sense_are_no_answers() {
    let (cluster, _router, mut client) = start().await;
    cluster.fail_next([Fault::Garble]);
    assert_eq!(
        client.put("/v1/kv/a", b"v").await.status,
        201,
        "another store is asked"
    );
    cluster.fail_next(always(Fault::Garble));
    assert_eq!(client.put("/v1/kv/a", b"v").await.problem(), "outcome_unknown");
    assert_eq!(client.get("/v1/kv/a").await.problem(), "internal");
    let state = &cluster.state;
    state.lock().faults.clear();
    cluster.fail_next(always(Fault::Refuse(kv::Error::Invalid(
        "as the test asked".to_owned(),
    ))));
    assert_eq!(client.put("/v1/kv/a", b"v").await.problem(), "internal");
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_believed() {
    // The fake range remembers outcomes by number; a removal remembered for a put contradicts the request.
    let (cluster, _router, mut client) = start().await;
    cluster.state.lock().answer_writes_with = Some(WriteOutcome::WasAbsent);
    assert_eq!(client.put("/v1/kv/a", b"v").await.problem(), "outcome_unknown");
}

#[tokio::test]
async fn a_cold_router_waits_for_the_map() {
    let cluster = Cluster::start().await;
    let router = Running::cold(Limits::default()).await;
    let mut client = router.client().await;
    let early = client.put("/v1/kv/a?timeout_ms=30", b"v").await;
    assert_eq!((early.status, early.problem().as_str()), (503, "unavailable"));

    let put = client.put("/v1/kv/a", b"v");
    let tell = async {
        tokio::task::yield_now().await;
        router.tell(cluster.map());
    };
    let (answer, ()) = tokio::join!(put, tell);
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn everything_goes_on_without_the_placement_driver() {
    let (cluster, mut router, mut client) = start().await;
    assert_eq!(client.put("/v1/kv/z", b"v").await.status, 201);
    // The stream ends: there is no driver to tell anything.
    router.driver = mpsc::unbounded_channel().0;
    cluster.split("m", 3);
    cluster.split("x", 2);
    cluster.lead(0, Some(2));
    for key in ["a", "n", "z"] {
        assert!(
            client.put(&format!("/v1/kv/{key}"), b"w").await.status < 300,
            "{key}"
        );
    }
    let mut late = router.client().await;
    assert_eq!(
        late.get("/v1/kv?keys_only=true").await.json()["items"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
}
