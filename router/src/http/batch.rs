//! `POST /v1/batch`: several operations, each with its own outcome. They go out side by side, those of one key in their
//! order; stores gather what arrives together into few log entries.

use std::collections::HashMap;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use holdfast_common::access::Action;
use holdfast_common::clock::{self, Instant};
use holdfast_common::key::Key;
use holdfast_common::limits::MAX_BATCH_OPS;
use holdfast_common::proto::kv::{Consistency, Mutation, Once, Record, WriteOutcome};
use holdfast_common::revision::Revision;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::Body;
use super::budget::Reservation;
use super::operations::{self, Checked, Operation};
use super::problem::{Code, Problem};
use super::query::Query;
use super::{Exchange, idempotency};
use crate::metrics::Op;
use crate::point::{Get, Write};
use crate::sender::Sender;

/// Operations of a batch that are under way at a time.
const CONCURRENCY: usize = 64;

/// Most bytes of values in one answer.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The body.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    #[serde(deserialize_with = "operations::at_most::<MAX_BATCH_OPS, _, _>")]
    ops: Vec<Operation>,
}

impl BatchRequest {
    /// # Errors
    /// One of the operations is none.
    pub(super) fn check(self) -> Result<Vec<Checked>, Problem> {
        let checked = self.ops.into_iter().enumerate().map(|(index, op)| {
            op.check()
                .map_err(|problem| operations::at("ops", index, problem))
        });
        checked.collect()
    }
}

/// What became of an operation.
enum Outcome {
    Read(Record),
    Written(u16, Option<Revision>),
    Failed(Problem),
}

/// Answers a batch.
pub(super) async fn answer(exchange: &mut Exchange<'_>) -> Result<Response<Body>, Problem> {
    if exchange.head.method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    let timeout = Query::parse(exchange.head.uri.query(), &["timeout_ms"])?.timeout()?;
    let once = exchange.once()?;
    let (request, _room): (BatchRequest, _) = operations::body(exchange, Op::Batch).await?;
    let checked = request.check()?;
    let mut run = Run {
        sender: &exchange.front.sender,
        once,
        deadline: clock::now() + timeout,
        outcomes: (0..checked.len()).map(|_| None).collect(),
        room: exchange.front.budget.reserve(0).ok_or_else(Problem::no_room)?,
    };
    let permitted = run.permitted(exchange, checked);
    run.all(permitted).await;
    let Run {
        outcomes, mut room, ..
    } = run;
    let mut out = Vec::with_capacity(64 * outcomes.len());
    out.extend_from_slice(b"{\"results\":[");
    for (index, outcome) in outcomes.into_iter().flatten().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(&mut out, &outcome, exchange);
    }
    out.extend_from_slice(b"]}\n");
    room.grow(out.len().saturating_sub(room.bytes()))
        .then_some(())
        .ok_or_else(Problem::no_room)?;
    let mut response = Response::new(Body::held(out.into(), room));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A batch under way.
struct Run<'a> {
    sender: &'a Sender,
    once: Option<Once>,
    deadline: Instant,
    /// One for each operation.
    outcomes: Vec<Option<Outcome>>,
    /// What the values read take.
    room: Reservation,
}

impl Run<'_> {
    /// The operations that the request may make, each with its place; the others have their outcome now.
    fn permitted(&mut self, exchange: &Exchange<'_>, operations: Vec<Checked>) -> Vec<(usize, Checked)> {
        let mut permitted = Vec::with_capacity(operations.len());
        for (index, operation) in operations.into_iter().enumerate() {
            let action = match &operation {
                Checked::Get(_) => Action::Read,
                Checked::Put { .. } | Checked::Delete { .. } => Action::Write,
            };
            match exchange.permit_key(action, operation.key().as_bytes()) {
                Ok(()) => permitted.push((index, operation)),
                Err(problem) => self.outcomes[index] = Some(Outcome::Failed(problem)),
            }
        }
        permitted
    }

    async fn all(&mut self, operations: Vec<(usize, Checked)>) {
        let mut waiting = by_key(operations).into_iter();
        let mut under_way = FuturesUnordered::new();
        let (sender, once, deadline) = (self.sender, self.once.clone(), self.deadline);
        let next = |mut line: Line| {
            let once = once.clone();
            async move {
                let outcome = match line.next() {
                    Some((index, operation)) => {
                        let once = once.map(|once| idempotency::of_operation(&once, index));
                        Some((index, carry_out(sender, operation, once, deadline).await))
                    }
                    None => None,
                };
                (line, outcome)
            }
        };
        for line in waiting.by_ref().take(CONCURRENCY) {
            under_way.push(next(line));
        }
        while let Some((line, outcome)) = under_way.next().await {
            match outcome {
                Some((index, outcome)) => {
                    self.outcomes[index] = Some(self.fit(outcome));
                    under_way.push(next(line));
                }
                None => under_way.extend(waiting.next().map(&next)),
            }
        }
    }

    /// What is read is told as long as the answer has room for it.
    fn fit(&mut self, outcome: Outcome) -> Outcome {
        let Outcome::Read(record) = &outcome else {
            return outcome;
        };
        let bytes = record.value.len();
        if self.room.bytes() + bytes > MAX_ANSWER_BYTES {
            return Outcome::Failed(Problem::new(
                Code::AnswerTooLarge,
                "the values of the batch are more than one answer holds: read this one by itself",
            ));
        }
        if !self.room.grow(bytes) {
            return Outcome::Failed(Problem::no_room());
        }
        outcome
    }
}

