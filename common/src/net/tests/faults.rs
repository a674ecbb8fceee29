use super::*;

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let server = Running::start().await;
    let peer = client().peer(&server.addr, Lane::Fast);
    peer.call(ECHO, number(1), soon()).await.expect("an answer");
    let addr = server.stop().await;
    let error = peer
        .call(ECHO, number(2), soon())
        .await
        .expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.certainly_not_delivered());

    let server = Running::start_at(&addr, |_| {}).await;
    let answer = loop {
        match peer.call(ECHO, number(3), soon()).await {
            // Fails at once while the next attempt is not due.
            Err(Error::Unreachable { .. }) => clock::sleep(Duration::from_millis(5)).await,
            outcome => break outcome,
        }
    };
    assert_eq!(answer, Ok(number(3)));
    assert_eq!(server.calls(), [number(3)]);
}

#[tokio::test]
async fn calls_in_flight_are_lost_with_their_connection() {
    let (listener, addr) = raw_listener().await;
    let client = client();
    let call = client.call(&addr.to_string(), Lane::Fast, ECHO, number(1), soon());
    let mut server = welcome(&listener).await;
    server.receive().await.expect("the request");
    drop(server);
    let error = call.await.expect_err("no answer came");
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(!error.certainly_not_delivered());
}

#[tokio::test]
async fn a_peer_that_hangs_up_before_the_welcome_got_nothing() {
    let (listener, addr) = raw_listener().await;
    let client = client();
    let call = client.call(&addr.to_string(), Lane::Fast, ECHO, number(1), soon());
    drop(listener.accept().await.expect("a client"));
    let error = call.await.expect_err("no welcome");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.certainly_not_delivered());
}

