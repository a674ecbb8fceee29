//! Sends an operation to the store that should answer it, again and again until one does or [`retry::decide`] gives up.
//!
//! An [`Operation`] says what to ask and where its keys lie. The sender finds the store, makes an attempt, teaches the
//! [`Directory`] what a refusal tells, and does as the decision says. There is no task per request: all of it is one
//! future, polled by the client's connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::StoreId;
use holdfast_common::key::Span;
use holdfast_common::net::{self, Lane};
use holdfast_common::proto;
use holdfast_common::proto::kv;
use serde::de::DeserializeOwned;

use crate::directory::{Ask, Choice, Directory, Missing, Place};
use crate::metrics::{Lookup, Metrics};
use crate::range_cache::Route;
use crate::retry::{self, Code, Decision, Failure, Refresh, Standing};
use crate::sessions::Sessions;

/// One operation on one range, in a form that can be sent to wherever its range turns out to be.
pub(crate) trait Operation {
    /// What a store answers.
    type Answer: DeserializeOwned;

    /// Whether it changes anything.
    const WRITES: bool;

    /// Where its keys lie.
    fn place(&self) -> Place<'_>;

    /// The method of the wire.
    fn method(&self) -> u16;

    /// Which replica may answer.
    fn ask(&self) -> Ask;

    /// By which lane it travels.
    fn lane(&self) -> Lane;

    /// The request, as it is put to the range of `route`.
    fn request(&mut self, route: &Route) -> Bytes;

    /// Makes the next request go out under a new number.
    fn renumber(&mut self) {}

    /// Whether it wants to be told of its attempts.
    const TRACED: bool = false;

    /// An attempt ended after so long, well or with a failure. Only called if [`Self::TRACED`].
    fn attempted(&mut self, attempt: Attempt<'_>) {
        let _ = attempt;
    }

    /// Whether an answer is a possible one to the last request.
    fn accepts(&self, answer: &Self::Answer) -> bool {
        let _ = answer;
        true
    }
}

/// What became of one attempt.
pub(crate) struct Attempt<'a> {
    /// Where it went; none if there was nowhere to go.
    pub choice: Option<&'a Choice>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// How long it took.
    pub took: Duration,
}

/// An operation failed for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub(crate) struct Failed {
    /// How.
    pub code: Code,
    /// What became of the last attempt.
    pub failure: Failure,
}

/// See the module.
pub(crate) struct Sender {
    directory: Arc<Directory>,
    sessions: Sessions,
    metrics: Arc<Metrics>,
    attempt_timeout: Duration,
    /// Spreads reads that any replica may answer.
    turn: AtomicUsize,
}

impl Sender {
    /// A sender that gives the first attempt of a request `attempt_timeout`, and twice as much after each that got no
    /// answer in time.
    pub(crate) fn new(directory: Arc<Directory>, metrics: Arc<Metrics>, attempt_timeout: Duration) -> Self {
        Self {
            directory,
            sessions: Sessions::new(),
            metrics,
            attempt_timeout,
            turn: AtomicUsize::new(0),
        }
    }

    /// The names of the writes that go through here.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// See [`Directory::parts`].
    pub(crate) fn parts(&self, span: &Span, reverse: bool, most: usize) -> Vec<Span> {
        self.directory.parts(span, reverse, most)
    }

