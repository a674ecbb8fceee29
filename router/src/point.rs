//! Operations on one key: reading it, and writing or removing it.

use bytes::Bytes;
use holdfast_common::key::Key;
use holdfast_common::net::Lane;
use holdfast_common::proto::kv::{
    Condition, Consistency, GetAnswer, GetRequest, Mutation, WriteOutcome, WriteRequest,
};
use holdfast_common::proto::{self, method};

use crate::directory::{Ask, Place};
use crate::range_cache::Route;
use crate::sender::{Operation, Sender};
use crate::sessions::{Sessions, Ticket};

/// A value from this size on, bytes, takes the bulk lane, so that small requests do not wait behind it.
const BULK_BYTES: usize = 64 * 1024;

/// Bytes of a request beside its key and value, at most.
const ENVELOPE_BYTES: usize = 64;

/// Reads a key.
pub(crate) struct Get {
    key: Key,
    consistency: Consistency,
    ask: Ask,
}

impl Get {
    /// A read of `key` through `sender`.
    pub(crate) fn new(sender: &Sender, key: Key, consistency: Consistency) -> Self {
        Self {
            key,
            consistency,
            ask: sender.ask_for(consistency),
        }
    }
}

impl Operation for Get {
    type Answer = GetAnswer;
    const METHOD: u16 = method::KV_GET;
    const WRITES: bool = false;

    fn place(&self) -> Place<'_> {
        Place::At(self.key.as_bytes())
    }

    fn ask(&self) -> Ask {
        self.ask
    }

    fn lane(&self) -> Lane {
        Lane::Fast
    }

    fn request(&mut self, route: &Route) -> Bytes {
        let request = GetRequest {
            target: route.target(),
            consistency: self.consistency,
            key: self.key.clone(),
        };
        proto::encode_sized(&request, self.key.as_bytes().len() + ENVELOPE_BYTES)
    }
}

/// Writes or removes a key.
pub(crate) struct Write<'a> {
    sessions: &'a Sessions,
    /// The write's name, from its first attempt on. It is finished when the write is dropped.
    ticket: Option<Ticket<'a>>,
    key: Key,
    condition: Condition,
    mutation: Mutation,
}

impl<'a> Write<'a> {
    /// A write through `sender`.
    pub(crate) fn new(sender: &'a Sender, key: Key, condition: Condition, mutation: Mutation) -> Self {
        Self {
            sessions: sender.sessions(),
            ticket: None,
            key,
            condition,
            mutation,
        }
    }

    fn value_len(&self) -> usize {
        let condition = if let Condition::Value(value) = &self.condition {
            value.len()
        } else {
            0
        };
        let mutation = if let Mutation::Put { value, .. } = &self.mutation {
            value.len()
        } else {
            0
        };
        condition + mutation
    }
}

impl Operation for Write<'_> {
    type Answer = WriteOutcome;
    const METHOD: u16 = method::KV_WRITE;
    const WRITES: bool = true;

    fn place(&self) -> Place<'_> {
        Place::At(self.key.as_bytes())
    }

    fn ask(&self) -> Ask {
        Ask::Leader
    }

    fn lane(&self) -> Lane {
        if self.value_len() < BULK_BYTES {
            Lane::Fast
        } else {
            Lane::Bulk
        }
    }

    fn request(&mut self, route: &Route) -> Bytes {
        let sessions = self.sessions;
        let name = self
            .ticket
            .get_or_insert_with(|| sessions.begin(route.descriptor.id))
            .name();
        let request = WriteRequest {
            target: route.target(),
            session: name.session,
            sequence: name.sequence,
            finished_below: name.finished_below,
            key: self.key.clone(),
            condition: self.condition.clone(),
            mutation: self.mutation.clone(),
        };
        proto::encode_sized(
            &request,
            self.key.as_bytes().len() + self.value_len() + ENVELOPE_BYTES,
        )
    }

    fn renumber(&mut self) {
        self.ticket = None;
    }

    fn accepts(&self, outcome: &WriteOutcome) -> bool {
        match outcome {
            WriteOutcome::Created(_) | WriteOutcome::Replaced(_) => {
                matches!(self.mutation, Mutation::Put { .. })
            }
            WriteOutcome::Deleted(_) | WriteOutcome::WasAbsent => self.mutation == Mutation::Delete,
            WriteOutcome::ConditionFailed(_) => self.condition != Condition::None,
        }
    }
}
