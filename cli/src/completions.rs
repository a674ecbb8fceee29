//! `holdfast completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Outcome;

/// Prints the completion script.
pub(crate) fn run(shell: Shell) -> Outcome {
    clap_complete::generate(shell, &mut Cli::command(), "holdfast", &mut std::io::stdout());
    Ok(())
}
