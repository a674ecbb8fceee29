//! Writes the key set, every key once, whatever it takes within reason.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime, time::timeout};

use crate::{
    Error, LoadReport,
    keys::KeySpace,
    plan::{Plan, Stream},
    session::{Session, Target, connect},
    workload::Workload,
};

/// Attempts at one key before loading fails.
const ATTEMPTS: u32 = 50;
/// Wait after a failed attempt: 50 attempts outlast an election.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Writes keys until none is left.
struct Loader {
    session: Session,
    stream: Stream,
    keys: KeySpace,
    /// The next key nobody writes yet.
    next: Arc<AtomicU64>,
    timeout: Duration,
}

/// Writes every key of the workload's key set once, with its clients, and blocks until done. A write that fails is tried again;
/// after fifty failures of one key loading ends with an error.
pub fn load(workload: &Workload, target: &Target) -> Result<LoadReport, Error> {
    workload.validate()?;
    let body = || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(load_keys(workload, target))
    };
    // A thread of its own, for the caller may be inside a runtime.
    std::thread::scope(|scope| {
        scope
            .spawn(body)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn load_keys(workload: &Workload, target: &Target) -> Result<LoadReport, Error> {
    let sessions = connect(target, 0..workload.clients, workload.consistency).await?;
    let (keys, plan, next) = (
        KeySpace::new(workload.keys),
        Arc::new(Plan::new(workload)),
        Arc::new(AtomicU64::new(0)),
    );
    let start = Instant::now();
    let loaders = sessions.into_iter().enumerate().map(|(number, session)| {
        let stream = Stream::new(Arc::clone(&plan), number);
        Loader {
            session,
            stream,
            keys,
            next: Arc::clone(&next),
            timeout: workload.timeout,
        }
        .work()
    });
    let retries = futures::future::try_join_all(loaders.map(tokio::spawn))
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
        .into_iter()
        .sum::<Result<u64, Error>>()?;
    Ok(LoadReport {
        keys: keys.count(),
        seconds: start.elapsed().as_secs_f64(),
        retries,
    })
}

impl Loader {
    /// Returns how many attempts had to be made again.
    async fn work(mut self) -> Result<u64, Error> {
        let mut retries = 0;
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.keys.count() {
                return Ok(retries);
            }
            retries += self.put(index).await?;
        }
    }

    async fn put(&mut self, index: u64) -> Result<u64, Error> {
        let key = self.keys.key(index);
        let mut retries = 0;
        loop {
            let failure = match timeout(self.timeout, self.session.put(key, self.stream.next_value())).await {
                Ok(Ok(_)) => return Ok(retries),
                Ok(Err(failure)) => failure,
                Err(_elapsed) => crate::Failure::Timeout,
            };
            retries += 1;
            if retries >= u64::from(ATTEMPTS) {
                return Err(Error::Load {
                    key: key.to_string(),
                    failure,
                });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
