//! Every placement member is dead for a minute, or longer: nobody notices.

use holdfast_tests::Writers;

use crate::probe::Foreground;
use crate::{MINUTE, cluster, cut, length, prefixes};

const RANGES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_without_placement() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let admin = cluster.admin();
    cut(&admin, RANGES).await?;
    admin.settled(3, MINUTE).await?;
    let prefixes = prefixes(RANGES, 1);
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let writers = Writers::start(&cluster.client(), &prefixes, 8, 2);
    let readers = Foreground::start(&cluster.client(), "010-read", 4);
    writers.progress(500, MINUTE).await?;
    cluster.kill("placement-1")?;
    tokio::time::sleep(length(MINUTE)?).await;
    cluster.start_member("placement-1").await?;
    admin.settled(3, MINUTE).await?;
    let reads = readers.stop().await?;
    let history = writers.stop().await?;
    println!(
        "{} writes and {} other requests, none failed; slowest {:.1?}",
        history.acknowledged(),
        reads.count(),
        reads.per_mille(1_000)
    );
    history.verify_unharmed(&cluster.client()).await?;
    admin.split("zz").await?;
    Ok(())
}
