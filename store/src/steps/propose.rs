//! Putting a command that a step asks for into the log, in the term that the step was begun in or not at all.

use holdfast_common::proto;
use holdfast_common::proto::placement::StepError;
use holdfast_common::raft::types::{Callback, Command as Encoded, LeaderId, TypeConfig};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResult;
use openraft::vote::RaftLeaderId;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::step_error;
use crate::command::Command;
use crate::metrics::Cause;
use crate::replica::Replica;

impl Replica {
    /// Proposes `command` and waits until this replica has applied it: its position in the log and the answer. `settled` is
    /// called when it was applied or certainly will not be, even if nobody waits any more.
    ///
    /// # Errors
    /// It was not, or may not have been, applied.
    pub(crate) async fn propose_in<A: DeserializeOwned>(
        &self,
        term: u64,
        command: &Command,
        settled: impl FnOnce() + Send + 'static,
    ) -> Result<(u64, A), StepError> {
        self.wake(Cause::Step);
        let (tell, outcome) = oneshot::channel();
        let callback = Callback::new(move |result: ClientWriteResult<TypeConfig>| {
            if matches!(result, Ok(_) | Err(ClientWriteError::ForwardToLeader(_))) {
                settled();
            }
            let _ = tell.send(result);
        });
        let leader = LeaderId::new(term, self.id).to_committed();
        let sent = self
            .raft
            .write(Encoded(command.encode()))
            .with_leader(leader)
            .responder(callback)
            .await;
        sent.map_err(|fatal| step_error(self.range, RaftError::Fatal(fatal)))?;
        match outcome.await {
            Err(_) => Err(StepError::Busy("the replica is stopping".to_owned())),
            Ok(Err(error)) => Err(step_error(self.range, RaftError::APIError(error))),
            Ok(Ok(response)) => match proto::decode(&response.data.0) {
                Ok(answer) => Ok((response.log_id.index, answer)),
                Err(error) => Err(StepError::Busy(format!("the answer does not decode: {error}"))),
            },
        }
    }
}
