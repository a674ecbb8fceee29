use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::mpsc;
use openraft::error::Unreachable;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;
use crate::ids::ReplicaId;
use crate::raft::types::{Command, CommittedLeaderId, Entry, Payload, Vote};

/// How long word of an ordinary commit may wait here.
const PATIENT: Duration = Duration::from_millis(200);

type Answer = Result<Appended, Failure>;

/// A line whose answers the test gives.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Vec<Sent>>>);

struct Sent {
    rpc: AppendEntriesRequest<TypeConfig>,
    answer: Option<oneshot::Sender<Answer>>,
}

struct Scripted(oneshot::Receiver<Answer>);

impl Future for Scripted {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        Poll::Ready(ready!(self.0.poll_unpin(context)).unwrap_or(Err(Failure::Stopped)))
    }
}

impl Line for Script {
    type Call = Scripted;

    fn append(&mut self, rpc: AppendEntriesRequest<TypeConfig>) -> (Scripted, usize) {
        let (answer, answered) = oneshot::channel();
        let answer = Some(answer);
        self.0.lock().push(Sent { rpc, answer });
        (Scripted(answered), 100)
    }

    fn failed(&self, failure: Failure) -> RPCError<TypeConfig> {
        Unreachable::new(&failure).into()
    }
}

impl Script {
    /// What was sent: last index, and index of the commit.
    fn sent(&self) -> Vec<(u64, u64)> {
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let sent = self.0.lock();
        let told = sent.iter().map(|sent| {
            let last = sent
                .rpc
                .entries
                .last()
                .map(|entry| entry.log_id)
                .or(sent.rpc.prev_log_id);
            (index(last), index(sent.rpc.leader_commit))
        });
        told.collect()
    }

    fn answer(&self, n: usize, answer: Answer) {
        let sender = self.0.lock()[n].answer.take();
        assert!(sender.expect("not answered yet").send(answer).is_ok());
    }
}

fn id(index: u64) -> Option<LogId> {
    (index > 0).then(|| LogId::new(CommittedLeaderId::new(1), index))
}

/// Entries `prev + 1 ..= last`, with this commit.
fn append(prev: u64, last: u64, commit: u64) -> AppendEntriesRequest<TypeConfig> {
    let entry = |index| Entry {
        log_id: LogId::new(CommittedLeaderId::new(1), index),
        payload: Payload::Normal(Command(bytes::Bytes::new())),
    };
    AppendEntriesRequest {
        vote: Vote::new_committed(1, ReplicaId(1)),
        prev_log_id: id(prev),
        entries: (prev + 1..=last).map(entry).collect(),
        leader_commit: id(commit),
    }
}

/// The same, whose entry at `index` is one whose commit matters.
fn marked(mut rpc: AppendEntriesRequest<TypeConfig>, index: u64) -> AppendEntriesRequest<TypeConfig> {
    for entry in rpc.entries.iter_mut().filter(|entry| entry.log_id.index == index) {
        entry.payload = Payload::Normal(Command(bytes::Bytes::from_static(b"split")));
    }
    rpc
}

struct Bench {
    script: Script,
    input: mpsc::UnboundedSender<AppendEntriesRequest<TypeConfig>>,
    pipeline: Pipeline<'static, Script, mpsc::UnboundedReceiver<AppendEntriesRequest<TypeConfig>>>,
}

fn bench() -> Bench {
    let script = Script::default();
    let (input, requests) = mpsc::unbounded();
    // The pipeline borrows its line for as long as openraft's stream lives; here that is for ever.
    let line = Box::leak(Box::new(script.clone()));
    let news = News::new(|command| command.0.is_empty(), PATIENT);
    let pipeline = Pipeline::new(line, requests, news);
    Bench {
        script,
        input,
        pipeline,
    }
}

impl Bench {
    fn ask(&self, rpc: AppendEntriesRequest<TypeConfig>) {
        self.input.unbounded_send(rpc).expect("open");
    }

