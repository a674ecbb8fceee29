//! Rows as JSON, written straight into the answer's bytes: `{"key","value","revision"}`, with `key_base64` and
//! `value_base64` for what is not UTF-8.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_common::proto::kv::Row;

/// Appends a row.
pub(super) fn write_row(out: &mut Vec<u8>, row: &Row, keys_only: bool) {
    out.push(b'{');
    write_member(out, "key", row.key.as_bytes());
    if !keys_only {
        out.push(b',');
        write_member(out, "value", &row.record.value);
    }
    out.extend_from_slice(b",\"revision\":\"");
    out.extend_from_slice(row.record.revision.to_string().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Appends `"name":"…"` where the bytes are UTF-8, else `"name_base64":"…"`.
pub(super) fn write_member(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    match str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(b"\":");
            write_text(out, text);
        }
        Err(_) => {
            out.extend_from_slice(b"_base64\":\"");
            let start = out.len();
            out.resize(start + bytes.len().div_ceil(3) * 4, 0);
            // The room is exactly what padded base64 takes.
            let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
            out.truncate(start + written);
            out.push(b'"');
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // A string always serializes, and a vector takes every byte.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use holdfast_common::key::Key;
    use holdfast_common::proto::kv::Record;
    use holdfast_common::revision::Revision;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(key: &[u8], value: &[u8], keys_only: bool) -> Value {
        let record = Record {
            revision: Revision(u64::MAX),
            expires_ms: 0,
            value: Bytes::copy_from_slice(value),
        };
        let row = Row {
            key: Key::new(Bytes::copy_from_slice(key)).expect("a key"),
            record,
        };
        let mut out = Vec::new();
        write_row(&mut out, &row, keys_only);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn text_is_text_and_the_rest_is_base64() {
        let revision = u64::MAX.to_string();
        assert_eq!(
            written(b"k", b"v", false),
            json!({"key": "k", "value": "v", "revision": revision})
        );
        assert_eq!(
            written(b"k", b"v", true),
            json!({"key": "k", "revision": revision})
        );
        assert_eq!(
            written(b"\xff", b"", false),
            json!({"key_base64": "/w==", "value": "", "revision": revision})
        );
        let expected = json!({"key": "\0\"\n", "value_base64": "gIA=", "revision": revision});
        assert_eq!(written(b"\0\"\n", b"\x80\x80", false), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(key in prop::collection::vec(any::<u8>(), 1..50), value: Vec<u8>) {
            let row = written(&key, &value, false);
            let bytes = |name: &str| match row.get(name) {
                Some(text) => text.as_str().expect("text").as_bytes().to_vec(),
                None => STANDARD.decode(row[format!("{name}_base64")].as_str().expect("base64")).expect("base64"),
            };
            prop_assert_eq!(bytes("key"), key);
            prop_assert_eq!(bytes("value"), value);
        }
    }
}
