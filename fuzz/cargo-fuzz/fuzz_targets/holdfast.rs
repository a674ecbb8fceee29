//! libFuzzer's program: the target that `HOLDFAST_FUZZ` names.
#![no_main]
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use holdfast_fuzz::{Target, run, target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn named() -> &'static Target {
    let name = std::env::var("HOLDFAST_FUZZ").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("HOLDFAST_FUZZ={name:?} is no target: see holdfast_fuzz::TARGETS"))
}

fuzz_target!(|data: &[u8]| run(TARGET.get_or_init(named), data));
