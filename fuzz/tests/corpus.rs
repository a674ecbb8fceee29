//! The corpus, and changes of it that a seed decides, through every target. What libFuzzer finds in minutes of search this does not,
//! but it needs nothing and runs with all other tests.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_fuzz::{TARGETS, Target, run, seeds};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Changed inputs for each target, unless `HOLDFAST_FUZZ_CHANGES` says otherwise.
const CHANGES: u64 = 20_000;

/// What decides about them, unless `HOLDFAST_FUZZ_SEED` says otherwise.
const SEED: u64 = 1;

/// Changes of one input, at most.
const MAX_CHANGES: usize = 4;

/// Numbers that lengths and counts break on.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xffff, 0xffff_ffff, u64::MAX >> 1, u64::MAX];

/// Memory is that of the process, so the tests of this one run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(corpus(target.name)).expect("a corpus");
    let mut inputs: Vec<_> = files
        .map(|file| {
            let file = file.expect("a file");
            let name = file.file_name().to_string_lossy().into_owned();
            (name, fs::read(file.path()).expect("an input"))
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn no_input_does_harm() {
    let _alone = alone();
    for target in &TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for (name, input) in &inputs {
            holds(target, input, &format!("corpus/{}/{name}", target.name));
        }
        let mut random = StdRng::seed_from_u64(setting("HOLDFAST_FUZZ_SEED", SEED));
        for number in 0..setting("HOLDFAST_FUZZ_CHANGES", CHANGES) {
            let (name, input) = inputs.choose(&mut random).expect("an input");
            let mut changed = input.clone();
            for _ in 0..random.random_range(1..=MAX_CHANGES) {
                change(&mut changed, &inputs, &mut random);
            }
            holds(
                target,
                &changed,
                &format!("change {number}, of corpus/{}/{name}", target.name),
            );
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |number| number.parse().expect("a number"))
}

/// Runs an input; one that does harm is left for whoever looks into it.
fn holds(target: &Target, input: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| run(target, input))).is_err() {
        let kept = std::env::temp_dir().join(format!("holdfast-fuzz-{}", target.name));
        fs::write(&kept, input).expect("kept");
        panic!("{what} does harm; the input is in {}", kept.display());
    }
}

fn change(input: &mut Vec<u8>, others: &[(String, Vec<u8>)], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    match random.random_range(0..7) {
        0 => input.truncate(at),
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.random();
            }
        }
        3 => {
            // A length, of whatever width and order.
            let edge = EDGES.choose(random).expect("an edge");
            let bytes = if random.random() {
                edge.to_le_bytes()
            } else {
                edge.to_be_bytes()
            };
            let width = [1, 2, 4, 8].choose(random).expect("a width");
            let end = input.len().min(at + width);
            let room = end - at;
            input[at..end].copy_from_slice(&bytes[..room]);
        }
        4 => {
            let added: Vec<u8> = (0..random.random_range(1..20)).map(|_| random.random()).collect();
            input.splice(at..at, added);
        }
        5 => {
            let end = random.random_range(at..=input.len().min(at + 40));
            input.drain(at..end);
        }
        _ => {
            let (_, other) = others.choose(random).expect("an input");
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend(&other[from..]);
        }
    }
}

/// `HOLDFAST_BLESS=1` writes them anew.
#[test]
fn the_committed_values_are_those_of_the_generator() {
    let _alone = alone();
    let seeds = seeds::all();
    if std::env::var_os("HOLDFAST_BLESS").is_some() {
        for target in &TARGETS {
            fs::create_dir_all(corpus(target.name)).expect("a corpus");
            for (name, _) in inputs(target)
                .iter()
                .filter(|(name, _)| name.starts_with("seed-"))
            {
                fs::remove_file(corpus(target.name).join(name)).expect("removed");
            }
        }
        for seed in &seeds {
            fs::write(corpus(seed.target).join(&seed.name), &seed.input).expect("written");
        }
    }
    let mut committed: Vec<_> = TARGETS
        .iter()
        .flat_map(|target| {
            inputs(target)
                .into_iter()
                .map(|(name, input)| (target.name, name, input))
        })
        .filter(|(_, name, _)| name.starts_with("seed-"))
        .collect();
    let mut generated: Vec<_> = seeds
        .into_iter()
        .map(|seed| (seed.target, seed.name, seed.input))
        .collect();
    committed.sort();
    generated.sort();
    let names =
        |list: &[(&str, String, Vec<u8>)]| list.iter().map(|(_, name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(
        names(&committed),
        names(&generated),
        "HOLDFAST_BLESS=1 writes the corpus anew"
    );
    assert_eq!(committed, generated, "HOLDFAST_BLESS=1 writes the corpus anew");
}
