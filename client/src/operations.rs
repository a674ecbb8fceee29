//! Several operations at once: batches and transactions.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::client::{Client, Name, Record, body};
use crate::error::{Error, Problem};
use crate::text;

/// What must hold of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    Absent,
    /// There is one.
    Exists,
    /// It has this revision.
    Revision(u64),
    /// It has this value.
    Value(Bytes),
}

impl Condition {
    fn json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        match self {
            Self::Absent => drop(json.insert("exists".to_owned(), false.into())),
            Self::Exists => drop(json.insert("exists".to_owned(), true.into())),
            Self::Revision(revision) => {
                json.insert("revision_equals".to_owned(), revision.to_string().into());
            }
            Self::Value(value) => text::put(&mut json, "value_equals", value),
        }
        json
    }
}

/// An operation of a batch or a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads a key.
    Get(Bytes),
    /// Writes a value.
    Put(Bytes, Bytes),
    /// Removes a record.
    Delete(Bytes),
}

impl Operation {
    /// Reads `key`.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get(key.into())
    }

    /// Writes `value` under `key`.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put(key.into(), value.into())
    }

    /// Removes what is under `key`.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete(key.into())
    }

    fn json(&self) -> Value {
        let mut members = Map::new();
        let name = match self {
            Self::Get(key) => {
                text::put(&mut members, "key", key);
                "get"
            }
            Self::Put(key, value) => {
                text::put(&mut members, "key", key);
                text::put(&mut members, "value", value);
                "put"
            }
            Self::Delete(key) => {
                text::put(&mut members, "key", key);
                "delete"
            }
        };
        json!({ name: members })
    }
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was read; none if there is no such record.
    Read(Option<Record>),
    /// It was written, with this revision.
    Written(u64),
    /// There is no record any more.
    Deleted,
    /// It was refused.
    Refused(Problem),
}

impl Outcome {
    fn of(operation: &Operation, result: &Value) -> Result<Self, Error> {
        let status = result["status"].as_u64().unwrap_or_default();
        match (operation, status) {
            (Operation::Get(_), 200) => Ok(Self::Read(Some(Record {
                value: text::take(result, "value")?
                    .ok_or_else(|| Error::Nonsense("a value is missing".to_owned()))?,
                revision: text::revision(result)?,
            }))),
            (Operation::Get(_), 404) => Ok(Self::Read(None)),
            (Operation::Put(..), 200..=299) => Ok(Self::Written(text::revision(result)?)),
            (Operation::Delete(_), 200..=299) => Ok(Self::Deleted),
            _ => serde_json::from_value(result["error"].clone())
                .map(Self::Refused)
                .map_err(|error| Error::Nonsense(error.to_string())),
        }
    }
}

/// A transaction: what is done at one moment if conditions hold, and if they do not.
///
/// ```no_run
/// # async fn example(client: holdfast_client::Client) -> Result<(), holdfast_client::Error> {
/// use holdfast_client::{Condition, Operation, Txn};
///
/// let txn = Txn::new()
///     .when("account/1", Condition::Value("10".into()))
///     .then(Operation::put("account/1", "0"))
///     .then(Operation::put("account/2", "10"))
///     .otherwise(Operation::get("account/1"));
/// let done = client.txn(&txn).await?;
/// if !done.succeeded {
///     println!("the account has {:?}", done.outcomes[0]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    conditions: Vec<(Bytes, Condition)>,
    then: Vec<Operation>,
    otherwise: Vec<Operation>,
}

