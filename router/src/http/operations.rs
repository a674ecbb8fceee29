//! Operations as the bodies of `/v1/batch` and `/v1/txn` state them: `{"get": {"key": …}}`, `{"put": {"key": …, "value": …}}`,
//! `{"delete": {"key": …}}`, and conditions on them. Text is text; what is not UTF-8 comes as standard base64 under the
//! same name with `_base64` behind it.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use holdfast_common::key::Key;
use holdfast_common::limits::MAX_VALUE_BYTES;
use holdfast_common::proto::kv::{Condition, Record};
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::budget::Reservation;
use super::kv::{MAX_TTL_SECONDS, key_from};
use super::problem::{Code, Problem};
use super::{Exchange, ReadLimits, json};
use crate::metrics::Op;

/// Most bytes of such a body: room for the largest value in base64 and what stands around it.
const MAX_BODY_BYTES: usize = 12 << 20;

/// One operation.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    Get(Read),
    Put(Put),
    Delete(Delete),
}

/// Reads a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    key: Option<String>,
    key_base64: Option<String>,
}

/// Writes a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Put {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    /// Seconds after which the record ceases to exist.
    #[schema(minimum = 1, maximum = 3_153_600_000_i64)]
    ttl: Option<u64>,
    #[serde(rename = "if")]
    condition: Option<Demand>,
}

/// Removes a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(rename = "if")]
    condition: Option<Demand>,
}

/// What must hold of the record under an operation's key: exactly one of these.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Demand {
    exists: Option<bool>,
    revision_equals: Option<String>,
    value_equals: Option<String>,
    value_equals_base64: Option<String>,
}

/// What must hold of the record under a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyDemand {
    key: Option<String>,
    key_base64: Option<String>,
    exists: Option<bool>,
    revision_equals: Option<String>,
    value_equals: Option<String>,
    value_equals_base64: Option<String>,
}

/// An operation, checked.
pub(super) enum Checked {
    Get(Key),
    Put {
        key: Key,
        value: Bytes,
        ttl_ms: u64,
        condition: Condition,
    },
    Delete {
        key: Key,
        condition: Condition,
    },
}

impl Checked {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Get(key) | Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

impl Operation {
    /// # Errors
    /// Its key, value or condition is not one.
    pub(super) fn check(self) -> Result<Checked, Problem> {
        Ok(match self {
            Self::Get(Read { key, key_base64 }) => Checked::Get(key_of(key, key_base64)?),
            Self::Put(put) => {
                let ttl = put.ttl.unwrap_or(0);
                if put.ttl.is_some() && !(1..=MAX_TTL_SECONDS).contains(&ttl) {
                    return Err(invalid(format!("ttl is 1 to {MAX_TTL_SECONDS} seconds")));
                }
                let value = bytes_of("value", put.value, put.value_base64)?
                    .ok_or_else(|| invalid("a put has a value or a value_base64"))?;
                if value.len() > MAX_VALUE_BYTES {
                    return Err(Problem::new(
                        Code::ValueTooLarge,
                        format!("a value has at most {MAX_VALUE_BYTES} bytes"),
                    ));
                }
                Checked::Put {
                    key: key_of(put.key, put.key_base64)?,
                    value,
                    ttl_ms: ttl * 1_000,
                    condition: demanded(put.condition)?,
                }
            }
            Self::Delete(delete) => Checked::Delete {
                key: key_of(delete.key, delete.key_base64)?,
                condition: demanded(delete.condition)?,
            },
        })
    }
}

impl KeyDemand {
    /// # Errors
    /// Its key or what it demands is not one.
    pub(super) fn check(self) -> Result<(Key, Condition), Problem> {
        let key = key_of(self.key, self.key_base64)?;
        let demand = Demand {
            exists: self.exists,
            revision_equals: self.revision_equals,
            value_equals: self.value_equals,
            value_equals_base64: self.value_equals_base64,
        };
        Ok((key, demand.check()?))
    }
}

impl Demand {
    fn check(self) -> Result<Condition, Problem> {
        let value = bytes_of("value_equals", self.value_equals, self.value_equals_base64)?;
        match (self.exists, self.revision_equals, value) {
            (Some(true), None, None) => Ok(Condition::Exists),
            (Some(false), None, None) => Ok(Condition::Absent),
            (None, Some(revision), None) => match revision.parse() {
                Ok(revision) => Ok(Condition::Revision(revision)),
                Err(_) => Err(invalid(
                    "revision_equals is a revision: a decimal number, as text",
                )),
            },
            (None, None, Some(value)) => Ok(Condition::Value(value)),
            _ => Err(invalid(
                "a condition is one of exists, revision_equals, value_equals, value_equals_base64",
            )),
        }
    }
}

fn demanded(demand: Option<Demand>) -> Result<Condition, Problem> {
    demand.map_or(Ok(Condition::None), Demand::check)
}

fn key_of(text: Option<String>, base64: Option<String>) -> Result<Key, Problem> {
    let bytes = bytes_of("key", text, base64)?.ok_or_else(|| invalid("key or key_base64 is missing"))?;
    key_from(bytes)
}

fn bytes_of(name: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>, Problem> {
    match (text, base64) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(invalid(format!("{name}_base64: {error}"))),
        },
        (Some(_), Some(_)) => Err(invalid(format!("{name} and {name}_base64 exclude each other"))),
    }
}

