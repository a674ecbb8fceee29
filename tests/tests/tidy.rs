//! Rules of the house that a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const CRATES: [&str; 9] = [
    "common",
    "placement",
    "store",
    "router",
    "client",
    "cli",
    "bench",
    "tests",
    "fuzz",
];

/// Lines after which a file has more than one job.
const MAX_LINES: usize = 500;

/// The same for tables of cases, which read from top to bottom.
const MAX_TEST_LINES: usize = 700;

fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for name in CRATES {
        walk(&Path::new(ROOT).join(name), &mut found);
    }
    found
}

fn bound(path: &Path) -> usize {
    let is_test = path.to_string_lossy().ends_with("_test.rs");
    if is_test { MAX_TEST_LINES } else { MAX_LINES }
}

#[test]
fn no_file_has_outgrown_its_job() {
    let lines = |path: &Path| fs::read_to_string(path).expect("text").lines().count();
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|path| lines(path) > bound(path))
        .collect();
    assert!(long.is_empty(), "too many lines: {long:?}");
}

#[test]
fn no_room_is_a_lumber_room() {
    let vague = [
        "util",
        "utils",
        "helper",
        "helpers",
        "manager",
        "misc",
        "common_utils",
    ];
    let bad: Vec<_> = sources()
        .into_iter()
        .filter(|path| {
            path.file_stem()
                .and_then(|stem| stem.to_str())
                .is_some_and(|stem| vague.contains(&stem))
        })
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn every_crate_forbids_unsafe_code() {
    for name in CRATES {
        let text = fs::read_to_string(Path::new(ROOT).join(name).join("src/lib.rs")).expect("a library");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{name}");
    }
}

#[test]
fn the_router_carries_neither_consensus_nor_storage() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-p",
            "holdfast-router",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--offline",
        ])
        .current_dir(ROOT)
        .output();
    let tree = String::from_utf8(output.expect("cargo tree").stdout).expect("text");
    assert!(tree.contains("hyper"), "not a dependency tree: {tree}");
    for crate_name in [
        "openraft",
        "fjall",
        "lsm-tree",
        "holdfast-store",
        "holdfast-placement",
    ] {
        assert!(
            !tree
                .lines()
                .any(|line| line.starts_with(&format!("{crate_name} "))),
            "the router depends on {crate_name}"
        );
    }
}
