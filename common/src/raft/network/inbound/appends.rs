//! Appends: handed to the group's core on the task that reads, in the order of their frames, and answered from one task
//! for each connection, as their entries become durable.
//!
//! An answer names its request, so answers need no order; the sender puts them back into it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use dashmap::DashMap;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::raft::AppendEntriesRequest;
use openraft::storage::RaftStateMachine;
use tokio::sync::mpsc;
use tokio::task::unconstrained;

use super::respond;
use crate::net::{ConnId, Reply};
use crate::proto::raft::{Appended, Refusal};
use crate::raft::network::convert;
use crate::raft::types::{Raft, SnapshotData, TypeConfig};

/// Appends of one connection that may wait for its task to take them over. The transport bounds those that it has taken,
/// in number and bytes, for each is a request without an answer.
const MAX_WAITING: usize = 4096;

/// An append that is with its group's core. It ends by answering.
type UnderWay = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks that answer appends, by connection.
#[derive(Default)]
pub(super) struct Appends {
    conns: DashMap<ConnId, mpsc::Sender<UnderWay>>,
}

impl Appends {
    /// Has an append done and answered; gives the reply back, and does nothing, when too many wait.
    pub(super) fn submit<SM>(
        &self,
        conn: ConnId,
        raft: Raft<SM>,
        rpc: AppendEntriesRequest<TypeConfig>,
        reply: Reply,
    ) -> Result<(), Reply>
    where
        SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
    {
        let Ok(place) = self.task(conn).try_reserve_owned() else {
            return Err(reply);
        };
        // Unconstrained: were the reading task's budget used up, the first poll would not reach the core, and a later
        // append would overtake this one.
        let mut under_way: UnderWay = Box::pin(unconstrained(async move {
            let answer = raft.append_entries(rpc).await.map(convert::appended);
            respond::<Appended>(reply, &answer.map_err(|_| Refusal::Stopped));
        }));
        // The first poll queues the append at the core. The task polls again, to be woken when it is durable.
        if under_way.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending {
            place.send(under_way);
        }
        Ok(())
    }

    /// The connection is gone: its task lets go of everything and ends.
    pub(super) fn closed(&self, conn: ConnId) {
        self.conns.remove(&conn);
    }

    fn task(&self, conn: ConnId) -> mpsc::Sender<UnderWay> {
        if let Some(task) = self.conns.get(&conn) {
            return task.clone();
        }
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        tokio::spawn(answer_all(receiver));
        self.conns.insert(conn, sender.clone());
        sender
    }
}

/// Drives appends to their answers until the connection is gone.
async fn answer_all(mut incoming: mpsc::Receiver<UnderWay>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            next = incoming.recv() => match next {
                Some(append) => under_way.push(append),
                None => return,
            },
            Some(()) = under_way.next() => {}
        }
    }
}
