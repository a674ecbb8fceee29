use std::sync::Arc;

use tokio::io::AsyncReadExt;

use super::*;
use crate::ids::ClusterId;
use crate::net::frame::{Decoder, Frame, FrameKind, MAX_BODY_BYTES};

const NO_BOUND: usize = usize::MAX;

fn header(request_id: u64) -> FrameHeader {
    FrameHeader::new(FrameKind::Response, request_id, ClusterId(1))
}

/// Frames with bodies of these lengths, numbered from 0.
fn frames(lengths: &[usize]) -> Vec<Frame> {
    let frame = |(id, len): (usize, &usize)| Frame {
        header: header(id as u64),
        body: vec![id as u8; *len].into(),
    };
    lengths.iter().enumerate().map(frame).collect()
}

fn push_all(outbound: &Outbound, frames: &[Frame]) {
    for Frame { header, body } in frames {
        assert_eq!(outbound.push(header, body.clone(), NO_BOUND), Ok(()));
    }
}

/// Reads as many frames as `outbound` was given, through a socket that holds `capacity` bytes.
async fn written(outbound: &Arc<Outbound>, count: usize, capacity: usize) -> Vec<Frame> {
    let (theirs, mut ours) = tokio::io::duplex(capacity);
    let writer = outbound.clone();
    let writing = tokio::spawn(async move { writer.write_to(theirs).await });
    let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
    while read.len() < count {
        match Decoder::new(MAX_BODY_BYTES).decode(&mut buffer).expect("frames") {
            Some(frame) => read.push(frame),
            None => assert_ne!(ours.read_buf(&mut buffer).await.expect("bytes"), 0, "cut off"),
        }
    }
    outbound.close(CloseReason::Local);
    writing.await.expect("the writer ends in order");
    read
}

#[tokio::test]
async fn frames_that_become_ready_together_leave_in_one_write() {
    let outbound = Arc::new(Outbound::new(1 << 20));
    let sent = frames(&[100; 50]);
    push_all(&outbound, &sent);
    assert_eq!(written(&outbound, sent.len(), 1 << 20).await, sent);
    assert_eq!(outbound.writes(), 1);
    assert_eq!(outbound.buffered(), 0);
}

#[tokio::test]
async fn small_and_large_bodies_keep_their_order_through_partial_writes() {
    let lengths = [
        0,
        10,
        LARGE_BODY_BYTES,
        1,
        3 * LARGE_BODY_BYTES,
        LARGE_BODY_BYTES - 1,
        0,
        500_000,
        7,
    ];
    for capacity in [1, 29, 1_000, 100_000] {
        let outbound = Arc::new(Outbound::new(1 << 20));
        let sent = frames(&lengths);
        push_all(&outbound, &sent);
        assert_eq!(
            written(&outbound, sent.len(), capacity).await,
            sent,
            "{capacity} bytes at a time"
        );
    }
}

#[tokio::test]
async fn a_sleeping_writer_is_woken_from_another_thread() {
    let outbound = Arc::new(Outbound::new(1 << 20));
    let sent = frames(&[10; 1_000]);
    let pushing = std::thread::spawn({
        let (outbound, sent) = (outbound.clone(), sent.clone());
        move || push_all(&outbound, &sent)
    });
    assert_eq!(written(&outbound, sent.len(), 1 << 20).await, sent);
    pushing.join().expect("all was pushed");
}

#[test]
fn beyond_the_bound_nothing_is_taken() {
    let outbound = Outbound::new(100);
    let body = Bytes::from(vec![0; 100]);
    assert!(outbound.has_room());
    assert_eq!(outbound.push(&header(1), body.clone(), 120), Ok(()));
    assert!(!outbound.has_room());
    assert_eq!(outbound.push(&header(2), body.clone(), 120), Err(PushError::Full));
    assert_eq!(outbound.buffered(), HEADER_LEN + 100);
}

#[tokio::test]
async fn whoever_waits_for_room_is_told() {
    let outbound = Arc::new(Outbound::new(1_000));
    push_all(&outbound, &frames(&[2_000]));
    let mut room = std::pin::pin!(outbound.room().notified());
    room.as_mut().enable();
    assert!(!outbound.has_room());
    let _ = tokio::join!(written(&outbound, 1, 1 << 20), room);
}

#[test]
fn the_first_reason_for_closing_stays_and_nothing_is_taken_after_it() {
    let outbound = Outbound::new(100);
    outbound.close(CloseReason::Silent);
    outbound.close(CloseReason::Local);
    assert_eq!(outbound.close_reason(), Some(CloseReason::Silent));
    assert_eq!(
        outbound.push(&header(1), Bytes::new(), NO_BOUND),
        Err(PushError::Closed)
    );
}
