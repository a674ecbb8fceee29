//! Five minutes of writes at full load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::Client;
use tokio::task::JoinHandle;

use crate::probe::{EachSecond, Memories};
use crate::{MINUTE, cluster, cut};

const CLIENTS: usize = 64;
const KEYS: usize = 50_000;
const RANGES: usize = 8;
const LENGTH: Duration = Duration::from_secs(300);
/// Caches and memtables have filled by then.
const WARM_UP: Duration = Duration::from_secs(60);
/// What a process may have gained from the end of the warm-up to the end.
const MAX_GAIN_MIB: u64 = 64;

fn start(
    client: &Client,
    stop: &Arc<AtomicBool>,
    done: &Arc<AtomicUsize>,
) -> Vec<JoinHandle<anyhow::Result<()>>> {
    let tasks = (0..CLIENTS).map(|number| {
        let (client, stop, done) = (client.clone(), stop.clone(), done.clone());
        tokio::spawn(async move {
            let mut at = number;
            while !stop.load(Ordering::Relaxed) {
                // A step that shares no factor with the number of keys goes through all of them.
                at = (at + 7_919) % KEYS;
                let key = format!("{:03}-{at:05}", at % RANGES);
                let answer = client.put(&key, vec![b'x'; 128]).await?;
                ensure!(answer.status < 300, "{key}: {answer:?}");
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    });
    tasks.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_minutes_of_writes_without_a_slump() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    cut(&cluster.admin(), RANGES).await?;
    cluster.admin().settled(3, MINUTE).await?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let tasks = start(&cluster.client(), &stop, &done);
    tokio::time::sleep(WARM_UP).await;
    let watched = Memories::watch(&cluster)?;
    let writes = EachSecond::watch(done);
    tokio::time::sleep(LENGTH).await;
    let writes = writes.seconds();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    println!("writes: {writes}");
    let gains = watched.extra_mib();
    println!("memory gained after the warm-up, MiB: {gains:?}");
    ensure!(
        2 * writes.least() >= writes.middle(),
        "a second with less than half the writes of others"
    );
    ensure!(
        gains.iter().all(|(_, gain)| *gain < MAX_GAIN_MIB),
        "{gains:?} MiB"
    );
    cluster.assert_no_errors()
}
