//! The part of etcd's `rpc.proto` and `kv.proto` that the comparison speaks, with their field numbers.
//!
//! A field that is not named here is skipped on decoding, at little cost.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutResponse {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// False asks for a linearizable read.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    pub leader: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_published_encoding() {
        let put = PutRequest {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
        };
        assert_eq!(put.encode_to_vec(), [0x0a, 1, b'k', 0x12, 1, b'v']);
        let range = RangeRequest {
            key: b"k".to_vec(),
            range_end: vec![0],
            limit: 5,
            serializable: true,
        };
        assert_eq!(
            range.encode_to_vec(),
            [0x0a, 1, b'k', 0x12, 1, 0, 0x18, 5, 0x38, 1]
        );
    }

    #[test]
    fn answers_are_read_past_unknown_fields() {
        // A header (field 1), one pair of key (1), mod_revision (3) and value (5), more (3) and count (4).
        let answer = [
            0x0a, 2, 0x18, 9, 0x12, 8, 0x0a, 1, b'k', 0x18, 7, 0x2a, 1, b'v', 0x18, 0, 0x20, 1,
        ];
        let decoded = RangeResponse::decode(answer.as_slice()).expect("well formed");
        assert_eq!(
            decoded.kvs.iter().map(|pair| &pair.value[..]).collect::<Vec<_>>(),
            [b"v"]
        );

        let status = [0x0a, 4, 0x08, 1, 0x10, 42, 0x12, 1, b'3', 0x20, 42];
        let decoded = StatusResponse::decode(status.as_slice()).expect("well formed");
        assert_eq!(
            (decoded.header.map(|header| header.member_id), decoded.leader),
            (Some(42), 42)
        );
    }
}