impl Txn {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, key: impl Into<Bytes>, condition: Condition) -> Self {
        self.conditions.push((key.into(), condition));
        self
    }

    /// Adds what is done if all conditions hold. A key stands at most once in a branch.
    #[must_use]
    pub fn then(mut self, operation: Operation) -> Self {
        self.then.push(operation);
        self
    }

    /// Adds what is done if one does not.
    #[must_use]
    pub fn otherwise(mut self, operation: Operation) -> Self {
        self.otherwise.push(operation);
        self
    }

    fn json(&self) -> Value {
        let conditions = self.conditions.iter().map(|(key, condition)| {
            let mut json = condition.json();
            text::put(&mut json, "key", key);
            Value::Object(json)
        });
        let branch = |operations: &[Operation]| operations.iter().map(Operation::json).collect::<Vec<_>>();
        json!({
            "if": conditions.collect::<Vec<_>>(),
            "then": branch(&self.then),
            "else": branch(&self.otherwise),
        })
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transacted {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// The revision of everything that was written.
    pub revision: u64,
    /// One for each operation of the branch taken.
    pub outcomes: Vec<Outcome>,
}

impl Client {
    /// Carries out operations, at most 1,024, each by itself; those of one key in their order.
    ///
    /// # Errors
    /// See [`Error`]: the batch as a whole. What became of each operation is its [`Outcome`].
    pub async fn batch(&self, operations: &[Operation]) -> Result<Vec<Outcome>, Error> {
        let ops: Vec<Value> = operations.iter().map(Operation::json).collect();
        let answer = self.post("/v1/batch", &json!({ "ops": ops })).await?;
        outcomes(operations, &answer)
    }

    /// Carries out a transaction. Its keys have to lie in one range.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn txn(&self, txn: &Txn) -> Result<Transacted, Error> {
        let answer = self.post("/v1/txn", &txn.json()).await?;
        let succeeded = answer["succeeded"]
            .as_bool()
            .ok_or_else(|| Error::Nonsense("a transaction without an outcome".to_owned()))?;
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        Ok(Transacted {
            succeeded,
            revision: text::revision(&answer)?,
            outcomes: outcomes(branch, &answer)?,
        })
    }

    async fn post(&self, path: &str, json: &Value) -> Result<Value, Error> {
        let (headers, _name) = self.named(&Name::Fresh);
        let response = self
            .send(Method::POST, path, headers, json.to_string().into())
            .await?;
        let body = body(response).await;
        // The answer was on its way, so the operations were carried out.
        let body = body.map_err(|error| Error::OutcomeUnknown(error.to_string()))?;
        serde_json::from_slice(&body).map_err(|error| Error::Nonsense(error.to_string()))
    }
}

fn outcomes(operations: &[Operation], answer: &Value) -> Result<Vec<Outcome>, Error> {
    let results = answer["results"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if results.len() != operations.len() {
        return Err(Error::Nonsense("not one result for each operation".to_owned()));
    }
    let pairs = operations.iter().zip(results);
    pairs
        .map(|(operation, result)| Outcome::of(operation, result))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_written_as_the_api_reads_them() {
        let txn = Txn::new()
            .when("a", Condition::Absent)
            .when(&b"\xff"[..], Condition::Value(Bytes::from_static(b"\x80")))
            .when("c", Condition::Revision(7))
            .then(Operation::put("a", "1"))
            .otherwise(Operation::get("a"))
            .otherwise(Operation::delete("b"));
        let expected = json!({
            "if": [
                {"key": "a", "exists": false},
                {"key_base64": "/w==", "value_equals_base64": "gA=="},
                {"key": "c", "revision_equals": "7"},
            ],
            "then": [{"put": {"key": "a", "value": "1"}}],
            "else": [{"get": {"key": "a"}}, {"delete": {"key": "b"}}],
        });
        assert_eq!(txn.json(), expected);
    }

    #[test]
    fn results_are_told_apart() {
        let of = |operation: &Operation, result: Value| Outcome::of(operation, &result).expect("an outcome");
        let (get, put) = (Operation::get("a"), Operation::put("a", "1"));
        let record = Record {
            value: "1".into(),
            revision: 7,
        };
        assert_eq!(
            of(&get, json!({"status": 200, "value": "1", "revision": "7"})),
            Outcome::Read(Some(record))
        );
        assert_eq!(of(&get, json!({"status": 404, "error": {}})), Outcome::Read(None));
        assert_eq!(
            of(&put, json!({"status": 201, "revision": "7"})),
            Outcome::Written(7)
        );
        let error = json!({"status": 412, "code": "precondition_failed", "detail": "d", "request_id": "r"});
        assert!(matches!(
            of(&put, json!({"status": 412, "error": error})),
            Outcome::Refused(_)
        ));
        assert!(Outcome::of(&put, &json!({"status": 200})).is_err());
    }
}