#[tokio::test]
async fn another_cluster_is_refused_by_name_and_not_asked_again_at_once() {
    let server = Running::start().await;
    let client = client_of(OTHER_CLUSTER);
    for _ in 0..2 {
        let error = client
            .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), soon())
            .await
            .expect_err("refused");
        assert_eq!(
            error,
            Error::WrongCluster {
                ours: OTHER_CLUSTER,
                theirs: CLUSTER
            }
        );
        assert!(error.certainly_not_delivered());
    }
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn an_unknown_cluster_is_let_in_where_processes_join() {
    let strict = Running::start().await;
    let open = Running::start_with(|config| config.accept_unknown_cluster = true).await;
    let cluster = ClusterIdCell::default();
    let joining = Client::new(ClientConfig::default(), cluster.clone(), identity(Role::Store));
    let refused = joining
        .call(&strict.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await;
    assert!(matches!(
        refused,
        Err(Error::Refused {
            code: ErrorCode::UnknownCluster,
            ..
        })
    ));
    joining
        .call(&open.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await
        .expect("let in");
    cluster.set(CLUSTER).expect("not known yet");
    joining
        .call(&open.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await
        .expect("the same connection serves on");
}

#[tokio::test]
async fn every_request_is_checked_for_its_cluster() {
    let server = Running::start_with(|config| config.accept_unknown_cluster = true).await;
    let cluster = ClusterIdCell::default();
    let client = Client::new(ClientConfig::default(), cluster.clone(), identity(Role::Store));
    client
        .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await
        .expect("let in as unknown");
    cluster.set(OTHER_CLUSTER).expect("not known yet");
    let error = client
        .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await;
    assert_eq!(
        error,
        Err(Error::WrongCluster {
            ours: OTHER_CLUSTER,
            theirs: CLUSTER
        })
    );
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn garbage_closes_the_connection_and_harms_nobody() {
    let server = Running::start().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"[..],
        &[0; 100],
        &[1, 200, 0, 0],
        &[255; 3],
    ] {
        let mut raw = Raw::connect(&server.addr).await;
        raw.send_bytes(garbage).await;
        raw.socket.shutdown().await.expect("open until here");
        assert_eq!(raw.receive().await, None);
    }
    let mut raw = Raw::greet(&server.addr).await;
    raw.send_bytes(b"no frame").await;
    assert_eq!(raw.receive().await, None);
    client()
        .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await
        .expect("an answer");
}

#[tokio::test]
async fn a_first_frame_that_is_no_hello_is_refused() {
    let server = Running::start().await;
    let mut raw = Raw::connect(&server.addr).await;
    raw.send(FrameKind::Request, 1, ECHO, Bytes::new()).await;
    assert_eq!(raw.receive().await, None);
    let mut raw = Raw::connect(&server.addr).await;
    raw.send(FrameKind::Hello, 0, 0, Bytes::from_static(b"cut")).await;
    let answer = raw.receive().await.expect("the reason");
    assert_eq!(answer.header.kind, FrameKind::Error);
    assert_eq!(raw.receive().await, None);
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn an_oversized_frame_closes_the_connection() {
    let mut server = Running::start().await;
    let mut raw = Raw::greet(&server.addr).await;
    let mut bytes = BytesMut::new();
    FrameHeader::new(FrameKind::Request, 1, CLUSTER).encode_into(0, &mut bytes);
    bytes[4..8].copy_from_slice(&(MAX_BODY_BYTES as u32 + 1).to_be_bytes());
    raw.send_bytes(&bytes).await;
    assert_eq!(raw.receive().await, None);
    server.next_closed().await;
}

#[tokio::test]
async fn a_stranger_may_not_send_more_than_a_hello() {
    let server = Running::start().await;
    let mut raw = Raw::connect(&server.addr).await;
    let mut bytes = BytesMut::new();
    FrameHeader::new(FrameKind::Hello, 0, CLUSTER).encode_into(2_000, &mut bytes);
    raw.send_bytes(&bytes).await;
    assert_eq!(raw.receive().await, None);
}

#[tokio::test]
async fn a_server_that_sends_garbage_loses_its_client() {
    let (listener, addr) = raw_listener().await;
    let client = client();
    let call = client.call(&addr.to_string(), Lane::Fast, ECHO, Bytes::new(), soon());
    let mut server = welcome(&listener).await;
    server.receive().await.expect("the request");
    server.send_bytes(b"garbage").await;
    let error = call.await.expect_err("no answer");
    assert!(
        matches!(
            error,
            Error::Lost {
                reason: CloseReason::Frame(_),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_disconnected() {
    let bound = 4 << 20;
    let mut server = Running::start_with(|config| config.outbound_bound = bound).await;
    let mut raw = Raw::greet(&server.addr).await;
    // It asks for far more than sockets buffer, and reads nothing.
    let mut request = BytesMut::new();
    let header = FrameHeader {
        method: ECHO,
        ..FrameHeader::new(FrameKind::Request, 1, CLUSTER)
    };
    Frame {
        header,
        body: Bytes::from(vec![0; 1 << 20]),
    }
    .encode_into(&mut request);
    for _ in 0..200 {
        if raw.socket.write_all(&request).await.is_err() {
            break;
        }
    }
    server.next_closed().await;
    assert!(server.calls().len() < 200, "disconnected on the way");
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let (listener, addr) = raw_listener().await;
    let keep_alive = KeepAlive {
        interval: Duration::from_millis(20),
        misses: 2,
    };
    let config = ClientConfig {
        keep_alive,
        ..ClientConfig::default()
    };
    let client = Client::new(config, ClusterIdCell::known(CLUSTER), identity(Role::Router));
    let call = client.call(&addr.to_string(), Lane::Fast, ECHO, Bytes::new(), soon());
    let _silent = welcome(&listener).await;
    let error = call.await.expect_err("the peer is silent");
    assert!(
        matches!(
            error,
            Error::Lost {
                reason: CloseReason::Silent,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_idle_peer_that_answers_pings_is_kept() {
    let keep_alive = KeepAlive {
        interval: Duration::from_millis(10),
        misses: 50,
    };
    let mut server = Running::start_with(|config| config.keep_alive = keep_alive).await;
    let config = ClientConfig {
        keep_alive,
        ..ClientConfig::default()
    };
    let client = Client::new(config, ClusterIdCell::known(CLUSTER), identity(Role::Router));
    let call = client.call(&server.addr, Lane::Fast, KEEP, Bytes::new(), soon());
    let reply = server.next_kept().await;
    // Twice the time after which a silent peer would have been given up.
    clock::sleep(Duration::from_secs(1)).await;
    reply.send(number(1));
    assert_eq!(call.await, Ok(number(1)));
}

#[tokio::test]
async fn pings_are_answered() {
    let server = Running::start().await;
    let mut raw = Raw::greet(&server.addr).await;
    raw.send(FrameKind::Ping, 0, 0, Bytes::new()).await;
    assert_eq!(
        raw.receive().await.expect("an answer").header.kind,
        FrameKind::Pong
    );
}

#[tokio::test]
async fn a_hello_that_does_not_come_is_not_waited_for() {
    let server = Running::start_with(|config| config.hello_timeout = Duration::from_millis(20)).await;
    let mut raw = Raw::connect(&server.addr).await;
    assert_eq!(raw.receive().await, None);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed() {
    let mut server = Running::start_with(|config| config.max_connections = 1).await;
    let first = Raw::greet(&server.addr).await;
    assert_eq!(Raw::connect(&server.addr).await.receive().await, None);
    drop(first);
    server.next_closed().await;
}
