//! The `holdfast` program as this workspace builds it, so that cargo builds it before the tests that run it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What `FAILPOINTS` asks for goes wrong.
    let _faults = fail::FailScenario::setup();
    holdfast_cli::main()
}
