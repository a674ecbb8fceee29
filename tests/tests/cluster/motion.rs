//! Everything at once: random splits, merges, moves and transfers under load, many in a row.
//!
//! `HOLDFAST_CHANGES` says how many (400 if not given), `HOLDFAST_SEED` which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::{Admin, Client, Options, Range, Writers, check_tiling};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::{cluster, from_environment};

const MINUTE: Duration = Duration::from_secs(60);

/// Stores; each range is on three of them.
const STORES: u64 = 5;

/// Changes asked for at a time.
const HANDS: u64 = 4;

/// Ranges between which their number is kept.
const RANGES: std::ops::Range<usize> = 8..40;

/// A change: its name, its path and its body.
type Change = (&'static str, String, Value);

fn choose(ranges: &[Range], random: &mut StdRng) -> Option<Change> {
    let range = ranges.choose(random)?;
    let id = range.id;
    let kinds = if ranges.len() <= RANGES.start {
        0..1
    } else if ranges.len() >= RANGES.end {
        1..2
    } else {
        0..4
    };
    let change = match random.random_range(kinds) {
        0 => {
            let letter = char::from(random.random_range(b'a'..=b'h'));
            let key = format!(
                "{letter}{:03}-{:02}",
                random.random_range(0..8),
                random.random_range(0..20)
            );
            ("split", "/v1/ranges/split".to_owned(), json!({"key": key}))
        }
        1 => ("merge", format!("/v1/ranges/{id}/merge"), json!({})),
        2 => {
            let voters = range.voters();
            let free: Vec<u64> = (1..=STORES).filter(|store| !voters.contains(store)).collect();
            let body = json!({"from_store": voters.choose(random)?, "to_store": free.choose(random)?});
            ("move", format!("/v1/ranges/{id}/move"), body)
        }
        _ => {
            let body = json!({"to_store": range.voters().choose(random)?});
            ("transfer", format!("/v1/ranges/{id}/transfer-leader"), body)
        }
    };
    Some(change)
}

/// Makes changes until `done` has reached `wanted`; how many of each kind. A change that another one forestalls is refused,
/// and counts for nothing.
async fn make_changes(
    admin: Admin,
    mut random: StdRng,
    done: Arc<AtomicUsize>,
    wanted: usize,
) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut made = BTreeMap::new();
    while done.load(Ordering::Relaxed) < wanted {
        let ranges = admin.ranges().await?;
        let Some((kind, path, body)) = choose(&ranges, &mut random) else {
            continue;
        };
        let (status, answer) = admin.post_json(&format!("{path}?wait=true"), &body).await?;
        let outcome = match (status, answer["state"].as_str()) {
            (200, Some("done")) => {
                done.fetch_add(1, Ordering::Relaxed);
                kind.to_owned()
            }
            // It may have been overtaken while it ran: a range that it names was split or moved by another hand.
            (200 | 202, Some(state)) => format!("{kind}: {state}"),
            (400 | 404 | 409 | 429 | 503, _) => format!("{kind}: refused"),
            _ => anyhow::bail!("{kind} {body}: {status}: {answer}"),
        };
        *made.entry(outcome).or_default() += 1;
    }
    Ok(made)
}

/// Every replica of every range has the same rows: whichever of them leads, a scan gives the same.
async fn check_replicas(admin: &Admin, client: &Client, ranges: &[Range]) -> anyhow::Result<()> {
    let mut first = None;
    for place in 0..3 {
        for range in ranges {
            let store = range.voters()[place];
            admin
                .until("the replica leads", MINUTE, async || {
                    let path = format!("/v1/ranges/{}/transfer-leader?wait=true", range.id);
                    let (_, answer) = admin.post_json(&path, &json!({"to_store": store})).await?;
                    Ok(answer["state"] == "done")
                })
                .await?;
        }
        let rows = client.scan_everything().await?;
        let expected = first.get_or_insert_with(|| rows.clone());
        ensure!(
            *expected == rows,
            "replicas differ: {} rows, {} expected",
            rows.len(),
            expected.len()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_split_merge_move_and_change_leaders_at_random_and_nothing_is_lost() -> anyhow::Result<()> {
    let wanted = usize::try_from(from_environment("HOLDFAST_CHANGES", 400)?)?;
    let seed = from_environment("HOLDFAST_SEED", 7)?;
    let cluster = cluster(Options {
        stores: u16::try_from(STORES)?,
        ..Options::default()
    })
    .await?;
    let admin = cluster.admin();
    admin.place_by_hand().await?;
    let writers = Writers::start(
        &cluster.client(),
        &["a", "b", "c", "d", "e", "f", "g", "h"],
        8,
        20,
    );

    let done = Arc::new(AtomicUsize::new(0));
    let hands = (0..HANDS).map(|hand| {
        let random = StdRng::seed_from_u64(seed.wrapping_mul(HANDS) + hand);
        tokio::spawn(make_changes(admin.clone(), random, done.clone(), wanted))
    });
    let mut made = BTreeMap::<String, usize>::new();
    for hand in hands.collect::<Vec<_>>() {
        for (kind, count) in hand.await?? {
            *made.entry(kind).or_default() += count;
        }
    }
    println!("{made:#?}");
    for kind in ["split", "merge", "move", "transfer"] {
        ensure!(made.contains_key(kind), "none of kind {kind}: {made:#?}");
    }

    let history = writers.stop().await?;
    println!("{} writes acknowledged", history.acknowledged());
    history.verify_unharmed(&cluster.client()).await?;
    let ranges = admin.settled(3, MINUTE).await?;
    check_tiling(&ranges)?;
    check_replicas(&admin, &cluster.client(), &ranges).await?;
    cluster.assert_no_errors()
}
