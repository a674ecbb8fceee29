//! Operations that go by one key: reading it, writing or removing it, and transactions of a range.

use bytes::Bytes;
use holdfast_common::key::Key;
use holdfast_common::net::Lane;
use holdfast_common::proto::kv::{
    Act, Condition, Consistency, GetAnswer, GetRequest, Mutation, Once, OnceRequest, Txn, WriteOutcome,
    WriteRequest,
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

/// What a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// What the read must see.
    pub consistency: Consistency,
    /// How far a stale answer may lag behind at most, milliseconds. Beyond it the leader is asked.
    pub max_staleness_ms: Option<u64>,
}

impl Freshness {
    /// Everything that was acknowledged.
    pub(crate) const LINEARIZABLE: Self = Self {
        consistency: Consistency::Linearizable,
        max_staleness_ms: None,
    };

    /// Whether an answer lags behind too far.
    pub(crate) fn is_exceeded_by(self, staleness_ms: u64) -> bool {
        self.max_staleness_ms.is_some_and(|most| staleness_ms > most)
    }
}

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
    const WRITES: bool = false;

    fn place(&self) -> Place<'_> {
        Place::At(self.key.as_bytes())
    }

    fn method(&self) -> u16 {
        method::KV_GET
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
    /// The client's name for it.
    once: Option<Once>,
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
            once: None,
        }
    }

    /// The same write under a client's name, if it gave one.
    pub(crate) fn under(mut self, once: Option<Once>) -> Self {
        self.once = once;
        self
    }

    /// The client's name for it.
    pub(crate) fn once(&self) -> Option<&Once> {
        self.once.as_ref()
    }

    /// The write, as it is put to the range of `route`.
    pub(crate) fn write_request(&mut self, route: &Route) -> WriteRequest {
        let sessions = self.sessions;
        let name = self
            .ticket
            .get_or_insert_with(|| sessions.begin(route.descriptor.id))
            .name();
        WriteRequest {
            target: route.target(),
            session: name.session,
            sequence: name.sequence,
            finished_below: name.finished_below,
            key: self.key.clone(),
            condition: self.condition.clone(),
            mutation: self.mutation.clone(),
        }
    }

    fn value_len(&self) -> usize {
        let mutation = match &self.mutation {
            Mutation::Put { value, .. } => value.len(),
            Mutation::Delete => 0,
            Mutation::Txn(txn) => txn_len(txn),
        };
        condition_len(&self.condition) + mutation
    }
}

impl Operation for Write<'_> {
    type Answer = WriteOutcome;
    const WRITES: bool = true;

    fn place(&self) -> Place<'_> {
        Place::At(self.key.as_bytes())
    }

    fn method(&self) -> u16 {
        if self.once.is_some() {
            method::KV_WRITE_ONCE
        } else {
            method::KV_WRITE
        }
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
        let request = self.write_request(route);
        let size = self.key.as_bytes().len() + self.value_len() + ENVELOPE_BYTES;
        match &self.once {
            None => proto::encode_sized(&request, size),
            Some(once) => {
                let (write, once) = (request, once.clone());
                let size = size + ENVELOPE_BYTES + once.token.len();
                proto::encode_sized(&OnceRequest { write, once }, size)
            }
        }
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
            WriteOutcome::Committed(committed) => match &self.mutation {
                Mutation::Txn(txn) => {
                    let branch = txn.branch(committed.held).iter();
                    branch.filter(|action| !action.act.writes()).count() == committed.reads.len()
                }
                Mutation::Put { .. } | Mutation::Delete => false,
            },
        }
    }
}

fn condition_len(condition: &Condition) -> usize {
    match condition {
        Condition::Value(value) => value.len(),
        Condition::None | Condition::Absent | Condition::Exists | Condition::Revision(_) => 0,
    }
}

/// Bytes of a transaction on the wire, about.
fn txn_len(txn: &Txn) -> usize {
    let keys = txn.keys().map(|key| key.as_bytes().len() + 24).sum::<usize>();
    let conditions = txn
        .conditions
        .iter()
        .map(|(_, condition)| condition_len(condition));
    let values = txn.actions().map(|action| match &action.act {
        Act::Put { value, .. } => value.len(),
        Act::Delete | Act::Get => 0,
    });
    keys + conditions.sum::<usize>() + values.sum::<usize>()
}
