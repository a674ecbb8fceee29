//! Operations that tell how they were carried out: where they went, what failed, and where the time was spent.
//!
//! They are the operations of [`crate::point`] under methods whose answers carry the store's part of the story; nobody
//! else pays for it.

use std::time::Duration;

use bytes::Bytes;
use holdfast_common::ids::StoreId;
use holdfast_common::net::Lane;
use holdfast_common::proto::kv::{ExplainWriteRequest, ExplainedGet, ExplainedWrite};
use holdfast_common::proto::{self, method};

use crate::directory::{Ask, Place};
use crate::point::{Get, Write};
use crate::range_cache::Route;
use crate::retry::Failure;
use crate::sender::{Attempt, Operation};

/// Attempts that are told; further ones are only counted.
const MAX_TOLD: usize = 32;

/// What became of the attempts of an operation.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// The first ones, in order.
    pub attempts: Vec<Told>,
    /// How many there were.
    pub count: usize,
    /// The route of the last one.
    pub route: Option<Route>,
}

/// An attempt.
#[derive(Debug)]
pub(crate) struct Told {
    /// The store that was asked; none if there was nowhere to go.
    pub store: Option<StoreId>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// How long it took.
    pub took: Duration,
}

impl Trail {
    fn add(&mut self, attempt: &Attempt<'_>) {
        self.count += 1;
        if let Some(choice) = attempt.choice {
            self.route = Some(Route::clone(&choice.route));
        }
        if self.attempts.len() < MAX_TOLD {
            self.attempts.push(Told {
                store: attempt.choice.map(|choice| choice.store),
                failure: attempt.failure,
                took: attempt.took,
            });
        }
    }

    /// Whether the first attempt knew where to go.
    pub(crate) fn was_hit(&self) -> bool {
        self.attempts.first().is_some_and(|first| first.store.is_some())
    }
}

/// A read that is explained.
pub(crate) struct ExplainGet {
    get: Get,
    /// What became of its attempts.
    pub trail: Trail,
}

impl ExplainGet {
    /// Explains a read.
    pub(crate) fn new(get: Get) -> Self {
        Self {
            get,
            trail: Trail::default(),
        }
    }
}

impl Operation for ExplainGet {
    type Answer = ExplainedGet;
    const WRITES: bool = false;
    const TRACED: bool = true;

    fn place(&self) -> Place<'_> {
        self.get.place()
    }

    fn method(&self) -> u16 {
        method::KV_EXPLAIN_GET
    }

    fn ask(&self) -> Ask {
        self.get.ask()
    }

    fn lane(&self) -> Lane {
        self.get.lane()
    }

    fn request(&mut self, route: &Route) -> Bytes {
        self.get.request(route)
    }

    fn attempted(&mut self, attempt: Attempt<'_>) {
        self.trail.add(&attempt);
    }
}

/// A write that is explained.
pub(crate) struct ExplainWrite<'a> {
    write: Write<'a>,
    /// What became of its attempts.
    pub trail: Trail,
}

impl<'a> ExplainWrite<'a> {
    /// Explains a write.
    pub(crate) fn new(write: Write<'a>) -> Self {
        Self {
            write,
            trail: Trail::default(),
        }
    }
}

impl Operation for ExplainWrite<'_> {
    type Answer = ExplainedWrite;
    const WRITES: bool = true;
    const TRACED: bool = true;

    fn place(&self) -> Place<'_> {
        self.write.place()
    }

    fn method(&self) -> u16 {
        method::KV_EXPLAIN_WRITE
    }

    fn ask(&self) -> Ask {
        self.write.ask()
    }

    fn lane(&self) -> Lane {
        self.write.lane()
    }

    fn request(&mut self, route: &Route) -> Bytes {
        let write = self.write.write_request(route);
        let once = self.write.once().cloned();
        proto::encode(&ExplainWriteRequest { write, once })
    }

    fn renumber(&mut self) {
        self.write.renumber();
    }

    fn attempted(&mut self, attempt: Attempt<'_>) {
        self.trail.add(&attempt);
    }

    fn accepts(&self, answer: &ExplainedWrite) -> bool {
        self.write.accepts(&answer.outcome)
    }
}
