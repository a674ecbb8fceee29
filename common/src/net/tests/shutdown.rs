use futures::StreamExt;

use super::*;

#[tokio::test]
async fn requests_in_flight_finish_and_new_ones_are_turned_away() {
    let mut server = Running::start().await;
    let client = client();
    let peer = client.peer(&server.addr, Lane::Fast);
    let in_flight = peer.call(KEEP, number(1), soon());
    let reply = server.next_kept().await;
    server.shutdown.cancel();
    // Until the goodbye is in, requests are refused by the server, then by the listener that is gone.
    let refused = loop {
        match peer.call(ECHO, number(2), soon()).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(refused.certainly_not_delivered(), "{refused}");
    reply.send(number(3));
    assert_eq!(in_flight.await, Ok(number(3)));
    server.task.await.expect("the server ends in order");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_shutdown() {
    let server = Running::start_with(|config| config.grace = Duration::from_secs(3_600)).await;
    let client = client();
    client
        .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await
        .expect("an answer");
    server.stop().await;
}

#[tokio::test]
async fn the_grace_is_bounded() {
    let mut server = Running::start_with(|config| config.grace = Duration::from_millis(20)).await;
    let client = client();
    let in_flight = client.call(&server.addr, Lane::Fast, KEEP, Bytes::new(), soon());
    let _never_answered = server.next_kept().await;
    server.stop().await;
    assert!(matches!(in_flight.await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn streams_end_with_an_error_on_shutdown() {
    let mut server = Running::start().await;
    let client = client();
    let opening = client.stream(&server.addr, Lane::Fast, STREAM, Bytes::new(), soon());
    let (reader, writer) = tokio::join!(opening, server.next_stream());
    let mut reader = reader.expect("the stream opens");
    server.stop().await;
    writer.closed().await;
    let end = reader.next().await.expect("not a clean end");
    assert!(matches!(
        end,
        Err(Error::Remote {
            code: ErrorCode::Abandoned,
            ..
        })
    ));
}

#[tokio::test]
async fn a_closed_client_fails_what_is_in_flight_and_all_that_follows() {
    let mut server = Running::start().await;
    let client = client();
    let in_flight = client.call(&server.addr, Lane::Fast, KEEP, Bytes::new(), soon());
    let _kept = server.next_kept().await;
    client.close();
    assert!(matches!(
        in_flight.await,
        Err(Error::Lost {
            reason: CloseReason::Local,
            ..
        })
    ));
    let later = client
        .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await;
    assert_eq!(later, Err(Error::Closed));
}

#[tokio::test]
async fn connections_close_with_the_last_handle() {
    let mut server = Running::start().await;
    let client = client();
    let peer = client.peer(&server.addr, Lane::Fast);
    drop(client);
    peer.call(ECHO, Bytes::new(), soon())
        .await
        .expect("a peer keeps the client alive");
    drop(peer);
    server.next_closed().await;
}

#[tokio::test]
async fn a_forgotten_peer_is_dialed_anew() {
    let mut server = Running::start().await;
    let client = client();
    let peer = client.peer(&server.addr, Lane::Fast);
    peer.call(ECHO, Bytes::new(), soon()).await.expect("an answer");
    client.forget(&server.addr);
    server.next_closed().await;
    peer.call(ECHO, Bytes::new(), soon())
        .await
        .expect("an answer on a new connection");
}

#[test]
fn callers_in_another_runtime_learn_of_the_end_of_the_clients() {
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let (carrying, calling) = (build(), build());
    let (client, mut server) = carrying.block_on(async { (client(), Running::start().await) });
    let call = client.call(&server.addr, Lane::Fast, KEEP, Bytes::new(), soon());
    let _kept = carrying.block_on(server.next_kept());
    drop(carrying);
    assert!(matches!(calling.block_on(call), Err(Error::Lost { .. })));
}
