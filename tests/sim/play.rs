//! One play: a cluster in one thread, from its founding to its judgement.

use std::panic;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::ensure;
use holdfast_common::failpoint::Step;
use holdfast_common::simulation::falls::Fallen;
use xxhash_rust::xxh3::xxh3_64;

use crate::cluster::Cluster;
use crate::director::{Act, Scene};
use crate::invariants::{contents, healed, tiling, told};
use crate::script::{Script, Wish};

/// No play takes longer, milliseconds of its own time.
const LONGEST_MS: u64 = 300_000;

/// What came of a play.
pub(crate) struct Outcome {
    /// What was done, in order.
    pub(crate) faults: Vec<String>,
    /// What is wrong.
    pub(crate) findings: Vec<String>,
    /// One line of figures.
    pub(crate) figures: String,
    /// How often a process fell at the step that was wished for.
    pub(crate) falls: usize,
    /// A number that stands for all that happened: the same seed has the same one.
    pub(crate) fingerprint: u64,
}

/// Plays what the seed says, with the machines' files below a directory.
pub(crate) fn play(seed: u64, below: &Path, wish: Wish) -> anyhow::Result<Outcome> {
    let panics = watch_panics();
    let scene = Scene::new();
    let mut cluster = Cluster::start(seed, below, scene.clients(seed))?;
    wish.at_first(&cluster);
    let mut script = None;
    while scene.act() != Act::Over {
        ensure!(
            cluster.now < LONGEST_MS,
            "the play does not come to its end: {:?}",
            scene.act()
        );
        cluster.tick()?;
        if scene.act() == Act::Faults {
            let now = cluster.now;
            let script = script.get_or_insert_with(|| Script::new(seed, now, wish));
            if !script.act(&mut cluster)? {
                scene.begin(Act::Healed);
            }
        }
    }
    let told = scene.told.lock();
    let mut findings = told::violations(&told);
    // Stores that have lost everything end, and stay away: then ranges may, too.
    if !wish.wipes {
        findings.extend(healed::violations(&told));
        findings.extend(tiling::violations(&told));
        findings.extend(contents::violations(&cluster, &told));
        findings.extend(cluster.ended.iter().cloned());
    }
    findings.extend(
        panics
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .drain(..),
    );
    let history = serde_json::to_vec(&told.recorded.history)?;
    let delivered = cluster.world.network().delivered();
    let (mut faults, counts) = script
        .map(|script| (script.done, script.counts))
        .unwrap_or_default();
    faults.extend(
        cluster
            .fallen
            .iter()
            .map(|(at, name, step)| format!("{at} ms: {name} fell at {}", step.name())),
    );
    let at_wish = |fall: &&(u64, String, Step)| Some(fall.2) == wish.fall;
    let falls = cluster.fallen.iter().filter(at_wish).count();
    let figures = format!(
        "{:.1} s simulated, {} packets, {} faults {:?}, {} operations, {} pages, changes {:?}, writable after {:.1} s, replicated after {:.1} s",
        cluster.now as f64 / 1_000.0,
        delivered,
        faults.len(),
        counts,
        told.recorded.history.events.len(),
        told.recorded.history.pages.len(),
        told.changes,
        told.writable_after.as_secs_f64(),
        told.replicated_after.as_secs_f64(),
    );
    let fingerprint = xxh3_64(&[history, format!("{} {delivered}", cluster.now).into_bytes()].concat());
    Ok(Outcome {
        faults,
        findings,
        figures,
        falls,
        fingerprint,
    })
}

/// Whatever panics is a finding, also where a runtime would pass over it.
fn watch_panics() -> Arc<Mutex<Vec<String>>> {
    let panics = Arc::<Mutex<Vec<String>>>::default();
    let seen = panics.clone();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().is::<Fallen>() {
            return; // It was asked to.
        }
        if let Ok(mut seen) = seen.lock() {
            seen.push(info.to_string());
        }
        before(info);
    }));
    panics
}
