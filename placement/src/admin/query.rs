//! Query parameters and bodies: bytes in, checked values out. What is not known is refused, not ignored.

use std::borrow::Cow;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use holdfast_common::key::Key;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    /// Reads a query string that may have the `known` parameters, each once. Values are bytes.
    pub(super) fn parse(raw: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, Vec<u8>)> = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = String::from_utf8_lossy(&decoded(name)).into_owned();
            if !known.contains(&name.as_str()) {
                return Err(Problem::invalid(format!(
                    "unknown parameter {name:?}; known are: {}",
                    known.join(", ")
                )));
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(Problem::invalid(format!("parameter {name} is given twice")));
            }
            parameters.push((name, decoded(value)));
        }
        Ok(Self(parameters))
    }

    /// A parameter's bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_slice())
    }

    /// A parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.bytes(name)
            .map(|value| number(name, &String::from_utf8_lossy(value)))
            .transpose()
    }

    /// A parameter that is `true` or `false`; false when it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.bytes(name) {
            None | Some(b"false") => Ok(false),
            Some(b"true" | b"") => Ok(true),
            Some(_) => Err(Problem::invalid(format!("{name} must be true or false"))),
        }
    }

    /// A parameter that is a key.
    pub(super) fn key(&self, name: &str) -> Result<Option<Key>, Problem> {
        let key = self.bytes(name).map(|bytes| Key::new(bytes.to_vec())).transpose();
        key.map_err(|error| Problem::invalid(format!("{name}: {error}")))
    }
}

fn decoded(text: &str) -> Vec<u8> {
    let spaced = if text.contains('+') {
        Cow::Owned(text.replace('+', " "))
    } else {
        Cow::Borrowed(text)
    };
    percent_decode_str(&spaced).collect()
}

/// A number in a path or a parameter.
pub(super) fn number(name: &str, text: &str) -> Result<u64, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid(format!("{name} must be a number, is {text:?}")))
}

/// A JSON body.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(format!("body: {error}")))
}

/// A key in a JSON body: as text, or in base64.
pub(super) fn key_of(text: Option<&str>, base64: Option<&str>) -> Result<Option<Key>, Problem> {
    let bytes = match (text, base64) {
        (Some(_), Some(_)) => return Err(Problem::invalid("give key or key_base64, not both")),
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(base64)) => STANDARD
            .decode(base64)
            .map_err(|error| Problem::invalid(format!("key_base64: {error}")))?,
        (None, None) => return Ok(None),
    };
    Key::new(bytes)
        .map(Some)
        .map_err(|error| Problem::invalid(format!("key: {error}")))
}

/// A cursor: opaque to clients.
pub(super) fn cursor(position: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(position)
}

/// Where a cursor points.
pub(super) fn position(cursor: &[u8]) -> Result<Vec<u8>, Problem> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .map_err(|_| Problem::invalid("cursor: not one that this API gave out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bytes() {
        let query = Query::parse(Some("key=%FFa+b%2B&limit=7&wait=true"), &["key", "limit", "wait"]).unwrap();
        assert_eq!(query.bytes("key"), Some(&b"\xffa b+"[..]));
        assert_eq!(query.number("limit").unwrap(), Some(7));
        assert!(query.flag("wait").unwrap());
        assert!(!Query::default().flag("wait").unwrap());
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_refused() {
        assert!(Query::parse(Some("keys=a"), &["key"]).is_err());
        assert!(Query::parse(Some("key=a&key=b"), &["key"]).is_err());
        let query = Query::parse(Some("limit=many&wait=maybe&key="), &["limit", "wait", "key"]).unwrap();
        assert!(query.number("limit").is_err() && query.flag("wait").is_err() && query.key("key").is_err());
        assert!(key_of(Some("a"), Some("YQ==")).is_err() && key_of(None, Some("%")).is_err());
        assert!(position(b"!").is_err());
    }

    #[test]
    fn cursors_come_back() {
        assert_eq!(position(cursor(b"\x00\xff").as_bytes()).unwrap(), b"\x00\xff");
    }
}
