//! Clients that are too many, too slow or too loud; and shutdown.

use super::*;

#[tokio::test]
async fn clients_beyond_the_bound_are_told_to_come_back() {
    let limits = Limits {
        max_connections: 2,
        ..Limits::default()
    };
    let (_cluster, router, mut first) = start_with(limits).await;
    let mut second = router.client().await;
    assert_eq!(
        (
            first.get("/health").await.status,
            second.get("/health").await.status
        ),
        (200, 200)
    );
    let mut third = router.client().await;
    let answer = third.answer(false).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(third.is_closed().await);
    assert_eq!(
        first.get("/health").await.status,
        200,
        "those who were there are still served"
    );
}

#[tokio::test]
async fn headers_that_do_not_come_are_not_waited_for() {
    let limits = Limits {
        header_timeout_ms: 30,
        ..Limits::default()
    };
    let (_cluster, router, mut idle) = start_with(limits).await;
    assert_eq!(idle.get("/health").await.status, 200);
    let mut slow = router.client().await;
    slow.write(b"GET /health HTTP/1.1\r\nhost: r\r\n").await;
    assert!(slow.is_closed().await);
    let mut silent = router.client().await;
    assert!(silent.is_closed().await, "a connection is made to be used");
    assert_eq!(
        idle.get("/health").await.status,
        200,
        "between requests there is more time"
    );
    idle.write(b"GET /hea").await;
    assert!(idle.is_closed().await, "but not within one");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits {
        body_idle_timeout_ms: 30,
        ..Limits::default()
    };
    let (cluster, _router, mut client) = start_with(limits).await;
    client
        .write(b"PUT /v1/kv/a HTTP/1.1\r\nhost: r\r\ncontent-length: 10\r\n\r\nhalf")
        .await;
    let answer = client.answer(false).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (408, "request_timeout")
    );
    assert_eq!(cluster.state.lock().requests, 0);
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off() {
    let limits = Limits {
        body_timeout_ms: 50,
        ..Limits::default()
    };
    let (_cluster, _router, mut client) = start_with(limits).await;
    client
        .write(b"PUT /v1/kv/a HTTP/1.1\r\nhost: r\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    let answer = loop {
        client.write(b"drip").await;
        tokio::select! {
            biased;
            answer = client.answer(false) => break answer,
            () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
        }
    };
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn headers_beyond_the_bound_are_refused() {
    let (_cluster, router, mut client) = start().await;
    let large = format!("x-large: {}", "a".repeat(70_000));
    assert_eq!(client.send("GET", "/health", &[&large], b"").await.status, 431);
    let mut client = router.client().await;
    let many: Vec<String> = (0..200).map(|number| format!("x-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(client.send("GET", "/health", &many, b"").await.status, 431);
    let mut client = router.client().await;
    let path = format!("/v1/kv/{}", "a".repeat(65_600));
    assert!(matches!(client.get(&path).await.status, 414 | 431));
    let mut client = router.client().await;
    client.write(b"not http at all\r\n\r\n").await;
    assert_eq!(client.answer(false).await.status, 400);
}

#[tokio::test]
async fn bodies_take_no_more_memory_than_allowed() {
    let limits = Limits {
        max_value_bytes: 100_000,
        max_body_bytes_in_flight: 150_000,
        ..Limits::default()
    };
    let (cluster, router, mut first) = start_with(limits).await;
    // Half of a body holds room for all of it.
    first
        .write(b"PUT /v1/kv/a HTTP/1.1\r\nhost: r\r\ncontent-length: 100000\r\n\r\n")
        .await;
    first.write(&[b'x'; 50_000]).await;
    let mut second = router.client().await;
    let refused = loop {
        // Until the router has seen the first request, there is room.
        let answer = second.put("/v1/kv/b", &[b'x'; 60_000]).await;
        if answer.status == 429 {
            break answer;
        }
    };
    assert_eq!(
        (refused.problem().as_str(), refused.header("retry-after")),
        ("overloaded", Some("1"))
    );
    let mut third = router.client().await;
    assert_eq!(
        third.put("/v1/kv/c", b"small").await.status,
        201,
        "small ones always pass"
    );
    first.write(&[b'x'; 50_000]).await;
    assert_eq!(first.answer(false).await.status, 201);
    assert_eq!(
        third.put("/v1/kv/d", &[b'x'; 100_000]).await.status,
        201,
        "the room was given back"
    );
    cluster.put(b"large", &[b'x'; 200_000]);
    assert_eq!(
        third.get("/v1/kv/large").await.problem(),
        "overloaded",
        "answers take room as well"
    );
}

#[tokio::test]
async fn scans_beyond_the_bound_are_turned_away() {
    let limits = Limits {
        max_scans: 1,
        ..Limits::default()
    };
    let (cluster, router, mut first) = start_with(limits).await;
    let gate = CancellationToken::new();
    cluster.state.lock().gate = Some(gate.clone());
    let mut second = router.client().await;
    let running = first.get("/v1/kv");
    let turned_away = async {
        while cluster.state.lock().requests == 0 {
            tokio::task::yield_now().await;
        }
        let answer = second.get("/v1/kv").await;
        gate.cancel();
        answer
    };
    let (running, turned_away) = tokio::join!(running, turned_away);
    assert_eq!(
        (running.status, turned_away.problem().as_str()),
        (200, "overloaded")
    );
    assert_eq!(second.get("/v1/kv").await.status, 200);
}

#[tokio::test]
async fn shutdown_finishes_what_was_begun() {
    let (cluster, router, mut busy) = start().await;
    let mut idle = router.client().await;
    assert_eq!(idle.get("/health").await.status, 200);
    let gate = CancellationToken::new();
    cluster.state.lock().gate = Some(gate.clone());
    let request = busy.put("/v1/kv/a", b"v");
    let stop = async {
        while cluster.state.lock().requests == 0 {
            tokio::task::yield_now().await;
        }
        router.shutdown.cancel();
        assert!(idle.is_closed().await, "idle connections are closed");
        gate.cancel();
    };
    let (answer, ()) = tokio::join!(request, stop);
    assert_eq!((answer.status, answer.header("connection")), (201, Some("close")));
    let address = router.address;
    router.stop().await;
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let limits = Limits {
        shutdown_grace_ms: 30,
        ..Limits::default()
    };
    let (cluster, router, mut stuck) = start_with(limits).await;
    cluster.state.lock().gate = Some(CancellationToken::new());
    stuck.write(b"GET /v1/kv/a HTTP/1.1\r\nhost: r\r\n\r\n").await;
    while cluster.state.lock().requests == 0 {
        tokio::task::yield_now().await;
    }
    router.stop().await;
    assert!(stuck.is_closed().await);
}
