use futures::future::join_all;

use super::*;

async fn echo_from_many_callers() {
    let server = Running::start().await;
    let client = client();
    let callers = (0..64).map(|caller| {
        let peer = client.peer(&server.addr, Lane::Fast);
        tokio::spawn(async move {
            for n in 0..50 {
                let body = number(caller * 1_000 + n);
                assert_eq!(peer.call(ECHO, body.clone(), soon()).await, Ok(body));
            }
        })
    });
    for caller in join_all(callers).await {
        caller.expect("every answer is its caller's");
    }
    assert_eq!(server.calls().len(), 64 * 50);
    server.stop().await;
}

#[tokio::test]
async fn every_caller_gets_its_own_answer() {
    echo_from_many_callers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_its_own_answer_on_many_threads() {
    echo_from_many_callers().await;
}

#[tokio::test]
async fn calls_arrive_in_the_order_in_which_they_were_made() {
    let server = Running::start().await;
    let peer = client().peer(&server.addr, Lane::Fast);
    // The first ones before the connection stands, the others on it; none is polled before all are made.
    for round in 0..2 {
        let calls: Vec<_> = (0..500)
            .map(|n| peer.call(ECHO, number(round * 500 + n), soon()))
            .collect();
        for call in calls.into_iter().rev() {
            call.await.expect("an answer");
        }
    }
    assert_eq!(server.calls(), (0..1_000).map(number).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_arrives_together_is_flushed_together() {
    let server = Running::start().await;
    let peer = client().peer(&server.addr, Lane::Fast);
    let calls: Vec<_> = (0..100).map(|n| peer.call(ECHO, number(n), soon())).collect();
    join_all(calls).await;
    let seen = server.service.seen.lock().clone();
    let flushes = seen.iter().filter(|seen| matches!(seen, Seen::Flush(_))).count();
    assert!(matches!(seen.last(), Some(Seen::Flush(_))));
    assert!(
        (1..100).contains(&flushes),
        "{flushes} flushes for 100 calls made at once"
    );
}

#[tokio::test]
async fn bodies_of_every_size_come_back() {
    let server = Running::start().await;
    let client = client();
    for len in [0, 1, 16 * 1024 - 1, 16 * 1024, 100_000, 8 << 20, MAX_BODY_BYTES] {
        let body = Bytes::from((0..len).map(|n| n as u8).collect::<Vec<_>>());
        let answer = client
            .call(&server.addr, Lane::Bulk, ECHO, body.clone(), soon())
            .await;
        assert!(answer == Ok(body), "{len} bytes");
    }
}

#[tokio::test]
async fn a_body_too_large_is_not_sent() {
    let server = Running::start().await;
    let body = Bytes::from(vec![0; MAX_BODY_BYTES + 1]);
    let error = client()
        .call(&server.addr, Lane::Bulk, ECHO, body, soon())
        .await
        .expect_err("too large");
    assert_eq!(
        error,
        Error::TooLarge {
            len: MAX_BODY_BYTES + 1
        }
    );
    assert!(error.certainly_not_delivered());
}

#[tokio::test]
async fn an_answer_too_large_becomes_an_error() {
    let mut server = Running::start().await;
    let client = client();
    let call = client.call(&server.addr, Lane::Fast, KEEP, Bytes::new(), soon());
    server
        .next_kept()
        .await
        .send(Bytes::from(vec![0; MAX_BODY_BYTES + 1]));
    assert!(matches!(
        call.await,
        Err(Error::Remote {
            code: ErrorCode::Internal,
            ..
        })
    ));
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_its_late_answer_goes_nowhere() {
    let mut server = Running::start().await;
    let peer = client().peer(&server.addr, Lane::Fast);
    peer.call(ECHO, Bytes::new(), soon())
        .await
        .expect("the connection stands");
    let late = peer.call(KEEP, number(1), clock::now() + Duration::from_millis(30));
    let error = late.await.expect_err("no answer came");
    assert_eq!(error, Error::DeadlineExceeded { sent: true });
    assert!(!error.certainly_not_delivered());
    server.next_kept().await.send(number(1));
    assert_eq!(peer.call(ECHO, number(2), soon()).await, Ok(number(2)));
}

#[tokio::test]
async fn an_early_deadline_is_met_although_a_later_one_was_set_before() {
    let mut server = Running::start().await;
    let peer = client().peer(&server.addr, Lane::Fast);
    let long = peer.call(KEEP, number(1), soon());
    let reply = server.next_kept().await;
    let short = peer.call(KEEP, number(2), clock::now() + Duration::from_millis(10));
    assert_eq!(short.await, Err(Error::DeadlineExceeded { sent: true }));
    reply.send(number(3));
    assert_eq!(long.await, Ok(number(3)));
}

#[tokio::test]
async fn a_deadline_in_the_past_is_not_sent() {
    let server = Running::start().await;
    let client = client();
    let call = client.call(&server.addr, Lane::Fast, ECHO, Bytes::new(), clock::now());
    assert_eq!(call.await, Err(Error::DeadlineExceeded { sent: false }));
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn a_deadline_before_the_connection_stands_is_not_sent() {
    let (listener, addr) = raw_listener().await;
    let client = client();
    let call = client.call(
        &addr.to_string(),
        Lane::Fast,
        ECHO,
        number(1),
        clock::now() + Duration::from_millis(20),
    );
    let error = call.await.expect_err("nobody welcomed us");
    assert_eq!(error, Error::DeadlineExceeded { sent: false });
    let kept = client.call(&addr.to_string(), Lane::Fast, ECHO, number(2), soon());
    let mut server = welcome(&listener).await;
    assert_eq!(server.receive().await.expect("a request").body, number(2));
    drop(kept);
}

#[tokio::test]
async fn the_service_sees_the_deadline_the_method_and_the_peer() {
    let server = Running::start().await;
    let deadline = soon();
    client()
        .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), deadline)
        .await
        .expect("an answer");
    let request = server.service.requests.lock()[0].clone();
    assert_eq!(request.method, ECHO);
    assert_eq!(
        (request.peer.role, request.peer.name.as_str()),
        (Role::Router, "Router-1")
    );
    assert_eq!(request.peer.cluster_id, CLUSTER);
    let seen = request.deadline.expect("a deadline");
    assert!(seen <= deadline + Duration::from_secs(1) && seen > clock::now());
}

#[tokio::test]
async fn a_dropped_reply_answers() {
    let server = Running::start().await;
    let error = client()
        .call(&server.addr, Lane::Fast, DROP, Bytes::new(), soon())
        .await
        .expect_err("abandoned");
    assert!(matches!(
        error,
        Error::Remote {
            code: ErrorCode::Abandoned,
            ..
        }
    ));
    assert!(!error.certainly_not_delivered());
}

#[tokio::test]
async fn a_failure_carries_its_code_and_text() {
    let server = Running::start().await;
    let client = client();
    let failure = client
        .call(&server.addr, Lane::Fast, FAIL, Bytes::new(), soon())
        .await;
    assert_eq!(
        failure,
        Err(Error::Remote {
            code: ErrorCode::BadRequest,
            message: "as asked".into()
        })
    );
    let unknown = client
        .call(&server.addr, Lane::Fast, 999, Bytes::new(), soon())
        .await;
    assert!(matches!(
        unknown,
        Err(Error::Remote {
            code: ErrorCode::UnknownMethod,
            ..
        })
    ));
}

#[tokio::test]
async fn a_reply_can_be_sent_from_a_thread_without_a_runtime() {
    let mut server = Running::start().await;
    let client = client();
    let call = client.call(&server.addr, Lane::Fast, KEEP, Bytes::new(), soon());
    let reply = server.next_kept().await;
    std::thread::spawn(move || reply.send(number(5)));
    assert_eq!(call.await, Ok(number(5)));
}

#[tokio::test]
async fn callbacks_take_every_outcome_and_may_call_again() {
    let server = Running::start().await;
    let peer = client().peer(&server.addr, Lane::Fast);
    let (sender, mut outcomes) = mpsc::unbounded_channel();
    let again = peer.clone();
    peer.call_with(ECHO, number(1), soon(), move |outcome| {
        let body = outcome.expect("an answer");
        again.call_with(ECHO, body, soon(), move |outcome| drop(sender.send(outcome)));
    });
    assert_eq!(outcomes.recv().await, Some(Ok(number(1))));

    let (sender, mut outcomes) = mpsc::unbounded_channel();
    peer.call_with(ECHO, number(1), clock::now(), move |outcome| {
        drop(sender.send(outcome))
    });
    assert_eq!(
        outcomes.recv().await,
        Some(Err(Error::DeadlineExceeded { sent: false }))
    );
}

#[tokio::test]
async fn lanes_are_connections_of_their_own() {
    let server = Running::start().await;
    let client = client();
    for lane in [Lane::Fast, Lane::Bulk, Lane::Fast] {
        client
            .call(&server.addr, lane, ECHO, Bytes::new(), soon())
            .await
            .expect("an answer");
    }
    let conns: Vec<_> = server
        .service
        .requests
        .lock()
        .iter()
        .map(|request| request.conn)
        .collect();
    assert_ne!(conns[0], conns[1]);
    assert_eq!(conns[0], conns[2]);
    let peer = client.peer(&server.addr, Lane::Fast).info().expect("connected");
    assert_eq!((peer.role, peer.name.as_str()), (Role::Store, "Store-1"));
}

#[tokio::test]
async fn calls_beyond_the_bound_fail_at_once() {
    let mut server = Running::start().await;
    let config = ClientConfig {
        max_calls: 2,
        ..ClientConfig::default()
    };
    let client = Client::new(config, ClusterIdCell::known(CLUSTER), identity(Role::Router));
    let kept: Vec<_> = (0..2)
        .map(|n| client.call(&server.addr, Lane::Fast, KEEP, number(n), soon()))
        .collect();
    let error = client
        .call(&server.addr, Lane::Fast, ECHO, number(2), soon())
        .await
        .expect_err("one too many");
    assert_eq!(
        error,
        Error::QueueFull {
            addr: server.addr.as_str().into()
        }
    );
    for call in kept {
        server.next_kept().await.send(Bytes::new());
        call.await.expect("an answer");
    }
    client
        .call(&server.addr, Lane::Fast, ECHO, number(3), soon())
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn requests_beyond_the_servers_bounds_are_refused() {
    let mut server = Running::start_with(|config| {
        config.max_requests = 2;
        config.max_request_bytes = 1_000;
    })
    .await;
    let peer = client().peer(&server.addr, Lane::Fast);
    // One larger than the bound is taken when it is alone.
    let large = peer.call(KEEP, Bytes::from(vec![0; 2_000]), soon());
    let reply = server.next_kept().await;
    let refused = peer
        .call(ECHO, number(1), soon())
        .await
        .expect_err("too many bytes");
    assert!(matches!(
        refused,
        Error::Remote {
            code: ErrorCode::Overloaded,
            ..
        }
    ));
    assert!(refused.certainly_not_delivered());
    reply.send(Bytes::new());
    large.await.expect("an answer");

    let kept: Vec<_> = (0..2).map(|n| peer.call(KEEP, number(n), soon())).collect();
    let refused = peer
        .call(ECHO, number(1), soon())
        .await
        .expect_err("too many requests");
    assert!(matches!(
        refused,
        Error::Remote {
            code: ErrorCode::Overloaded,
            ..
        }
    ));
    for call in kept {
        server.next_kept().await.send(Bytes::new());
        call.await.expect("an answer");
    }
    peer.call(ECHO, number(1), soon())
        .await
        .expect("there is room again");
}
