//! Bytes as the API's JSON has them: text under a name, or base64 under the name with `_base64`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Map, Value};

use crate::Error;

/// Everything but what RFC 3986 leaves unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Bytes for a path or a query.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

/// Sets a member to some bytes.
pub(crate) fn put(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// The bytes of a member, if it is there.
///
/// # Errors
/// It is not base64.
pub(crate) fn take(object: &Value, name: &str) -> Result<Option<Bytes>, Error> {
    if let Some(text) = object[name].as_str() {
        return Ok(Some(Bytes::copy_from_slice(text.as_bytes())));
    }
    let Some(text) = object[format!("{name}_base64")].as_str() else {
        return Ok(None);
    };
    let bytes = STANDARD.decode(text);
    bytes
        .map(|bytes| Some(bytes.into()))
        .map_err(|error| Error::Nonsense(format!("{name}_base64: {error}")))
}

/// The revision of an object that has to have one.
pub(crate) fn revision(object: &Value) -> Result<u64, Error> {
    object["revision"]
        .as_str()
        .and_then(|revision| revision.parse().ok())
        .ok_or_else(|| Error::Nonsense("a revision is missing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        for bytes in [&b""[..], b"text", "é".as_bytes(), b"\0", b"\xff\x80"] {
            let mut object = Map::new();
            put(&mut object, "value", bytes);
            let taken = take(&Value::Object(object), "value").expect("bytes");
            assert_eq!(taken.as_deref(), Some(bytes));
        }
        assert!(take(&serde_json::json!({"value_base64": "*"}), "value").is_err());
        assert_eq!(escaped(b"a/\xff ~"), "a%2F%FF%20~");
    }
}
