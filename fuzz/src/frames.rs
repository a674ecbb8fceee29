//! What comes over a connection before it is a message: frames, hellos, errors.

use bytes::{Bytes, BytesMut};
use holdfast_common::ids::ClusterId;
use holdfast_common::net::frame::{Decoder, Frame, FrameKind, HEADER_LEN};
use holdfast_common::net::{ErrorCode, MAX_BODY_BYTES, PeerInfo};
use holdfast_common::tls::identity;

use crate::input::Input;

pub(crate) const STREAM: u8 = 0;
pub(crate) const CERTIFICATE: u8 = 1;

/// What is in most buffers when more is read; a header may come in two pieces.
const PIECES: [usize; 4] = [1, HEADER_LEN - 1, 100, 65_536];

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 2 {
        STREAM => stream(input),
        _ => certificate(input.rest()),
    }
}

fn stream(mut input: Input<'_>) {
    let piece = PIECES[usize::from(input.byte()) % PIECES.len()];
    let bytes = input.rest();
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(whole, frames(bytes, piece), "however the stream is cut");
    for frame in whole {
        let mut written = BytesMut::new();
        frame.encode_into(&mut written);
        let read = Decoder::new(MAX_BODY_BYTES).decode(&mut written);
        assert_eq!(read, Ok(Some(frame.clone())));
        body(frame.header.kind, &frame.body);
    }
}

/// The frames of a stream up to its first error.
fn frames(bytes: &[u8], piece: usize) -> Vec<Frame> {
    let (decoder, mut buffer, mut frames) = (Decoder::new(MAX_BODY_BYTES), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fn body(kind: FrameKind, body: &Bytes) {
    match kind {
        FrameKind::Hello | FrameKind::Welcome => {
            let Ok(peer) = PeerInfo::decode(body, ClusterId(1), None) else {
                return;
            };
            let again = PeerInfo::decode(&peer.encode(), ClusterId(1), None).expect("a hello");
            assert_eq!(
                (again.role, again.node_id, again.name),
                (peer.role, peer.node_id, peer.name)
            );
        }
        FrameKind::Error => {
            let (code, message) = ErrorCode::decode(body);
            assert_eq!(ErrorCode::decode(&code.encode(&message)).0, code);
        }
        _ => {}
    }
}

/// The name in a certificate is read once its signature has been verified, by an authority that may have signed anything.
fn certificate(der: &[u8]) {
    drop(identity::not_after(der));
    if let Ok(identity) = identity::Identity::of_certificate(der) {
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }
}
