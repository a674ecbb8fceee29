//! Many keys without their values: counting them (`GET /v1/kv?count=true`) and removing them (`DELETE /v1/kv`).
//!
//! Both walk the keys a page at a time and hold one page in memory. The answer is a number and, when the time was over
//! first, a cursor to go on from; or a stream that tells how far it is after each page. Removing is not atomic: each key of
//! a page is removed by itself, and one that is written meanwhile may stay or go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use holdfast_common::access::Action;
use holdfast_common::clock::{self, Instant};
use holdfast_common::limits::MAX_SCAN_PAGE_BYTES;
use holdfast_common::proto::kv::{Condition, Mutation, Row, WriteOutcome};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;

use super::body::Body;
use super::listing::NDJSON;
use super::permit::Leave;
use super::problem::{Code, Problem};
use super::request_id::RequestId;
use super::{Exchange, Front};
use crate::metrics::{Op, Rejection};
use crate::point::Write;
use crate::scan::{Plan, Walk};
use crate::sender::Failed;

/// Removals of one request that are under way at a time.
const CONCURRENCY: usize = 128;

/// What is done with the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Count,
    Delete,
}

impl Task {
    /// What the number is called.
    fn member(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Delete => "deleted",
        }
    }
}

/// Keys being counted or removed.
pub(super) struct Tally {
    leave: Leave,
    front: Arc<Front>,
    task: Task,
    walk: Walk,
    done: u64,
    /// For all of an answer, and for each page of a stream.
    timeout: Duration,
    id: RequestId,
    _permit: OwnedSemaphorePermit,
}

impl Tally {
    /// Begins, if there is a place for it.
    pub(super) fn begin(
        exchange: &Exchange<'_>,
        task: Task,
        plan: Plan,
        timeout: Duration,
    ) -> Result<Self, Problem> {
        let action = match task {
            Task::Count => Action::Read,
            Task::Delete => Action::Write,
        };
        exchange.permit_span(action, plan.span.as_ref())?;
        let front = exchange.front;
        let permit = front.scans.clone().try_acquire_owned().map_err(|_| {
            front.metrics.rejected(Rejection::Scans);
            Problem::new(Code::Overloaded, "too many scans are running")
        })?;
        Ok(Self {
            leave: Leave::of(exchange),
            front: front.clone(),
            task,
            walk: Walk::new(Plan {
                keys_only: true,
                ..plan
            }),
            done: 0,
            timeout,
            id: exchange.id.clone(),
            _permit: permit,
        })
    }

    /// Answers when all is done or the time is over, whichever comes first.
    pub(super) async fn bounded(mut self) -> Result<Response<Body>, Problem> {
        let deadline = clock::now() + self.timeout;
        loop {
            self.leave.holds()?;
            match self.step(deadline).await {
                Ok(()) if self.walk.is_over() || clock::now() >= deadline => break,
                Ok(()) => {}
                // What was done is told, and where to go on: the time was over within a page.
                Err(failed) if self.done > 0 && is_late(&failed, deadline) => break,
                Err(failed) => return Err(failed.into()),
            }
        }
        Ok(typed(Body::full(self.told(true)), "application/json"))
    }

    /// Answers with a line after each page. The first is read before the answer begins, so that what fails at once fails
    /// with a status.
    pub(super) async fn streamed(mut self) -> Result<Response<Body>, Problem> {
        self.step(clock::now() + self.timeout).await?;
        let lines = stream::unfold((Some(self), true), |(tally, is_first)| async move {
            let mut tally = tally?;
            let stepped = match tally.leave.holds() {
                Ok(()) if is_first => Ok(()),
                Ok(()) => tally
                    .step(clock::now() + tally.timeout)
                    .await
                    .map_err(Problem::from),
                Err(problem) => Err(problem),
            };
            let (line, is_last) = tally.line(stepped);
            tally.front.metrics.response_bytes(Op::Scan, line.len());
            Some((line, ((!is_last).then_some(tally), false)))
        });
        Ok(typed(Body::stream(lines), NDJSON))
    }

    /// The line after a page, and whether it is the last.
    fn line(&self, stepped: Result<(), Problem>) -> (Bytes, bool) {
        match stepped {
            Ok(()) => {
                let is_last = self.walk.is_over();
                (self.told(is_last).into(), is_last)
            }
            Err(problem) => {
                let error = problem.to_json(&self.id);
                let line = [b"{\"error\":", &error[..], b"}\n"].concat();
                (line.into(), true)
            }
        }
    }

    /// Reads a page, and removes its keys if that is the task.
    async fn step(&mut self, deadline: Instant) -> Result<(), Failed> {
        let front = self.front.clone();
        let before = self.walk.clone();
        let rows = self
            .walk
            .next_page(&front.sender, MAX_SCAN_PAGE_BYTES, deadline)
            .await?;
        match self.task {
            Task::Count => self.done += rows.len() as u64,
            Task::Delete => {
                if let Err(failed) = self.remove(rows, deadline).await {
                    self.walk = before;
                    return Err(failed);
                }
            }
        }
        Ok(())
    }

    async fn remove(&mut self, rows: Vec<Row>, deadline: Instant) -> Result<(), Failed> {
        let front = self.front.clone();
        let removals = rows.into_iter().map(|row| {
            let sender = &front.sender;
            async move {
                let mut write = Write::new(sender, row.key, Condition::None, Mutation::Delete);
                sender.send(&mut write, deadline).await
            }
        });
        let mut removals = stream::iter(removals).buffer_unordered(CONCURRENCY);
        let mut first_failure = None;
        while let Some(removed) = removals.next().await {
            match removed {
                Ok(outcome) => self.done += u64::from(matches!(outcome, WriteOutcome::Deleted(_))),
                Err(failed) => first_failure = first_failure.or(Some(failed)),
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// The number; and at the end, where to go on.
    fn told(&self, is_last: bool) -> String {
        let (member, done) = (self.task.member(), self.done);
        if !is_last {
            return format!("{{\"{member}\":{done}}}\n");
        }
        // A cursor's alphabet needs no escapes.
        let cursor = self
            .walk
            .cursor()
            .map(|cursor| format!("\"{}\"", cursor.encode()));
        let cursor = cursor.unwrap_or_else(|| "null".to_owned());
        format!("{{\"{member}\":{done},\"next_cursor\":{cursor}}}\n")
    }
}

/// Whether it failed because the time was over, and nothing else is wrong.
fn is_late(failed: &Failed, deadline: Instant) -> bool {
    failed.code == crate::retry::Code::Unavailable && clock::now() >= deadline
}

fn typed(body: Body, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
