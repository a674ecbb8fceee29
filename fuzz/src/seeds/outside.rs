//! What strangers and clients send.

use bytes::{Bytes, BytesMut};
use holdfast_common::ids::ClusterId;
use holdfast_common::key::Span;
use holdfast_common::net::frame::{Frame, FrameHeader, FrameKind};
use holdfast_common::net::{ErrorCode, PeerInfo, Role};
use holdfast_placement::admin::decoding::BODIES;
use holdfast_router::decoding::cursor_of;

use super::Seed;
use crate::input::Output;
use crate::{frames, http};

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = connections();
    seeds.extend(requests());
    seeds.extend(bodies());
    seeds.extend(administration());
    seeds
}

fn connections() -> Vec<Seed> {
    let frame = |kind, body: Bytes| Frame {
        header: FrameHeader {
            method: 0x0102,
            deadline_ms: 5_000,
            ..FrameHeader::new(kind, 7, ClusterId(8))
        },
        body,
    };
    let hello = PeerInfo::new(Role::Store, 3, "s3").encode();
    let sent = [
        frame(FrameKind::Hello, hello),
        frame(FrameKind::Request, Bytes::from_static(b"\x01body")),
        frame(FrameKind::Error, ErrorCode::Overloaded.encode("too much")),
        frame(FrameKind::Credit, Bytes::from_static(&[0, 1, 0, 0])),
        frame(FrameKind::Ping, Bytes::new()),
    ];
    let mut stream = BytesMut::new();
    sent.iter().for_each(|frame| frame.encode_into(&mut stream));
    let mut claim = BytesMut::new();
    FrameHeader::new(FrameKind::Request, 7, ClusterId(8)).encode_into(16 << 20, &mut claim);
    let input = |bytes: &[u8]| Output::new(frames::STREAM).byte(1).rest(bytes);
    vec![
        Seed::new("frames", "stream", input(&stream)),
        Seed::new("frames", "claim", input(&claim)),
        Seed::new(
            "frames",
            "certificate",
            Output::new(frames::CERTIFICATE).rest(CERTIFICATE),
        ),
    ]
}

/// Of a store, made by `holdfast cert`; of the day on which it was made, and good for nothing.
const CERTIFICATE: &[u8] = include_bytes!("store.der");

fn http(name: &str, kind: u8, text: &str) -> Seed {
    Seed::new("http", name, Output::new(kind).rest(text.as_bytes()))
}

fn admin(name: &str, kind: u8, text: &str) -> Seed {
    Seed::new("admin", name, Output::new(kind).rest(text.as_bytes()))
}

fn requests() -> Vec<Seed> {
    let head = "host: [::1]:7410\nauthorization: Bearer hf_x\nidempotency-key: client/7\nidempotency-done: 5\n\
                if-match: \"7\"\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\
                cookie: a=1; __Host-holdfast-7410=session";
    let metrics = "# HELP holdfast_router_requests_total All.\n\
                   holdfast_router_requests_total{op=\"get\",code=\"200\"} 3\n\
                   holdfast_wal_fsync_seconds_bucket{le=\"0.001\"} 4\nholdfast_wal_fsync_seconds_sum 0.5\n";
    let span = Span::new("a", "b").expect("a span");
    vec![
        http("path", http::PATH, "/v1/kv/a%2Fb%00%FF"),
        http("path-explain", http::PATH, "/v1/explain/a"),
        http("path-seed", http::PATH, "/api/v1/users"),
        http(
            "scan",
            http::SCAN,
            "prefix=a%00&limit=7&reverse=true&max_staleness=100",
        ),
        http(
            "scan-bounds",
            http::SCAN,
            &format!("start=a&end=b&cursor={}", cursor_of(span.clone(), false)),
        ),
        http("write", http::WRITE, "ttl=60&timeout_ms=500&explain=1"),
        http("head", http::HEAD, head),
        http("head-absent", http::HEAD, "if-none-match: *\nx-request-id: mine"),
        http("cursor", http::CURSOR, &cursor_of(span, true)),
        admin("query", http::QUERY, "key=%FFa+b&limit=7&wait=true&cursor=YWI"),
        admin("metrics", http::METRICS, metrics),
    ]
}

fn bodies() -> Vec<Seed> {
    let batch = r#"{"ops":[{"get":{"key":"a"}},{"put":{"key_base64":"/w==","value":"é","ttl":2,"if":{"exists":false}}},
                   {"delete":{"key":"b","if":{"revision_equals":"7"}}}]}"#;
    let txn = r#"{"if":[{"key":"a","value_equals":"1"}],"then":[{"put":{"key":"a","value_base64":"AA=="}},{"get":{"key":"b"}}],
                 "else":[{"delete":{"key":"a"}}]}"#;
    let endless = format!("{{\"ops\":[{}]}}", vec![r#"{"get":{}}"#; 6_000].join(","));
    vec![
        http("batch", http::BATCH, batch),
        http("batch-of-many", http::BATCH, &endless),
        http("txn", http::TXN, txn),
    ]
}

fn administration() -> Vec<Seed> {
    let texts = [
        (
            "config",
            r#"{"split_bytes":1048576,"schedulers":{"hot":false},"leader_preference":["zone=a"]}"#,
        ),
        (
            "tokens",
            r#"{"name":"app","role":"read-write","prefixes":["a/"],"prefixes_base64":["/w=="],"ttl_seconds":60,
                "limits":{"requests_per_second":5}}"#,
        ),
        ("auth", r#"{"required":true}"#),
        ("session", r#"{"token":"hf_x"}"#),
        (
            "split",
            r#"{"keys":["a","b"],"keys_base64":["/w=="],"scatter":true}"#,
        ),
        ("move", r#"{"from_store":1,"to_store":2}"#),
        ("range-leader", r#"{"to_store":2}"#),
        ("recover", r#"{"lost_stores":[1,2],"create_empty":true}"#),
        (
            "plan",
            r#"{"add_stores":2,"labels":{"zone":"a"},"remove_stores":[1],"fail":["store=3","zone=b"],"bytes_per_second":5}"#,
        ),
        ("placement-leader", r#"{"to":"p2"}"#),
        ("placement-remove", r#"{"name":"p2"}"#),
    ];
    let seeds = BODIES.iter().zip(http::BODY..).zip(texts);
    let seeds = seeds.map(|(((name, _), kind), (of, text))| {
        assert_eq!(*name, of, "the bodies are in the order of their table");
        admin(name, kind, text)
    });
    seeds.collect()
}
