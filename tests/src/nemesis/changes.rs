//! Splits, merges, moves, transfers and drains without pause, chosen by a seed and asked for at whichever placement member answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::load::LETTERS;
use crate::{Admin, Range};

/// How long one change is waited for.
const PATIENCE: Duration = Duration::from_secs(8);

/// Ranges beyond which none is split.
const MAX_RANGES: usize = 14;

/// How many were made, by kind: asked for, and done.
pub type Made = BTreeMap<&'static str, (usize, usize)>;

/// Makes changes until `stop`, then leaves no store drained.
pub async fn make(admins: Vec<Admin>, seed: u64, stop: Arc<AtomicBool>) -> Made {
    let mut random = StdRng::seed_from_u64(seed ^ 0xc4a);
    let (mut made, mut turn) = (Made::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let admin = &admins[turn % admins.len()];
        if let Ok(Some((kind, done))) = one(admin, &mut random).await {
            let (asked, all) = made.entry(kind).or_default();
            *asked += 1;
            *all += usize::from(done);
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
    }
    made
}

/// Makes one change: which kind, and whether it was done in time. None when there is nothing to change.
async fn one(admin: &Admin, random: &mut StdRng) -> anyhow::Result<Option<(&'static str, bool)>> {
    let ranges = tokio::time::timeout(Duration::from_secs(2), admin.ranges()).await??;
    let range = ranges.choose(random).context("no range")?;
    let Some((kind, path, body)) = choose(&ranges, range, admin, random).await? else {
        return Ok(None);
    };
    let asked = async {
        let (status, operator) = admin.post_json(&format!("{path}?wait=true"), &body).await?;
        anyhow::Ok(status == 200 && (operator["state"] == "done" || kind == "drain"))
    };
    let done = tokio::time::timeout(PATIENCE, asked).await;
    if kind == "drain" {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let _ = tokio::time::timeout(PATIENCE, admin.post(&path.replace("/drain", "/resume"))).await;
    }
    Ok(Some((kind, matches!(done, Ok(Ok(true))))))
}

type Change = (&'static str, String, Value);

async fn choose(
    ranges: &[Range],
    range: &Range,
    admin: &Admin,
    random: &mut StdRng,
) -> anyhow::Result<Option<Change>> {
    let id = range.id;
    let voters = range.voters();
    Ok(match random.random_range(0..100) {
        0..30 if ranges.len() < MAX_RANGES => {
            let letter = LETTERS.choose(random).context("a letter")?;
            // Between the kinds of keys, or within those of one.
            let behind = [
                "",
                "-count",
                "-list",
                "-register-1",
                "-set",
                "-set-0-001.000/5",
                "-swap",
            ];
            let behind = behind.choose(random).context("a key")?;
            let key = format!("{letter}{behind}");
            (!ranges.iter().any(|range| range.start == key))
                .then(|| ("split", "/v1/ranges/split".to_owned(), json!({"key": key})))
        }
        0..55 if !range.end.is_empty() => Some(("merge", format!("/v1/ranges/{id}/merge"), json!({}))),
        0..75 => {
            let stores = store_ids(admin).await?;
            let free: Vec<u64> = stores.into_iter().filter(|id| !voters.contains(id)).collect();
            match (voters.choose(random), free.choose(random)) {
                (Some(from), Some(to)) => Some((
                    "move",
                    format!("/v1/ranges/{id}/move"),
                    json!({"from_store": from, "to_store": to}),
                )),
                _ => None,
            }
        }
        75..97 => voters.choose(random).map(|to| {
            let path = format!("/v1/ranges/{id}/transfer-leader");
            ("transfer", path, json!({"to_store": to}))
        }),
        _ => {
            let stores = store_ids(admin).await?;
            let store = stores.choose(random).context("a store")?;
            Some(("drain", format!("/v1/stores/{store}/drain"), json!({})))
        }
    })
}

async fn store_ids(admin: &Admin) -> anyhow::Result<Vec<u64>> {
    let stores = admin.get("/v1/stores").await?;
    let items = stores["items"].as_array().context("no items")?;
    Ok(items.iter().filter_map(|store| store["id"].as_u64()).collect())
}
