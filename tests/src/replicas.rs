//! Replicas of a range have the same contents: each in turn is made its leader, and everything is read. What differs from what
//! clients were told, or from what another replica said, is found with the rest of the history. And each range's replicas are
//! compared by what they hold at one entry, everything that no client can see included.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::load::Stopped;
use crate::{Admin, Range};

/// Voters of a range.
const VOTERS: usize = 3;

/// Reads everything from each replica of every range.
///
/// # Errors
/// A replica can't be made the leader, or what it has can't be read.
pub async fn read_each(admin: &Admin, load: &mut Stopped) -> anyhow::Result<()> {
    admin.place_by_hand().await?;
    for range in admin.settled(VOTERS, Duration::from_secs(60)).await? {
        compare(admin, range.id).await?;
    }
    for place in 0..VOTERS {
        let ranges = admin.settled(VOTERS, Duration::from_secs(60)).await?;
        for range in &ranges {
            lead(admin, range, range.voters()[place]).await?;
        }
        load.read_everything().await?;
    }
    let on = json!({
        "balance": true, "balance_leaders": true, "hot": true, "merge": true, "split_by_load": true
    });
    admin.configure(json!({ "schedulers": on })).await
}

/// Has a range's replicas compared until all of them could tell; they must agree.
async fn compare(admin: &Admin, range: u64) -> anyhow::Result<()> {
    let path = format!("/v1/ranges/{range}/check");
    let mut last = Value::Null;
    let agreed = admin
        .until("they agree", Duration::from_secs(60), async || {
            (_, last) = admin.post(&path).await?;
            ensure!(
                last["verdict"] != "differ",
                "the replicas of range {range} differ: {last}"
            );
            Ok(last["verdict"] == "agree")
        })
        .await;
    agreed.with_context(|| format!("range {range} is compared; last answer: {last}"))
}

async fn lead(admin: &Admin, range: &Range, store: u64) -> anyhow::Result<()> {
    let path = format!("/v1/ranges/{}/transfer-leader?wait=true", range.id);
    let mut last = Value::Null;
    let led = admin
        .until("it leads", Duration::from_secs(30), async || {
            (_, last) = admin.post_json(&path, &json!({"to_store": store})).await?;
            Ok(last["state"] == "done")
        })
        .await;
    led.with_context(|| format!("store {store} is to lead {range:?}; last answer: {last}"))
}
