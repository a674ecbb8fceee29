//! Runs a workload: threads, clients, the measured window.
//!
//! Every thread connects its clients first and then waits; once all are connected they share one start instant. An operation
//! belongs to the measured window if it was due within it, whenever it is answered: operations under way at the end are
//! waited for, up to the workload's timeout, so that a stall at the end is seen like any other.

use std::{
    ops::Range,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{runtime, time::timeout};

use crate::{
    Error, Report,
    keys::KeySpace,
    pacing::Pace,
    plan::{Operation, Plan, Stream},
    recorder::Recorder,
    session::{Answer, Failure, Session, Target, connect},
    workload::Workload,
};

/// What the threads of a run share.
#[derive(Debug)]
struct Job<'a> {
    workload: &'a Workload,
    target: &'a Target,
    keys: KeySpace,
    plan: Arc<Plan>,
}

/// One client with all that it needs.
struct Client {
    session: Session,
    stream: Stream,
    keys: KeySpace,
    timeout: Duration,
}

/// Applies `workload` to `target` and blocks until it is done. The key set should have been [loaded](crate::load).
///
/// Runs on threads of its own, so it may be called with or without a runtime around it. Failed operations are counted in the
/// report; an error means that there is no report, because the workload is not valid or a client could not connect.
pub fn run(workload: &Workload, target: &Target) -> Result<Report, Error> {
    workload.validate()?;
    let job = Job {
        workload,
        target,
        keys: KeySpace::new(workload.keys),
        plan: Arc::new(Plan::new(workload)),
    };
    let recorder = on_threads(workload.clients, workload.threads, |clients, gate| {
        run_clients(&job, clients, gate)
    })?;
    Ok(Report::new(workload, target, &recorder))
}

/// Where a thread waits until the clients of all are connected.
struct Gate {
    connected: mpsc::Sender<()>,
    start: mpsc::Receiver<Instant>,
}

impl Gate {
    /// Waits for the other threads; `None` if one of them failed.
    fn pass(self) -> Option<Instant> {
        let Self { connected, start } = self;
        connected.send(()).ok()?;
        // Whoever counts the connected threads must not wait for this one to say more.
        drop(connected);
        start.recv().ok()
    }
}

/// Spreads the clients over threads and merges what the threads recorded.
fn on_threads(
    clients: usize,
    threads: usize,
    body: impl Fn(Range<usize>, Gate) -> Result<Recorder, Error> + Sync,
) -> Result<Recorder, Error> {
    thread::scope(|scope| {
        let (connected, all_connected) = mpsc::channel();
        let mut starts = Vec::with_capacity(threads);
        let mut running = Vec::with_capacity(threads);
        for index in 0..threads {
            let share = clients * index / threads..clients * (index + 1) / threads;
            let (start, gate) = mpsc::channel();
            let (gate, body) = (
                Gate {
                    connected: connected.clone(),
                    start: gate,
                },
                &body,
            );
            starts.push(start);
            running.push(
                thread::Builder::new()
                    .name("load".to_owned())
                    .spawn_scoped(scope, move || body(share, gate))?,
            );
        }
        drop(connected);
        // A thread that fails drops its end, so this takes as many as will ever be connected.
        if all_connected.iter().take(threads).count() == threads {
            let now = Instant::now();
            for start in &starts {
                // A thread that ended meanwhile says why when it is joined.
                let _ = start.send(now);
            }
        }
        drop(starts);

        let mut merged = Recorder::default();
        for thread in running {
            let recorder = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            merged.merge(recorder?);
        }
        Ok(merged)
    })
}

/// One thread's part of a run.
fn run_clients(job: &Job<'_>, clients: Range<usize>, gate: Gate) -> Result<Recorder, Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sessions = connect(job.target, clients.clone(), job.workload.consistency).await?;
        let Some(start) = gate.pass() else {
            return Ok(Recorder::default());
        };
        let measured_from = start + job.workload.warm_up;
        let measured = measured_from..measured_from + job.workload.duration;
        let recorder = Arc::new(Mutex::new(Recorder::default()));

        let mut tasks = Vec::with_capacity(sessions.len());
        for (number, session) in clients.zip(sessions) {
            let pace = Pace::new(job.workload.rate, number, job.workload.clients, start)?;
            let client = Client {
                session,
                stream: Stream::new(Arc::clone(&job.plan), number),
                keys: job.keys,
                timeout: job.workload.timeout,
            };
            tasks.push(tokio::spawn(client.work(
                pace,
                measured.clone(),
                Arc::clone(&recorder),
            )));
        }
        for task in tasks {
            task.await
                .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))?;
        }
        let recorder = std::mem::take(&mut *recorder.lock());
        Ok(recorder)
    })
}

impl Client {
    /// Sends requests until the measured window ends.
    async fn work(
        mut self,
        mut pace: Pace,
        measured: Range<Instant>,
        recorder: Arc<Mutex<Recorder>>,
    ) -> Result<(), Error> {
        loop {
            let due = pace.next_due().await?;
            if due >= measured.end {
                return Ok(());
            }
            if Instant::now() >= measured.end {
                recorder.lock().unsent += u64::from(measured.contains(&due)) + pace.due_within(&measured);
                return Ok(());
            }
            let operation = self.stream.next_operation();
            let outcome = match timeout(
                self.timeout,
                perform(&mut self.session, &mut self.stream, self.keys, operation),
            )
            .await
            {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err(Failure::Timeout),
            };
            recorder
                .lock()
                .record(operation.into(), measured.contains(&due), due.elapsed(), outcome);
        }
    }
}

async fn perform(
    session: &mut Session,
    stream: &mut Stream,
    keys: KeySpace,
    operation: Operation,
) -> Result<Answer, Failure> {
    match operation {
        Operation::Read(index) => session.get(keys.key(index)).await,
        Operation::Update(index) | Operation::Insert(index) => {
            session.put(keys.key(index), stream.next_value()).await
        }
        Operation::Scan { from, limit } => session.scan(keys.key(from), limit).await,
        Operation::ReadModifyWrite(index) => {
            session.get(keys.key(index)).await?;
            session.put(keys.key(index), stream.next_value()).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_dealt_to_threads_without_gap() {
        for (clients, threads) in [(1, 1), (64, 3), (7, 7)] {
            let shares = Mutex::new(Vec::new());
            on_threads(clients, threads, |share, gate| {
                gate.pass().expect("all threads connect");
                shares.lock().extend(share);
                Ok(Recorder::default())
            })
            .expect("no thread fails");
            let mut dealt = shares.into_inner();
            dealt.sort_unstable();
            assert_eq!(dealt, (0..clients).collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_thread_that_cannot_connect_stops_all() {
        let outcome = on_threads(4, 4, |share, gate| {
            if share.contains(&2) {
                return Err(Error::Connect {
                    target: "peer".to_owned(),
                    failure: Failure::Timeout,
                });
            }
            assert!(gate.pass().is_none(), "the load must not start");
            Ok(Recorder::default())
        });
        assert!(matches!(outcome, Err(Error::Connect { .. })));
    }
}
