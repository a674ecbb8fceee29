//! ReadIndex, coalesced: reads without a lease wait for one round that asks a quorum.
//!
//! While a round is under way, arriving reads gather for the next one: a round only vouches for reads that arrived before
//! it began. So there is one round at a time for a range, however many reads wait.

use std::sync::Arc;

use holdfast_common::clock::{self, Instant};
use holdfast_common::key::Key;
use holdfast_common::net::Reply;
use holdfast_common::proto;
use holdfast_common::proto::kv::{self, Error, GetAnswer, GetRequest, ScanAnswer, ScanRequest};
use parking_lot::Mutex;

use super::{point, scan};
use crate::metrics::{self, Op, Outcome, ReadPath};
use crate::replica::Replica;

/// When a reader that was turned away for too much waiting may come again, milliseconds.
const BUSY_RETRY_MS: u32 = 20;

/// A read that waits for a round.
pub(crate) enum Waiting {
    /// A point read.
    Get(GetRequest, Reply),
    /// A page of a scan.
    Scan(ScanRequest, Reply),
    /// A point read that is to be explained, and when it came.
    Explain(GetRequest, Reply, Instant),
}

impl Waiting {
    /// Whether it is of one key.
    pub(crate) fn is_get(&self) -> bool {
        matches!(self, Self::Get(..) | Self::Explain(..))
    }

    /// The key, if it is of one.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Self::Get(request, _) | Self::Explain(request, ..) => Some(&request.key),
            Self::Scan(..) => None,
        }
    }

    /// Answers with an error.
    pub(crate) fn refuse(self, error: &Error) {
        match self {
            Self::Get(_, reply) | Self::Explain(_, reply, _) => {
                metrics::ops(Op::Get, Outcome::of(error), 1);
                reply.send(proto::encode(&Err::<GetAnswer, _>(error)));
            }
            Self::Scan(_, reply) => {
                metrics::ops(Op::Scan, Outcome::of(error), 1);
                reply.send(proto::encode(&Err::<ScanAnswer, _>(error)));
            }
        }
    }
}

/// The reads of one replica that wait.
#[derive(Default)]
pub(crate) struct ReadRounds(Mutex<Gathering>);

#[derive(Default)]
struct Gathering {
    waiting: Vec<(Instant, Waiting)>,
    /// A task carries out rounds.
    running: bool,
}

impl ReadRounds {
    /// Whether nothing waits, and no round is under way.
    pub(crate) fn is_idle(&self) -> bool {
        !self.0.lock().running
    }
}

impl Replica {
    /// Lets a read wait for the next round; answers it at once when too many wait.
    pub(crate) fn join_round(self: &Arc<Self>, read: Waiting) {
        let mut gathering = self.rounds.0.lock();
        if gathering.waiting.len() >= self.site.waiting.items {
            drop(gathering);
            return read.refuse(&Error::Busy {
                retry_after_ms: BUSY_RETRY_MS,
            });
        }
        gathering.waiting.push((clock::now(), read));
        let is_first = !std::mem::replace(&mut gathering.running, true);
        drop(gathering);
        if is_first {
            tokio::spawn(rounds(self.clone()));
        }
    }
}

async fn rounds(replica: Arc<Replica>) {
    loop {
        let reads = {
            let mut gathering = replica.rounds.0.lock();
            if gathering.waiting.is_empty() {
                gathering.running = false;
                return;
            }
            std::mem::take(&mut gathering.waiting)
        };
        let confirmed = replica.confirm().await;
        if let Some((oldest, _)) = reads.first() {
            metrics::read_took(ReadPath::ReadIndex, oldest.elapsed());
        }
        let first_get = reads
            .iter()
            .find(|(_, read)| read.is_get())
            .map(|(since, _)| *since);
        for (_, read) in reads {
            match (&confirmed, read) {
                (Err(error), read) => read.refuse(error),
                (Ok(()), Waiting::Get(request, reply)) => point::answer(&replica, &request, 0, reply),
                (Ok(()), Waiting::Scan(request, reply)) => scan::start(&replica, request, 0, reply),
                (Ok(()), Waiting::Explain(request, reply, arrived)) => {
                    point::explain(&replica, &request, 0, kv::ReadPath::ReadIndex, arrived, reply);
                }
            }
        }
        if let Some(since) = first_get.filter(|_| confirmed.is_ok()) {
            metrics::op_took(Op::Get, since.elapsed());
        }
    }
}
