//! Fills a cluster before anything is measured.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use holdfast_tests::Client;

/// Writes so many rows, so many at a time, and waits when a store asks for a pause.
pub(crate) async fn fill(
    client: &Client,
    rows: usize,
    at_a_time: usize,
    row: impl Fn(usize) -> (String, Vec<u8>) + Copy,
) -> anyhow::Result<()> {
    stream::iter(0..rows)
        .map(|number| async move {
            let (key, value) = row(number);
            loop {
                let answer = client.put(&key, value.clone()).await?;
                match answer.status {
                    200..=204 => return anyhow::Ok(()),
                    429 | 503 => tokio::time::sleep(Duration::from_millis(200)).await,
                    _ => anyhow::bail!("{answer:?}"),
                }
            }
        })
        .buffer_unordered(at_a_time)
        .try_collect()
        .await
}
