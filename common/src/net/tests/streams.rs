use futures::StreamExt;

use super::*;

async fn open(server: &mut Running, client: &Client) -> (ResponseStream, StreamReply) {
    let opening = client.stream(&server.addr, Lane::Fast, STREAM, Bytes::new(), soon());
    let (reader, writer) = tokio::join!(opening, server.next_stream());
    (reader.expect("the stream opens"), writer)
}

#[tokio::test]
async fn items_arrive_in_order_and_then_the_end() {
    a_stream_of_several_windows().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_arrive_in_order_on_many_threads() {
    a_stream_of_several_windows().await;
}

async fn a_stream_of_several_windows() {
    let mut server = Running::start().await;
    let client = client();
    let (mut reader, mut writer) = open(&mut server, &client).await;
    let sending = tokio::spawn(async move {
        // Several windows' worth, so that credit has to come back.
        for n in 0..500u32 {
            let mut item = vec![0; 10_000];
            item[..4].copy_from_slice(&n.to_be_bytes());
            writer.send(item.into()).await.expect("there is a reader");
        }
        writer.finish();
    });
    for n in 0..500u32 {
        let item = reader.next().await.expect("not the end").expect("an item");
        assert_eq!(item[..4], n.to_be_bytes());
    }
    assert_eq!(reader.next().await, None);
    sending.await.expect("all was sent");
}

#[tokio::test]
async fn items_larger_than_the_window_pass() {
    let mut server = Running::start().await;
    let client = client();
    let (mut reader, mut writer) = open(&mut server, &client).await;
    let sending = tokio::spawn(async move {
        for _ in 0..3 {
            writer
                .send(vec![0; 3 * STREAM_WINDOW].into())
                .await
                .expect("there is a reader");
        }
        writer.finish();
    });
    for _ in 0..3 {
        assert_eq!(
            reader.next().await.expect("not the end").expect("an item").len(),
            3 * STREAM_WINDOW
        );
    }
    assert_eq!(reader.next().await, None);
    sending.await.expect("all was sent");
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_own_stream_and_no_other_traffic() {
    let mut server = Running::start().await;
    let client = client();
    let (mut reader, mut writer) = open(&mut server, &client).await;
    let item = Bytes::from(vec![0; 64 * 1024]);
    let mut sent = 0;
    // Whenever the socket has room, one more, until it is the reader that holds it up.
    while writer.try_send(item.clone()).is_ok() {
        sent += 1;
        client
            .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), soon())
            .await
            .expect("not held up");
    }
    assert!(
        sent * item.len() <= STREAM_WINDOW + item.len(),
        "{sent} items are on their way"
    );
    assert!(sent * item.len() >= STREAM_WINDOW / 2);
    assert_eq!(
        writer.try_send(item.clone()),
        Err(TrySendError::Full(item.clone()))
    );

    let waiting = tokio::spawn(async move {
        writer.send(item).await.expect("the reader goes on");
        writer.finish();
    });
    let mut received = 0;
    while let Some(item) = reader.next().await {
        item.expect("an item");
        received += 1;
    }
    assert_eq!(received, sent + 1);
    waiting.await.expect("the send went through");
}

#[tokio::test]
async fn dropping_the_reader_tells_the_writer() {
    let mut server = Running::start().await;
    let client = client();
    let (reader, mut writer) = open(&mut server, &client).await;
    drop(reader);
    writer.closed().await;
    assert!(writer.is_closed());
    assert_eq!(writer.send(Bytes::new()).await, Err(Closed));
    assert_eq!(writer.try_send(Bytes::new()), Err(TrySendError::Closed(Closed)));
}

#[tokio::test]
async fn dropping_the_reader_wakes_a_writer_that_waits_for_it() {
    let mut server = Running::start().await;
    let client = client();
    let (reader, mut writer) = open(&mut server, &client).await;
    let sending = tokio::spawn(async move { while writer.send(vec![0; 100_000].into()).await.is_ok() {} });
    drop(reader);
    sending.await.expect("the writer stops");
}

#[tokio::test]
async fn a_stream_cancelled_before_it_began_is_cancelled_when_it_begins() {
    let mut server = Running::start().await;
    let client = client();
    let opening = client.stream(&server.addr, Lane::Fast, KEEP, Bytes::new(), soon());
    let reply = server.next_kept().await;
    drop(opening);
    // The cancel is there before the stream: the server doesn't know what it means.
    client
        .call(&server.addr, Lane::Fast, ECHO, Bytes::new(), soon())
        .await
        .expect("an answer");
    reply.into_stream().closed().await;
}

