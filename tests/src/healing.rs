//! What has to come back by itself once every fault is over.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::load::{LETTERS, probe};
use crate::{Admin, Client};

/// After the last fault, every range takes writes within this,
const WRITABLE: Duration = Duration::from_secs(15);

/// and has all its replicas within this.
const REPLICATED: Duration = Duration::from_secs(60);

/// Every letter takes a write through every router: how long that took.
///
/// # Errors
/// It took too long.
pub async fn writable(routers: &[String]) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    for router in routers {
        let client = Client::new(router.clone());
        for letter in LETTERS {
            let key = probe(letter);
            while !matches!(client.put(&key, "alive").await, Ok(answer) if answer.status < 300) {
                ensure!(
                    begun.elapsed() < WRITABLE,
                    "{key} takes no write {WRITABLE:?} after the last fault"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let took = begun.elapsed();
    ensure!(
        took < WRITABLE,
        "writes took {took:?} to resume after the last fault"
    );
    Ok(took)
}

/// Every store takes part again, and every range has all its replicas: how long that took.
///
/// # Errors
/// It took too long.
pub async fn replicated(admin: &Admin) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while !all_resumed(admin).await {
        ensure!(begun.elapsed() < REPLICATED, "a drained store can't be resumed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    admin.settled(3, REPLICATED).await?;
    Ok(begun.elapsed())
}

/// Resumes what a change has left drained.
async fn all_resumed(admin: &Admin) -> bool {
    let Ok(stores) = admin.get("/v1/stores").await else {
        return false;
    };
    let mut all = true;
    for store in stores["items"].as_array().into_iter().flatten() {
        if store["state"] == "draining" || store["state"] == "drained" {
            all = false;
            let _ = admin.post(&format!("/v1/stores/{}/resume", store["id"])).await;
        }
    }
    all
}
