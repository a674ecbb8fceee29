//! How a command ends: its exit code says what a script needs to know.

use std::fmt;
use std::process::ExitCode;

/// The end of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The exit codes, fixed: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Anything without a code of its own.
    Other = 1,
    /// The command line, a parameter or the input is wrong. (Clap uses the same.)
    Usage = 2,
    /// No such key, range, store or operator.
    NotFound = 3,
    /// A condition of the request did not hold.
    Precondition = 4,
    /// The cluster can't do it now; nothing was done.
    Unavailable = 5,
    /// It may or may not have been done.
    OutcomeUnknown = 6,
    /// What a store has on disk is damaged: it is to be rebuilt, not started again as it is.
    Damaged = 7,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }

    /// The user's mistake.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What kind it is.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// For the process.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Other, format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Other, error)
    }
}
