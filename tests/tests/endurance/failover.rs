//! Twenty times the store that leads most is killed under load.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holdfast_tests::Writers;

use crate::{MINUTE, cluster, cut, prefixes};

const RANGES: usize = 12;
const TRIALS: usize = 20;
const WRITERS: usize = 32;
/// By when every range must take writes again: with twenty trials the ninety-ninth percentile is the slowest of them.
const BOUND: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_resume_within_two_seconds_of_every_one_of_twenty_kills() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let admin = cluster.admin();
    cut(&admin, RANGES).await?;
    admin.settled(3, MINUTE).await?;
    let prefixes = prefixes(RANGES, 1);
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let group = |key: &str| {
        prefixes
            .iter()
            .position(|prefix| key.starts_with(prefix))
            .unwrap_or_default()
    };
    let mut slowest = Vec::new();
    let mut acknowledged = 0;
    for trial in 1..=TRIALS {
        let writers = Writers::start(&cluster.client(), &prefixes, WRITERS, 1);
        writers.progress(20 * RANGES * WRITERS, MINUTE).await?;
        let victim = cluster.store(admin.busiest_store().await?)?.name;
        cluster.kill(&victim)?;
        let killed = Instant::now();
        tokio::time::sleep(3 * BOUND).await;
        let history = writers.stop().await?;
        acknowledged += history.acknowledged();
        let resumed = history.resumed_after(killed, group, RANGES);
        let resumed: Option<Vec<Duration>> = resumed.into_iter().collect();
        let resumed = resumed
            .with_context(|| format!("trial {trial}: a range took no write within {:?}", 3 * BOUND))?;
        let last = resumed.into_iter().max().unwrap_or_default();
        println!("trial {trial}, {victim}: every range took writes again after {last:.2?}");
        slowest.push(last);
        history.verify(&cluster.client()).await?;
        cluster.start_member(&victim).await?;
        admin.settled(3, MINUTE).await?;
        history.verify(&cluster.client()).await?;
    }
    slowest.sort_unstable();
    println!(
        "{acknowledged} acknowledged writes; all ranges resumed after {:.2?} in the middle, {:.2?} at most",
        slowest[TRIALS / 2],
        slowest[TRIALS - 1]
    );
    ensure!(slowest[TRIALS - 1] <= BOUND, "{slowest:.2?}");
    Ok(())
}
