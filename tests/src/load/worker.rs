//! What one client does: a mix of operations, chosen by the seed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::keys::Kind;
use super::recorder::{Change, Recorder};
use super::{LETTERS, Recorded, Shared};
use crate::history::Condition;

/// Works until the load stops.
pub(super) async fn work(shared: Arc<Shared>, client: usize, group: usize, seed: u64) -> Recorded {
    let mut random = StdRng::seed_from_u64(seed ^ (client as u64) << 32);
    let mut recorder = Recorder::new(shared.clone(), client);
    while !shared.stop.load(Ordering::Relaxed) {
        if random.random_bool(0.005) {
            scan_far(&mut recorder, &mut random).await;
            continue;
        }
        let (kind, key) = shared.groups[group].choose(&mut random);
        match kind {
            Kind::Register => register(&mut recorder, &mut random, &key).await,
            Kind::CompareAndSet => change(&mut recorder, &mut random, &key, |_, unique| unique).await,
            Kind::List => {
                let append = |list: &str, unique| format!("{list} {unique}").trim().to_owned();
                change(&mut recorder, &mut random, &key, append).await;
            }
            Kind::Counter => {
                let increment = |count: &str, unique| {
                    let count: u64 = count
                        .split(' ')
                        .next()
                        .and_then(|count| count.parse().ok())
                        .unwrap_or(0);
                    format!("{} {unique}", count + 1)
                };
                change(&mut recorder, &mut random, &key, increment).await;
            }
            Kind::Set => set(&mut recorder, &mut random, &key).await,
            Kind::Fleeting => fleeting(&mut recorder, &mut random, &key).await,
        }
    }
    recorder.done()
}

async fn register(recorder: &mut Recorder, random: &mut StdRng, key: &str) {
    if random.random_bool(0.5) {
        recorder.get(key).await;
    } else {
        let value = recorder.unique();
        recorder
            .write(key, value, Condition::None, random.random_bool(0.5))
            .await;
    }
}

/// Reads, writes for ever or for a while, and deletes, some of it on condition of what was just read.
async fn fleeting(recorder: &mut Recorder, random: &mut StdRng, key: &str) {
    let found = match random.random_bool(0.6) {
        true => recorder.get(key).await,
        false => None,
    };
    let condition = match &found {
        _ if random.random_bool(0.5) => Condition::None,
        None => Condition::None,
        Some(None) => Condition::Absent,
        Some(Some(version)) => Condition::Revision(version.revision),
    };
    let change = match random.random_range(0..10) {
        0..4 => return,
        // Of what is absent there is nothing to ask for.
        4..7 if condition != Condition::Absent => Change::Delete,
        4..9 => {
            let ttl = recorder.time_to_live(random.random_bool(0.7));
            Change::Put(recorder.unique(), Some(ttl))
        }
        _ => Change::Put(recorder.unique(), None),
    };
    recorder
        .change(key, change, condition, random.random_bool(0.5))
        .await;
}

/// Reads, and mostly puts back what is made of it, unless someone else was faster.
async fn change(
    recorder: &mut Recorder,
    random: &mut StdRng,
    key: &str,
    make: impl Fn(&str, String) -> String,
) {
    let Some(found) = recorder.get(key).await else {
        return;
    };
    if random.random_bool(0.2) {
        return;
    }
    let unique = recorder.unique();
    let (value, condition) = match &found {
        None => (make("", unique), Condition::Absent),
        Some(version) => (
            make(&version.value, unique),
            Condition::Revision(version.revision),
        ),
    };
    recorder
        .write(key, value, condition, random.random_bool(0.5))
        .await;
}

/// Adds a member, or looks at all of them.
async fn set(recorder: &mut Recorder, random: &mut StdRng, key: &str) {
    if random.random_bool(0.2) {
        let reverse = random.random_bool(0.3);
        recorder
            .scan(&format!("{key}/"), &format!("{key}0"), reverse)
            .await;
        return;
    }
    // Half of them by several clients at once, of whom one may win.
    let member = match random.random_bool(0.5) {
        true => random.random_range(0..150).to_string(),
        false => recorder.unique(),
    };
    let value = recorder.unique();
    recorder
        .write(
            &format!("{key}/{member}"),
            value,
            Condition::Absent,
            random.random_bool(0.5),
        )
        .await;
}

/// A letter, two of them, or everything.
async fn scan_far(recorder: &mut Recorder, random: &mut StdRng) {
    let first = random.random_range(0..LETTERS.len());
    let (from, to) = match random.random_range(0..4) {
        0 => ("", ""),
        1 => (LETTERS[first], "z"),
        _ => (LETTERS[first], LETTERS.get(first + 1).copied().unwrap_or("z")),
    };
    recorder.scan(from, to, random.random_bool(0.3)).await;
}
