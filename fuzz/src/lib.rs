//! Every decoder that reads what its process did not write, under made-up input.
//!
//! A *target* takes bytes, reads them as something of one family, and checks what has to hold whatever they are: that nothing panics,
//! that memory taken stays within a multiple of the bytes that are there ([`run`]), and that what was read is written and read
//! again as the same. The same targets are run in two ways:
//!
//! - by `cargo test` (`tests/corpus.rs`): everything in `corpus/`, and a number of changes of it that a seed decides;
//! - by libFuzzer (`cargo-fuzz/`, `just fuzz`), for as long as one likes, guided by coverage.
//!
//! `corpus/` holds real values as real processes encode them ([`seeds`]) and whatever was ever found to do harm.
#![forbid(unsafe_code)]

mod driver;
mod frames;
mod http;
mod input;
mod journal;
mod log;
mod messages;
mod range;
pub mod seeds;
mod snapshots;
mod store;

use peak_alloc::PeakAlloc;

/// Counts what is allocated.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A target.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// What it does with some bytes.
    pub run: fn(&[u8]),
    /// Bytes that it may have allocated at a time whatever the input: buffers of files, and its own.
    pub free_bytes: usize,
    /// Bytes that it may have allocated at a time for each byte of input, at most. Small things that are many take more in memory than
    /// on the wire; a length that is only claimed takes nothing.
    pub bytes_per_byte: usize,
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target {
        name: "frames",
        run: frames::target,
        free_bytes: 512 << 10,
        bytes_per_byte: 16,
    },
    Target {
        name: "messages",
        run: messages::target,
        free_bytes: 256 << 10,
        bytes_per_byte: 512,
    },
    Target {
        name: "http",
        run: http::target,
        free_bytes: 1 << 20,
        bytes_per_byte: 8,
    },
    Target {
        name: "admin",
        run: http::administration,
        free_bytes: 128 << 10,
        bytes_per_byte: 96,
    },
    Target {
        name: "log",
        run: log::target,
        free_bytes: 128 << 10,
        bytes_per_byte: 128,
    },
    Target {
        name: "journal",
        run: journal::target,
        free_bytes: 512 << 10,
        bytes_per_byte: 64,
    },
    Target {
        name: "store",
        run: store::target,
        free_bytes: 128 << 10,
        bytes_per_byte: 256,
    },
    Target {
        name: "range",
        run: range::target,
        free_bytes: 256 << 10,
        bytes_per_byte: 2048,
    },
    Target {
        name: "snapshots",
        run: snapshots::target,
        free_bytes: 2048 << 10,
        bytes_per_byte: 256,
    },
    Target {
        name: "driver",
        run: driver::target,
        free_bytes: 256 << 10,
        bytes_per_byte: 2048,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs a target on one input, and sees how much memory it takes. On one thread at a time: memory is that of the process.
///
/// # Panics
/// What a target checks does not hold.
pub fn run(target: &Target, data: &[u8]) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    (target.run)(data);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let allowed = target.free_bytes + target.bytes_per_byte * data.len();
    assert!(
        taken <= allowed,
        "{}: {} bytes of input took {taken} bytes of memory, {allowed} are allowed",
        target.name,
        data.len()
    );
}