    /// The position that the next result acknowledges, if there is one now.
    fn acknowledged(&mut self) -> Option<u64> {
        let item = self.pipeline.next().now_or_never()?;
        let matching = item.expect("not over").expect("delivered").expect("accepted");
        Some(matching.map_or(0, |matching| matching.index))
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_rides_with_the_next_entries() {
    let mut bench = bench();
    bench.ask(append(0, 1, 0));
    bench.ask(append(1, 1, 1));
    assert_eq!(bench.acknowledged(), None);
    assert_eq!(bench.script.sent(), [(1, 0)]);
    bench.ask(append(1, 2, 1));
    assert_eq!(bench.acknowledged(), None);
    assert_eq!(bench.script.sent(), [(1, 0), (2, 1)]);
}

/// What was sent when nothing more came for `waited`.
async fn after(bench: &mut Bench, waited: Duration) -> Vec<(u64, u64)> {
    assert_eq!(bench.acknowledged(), None);
    clock::sleep(waited).await;
    assert_eq!(bench.acknowledged(), None);
    bench.script.sent()
}

/// A stream whose first entry's commit was told.
async fn settled() -> Bench {
    let mut bench = bench();
    bench.ask(append(0, 1, 0));
    bench.ask(append(1, 1, 1));
    assert_eq!(after(&mut bench, PATIENT).await, [(1, 0), (1, 1)]);
    bench.script.answer(0, Ok(Appended::Success));
    bench.script.answer(1, Ok(Appended::Success));
    assert_eq!((bench.acknowledged(), bench.acknowledged()), (Some(1), Some(1)));
    bench.script.0.lock().clear();
    bench
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_nothing_follows_goes_by_itself() {
    let mut bench = settled().await;
    bench.ask(append(1, 2, 1));
    bench.ask(append(2, 2, 2));
    assert_eq!(after(&mut bench, PATIENT - 2 * BRIEF).await, [(2, 1)]);
    // A later one does not put it off.
    bench.ask(append(2, 2, 2));
    assert_eq!(after(&mut bench, 2 * BRIEF).await, [(2, 1), (2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_matters_goes_soon() {
    let mut bench = settled().await;
    bench.ask(marked(append(1, 4, 1), 3));
    bench.ask(append(4, 4, 2));
    assert_eq!(after(&mut bench, PATIENT - 4 * BRIEF).await, [(4, 1)]);
    bench.ask(append(4, 4, 3));
    assert_eq!(after(&mut bench, 2 * BRIEF).await, [(4, 1), (4, 3)]);
    bench.ask(append(4, 4, 4));
    assert_eq!(after(&mut bench, PATIENT - BRIEF).await.len(), 2);
    assert_eq!(after(&mut bench, 2 * BRIEF).await[2], (4, 4));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_stream_left_untold_goes_soon() {
    let mut bench = bench();
    bench.ask(append(1, 1, 1));
    assert_eq!(after(&mut bench, BRIEF).await, [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_several_that_matter_goes_soon_too() {
    let mut bench = settled().await;
    bench.ask(marked(append(1, 2, 1), 2));
    bench.ask(marked(append(2, 3, 1), 3));
    bench.ask(append(3, 3, 2));
    assert_eq!(after(&mut bench, 2 * BRIEF).await[2..], [(3, 2)]);
    bench.ask(append(3, 3, 3));
    assert_eq!(after(&mut bench, 2 * BRIEF).await[3..], [(3, 3)]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_input_sends_what_is_held() {
    let mut bench = bench();
    bench.ask(append(1, 1, 1));
    bench.input.close_channel();
    assert_eq!(bench.acknowledged(), None);
    assert_eq!(bench.script.sent(), [(1, 1)]);
    bench.script.answer(0, Ok(Appended::Success));
    assert_eq!(bench.acknowledged(), Some(1));
    assert!(matches!(bench.pipeline.next().now_or_never(), Some(None)));
}

#[tokio::test(start_paused = true)]
async fn every_append_that_was_sent_has_a_result_of_its_own() {
    let mut bench = settled().await;
    bench.ask(append(1, 2, 1));
    bench.ask(append(2, 2, 2));
    assert_eq!(bench.acknowledged(), None);
    // What is held back keeps nobody waiting.
    bench.script.answer(0, Ok(Appended::Success));
    assert_eq!(bench.acknowledged(), Some(2));
    assert_eq!(after(&mut bench, PATIENT).await, [(2, 1), (2, 2)]);
    bench.ask(append(2, 3, 2));
    bench.script.answer(1, Ok(Appended::Success));
    assert_eq!((bench.acknowledged(), bench.acknowledged()), (Some(2), None));
    bench.script.answer(2, Ok(Appended::Success));
    assert_eq!(bench.acknowledged(), Some(3));
}

#[tokio::test(start_paused = true)]
async fn appends_overlap_and_are_acknowledged_in_order() {
    let mut bench = bench();
    for index in 1..=3 {
        bench.ask(append(index - 1, index, 0));
    }
    assert_eq!(bench.acknowledged(), None);
    assert_eq!(bench.script.sent().len(), 3);
    bench.script.answer(1, Ok(Appended::Success));
    assert_eq!(bench.acknowledged(), None);
    bench.script.answer(0, Ok(Appended::Success));
    assert_eq!((bench.acknowledged(), bench.acknowledged()), (Some(1), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_after_what_is_no_success() {
    let mut bench = bench();
    bench.ask(append(1, 2, 0));
    bench.ask(append(2, 3, 0));
    assert_eq!(bench.acknowledged(), None);
    bench.script.answer(0, Ok(Appended::Conflict));
    bench.script.answer(1, Ok(Appended::Success));
    let first = bench.pipeline.next().now_or_never();
    assert!(matches!(first, Some(Some(Ok(Err(_))))), "{first:?}");
    assert!(matches!(bench.pipeline.next().now_or_never(), Some(None)));
}
