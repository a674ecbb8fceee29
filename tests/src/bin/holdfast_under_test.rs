//! The `holdfast` program as this workspace builds it, so that cargo builds it before the tests that run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_cli::main()
}