/// The operations of one key, each with its place in the batch.
type Line = std::vec::IntoIter<(usize, Checked)>;

fn by_key(operations: Vec<(usize, Checked)>) -> Vec<Line> {
    let mut at: HashMap<Key, usize> = HashMap::with_capacity(operations.len());
    let mut lines: Vec<Vec<(usize, Checked)>> = Vec::with_capacity(operations.len());
    for (index, operation) in operations {
        let line = *at.entry(operation.key().clone()).or_insert_with(|| {
            lines.push(Vec::with_capacity(1));
            lines.len() - 1
        });
        lines[line].push((index, operation));
    }
    lines.into_iter().map(Vec::into_iter).collect()
}

async fn carry_out(sender: &Sender, operation: Checked, once: Option<Once>, deadline: Instant) -> Outcome {
    let (key, condition, mutation) = match operation {
        Checked::Get(key) => return read(sender, key, deadline).await,
        Checked::Put {
            key,
            value,
            ttl_ms,
            condition,
        } => (key, condition, Mutation::Put { value, ttl_ms }),
        Checked::Delete { key, condition } => (key, condition, Mutation::Delete),
    };
    let mut write = Write::new(sender, key, condition, mutation).under(once);
    match sender.send(&mut write, deadline).await {
        Ok(WriteOutcome::Created(revision)) => Outcome::Written(201, Some(revision)),
        Ok(WriteOutcome::Replaced(revision)) => Outcome::Written(204, Some(revision)),
        Ok(WriteOutcome::Deleted(_) | WriteOutcome::WasAbsent | WriteOutcome::Committed(_)) => {
            Outcome::Written(204, None)
        }
        Ok(WriteOutcome::ConditionFailed(present)) => Outcome::Failed(Problem::precondition_failed(present)),
        Err(failed) => Outcome::Failed(failed.into()),
    }
}

async fn read(sender: &Sender, key: Key, deadline: Instant) -> Outcome {
    let mut get = Get::new(sender, key, Consistency::Linearizable);
    match sender.send(&mut get, deadline).await {
        Ok(answer) => match answer.record {
            Some(record) => Outcome::Read(record),
            None => Outcome::Failed(Problem::new(Code::NotFound, "the key does not exist")),
        },
        Err(failed) => Outcome::Failed(failed.into()),
    }
}

fn write(out: &mut Vec<u8>, outcome: &Outcome, exchange: &Exchange<'_>) {
    let status = match outcome {
        Outcome::Read(_) => 200,
        Outcome::Written(status, _) => *status,
        Outcome::Failed(problem) => problem.code.status().as_u16(),
    };
    out.extend_from_slice(format!("{{\"status\":{status}").as_bytes());
    let revision = match outcome {
        Outcome::Read(record) => {
            out.push(b',');
            operations::write_record(out, record);
            None
        }
        Outcome::Written(_, revision) => *revision,
        Outcome::Failed(problem) => problem.present,
    };
    if let Some(revision) = revision {
        out.push(b',');
        operations::write_revision(out, revision);
    }
    if let Outcome::Failed(problem) = outcome {
        out.extend_from_slice(b",\"error\":");
        out.extend_from_slice(&problem.to_json(&exchange.id));
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn operations_of_one_key_stand_in_one_line() {
        let get =
            |name: &'static str| Checked::Get(Key::new(Bytes::from_static(name.as_bytes())).expect("a key"));
        let operations = ["a", "b", "a", "c", "b"].map(get);
        let lines = by_key(operations.into_iter().enumerate().collect());
        let places: Vec<Vec<usize>> = lines
            .into_iter()
            .map(|line| line.map(|(index, _)| index).collect())
            .collect();
        assert_eq!(places, [vec![0, 2], vec![1, 4], vec![3]]);
    }
}
