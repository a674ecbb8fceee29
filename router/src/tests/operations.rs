//! What the cluster in memory does beside plain writes: clients' names for writes, and transactions.

use bytes::Bytes;
use holdfast_common::ids::ReplicaId;
use holdfast_common::proto::kv::{
    self, Act, Committed, Condition, ExplainWriteRequest, ExplainedGet, ExplainedWrite, GetRequest, Mutation,
    OnceRequest, ReadPath, Record, Target, Txn, WriteOutcome,
};
use holdfast_common::revision::Revision;

use super::cluster::{State, Stored};

/// What a write asks for.
pub(super) type Asked = (Condition, Mutation);

pub(super) fn holds(condition: &Condition, present: Option<&Record>) -> bool {
    match condition {
        Condition::None => true,
        Condition::Absent => present.is_none(),
        Condition::Exists => present.is_some(),
        Condition::Revision(wanted) => present.is_some_and(|record| record.revision == *wanted),
        Condition::Value(wanted) => present.is_some_and(|record| record.value == *wanted),
    }
}

impl Stored {
    pub(super) fn explain_get(&self, state: &State, request: GetRequest) -> Result<ExplainedGet, kv::Error> {
        Ok(ExplainedGet {
            answer: self.get(state, request)?,
            path: ReadPath::Lease,
            replica: ReplicaId(11),
            applied: 7,
            wait_us: 1,
            read_us: 2,
        })
    }

    pub(super) fn explain_write(
        &self,
        state: &mut State,
        request: ExplainWriteRequest,
    ) -> Result<ExplainedWrite, kv::Error> {
        let ExplainWriteRequest { write, once } = request;
        let outcome = match once {
            Some(once) => self.write_once(state, OnceRequest { write, once }),
            None => self.write(state, write),
        };
        Ok(ExplainedWrite {
            outcome: outcome?,
            replica: ReplicaId(11),
            writes_in_entry: 1,
            queue_us: 3,
            commit_us: 4,
        })
    }

    pub(super) fn write_once(
        &self,
        state: &mut State,
        request: OnceRequest,
    ) -> Result<WriteOutcome, kv::Error> {
        let OnceRequest { write, once } = request;
        let name = (write.key.as_bytes().clone(), once.token);
        let asked = (write.condition.clone(), write.mutation.clone());
        match state.tokens.get(&name) {
            Some((known, outcome)) if *known == asked => return Ok(outcome.clone()),
            Some(_) => return Err(kv::Error::TokenReused),
            None => {}
        }
        let outcome = self.write(state, write)?;
        state.tokens.insert(name, (asked, outcome.clone()));
        Ok(outcome)
    }

    pub(super) fn transact(
        &self,
        state: &mut State,
        target: Target,
        txn: &Txn,
    ) -> Result<WriteOutcome, kv::Error> {
        let range = state
            .ranges
            .iter()
            .find(|range| range.descriptor.id == target.range);
        let span = range.expect("it was checked").descriptor.span.clone();
        if !txn.keys().all(|key| span.contains(key.as_ref())) {
            return Err(kv::Error::CrossRange);
        }
        let held = txn
            .conditions
            .iter()
            .all(|(key, condition)| holds(condition, state.rows.get(key.as_bytes())));
        let branch = txn.branch(held);
        let reads = branch
            .iter()
            .filter(|action| action.act == Act::Get)
            .map(|action| state.rows.get(action.key.as_bytes()).cloned())
            .collect();
        state.last_revision += 1;
        let revision = Revision(state.last_revision);
        for action in branch {
            let key: Bytes = action.key.as_bytes().clone();
            match &action.act {
                Act::Put { value, .. } => drop(state.rows.insert(
                    key,
                    Record {
                        revision,
                        expires_ms: 0,
                        value: value.clone(),
                    },
                )),
                Act::Delete => drop(state.rows.remove(&key)),
                Act::Get => {}
            }
        }
        state.applied += 1;
        Ok(WriteOutcome::Committed(Box::new(Committed {
            held,
            revision,
            reads,
        })))
    }
}
