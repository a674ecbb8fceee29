//! Heartbeats of all groups that two processes share, gathered into one message.
//!
//! A thousand groups with a heartbeat every 200 ms would send five thousand messages a second to a peer, and as many
//! answers. Instead their heartbeats wait a moment for each other. The moment grows with the number of groups, up to
//! [`RaftTimings::heartbeat_gather`](crate::raft::network::RaftTimings::heartbeat_gather): where there are few there is
//! little to gather, and a read that has to confirm its leader's lease goes this way too and should not wait. A
//! heartbeat after a silence leaves at once.
//!
//! The task that gathers lives while there is something to send.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::metrics::Histogram;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Shared;
use super::failure::Failure;
use crate::ids::StoreId;
use crate::net::Lane;
use crate::proto::raft::{Appended, Beat, Heartbeats, HeartbeatsAnswer, MAX_BEATS};
use crate::proto::{self, DecodeError, method};
use crate::raft::network::metrics;
use crate::{clock, net};

/// How much longer heartbeats wait for each group that shares the link.
const GATHER_PER_GROUP: Duration = Duration::from_micros(200);

/// Most heartbeats that wait for one peer. A group has one under way, so this is beyond any number of groups.
const MAX_WAITING: usize = 16 * MAX_BEATS;

type Answer = Result<Appended, Failure>;

/// The links of a process, one for each peer that any of its groups leads a replica on.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<StoreId, Weak<Link>>>);

/// A group's way to a peer, by the link that all share.
pub(super) struct BeatLine {
    link: Arc<Link>,
    shared: Arc<Shared>,
}

/// The heartbeats for one peer.
struct Link {
    store: StoreId,
    /// Lines that use it.
    lines: AtomicU32,
    queue: Mutex<Queue>,
    rtt: Histogram,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task sends what waits.
    gathering: bool,
}

struct Waiting {
    beat: Beat,
    answer: oneshot::Sender<Answer>,
}

impl BeatLine {
    /// A line to `store`.
    pub(super) fn to(shared: &Arc<Shared>, store: StoreId) -> Self {
        let mut links = shared.heartbeats.0.lock();
        let link = links.get(&store).and_then(Weak::upgrade).unwrap_or_else(|| {
            links.retain(|_, link| link.strong_count() > 0);
            let link = Arc::new(Link::new(store));
            links.insert(store, Arc::downgrade(&link));
            link
        });
        link.lines.fetch_add(1, Ordering::Relaxed);
        Self {
            link,
            shared: shared.clone(),
        }
    }

    /// Has a heartbeat sent soon.
    pub(super) fn push(&self, beat: Beat) -> Result<oneshot::Receiver<Answer>, Failure> {
        let (answer, receiver) = oneshot::channel();
        let mut queue = self.link.queue.lock();
        if queue.waiting.len() >= MAX_WAITING {
            return Err(Failure::TooManyBeats);
        }
        queue.waiting.push(Waiting { beat, answer });
        if !std::mem::replace(&mut queue.gathering, true) {
            drop(queue);
            tokio::spawn(self.link.clone().gather(self.shared.clone()));
        }
        Ok(receiver)
    }
}

impl Drop for BeatLine {
    fn drop(&mut self) {
        self.link.lines.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    fn new(store: StoreId) -> Self {
        Self {
            store,
            lines: AtomicU32::new(0),
            queue: Mutex::default(),
            rtt: metrics::rtt(store),
        }
    }

    /// Sends what waits, again and again, until nothing does.
    async fn gather(self: Arc<Self>, shared: Arc<Shared>) {
        loop {
            // Lets the groups that tick at this very moment join.
            tokio::task::yield_now().await;
            let Some(waiting) = self.take() else { return };
            self.send(&shared, waiting);
            let lines = self.lines.load(Ordering::Relaxed);
            clock::sleep(gather_time(lines, shared.timings.heartbeat_gather)).await;
        }
    }

    /// What waits, without those whose sender has given up. With nothing there, the gathering has ended.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock();
        let mut waiting = std::mem::take(&mut queue.waiting);
        waiting.retain(|waiting| !waiting.answer.is_closed());
        queue.gathering = !waiting.is_empty();
        queue.gathering.then_some(waiting)
    }

    fn send(self: &Arc<Self>, shared: &Arc<Shared>, mut waiting: Vec<Waiting>) {
        let Some(address) = shared.resolve.address(self.store) else {
            return answer_all(waiting, &Failure::NoAddress(self.store));
        };
        let peer = shared.client.peer(&address, Lane::Fast);
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(MAX_BEATS));
            let message = Heartbeats {
                beats: waiting.iter().map(|waiting| waiting.beat).collect(),
            };
            let sent_at = clock::now();
            shared.sent.heartbeats.increment(1);
            let link = self.clone();
            // openraft gives up a heartbeat that is not answered within the interval.
            peer.call_with(
                method::RAFT_HEARTBEATS,
                proto::encode(&message),
                sent_at + shared.timings.heartbeat,
                move |outcome| {
                    if outcome.is_ok() {
                        link.rtt.record(sent_at.elapsed());
                    }
                    distribute(waiting, outcome);
                },
            );
            waiting = rest;
        }
    }
}

/// How long heartbeats of `lines` groups wait for each other.
fn gather_time(lines: u32, longest: Duration) -> Duration {
    GATHER_PER_GROUP.saturating_mul(lines).min(longest)
}

/// Gives every heartbeat its answer.
fn distribute(waiting: Vec<Waiting>, outcome: Result<Bytes, net::Error>) {
    let answers = match outcome
        .map_err(Failure::from)
        .and_then(|body| read_answers(&body, waiting.len()))
    {
        Ok(answers) => answers,
        Err(failure) => return answer_all(waiting, &failure),
    };
    for (waiting, answer) in waiting.into_iter().zip(answers) {
        // Its sender may have given up.
        let _ = waiting.answer.send(answer.map_err(Failure::from));
    }
}

fn read_answers(
    body: &[u8],
    expected: usize,
) -> Result<Vec<Result<Appended, crate::proto::raft::Refusal>>, Failure> {
    let HeartbeatsAnswer { answers } = proto::decode(body)?;
    if answers.len() != expected {
        return Err(DecodeError::Malformed(postcard::Error::DeserializeUnexpectedEnd).into());
    }
    Ok(answers)
}

fn answer_all(waiting: Vec<Waiting>, failure: &Failure) {
    for waiting in waiting {
        let _ = waiting.answer.send(Err(failure.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_groups_hardly_wait_and_many_wait_no_longer_than_the_bound() {
        let longest = Duration::from_millis(10);
        assert_eq!(gather_time(1, longest), Duration::from_micros(200));
        assert_eq!(gather_time(50, longest), longest);
        assert_eq!(gather_time(u32::MAX, longest), longest);
    }
}