    /// Which replica to ask for a read of this consistency.
    pub(crate) fn ask_for(&self, consistency: kv::Consistency) -> Ask {
        match consistency {
            kv::Consistency::Linearizable => Ask::Leader,
            kv::Consistency::Stale => Ask::Any(self.turn.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Gets an answer to `operation` by `deadline`.
    pub(crate) async fn send<O: Operation>(
        &self,
        operation: &mut O,
        deadline: Instant,
    ) -> Result<O::Answer, Failed> {
        let mut course = Course::default();
        loop {
            let choice = self
                .directory
                .choose(operation.place(), operation.ask(), &course.tried);
            self.metrics
                .looked_up(if choice.is_ok() { Lookup::Hit } else { Lookup::Miss });
            let begun = O::TRACED.then(clock::now);
            let ended = match &choice {
                Ok(choice) => self.attempt(operation, choice, &course, deadline).await,
                Err(Missing::Route) => Err(Failure::NoRoute),
                Err(Missing::Store) => Err(Failure::NoAddress),
            };
            if let Some(begun) = begun {
                operation.attempted(Attempt {
                    choice: choice.as_ref().ok(),
                    failure: ended.as_ref().err().copied(),
                    took: begun.elapsed(),
                });
            }
            let failure = match ended {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let news = self.look_again(operation, choice.ok().as_ref(), failure, &mut course);
            course.attempts += 1;
            course.unanswered += u32::from(failure == Failure::NoAnswerInTime);
            course.may_be_applied |= O::WRITES && failure.may_have_applied();
            let left = deadline.saturating_duration_since(clock::now());
            let standing = Standing {
                attempts: course.attempts,
                left,
                may_be_applied: course.may_be_applied,
                news,
            };
            match retry::decide(failure, standing) {
                Decision::Fail(code) => return Err(Failed { code, failure }),
                Decision::Retry { after, refresh } => {
                    self.metrics.retried(failure);
                    self.prepare(operation, after, refresh, deadline).await;
                }
            }
        }
    }

    async fn attempt<O: Operation>(
        &self,
        operation: &mut O,
        choice: &Choice,
        course: &Course,
        deadline: Instant,
    ) -> Result<O::Answer, Failure> {
        let request = operation.request(&choice.route);
        let patience = self.attempt_timeout * (1 << course.unanswered.min(8));
        let deadline = deadline.min(clock::now() + patience);
        let answered = choice
            .peers
            .by(operation.lane())
            .call(operation.method(), request, deadline)
            .await;
        let answer = answered.map_err(|error| transport_failure(choice, &error))?;
        match proto::decode::<Result<O::Answer, kv::Error>>(&answer) {
            Ok(Ok(answer)) if operation.accepts(&answer) => Ok(answer),
            Ok(Ok(_)) => {
                tracing::error!(store = %choice.store, "a store's answer contradicts the request");
                Err(Failure::Nonsense)
            }
            Ok(Err(error)) => Err(self.refused(choice, &error)),
            Err(error) => {
                tracing::error!(store = %choice.store, %error, "a store's answer can't be read");
                Err(Failure::Nonsense)
            }
        }
    }

    fn refused(&self, choice: &Choice, error: &kv::Error) -> Failure {
        match error {
            kv::Error::Invalid(reason) => {
                tracing::error!(store = %choice.store, range = %choice.route.descriptor.id, reason, "invalid request");
            }
            _ => {
                tracing::debug!(store = %choice.store, range = %choice.route.descriptor.id, %error, "refused")
            }
        }
        self.directory.learn_refusal(choice, error);
        Failure::from(error)
    }

    /// After a failure: whether the next attempt would go somewhere that has not been asked in this round. A round ends
    /// when every replica has been asked.
    fn look_again<O: Operation>(
        &self,
        operation: &O,
        asked: Option<&Choice>,
        failure: Failure,
        course: &mut Course,
    ) -> bool {
        let Some(asked) = asked else {
            course.tried.clear();
            return false;
        };
        if !failure.points_elsewhere() {
            return false;
        }
        if matches!(
            failure,
            Failure::NotLeader | Failure::StaleEpoch | Failure::NoSuchRange
        ) {
            self.metrics.looked_up(Lookup::Stale);
        } else {
            self.directory.suspect(asked);
        }
        course.tried.push(asked.store);
        match self.directory.choose(operation.place(), operation.ask(), &[]) {
            Ok(next) if next.route.target() != asked.route.target() => {
                course.tried.clear();
                true
            }
            Ok(_) => {
                let others = self
                    .directory
                    .choose(operation.place(), operation.ask(), &course.tried)
                    .is_ok();
                if !others {
                    course.tried.clear();
                }
                others
            }
            Err(_) => false,
        }
    }

    async fn prepare<O: Operation>(
        &self,
        operation: &mut O,
        after: Duration,
        refresh: Refresh,
        deadline: Instant,
    ) {
        match refresh {
            Refresh::Number => operation.renumber(),
            Refresh::Map => self.wait_for_route(operation.place(), deadline).await,
            Refresh::Route => {}
        }
        if !after.is_zero() {
            clock::sleep_until(deadline.min(clock::now() + clock::jittered(after))).await;
        }
    }

    /// Waits until something is learned that gives `place` a route, at most until the deadline.
    async fn wait_for_route(&self, place: Place<'_>, deadline: Instant) {
        let mut changes = self.directory.changes();
        while !self.directory.has_route(place) {
            // An error is the deadline: the directory, which this borrows, holds the other end.
            if !matches!(clock::timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// What a request has been through.
#[derive(Debug, Default)]
struct Course {
    attempts: u32,
    /// Attempts that got no answer in time.
    unanswered: u32,
    may_be_applied: bool,
    /// Stores that did not help in this round.
    tried: Vec<StoreId>,
}

fn transport_failure(choice: &Choice, error: &net::Error) -> Failure {
    let failure = Failure::from(error);
    if failure == Failure::Invalid {
        tracing::error!(store = %choice.store, %error, "a store can't take a request of this router");
    } else {
        tracing::debug!(store = %choice.store, %error, "no answer");
    }
    failure
}