/// Reads a list of at most `MOST` items. What is more is refused by the item that is too many: what a body of the largest size
/// can list takes a hundred times the memory that the body does.
pub(super) fn at_most<'de, const MOST: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Items<const MOST: usize, T>(PhantomData<T>);

    impl<'de, const MOST: usize, T: Deserialize<'de>> Visitor<'de> for Items<MOST, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == MOST {
                    return Err(A::Error::invalid_length(MOST + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_seq(Items::<MOST, T>(PhantomData))
}

/// A problem with the body.
pub(super) fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Code::InvalidBody, detail)
}

/// Says which of several operations has a problem.
pub(super) fn at(place: &str, index: usize, problem: Problem) -> Problem {
    let detail = format!("{place}[{index}]: {}", problem.detail);
    Problem {
        detail: detail.into(),
        ..problem
    }
}

/// Reads a body of operations, and with it the room that they take until they are done.
///
/// # Errors
/// It is too large, too slow, or not such JSON.
pub(super) async fn body<T: DeserializeOwned>(
    exchange: &mut Exchange<'_>,
    op: Op,
) -> Result<(T, Option<Reservation>), Problem> {
    let limits = ReadLimits {
        bytes: MAX_BODY_BYTES,
        ..exchange.front.read_limits
    };
    let received = exchange.read_body_within(op, limits).await?;
    Ok((parse(&received.bytes)?, received.room))
}

/// Reads such JSON.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

/// Appends the members of a record: its value and its revision.
pub(super) fn write_record(out: &mut Vec<u8>, record: &Record) {
    json::write_member(out, "value", &record.value);
    out.push(b',');
    write_revision(out, record.revision);
}

/// Appends `"revision":"…"`.
pub(super) fn write_revision(out: &mut Vec<u8>, revision: holdfast_common::revision::Revision) {
    out.extend_from_slice(format!("\"revision\":\"{revision}\"").as_bytes());
}

#[cfg(test)]
mod tests {
    use holdfast_common::revision::Revision;

    use super::*;

    fn checked(json: &str) -> Result<Checked, Code> {
        let operation: Operation = serde_json::from_str(json).map_err(|_| Code::InvalidBody)?;
        operation.check().map_err(|problem| problem.code)
    }

    #[test]
    fn keys_and_values_are_text_or_base64() {
        let Ok(Checked::Put {
            key,
            value,
            ttl_ms,
            condition,
        }) = checked(r#"{"put":{"key_base64":"/w==","value":"é","ttl":2,"if":{"exists":false}}}"#)
        else {
            panic!("a put")
        };
        assert_eq!((&key.as_bytes()[..], &value[..]), (&b"\xff"[..], "é".as_bytes()));
        assert_eq!((ttl_ms, condition), (2_000, Condition::Absent));
        assert!(matches!(checked(r#"{"get":{"key":"a"}}"#), Ok(Checked::Get(_))));
    }

    #[test]
    fn conditions_are_one_of_their_kinds() {
        let condition = |json: &str| match checked(&format!(r#"{{"delete":{{"key":"a","if":{json}}}}}"#)) {
            Ok(Checked::Delete { condition, .. }) => Ok(condition),
            Ok(_) => panic!("not a delete"),
            Err(code) => Err(code),
        };
        assert_eq!(condition(r#"{"exists":true}"#), Ok(Condition::Exists));
        assert_eq!(
            condition(r#"{"revision_equals":"7"}"#),
            Ok(Condition::Revision(Revision(7)))
        );
        assert_eq!(
            condition(r#"{"value_equals":""}"#),
            Ok(Condition::Value(Bytes::new()))
        );
        assert_eq!(
            condition(r#"{"value_equals_base64":"/w=="}"#),
            Ok(Condition::Value(b"\xff"[..].into()))
        );
        for bad in [
            "{}",
            r#"{"exists":true,"value_equals":"a"}"#,
            r#"{"revision_equals":"x"}"#,
            r#"{"revision_equals":7}"#,
            r#"{"value_equals":"a","value_equals_base64":"YQ=="}"#,
            r#"{"value_equals_base64":"*"}"#,
            r#"{"other":1}"#,
        ] {
            assert_eq!(condition(bad), Err(Code::InvalidBody), "{bad}");
        }
    }

    #[test]
    fn what_is_not_an_operation_is_refused() {
        let long = format!(r#"{{"get":{{"key":"{}"}}}}"#, "k".repeat(4_097));
        for (bad, code) in [
            ("{}", Code::InvalidBody),
            (r#"{"get":{}}"#, Code::InvalidBody),
            (
                r#"{"get":{"key":"a"},"put":{"key":"a","value":""}}"#,
                Code::InvalidBody,
            ),
            (r#"{"get":{"key":""}}"#, Code::InvalidKey),
            (&long, Code::KeyTooLong),
            (r#"{"get":{"key":"a","key_base64":"YQ=="}}"#, Code::InvalidBody),
            (r#"{"get":{"key_base64":"YQ"}}"#, Code::InvalidBody),
            (r#"{"put":{"key":"a"}}"#, Code::InvalidBody),
            (r#"{"put":{"key":"a","value":1}}"#, Code::InvalidBody),
            (r#"{"put":{"key":"a","value":"","ttl":0}}"#, Code::InvalidBody),
            (r#"{"put":{"key":"a","value":"","ttl":-1}}"#, Code::InvalidBody),
            (r#"{"put":{"key":"a","value":"","tll":1}}"#, Code::InvalidBody),
            (r#"{"incr":{"key":"a"}}"#, Code::InvalidBody),
        ] {
            assert_eq!(checked(bad).map(|_| ()), Err(code), "{bad}");
        }
    }
}
