use proptest::prelude::*;

use super::*;

const KINDS: std::ops::RangeInclusive<u8> = 1..=13;

fn frames() -> impl Strategy<Value = Frame> {
    let header = (KINDS, any::<u16>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
        |(kind, method, request_id, cluster_id, deadline_ms)| FrameHeader {
            kind: FrameKind::from_wire(kind).expect("a kind"),
            method,
            request_id,
            cluster_id: ClusterId(cluster_id),
            deadline_ms,
        },
    );
    (header, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(header, body)| Frame {
        header,
        body: Bytes::from(body),
    })
}

/// Everything that `decoder` makes of `pieces` arriving one after the other.
fn decode_pieces(decoder: Decoder, pieces: &[&[u8]]) -> Result<Vec<Frame>, FrameError> {
    let mut buffer = BytesMut::new();
    let mut decoded = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            decoded.push(frame);
        }
    }
    Ok(decoded)
}

proptest! {
    #[test]
    fn frames_survive_any_cut_of_the_byte_stream(
        sent in prop::collection::vec(frames(), 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let mut bytes = BytesMut::new();
        for frame in &sent {
            frame.encode_into(&mut bytes);
        }
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(decode_pieces(Decoder::new(MAX_BODY_BYTES), &pieces), Ok(sent));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000), chunk in 1usize..100) {
        let pieces: Vec<&[u8]> = bytes.chunks(chunk).collect();
        let _ = decode_pieces(Decoder::new(4_096), &pieces);
    }

    /// Starts like a frame, so that decoding gets past the version and the kind.
    #[test]
    fn arbitrary_headers_never_panic(kind in KINDS, rest in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut bytes = vec![FRAME_VERSION, kind];
        bytes.extend(rest);
        let _ = decode_pieces(Decoder::new(4_096), &[&bytes]);
    }
}

fn encoded(kind: FrameKind, body: &'static [u8]) -> BytesMut {
    let header = FrameHeader::new(kind, 7, ClusterId(9));
    let mut bytes = BytesMut::new();
    Frame {
        header,
        body: Bytes::from_static(body),
    }
    .encode_into(&mut bytes);
    bytes
}

#[test]
fn the_layout_is_the_documented_one() {
    let header = FrameHeader {
        kind: FrameKind::Request,
        method: 0x0102,
        request_id: 0x1112_1314_1516_1718,
        cluster_id: ClusterId(0x2122_2324_2526_2728),
        deadline_ms: 0x3132_3334,
    };
    let mut bytes = BytesMut::new();
    Frame {
        header,
        body: Bytes::from_static(b"body"),
    }
    .encode_into(&mut bytes);
    let expected: &[u8] = &[
        1, 3, 0x01, 0x02, 0, 0, 0, 4, //
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, //
        0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, //
        0x31, 0x32, 0x33, 0x34, b'b', b'o', b'd', b'y',
    ];
    assert_eq!(&bytes[..], expected);
}

#[test]
fn another_version_is_refused_by_its_first_byte() {
    let error = decode_pieces(Decoder::new(MAX_BODY_BYTES), &[b"G"]).expect_err("refused");
    assert_eq!(error, FrameError::Version { found: b'G' });
}

#[test]
fn an_unknown_kind_is_refused() {
    let mut bytes = encoded(FrameKind::Ping, b"");
    bytes[1] = 200;
    assert_eq!(
        decode_pieces(Decoder::new(64), &[&bytes]),
        Err(FrameError::Kind { found: 200 })
    );
}

#[test]
fn an_oversized_body_is_refused_before_it_arrives() {
    let bytes = encoded(FrameKind::Request, b"12345");
    let error = decode_pieces(Decoder::new(4), &[&bytes[..HEADER_LEN]]).expect_err("refused");
    assert_eq!(error, FrameError::TooLarge { len: 5, limit: 4 });
    assert!(decode_pieces(Decoder::new(5), &[&bytes]).is_ok());
}

#[test]
fn bodies_are_slices_of_the_read_buffer() {
    let mut buffer = encoded(FrameKind::Request, b"not copied");
    let body_at = buffer[HEADER_LEN..].as_ptr();
    let frame = Decoder::new(64)
        .decode(&mut buffer)
        .expect("well formed")
        .expect("complete");
    assert_eq!(frame.body.as_ptr(), body_at);
}

#[test]
fn what_a_header_claims_is_not_reserved_before_some_of_it_has_come() {
    let header = FrameHeader::new(FrameKind::Request, 7, ClusterId(9));
    let mut buffer = BytesMut::new();
    header.encode_into(MAX_BODY_BYTES, &mut buffer);
    let decoder = Decoder::new(MAX_BODY_BYTES);
    while buffer.len() < MAX_FRAME_BYTES {
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        let bound = 2 * (4 * buffer.len() + FIRST_BODY_BYTES);
        assert!(
            buffer.capacity() <= bound,
            "{} of {}",
            buffer.capacity(),
            buffer.len()
        );
        let read = (buffer.capacity() - buffer.len()).min(MAX_FRAME_BYTES - buffer.len());
        assert!(read > 0, "a read has room");
        buffer.resize(buffer.len() + read, 1);
    }
    let frame = decoder
        .decode(&mut buffer)
        .expect("well formed")
        .expect("complete");
    assert_eq!(frame.body.len(), MAX_BODY_BYTES);
}
