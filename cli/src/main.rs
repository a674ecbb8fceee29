//! The `holdfast` binary; all of it is in the library, so that tests can run the same program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    holdfast_cli::main()
}