#[tokio::test]
async fn a_stream_that_is_cut_does_not_pass_for_a_whole_one() {
    let mut server = Running::start().await;
    let client = client();
    let (mut reader, mut writer) = open(&mut server, &client).await;
    writer.send(number(1)).await.expect("there is a reader");
    drop(writer);
    assert_eq!(reader.next().await, Some(Ok(number(1))));
    let end = reader.next().await.expect("not a clean end");
    assert!(matches!(
        end,
        Err(Error::Remote {
            code: ErrorCode::Abandoned,
            ..
        })
    ));
    assert_eq!(reader.next().await, None);

    let (mut reader, writer) = open(&mut server, &client).await;
    writer.fail(ErrorCode::Unavailable, "moved away");
    let end = reader.next().await.expect("not a clean end");
    assert_eq!(
        end,
        Err(Error::Remote {
            code: ErrorCode::Unavailable,
            message: "moved away".into()
        })
    );
}

#[tokio::test]
async fn a_lost_connection_ends_streams_on_both_sides() {
    let mut server = Running::start().await;
    let client = client();
    let (mut reader, writer) = open(&mut server, &client).await;
    client.forget(&server.addr);
    assert!(matches!(reader.next().await, Some(Err(Error::Lost { .. }))));
    assert_eq!(reader.next().await, None);
    writer.closed().await;
}

#[tokio::test]
async fn opening_fails_as_a_call_does() {
    let mut server = Running::start().await;
    let client = client();
    let refused = client
        .stream(&server.addr, Lane::Fast, FAIL, Bytes::new(), soon())
        .await;
    assert!(matches!(
        refused,
        Err(Error::Remote {
            code: ErrorCode::BadRequest,
            ..
        })
    ));

    let deadline = clock::now() + Duration::from_millis(20);
    let late = client
        .stream(&server.addr, Lane::Fast, KEEP, Bytes::new(), deadline)
        .await;
    assert!(matches!(late, Err(Error::DeadlineExceeded { sent: true })));
    // Begun after all, it finds itself cancelled.
    server.next_kept().await.into_stream().closed().await;
}

#[tokio::test]
async fn the_deadline_is_for_the_opening_alone() {
    let mut server = Running::start().await;
    let client = client();
    let deadline = clock::now() + Duration::from_millis(200);
    let opening = client.stream(&server.addr, Lane::Fast, STREAM, Bytes::new(), deadline);
    let (reader, mut writer) = tokio::join!(opening, server.next_stream());
    let mut reader = reader.expect("the stream opens");
    // A call with a later deadline that passes shows that the alarm has rung.
    let later = deadline + Duration::from_millis(50);
    let call = client.call(&server.addr, Lane::Fast, KEEP, Bytes::new(), later);
    assert_eq!(call.await, Err(Error::DeadlineExceeded { sent: true }));
    writer.send(number(1)).await.expect("there is a reader");
    assert_eq!(reader.next().await, Some(Ok(number(1))));
}

#[tokio::test]
async fn a_plain_answer_is_a_stream_of_one_and_a_stream_is_no_answer_to_a_call() {
    let server = Running::start().await;
    let client = client();
    let mut reader = client
        .stream(&server.addr, Lane::Fast, ECHO, number(1), soon())
        .await
        .expect("the stream opens");
    assert_eq!(reader.next().await, Some(Ok(number(1))));
    assert_eq!(reader.next().await, None);

    let call = client
        .call(&server.addr, Lane::Fast, STREAM, Bytes::new(), soon())
        .await;
    assert!(matches!(
        call,
        Err(Error::Remote {
            code: ErrorCode::Internal,
            ..
        })
    ));
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused() {
    let mut server = Running::start_with(|config| config.max_streams = 1).await;
    let client = client();
    let (_reader, writer) = open(&mut server, &client).await;
    let second = client
        .stream(&server.addr, Lane::Fast, STREAM, Bytes::new(), soon())
        .await;
    assert!(matches!(
        second,
        Err(Error::Remote {
            code: ErrorCode::Overloaded,
            ..
        })
    ));
    assert!(server.next_stream().await.is_closed());
    writer.finish();
    let (_reader, writer) = open(&mut server, &client).await;
    assert!(!writer.is_closed());
}
